"""What searches are worth: accuracies, with the uncertainty of their samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rstar_fast.types import FailureKind, InvalidInput, SearchResult

_Z = 1.959963984540054  # the standard normal's 97.5% quantile
_RESAMPLES = 10_000


def correctness(answers: Sequence[str], results: Sequence[SearchResult]) -> list[bool | None]:
    """Whether each result's answer is right.

    Args:
      answers: the key of each of the results.

    Returns:
      [N] verdicts. A problem that failed because no solution gave an answer is wrong; one that failed for another reason (the
      policy, the scorer or the sandbox failed) says nothing about the search and is None.
    """
    from rstar_fast.grading import grade_many

    verdicts = grade_many([(answer, result.answer or "") for answer, result in zip(answers, results, strict=True)])
    return [
        None if failed(result) else verdict.equal
        for result, verdict in zip(results, verdicts, strict=True)
    ]


def failed(result: SearchResult) -> bool:
    """Whether a search broke: it failed for another reason than that no solution gave an answer."""
    return result.failure is not None and result.failure.kind is not FailureKind.NO_ANSWER


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


def paired_difference(first: Sequence[bool], second: Sequence[bool], seed: int = 0) -> tuple[float, float, float]:
    """How much more often `second` is right than `first` on the same problems, with the 95% interval of a paired bootstrap.

    The percentile bootstrap over problems (Efron 1979): pairing removes what is easy or hard for both.

    Args:
      first, second: [N] verdicts on the same N >= 1 problems.
      seed: of the resampling.

    Returns:
      (difference, low, high), each in [-1, 1].

    Raises:
      InvalidInput: the two have different lengths, or none.
    """
    if len(first) != len(second) or not len(first):
        raise InvalidInput(f"{len(first)} and {len(second)} verdicts: give one of each on the same problems, at least one")
    gains = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    random = np.random.default_rng(seed)
    # How often each gain (-1, 0, 1) occurs in a resample is multinomial: no need to draw the problems themselves.
    shares = [(gains == gain).mean() for gain in (-1.0, 0.0, 1.0)]
    counts = random.multinomial(len(gains), shares, size=_RESAMPLES)
    low, high = np.quantile((counts[:, 2] - counts[:, 0]) / len(gains), (0.025, 0.975))
    return float(gains.mean()), float(low), float(high)
