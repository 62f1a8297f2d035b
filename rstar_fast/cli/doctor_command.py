"""`rstar-fast doctor`: what holds model-written code in on this machine."""

from __future__ import annotations

import json
import platform
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from rstar_fast.config import Require, SandboxConfig
from rstar_fast.sandbox import Sandbox
from rstar_fast.sandbox.layers import Confinement, Layer
from rstar_fast.sandbox.pool import REQUIRED


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False) -> None:
    """Show which layers of the sandbox are in force on this machine, and what is missing.

    The exit code is 1 where no program would be run with the usual settings.
    """
    with Sandbox(1, SandboxConfig(require=Require.NONE)) as sandbox:
        found = sandbox.confinement()
    met = [require for require in Require if not found.lacks(REQUIRED[require])]
    if as_json:
        typer.echo(json.dumps(_report(found, met)))
    else:
        _show(found, met)
    if Require.BASIC not in met:
        raise typer.Exit(1)


def _report(found: Confinement, met: list[Require]) -> dict[str, object]:
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "layers": {layer.name.lower(): found.missing.get(layer, "in force") for layer in Layer},
        "require": [require.value for require in met],
    }


def _show(found: Confinement, met: list[Require]) -> None:
    console = Console()
    console.print(f"The sandbox on {platform.platform()}, Python {platform.python_version()}:", highlight=False)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for layer in Layer:
        missing = found.missing.get(layer)
        state = "[green]in force[/]" if missing is None else f"[red]missing[/]: {missing}"
        table.add_row(layer.name.lower(), state, layer.value)
    console.print(table, highlight=False)
    if Require.FULL in met:
        console.print("All layers are in force: sandbox.require = 'full' is met.", highlight=False)
    elif Require.BASIC in met:
        console.print("sandbox.require = 'basic', the usual, is met; 'full' is not: see what is missing.", highlight=False)
    else:
        console.print("No program is run here unless sandbox.require = 'none' asks for it.", highlight=False)
