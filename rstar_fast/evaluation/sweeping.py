"""Accuracy against compute: strategies and budgets as a grid of evaluations, each a folder that continues."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rstar_fast.config import SearchConfig, Strategy
from rstar_fast.config.base import check_integer
from rstar_fast.evaluation.api import (
    Evaluation,
    Problems,
    config_of,
    data_name,
    evaluate,
    given_problems,
    of_strategy,
    parted_settings,
)
from rstar_fast.evaluation.comparing import Difference, accuracy_difference, verdict_pairs
from rstar_fast.evaluation.metrics import in_order
from rstar_fast.evaluation.page import errorbars, write_page
from rstar_fast.evaluation.tables import Table, points_with_interval, share, share_with_interval
from rstar_fast.types import InvalidInput, ProgressEvent

BUDGETS = (1, 2, 4, 8, 16)
STRATEGIES = tuple(Strategy)
_NOTES = [
    "Every point is an evaluation on the same problems: accuracy of the chosen answer, with its 95% interval (bootstrap over problems), "
    "against the tokens that the policy generated a problem. rollouts is what each strategy may spend: solutions sampled, or rollouts of the "
    "tree search. The answer is chosen as the settings say, by default by the PPM-weighted vote, without a PPM by the majority. What a PPM "
    "computes is not in the tokens.",
    "pass@1: whether one solution is right, of independent samples one drawn at random, of a tree one drawn by its share, the policy's "
    "probability of it. any right: whether one of all solutions is.",
    "The tree search is compared with each other strategy on the same problems, with the one of its budgets that spent the fewest tokens "
    "without spending fewer than the tree search did; where it has none there is no comparison.",
]


@dataclass(frozen=True, slots=True)
class Cell:
    """One evaluation of a sweep.

    Attributes:
      strategy, rollouts: what it is of.
      evaluation: its numbers.
    """

    strategy: str
    rollouts: int
    evaluation: Evaluation

    @property
    def tokens(self) -> float:
        """That the policy generated, a problem."""
        return self._per_problem("tokens") or 0.0

    def _per_problem(self, name: str) -> float | None:
        summary = self.evaluation.summary
        spent = summary["spent"][name]
        return None if spent is None else float(spent / max(1, summary["problems"]["count"]))

    def to_mapping(self) -> dict[str, Any]:
        """The cell as plain values."""
        names = ("tokens", "ppm_tokens", "partials_scored", "steps_run", "problem_seconds")
        return {
            "strategy": self.strategy,
            "rollouts": self.rollouts,
            "metrics": dict(self.evaluation.metrics),
            "by_level": {level: metrics["accuracy"] for level, metrics in self.evaluation.summary["by_level"].items()},
            "failures": self.evaluation.summary["failures"],
            "per_problem": {name: None if (number := self._per_problem(name)) is None else round(number, 3) for name in names},
        }


@dataclass(frozen=True, slots=True)
class Match:
    """The tree search against another strategy that had no fewer tokens, on the problems that both have a verdict on.

    Attributes:
      mcts, rival: what is compared.
      accuracy: the rival's first, the tree search's second: the difference is what the tree search gains.
      by_level: level -> the same on its problems.
    """

    mcts: Cell
    rival: Cell
    accuracy: Difference
    by_level: Mapping[str, Difference]

    def to_mapping(self) -> dict[str, Any]:
        """The match as plain values."""
        return {
            "mcts": {"rollouts": self.mcts.rollouts, "tokens": round(self.mcts.tokens, 3)},
            "rival": {"strategy": self.rival.strategy, "rollouts": self.rival.rollouts, "tokens": round(self.rival.tokens, 3)},
            "accuracy": dataclasses.asdict(self.accuracy),
            "by_level": {level: dataclasses.asdict(of_level) for level, of_level in self.by_level.items()},
        }


def sweep(
    problems: Problems,
    out: str | Path,
    *,
    answers: Mapping[str, str] | None = None,
    name: str | None = None,
    strategies: Sequence[Strategy | str] = STRATEGIES,
    budgets: Sequence[int] = BUDGETS,
    config: SearchConfig | None = None,
    file: str | Path | None = None,
    begun: Callable[[str, int], Callable[[ProgressEvent], object] | None] | None = None,
    **settings: Any,
) -> tuple[Cell, ...]:
    """Evaluates every strategy at every budget.

    Args:
      problems, answers, name, file: as `evaluate` takes them.
      out: the sweep's folder: a folder for each evaluation, sweep.json, sweep.html and, with matplotlib, sweep.png: the grid, by level,
        and the tree search against the others (`matches`). A sweep that was interrupted goes on.
      strategies: as `evaluate` takes them; greedy, which gives one solution, is evaluated once.
      budgets: rollouts of each, >= 1. Beams are as wide as divides the rollouts, at most `candidates` and the rollouts' square root.
      config: settings of the search; single ones override it. Trees and the adaptive stop are for the strategies that have them, and
        trees never more than the rollouts.
      begun: told each evaluation that begins, its strategy and budget; gives the progress that it is to tell.
      settings: of `evaluate`, and of the search.

    Returns:
      The evaluations, by strategy and budget.

    Raises:
      InvalidInput: a strategy or setting is unusable, or a folder holds something else.
    """
    folder = Path(out)
    if not strategies or not budgets:
        raise InvalidInput("a sweep needs strategies and budgets: give at least one of each")
    if "rollouts" in settings:
        raise InvalidInput("a sweep has several rollouts: give them as budgets, and leave them out of the settings")
    of_search, asked = parted_settings(settings)
    grid = _grid(strategies, budgets, config, of_search)  # all checked before hours of searching
    data = name or data_name(problems)
    given = given_problems(problems, answers, file)
    cells = []
    for of_cell in grid:
        strategy, rollouts = of_cell.strategy.value, of_cell.rollouts
        progress = begun(strategy, rollouts) if begun is not None else None
        to = folder / f"{strategy}-{rollouts}"
        cells.append(Cell(strategy, rollouts, evaluate(given, out=to, name=data, config=of_cell, progress=progress, **asked)))
        _write(folder, cells, data)
    return tuple(cells)


def _grid(
    strategies: Sequence[Strategy | str], budgets: Sequence[int], config: SearchConfig | None, settings: dict[str, Any]
) -> list[SearchConfig]:
    """The settings of every evaluation, by strategy and budget."""
    grid: dict[tuple[Strategy, int], SearchConfig] = {}
    for rollouts in budgets:
        check_integer("a budget", rollouts, 1)
    usual = config_of(config, {**settings, "strategy": Strategy.MCTS, "rollouts": max(budgets)})
    for strategy in strategies:
        kind = SearchConfig(strategy=strategy).strategy  # type: ignore[arg-type]
        for rollouts in sorted(set(budgets)):
            one = of_strategy(usual, kind, rollouts)
            grid[one.strategy, one.rollouts] = one
    return list(grid.values())


def matches(cells: Sequence[Cell]) -> list[Match]:
    """Each tree search of a sweep against each other strategy, at the budget that is nearest above the tree search's tokens."""
    found = []
    for mcts in (cell for cell in cells if cell.strategy == Strategy.MCTS.value and cell.tokens > 0):
        seed = mcts.evaluation.summary["settings"]["seed"]
        for strategy in dict.fromkeys(cell.strategy for cell in cells if cell.strategy != mcts.strategy):
            able = [cell for cell in cells if cell.strategy == strategy and cell.tokens >= mcts.tokens]
            if not able:
                continue
            rival = min(able, key=lambda cell: cell.tokens)
            pairs = verdict_pairs(rival.evaluation, mcts.evaluation)
            if pairs:
                by_level = {
                    level: accuracy_difference([pair for pair in pairs if pair[0].level == level], seed)
                    for level in in_order(outcome.level for outcome, _ in pairs)
                }
                found.append(Match(mcts, rival, accuracy_difference(pairs, seed), by_level))
    return found


