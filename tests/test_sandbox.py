"""The sandbox: what a program may do, what it may not, and that no program disturbs another."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import children

from rstar_fast.config import SandboxConfig
from rstar_fast.sandbox import Sandbox, pool
from rstar_fast.types import CodeError, ErrorKind, Execution, InvalidInput, Program, RstarError

LIMITS = SandboxConfig(timeout_s=120.0, cpu_s=60.0, memory_mb=128, output_chars=2000)
WAITING = "waiting"
# More than a test may take: a program that should not run, and does, is found by the test's own limit.
ENDLESS = SandboxConfig(timeout_s=3600.0, cpu_s=3600.0, memory_mb=128)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(2, LIMITS) as sandbox:
        yield sandbox


def run(sandbox: Sandbox, code: str, prefix: str = "") -> Execution:
    return asyncio.run(sandbox.run(textwrap.dedent(code), textwrap.dedent(prefix)))


def run_all(sandbox: Sandbox, *codes: str) -> list[Execution]:
    return asyncio.run(sandbox.run_batch([Program(textwrap.dedent(code)) for code in codes]))


def output(execution: Execution) -> str:
    """What a program printed that came to its end."""
    assert execution.error is None, execution
    return execution.output


def error(execution: Execution) -> CodeError:
    assert execution.error is not None, execution
    return execution.error


@pytest.fixture
def visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that programs see: it lies on Python's path."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def open_files() -> set[str]:
    return {entry for entry in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{entry}")}


@pytest.mark.parametrize("at_home_first", [False, True])
def test_an_idle_worker_takes_what_waits_behind_another_task(at_home_first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that any worker may run, and one whose state a worker has, begin at the same time: each waits for the other."""
    together = threading.Barrier(2)

    def meeting(process: object, program: Program, _: object) -> tuple[object, Execution]:
        if program.code.startswith("meet"):
            together.wait(timeout=60)
        return process, Execution("")

    monkeypatch.setattr(pool, "_run", meeting)
    both = [Program("meet()"), Program("meet()", "x = 1\n")]

    async def all_of_it() -> None:
        async with Sandbox(2) as sandbox:
            for _ in range(20):
                await sandbox.run_batch([Program("meet() # 1"), Program("meet() # 2")])  # both workers are there
                await sandbox.run("x = 1\n")  # who has its state now was the last to work
                await sandbox.run_batch(both[:: -1 if at_home_first else 1])

    asyncio.run(all_of_it())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


class Opened:
    """A sandbox of one worker, whose process the tests may look at and kill."""

    def __init__(self, limits: SandboxConfig = ENDLESS) -> None:
        self._before = children()
        self.sandbox = Sandbox(1, limits)

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *exception: object) -> None:
        self.sandbox.close()

    def workers(self) -> set[int]:
        return children() - self._before

    def runs(self) -> bool:
        """Whether a program of `wait_for` is running."""
        return any(waits(child) for worker in self.workers() for child in children(of=worker))

    async def kill_while_running(self) -> None:
        """Kills the worker when it runs a program, and waits until it is gone."""
        await until(self.runs)
        workers = self.workers()
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        await until(lambda: not workers & self.workers())


def wait_for(file: Path) -> str:
    """A program that ends when a file is there. It gives its process a name, by which `waits` knows it."""
    return f"""
import ctypes, os, time
ctypes.CDLL(None).prctl(15, b"{WAITING}")
while not os.path.exists({str(file)!r}):
    time.sleep(0.02)
print("seen")"""


