"""The expected accuracies of k samples, against every subset counted out, and closed forms."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstar_fast.evaluation import estimators
from rstar_fast.evaluation.estimators import SILENT, best_at_k, majority_at_k, pass_at_k, weighted_at_k
from rstar_fast.types import InvalidInput

# Samples of a problem: (class, score in quarters); the classes 0 and 1 are right, SILENT gives no answer.
SAMPLES = st.lists(st.tuples(st.integers(SILENT, 4), st.integers(-4, 4).map(lambda quarters: quarters / 4)), min_size=1, max_size=8)


def right(samples: Sequence[tuple[int, float]]) -> list[bool]:
    return [number in (0, 1) for number, _ in samples]


def over_all_subsets(n: int, k: int, value: Callable[[tuple[int, ...]], float]) -> float:
    return float(np.mean([value(subset) for subset in itertools.combinations(range(n), k)]))


def vote(samples: Sequence[tuple[int, float]], weights: Sequence[float], subset: Sequence[int]) -> float:
    """The share of right ones among the answers with the largest weight."""
    sums: dict[int, float] = defaultdict(float)
    for at in subset:
        if samples[at][0] != SILENT:
            sums[samples[at][0]] += weights[at]
    winners = [number for number, weight in sums.items() if math.isclose(weight, max(sums.values()), abs_tol=1e-12)]
    return sum(number in (0, 1) for number in winners) / len(winners) if winners else 0.0


@given(SAMPLES, st.data())
def test_every_estimator_is_the_mean_over_all_subsets(samples: list[tuple[int, float]], data: st.DataObject) -> None:
    n = len(samples)
    k = data.draw(st.integers(1, n))
    classes, verdicts = [number for number, _ in samples], right(samples)
    scores = [-math.inf if number == SILENT else score for number, score in samples]
    weights = [(1 + score) / 2 for _, score in samples]

    def best(subset: tuple[int, ...]) -> float:
        top = [at for at in subset if scores[at] == max(scores[other] for other in subset)]
        return sum(verdicts[at] for at in top) / len(top)

    assert pass_at_k(n, sum(verdicts), k) == pytest.approx(over_all_subsets(n, k, lambda s: any(verdicts[at] for at in s)))
    assert best_at_k(verdicts, scores, k) == pytest.approx(over_all_subsets(n, k, best))
    assert majority_at_k(verdicts, classes, k) == pytest.approx(over_all_subsets(n, k, lambda s: vote(samples, [1.0] * n, s)))
    assert weighted_at_k(verdicts, classes, weights, k) == pytest.approx(over_all_subsets(n, k, lambda s: vote(samples, weights, s)))


@given(st.integers(1, 100), st.data())
def test_pass_at_k_in_closed_form(n: int, data: st.DataObject) -> None:
    """1 - prod over i = n - c + 1 .. n of (1 - k / i), as Chen et al. compute it."""
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    product = math.prod(1 - k / i for i in range(n - c + 1, n + 1)) if n - c >= k else 0.0
    assert pass_at_k(n, c, k) == pytest.approx(1 - product)
    assert pass_at_k(n, c, 1) == pytest.approx(c / n)


def test_pass_at_k_is_unbiased() -> None:
    """Over binomial draws of c right of n its mean is the probability that k independent samples are not all wrong."""
    n, k, p = 10, 4, 0.3
    mean = sum(math.comb(n, c) * p**c * (1 - p) ** (n - c) * pass_at_k(n, c, k) for c in range(n + 1))
    assert mean == pytest.approx(1 - (1 - p) ** k)


def test_all_samples_vote_as_one_does() -> None:
    classes = [0, 0, 2, 2, 3, SILENT, SILENT, SILENT]
    assert majority_at_k([number == 0 for number in classes], classes, 8) == pytest.approx(0.5)  # two to two, silence has no vote
    assert weighted_at_k([number == 0 for number in classes], classes, [1, 1, 3, 0, 0, 9, 9, 9], 8) == 0.0


def test_many_samples_are_counted_as_few_are() -> None:
    """64 samples of two answers: the right one wins with more than half, hypergeometric, and every other tie."""
    n, c, k = 64, 40, 16
    classes = [0] * c + [2] * (n - c)
    chance = [math.comb(c, i) * math.comb(n - c, k - i) / math.comb(n, k) for i in range(k + 1)]
    expected = sum(chance[k // 2 + 1 :]) + chance[k // 2] / 2
    assert majority_at_k([number == 0 for number in classes], classes, k) == pytest.approx(expected)


def test_what_is_too_much_to_count_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    classes = [0] * 170 + [2] * 130
    verdicts = [number == 0 for number in classes]
    drawn = majority_at_k(verdicts, classes, 5)
    monkeypatch.setattr(estimators, "_MOST_EXACT", 300)
    assert drawn == pytest.approx(majority_at_k(verdicts, classes, 5), abs=0.04)  # four standard errors
    weights = [1.0] * 170 + [0.0] * 130  # the right ones' weight decides, wherever there is one
    assert weighted_at_k(verdicts, classes, weights, 5) == pytest.approx(pass_at_k(300, 170, 5), abs=0.02)
    once = weighted_at_k(verdicts, classes, weights, 5, seed=1), weighted_at_k(verdicts[165:175], classes[165:175], weights[165:175], 5)
    monkeypatch.setattr(estimators, "_DRAWN_AT_ONCE", 700)  # a few subsets at a time
    again = weighted_at_k(verdicts, classes, weights, 5, seed=1), weighted_at_k(verdicts[165:175], classes[165:175], weights[165:175], 5)
    assert once == pytest.approx(again, abs=1e-12)


@pytest.mark.parametrize("k", [0, 3])
def test_a_subset_has_at_least_one_and_no_more_than_there_are(k: int) -> None:
    for estimate in (
        lambda: pass_at_k(2, 1, k),
        lambda: best_at_k([True, False], [0.0, 0.0], k),
        lambda: majority_at_k([True, False], [0, 1], k),
        lambda: weighted_at_k([True, False], [0, 1], [1.0, 1.0], k),
    ):
        with pytest.raises(InvalidInput, match=f"k is {k} of 2 samples"):
            estimate()
    with pytest.raises(InvalidInput, match="3 of 2 samples are right"):
        pass_at_k(2, 3, 1)


def test_no_estimate_passes_one() -> None:
    """Sums of doubles would by some bits: a problem all of whose solutions are right is the usual easy one."""
    for n in range(1, 65):
        scores = [at / 64 for at in range(n)]
        for k in range(1, n + 1):
            assert 1.0 - 1e-12 < best_at_k([True] * n, scores, k) <= 1.0
            assert majority_at_k([True] * n, [0] * n, k) <= 1.0
    assert majority_at_k([True] * 31 + [False] * 26, [0] * 31 + [estimators.SILENT] * 26, 32) <= 1.0
