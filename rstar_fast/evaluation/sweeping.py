"""Accuracy against compute: strategies and budgets as a grid of evaluations, each a folder that continues."""

from __future__ import annotations

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
from rstar_fast.evaluation.page import errorbars, write_page
from rstar_fast.evaluation.tables import Table, share, share_with_interval
from rstar_fast.types import InvalidInput, ProgressEvent

BUDGETS = (1, 2, 4, 8, 16)
STRATEGIES = tuple(Strategy)
_NOTES = [
    "Every point is an evaluation on the same problems: accuracy of the chosen answer, with its 95% interval (bootstrap over problems), "
    "against the tokens that the policy generated a problem. rollouts is what each strategy may spend: solutions sampled, or rollouts of the "
    "tree search. The answer is chosen as the settings say, by default by the PPM-weighted vote, without a PPM by the majority. What a PPM "
    "computes is not in the tokens.",
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
        return self._per_problem("tokens")

    def _per_problem(self, name: str) -> float:
        summary = self.evaluation.summary
        return float(summary["spent"][name] / max(1, summary["problems"]["count"]))

    def to_mapping(self) -> dict[str, Any]:
        """The cell as plain values."""
        names = ("tokens", "ppm_tokens", "partials_scored", "steps_run", "problem_seconds")
        return {
            "strategy": self.strategy,
            "rollouts": self.rollouts,
            "metrics": dict(self.evaluation.metrics),
            "failures": self.evaluation.summary["failures"],
            "per_problem": {name: round(self._per_problem(name), 3) for name in names},
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
      out: the sweep's folder: a folder for each evaluation, sweep.json, sweep.html and, with matplotlib, sweep.png. A sweep that was
        interrupted goes on.
      strategies: as `evaluate` takes them; greedy, which gives one solution, is evaluated once.
      budgets: rollouts of each, >= 1. Beams are as wide as `candidates` and divides the rollouts.
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


def sweep_tables(cells: Sequence[Cell]) -> list[Table]:
    """The grid as a table."""
    header = ["strategy", "rollouts", "accuracy", "pass@1", "pass@most", "tokens", "PPM tokens", "partials scored", "steps run", "seconds", "failed"]
    rows = []
    for cell in cells:
        metrics, per = cell.evaluation.metrics, cell.to_mapping()["per_problem"]
        passes = [name for name in metrics if name.startswith("pass@")]
        of_pass = [share(metrics[passes[0]]), share(metrics[passes[-1]])] if passes else ["-", "-"]
        numbers = [f"{per[name]:,.1f}" for name in ("tokens", "ppm_tokens", "partials_scored", "steps_run")] + [f"{per['problem_seconds']:.2f}"]
        failed = sum(cell.evaluation.summary["failures"].values())
        rows.append([cell.strategy, str(cell.rollouts), share_with_interval(metrics["accuracy"]), *of_pass, *numbers, str(failed)])
    return [("Accuracy against compute, a problem", [header, *rows])]


def _write(folder: Path, cells: Sequence[Cell], data: str) -> None:
    said = {"data": data, "cells": [cell.to_mapping() for cell in cells]}
    lines: dict[str, list[tuple[float, dict[str, Any]]]] = {}
    for cell in cells:
        if cell.evaluation.accuracy is not None and cell.tokens > 0:
            lines.setdefault(cell.strategy, []).append((cell.tokens, dict(cell.evaluation.metrics["accuracy"])))
    plot = errorbars(lines, f"{data}: accuracy against compute", "tokens generated a problem")
    write_page(folder, "sweep", json.loads(json.dumps(said)), f"Sweep: {data}", _NOTES, sweep_tables(cells), plot)
