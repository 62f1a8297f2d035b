"""How long 1,000,000 nodes of stored trees take to extract, end to end and in C++ alone.

The trees are searches of the forest itself under a free evaluator: 16 rollouts, 8 candidates, up to 10 deep, steps of code of
some 60 bytes; a third of the answers right. `python benchmarks/bench_extraction.py` writes results/extraction.json.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bench
import numpy as np
import pyarrow.parquet as pq

from rstar_fast import DataFormat, ExtractionConfig, Problem, SearchResult, Terminal, Tree, extract
from rstar_fast._core import Forest
from rstar_fast.extraction.batches import batches
from rstar_fast.extraction.rows import extracted
from rstar_fast.extraction.sources import open_source
from rstar_fast.search.answers import trajectories_of
from rstar_fast.storage import Run

_ROLLOUTS, _CANDIDATES, _DEPTH = 16, 8, 10


def grown_tree(random: np.random.Generator) -> tuple[Tree, dict[int, bool]]:
    """A tree of _ROLLOUTS rollouts, and the verdicts on its answers."""
    forest = Forest(notes=True)
    tree = forest.add_tree(_ROLLOUTS)
    verdicts: dict[int, bool] = {}  # by node of the forest
    while len((selected := forest.select(1))[0]):
        tickets, _, _, depths, _ = selected
        depth = int(depths[0]) + 1
        is_end = (random.random(_CANDIDATES) < 0.05 * depth) | (depth == _DEPTH)
        right = random.random(_CANDIDATES) < 0.35
        values = np.where(is_end, np.where(right, 1.0, -1.0), np.nan)
        drawn = random.integers(0, 10**6, _CANDIDATES)
        steps = [f"\n# Step {depth}: try the value {x}\nx{depth} = {x} * {x % 97} + {depth}\n<end_of_step>" for x in drawn]
        texts = [
            f"\n<answer>\\boxed{{{x}}}<end_of_answer>" if end else step
            for end, step, x in zip(is_end, steps, drawn, strict=True)
        ]
        answers = [str(x) if end else "" for end, x in zip(is_end, drawn, strict=True)]
        notes = (texts, [""] * _CANDIDATES, answers, np.ones(_CANDIDATES, np.uint32))
        terminals = np.where(is_end, Terminal.ANSWER, Terminal.NO).astype(np.uint8)
        count = np.full(1, _CANDIDATES, np.uint32)
        first = int(forest.expand(tickets, count, values, np.full(_CANDIDATES, np.nan, np.float32), terminals, notes)[0])
        verdicts.update({first + at: bool(right[at]) for at in range(_CANDIDATES) if is_end[at]})
    columns = forest.columns(tree)
    nodes = columns.pop("node").tolist()
    return Tree(columns), {row: verdicts[node] for row, node in enumerate(nodes) if node in verdicts}


def make_run(folder: Path, nodes: int, seed: int) -> tuple[int, int]:
    """Stores trees until they have so many nodes; how many trees and nodes there are."""
    random = np.random.default_rng(seed)
    total = trees = 0
    with Run.open(folder, {"benchmark": "extraction"}) as run:
        while total < nodes:
            tree, correct = grown_tree(random)
            run.add(SearchResult(Problem(f"Problem {trees}", str(trees)), "0", 0.0, trajectories_of(tree, correct), tree=tree))
            total, trees = total + len(tree), trees + 1
    return trees, total


def timed(runs: int, work: Callable[[], Any]) -> list[float]:
    """Seconds of each of some runs, after one that is not counted."""
    work()
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return seconds


def check(folder: Path, summary: Any) -> None:
    """What was written is what was counted, and is what it should be."""
    sft, pairs = pq.read_table(folder / "sft.parquet"), pq.read_table(folder / "pairs.parquet")
    assert (sft.num_rows, pairs.num_rows) == (summary.solutions, summary.pairs) and summary.pairs > 0
    assert (pairs["q_chosen"].to_numpy() > pairs["q_rejected"].to_numpy()).all()
    assert len(set(zip(sft["problem"].to_pylist(), sft["completion"].to_pylist(), strict=True))) == sft.num_rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        run, out = Path(temporary) / "run", Path(temporary) / "out"
        trees, nodes = make_run(run, arguments.nodes, seed=1)
        print(f"{trees} trees, {nodes} nodes, {sum(file.stat().st_size for file in run.iterdir()) / 2**20:.0f} MiB")
        summary = extract(run, out)
        check(out, summary)
        seconds = {
            f"extract, {kind.value}": timed(arguments.runs, lambda kind=kind: extract(run, out, format=kind))
            for kind in DataFormat
        }
        seconds["extract, the reference's rules"] = timed(
            arguments.runs, lambda: extract(run, out, config=ExtractionConfig.reference())
        )
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # before all is held at once
        seconds["reading and checking"] = timed(arguments.runs, lambda: list(batches([open_source(run)], {})))
        held = list(batches([open_source(run)], {}))
        seconds["C++: trajectories and pairs"] = timed(
            arguments.runs, lambda: [extracted(batch, ExtractionConfig()) for batch in held]
        )
        for name, values in seconds.items():
            print(f"{name:32} {statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})")
        row = {
            "trees": trees,
            "nodes": nodes,
            "rollouts": _ROLLOUTS,
            "candidates": _CANDIDATES,
            "most_depth": _DEPTH,
            "summary": summary.to_mapping(),
            "seconds": seconds,
            "peak_mb": peak_mb,
        }
        print(bench.write("extraction", row))


if __name__ == "__main__":
    main()
