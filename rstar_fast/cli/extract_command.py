"""`rstar-fast extract`: run folders into a data set for training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from rstar_fast.cli.config_file import load_config
from rstar_fast.cli.rendering import one_line
from rstar_fast.config import DataFormat, Difficulty, ExtractionConfig
from rstar_fast.storage import read_problems
from rstar_fast.types import InvalidInput

if TYPE_CHECKING:
    from rstar_fast.extraction import ExtractionSummary


def extract(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or .jsonl files of microsoft/rStar's trees.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the data set; a data set found there is replaced.")],
    config: Annotated[Path | None, typer.Option(help="YAML file of extraction settings; options override it.")] = None,
    answers: Annotated[
        Path | None, typer.Option(help="File of problems with answers, for trees searched without a key.")
    ] = None,
    reference: Annotated[bool, typer.Option("--reference", help="Extract as microsoft/rStar's scripts do.")] = False,
    data_format: Annotated[DataFormat | None, typer.Option("--format", help="How the data set is written.")] = None,
    trajectories: Annotated[int | None, typer.Option(help="Most solutions per problem in the SFT set.")] = None,
    positives: Annotated[int | None, typer.Option(help="Most good steps of a prefix.")] = None,
    negatives: Annotated[int | None, typer.Option(help="Most bad steps of a prefix.")] = None,
    final_step: Annotated[
        bool | None, typer.Option("--final-step/--no-final-step", help="Pair whole trajectories too.")
    ] = None,
    min_margin: Annotated[float | None, typer.Option(help="Least difference between the Q of a pair.")] = None,
    min_edit_distance: Annotated[int | None, typer.Option(help="Least edit distance between the texts of a pair.")] = None,
    easy: Annotated[float | None, typer.Option(help="Share of easy problems that is kept, 0 to 1.")] = None,
    medium: Annotated[float | None, typer.Option(help="Share of medium problems.")] = None,
    hard: Annotated[float | None, typer.Option(help="Share of hard problems.")] = None,
    seed: Annotated[int | None, typer.Option(help="Draws the shares.")] = None,
) -> None:
    """Extract SFT solutions and preference pairs from the trees of one run or more.

    A problem that occurs in several runs has one tree of all.
    """
    options: dict[str, Any] = {
        "format": data_format,
        "trajectories": trajectories,
        "positives": positives,
        "negatives": negatives,
    }
    options |= {"final_step": final_step, "min_margin": min_margin, "min_edit_distance": min_edit_distance, "seed": seed}
    settings = load_config(config) if config is not None else {}
    settings |= {name: value for name, value in options.items() if value is not None}
    shares = {name: share for name, share in (("easy", easy), ("medium", medium), ("hard", hard)) if share is not None}
    if shares:
        mix = settings.get("mix", {})
        if not isinstance(mix, dict):
            raise InvalidInput(f"{config} has the mix {mix!r}: give shares of easy, medium and hard problems")
        settings["mix"] = {**mix, **shares}
    chosen = ExtractionConfig.reference(**settings) if reference else ExtractionConfig.from_mapping(settings)
    key = read_problems(answers).answers if answers is not None else None
    import rstar_fast  # Arrow's computing takes a moment to load: not for other commands

    show(rstar_fast.extract(runs, out, answers=key, config=chosen), Console())


def show(summary: ExtractionSummary, console: Console) -> None:
    """Prints what an extraction found."""
    table = Table(box=None, pad_edge=False)
    for heading in ("", "problems", "kept"):
        table.add_column(heading, justify="right" if heading else "left")
    for difficulty in Difficulty:
        table.add_row(difficulty.value, str(summary.problems[difficulty]), str(summary.kept[difficulty]))
    if summary.failed:
        table.add_row("failed", str(summary.failed), "0")
    console.print(table, highlight=False)
    by_depth = [f"depth {depth}: {count}" for depth, count in summary.pairs_by_depth.items()]
    by_depth += [f"whole trajectories: {summary.final_pairs}"] if summary.final_pairs else []
    lines = [
        f"trajectories  {summary.trajectories}, {summary.correct} of them right",
        f"solutions     {summary.solutions}",
        f"pairs         {summary.pairs} in {summary.groups} groups{' (' + ', '.join(by_depth) + ')' if by_depth else ''}",
        f"data set      {one_line(str(summary.folder))}",
    ]
    typer.echo("\n".join(lines))
