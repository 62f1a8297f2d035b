"""From outcomes to an evaluation's numbers: accuracies with their intervals, of all problems, by level and by type; what it cost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rstar_fast.evaluation.estimators import SILENT, best_at_k, majority_at_k, pass_at_k, weighted_at_k
from rstar_fast.evaluation.intervals import bootstrap
from rstar_fast.evaluation.outcomes import Outcome

ACCURACY = "accuracy"  # of the answer that the search chose
_CHOICES = ("pass", "maj", "weighted", "best")


class Samples:
    """The samples of one problem as the estimators take them: those without an answer included."""

    def __init__(self, outcome: Outcome) -> None:
        each, silent = outcome.trajectories, outcome.silent
        self.right = [t.right for t in each] + [False] * silent
        self.classes = [t.group for t in each] + [SILENT] * silent
        self.scores = [-math.inf if t.score is None else t.score for t in each] + [-math.inf] * silent
        # As Choice.MARGINAL_VOTE weighs them; of independent samples all shares are alike.
        beliefs = [0.0 if t.score is None else t.share * min(1.0, max(0.0, (1.0 + t.score) / 2.0)) for t in each]
        self.weights = beliefs + [0.0] * silent

    def __len__(self) -> int:
        return len(self.right)

    def estimates(self, k: int, scored: bool, seed: int) -> dict[str, float]:
        """Each way to choose an answer -> the probability that it is right with k of the samples, or all where there are fewer.

        One sample leaves no choice: of k = 1 there is "pass" alone. Without a PPM (`scored`) there is no "weighted" and no "best".
        """
        names = _CHOICES[:1] if k == 1 else _CHOICES if scored else _CHOICES[:2]
        if not len(self):
            return dict.fromkeys(names, 0.0)
        k = min(k, len(self))
        estimates = {
            "pass": lambda: pass_at_k(len(self), sum(self.right), k),
            "maj": lambda: majority_at_k(self.right, self.classes, k, seed),
            "weighted": lambda: weighted_at_k(self.right, self.classes, self.weights, k, seed),
            "best": lambda: best_at_k(self.right, self.scores, k),
        }
        return {name: estimates[name]() for name in names}


def metrics_of(outcomes: Sequence[Outcome], seed: int = 0) -> dict[str, Any]:
    """The numbers of an evaluation, as plain values. Problems whose search broke are in no accuracy.

    Args:
      seed: of the bootstrap, and of the resampling where subsets are too many to count.

    Returns:
      `metrics`: name -> value, low, high, problems. "accuracy" is that of the answers which the search chose; "pass@k", "maj@k",
      "weighted@k" and "best@k" are expected over subsets of k of a problem's solutions, for k = 1, 2, 4, ... and the most that a
      problem has, the last two where a PPM scored; these have `fewer`, too: how many problems have fewer than k, of which all count. Of
      a tree the solutions are its distinct ones. `by_level`, `by_type`: label -> the accuracy and the metrics of 1 and of the most.
      `failures`: kind -> number of problems. `stopped`: why searches ended early -> number of problems. `spent`: sums over the problems.
    """
    graded = [outcome for outcome in outcomes if outcome.right is not None]
    scored = any(outcome.partials_scored for outcome in outcomes)
    samples = [Samples(outcome) for outcome in graded]
    most = max(map(len, samples), default=0)
    fewer: dict[str, int] = {}
    values: dict[str, np.ndarray] = {ACCURACY: np.array([float(bool(outcome.right)) for outcome in graded])}
    for k in counts_up_to(most):
        of_problems = [each.estimates(k, scored, seed) for each in samples]
        for name in of_problems[0]:
            values[f"{name}@{k}"] = np.array([estimates[name] for estimates in of_problems])
            fewer[f"{name}@{k}"] = sum(len(each) < k for each in samples)
    few = {name: of_name for name, of_name in values.items() if name.rpartition("@")[2] in (ACCURACY, "1", str(most))}
    return {
        "metrics": {name: _share(of_name, seed) | ({"fewer": fewer[name]} if name in fewer else {}) for name, of_name in values.items()},
        "by_level": _by_label(graded, few, lambda outcome: outcome.level, seed),
        "by_type": _by_label(graded, few, lambda outcome: outcome.type, seed),
        "failures": dict(Counter(outcome.failure["kind"] for outcome in outcomes if outcome.failure is not None).most_common()),
        "stopped": dict(Counter(outcome.stopped for outcome in outcomes if outcome.stopped is not None).most_common()),
        "spent": spent(outcomes),
    }


def counts_up_to(most: int) -> list[int]:
    """1, 2, 4, ... below `most`, and it; without any, none."""
    return [2**power for power in range(most.bit_length()) if 2**power < most] + [most] * (most > 0)


def spent(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """What the problems cost together. Problems are searched side by side: their seconds add up to more than the clock shows."""
    return {
        "tokens": sum(outcome.tokens for outcome in outcomes),
        "ppm_tokens": sum(outcome.ppm_tokens for outcome in outcomes),
        "partials_scored": sum(outcome.partials_scored for outcome in outcomes),
        "steps_run": sum(outcome.steps_run for outcome in outcomes),
        "problem_seconds": round(math.fsum(outcome.seconds for outcome in outcomes), 3),
    }


def _share(values: np.ndarray, seed: int) -> dict[str, Any]:
    low, high = bootstrap(values, seed)
    return {"value": float(values.mean()) if len(values) else None, "low": low, "high": high, "problems": len(values)}


def _by_label(
    graded: Sequence[Outcome], values: Mapping[str, np.ndarray], label: Callable[[Outcome], str], seed: int
) -> dict[str, Any]:
    labels = [label(outcome) for outcome in graded]
    return {
        name: {metric: _share(of_metric[[one == name for one in labels]], seed) for metric, of_metric in values.items()}
        for name in sorted(set(labels) - {""}, key=lambda one: (not one.isdigit(), int(one) if one.isdigit() else 0, one))
    }