def waits(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/comm").read_text().strip() == WAITING
    except OSError:
        return False  # it ended


# What a program prints and raises


def test_the_output_is_what_prefix_and_code_print(sandbox: Sandbox) -> None:
    execution = run(sandbox, "print(x + 1)", "x = 1\nprint(x)")
    assert execution.output == "1\n2\n"
    assert execution.error is None and not execution.timed_out and execution.seconds > 0
    assert output(run(sandbox, "y = 2\nprint(y)")) == "2\n"
    assert output(run(sandbox, "print(1)", "x = 1\n")) == "1\n"
    assert output(run(sandbox, "")) == ""
    assert output(run(sandbox, "print('no newline', end='')")) == "no newline"


def test_the_mathematics_is_at_hand(sandbox: Sandbox) -> None:
    code = """
        import fractions, itertools, math, numpy, sympy
        x = sympy.symbols("x")
        print(sympy.solve(x**2 - 5*x + 6, x), math.comb(5, 2), fractions.Fraction(1, 3) + 1)
        print(numpy.arange(4).sum(), len(list(itertools.permutations("abc"))))
    """
    assert output(run(sandbox, code)) == "[2, 3] 10 4/3\n6 6\n"


@pytest.mark.parametrize(
    ("code", "name", "message"),
    [
        ("1 / 0", "ZeroDivisionError", "division by zero"),
        ("raise ValueError", "ValueError", ""),
        ("print(undefined)", "NameError", "name 'undefined' is not defined"),
        ("class Odd(Exception): pass\nraise Odd('this')", "Odd", "this"),
        ("import nowhere_to_be_found", "ModuleNotFoundError", "No module named 'nowhere_to_be_found'"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt", ""),
        ("def f(): return f()\nf()", "RecursionError", "maximum recursion depth exceeded"),
        ("import sys\nsys.exit('no')", "SystemExit", "no"),
        ("import sys\nsys.exit(3)", "SystemExit", "3"),
        ("input()", "EOFError", "EOF when reading a line"),
    ],
)
def test_exceptions_are_data(sandbox: Sandbox, code: str, name: str, message: str) -> None:
    execution = run(sandbox, code, "print('before')")
    assert execution == Execution("before\n", CodeError(ErrorKind.RAISED, name, message), execution.seconds)


@pytest.mark.parametrize("code", ["x = (", "  x = 1\n y = 2", "print 1", "return 1", "a\0b", "(" * 500, "x = '\ud800'"])
def test_what_cannot_be_compiled_runs_no_part_of_it(sandbox: Sandbox, code: str) -> None:
    execution = asyncio.run(sandbox.run(code, "print('before')"))
    assert execution.output == "" and error(execution).kind is ErrorKind.RAISED
    assert issubclass(getattr(__import__("builtins"), error(execution).type), (SyntaxError, ValueError))


def test_an_exception_whose_text_fails_is_told_by_its_type(sandbox: Sandbox) -> None:
    hostile = "class Odd({}):\n    def __str__(self): raise RuntimeError\nraise Odd(1)"
    assert error(run(sandbox, hostile.format("Exception"))) == CodeError(ErrorKind.RAISED, "Odd", "")
    exits = "class Odd:\n    def __str__(self): raise RuntimeError\n    __eq__ = __str__\nraise SystemExit(Odd())"
    assert error(run(sandbox, exits)) == CodeError(ErrorKind.RAISED, "SystemExit", "")


def test_a_message_is_cut(sandbox: Sandbox) -> None:
    assert error(run(sandbox, "raise ValueError('m' * 10**6)")).message == "m" * 500


def test_leaving_without_an_error_is_none(sandbox: Sandbox) -> None:
    for code in ("sys.exit()", "sys.exit(0)", "raise SystemExit"):
        assert output(run(sandbox, f"import sys\nprint('before')\n{code}\nprint('after')")) == "before\n"


def test_text_that_is_no_utf8_comes_through_escaped(sandbox: Sandbox) -> None:
    assert output(run(sandbox, "print('π ≈ 3, 🎲, \\ud800')")) == "π ≈ 3, 🎲, \\ud800\n"
    assert error(run(sandbox, "raise ValueError('√ \\udfff')")).message == "√ \\udfff"
    assert output(run(sandbox, "import sys\nsys.stdout.buffer.write(b'a\\xffb') and None")) == "a\ufffdb"


def test_the_program_is_the_main_module(sandbox: Sandbox) -> None:
    code = """
        from dataclasses import dataclass
        import __main__
        @dataclass
        class Point:
            x: "int"
        def f(a: int): pass
        print(__name__, __main__.Point is Point, f.__annotations__["a"] is int, Point(1))
        print(sorted(name for name in vars(__main__) if not name.startswith("__")))
    """
    assert output(run(sandbox, code)) == "__main__ True True Point(x=1)\n['Point', 'dataclass', 'f']\n"


def test_reading_modules_and_starting_threads_stay_possible(sandbox: Sandbox) -> None:
    code = """
        import threading, string
        print(open(string.__file__).read(0) == "")
        thread = threading.Thread(target=print, args=("from a thread",))
        thread.start()
        thread.join()
    """
    assert output(run(sandbox, code)) == "True\nfrom a thread\n"


# Limits


def test_a_long_output_is_cut_in_the_middle(sandbox: Sandbox) -> None:
    assert output(run(sandbox, "print('ab' * 1000, end='')")) == "ab" * 1000
    cut = output(run(sandbox, "print('a' * 1000 + 'middle' + 'z' * 1000, end='')"))
    assert cut == "a" * 1000 + "\n... 6 bytes left out ...\n" + "z" * 1000
    flood = output(run(sandbox, "for i in range(200_000): print(i)"))
    assert flood.startswith("0\n1\n2\n") and flood.endswith("199998\n199999\n") and len(flood) < 2050
    assert output(run(sandbox, "print('€' * 10_000)")).count("€") >= 2 * 332  # cut within a character


def test_an_odd_limit_keeps_all_it_allows() -> None:
    with Sandbox(1, SandboxConfig(timeout_s=60, output_chars=3)) as sandbox:
        assert output(run(sandbox, "print('abc', end='')")) == "abc"
        assert output(run(sandbox, "print('abcdefg', end='')")) == "ab\n... 4 bytes left out ...\ng"


def test_the_wall_clock_is_limited_in_python_and_in_c() -> None:
    with Sandbox(2, SandboxConfig(timeout_s=1.5, cpu_s=60)) as sandbox:
        executions = run_all(
            sandbox,
            "print('begun')\nwhile True:\n    try:\n        while True: pass\n    except BaseException: pass",
            "print('begun')\n3 ** 10**8",
            "import re\nprint('begun')\nre.match('(a+)+b', 'a' * 60)",
            "import time\nprint('begun')\ntime.sleep(3600)",
            "import os, signal\nprint('begun')\nos.kill(os.getpid(), signal.SIGSTOP)",
            "print('begun')\nwhile True: print('x' * 1000)",
            "import threading\nprint('begun')\nthreading.Event().wait()",
        )
        for execution in executions:
            assert execution.timed_out and execution.output.startswith("begun\n"), execution
            assert execution.error == CodeError(ErrorKind.TIMED_OUT, "TimeoutError", "the program ran longer than 1.5 s")
            assert len(execution.output) < 4200
        assert output(run(sandbox, "print('next')")) == "next\n"


def test_processor_time_is_limited_over_all_threads_and_signal_handlers() -> None:
    threads = """
        import hashlib, threading, time
        print("begun")
        data = bytes(1 << 20)
        def work():
            while True: hashlib.sha256(data).digest()
        for _ in range(4): threading.Thread(target=work, daemon=True).start()
        time.sleep(3600)
    """
    deaf = "import signal\nprint('begun')\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    with Sandbox(2, SandboxConfig(timeout_s=240, cpu_s=0.6)) as sandbox:
        for execution in run_all(sandbox, threads, deaf):
            assert execution.timed_out and execution.output == "begun\n", execution
            message = "the program used more than 0.6 s of processor time"
            assert execution.error == CodeError(ErrorKind.TIMED_OUT, "TimeoutError", message)


@pytest.mark.parametrize(
    "code",
    [
        "x = bytearray(1 << 40)",
        "x = [0]\nwhile True: x += x",
        "x = []\ndef f(): return x\nwhile True: x.append(' ' * 100 + str(len(x)))",  # filled to the brim, held by a cycle
        "import numpy\nx = numpy.ones((1 << 15, 1 << 15))",
        "x = 'a' * (300 << 20)",
    ],
)
def test_memory_is_limited(sandbox: Sandbox, code: str) -> None:
    execution = run(sandbox, f"print('begun')\n{code}")
    assert execution.output == "begun\n" and error(execution).kind is ErrorKind.OUT_OF_MEMORY
    assert error(execution).type in ("MemoryError", "_ArrayMemoryError")


def test_the_memory_that_is_allowed_is_there(sandbox: Sandbox) -> None:
    assert output(run(sandbox, "print(len(bytearray(100 << 20)))")) == f"{100 << 20}\n"


@pytest.mark.parametrize("name", ["timeout_s", "cpu_s", "memory_mb", "output_chars"])
@pytest.mark.parametrize("value", [0, -1, None, "5", True, float("nan"), float("inf")])
def test_bad_limits_are_refused(name: str, value: object) -> None:
    with pytest.raises(InvalidInput, match=rf"^{name} is .*: give "):
        SandboxConfig(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [0, -1, 1.5, "2", True])
def test_bad_worker_counts_are_refused(workers: object) -> None:
    with pytest.raises(InvalidInput, match="^workers is .*: give an integer >= 1$"):
        Sandbox(workers)  # type: ignore[arg-type]


# Ends that are no ends


@pytest.mark.parametrize(
    ("code", "end"),
    [
        ("os._exit(0)", "exit code 0"),
        ("os._exit(7)", "exit code 7"),
        ("os.kill(os.getpid(), 9)", "signal 9"),
        ("os.abort()", "signal 6"),
        ("import ctypes\nctypes.string_at(0)", "signal 11"),
        ("os.closerange(0, 64)", "exit code 70"),
    ],
)
def test_a_process_that_ends_early_has_crashed(sandbox: Sandbox, code: str, end: str) -> None:
    execution = run(sandbox, f"import os\nprint('before')\n{code}")
    message = f"the process ended without a result ({end})"
    assert execution == Execution("before\n", CodeError(ErrorKind.CRASHED, "Crash", message), execution.seconds)
    assert output(run(sandbox, "print('next')")) == "next\n"


@pytest.mark.parametrize(
    "forged",
    [
        b'{"error": null}',
        b"null",
        pytest.param(b"[" * 60_000, id="deep"),
        b"\xff\xfe",
        pytest.param(b"x" * 100_000, id="long"),
        b'{"nonce": 1, "error": {"kind": "raised", "type": "A", "message": "b"}}',
        b"\0\0\0\4null",
    ],
)
def test_a_forged_result_is_a_crash(sandbox: Sandbox, forged: bytes) -> None:
    before = children()
    execution = run(sandbox, f"import os\nos.write(3, {forged!r})\nos._exit(0)")
    assert error(execution) == CodeError(ErrorKind.CRASHED, "Crash", "the process ended without a result (exit code 0)")
    assert children() == before  # the worker lives


@pytest.mark.parametrize(
    "said",
    [
        '{"kind": "no kind", "type": "A", "message": "b"}',
        '{"kind": "raised"}',
        '{"kind": 1, "type": "A", "message": "b"}',
        '{"apart": false}',
        "[1]",
        "7",
        pytest.param("[" * 60_000, id="deep"),
        '"text"',
        "{",
        "1e999",
    ],
)
def test_a_forgery_in_the_form_of_a_report_does_no_harm(sandbox: Sandbox, said: str) -> None:
    code = f"import os\nos.write(3, b'r' + {said.encode()!r})\nos._exit(0)"
    before = children()
    assert error(run(sandbox, code)).kind is ErrorKind.CRASHED
    assert children() == before


@pytest.mark.parametrize(
    "code",
    [
        "import sys\nsys.stdout = None",
        "import sys\nsys.stdout.close()",
        "import os\nos.close(1)",
        "import json, os, sys\njson.dumps = os.write = os._exit = sys.exit = None",
        "import builtins\nfor name in dir(builtins): delattr(builtins, name)",
        "import sys\nsys.modules.clear()",
        "import signal\nsignal.raise_signal(signal.SIGINT)",
    ],
)
def test_a_program_that_spoils_its_process_spoils_no_other(sandbox: Sandbox, code: str) -> None:
    before = children()
    run(sandbox, code)
    assert output(run(sandbox, "import math\nprint(math.sqrt(4))")) == "2.0\n"
    assert children() == before


# Nothing is left behind


def test_no_program_sees_another(sandbox: Sandbox) -> None:
    spoil = """
        import builtins, decimal, math, random, sys, numpy, sympy
        left = 1
        math.sqrt = lambda x: 0
        sympy.Symbol.left = 1
        builtins.left_over = 1
        sys.modules["left_module"] = math
        decimal.getcontext().prec = 3
        sys.setrecursionlimit(100)
        random.seed(9)
        numpy.random.seed(9)
        numpy.set_printoptions(precision=1)
    """
    look = """
        import builtins, decimal, math, random, sys, numpy, sympy
        print("left" in globals(), math.sqrt(4), hasattr(sympy.Symbol, "left"), hasattr(builtins, "left_over"))
        print("left_module" in sys.modules, decimal.getcontext().prec, sys.getrecursionlimit(), numpy.array([1 / 3]))
    """
    clean = output(run(sandbox, look))
    assert clean == "False 2.0 False False\nFalse 28 1000 [0.33333333]\n"
    for _ in range(4):  # both workers
        output(run(sandbox, spoil))
        assert output(run(sandbox, look)) == clean


def test_chance_is_the_same_in_every_run_and_worker(sandbox: Sandbox) -> None:
    code = """
        import random, numpy, sympy.core.random
        print(random.random(), numpy.random.rand(), sympy.core.random.random(), {"a", "b", "c", "d"}, hash("x"))
    """
    first = output(run(sandbox, code))
    numbered = (textwrap.dedent(code) + f"# {i}" for i in range(6))
    assert {output(execution) for execution in run_all(sandbox, *numbered)} == {first}
    with Sandbox(1, LIMITS) as other:
        assert output(run(other, code)) == first


def test_a_batch_keeps_its_order(sandbox: Sandbox) -> None:
    programs = [Program(f"print({i % 25})" if i % 3 else f"raise ValueError({i})", "# both\n") for i in range(60)]
    executions = asyncio.run(sandbox.run_batch(programs))
    for i, execution in enumerate(executions):
        if i % 3:
            assert output(execution) == f"{i % 25}\n"
        else:
            assert error(execution).message == str(i)
    assert asyncio.run(sandbox.run_batch([])) == []


def test_a_large_program_passes(sandbox: Sandbox) -> None:
    code = f"x = '{'y' * 2_000_000}'\nprint(len(x))"
    assert output(run(sandbox, code)) == "2000000\n"


def test_no_process_and_no_file_stays_open() -> None:
    files, before = open_files(), children()
    threads = threading.active_count()
    with Sandbox(2, LIMITS) as sandbox:
        run_all(sandbox, *(f"print({i})" for i in range(8)))
        workers = children() - before
        in_use = open_files()
        guests = {guest for worker in workers for guest in children(of=worker)}
        assert len(workers) == 2 and len(guests) == 2 * 2 + 8  # a keeper, the first of all, and the states
        run_all(sandbox, *("import os\nos._exit(%d)" % i for i in range(8)))
        assert children() - before == workers and {guest for w in workers for guest in children(of=w)} == guests
        assert open_files() == in_use
    assert children() == before and open_files() == files and threading.active_count() == threads


def test_workers_start_when_they_are_needed() -> None:
    with Opened(LIMITS) as opened:
        opened.sandbox._pool._count = 8
        assert opened.workers() == set()
        for i in range(3):
            run(opened.sandbox, f"print({i})")
        assert len(opened.workers()) == 1  # the one that has nothing to do comes first


# Opening, closing, several callers


def test_a_closed_sandbox_says_so() -> None:
    sandbox = Sandbox(1, LIMITS)
    assert output(run(sandbox, "print(1)")) == "1\n"
    sandbox.close()
    sandbox.close()
    with pytest.raises(RstarError, match="^the sandbox is closed: open a new one$"):
        run(sandbox, "print(1)")
    Sandbox().close()  # never used


def test_closing_turns_down_what_has_not_begun(visible: Path) -> None:
    async def main() -> None:
        with Opened() as opened:
            first = asyncio.create_task(opened.sandbox.run(wait_for(visible / "go")))
            second = asyncio.create_task(opened.sandbox.run(wait_for(visible / "never")))
            await until(opened.runs)
            closing = asyncio.create_task(opened.sandbox.aclose())
            with pytest.raises(RstarError, match="the sandbox is closed"):
                await second
            (visible / "go").touch()
            assert output(await first) == "seen\n"
            await closing
            assert opened.workers() == set()

    asyncio.run(main())


def test_a_cancelled_program_that_has_not_begun_never_does(visible: Path) -> None:
    async def main() -> None:
        with Opened() as opened:
            first = asyncio.create_task(opened.sandbox.run(wait_for(visible / "go")))
            never = [Program(wait_for(visible / f"never{i}")) for i in range(3)]
            second = asyncio.create_task(opened.sandbox.run_batch(never))
            await until(opened.runs)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            (visible / "go").touch()
            assert output(await first) == "seen\n"
            assert output(await opened.sandbox.run("print('next')")) == "next\n"

    asyncio.run(main())


def test_a_loop_that_ends_before_its_program_does_not_disturb(visible: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def leave(opened: Opened) -> None:
        task = asyncio.create_task(opened.sandbox.run(wait_for(visible / "go")))
        await until(opened.runs)
        task.cancel()

    with Opened() as opened, caplog.at_level(logging.DEBUG, "concurrent.futures"):
        asyncio.run(leave(opened))
        (visible / "go").touch()
        assert output(run(opened.sandbox, "print('next')")) == "next\n"
    assert not caplog.records


def test_several_threads_and_loops_share_a_sandbox(sandbox: Sandbox) -> None:
    seen: dict[int, list[str]] = {}

    def use(i: int) -> None:
        seen[i] = [output(execution) for execution in run_all(sandbox, *(f"print({i}, {j})" for j in range(5)))]

    threads = [threading.Thread(target=use, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {i: [f"{i} {j}\n" for j in range(5)] for i in range(4)}


# Workers that die, or do not start


def test_a_worker_that_was_killed_is_replaced(visible: Path) -> None:
    async def main() -> None:
        with Opened() as opened:
            assert output(await opened.sandbox.run("print(1)")) == "1\n"
            for worker in opened.workers():  # while it waits
                os.kill(worker, signal.SIGKILL)
            assert output(await opened.sandbox.run("print(2)")) == "2\n"
            running = asyncio.create_task(opened.sandbox.run(wait_for(visible / "go")))
            await opened.kill_while_running()
            (visible / "go").touch()
            assert output(await running) == "seen\n"  # the second time

    asyncio.run(main())


def test_a_program_whose_workers_die_has_crashed(visible: Path) -> None:
    async def main() -> None:
        with Opened() as opened:
            running = asyncio.create_task(opened.sandbox.run(wait_for(visible / "never")))
            await opened.kill_while_running()
            await opened.kill_while_running()
            execution = await running
            message = "the sandbox's own process failed with it twice: the other side has closed"
            assert execution == Execution("", CodeError(ErrorKind.LOST, "Lost", message))
            assert output(await opened.sandbox.run("print('next')")) == "next\n"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("interpreter", "message"),
    [
        ("/bin/false", r"^a sandbox worker did not start \(the other side has closed\)"),
        ("/nowhere/python", r"^a sandbox worker did not start \(.*No such file"),
        ("/bin/echo", r"^a sandbox worker did not start \((a message of \d+ bytes was announced|the other side has closed)\)"),
    ],
)
def test_a_worker_that_cannot_start_is_an_error_of_all_programs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, interpreter: str, message: str
) -> None:
    files, before = open_files(), children()
    with Sandbox(2, LIMITS) as sandbox, caplog.at_level(logging.DEBUG):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", interpreter)
            with pytest.raises(RstarError, match=message):
                run_all(sandbox, *(f"print({i})" for i in range(5)))
        assert output(run(sandbox, "print('later')")) == "later\n"
    assert children() == before and open_files() == files
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_modules_in_the_working_directory_are_not_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("sympy", "random", "rstar_fast", "mine"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with Sandbox(1, LIMITS) as sandbox:
        assert output(run(sandbox, "import random, sympy\nprint(sympy.Integer(2))")) == "2\n"
        assert error(run(sandbox, "import mine")).type == "ModuleNotFoundError"


def test_workers_end_with_the_process_that_opened_them(visible: Path) -> None:
    script = f"""
        import asyncio
        from rstar_fast.config import SandboxConfig
        from rstar_fast.sandbox import Sandbox

        async def main():
            sandbox = Sandbox(2, SandboxConfig(timeout_s=3600, cpu_s=3600))
            await sandbox.run("print(1)")
            print("open", flush=True)
            await sandbox.run({wait_for(visible / "never")!r})

        asyncio.run(main())
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    watched = []
    try:
        assert process.stdout is not None and process.stdout.readline() == "open\n"

        def program() -> set[int]:
            return {child for worker in children(of=process.pid) for child in children(of=worker)}

        asyncio.run(until(lambda: any(map(waits, program()))))
        watched = [os.pidfd_open(pid) for pid in [*children(of=process.pid), *program()]]
        assert len(watched) == 5  # a worker, its keeper, the first guest, the state of the first program, the second program
        process.kill()
        process.wait()
        for descriptor in watched:
            select.select([descriptor], [], [])  # until it ends
    finally:
        process.kill()
        process.communicate()
        for descriptor in watched:
            os.close(descriptor)


def test_a_forked_process_is_told_to_open_its_own() -> None:
    script = """
        import asyncio, os
        from rstar_fast.config import SandboxConfig
        from rstar_fast.sandbox import Sandbox

        with Sandbox(1, SandboxConfig(timeout_s=60)) as sandbox:
            asyncio.run(sandbox.run("print(1)"))
            child = os.fork()
            if child == 0:
                try:
                    asyncio.run(sandbox.run("print(2)"))
                except Exception as error:
                    print("child:", error, flush=True)
                raise SystemExit
            assert os.waitpid(child, 0)[1] == 0
            print("parent:", asyncio.run(sandbox.run("print(3)")).output)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    said = "the sandbox was opened before this process was forked: open a new one in it"
    assert done.stdout == f"child: {said}\nparent: 3\n\n"
