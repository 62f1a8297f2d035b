"""How sure a number from a sample of problems is: intervals, and paired comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rstar_fast.types import InvalidInput

_Z = 1.959963984540054  # the standard normal's 97.5% quantile
_RESAMPLES = 10_000
_DRAWN_AT_ONCE = 1 << 21  # numbers in memory
_SAME = 1e-9  # differences of shares that differ by less do so by rounding alone


def wilson(successes: int, total: int) -> tuple[float, float]:
    """The 95% interval of a proportion (Wilson 1927, "Probable inference, the law of succession, and statistical inference").

    Unlike the normal approximation it stays in [0, 1] and holds for few samples and proportions near 0 and 1.

    Args:
      successes: 0 to total.
      total: >= 0; without samples nothing is known, and the interval is (0, 1).

    Returns:
      (low, high), with 0 <= low <= successes / total <= high <= 1.

    Raises:
      InvalidInput: successes lies outside 0 to total.
    """
    if not 0 <= successes <= total:
        raise InvalidInput(f"{successes} successes of {total}: give a total >= 0 and successes between 0 and it")
    if total == 0:
        return 0.0, 1.0
    share = successes / total
    spread = _Z * math.sqrt(share * (1.0 - share) / total + (_Z / (2.0 * total)) ** 2)
    scale = 1.0 + _Z**2 / total
    centre = share + _Z**2 / (2.0 * total)
    # Rounding alone could put a share of exactly 0 or 1 outside its interval.
    return min(share, max(0.0, (centre - spread) / scale)), max(share, min(1.0, (centre + spread) / scale))


def paired_difference(first: Sequence[float], second: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """How much more often `second` is right than `first` on the same problems, with the 95% interval of a paired bootstrap.

    The percentile bootstrap over problems (Efron 1979): pairing removes what is easy or hard for both. Where all problems differ
    alike, so does every resample and the bootstrap would claim certainty: there it is Tango's score interval.

    Args:
      first, second: [N] verdicts, or shares of right answers, on the same N >= 1 problems.
      seed: of the resampling.

    Returns:
      (difference, low, high), each in [-1, 1].

    Raises:
      InvalidInput: the two have different lengths, or none.
    """
    if len(first) != len(second) or not len(first):
        raise InvalidInput(f"{len(first)} and {len(second)} verdicts: give one of each on the same problems, at least one")
    gains = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    if gains.max() - gains.min() < _SAME:
        return float(gains[0]), *_alike(float(gains[0]), len(gains))
    random = np.random.default_rng(seed)
    distinct = np.union1d(gains, (-1.0, 0.0, 1.0))  # these always, so that verdicts as they are give the same draws as ever
    means = _resampled_means(distinct, [int((gains == gain).sum()) for gain in distinct], random)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(gains.mean()), float(low), float(high)


def _alike(gain: float, total: int) -> tuple[float, float]:
    """The 95% interval of a paired difference where each of `total` problems has the same.

    The score interval for paired proportions (Tango 1998, "Equivalence test and confidence interval for the difference in proportions
    for the paired-sample design", Statistics in Medicine 17) solves (b - c - n D)^2 = z^2 n (2 q + D (1 - D)), with b problems gained, c
    lost, and q the likeliest share of lost ones where the difference is D. With c = 0 it has the closed form here: q is 0 where
    D >= b / (2 n - b), which leaves Wilson's equation, and below it (b - D (2 n - b)) / (2 n), which makes the equation linear. Of
    shares, which need not add up to a whole number, b is the number next to their sum.

    Args:
      gain: of each problem, in [-1, 1].
      total: >= 1.
    """
    if gain < 0.0:
        low, high = _alike(-gain, total)
        return -high, -low
    fewest, most = math.floor(gain * total), math.ceil(gain * total)
    high = wilson(most, total)[1]
    if not most:  # no problem differs: the ends mirror each other to the last bit, where two formulas would not
        return -high, high
    low = (fewest - _Z**2) / (total + _Z**2)
    if low * (2 * total - fewest) >= fewest:
        low = wilson(fewest, total)[0]
    return low, high


def _resampled_means(distinct: np.ndarray, counts: Sequence[int] | np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The means of resamples of a sample that holds each of the distinct values so many times.

    How often each value occurs in a resample is multinomial: no need to draw the problems themselves.
    """
    total = int(np.sum(counts))
    at_once = max(1, _DRAWN_AT_ONCE // len(distinct))
    return np.concatenate(
        [
            random.multinomial(total, np.asarray(counts) / total, size=min(at_once, _RESAMPLES - begin)) @ distinct / total
            for begin in range(0, _RESAMPLES, at_once)
        ]
    )


def bootstrap(values: Sequence[float] | np.ndarray, seed: int = 0) -> tuple[float, float]:
    """The 95% interval of a mean over problems by the percentile bootstrap (Efron 1979).

    Where all values are the same, so is every resample and the bootstrap would claim certainty: there it is Wilson's interval, of the
    numbers of right answers next to their sum where that is none.

    Args:
      values: [N] of one problem each, in [0, 1]; without any nothing is known, and the interval is (0, 1).
      seed: of the resampling.

    Returns:
      (low, high), with 0 <= low <= high <= 1.

    Raises:
      InvalidInput: a value lies outside [0, 1].
    """
    values = np.asarray(values, np.float64)
    if not ((values >= 0.0) & (values <= 1.0)).all():
        raise InvalidInput("a value of a problem lies outside 0 to 1: give shares of right answers")
    total = len(values)
    if total == 0 or values.max() == values.min():
        right = float(values.sum())
        return wilson(math.floor(right), total)[0], wilson(math.ceil(right), total)[1]
    distinct, counts = np.unique(values, return_counts=True)
    low, high = np.quantile(_resampled_means(distinct, counts, np.random.default_rng(seed)), (0.025, 0.975))
    return min(1.0, max(0.0, float(low))), min(1.0, max(0.0, float(high)))


def sign_test(wins: int, losses: int) -> float:
    """The two-sided p-value of so many wins and losses when both are equally likely, exactly; ties are left out beforehand.

    On verdicts, right or wrong, this is McNemar's exact test (McNemar 1947, "Note on the sampling error of the difference between
    correlated proportions or percentages").

    Raises:
      InvalidInput: a count is negative.
    """
    if wins < 0 or losses < 0:
        raise InvalidInput(f"{wins} wins and {losses} losses: give counts >= 0")
    differing = wins + losses
    tail = sum(math.comb(differing, fewer) for fewer in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail / 2**differing)
