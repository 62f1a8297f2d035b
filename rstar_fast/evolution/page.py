"""The summary page of an evolution: tables and a plot, as one HTML file, a PNG and a JSON file."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

from rstar_fast.evaluation.page import html_page, write_image
from rstar_fast.evaluation.tables import Table
from rstar_fast.evolution.summary import EvolutionSummary, RoundSummary, to_mapping
from rstar_fast.storage.atomic import write_whole

_LINES = {"greedy": "o-", "search": "s-", "control greedy": "o:", "control search": "s:"}


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
    for title, name in (("all pairs", "all"), ("pairs of steps", "steps"), ("pairs of solutions", "final")):
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
    folder = summary.folder
    write_whole(folder / "summary.json", json.dumps(to_mapping(summary), indent=1) + "\n")
    png = _plot(summary)
    if png:
        write_image(folder / "summary.png", png)
    write_whole(folder / "summary.html", html_page("Evolution", notes(summary), tables(summary), png, "accuracy by round"))
    return folder / "summary.html"


def _plot(summary: EvolutionSummary) -> bytes:
    """Accuracy by round, on all and on the frontier's problems, as a PNG; empty where nothing is measured or matplotlib is missing."""
    measured = [r for r in summary.rounds if r.measures]
    if not measured:
        return b""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return b""
    places = ["all", *(["frontier"] if summary.frontier else [])]
    figure = Figure(figsize=(5.5 * (len(places) + 1), 4), layout="constrained")
    axes = figure.subplots(1, len(places) + 1)
    for axis, place in zip(axes, places, strict=False):
        names = list(dict.fromkeys(name for r in measured for name in r.measures))
        for name in names:
            points = [(r.round, r.measures[name][place]) for r in measured if place in r.measures.get(name, {})]
            shares = [share for _, share in points]
            errors = [[s.value - s.interval[0] for s in shares], [s.interval[1] - s.value for s in shares]]
            axis.errorbar([k for k, _ in points], [s.value for s in shares], errors, fmt=_LINES.get(name, "x--"), capsize=2, label=name, lw=1)
        axis.set(title=f"held-out problems: {place}", xlabel="round", ylabel="right", ylim=(0, 1), xticks=[r.round for r in measured])
    axes[0].legend(fontsize=7)
    axis = axes[-1]
    for level in measured[0].solved:
        points = [(r.round, r.solved[level].value) for r in measured if level in r.solved]
        axis.plot(*zip(*points, strict=True), "o-", label=_level(level))
    axis.set(title="training problems solved", xlabel="round", ylim=(0, 1), xticks=[r.round for r in measured])
    axis.legend(fontsize=7)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
