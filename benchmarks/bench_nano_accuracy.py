"""Accuracy of nano: greedy, self-consistency and tree search on held-out problems.

    python benchmarks/bench_nano_accuracy.py            # 200 held-out problems, and 200 in wordings never seen; ~10 minutes

Writes results/nano_accuracy.json and results/nano_accuracy.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import bench

import rstar_fast
from rstar_fast.config import SearchConfig
from rstar_fast.evaluation import correctness, paired_difference, wilson
from rstar_fast.nano import LEVELS, Record, generate
from rstar_fast.types import SearchResult

_SAMPLES = 16
_TITLES = {"heldout": "held-out problems", "novel": "held-out problems in wordings, with names and things that training never saw"}


def methods(config: SearchConfig) -> dict[str, Callable[[Sequence[Any]], Sequence[SearchResult]]]:
    """Name -> what answers the problems."""
    return {
        "greedy": lambda problems: rstar_fast.search.greedy(problems, seed=config.seed),
        f"majority of {_SAMPLES}": lambda problems: rstar_fast.search.sample(problems, _SAMPLES, seed=config.seed),
        "search": lambda problems: rstar_fast.search(problems, config=config),
    }


def measured(records: Sequence[Record], config: SearchConfig) -> dict[str, Any]:
    """Method -> its verdicts and costs on the problems."""
    problems, answers = [record.problem for record in records], [record.answer for record in records]
    rows: dict[str, Any] = {}
    for name, method in methods(config).items():
        started = time.monotonic()
        results = method(problems)
        seconds = time.monotonic() - started
        verdicts = correctness(answers, results)
        failed = [str(result.failure) for result, verdict in zip(results, verdicts, strict=True) if verdict is None]
        assert not failed, f"{name}: {failed[0]}"  # nothing may be missing from the table
        rows[name] = {
            "correct": [bool(verdict) for verdict in verdicts],
            "seconds_per_problem": round(seconds / len(problems), 3),
            "tokens_per_problem": round(sum(result.stats.policy_tokens for result in results) / len(problems), 1),
            "steps_run_per_problem": round(sum(result.stats.steps_run for result in results) / len(problems), 1),
        }
        print(f"{name}: {sum(rows[name]['correct'])} of {len(problems)}, {seconds:.0f} s", flush=True)
    return rows


def summary(records: Sequence[Record], rows: dict[str, Any]) -> dict[str, Any]:
    """Method -> accuracy by level and in all with its interval, and what it gains over greedy."""
    found: dict[str, Any] = {}
    greedy = rows["greedy"]["correct"]
    for name, row in rows.items():
        correct = row.pop("correct")
        by_level = {
            str(level): round(sum(c for c, r in zip(correct, records, strict=True) if r.level == level)
                              / sum(r.level == level for r in records), 4)
            for level in LEVELS
        }
        found[name] = {
            "right": sum(correct),
            "of": len(correct),
            "interval": [round(bound, 4) for bound in wilson(sum(correct), len(correct))],
            "by_level": by_level,
            "gain_over_greedy": [round(number, 4) for number in paired_difference(greedy, correct)],
            **row,
        }
    return found


def table(split: str, rows: dict[str, Any]) -> list[str]:
    """A split's results in Markdown."""
    total = next(iter(rows.values()))["of"]
    lines = [
        f"**{total} {_TITLES[split]}**",
        "",
        f"| | level {' | '.join(map(str, LEVELS))} | all | 95% interval | over greedy, 95% interval | tokens a problem |",
        "| --- |" + " --- |" * (len(LEVELS) + 4),
    ]
    for name, row in rows.items():
        low, high = row["interval"]
        gain, gain_low, gain_high = (100 * number for number in row["gain_over_greedy"])
        gained = "" if name == "greedy" else f"{gain:+.1f} points ({gain_low:+.1f} to {gain_high:+.1f})"
        levels = " | ".join(f"{row['by_level'][str(level)]:.0%}" for level in LEVELS)
        lines.append(
            f"| {name} | {levels} | {row['right'] / row['of']:.1%} | {low:.1%} to {high:.1%} | {gained} | {row['tokens_per_problem']:.0f} |"
        )
    return [*lines, ""]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Accuracy of nano: greedy, self-consistency and tree search.")
    parser.add_argument("--problems", type=int, default=200, help="of each split; the levels take turns")
    parser.add_argument("--seed", type=int, default=2026, help="of the problems and the policy; no other part of this repository uses its problems")
    parser.add_argument("--splits", nargs="+", default=list(_TITLES), choices=list(_TITLES))
    parser.add_argument("--dry", action="store_true", help="print, and write nothing")
    given = parser.parse_args()
    config = SearchConfig(seed=given.seed)
    splits, lines = {}, []
    for split in given.splits:
        records = generate(split, given.problems, given.seed)
        splits[split] = summary(records, measured(records, config))
        lines += table(split, splits[split])
    print("\n".join(lines))
    if not given.dry:
        path = bench.write("nano_accuracy", {"search": config.to_mapping(), "seed": given.seed, "splits": splits})
        made = bench.provenance()
        lines += [f"Search: {config.rollouts} rollouts, {config.candidates} candidates. Commit {made['commit']}, {made['date']}, {made['machine']},"
                  f" torch {made['torch']}. `python benchmarks/bench_nano_accuracy.py` makes this page and {path.name}."]
        path.with_suffix(".md").write_text("\n".join(["# Accuracy of nano", "", *lines, ""]), "utf-8")


if __name__ == "__main__":
    main()
