"""`rstar-fast evaluate`: a benchmark, a sweep over compute, or the paper's table; `rstar-fast compare`: two evaluations."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer
import yaml
from rich.console import Console

from rstar_fast.cli.config_file import load_config
from rstar_fast.cli.progress import SearchProgress
from rstar_fast.cli.rendering import one_line, this_command
from rstar_fast.cli.search_options import ADAPTIVE_HELP, Aggregated, Candidates, Chosen, MaxSeconds, MaxTokens, Rollouts, Trees, limited
from rstar_fast.cli.tables import print_tables
from rstar_fast.config import Budget, SearchConfig
from rstar_fast.storage import ProblemFile
from rstar_fast.types import InvalidInput, ProgressEvent

if TYPE_CHECKING:
    from rstar_fast.evaluation import Evaluation
    from rstar_fast.evaluation.paper import Row
    from rstar_fast.evaluation.sweeping import Cell

_CHANGED_LISTED = 20


class PublishedTable(enum.Enum):
    """Tables of publications that can be made anew."""

    PAPER = "paper"  # rStar-Math: the policy alone, best of n, tree search with more and more trajectories


def evaluate(
    data: Annotated[list[str], typer.Argument(help="Benchmarks (gsm8k, math, math-500, aime-2024, amc-2023, olympiadbench, college-math, gaokao-2023-en, omni-math), or problem files.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the evaluation, with a folder for each of several; one found there goes on.")],
    strategy: Annotated[str | None, typer.Option(help="How solutions are found; with --sweep several, with commas.")] = None,
    policy: Annotated[str, typer.Option(help="nano, a checkpoint, vllm:NAME, or the URL of a server.")] = "nano",
    ppm: Annotated[str, typer.Option(help="nano, a checkpoint, vllm:NAME, or the URL of a server.")] = "nano",
    file: Annotated[Path | None, typer.Option(help="Where the benchmark lies on this machine, instead of the hub.")] = None,
    sample: Annotated[int | None, typer.Option(help="Only so many problems, drawn by the seed.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of search settings; options override it.")] = None,
    rollouts: Rollouts = None,
    candidates: Candidates = None,
    trees: Trees = None,
    choice: Chosen = None,
    aggregate: Aggregated = None,
    adaptive: Annotated[bool | None, typer.Option("--adaptive/--no-adaptive", help=ADAPTIVE_HELP)] = None,
    max_tokens: MaxTokens = None,
    max_seconds: MaxSeconds = None,
    seed: Annotated[int, typer.Option(help="Of the problems drawn, the policy and the intervals.")] = 0,
    setting: Annotated[list[str] | None, typer.Option("--set", help="Any other search setting, as name=value.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Search problems again whose search broke or was cut short by the run's budget.")] = False,
    sweep: Annotated[bool, typer.Option("--sweep", help="Accuracy against tokens: every strategy at every budget.")] = False,
    budgets: Annotated[str | None, typer.Option(help="With --sweep: rollouts, with commas. 1,2,4,8,16 by default.")] = None,
    table: Annotated[PublishedTable | None, typer.Option(help="The table of the paper.")] = None,
    trajectories: Annotated[str | None, typer.Option(help="With --table: rollouts of the tree searches. 1,4,8,16,64 by default.")] = None,
    orm: Annotated[str | None, typer.Option(help="With --table: an outcome reward model to compare with the PPM.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Evaluate a policy, a PPM and a way to search on problems with a key.

    It can be interrupted at any time; the same command goes on.
    """
    _check_mode(sweep, table, {"--budgets": budgets}, {"--trajectories": trajectories, "--orm": orm}, strategy, rollouts)
    options = {"rollouts": rollouts, "candidates": candidates, "choice": choice}
    options |= {"trees": trees, "aggregate": aggregate, "adaptive": adaptive}
    settings = {
        **(load_config(config) if config is not None else {}),
        **_settings(setting or []),
        **{name: value for name, value in options.items() if value is not None},
    }
    _check_settings(settings)
    budget = limited(SearchConfig(budget=settings.get("budget", Budget())), max_tokens, max_seconds).budget
    if budget != Budget():
        settings["budget"] = budget
    if "strategy" in settings:
        if table is not None:
            raise InvalidInput("the table names its strategies itself: leave strategy out of the settings")
        strategy = strategy or str(settings["strategy"])
        del settings["strategy"]
    from rstar_fast import evaluation
    from rstar_fast.evaluation.api import check_key, data_name, drawn

    if file is not None and len(data) > 1:
        raise InvalidInput(f"--file is a copy of one benchmark, and there are {len(data)}: give the files themselves as problem files")
    folders = _folders(out, data)
    loaded = [evaluation.load_problems(one, file) for one in data]
    for problems in loaded:  # all of them before hours of searching
        check_key(problems)
    asked: dict[str, Any] = {"policy": policy, "ppm": ppm, "seed": seed, "retry_failed": retry_failed, **settings}
    tables = {}
    evaluated: dict[str, Evaluation] = {}
    for name, problems, folder in zip(map(data_name, data), loaded, folders, strict=True):
        given = drawn(problems, sample, seed)
        with _Shown(len(given.problems), out) as shown:
            if sweep:
                cells = _sweep(given, name, folder, strategy, budgets, asked, shown, as_json)
                evaluated |= {f"{name}, {cell.strategy}, {cell.rollouts}": cell.evaluation for cell in cells}
            elif table is not None:
                tables[name] = _paper(given, name, folder, trajectories, orm, asked, shown, as_json)
                evaluated |= {
                    ", ".join(filter(None, (name, row.name, model))): one for row in tables[name] for model, one in row.evaluations.items()
                }
            else:
                found = evaluation.evaluate(
                    given, out=folder, name=name, strategy=strategy, sample=sample, progress=shown.begin(strategy or ""), **asked
                )
                shown.close()
                _show_evaluation(found, folder, as_json)
                evaluated[name] = found
    if len(tables) > 1:
        _side_by_side(tables, out, as_json)
    _check_unbroken(evaluated)


