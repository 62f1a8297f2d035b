"""The sandbox as its users see it: a pool of worker processes behind `run` and `run_batch`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from rstar_fast.config import Require, SandboxConfig
from rstar_fast.sandbox.child import usable_cores
from rstar_fast.sandbox.layers import BASIC, Confinement, Layer
from rstar_fast.sandbox.process import NoAnswer, WorkerProcess
from rstar_fast.sandbox.protocol import Broken
from rstar_fast.types import CodeError, ErrorKind, Execution, InvalidInput, Program, RstarError

_LOG = logging.getLogger(__name__)
REQUIRED = {Require.FULL: tuple(Layer), Require.BASIC: BASIC, Require.NONE: ()}
_HOMES_PER_WORKER = 4096


class Sandbox:
    """Runs the code of steps in confined processes, each from the state that the steps before it left.

    The state of a step that succeeded is kept for those that follow it, in the worker that ran it; what has been dropped is made
    anew by running the code before it. Nothing of this shows in a result: it is that of the whole program in a new process.

    Safe to use from several threads and event loops. Workers start at the first run.

    Args:
      workers: worker processes, >= 1; one per usable core by default.
      config: limits of each step, and what must be in force to run one.

    Raises:
      InvalidInput: a setting is out of its range.
    """

    # Layers that are left out, as where a system lacks them. For tests.
    _omit: frozenset[Layer] = frozenset()

    def __init__(self, workers: int | None = None, config: SandboxConfig | None = None) -> None:
        if workers is not None and (not isinstance(workers, int) or isinstance(workers, bool) or workers < 1):
            raise InvalidInput(f"workers is {workers!r}: give an integer >= 1")
        if config is not None and not isinstance(config, SandboxConfig):
            raise InvalidInput(f"config is {config!r}: give a SandboxConfig")
        self.config = config if config is not None else SandboxConfig()
        count = workers if workers is not None else usable_cores()
        self._pool = _Pool(count, self.config, self._omit)
        self._process_id = os.getpid()
        # Also runs when the interpreter ends.
        self._finalizer = weakref.finalize(self, self._pool.close)

    async def run(self, code: str, prefix: str = "") -> Execution:
        """Runs `code` after `prefix`, the code of earlier steps; what both print is the output."""
        (execution,) = await self.run_batch([Program(code, prefix)])
        return execution

    async def run_batch(self, programs: Sequence[Program]) -> list[Execution]:
        """Runs each program; [B] executions in the order given. A program's failure is in its execution.

        Of equal programs one is run: all start from the same state, random numbers included.

        Raises:
          RstarError: the sandbox is closed, a worker does not start, or what holds programs in falls short of `config.require`.
        """
        distinct = list(dict.fromkeys(programs))
        if not distinct:
            return []
        if os.getpid() != self._process_id:  # the threads did not come along
            raise RstarError("the sandbox was opened before this process was forked: open a new one in it")
        batch = _Batch(len(distinct))
        self._pool.submit([_Task(program, batch, at) for at, program in enumerate(distinct)])
        try:
            executions = dict(zip(distinct, await batch.done, strict=True))
        finally:
            batch.is_wanted = False  # when cancelled: what has not begun never will
        return [executions[program] for program in programs]

    def confinement(self) -> Confinement:
        """What holds programs in on this machine; starts a worker to find out.

        Raises:
          RstarError: no worker starts.
        """
        worker = WorkerProcess(self.config, self._omit)
        worker.stop()
        return worker.confinement

    def close(self) -> None:
        """Ends the workers when they have run what they began; who waits for another program gets an RstarError.

        May be called again.
        """
        self._finalizer()

    async def aclose(self) -> None:
        """`close`, without holding up the event loop."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()


class _Batch:
    """Programs that somebody waits for together; the event loop hears of them once, when all are done.

    Attributes:
      done: [B] executions, or why there are none.
      is_wanted: somebody still waits.
    """

    def __init__(self, count: int) -> None:
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[list[Execution]] = self._loop.create_future()
        self.is_wanted = True
        self._executions: list[Execution | None] = [None] * count
        self._left = count
        self._lock = threading.Lock()

    def add(self, at: int, execution: Execution) -> None:
        with self._lock:
            self._executions[at] = execution
            self._left -= 1
            last = self._left == 0
        if last and self.is_wanted:
            self._end(self._executions, None)

    def fail(self, error: Exception) -> None:
        """Ends the batch for all its programs."""
        with self._lock:
            first, self.is_wanted = self.is_wanted, False
        if first:
            self._end(None, error)

    def _end(self, executions: object, error: Exception | None) -> None:
        def tell() -> None:
            if self.done.done():
                return  # it was cancelled
            if error is not None:
                self.done.set_exception(error)
            else:
                self.done.set_result(executions)  # type: ignore[arg-type]

        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
            self._loop.call_soon_threadsafe(tell)


@dataclass(frozen=True, slots=True)
class _Task:
    """A program and where its execution goes."""

    program: Program
    batch: _Batch
    at: int


class _Worker:
    """A worker's thread: what it has to do, and what runs it."""

    def __init__(self, number: int, pool: _Pool, lock: threading.Lock) -> None:
        self.tasks: deque[_Task] = deque()  # from states that it keeps; the pool's lock guards it
        self.work = threading.Condition(lock)
        name = f"rstar_fast.sandbox-{number}"
        self.thread = threading.Thread(target=self._serve, args=(pool,), name=name, daemon=True)

    def _serve(self, pool: _Pool) -> None:
        """One process, one program at a time; a process that dies is replaced."""
        process: WorkerProcess | None = None
        try:
            while (task := pool.take(self)) is not None:
                execution, failure = None, None
                if task.batch.is_wanted:
                    try:
                        process, execution = _run(process, task.program, pool)
                    except Exception as error:  # the caller has to know
                        process, failure = None, error
                pool.give_back(self, task.program if execution is not None and execution.error is None else None)
                if execution is not None:
                    task.batch.add(task.at, execution)
                elif failure is not None:
                    task.batch.fail(failure)
        finally:
            if process is not None:
                process.stop()


