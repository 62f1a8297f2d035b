"""Tables and a plot as one HTML file, with a PNG and a JSON file beside it."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rstar_fast.evaluation.tables import Table
from rstar_fast.storage.atomic import write_whole

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; color: #222; background: #fff }
table { border-collapse: collapse; margin: 1em 0 2em } th, td { padding: .3em .8em; border-bottom: 1px solid #ddd; text-align: right }
th:first-child, td:first-child { text-align: left } th { font-weight: 600 } img { max-width: 100% }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818 } th, td { border-color: #444 } img { background: #fff } }
"""
_WITHOUT_PLOT = "There is no plot: matplotlib is not installed, pip install 'rstar_fast[train]' brings it."


def html_page(title: str, notes: Sequence[str], tables: Sequence[Table], png: bytes, alt: str) -> str:
    """One self-contained HTML file; without a plot where `png` is empty."""
    name = html.escape(title)
    parts = [f"<!doctype html><meta charset=utf-8><title>{name}</title><style>{_STYLE}</style><h1>{name}</h1>"]
    parts += [f"<p>{html.escape(sentence)}</p>" for sentence in notes]
    if png:
        parts.append(f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">')
    for heading, (header, *rows) in tables:
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        parts.append(f"<h2>{html.escape(heading)}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
    return "\n".join(parts) + "\n"


def write_page(
    folder: Path, name: str, values: Mapping[str, Any], title: str, notes: Sequence[str], tables: Sequence[Table], png: bytes | None
) -> Path:
    """Writes name.json, name.html and, where there is a plot, name.png into a folder, each whole; the path of the page.

    Args:
      values: of the JSON file.
      png: the plot; empty without, None where there is none because matplotlib is missing, which the page says.

    Raises:
      OSError: they cannot be written.
    """
    write_whole(folder / f"{name}.json", json.dumps(values, indent=1) + "\n")
    if png:
        write_image(folder / f"{name}.png", png)
    said = [*notes, _WITHOUT_PLOT] if png is None else list(notes)
    write_whole(folder / f"{name}.html", html_page(title, said, tables, png or b"", title))
    return folder / f"{name}.html"


def write_image(path: Path, png: bytes) -> None:
    """Writes an image so that the old one or the new one is there, whole."""
    partial = path.with_name(f"{path.name}.tmp")
    partial.write_bytes(png)
    partial.replace(path)


def errorbars(lines: Mapping[str, Sequence[tuple[float, Mapping[str, Any]]]], title: str, along: str) -> bytes | None:
    """Lines of metrics with their intervals over a logarithmic axis, as a PNG.

    Args:
      lines: name -> points: a number > 0, and a metric with value, low and high.
      along: what the numbers are.

    Returns:
      The image; empty without a point, None where matplotlib is missing.
    """
    if not lines:
        return b""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axis = figure.subplots()
    for marker, (name, points) in zip("osD^vP*X" * len(lines), lines.items(), strict=False):
        at = [number for number, _ in points]
        values = [metric["value"] for _, metric in points]
        # A percentile interval may exclude its mean: an error bar has no negative length.
        errors = [[max(0.0, m["value"] - m["low"]) for _, m in points], [max(0.0, m["high"] - m["value"]) for _, m in points]]
        axis.errorbar(at, values, errors, fmt=f"{marker}-", capsize=2, label=name, lw=1)
    axis.set(title=title, xlabel=along, ylabel="right", xscale="log")
    figure.legend(loc="outside right upper", fontsize=8)  # beside the lines: inside it would hide some
    axis.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