def all_tables(cells: Sequence[Cell], found: Sequence[Match]) -> list[Table]:
    """A sweep: the grid, by level where the problems have levels, and its `matches`."""
    return [*sweep_tables(cells), *_level_tables(cells), *_match_tables(found)]


def _level_tables(cells: Sequence[Cell]) -> list[Table]:
    by_cell = [(cell, cell.evaluation.summary["by_level"]) for cell in cells]
    levels = in_order(level for _, by_level in by_cell for level in by_level)
    if not levels:
        return []
    rows = [
        [cell.strategy, str(cell.rollouts), *(share(by_level[level]["accuracy"]) if level in by_level else "-" for level in levels)]
        for cell, by_level in by_cell
    ]
    return [("Accuracy by level", [["strategy", "rollouts", *(f"level {level}" for level in levels)], *rows])]


def _match_tables(found: Sequence[Match]) -> list[Table]:
    if not found:
        return []
    levels = in_order(level for match in found for level in match.by_level)
    header = ["mcts, rollouts", "against", "rollouts", "tokens", "its tokens", "points more right"]
    header += [f"level {level}" for level in levels]
    rows = [
        [
            str(match.mcts.rollouts),
            match.rival.strategy,
            str(match.rival.rollouts),
            f"{match.mcts.tokens:,.1f}",
            f"{match.rival.tokens:,.1f}",
            points_with_interval(match.accuracy),
            *(points_with_interval(match.by_level[level]) if level in match.by_level else "-" for level in levels),
        ]
        for match in found
    ]
    return [("Tree search against others that had no fewer tokens a problem, with 95% intervals", [header, *rows])]


