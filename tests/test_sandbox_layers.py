"""Layers of the sandbox: each holds by itself, what is missing is told, and what is required is had or nothing runs."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rstar_fast.cli import app
from rstar_fast.config import Require, SandboxConfig
from rstar_fast.sandbox import Sandbox
from rstar_fast.sandbox.layers import BASIC, Confinement, Layer
from rstar_fast.types import Execution, RstarError

SECRET = Path(__file__)  # a file that no program needs
READS = f"print(len(open({str(SECRET)!r}).read()) > 0)"
NAMESPACES = frozenset({Layer.USER, Layer.FILES, Layer.PROCESSES, Layer.NETWORK, Layer.IPC})


def sandbox_without(monkeypatch: pytest.MonkeyPatch, *omitted: Layer, require: str = "none") -> Sandbox:
    monkeypatch.setattr(Sandbox, "_omit", frozenset(omitted))
    return Sandbox(1, SandboxConfig(timeout_s=20.0, require=require))  # type: ignore[arg-type]


def run(sandbox: Sandbox, code: str, prefix: str = "") -> Execution:
    return asyncio.run(sandbox.run(code, prefix))


def fails(execution: Execution, *types: str) -> None:
    assert execution.error is not None and execution.error.type in types, execution


def works(sandbox: Sandbox) -> None:
    """Steps run, after each other, whatever is missing."""
    assert run(sandbox, "print(x + 1)", "x = 1\nprint(x)\n").output == "1\n2\n"
    assert run(sandbox, "import sympy\nsympy.Symbol('y') + 1").output == "y + 1"
    fails(run(sandbox, "import os\nos.abort()"), "Crash")
    assert run(sandbox, "print(x)", "x = 1\nprint(x)\n").output == "1\n1\n"


@pytest.mark.parametrize("layer", Layer)
def test_without_a_layer_the_others_remain_and_it_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, layer: Layer
) -> None:
    with sandbox_without(monkeypatch, layer) as sandbox:
        missing = sandbox.confinement().missing
        expected = {layer} | ({Layer.SUPERVISION} if layer is Layer.FILTER else set())
        assert set(missing) == expected and all(missing.values())
        with caplog.at_level(logging.WARNING):
            works(sandbox)
        (record,) = caplog.records
        assert "fewer layers" in record.message and f"{layer.name} (left out)" in record.message
        # No file, no network, no process, with any of the layers left out.
        fails(run(sandbox, READS), "FileNotFoundError", "PermissionError")
        if layer is not Layer.FILTER:
            fails(run(sandbox, "import socket\nsocket.socket()"), "PermissionError")
            fails(run(sandbox, "import os\nos.fork()"), "PermissionError")
        if layer is not Layer.LIMITS:
            fails(run(sandbox, "x = bytearray(1 << 40)"), "MemoryError")


def test_a_container_s_worth_of_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """No namespaces: Landlock and the filter hold."""
    with sandbox_without(monkeypatch, *NAMESPACES, require="basic") as sandbox:
        works(sandbox)
        assert set(sandbox.confinement().missing) == NAMESPACES
        fails(run(sandbox, READS), "PermissionError")
        fails(run(sandbox, "open('/tmp/x', 'w')"), "PermissionError")  # there is no scratch folder
        fails(run(sandbox, "import os\nos.kill(os.getppid(), 9)"), "PermissionError")
        fails(run(sandbox, "import os\nos.kill(1, 9)"), "PermissionError")
        assert run(sandbox, "import os\nos.kill(os.getpid(), 0)\nprint(1)").output == "1\n"


def test_an_old_kernel_s_worth_of_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only limits and a filter for each program: every step runs all before it again, and gives the same."""
    lacking = (*NAMESPACES, Layer.LANDLOCK, Layer.SUPERVISION)
    with sandbox_without(monkeypatch, *lacking, require="basic") as sandbox:
        works(sandbox)
        assert set(sandbox.confinement().missing) == set(lacking)
        for code in (
            "open('/tmp/x', 'w')",
            "import os\nos.fork()",
            "import os\nos.kill(os.getppid(), 9)",
            "import os\nos.unlink('/x')",
        ):
            fails(run(sandbox, code), "PermissionError")
        assert (
            run(sandbox, "import threading\nt = threading.Thread(target=print, args=(3,))\nt.start()\nt.join()").output == "3\n"
        )