def compare(
    first: Annotated[Path, typer.Argument(help="Folder of an evaluation.")],
    second: Annotated[Path, typer.Argument(help="Folder of another one of the same problems.")],
    seed: Annotated[int, typer.Option(help="Of the intervals.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Compare two evaluations problem by problem: the difference with its interval, a paired test, and what changed."""
    from rstar_fast import evaluation
    from rstar_fast.evaluation.tables import comparison_tables

    found = evaluation.compare(first, second, seed=seed)
    if as_json:
        typer.echo(json.dumps(found.to_mapping()))
        return
    print_tables(comparison_tables(found))
    _say(found.notes)
    for said, ids in (("only the second has right", found.gained), ("only the first has right", found.lost)):
        more = f", and {len(ids) - _CHANGED_LISTED} more" if len(ids) > _CHANGED_LISTED else ""
        typer.echo(f"{said}: {len(ids)}{'  ' if ids else ''}{', '.join(map(one_line, ids[:_CHANGED_LISTED]))}{more}")
    left_out = {
        "only in the first": found.only_first, "only in the second": found.only_second, "whose search broke": found.broken,
    }  # fmt: skip
    if any(left_out.values()):
        typer.echo(f"left out: {', '.join(f'{count} {said}' for said, count in left_out.items() if count)}")


def _folders(out: Path, data: list[str]) -> list[Path]:
    """The folder of each evaluation: the one given, or one in it for each of several."""
    if len(data) == 1:
        return [out]
    from rstar_fast.evaluation.benchmarks import benchmark_named

    names = [benchmark_named(one) or Path(one).stem for one in data]
    if len(set(names)) < len(names):
        raise InvalidInput(f"two of {', '.join(data)} are called {next(n for n in names if names.count(n) > 1)!r}: evaluate them into folders of their own")
    return [out / name for name in names]


def _check_mode(
    sweep: bool,
    table: PublishedTable | None,
    of_sweep: Mapping[str, Any],
    of_table: Mapping[str, Any],
    strategy: str | None,
    rollouts: int | None,
) -> None:
    if sweep and table is not None:
        raise InvalidInput("--sweep and --table are two evaluations: give one of them")
    for name, value in of_sweep.items():
        if value is not None and not sweep:
            raise InvalidInput(f"{name} is of a sweep: give --sweep as well")
    for name, value in of_table.items():
        if value is not None and table is None:
            raise InvalidInput(f"{name} is of a table: give --table paper as well")
    if sweep and rollouts is not None:
        raise InvalidInput("a sweep has several --rollouts: give them as --budgets 1,4,16")
    if table is not None and (strategy is not None or rollouts is not None):
        raise InvalidInput("the table names its strategies and rollouts itself: leave --strategy and --rollouts out, or give --trajectories")


def _check_settings(settings: Mapping[str, Any]) -> None:
    if "seed" in settings:
        raise InvalidInput("the seed of an evaluation is given by --seed: leave it out of the settings")
    known = {field.name for field in dataclasses.fields(SearchConfig)}
    for name in settings:
        if name not in known:
            raise InvalidInput(f"unknown search setting {name!r}: the settings are {', '.join(sorted(known - {'seed'}))}")


def _settings(given: list[str]) -> dict[str, Any]:
    """Settings given as name=value, the values read as YAML."""
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InvalidInput(f"--set is {text!r}: give name=value, e.g. --set max_depth=8")
        try:
            found[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InvalidInput(f"--set {text!r} has no value that can be read: give a number, a name, or a mapping like {{tokens: 500}}") from None
    return found


def _numbers(name: str, text: str | None) -> dict[str, tuple[int, ...]]:
    """Numbers with commas, under the name of their argument; none where none are given."""
    if text is None:
        return {}
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise InvalidInput(f"--{name} is {text!r}: give integers >= 1 with commas, e.g. 1,4,16")
    return {name: numbers}


def _sweep(
    given: ProblemFile, data: str, out: Path, strategy: str | None, budgets: str | None, asked: Mapping[str, Any], shown: _Shown, as_json: bool
) -> tuple[Cell, ...]:
    from rstar_fast import evaluation
    from rstar_fast.evaluation.sweeping import all_tables, matches, notes_of

    chosen = {"strategies": [name.strip() for name in strategy.split(",")]} if strategy is not None else {}
    cells = evaluation.sweep(
        given, out, name=data, begun=lambda name, rollouts: shown.begin(f"{name}, {rollouts}"), **chosen, **_numbers("budgets", budgets), **asked
    )
    shown.close()
    if as_json:
        typer.echo(json.dumps([cell.to_mapping() for cell in cells]))
        return cells
    print_tables(all_tables(cells, matches(cells)))
    _say(notes_of(cells))
    typer.echo(f"page      {one_line(str(out / 'sweep.html'))}")
    return cells


def _paper(
    given: ProblemFile, data: str, out: Path, trajectories: str | None, orm: str | None, asked: Mapping[str, Any], shown: _Shown, as_json: bool
) -> tuple[Row, ...]:
    from rstar_fast import evaluation
    from rstar_fast.evaluation.paper import paper_tables

    rows = evaluation.paper_table(given, out, name=data, orm=orm, begun=shown.begin, **_numbers("trajectories", trajectories), **asked)
    shown.close()
    if as_json:
        typer.echo(json.dumps(json.loads((out / "paper.json").read_text("utf-8"))))
    else:
        print_tables(paper_tables(rows, data))
        typer.echo(f"page      {one_line(str(out / 'paper.html'))}")
    return rows


def _side_by_side(tables: Mapping[str, Sequence[Row]], out: Path, as_json: bool) -> None:
    from rstar_fast.evaluation.paper import tables_side_by_side, write_side_by_side

    page = write_side_by_side(out, tables)
    if not as_json:
        print_tables(tables_side_by_side(tables))
        typer.echo(f"page      {one_line(str(page))}")


def _show_evaluation(found: Evaluation, out: Path, as_json: bool) -> None:
    from rstar_fast.evaluation.tables import evaluation_tables

    if as_json:
        typer.echo(json.dumps(found.summary))
    else:
        print_tables(evaluation_tables(found))
        _say(found.summary["notes"])
        typer.echo(f"results   {one_line(str(out))}")


def _say(notes: Sequence[str]) -> None:
    """What the numbers above leave out."""
    if notes:
        typer.echo("\n".join(notes) + "\n")


def _check_unbroken(evaluated: Mapping[str, Evaluation]) -> None:
    """Fails, when all is shown, where no search of an evaluation came to its end: it is kept as finished, but says nothing."""
    broken = {name: one for name, one in evaluated.items() if one.accuracy is None}
    for name, one in broken.items():
        first = next(outcome.failure for outcome in one.outcomes if outcome.failure is not None)
        of_several = f" of {one_line(name)}" if len(evaluated) > 1 else ""
        said = f"no search{of_several} came to its end, the first: {one_line(first['message'])}"
        typer.echo(f"{said}; the same command with --retry-failed searches again", err=True)
    if broken:
        raise typer.Exit(1)


class _Shown:
    """The progress of the evaluation at work, on standard error; says how to go on where it is interrupted."""

    def __init__(self, problems: int, out: Path) -> None:
        self._problems, self._out = problems, out
        self._search: SearchProgress | None = None

    def __enter__(self) -> Self:
        return self

    def begin(self, label: str) -> Callable[[ProgressEvent], object]:
        """Shows another evaluation."""
        self.close()
        self._search = SearchProgress(self._problems, Console(stderr=True), label).__enter__()
        return self._search

    def close(self) -> None:
        """Ends what is shown, with its last line."""
        if self._search is not None:
            self._search.__exit__(None, None, None)
        self._search = None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        search, self._search = self._search, None
        if search is not None:
            search.__exit__(kind, error, trace)
        if kind is KeyboardInterrupt:
            typer.echo(f"interrupted: what is done is kept in {one_line(str(self._out))}; to continue: {this_command()}", err=True)
            raise typer.Exit(130) from None
