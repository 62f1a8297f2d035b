"""The Triton kernels, interpreted, compiled ahead of time and, where there is a GPU, on it.

One process cannot both interpret and compile, and whether it interprets is settled when Triton is first imported: each way is a
run of pytest of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
TESTS = Path(__file__).parent


def run_tests(file: str, interpret: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("TRITON_INTERPRET", "PYTEST_ADDOPTS")}
    if interpret:
        environment["TRITON_INTERPRET"] = "1"
    # -P: the repository's root, with kernels/ in it, stays off sys.path.
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rP", str(TESTS / file)]
    done = subprocess.run(command, cwd=TESTS.parent, env=environment, capture_output=True, text=True)
    print(*re.findall(r"COUNTS (.*)", done.stdout), sep="\n")  # what `pytest -rP` shows
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ passed", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.timeout(900)
def test_interpreted() -> None:
    run_tests("triton_interpreted.py", interpret=True)


@pytest.mark.timeout(900)
def test_compiled_for_gpus_that_are_not_there() -> None:
    run_tests("triton_compiled.py", interpret=False)


@pytest.mark.gpu
@pytest.mark.timeout(900)
def test_on_the_gpu() -> None:
    run_tests("triton_interpreted.py", interpret=False)


def test_a_kernels_module_does_not_take_its_functions_name() -> None:
    code = """if True:
        import rstar_fast.kernels.value_head, rstar_fast.kernels.tree_attention
        from rstar_fast import kernels
        from rstar_fast.kernels.pairwise_loss import pairwise_loss
        from rstar_fast.kernels import pairwise_loss as chosen
        import rstar_fast.kernels.reference
        for name in kernels.__all__:
            print(getattr(kernels, name).__module__)
        print(pairwise_loss.__module__, chosen.__module__)
        print(kernels.reference.__name__)"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    *functions, last = done.stdout.split()
    assert functions == [*["rstar_fast.kernels"] * 3, "rstar_fast.kernels.pairwise_loss", "rstar_fast.kernels"]
    assert last == "rstar_fast.kernels.reference"


def test_the_device_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from rstar_fast import kernels

    for is_cuda, there, module in ((True, True, "value_head"), (True, False, "reference"), (False, True, "reference")):
        monkeypatch.setattr(kernels, "_is_triton_there", lambda there=there: there)
        assert kernels._for(SimpleNamespace(is_cuda=is_cuda), "value_head").__module__ == f"rstar_fast.kernels.{module}"
