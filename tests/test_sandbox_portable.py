"""The sandbox where rstar_fast._sandbox is not there, as on macOS: what remains, and that it is told."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import children

from rstar_fast.config import Require, SandboxConfig
from rstar_fast.sandbox import Sandbox
from rstar_fast.sandbox.layers import Layer
from rstar_fast.types import ErrorKind, Program, RstarError

LIMITS = SandboxConfig(timeout_s=20.0, cpu_s=2.0, memory_mb=128, output_chars=2000, require=Require.NONE)


@pytest.fixture(scope="module")
def without_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Workers do not find the module."""
    folder = tmp_path_factory.mktemp("portable")
    (folder / "sitecustomize.py").write_text("import sys\nsys.modules['rstar_fast._sandbox'] = None\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        yield


@pytest.fixture(scope="module")
def sandbox(without_module: None) -> Iterator[Sandbox]:
    with Sandbox(1, LIMITS) as sandbox:
        yield sandbox


def alive(group: int) -> list[str]:
    """The processes of a group that have not ended."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            found += [entry.name] if int(fields[2]) == group and fields[0] not in "ZX" else []
    return found


@pytest.mark.parametrize(
    ("prefix", "code", "output"),
    [
        ("", "import sympy\nx = sympy.Symbol('x')\nprint(sympy.solve(x**2 - 4, x))", "[-2, 2]\n"),
        ("x = 20\nprint(x)", "print(x + 1)", "20\n21\n"),
        ("def f(n):\n    return n * n\n", "f(7)", "49"),
        ("", "print('\\ud800', 'ä', chr(0))", "\\ud800 ä \0\n"),
        ("", "print('a' * 5000)", "a" * 1000 + "\n... 3001 bytes left out ...\n" + "a" * 999 + "\n"),
        ("", "'b' * 3000", "b" * 1000 + "\n... 1000 bytes left out ...\n" + "b" * 1000),
        ("", "import random\nprint(random.random())", "0.8444218515250481\n"),
        ("", "import os\nprint(dict(os.environ), os.getcwd(), os.read(0, 10))", "{} / b''\n"),
        ("", "exit()", ""),
    ],
)
def test_programs_run_as_elsewhere(sandbox: Sandbox, prefix: str, code: str, output: str) -> None:
    execution = asyncio.run(sandbox.run(code, prefix))
    assert execution.error is None and execution.output == output


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        ("1 / 0", ErrorKind.RAISED, "division by zero"),
        ("x = (", ErrorKind.RAISED, "'(' was never closed (<step>, line 1)"),
        ("import os\nprint(1)\nos._exit(3)", ErrorKind.CRASHED, "the process ended without a result (exit code 3)"),
        ("import os\nos.kill(os.getpid(), 11)", ErrorKind.CRASHED, "the process ended without a result (signal 11)"),
        ("while True: pass", ErrorKind.TIMED_OUT, "the program used more than 2 s of processor time"),
        ("x = bytearray(1 << 30)", ErrorKind.OUT_OF_MEMORY, ""),
        ("import os\nos.write(3, b'20 0\\n' + b'[' * 20)\nos._exit(0)", ErrorKind.CRASHED, "the program's result was forged"),
        ("import os\nos.write(3, b'[' * 5_000_000)", ErrorKind.CRASHED, None),
        ("with open('/tmp/rstar_fast_portable', 'w') as file: file.write('x')", ErrorKind.RAISED, "[Errno 27] File too large"),
    ],
)
def test_what_goes_wrong_is_told_and_the_next_runs(sandbox: Sandbox, code: str, kind: ErrorKind, message: str | None) -> None:
    before = children()
    execution = asyncio.run(sandbox.run(code))
    assert execution.error is not None and execution.error.kind is kind
    assert message is None or execution.error.message == message
    assert asyncio.run(sandbox.run("print(2)")).output == "2\n"
    assert children() == before or len(children() - before) == 1  # a worker


def test_the_wall_clock_ends_a_program_and_what_it_started(without_module: None) -> None:
    started = time.monotonic()
    config = SandboxConfig(timeout_s=1.0, require=Require.NONE)
    with Sandbox(1, config) as sandbox:
        program = "import os, time\nprint(os.getpid(), flush=True)\nif os.fork():\n    time.sleep(3600)\ntime.sleep(3600)"
        executions = asyncio.run(sandbox.run_batch([Program(program), Program("print(3)")]))
        assert executions[0].error is not None
        if os.getuid() == 0:  # who is not root is not let fork
            assert executions[0].error.message == "the program ran longer than 1 s"
            assert not alive(int(executions[0].output.split()[0]))
        assert executions[1].output == "3\n"
    assert time.monotonic() - started < 60


def test_what_another_process_holds_open_is_not_waited_for(sandbox: Sandbox) -> None:
    if os.getuid() == 0:
        code = "import os, time\nif os.fork() == 0:\n    time.sleep(3600)\nprint('done')"
        execution = asyncio.run(sandbox.run(code))
        assert execution.output == "done\n" and execution.error is None
        execution = asyncio.run(sandbox.run(code + "\nos._exit(3)"))
        assert execution.error is not None and execution.error.kind is ErrorKind.CRASHED


def test_what_is_missing_is_told(sandbox: Sandbox) -> None:
    found = sandbox.confinement()
    assert found.in_force == [Layer.LIMITS] and "has none that is known here" in found.missing[Layer.FILTER]


@pytest.mark.parametrize("require", [Require.BASIC, Require.FULL])
def test_nothing_runs_unless_it_is_asked_for(require: Require, without_module: None, tmp_path: Path) -> None:
    with (
        Sandbox(1, SandboxConfig(require=require)) as sandbox,
        pytest.raises(RstarError, match=f"requires '{require.value}'.* lacks"),
    ):
        asyncio.run(sandbox.run(f"open({str(tmp_path / 'file')!r}, 'w')"))
    assert not list(tmp_path.iterdir())
