"""nano's accuracy against compute: every strategy at several budgets, and the adaptive end, on held-out problems of the hardest levels.

    python benchmarks/bench_nano_sweep.py --out runs/nano-sweep          # --problems 160; goes on where it was interrupted

Writes results/nano_sweep.json, .md and .png.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import bench

from rstar_fast.evaluation import compare, evaluate, sweep
from rstar_fast.evaluation.sweeping import STRATEGIES, Cell, all_tables, matches
from rstar_fast.evaluation.tables import points_with_interval
from rstar_fast.nano import generate
from rstar_fast.storage import ProblemFile

_LEVELS = (4, 4, 4, 5)  # where greedy is right on less than 60%
_ADAPTIVE = ("best_of_n", "self_consistency", "mcts")
# Once more at twice the largest budget: a tree search may take more tokens than as many samples. A single tree has nothing new left then.
_TWICE: dict[str, dict[str, int]] = {"best_of_n": {}, "self_consistency": {}, "mcts": {"trees": 4}}


def held_out(count: int, seed: int) -> ProblemFile:
    """Problems that no training has seen, with their levels and families."""
    return bench.problem_file(generate("heldout", count, seed, levels=_LEVELS))


def adaptive_ends(given: ProblemFile, out: Path, strategies: list[str], rollouts: int, **settings: Any) -> list[dict[str, Any]]:
    """Of each strategy that can end early: what it saves at the largest budget, and what that costs."""
    rows = []
    for strategy in (name for name in _ADAPTIVE if name in strategies):
        early = evaluate(
            given,
            out=out / f"{strategy}-adaptive",
            name="adaptive",
            strategy=strategy,
            rollouts=rollouts,
            adaptive=True,
            **settings,
        )
        whole = evaluate(given, out=out / f"{strategy}-{rollouts}", name="whole", strategy=strategy, rollouts=rollouts, **settings)
        tokens = [one.summary["spent"]["tokens"] / len(given.problems) for one in (whole, early)]
        gain = compare(out / f"{strategy}-{rollouts}", out / f"{strategy}-adaptive").accuracy
        rows.append({"strategy": strategy, "rollouts": rollouts, "tokens": tokens, "saved": 1 - tokens[1] / tokens[0], "gain": gain})
    return rows


def lines_of(title: str, table: list[list[str]]) -> list[str]:
    """A table in Markdown."""
    header, *rows = table
    return [f"## {title}", "", f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}", *(f"| {' | '.join(row)} |" for row in rows), ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the sweep; one found there goes on")
    parser.add_argument("--problems", type=int, default=160)
    parser.add_argument("--seed", type=int, default=11, help="of the problems")
    parser.add_argument("--budgets", default="1,4,16")
    parser.add_argument("--strategies", default=",".join(strategy.value for strategy in STRATEGIES))
    options = parser.parse_args()
    given = held_out(options.problems, options.seed)
    budgets = [int(number) for number in options.budgets.split(",")]
    settings = {"max_depth": 14}  # as in its training
    strategies, most = options.strategies.split(","), 2 * max(budgets)
    cells = sweep(given, options.out, name="nano", strategies=strategies, budgets=budgets, **settings)
    for strategy in (name for name in strategies if name in _TWICE):
        kind = {"strategy": strategy, "rollouts": most, **_TWICE[strategy], **settings}
        cells = (*cells, Cell(strategy, most, evaluate(given, out=options.out / f"{strategy}-{most}", name="nano", **kind)))
    early = adaptive_ends(given, options.out, strategies, max(budgets), **settings)
    row: dict[str, Any] = {"problems": options.problems, "seed": options.seed, "cells": [cell.to_mapping() for cell in cells]}
    found = matches(cells)
    row |= {"at_equal_tokens": [match.to_mapping() for match in found]}
    row |= {"adaptive": [{**one, "gain": dataclasses.asdict(one["gain"])} for one in early]}
    bench.write("nano_sweep", row)
    lines = ["# nano: accuracy against compute", "", f"{options.problems} held-out problems, three of four of level 4, the others of level 5.", ""]
    lines += [f"With {most} rollouts the tree search has {_TWICE['mcts']['trees']} trees, else one.", ""]
    for title, table in all_tables(cells, found):
        lines += lines_of(title, table)
    header = ["strategy", "rollouts", "tokens, all", "tokens, adaptive", "saved", "points gained (95% interval)"]
    shown = [
        [
            one["strategy"],
            str(one["rollouts"]),
            *(f"{tokens:,.0f}" for tokens in one["tokens"]),
            f"{one['saved']:.0%}",
            points_with_interval(one["gain"]),
        ]
        for one in early
    ]
    lines += lines_of("The adaptive end, a problem", [header, *shown])
    if (options.out / "sweep.png").exists():
        shutil.copy(options.out / "sweep.png", bench.RESULTS / "nano_sweep.png")
        lines += ["![accuracy against tokens](nano_sweep.png)", ""]
    lines += ["`python benchmarks/bench_nano_sweep.py --out DIR` makes it; every number is in `nano_sweep.json`.", ""]
    (bench.RESULTS / "nano_sweep.md").write_text("\n".join(lines), "utf-8")


if __name__ == "__main__":
    main()