def sweep_tables(cells: Sequence[Cell]) -> list[Table]:
    """The grid as a table."""
    header = ["strategy", "rollouts", "accuracy", "pass@1", "any right", "tokens", "PPM tokens", "partials scored", "steps run", "seconds", "failed"]
    rows = []
    for cell in cells:
        metrics, per = cell.evaluation.metrics, cell.to_mapping()["per_problem"]
        passes = [name for name in metrics if name.startswith("pass@")]
        of_pass = [share(metrics[passes[0]]), share(metrics[passes[-1]])] if passes else ["-", "-"]
        counted = (per[name] for name in ("tokens", "ppm_tokens", "partials_scored", "steps_run"))
        numbers = [*("-" if number is None else f"{number:,.1f}" for number in counted), f"{per['problem_seconds']:.2f}"]
        failed = sum(cell.evaluation.summary["failures"].values())
        rows.append([cell.strategy, str(cell.rollouts), share_with_interval(metrics["accuracy"]), *of_pass, *numbers, str(failed)])
    return [("Accuracy against compute, a problem", [header, *rows])]


def notes_of(cells: Sequence[Cell]) -> list[str]:
    """The notes of a sweep's evaluations, each once."""
    return list(dict.fromkeys(note for cell in cells for note in cell.evaluation.summary["notes"]))


def _write(folder: Path, cells: Sequence[Cell], data: str) -> None:
    found = matches(cells)
    said = {
        "data": data,
        "cells": [cell.to_mapping() for cell in cells],
        "at_equal_tokens": [match.to_mapping() for match in found],
        "notes": notes_of(cells),
    }
    lines: dict[str, list[tuple[float, dict[str, Any]]]] = {}
    for cell in cells:
        if cell.evaluation.accuracy is not None and cell.tokens > 0:
            lines.setdefault(cell.strategy, []).append((cell.tokens, dict(cell.evaluation.metrics["accuracy"])))
    plot = errorbars(lines, f"{data}: accuracy against compute", "tokens generated a problem")
    notes = [*_NOTES, *notes_of(cells)]
    write_page(folder, "sweep", json.loads(json.dumps(said)), f"Sweep: {data}", notes, all_tables(cells, found), plot)
