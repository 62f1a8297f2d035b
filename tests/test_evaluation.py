"""Intervals and verdicts of evaluations, against closed forms and brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstar_fast.evaluation import bootstrap, correctness, paired_difference, sign_test, wilson
from rstar_fast.types import Failure, FailureKind, InvalidInput, Problem, SearchResult


@given(st.integers(0, 300), st.integers(0, 300))
def test_wilson_solves_its_equation(successes: int, failures: int) -> None:
    """Both ends are where the score test just rejects: |share - p| = z sqrt(p (1 - p) / n)."""
    total = successes + failures
    low, high = wilson(successes, total)
    if total == 0:
        assert (low, high) == (0.0, 1.0)
        return
    share = successes / total
    assert 0.0 <= low <= share <= high <= 1.0
    for bound in (low, high):
        if 1e-9 < bound < 1 - 1e-9 and abs(bound - share) > 1e-9:
            assert abs(share - bound) == pytest.approx(1.959963984540054 * math.sqrt(bound * (1 - bound) / total), rel=1e-6)
    mirrored = wilson(failures, total)
    assert low == pytest.approx(1 - mirrored[1], abs=1e-12)


@pytest.mark.parametrize(("successes", "total"), [(-1, 3), (4, 3)])
def test_wilson_refuses_what_is_no_share(successes: int, total: int) -> None:
    with pytest.raises(InvalidInput, match="between 0 and it"):
        wilson(successes, total)


def test_the_paired_bootstrap_agrees_with_every_resample_of_a_small_sample() -> None:
    first = [True, False, False, True, False]
    second = [True, True, True, False, True]
    gains = np.array(second, float) - np.array(first, float)
    means = [np.mean(gains[list(draw)]) for draw in itertools.product(range(5), repeat=5)]
    difference, low, high = paired_difference(first, second)
    assert difference == pytest.approx(gains.mean())
    assert low == pytest.approx(np.quantile(means, 0.025), abs=0.2 + 1e-9)  # a resample's mean moves in steps of 0.2
    assert high == pytest.approx(np.quantile(means, 0.975), abs=0.2 + 1e-9)
    assert low < difference < high


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60), st.integers(0, 5))
def test_the_paired_difference_turns_its_sign_with_its_arguments(pairs: list[tuple[bool, bool]], seed: int) -> None:
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    difference, low, high = paired_difference(first, second, seed)
    assert low - 1e-12 <= difference <= high + 1e-12 or abs(difference) > 0.9  # near its end the percentile may lie inside
    assert -1.0 <= low <= high <= 1.0
    assert paired_difference(second, first, seed)[0] == pytest.approx(-difference)
    assert paired_difference(first, second, seed) == (difference, low, high)
    if first == second:
        assert difference == 0.0 and low == -high and high == pytest.approx(wilson(0, len(pairs))[1])


def score_statistic(gained: int, total: int, difference: float) -> float:
    """Tango's z of a difference, its nuisance parameter the likeliest by bisection of the likelihood's slope, not by formula.

    q of the problems are lost, q + difference are gained, the others are 1 - 2 q - difference; none was lost.
    """

    def slope(q: float) -> float:
        return (gained / (q + difference) if gained else 0.0) - 2 * (total - gained) / (1 - 2 * q - difference)

    low, high = max(0.0, -difference), (1 - difference) / 2
    least, most = low + 1e-15, high - 1e-15
    for _ in range(200):
        q = (least + most) / 2
        least, most = (q, most) if slope(q) > 0 else (least, q)
    variance = total * (2 * least + difference * (1 - difference))
    return (gained - total * difference) / math.sqrt(variance)


@pytest.mark.parametrize("total", [1, 3, 10, 40, 500])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_where_all_differ_alike_the_ends_are_where_tangos_test_just_rejects(total: int, share: float) -> None:
    gained = round(share * total)
    difference, low, high = paired_difference([0.0] * total, [gained / total] * total)
    assert difference == gained / total and -1.0 < low < high <= 1.0
    z = 1.959963984540054
    assert score_statistic(gained, total, low) == pytest.approx(z, rel=1e-4)
    assert gained == total or score_statistic(gained, total, high) == pytest.approx(-z, rel=1e-4)
    assert paired_difference([gained / total] * total, [0.0] * total) == (-difference, -high, -low)


def test_three_verdicts_that_agree_are_no_certainty() -> None:
    z2 = 1.959963984540054**2
    assert paired_difference([True, False, True], [True, False, True]) == pytest.approx((0.0, -z2 / (3 + z2), z2 / (3 + z2)))
    assert paired_difference([1 / 3, 2 / 3], [2 / 3, 1.0])[1] < 0.2  # 1/3 each but for rounding
    assert paired_difference([False] * 3, [True] * 3) == pytest.approx((1.0, (3 - z2) / (3 + z2), 1.0))


@pytest.mark.parametrize(("first", "second"), [([], []), ([True], [True, False])])
def test_the_paired_difference_needs_pairs(first: list[bool], second: list[bool]) -> None:
    with pytest.raises(InvalidInput, match="same problems"):
        paired_difference(first, second)


def test_a_failure_of_the_machinery_is_neither_right_nor_wrong() -> None:
    problem = Problem("How many?")
    results = [
        SearchResult(problem, answer="3"),
        SearchResult(problem, answer="4"),
        SearchResult(problem, failure=Failure(FailureKind.NO_ANSWER, "none")),
        SearchResult(problem, failure=Failure(FailureKind.POLICY, "gone")),
    ]
    assert correctness(["3.0", "3", "3", "3"], results) == [True, False, False, None]


@given(st.lists(st.integers(0, 4).map(lambda quarters: quarters / 4), min_size=1, max_size=5))
def test_the_bootstrap_agrees_with_every_resample_of_a_small_sample(values: list[float]) -> None:
    low, high = bootstrap(values)
    if len(set(values)) == 1:  # not certainty
        right = sum(values)
        assert (low, high) == (wilson(math.floor(right), len(values))[0], wilson(math.ceil(right), len(values))[1])
        assert low < values[0] < high or values[0] in (low, high) and low < high
        return
    means = sorted(sum(draw) / len(draw) for draw in itertools.product(values, repeat=len(values)))
    slack = 0.006  # four standard errors of 10,000 resamples
    for bound, part in ((low, 0.025), (high, 0.975)):
        least, most = np.quantile(means, part - slack, method="lower"), np.quantile(means, part + slack, method="higher")
        assert least - 1e-9 <= bound <= most + 1e-9
    assert bootstrap(values) == (low, high)


def test_the_bootstrap_approaches_the_normal_interval() -> None:
    values = np.random.default_rng(5).random(4000)
    half = 1.959963984540054 * values.std() / math.sqrt(len(values))
    assert bootstrap(values) == pytest.approx((values.mean() - half, values.mean() + half), abs=half / 10)


def test_the_bootstrap_of_nothing_and_of_what_is_no_share() -> None:
    assert bootstrap([]) == (0.0, 1.0)
    for value in (1.5, -0.1, float("nan")):
        with pytest.raises(InvalidInput, match="outside 0 to 1"):
            bootstrap([0.5, value])


@given(st.integers(0, 25), st.integers(0, 25))
def test_the_sign_test_counts_the_outcomes_that_are_as_extreme(wins: int, losses: int) -> None:
    n = wins + losses
    extreme = sum(math.comb(n, i) for i in range(n + 1) if abs(2 * i - n) >= abs(wins - losses))
    assert sign_test(wins, losses) == pytest.approx(extreme / 2**n)
    assert sign_test(losses, wins) == sign_test(wins, losses)


def test_the_sign_test_of_ten_to_two_and_of_no_counts() -> None:
    assert sign_test(10, 2) == pytest.approx(2 * (1 + 12 + 66) / 4096)
    with pytest.raises(InvalidInput, match="counts >= 0"):
        sign_test(-1, 2)
