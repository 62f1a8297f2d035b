"""From outcomes to an evaluation's numbers: accuracies with their intervals, of all problems, by level and by type; what it cost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rstar_fast.evaluation.estimators import SILENT, best_at_k, majority_at_k, pass_at_k, weighted_at_k
from rstar_fast.evaluation.intervals import bootstrap
from rstar_fast.evaluation.outcomes import Outcome

ACCURACY = "accuracy"  # of the answer that the search chose
ALL = "all"  # in the place of k: all solutions of a tree
OPTIONAL_STOPPING = (
    "There is no pass@k and no choice among k: an adaptive search draws samples until their vote stands, so that how many there are "
    "depends on what they are, and estimates from them are biased."
)
_CHOICES = ("pass", "maj", "weighted", "best")


class Samples:
    """The solutions of one problem as the estimators take them: of independent samples those without an answer included."""

    def __init__(self, outcome: Outcome) -> None:
        each, silent = outcome.trajectories, outcome.silent
        self.right = [t.right for t in each] + [False] * silent
        self.classes = [t.group for t in each] + [SILENT] * silent
        self.scores = [-math.inf if t.score is None else t.score for t in each] + [-math.inf] * silent
        # As Choice.MARGINAL_VOTE weighs them; of independent samples all shares are alike.
        beliefs = [0.0 if t.score is None else t.share * min(1.0, max(0.0, (1.0 + t.score) / 2.0)) for t in each]
        self.weights = beliefs + [0.0] * silent

        self._shares = [t.share for t in each] + [0.0] * silent

    def __len__(self) -> int:
        return len(self.right)

    def one_of_tree(self) -> float:
        """The probability that one of a tree's solutions is right, each as likely as its share of all of theirs.

        A tree holds each solution once, however often the policy proposes it: drawn alike, four rare wrong ones would outweigh one
        right one that it nearly always gives.
        """
        total = math.fsum(self._shares)
        if total <= 0.0:  # of none, or the product of so many steps that nothing is left of it
            return sum(self.right) / len(self) if len(self) else 0.0
        return min(1.0, math.fsum(share for share, right in zip(self._shares, self.right, strict=True) if right) / total)

    def estimates_of_tree(self, scored: bool, seed: int) -> dict[str, float]:
        """Metric -> its value where the solutions are the distinct ones of a tree and no independent samples: of one, and of all."""
        of_all = self.estimates(max(2, len(self)), scored, seed)
        return {"pass@1": self.one_of_tree(), **{f"{name}@{ALL}": value for name, value in of_all.items()}}

    def estimates(self, k: int, scored: bool, seed: int) -> dict[str, float]:
        """Each way to choose an answer -> the probability that it is right with k of the solutions, or all where there are fewer.

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


