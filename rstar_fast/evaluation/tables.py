"""Evaluations, comparisons and sweeps as tables of text, for a terminal and for a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rstar_fast.evaluation.api import Evaluation
from rstar_fast.evaluation.comparing import Comparison, Difference
from rstar_fast.evaluation.metrics import ALL

Table = tuple[str, list[list[str]]]  # a title, and rows, the first of which is the header

_SAID = {"pass": "any is right", "maj": "majority", "weighted": "PPM-weighted vote", "best": "best PPM score"}


def evaluation_tables(evaluation: Evaluation) -> list[Table]:
    """An evaluation: the choice's accuracy, what other choices among k solutions would have given, levels, types, failures, cost."""
    summary = evaluation.summary
    metrics, settings = summary["metrics"], summary["settings"]
    title = f"{settings['data']}: {settings['strategy']} with {settings['policy']}"
    accuracy = [["", "right", "95% interval", "problems"], ["accuracy", *_cells(metrics["accuracy"])]]
    found: list[Table] = [(title, accuracy)]
    ks = list(dict.fromkeys(name.partition("@")[2] for name in metrics if "@" in name))
    kinds = [kind for kind in _SAID if any(name.startswith(f"{kind}@") for name in metrics)]
    if len(ks) > 1:
        rows = [[f"{kind}@k: {_SAID[kind]}", *(share(metrics[f"{kind}@{k}"]) if f"{kind}@{k}" in metrics else "" for k in ks)] for kind in kinds]
        short = [str(metrics[f"{kinds[0]}@{k}"].get("fewer", 0)) for k in ks]
        rows += [["problems with fewer, all of which count", *short]] if set(short) != {"0"} else []
        title = "Of a tree's solutions: one drawn by its share, or all" if ALL in ks else "Of k of a problem's solutions, drawn at random"
        found.append((title, [["", *(f"k = {k}" for k in ks)], *rows]))
    for label in ("level", "type"):
        by_label, cost = summary[f"by_{label}"], summary[f"spent_by_{label}"]
        if by_label:
            columns = list(next(iter(by_label.values())))
            rows = [
                [
                    one,
                    *(share(of_label[column]) for column in columns),
                    str(of_label["accuracy"]["problems"]),
                    _a_problem(cost[one], "tokens"),
                ]
                for one, of_label in by_label.items()
            ]
            found.append((f"By {label}", [[label, *columns, "problems", "tokens a problem"], *rows]))
    if summary["failures"]:
        found.append(("Failures", [["reason", "problems"], *([kind, str(count)] for kind, count in summary["failures"].items())]))
    if summary.get("stopped"):
        found.append(("Ended early", [["reason", "problems"], *([reason, str(count)] for reason, count in summary["stopped"].items())]))
    spent, count = summary["spent"], max(1, summary["problems"]["count"])
    of_all = {**spent, "problems": count}
    rows = [[said, "-" if spent[name] is None else f"{spent[name]:,}", _a_problem(of_all, name)] for name, said in _SPENT.items()]
    found.append(("Spent", [["", "in all", "a problem"], *rows, ["wall seconds", f"{summary['wall_seconds']:,.1f}", f"{summary['wall_seconds'] / count:,.2f}"]]))
    return found


_SPENT = {"tokens": "tokens generated", "ppm_tokens": "tokens that the PPM computed", "partials_scored": "partial solutions scored", "steps_run": "steps run"}


def _a_problem(spent: Mapping[str, Any], name: str) -> str:
    """What was spent a problem, in a cell; "-" where that is not known."""
    return "-" if spent[name] is None else f"{spent[name] / spent['problems']:,.1f}"


def comparison_tables(comparison: Comparison) -> list[Table]:
    """A comparison: both measures with the difference in points, and how it was decided."""
    rows = [
        ["", "first", "second", "difference, points", "95% interval", "second better, worse", "p"],
        ["accuracy", *_difference(comparison.accuracy)],
        ["pass@1", *(["-"] * 6 if comparison.pass_at_1 is None else _difference(comparison.pass_at_1))],
    ]
    spent = [["", "first", "second"], ["tokens generated", *(f"{tokens:,}" for tokens in comparison.tokens)]]
    return [(f"{comparison.first} against {comparison.second}, {comparison.problems} problems", rows), ("Spent", spent)]


def share(metric: Mapping[str, Any]) -> str:
    """A metric in a cell."""
    return "-" if metric["value"] is None else f"{metric['value']:.1%}"


def share_with_interval(metric: Mapping[str, Any]) -> str:
    """A metric in a cell, with its interval."""
    return "-" if metric["value"] is None else f"{metric['value']:.1%} ({metric['low']:.1%} to {metric['high']:.1%})"


def points_with_interval(of: Difference) -> str:
    """A difference in a cell, in points, with its interval."""
    return f"{100 * of.difference:+.1f} ({100 * of.low:+.1f} to {100 * of.high:+.1f})"


def _cells(metric: Mapping[str, Any]) -> list[str]:
    return [share(metric), f"{metric['low']:.1%} to {metric['high']:.1%}", str(metric["problems"])]


def _difference(of: Difference) -> list[str]:
    return [
        f"{of.first:.1%}",
        f"{of.second:.1%}",
        f"{100 * of.difference:+.1f}",
        f"{100 * of.low:+.1f} to {100 * of.high:+.1f}",
        f"{of.wins}, {of.losses}",
        f"{of.p_value:.4f}" if of.p_value >= 0.0001 else "< 0.0001",
    ]
