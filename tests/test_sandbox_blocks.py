"""Where guests' memory lies: found once, kept in a file, and what it saves."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from processes import below, own_pages

from rstar_fast.config import SandboxConfig
from rstar_fast.sandbox import Sandbox, placement

STEPS = (
    "import sympy as sp\nd = sp.symbols('d')\nprint(sp.solve(sp.Eq(5*d**2 - 33*d + 18, 0), d))\n",
    "from sympy import symbols, expand\ng = symbols('g')\nprint(expand((g - 6)*(g + 11)))\n",
    "from sympy import Rational\nprint(Rational(9, 14) + Rational(2, 21))\n",
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and nothing remembered of another."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(placement, "_file", placement._file.__wrapped__)
    monkeypatch.setattr(placement, "_make", placement._make.__wrapped__)
    return tmp_path / "rstar_fast"


def run_all(file: str, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], int]:
    """What the steps print in a worker that is given a file, and how many pages their states have of their own."""
    monkeypatch.setattr("rstar_fast.sandbox.process.placement_file", lambda: file)
    before = set(below(os.getpid()))
    with Sandbox(1, SandboxConfig(timeout_s=60.0)) as sandbox, asyncio.Runner() as runner:
        runner.run(sandbox.run("0"))
        first = set(below(os.getpid()))
        printed = [runner.run(sandbox.run(step)).output for step in STEPS]
        states = set(below(os.getpid())) - first
        assert len(states) == len(STEPS) and len(first - before) >= 2
        return printed, sum(map(own_pages, states))


def test_what_is_found_saves_pages_and_changes_no_result(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = placement.placement_file()
    assert {Path(file), cache / "lock"} == set(cache.iterdir())
    printed, pages = run_all(file, monkeypatch)
    printed_without, pages_without = run_all(str(cache / "none"), monkeypatch)
    assert printed == printed_without == ["[3/5, 6]\n", "g**2 + 5*g - 66\n", "31/42\n"]
    assert pages < 0.75 * pages_without, (pages, pages_without)


def test_a_file_is_made_once(cache: Path) -> None:
    file = Path(placement.placement_file())
    made = file.stat().st_mtime_ns
    assert placement.placement_file() == str(file) and file.stat().st_mtime_ns == made
    names = memoryview(file.read_bytes()).cast("Q").tolist()
    assert names == sorted(set(names)) and len(names) > 1000


def test_of_processes_that_start_together_one_observes(cache: Path) -> None:
    code = """if True:
        from rstar_fast.sandbox import placement
        observe = placement._observe
        def told(file):
            print("observed")
            observe(file)
        placement._observe = told
        print(placement.placement_file())"""
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    printed = [process.communicate(timeout=120)[0].split() for process in started]
    assert sorted(map(len, printed)) == [1, 1, 2] and len({words[-1] for words in printed}) == 1
    assert Path(printed[0][-1]).stat().st_size > 8000


@pytest.mark.parametrize("content", [b"", b"1234567", b"\xff" * 80_000, bytes(800), b"\x00\x01\x02\x03" * 4096], ids=range(5))
def test_a_file_that_tells_nothing_costs_speed_only(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "blocks"
    file.write_bytes(content)
    printed, _ = run_all(str(file), monkeypatch)
    assert printed == ["[3/5, 6]\n", "g**2 + 5*g - 66\n", "31/42\n"]


@pytest.mark.parametrize("why", ["folder", "memory", "observer"])
def test_where_no_file_can_be_made_workers_do_without(
    why: str, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if why == "folder":
        cache.write_text("in the way")
    elif why == "memory":
        monkeypatch.setattr(placement, "_available_kib", lambda: 1 << 20)
    else:
        monkeypatch.setattr(placement, "start_worker", lambda *_: placement.subprocess.Popen(["false"]))
    with caplog.at_level(logging.INFO), Sandbox(1) as sandbox:
        assert asyncio.run(sandbox.run("print(7)")).output == "7\n"
    (record,) = [record for record in caplog.records if record.name == placement.__name__]
    assert textwrap.shorten(record.getMessage(), 30) == "steps run slower by a [...]"
    assert cache.is_file() or list(cache.iterdir()) == [cache / "lock"]