def metrics_of(outcomes: Sequence[Outcome], seed: int = 0, adaptive: bool = False) -> dict[str, Any]:
    """The numbers of an evaluation, as plain values. Problems whose search broke are in no accuracy.

    Args:
      seed: of the bootstrap, and of the resampling where subsets are too many to count.
      adaptive: whether the search ended problems by what their solutions were (`SearchConfig.adaptive`).

    Returns:
      `metrics`: name -> value, low, high, problems. "accuracy" is that of the answers which the search chose. Of independent samples
      "pass@k", "maj@k", "weighted@k" and "best@k" are expected over subsets of k of a problem's, for k = 1, 2, 4, ... and the most that a
      problem has, the last two where a PPM scored; these have `fewer`, too: how many problems have fewer than k, of which all count.
      Adaptive samples have none of them, and `notes` says why. Of a tree "pass@1" is the chance that one of its distinct solutions is
      right, each as likely as its share (`Trajectory.share`); "pass@all", whether any of them is, is what the tree covers, and "maj@all",
      "weighted@all" and "best@all" what other choices among all of them would have given. `by_level`, `by_type`: label -> the accuracy
      and the metrics of 1 and of the most. `failures`: kind -> number of problems. `stopped`: why searches ended early -> number of
      problems. `spent`: sums over the problems; `spent_by_level`, `spent_by_type`: label -> its problems, broken ones included, and
      their sums. `notes`: sentences.
    """
    graded = [outcome for outcome in outcomes if outcome.right is not None]
    scored = any(outcome.partials_scored for outcome in outcomes)
    samples = [Samples(outcome) for outcome in graded]
    most = max(map(len, samples), default=0)
    fewer: dict[str, int] = {}
    values: dict[str, np.ndarray] = {ACCURACY: np.array([float(bool(outcome.right)) for outcome in graded])}
    biased = is_biased(outcomes, adaptive)
    if not biased and are_independent(outcomes):
        for k in counts_up_to(most):
            of_problems = [each.estimates(k, scored, seed) for each in samples]
            for name in of_problems[0]:
                values[f"{name}@{k}"] = np.array([estimates[name] for estimates in of_problems])
                fewer[f"{name}@{k}"] = sum(len(each) < k for each in samples)
    elif not biased and most:
        of_problems = [each.estimates_of_tree(scored, seed) for each in samples]
        values |= {name: np.array([estimates[name] for estimates in of_problems]) for name in of_problems[0]}
    few = {name: of_name for name, of_name in values.items() if name.rpartition("@")[2] in (ACCURACY, "1", str(most), ALL)}
    return {
        "metrics": {name: _share(of_name, seed) | ({"fewer": fewer[name]} if name in fewer else {}) for name, of_name in values.items()},
        "by_level": _by_label(graded, few, lambda outcome: outcome.level, seed),
        "by_type": _by_label(graded, few, lambda outcome: outcome.type, seed),
        "failures": dict(Counter(outcome.failure["kind"] for outcome in outcomes if outcome.failure is not None).most_common()),
        "stopped": dict(Counter(outcome.stopped for outcome in outcomes if outcome.stopped is not None).most_common()),
        "spent": spent(outcomes),
        "spent_by_level": _spent_by(outcomes, lambda outcome: outcome.level),
        "spent_by_type": _spent_by(outcomes, lambda outcome: outcome.type),
        "notes": [OPTIONAL_STOPPING] if biased else [],
    }


def are_independent(outcomes: Sequence[Outcome]) -> bool:
    """Whether the solutions are independent samples of the policy, and not those of trees."""
    return any(outcome.samples for outcome in outcomes)


def is_biased(outcomes: Sequence[Outcome], adaptive: bool) -> bool:
    """Whether estimates from a problem's samples are biased, as their number depends on what they are."""
    return adaptive and are_independent(outcomes)


def counts_up_to(most: int) -> list[int]:
    """1, 2, 4, ... below `most`, and it; without any, none."""
    return [2**power for power in range(most.bit_length()) if 2**power < most] + [most] * (most > 0)


def spent(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """What the problems cost together; the PPM's tokens are None where one problem's are not known.

    Problems are searched side by side: their seconds add up to more than the clock shows.
    """
    ppm_tokens = [outcome.ppm_tokens for outcome in outcomes if outcome.ppm_tokens is not None]
    return {
        "tokens": sum(outcome.tokens for outcome in outcomes),
        "ppm_tokens": sum(ppm_tokens) if len(ppm_tokens) == len(outcomes) else None,
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
        for name in in_order(labels)
    }


def _spent_by(outcomes: Sequence[Outcome], label: Callable[[Outcome], str]) -> dict[str, Any]:
    by_label = {name: [outcome for outcome in outcomes if label(outcome) == name] for name in in_order(map(label, outcomes))}
    return {name: {"problems": len(of_label), **spent(of_label)} for name, of_label in by_label.items()}


def in_order(labels: Iterable[str]) -> list[str]:
    """The different labels, numbers first and by size; without that of problems that have none."""
    return sorted(set(labels) - {""}, key=lambda one: (not one.isdigit(), int(one) if one.isdigit() else 0, one))
