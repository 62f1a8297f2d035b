"""The summary page of an evolution: tables and a plot, as one HTML file, a PNG and a JSON file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rstar_fast.evaluation.page import write_page as write_files
from rstar_fast.evaluation.tables import Table
from rstar_fast.evolution.summary import EvolutionSummary, RoundSummary, to_mapping

_LINES = {"greedy": "o-", "search": "s-", "control greedy": "o:", "control search": "s:"}
_PAIRS = (("all pairs", "all"), ("pairs of steps", "steps"), ("pairs of solutions", "final"))


def tables(summary: EvolutionSummary, by_level: bool = True) -> list[Table]:
    """What the page and, without the tables of single levels, the terminal show; a measure that is not taken yet is "-"."""
    rounds = summary.rounds
    found: list[Table] = []
    levels = list(rounds[0].solved) if rounds else []
    header = ["", *(f"round {r.round}" for r in rounds)]
    solved = [[_level(level), *(str(r.solved.get(level, "-")) for r in rounds)] for level in levels]
    kinds = [[f"{kind} problems", *(str(r.difficulty.get(kind, "-")) for r in rounds)] for kind in ("easy", "medium", "hard")]
    found.append(("Training problems solved", [header, *solved, *kinds]))
    names = list(dict.fromkeys(name for r in rounds for name in r.measures))
    places = list(dict.fromkeys(place for r in rounds for of in r.measures.values() for place in of))
    places = places if by_level else [place for place in places if place in ("all", "frontier")]
    for place in sorted(places, key=lambda place: (place != "all", place != "frontier", place)):
        rows = [[name, *(str(r.measures.get(name, {}).get(place, "-")) for r in rounds)] for name in names]
        title = {"all": "All held-out problems", "frontier": f"Frontier: level {', '.join(summary.frontier)}"}.get(place, f"Held-out problems of level {place}")
        found.append((title, [header, *rows]))
    gains = [
        [f"{what}, {'all' if place == 'all' else 'frontier'}", *(str(r.over_control.get(what, {}).get(place, "-")) for r in rounds)]
        for what in ("greedy", "search")
        for place in ("all", "frontier")
    ]
    if any(r.over_control for r in rounds):
        found.append(("Over the control of equal compute, points", [header, *gains]))
    if summary.over_first:
        rows = [[f"{what}, {place}", str(gain)] for what, by in summary.over_first.items() for place, gain in by.items()]
        found.append(("Last round over the first, points", [["", "gain"], *rows]))
    found.append(("PPM on pairs of held-out problems", [header, *_ppm_rows(rounds)]))
    spent = [["tokens generated", *(f"{r.tokens:,}" for r in rounds)], ["hours", *(f"{r.hours:.2f}" for r in rounds)]]
    found.append(("Spent", [header, *spent]))
    return found


def notes(summary: EvolutionSummary) -> list[str]:
    """What the words in the tables mean."""
    samples = next((name.removeprefix("pass@") for r in summary.rounds for name in r.measures if name.startswith("pass@")), "n")
    frontier = ", ".join(summary.frontier) or "none so far"
    return [
        "Shares stand with their 95% intervals (Wilson); gains in points with those of a paired bootstrap, or, where few problems differ, with "
        "their number. Problems whose search broke are in no share.",
        f"greedy: the policy alone, pass@1 without chance. majority, ppm, logprob: the answer chosen among {samples} samples by their vote, by "
        f"the PPM's score, by their mean log-probability; pass@{samples}: whether any of them is right. search: the tree search with the PPM.",
        f"Frontier: the levels where round 1 has pass@{samples} between 30% and 70%: {frontier}. Easy problems: all trajectories of the training "
        "search are right; hard: none is.",
        "Control: the policy of the round before, trained for as many updates as the round's policy on the data of the round before; it searches "
        "with the PPM of the round before (in round 1 with that of round 1).",
    ]


def _level(level: str) -> str:
    return "all" if level == "all" else f"level {level}"


def _ppm_rows(rounds: Sequence[RoundSummary]) -> list[list[str]]:
    rows = []
    for title, name in _PAIRS:
        cells = []
        for r in rounds:
            share = (r.ppm or {}).get("pairs", {}).get(name)
            cells.append("-" if share is None else f"{share['accuracy']:.1%} ({share['low']:.1%} to {share['high']:.1%}), {share['pairs']} pairs")
        rows.append([title, *cells])
    errors = [(r.ppm or {}).get("calibration", {}).get("error") for r in rounds]
    rows.append(["calibration error", *("-" if error is None else f"{error:.3f}" for error in errors)])
    return rows


def write_page(summary: EvolutionSummary) -> Path:
    """Writes summary.json, summary.png and summary.html into the evolution's folder; the path of the last.

    Raises:
      OSError: they cannot be written.
    """
    return write_files(summary.folder, "summary", to_mapping(summary), "Evolution", notes(summary), tables(summary), _plot(summary))


def _plot(summary: EvolutionSummary) -> bytes | None:
    """What the tables show, by round, as a PNG; empty where nothing is measured, None where matplotlib is missing."""
    measured = [r for r in summary.rounds if r.measures]
    if not measured:
        return b""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    places = ["all", *(["frontier"] if summary.frontier else [])]
    figure = Figure(figsize=(16.5, 8), layout="constrained")
    axes = list(figure.subplots(2, 3).flat)
    for axis in axes[len(places) + 3 :]:
        axis.remove()
    for axis, place in zip(axes, places, strict=False):
        for name in dict.fromkeys(name for r in measured for name in r.measures):
            points = [(r.round, r.measures[name][place]) for r in measured if place in r.measures.get(name, {})]
            _errorbars(axis, [(k, share.value, *share.interval) for k, share in points], name, _LINES.get(name, "x--"))
        axis.set(title=f"held-out problems: {place}", ylabel="right", ylim=(0, 1))
    solved, ppm, spent = axes[len(places) : len(places) + 3]
    for level in measured[0].solved:
        points = [(r.round, r.solved[level].value) for r in measured if level in r.solved]
        solved.plot(*zip(*points, strict=True), "o-", label=_level(level))
    solved.set(title="training problems solved", ylim=(0, 1))
    for title, name in _PAIRS:
        pairs = [(r.round, (r.ppm or {}).get("pairs", {}).get(name)) for r in measured]
        _errorbars(ppm, [(k, share["accuracy"], share["low"], share["high"]) for k, share in pairs if share is not None], title, "o-")
    ppm.set(title="PPM on pairs of held-out problems", ylabel="ordered right", ylim=(0, 1))
    numbers = [r.round for r in measured]
    (tokens,) = spent.plot(numbers, [r.tokens for r in measured], "o-", label="tokens generated")
    (hours,) = spent.twinx().plot(numbers, [r.hours for r in measured], "s--", color="C1", label="hours (right)")
    spent.set(title="spent", ylim=(0, None))
    hours.axes.set(ylim=(0, None))
    for axis in axes[: len(places) + 3]:
        axis.set(xlabel="round", xticks=numbers)
        if handles := [tokens, hours] if axis is spent else axis.get_legend_handles_labels()[0]:
            axis.legend(handles=handles, fontsize=7)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def _errorbars(axis: Any, points: Sequence[tuple[int, float, float, float]], label: str, line: str) -> None:
    """A line of shares by round with their intervals: (round, share, low, high)."""
    if points:
        at, value, low, high = zip(*points, strict=True)
        below, above = ([abs(v - end) for v, end in zip(value, ends, strict=True)] for ends in (low, high))
        axis.errorbar(at, value, [below, above], fmt=line, capsize=2, label=label, lw=1)
