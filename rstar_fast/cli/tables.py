"""Tables of text on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from rstar_fast.cli.rendering import one_line
from rstar_fast.evaluation.tables import Table


def print_tables(tables: Sequence[Table]) -> None:
    """Prints tables to standard output: the first column to the left, the others to the right."""
    console = Console()
    for title, (header, *rows) in tables:
        table = RichTable(title=Text(one_line(title)), title_justify="left", box=None, pad_edge=False)
        for at, name in enumerate(header):
            table.add_column(Text(one_line(name)), justify="left" if at == 0 else "right")
        for row in rows:
            table.add_row(*(Text(one_line(cell)) for cell in row))
        console.print(table)
        console.print()
