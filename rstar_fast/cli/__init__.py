"""The command line: `rstar-fast search | extract | train-policy | train-ppm | convert-ppm | evaluate | compare | evolve | demo | doctor | bench`.

Results go to standard output, progress and errors to standard error. Exit codes: 0 done, 1 failed (one line says why), 2 a
wrong command line, 130 interrupted.
"""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from rstar_fast.cli.bench_command import bench
from rstar_fast.cli.demo_command import demo
from rstar_fast.cli.doctor_command import doctor
from rstar_fast.cli.evaluate_command import compare, evaluate
from rstar_fast.cli.evolve_command import evolve
from rstar_fast.cli.extract_command import extract
from rstar_fast.cli.rendering import one_line
from rstar_fast.cli.search_command import search
from rstar_fast.cli.train_commands import convert_ppm, train_policy, train_ppm
from rstar_fast.types import RstarError

INTERRUPTED = 130  # what shells expect of a program ended by Ctrl-C


class _Commands(TyperGroup):
    """Turns the package's errors into one line and an exit code, whichever command they come from."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except RstarError as error:
            typer.echo(f"error: {one_line(str(error))}", err=True)
            raise typer.Exit(1) from error
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    name="rstar-fast",
    cls=_Commands,
    help="rStar-Math: tree search over code-augmented reasoning steps, with a process preference model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(search)
app.command()(extract)
app.command()(train_policy)
app.command()(train_ppm)
app.command()(convert_ppm)
app.command()(evaluate)
app.command()(compare)
app.command()(evolve)
app.command()(demo)
app.command()(doctor)
app.add_typer(bench, name="bench")


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Show the version and exit.")) -> None:
    if version:
        from rstar_fast import __version__

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """The console entry `rstar-fast`."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a terminal of another encoding must not end a search
    app()
