"""The paper's tables: the policy alone, the best of n by a reward model, tree search with more and more trajectories.

Tables 5 and 6 of rStar-Math compare these (test-time compute), its ablation an outcome reward model with the process preference model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rstar_fast.config import Choice, SearchConfig, Strategy
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
from rstar_fast.evaluation.tables import Table, share_with_interval
from rstar_fast.types import InvalidInput, ProgressEvent

TRAJECTORIES = (1, 4, 8, 16, 64)
ALONE, BEST, SEARCH = "policy alone", "best of {n}", "MCTS, {n} {said}"
PPM, ORM = "PPM", "ORM"
_NOTES = [
    "policy alone: its most likely solution. best of n: of n independent solutions the one that the reward model scores highest. MCTS: of the "
    "solutions that a tree search with n rollouts finds, the one with the highest score. 95% intervals: bootstrap over problems.",
]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table.

    Attributes:
      name: what answers.
      evaluations: reward model -> its evaluation; the policy alone needs none, and stands under "".
    """

    name: str
    evaluations: Mapping[str, Evaluation]


def paper_table(
    problems: Problems,
    out: str | Path,
    *,
    answers: Mapping[str, str] | None = None,
    name: str | None = None,
    policy: Any = "nano",
    ppm: Any = "nano",
    orm: Any = None,
    trajectories: Sequence[int] = TRAJECTORIES,
    best_of: int | None = None,
    config: SearchConfig | None = None,
    file: str | Path | None = None,
    begun: Callable[[str], Callable[[ProgressEvent], object] | None] | None = None,
    **settings: Any,
) -> tuple[Row, ...]:
    """Evaluates the rows of the table. The answer is that of the solution with the best score, as in the paper.

    Args:
      problems, answers, name, file, policy, ppm: as `evaluate` takes them.
      out: the table's folder: a folder for each evaluation, paper.json, paper.html and, with matplotlib, paper.png. It goes on where it
        was interrupted.
      orm: a reward model of outcomes to compare with the PPM, given as a PPM is; none when None.
      trajectories: rollouts of the tree searches.
      best_of: samples of the best of n; the most trajectories by default.
      config: settings of the search; single ones override it. Trees and the adaptive stop are for the rows that have them.
      begun: told each evaluation that begins; gives the progress that it is to tell.
      settings: of `evaluate`, and of the search.

    Raises:
      InvalidInput: a setting is unusable, or a folder holds something else.
    """
    if not trajectories:
        raise InvalidInput("trajectories is empty: give at least one number of rollouts")
    for given_twice in ("rollouts", "choice"):
        if given_twice in settings:
            raise InvalidInput(f"the table names {given_twice} itself: leave it out of the settings")
    if best_of is not None:
        check_integer("best_of", best_of, 1)
    for rollouts in trajectories:
        check_integer("trajectories", rollouts, 1)
    data = name or data_name(problems)
    folder, given = Path(out), given_problems(problems, answers, file)
    models = {PPM: ppm} | ({ORM: orm} if orm is not None else {})
    n = best_of or max(trajectories)
    of_search, asked = parted_settings(settings)
    usual = config_of(config, {**of_search, "strategy": Strategy.MCTS, "rollouts": max(trajectories)})
    best = usual.replace(choice=Choice.BEST_SCORE)
    # All checked before hours of searching.
    plan = [(ALONE, of_strategy(usual, Strategy.GREEDY, 1), {"": ppm}), (BEST.format(n=n), of_strategy(best, Strategy.BEST_OF_N, n), models)]
    for rollouts in sorted(set(trajectories)):
        title = SEARCH.format(n=rollouts, said="trajectory" if rollouts == 1 else "trajectories")
        plan.append((title, of_strategy(best, Strategy.MCTS, rollouts), models))
    rows: list[Row] = []
    for title, of_evaluation, of_row in plan:
        found = {}
        for model, scorer in of_row.items():
            label = f"{title} with {model}" if model else title
            progress = begun(label) if begun is not None else None
            to = folder / "-".join(filter(None, (of_evaluation.strategy.value, str(of_evaluation.rollouts), model.lower())))
            found[model] = evaluate(given, out=to, name=data, policy=policy, ppm=scorer, config=of_evaluation, progress=progress, **asked)
        rows.append(Row(title, found))
        _write(folder, rows, data)
    return tuple(rows)


