"""What k of a problem's n samples are worth: the expected accuracy over all subsets of k, so that one run tells it for every k <= n.

n  samples of a problem; one without an answer counts among them, is never right and votes for nothing
k  of them, drawn without replacement; each subset is as likely as any other, and so is each of the answers that tie in it
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from rstar_fast.types import InvalidInput

SILENT = -1  # the class of a sample without an answer
_MOST_SUBSETS = 5_000  # that are enumerated
_RESAMPLES = 2_000  # where there are more: the standard error of a problem's value is at most 0.011
_MOST_EXACT = 256  # samples for which votes are counted; the numbers of subsets of so many are exact enough in doubles
_DRAWN_AT_ONCE = 1 << 18  # numbers in memory
_SAME = 1e-12  # sums of weights that differ by less are a tie


def pass_at_k(n: int, right: int, k: int) -> float:
    """The probability that one of k samples is right, unbiased: 1 - C(n - right, k) / C(n, k) (Chen et al. 2021, arXiv 2107.03374).

    Args:
      n: samples of the problem.
      right: of them.
      k: 1 to n.

    Raises:
      InvalidInput: a number is out of its range.
    """
    _check(n, k)
    if not 0 <= right <= n:
        raise InvalidInput(f"{right} of {n} samples are right: give 0 to {n}")
    return 1.0 - math.comb(n - right, k) / math.comb(n, k)


def best_at_k(right: Sequence[bool], scores: Sequence[float], k: int) -> float:
    """The probability that the best scored of k samples is right, exactly; equal scores are equally likely to be taken.

    Args:
      right: [n] verdicts.
      scores: [n]; what has none, and a sample without an answer, has -inf.
      k: 1 to n.
    """
    n = len(right)
    _check(n, k)
    expected, better = 0.0, 0
    for _, group in itertools.groupby(sorted(zip(scores, right, strict=True), key=lambda pair: -pair[0]), key=lambda pair: pair[0]):
        verdicts = [verdict for _, verdict in group]
        # The best is of this group where none is better, and not all are worse.
        ways = math.comb(n - better, k) - math.comb(n - better - len(verdicts), k)
        expected += ways / math.comb(n, k) * (sum(verdicts) / len(verdicts))
        better += len(verdicts)
    return min(1.0, expected)  # sums of doubles may pass it by some bits


def majority_at_k(right: Sequence[bool], classes: Sequence[int], k: int, seed: int = 0) -> float:
    """The probability that the answer which most of k samples give is right: exactly for up to 256 samples, else by resampling.

    Args:
      right: [n] verdicts, the same for all samples of a class.
      classes: [n] numbers of classes of equal answers, SILENT without an answer.
      k: 1 to n.
      seed: of the resampling.
    """
    n = len(right)
    _check(n, k)
    if n > _MOST_EXACT:
        return weighted_at_k(right, classes, [1.0] * n, k, seed)
    counts = Counter(number for number in classes if number != SILENT)
    silent = n - counts.total()
    rights = {number for number, verdict in zip(classes, right, strict=True) if verdict}
    expected = 0.0
    for number in sorted(rights - {SILENT}):
        others = [count for other, count in counts.items() if other != number]
        for votes in range(1, min(counts[number], k) + 1):
            expected += math.comb(counts[number], votes) * _not_beaten(others, silent, k - votes, votes)
    return min(1.0, expected / math.comb(n, k))


def _not_beaten(others: Sequence[int], silent: int, drawn: int, votes: int) -> float:
    """In how many ways `drawn` samples of the others give no class more than `votes`; each way divided by how many then tie.

    ways[d, t]: how many ways there are to draw d samples of the classes so far, t of which have exactly `votes`.
    """
    ways = np.zeros((drawn + 1, drawn // votes + 1))
    ways[0, 0] = 1.0
    for count in others:
        found = ways.copy()
        for of_class in range(1, min(votes - 1, count, drawn) + 1):
            found[of_class:] += math.comb(count, of_class) * ways[: drawn + 1 - of_class]
        if votes <= min(count, drawn):
            found[votes:, 1:] += math.comb(count, votes) * ways[: drawn + 1 - votes, :-1]
        ways = found
    shares = ways @ (1.0 / np.arange(1, ways.shape[1] + 1))
    return float(sum(math.comb(silent, quiet) * shares[drawn - quiet] for quiet in range(min(silent, drawn) + 1)))


def weighted_at_k(
    right: Sequence[bool], classes: Sequence[int], weights: Sequence[float], k: int, seed: int = 0
) -> float:
    """The probability that the answer with the largest sum of weights among k samples is right.

    Exact where there are at most 5,000 subsets, else the mean of 2,000 drawn ones.

    Args:
      right, classes, k, seed: as for `majority_at_k`.
      weights: [n], >= 0.
    """
    n = len(right)
    _check(n, k)
    labels, columns = np.unique(np.asarray(classes), return_inverse=True)
    of_class = np.zeros((n, len(labels)))
    of_class[np.arange(n), columns] = 1.0
    is_right = np.zeros(len(labels))
    np.maximum.at(is_right, columns, np.asarray(right, np.float64))
    shares = []
    for chosen in _subsets(n, k, seed):
        sums = (chosen * np.asarray(weights, np.float64)) @ of_class
        # A class that no sample of the subset gives is out of the vote, and silence always is.
        sums[(chosen @ of_class == 0.0) | (labels == SILENT)] = -1.0
        best = sums.max(axis=1, keepdims=True)
        winners = (sums >= best - _SAME * np.maximum(1.0, best)) & (best >= 0.0)
        shares.append((winners * is_right).sum(axis=1) / np.maximum(1, winners.sum(axis=1)))
    return float(np.concatenate(shares).mean())


def _subsets(n: int, k: int, seed: int) -> Iterator[np.ndarray]:
    """Subsets of k of n as rows of zeros and ones, some at a time: all of them, or so many drawn ones."""
    at_once = max(1, _DRAWN_AT_ONCE // n)
    random = np.random.default_rng(seed)
    all_of_them = itertools.combinations(range(n), k) if math.comb(n, k) <= _MOST_SUBSETS else None
    left = _RESAMPLES
    while True:
        if all_of_them is not None:
            members = np.array(list(itertools.islice(all_of_them, at_once)), np.int64)
        else:
            members = random.random((min(at_once, left), n)).argpartition(k - 1, axis=1)[:, :k]
            left -= len(members)
        if not len(members):
            return
        chosen = np.zeros((len(members), n))
        np.put_along_axis(chosen, members, 1.0, axis=1)
        yield chosen


def _check(n: int, k: int) -> None:
    if not 1 <= k <= n:
        raise InvalidInput(f"k is {k} of {n} samples: give 1 to {n}")
