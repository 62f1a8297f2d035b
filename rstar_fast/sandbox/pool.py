"""The sandbox as its users see it: a pool of worker processes behind `run` and `run_batch`."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import os
import queue
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Self

from rstar_fast.sandbox import confine
from rstar_fast.sandbox.protocol import Broken, receive, send
from rstar_fast.types import CodeError, ErrorKind, Execution, InvalidInput, Program, RstarError

# Loading sympy and numpy takes seconds on a busy machine.
_START_S = 120.0
# The worker ends a program by itself; past this the worker is the one that hangs.
_GRACE_S = 10.0
_KEPT_VARIABLES = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "TMPDIR")


@dataclass(frozen=True, kw_only=True)
class SandboxLimits:
    """What a program may use.

    Attributes:
      timeout_s: wall-clock seconds, > 0.
      cpu_s: CPU seconds over all its threads, counted in whole seconds, > 0.
      memory_mb: MiB of memory beyond what the loaded libraries take, >= 16.
      output_chars: bytes of UTF-8 output that are kept; more is cut in the middle; >= 2.

    Raises:
      InvalidInput: a limit is out of its range.
    """

    timeout_s: float = 5.0
    cpu_s: float = 5.0
    memory_mb: int = 512
    output_chars: int = 4096
    scratch_mb: int = 16
    snapshots: int = 64
    snapshot_mb: int = 512

    def to_message(self) -> dict[str, Any]:
        """As a worker reads them."""
        message = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**message, "output_bytes": self.output_chars, "omit": []}

    def __post_init__(self) -> None:
        for name, least in (("memory_mb", 16), ("output_chars", 2), ("scratch_mb", 1), ("snapshots", 1), ("snapshot_mb", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InvalidInput(f"{name} is {value!r}: give an integer >= {least}")
        for name in ("timeout_s", "cpu_s"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
                raise InvalidInput(f"{name} is {value!r}: give a number of seconds > 0")


@dataclass(frozen=True, slots=True)
class _Task:
    """A program and where its execution goes; both None ends a worker's thread."""

    program: Program | None
    future: Future[Execution] | None


class Sandbox:
    """Runs programs in confined, pre-warmed processes; each run has a namespace and a process of its own.

    Safe to use from several threads and event loops. Workers start at the first run.

    Args:
      workers: worker processes, >= 1; one per usable core by default.
      limits: of each program.

    Raises:
      InvalidInput: a setting is out of its range, or the operating system is none that can confine.
    """

    def __init__(self, workers: int | None = None, limits: SandboxLimits | None = None) -> None:
        if workers is not None and (not isinstance(workers, int) or isinstance(workers, bool) or workers < 1):
            raise InvalidInput(f"workers is {workers!r}: give an integer >= 1")
        if not True:
            raise InvalidInput("the sandbox runs on Linux, x86-64 or AArch64: model-written code is not run anywhere else")
        self.limits = limits if limits is not None else SandboxLimits()
        self._count = workers if workers is not None else len(os.sched_getaffinity(0))
        self._tasks: queue.SimpleQueue[_Task] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._idle = threading.Semaphore(0)  # one for each thread that waits for a program
        self._closed, self._process_id = False, os.getpid()
        # Also runs when the interpreter ends.
        self._finalizer = weakref.finalize(self, _end, self._tasks, self._threads)

    async def run(self, code: str, prefix: str = "") -> Execution:
        """Runs `code` after `prefix`, the code of earlier steps; what both print is the output."""
        (execution,) = await self.run_batch([Program(code, prefix)])
        return execution

    async def run_batch(self, programs: Sequence[Program]) -> list[Execution]:
        """Runs each program; [B] executions in the order given. A program's failure is in its execution.

        Of equal programs one is run: all start from the same state, random numbers included.
        """
        running: dict[Program, asyncio.Future[Execution]] = {}
        try:
            for program in programs:
                if program not in running:
                    running[program] = asyncio.wrap_future(self._submit(program))
            executions = dict(zip(running, await asyncio.gather(*running.values()), strict=True))
            return [executions[program] for program in programs]
        finally:
            for future in running.values():  # when cancelled: what has not begun never will
                future.cancel()

    def close(self) -> None:
        """Ends the workers when they have run what they began; who waits for another program gets an RstarError.

        May be called again.
        """
        with self._lock:
            self._closed = True
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

    def _submit(self, program: Program) -> Future[Execution]:
        if os.getpid() != self._process_id:  # the threads did not come along
            raise RstarError("the sandbox was opened before this process was forked: open a new one in it")
        future: Future[Execution] = Future()
        with self._lock:
            if self._closed:
                raise _closed()
            if len(self._threads) < self._count and not self._idle.acquire(blocking=False):
                name = f"rstar_fast.sandbox-{len(self._threads)}"
                thread = threading.Thread(target=_serve, args=(self._tasks, self._idle, self.limits), name=name, daemon=True)
                thread.start()
                self._threads.append(thread)
            self._tasks.put(_Task(program, future))
        return future