def test_nothing_but_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a system without any layer: programs run where that is asked for, the wall clock and the process's own end hold."""
    with sandbox_without(monkeypatch, *Layer) as sandbox:
        assert sandbox.confinement().in_force == []
        works(sandbox)
        assert run(sandbox, "import os\nos._exit(3)").error is not None


@pytest.mark.parametrize("layer", Layer)
def test_full_confinement_refuses_to_run_without_any_layer(monkeypatch: pytest.MonkeyPatch, layer: Layer) -> None:
    with sandbox_without(monkeypatch, layer, require="full") as sandbox:
        message = rf"^the sandbox requires 'full' confinement and this machine lacks .*{layer.name} \(.*rstar-fast doctor"
        with pytest.raises(RstarError, match=message):
            run(sandbox, "print(1)")


@pytest.mark.parametrize("layer", BASIC)
def test_the_usual_refuses_to_run_without_limits_and_filter(monkeypatch: pytest.MonkeyPatch, layer: Layer) -> None:
    with sandbox_without(monkeypatch, layer, require="basic") as sandbox:
        with pytest.raises(RstarError, match=f"requires 'basic' confinement and this machine lacks {layer.name}"):
            run(sandbox, "print(1)")


def test_with_all_layers_full_confinement_runs(caplog: pytest.LogCaptureFixture) -> None:
    with Sandbox(1, SandboxConfig(require=Require.FULL)) as sandbox, caplog.at_level(logging.WARNING):
        if sandbox.confinement().missing:
            pytest.skip(str(sandbox.confinement()))
        works(sandbox)
    assert not caplog.records


def test_what_is_missing_is_said_in_one_line() -> None:
    assert str(Confinement({Layer.IPC: "why"})).startswith("missing: IPC (why); in force: LIMITS, FILTER, ")
    assert str(Confinement({})).startswith("missing: nothing; in force: LIMITS")
    assert str(Confinement(dict.fromkeys(Layer, "x"))).endswith("in force: nothing")


def test_a_program_cannot_do_without_what_its_supervisor_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A worker that ends while it prepares itself is told with what it wrote."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['sympy'] = None\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with (
        Sandbox(1) as sandbox,
        pytest.raises(RstarError, match=r"^a sandbox worker did not start \(the other side has closed\)"),
    ):
        run(sandbox, "print(1)")


# rstar-fast doctor


def test_doctor_lists_every_layer() -> None:
    result = CliRunner().invoke(app, ["doctor"])
    assert all(layer.name.lower() in result.stdout for layer in Layer)
    report = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
    assert list(report["layers"]) == [layer.name.lower() for layer in Layer]
    with Sandbox(1) as sandbox:
        missing = sandbox.confinement().missing
    assert report["layers"] == {layer.name.lower(): missing.get(layer, "in force") for layer in Layer}
    assert ("full" in report["require"]) == (not missing)


def test_doctor_tells_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sandbox, "_omit", frozenset({Layer.LANDLOCK}))
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0 and "missing: left out" in result.stdout and "'full' is not" in result.stdout
    monkeypatch.setattr(Sandbox, "_omit", frozenset({Layer.FILTER}))
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1 and "No program is run here" in result.stdout


def test_a_search_refuses_too(monkeypatch: pytest.MonkeyPatch) -> None:
    import rstar_fast
    from rstar_fast import Candidate

    monkeypatch.setattr(Sandbox, "_omit", frozenset({Layer.LANDLOCK}))
    result = rstar_fast.search(
        "What is 1 + 1?",
        policy=lambda partials, n: [[Candidate("<code>\nprint(2)\n", "<end_of_step>")]] * len(partials),
        ppm=lambda partials: [0.0] * len(partials),
        sandbox={"require": "full"},
    )
    assert result.failure is not None and "requires 'full' confinement" in result.failure.message


def test_guests_run_no_module_of_ours() -> None:
    """What is loaded in a worker, every fork has: neither NumPy nor the package's other parts."""
    code = "import sys\nprint(sorted(m for m in sys.modules if m.partition('.')[0] in ('rstar_fast', 'num' + 'py', 'asyncio', 'torch')))"
    with Sandbox(1) as sandbox:
        loaded = run(sandbox, code).output
    assert "asyncio" not in loaded and "torch" not in loaded and "numpy" not in loaded
    assert "rstar_fast.types" not in loaded and "rstar_fast.config" not in loaded


def test_python_starts_the_worker_by_itself() -> None:
    done = subprocess.run([sys.executable, "-m", "rstar_fast.sandbox"], input=b"", capture_output=True, timeout=60)
    assert done.returncode == 0 and done.stdout == b""  # nobody asked for anything