class _Pool:
    """Which worker runs what: the one that has the state, or an idle one before anybody waits."""

    def __init__(self, count: int, config: SandboxConfig, omit: frozenset[Layer]) -> None:
        self.config, self.omit = config, omit
        self._count = count
        self._lock = threading.Lock()
        self._tasks: deque[_Task] = deque()  # for any worker
        self._workers: list[_Worker] = []
        self._free = 0  # workers that run nothing
        self._idle: dict[_Worker, None] = {}  # those of them that wait to be woken, in the order in which they began to
        self._homes: OrderedDict[str, _Worker] = OrderedDict()  # code that has run -> who has its state, or had
        self._closed = False
        self._confinement: Confinement | None = None

    def submit(self, tasks: Sequence[_Task]) -> None:
        with self._lock:
            if self._closed:
                raise _closed()
            for task in tasks:
                home = self._homes.get(task.program.prefix.rstrip("\n"))
                (home.tasks if home is not None else self._tasks).append(task)
                # Only whom it is for: all that wake up take turns with the interpreter's other threads.
                if home in self._idle:
                    self._wake(home)
                elif self._idle and (home is None or len(home.tasks) > 1):
                    self._wake(next(reversed(self._idle)))
            waiting = len(self._tasks) + sum(len(worker.tasks) for worker in self._workers)
            while len(self._workers) < self._count and waiting > self._free:
                worker = _Worker(len(self._workers), self, self._lock)
                worker.thread.start()  # it waits for the lock
                self._workers.append(worker)
                self._free += 1

    def _wake(self, worker: _Worker) -> None:
        del self._idle[worker]
        worker.work.notify()

    def take(self, worker: _Worker) -> _Task | None:
        """What a worker is to do next, None when the pool is closed."""
        with self._lock:
            while (task := self._next(worker)) is None:
                if self._closed:
                    return None
                self._idle[worker] = None
                worker.work.wait()
            self._free -= 1
            # Who was woken for another task may have found this one first.
            if self._idle and (self._tasks or any(len(other.tasks) > 1 for other in self._workers)):
                self._wake(next(reversed(self._idle)))
            return task

    def give_back(self, worker: _Worker, ran: Program | None) -> None:
        """A worker is free again, and has the states of a program that it ran to its end: of the prefix and of the whole."""
        texts = []
        if ran is not None:
            texts = [ran.before.rstrip("\n"), (ran.before + ran.code).rstrip("\n")]
        with self._lock:
            self._free += 1
            for text in filter(None, texts):
                self._homes[text] = worker
                self._homes.move_to_end(text)
            while len(self._homes) > _HOMES_PER_WORKER * self._count:
                self._homes.popitem(last=False)

    def _next(self, worker: _Worker) -> _Task | None:
        """Its own tasks come first, then anybody's, then those that wait behind others of another worker."""
        if worker.tasks:
            return worker.tasks.popleft()
        if self._tasks:
            return self._tasks.popleft()
        longest = max(self._workers, key=lambda other: len(other.tasks))
        # One that waits alone is sooner run by whom has its state than by whom has to make it anew.
        return longest.tasks.pop() if len(longest.tasks) > 1 else None

    def check(self, process: WorkerProcess) -> None:
        """Whether a new worker's confinement is what is required; what is missing without being required is logged once.

        Raises:
          RstarError: it is not.
        """
        found = process.confinement
        lacking = found.lacks(REQUIRED[self.config.require])
        if lacking:
            reasons = ", ".join(f"{layer.name} ({found.missing[layer]})" for layer in lacking)
            raise RstarError(
                f"the sandbox requires {self.config.require.value!r} confinement and this machine lacks {reasons}; "
                "`rstar-fast doctor` shows all layers, and sandbox.require='basic' or 'none' asks for less"
            )
        with self._lock:
            if found.missing and self._confinement is None:
                _LOG.warning("programs are held in by fewer layers than there could be: %s", found)
            self._confinement = found

    def close(self) -> None:
        """Turns down what waits, and ends the threads and with them the worker processes."""
        with self._lock:
            self._closed = True
            waiting = [*self._tasks, *(task for worker in self._workers for task in worker.tasks)]
            for queue in (self._tasks, *(worker.tasks for worker in self._workers)):
                queue.clear()
            for worker in list(self._idle):
                self._wake(worker)
            threads = [worker.thread for worker in self._workers]
        for task in waiting:
            task.batch.fail(_closed())
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join()


def _closed() -> RstarError:
    return RstarError("the sandbox is closed: open a new one")


def _run(process: WorkerProcess | None, program: Program, pool: _Pool) -> tuple[WorkerProcess | None, Execution]:
    """Runs a program; returns the process that is there after.

    A worker that dies is as a rule the system's doing (no memory, a signal from outside), so the program gets a second one. A
    worker that hangs with its program does not.

    Raises:
      RstarError: no worker could be started.
    """
    for last in (False, True):
        if process is None:
            process = WorkerProcess(pool.config, pool.omit)
            try:
                pool.check(process)
            except BaseException:
                process.stop()
                raise
        try:
            return process, process.run(program)
        except Broken as broken:
            process.stop()
            process = None
            if last or isinstance(broken, NoAnswer):
                message = f"the sandbox's own process failed with it{' twice' if last else ''}: {broken}"
                return None, Execution("", CodeError(ErrorKind.LOST, "Lost", message))
        except BaseException:
            process.stop()
            raise
    raise AssertionError