def _end(tasks: queue.SimpleQueue[_Task], threads: list[threading.Thread]) -> None:
    """Turns down what waits, and ends the threads and with them the worker processes."""
    while True:
        try:
            task = tasks.get_nowait()
        except queue.Empty:
            break
        if task.future is not None and task.future.set_running_or_notify_cancel():
            task.future.set_exception(_closed())
    for _ in threads:
        tasks.put(_Task(None, None))
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join()


def _closed() -> RstarError:
    return RstarError("the sandbox is closed: open a new one")


def _serve(tasks: queue.SimpleQueue[_Task], idle: threading.Semaphore, limits: SandboxLimits) -> None:
    """A worker's thread: one process, one program at a time; a process that dies is replaced."""
    worker: _Worker | None = None
    try:
        while True:
            try:
                task = tasks.get_nowait()
            except queue.Empty:
                idle.release()
                task = tasks.get()
            if task.program is None or task.future is None:
                break
            if not task.future.set_running_or_notify_cancel():
                continue
            try:
                worker, execution = _run(worker, task.program, limits)
                task.future.set_result(execution)
            except Exception as error:  # the caller has to know
                worker = None
                task.future.set_exception(error)
    finally:
        if worker is not None:
            worker.stop()


def _run(worker: _Worker | None, program: Program, limits: SandboxLimits) -> tuple[_Worker | None, Execution]:
    """Runs a program; returns the worker that is there after.

    A worker that dies is as a rule the system's doing (no memory, a signal from outside), so the program gets a second one. A
    worker that hangs with its program does not.

    Raises:
      RstarError: no worker could be started.
    """
    for last in (False, True):
        worker = worker or _Worker(limits)
        try:
            return worker, worker.run(program, limits)
        except Broken as broken:
            worker.stop()
            worker = None
            if last or isinstance(broken, _NoAnswer):
                return None, Execution("", CodeError(ErrorKind.CRASHED, "Crash", f"the worker process failed: {broken}"))
        except BaseException:
            worker.stop()
            raise
    raise AssertionError


class _NoAnswer(Broken):
    """A worker is silent for longer than a program may take."""


class _Worker:
    """A worker process.

    Raises:
      RstarError: the process could not be started, or cannot confine what it is to run.
    """

    def __init__(self, limits: SandboxLimits) -> None:
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        # One thread each: there are as many workers as cores. Fixed hashes: a set prints the same in every run.
        environment |= {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "rstar_fast.sandbox.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                env=environment,
                start_new_session=True,  # Ctrl-C in a terminal reaches the caller only
            )
        except OSError as error:
            raise RstarError(f"a sandbox worker did not start ({error}): free processes, memory or open files") from error
        try:
            assert self._process.stdin is not None
            send(self._process.stdin.fileno(), limits.to_message())
            failure = self._receive(_START_S).get("failure")
        except Broken as error:
            self.stop()
            raise RstarError(f"a sandbox worker did not start ({error}): see what it wrote to stderr") from None
        if failure is not None:
            self.stop()
            raise RstarError(f"the sandbox cannot confine programs here ({failure}): it takes Linux 5.4 and seccomp filters")

    def run(self, program: Program, limits: SandboxLimits) -> Execution:
        """Runs a program.

        Raises:
          Broken: the worker has died or does not answer.
        """
        assert self._process.stdin is not None
        send(self._process.stdin.fileno(), {"prefix": program.prefix, "code": program.code})
        reply = self._receive(limits.timeout_s + _GRACE_S)
        error = None
        if reply["error"] is not None:
            kind, name, message = (reply["error"][field] for field in ("kind", "type", "message"))
            try:
                error = CodeError(ErrorKind(kind), name, message)
            except ValueError:  # a child that got hold of its nonce may say anything
                error = CodeError(ErrorKind.CRASHED, "Crash", "the program's result was forged")
        timed_out = error is not None and error.kind is ErrorKind.TIMED_OUT
        return Execution(reply["output"], error, reply["seconds"], timed_out)

    def _receive(self, timeout_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        deadline = time.monotonic() + timeout_s
        poll = select.poll()  # select() fails on descriptors over 1023
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(1000 * max(0.0, deadline - time.monotonic())):
            raise _NoAnswer(f"no answer within {timeout_s:g} s")
        return receive(descriptor)

    def stop(self) -> None:
        """Ends the process: by closing its input, by force when that does not do."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
