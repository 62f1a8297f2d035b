"""`rstar-fast evolve`: the rounds of search and training."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from rstar_fast.cli.config_file import load_config
from rstar_fast.cli.progress import SearchProgress, duration
from rstar_fast.cli.rendering import one_line, this_command
from rstar_fast.cli.tables import print_tables
from rstar_fast.cli.train_commands import ProgressLine
from rstar_fast.types import InvalidInput

_WIDE = 120  # columns of a terminal that has room for what a stage does


def evolve(
    config: Annotated[Path | None, typer.Argument(help="YAML file of the evolution; see EvolutionConfig.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Its folder; an evolution found there goes on.")] = None,
    nano: Annotated[bool, typer.Option("--nano", help="The evolution of nano, on this CPU.")] = False,
    problems: Annotated[
        str | None, typer.Option(help="With --nano: problems that a round searches: one number, or one for each, as 700,1400,2100,2800.")
    ] = None,
    heldout: Annotated[int | None, typer.Option(help="With --nano: problems to measure on.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of all that is drawn.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the plan, with what it is estimated to take.")] = False,
) -> None:
    """Let policy and PPM get better, round after round, on what their own search finds.

    It can be interrupted or killed at any time; the same command goes on.
    """
    if nano == (config is not None):
        raise InvalidInput("give the YAML file of an evolution, or --nano for that of nano")
    if out is None and not dry_run:
        raise InvalidInput("an evolution needs a folder: give --out FOLDER")
    if not nano and (problems is not None or heldout is not None):
        raise InvalidInput("--problems and --heldout are numbers for --nano: a YAML file names files of problems")
    from rstar_fast import evolution

    with contextlib.ExitStack() as stack:
        given = {"problems": counts(problems), "heldout": heldout, "seed": seed}
        settings = _settings(config, None if dry_run else out, given, stack)
        if dry_run:
            _show_plan(evolution.plan(settings))
            return
        assert out is not None
        shown = stack.enter_context(_Shown())
        try:
            summary = evolution.evolve(settings, out, progress=shown.progress, done=shown.done)
        except KeyboardInterrupt:
            shown.close()
            typer.echo(f"interrupted: what is done is kept in {one_line(str(out))}; to go on: {this_command()}", err=True)
            raise typer.Exit(130) from None
    show_summary(summary)
    typer.echo(f"page      {one_line(str(out / 'summary.html'))}")


def counts(problems: str | None) -> int | list[int] | None:
    """Numbers of problems from an option: one, or one for each round.

    Raises:
      InvalidInput: it is something else.
    """
    if problems is None:
        return None
    try:
        numbers = [int(count) for count in problems.split(",")]
    except ValueError:
        raise InvalidInput(f"--problems is {problems!r}: give a number, or one for each round, as 700,1400,2100,2800") from None
    return numbers if len(numbers) > 1 else numbers[0]


def _settings(config: Path | None, out: Path | None, options: dict[str, Any], stack: contextlib.ExitStack) -> Any:
    from rstar_fast.evolution import EvolutionConfig
    from rstar_fast.evolution.nano import nano_evolution

    given = {name: value for name, value in options.items() if value is not None}
    if config is None:
        if out is None:
            import tempfile

            out = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        return nano_evolution(out, **given)
    return EvolutionConfig.from_mapping({**load_config(config), **given})


class _Shown:
    """Tells on standard error what is done: a line for each stage, and the progress of the one at work."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._stage: Any = None
        self._search: SearchProgress | None = None
        self._training: ProgressLine | None = None

    def __enter__(self) -> _Shown:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends what is shown of the stage at work."""
        if self._search is not None:
            self._search.__exit__(KeyboardInterrupt, None, None)
        self._search = self._training = None

    def progress(self, stage: Any, event: Any) -> None:
        if stage is not self._stage:
            self.close()
            self._stage = stage
        if isinstance(event, tuple):
            if self._training is None:
                self._training = ProgressLine()
            self._training(*event)
            return
        if self._search is None:
            self._search = SearchProgress(stage.problems, self._console, f"round {stage.round}, {stage.name}")
            self._search.__enter__()
        self._search(event)

    def done(self, stage: Any, record: Any, before: bool) -> None:
        self.close()
        notes = [f"{record[name]:,} {said}" for name, said in _SAID.items() if record.get(name) is not None and (record[name] or name != "failed")]
        when = "done before" if before else duration(record.get("seconds", 0.0))
        typer.echo(f"round {stage.round}  {stage.says}: {', '.join([*notes, when])}", err=True)


_SAID = {"solved": "solved", "solutions": "solutions", "pairs": "pairs", "updates": "updates", "failed": "could not be searched"}


def _show_plan(plan: Any) -> None:
    console, table = Console(), Table(box=None, pad_edge=False)
    for name in ("round", "stage"):
        table.add_column(name, no_wrap=True)
    for name in ("tokens", "trained on", "steps run", "disk", "states"):
        table.add_column(name, justify="right", no_wrap=True)
    is_wide = console.width >= _WIDE  # elsewhere the stages' names must do
    if is_wide:
        table.add_column("what")
    for stage in plan.stages:
        table.add_row(str(stage.round), stage.name, *_numbers(stage), *([stage.says] if is_wide else []))
    table.add_row("", "all", *_numbers(plan))
    console.print(table)
    typer.echo("estimated from usual lengths; states go when a training is done, so that of all the most counts")


def _numbers(planned: Any) -> list[str]:
    bytes_ = [f"{_short(number)}B" if number else "-" for number in (planned.disk, planned.states)]
    return [_short(planned.tokens), _short(planned.trained), _short(planned.steps), *bytes_]


def _short(number: int) -> str:
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.1f}{unit}"
    return str(number) if number else "-"


def show_summary(summary: Any) -> None:
    """The tables of the summary page, on the terminal, those of single levels left out."""
    from rstar_fast.evolution.page import tables

    print_tables(tables(summary, by_level=False))
