"""`rstar-fast bench tree`: it measures, prints and writes; and the microbenchmarks behind it search as they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rstar_fast import _core
from rstar_fast.cli import app


def test_bench_tree_prints_a_table_and_writes_the_runs(tmp_path: Path) -> None:
    out = tmp_path / "tree.json"
    done = CliRunner().invoke(app, ["bench", "tree", "--quick", "--runs", "3", "--threads", "2", "--out", str(out)])
    assert done.exit_code == 0, done.output
    for said in (
        "1,000,000 simulations",
        "threads",
        "one shared tree",
        "rollout steps",
        "core to core",
        "from Python",
        "median of 3",
        "16 bytes",
    ):
        assert said in " ".join(done.output.split()), said
    written = json.loads(out.read_text("utf-8"))
    assert {"commit", "machine", "compiler", "rstar_fast", "node_bytes", "setting", "measurements"} <= set(written)
    for row in written["measurements"]:
        assert len(row["values"]) == 3 and all(value > 0 for value in row["values"])


def test_a_microbenchmark_runs_every_simulation() -> None:
    one = _core.microbench_single(5000)
    assert one["root_value"] == _core.microbench_single(5000)["root_value"]  # the same search
    assert one["leaves"] - 5000 == (one["nodes"] - 1) / 32  # the rest of the leaves were expanded
    for threads in (1, 3):
        many = _core.microbench_forest(trees=20, simulations=50, batch=16, threads=threads, repeats=2)
        assert many["leaves"] - 20 * 50 == (many["nodes"] - 20) / 32
    shared = _core.microbench_forest(trees=1, simulations=3000, in_flight=40, batch=20, threads=2)
    assert shared["leaves"] - 3000 == (shared["nodes"] - 1) / 32
    assert -1 < shared["root_value"] < 1


def test_a_rollout_of_a_microbenchmark_goes_to_the_bottom() -> None:
    measured = _core.microbench_forest(trees=30, simulations=1, batch=8, rollouts=True, depth=7)
    assert measured["leaves"] == 30 * 7 and measured["nodes"] == 30 * (1 + 7 * 32)
    with pytest.raises(ValueError, match="give 1 or more"):
        _core.microbench_forest(trees=0, simulations=1)