def paper_tables(rows: Sequence[Row], data: str = "") -> list[Table]:
    """The table: accuracy with its interval for each reward model, and the tokens it took.

    Args:
      data: what the problems are called, for the title.
    """
    models = _models(rows)
    header = ["", *(f"with {model}" for model in models), *(f"tokens, {model}" for model in models)]
    found = []
    for row in rows:
        of_row = [row.evaluations.get(model, row.evaluations.get("")) for model in models]
        cells = [share_with_interval(one.metrics["accuracy"]) if one is not None else "-" for one in of_row]
        tokens = [f"{_tokens(one):,.1f}" if one is not None else "-" for one in of_row]
        found.append([row.name, *cells, *tokens])
    title = "Accuracy, and tokens generated a problem"
    return [(f"{data}: {title[:1].lower()}{title[1:]}" if data else title, [header, *found])]


def tables_side_by_side(tables: Mapping[str, Sequence[Row]]) -> list[Table]:
    """Tables of several benchmarks as one for each reward model: what answers in rows, the benchmarks in columns."""
    found = []
    for model in list(dict.fromkeys(model for rows in tables.values() for model in _models(rows))):
        names = list(dict.fromkeys(row.name for rows in tables.values() for row in rows))
        lines = []
        for name in names:
            of_name = [next((row for row in rows if row.name == name), None) for rows in tables.values()]
            one_each = [None if row is None else row.evaluations.get(model, row.evaluations.get("")) for row in of_name]
            lines.append([name, *("-" if one is None else share_with_interval(one.metrics["accuracy"]) for one in one_each)])
        found.append((f"Accuracy, with {model}", [["", *tables], *lines]))
    return found


def write_side_by_side(folder: Path, tables: Mapping[str, Sequence[Row]]) -> Path:
    """Writes paper.json and paper.html of several benchmarks into a folder; the path of the page."""
    values = {data: _rows(rows) for data, rows in tables.items()}
    return write_page(folder, "paper", json.loads(json.dumps(values)), f"Test-time compute: {', '.join(tables)}", _NOTES, tables_side_by_side(tables), b"")


def _models(rows: Sequence[Row]) -> list[str]:
    """The reward models of a table."""
    return list(dict.fromkeys(model for row in rows for model in row.evaluations if model)) or [PPM]


def _tokens(evaluation: Evaluation) -> float:
    return float(evaluation.summary["spent"]["tokens"] / max(1, evaluation.summary["problems"]["count"]))


def _rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows as plain values."""
    return [
        {
            "name": row.name,
            "models": {
                model: {"metrics": dict(one.metrics), **{part: one.summary[part] for part in ("spent", "settings", "notes")}}
                for model, one in row.evaluations.items()
            },
        }
        for row in rows
    ]


def _write(folder: Path, rows: Sequence[Row], data: str) -> None:
    values = {"data": data, "rows": _rows(rows)}
    lines: dict[str, list[tuple[float, Mapping[str, Any]]]] = {}
    for row in rows:
        for model, one in row.evaluations.items():
            if one.accuracy is not None and _tokens(one) > 0:
                kind = " with ".join(filter(None, (row.name.partition(",")[0], model)))
                lines.setdefault(kind, []).append((_tokens(one), one.metrics["accuracy"]))
    plot = errorbars(lines, f"{data}: accuracy against compute", "tokens generated a problem")
    write_page(folder, "paper", json.loads(json.dumps(values)), f"Test-time compute: {data}", _NOTES, paper_tables(rows), plot)
