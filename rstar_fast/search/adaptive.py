"""When a vote stands: it can no longer change, or is not likely to."""

from __future__ import annotations

from collections.abc import Mapping

import mpmath

from rstar_fast.config import Choice, SearchConfig
from rstar_fast.types import Stopped, Tree


def verdict(votes: Mapping[str, float], choice: Choice, observations: int, most: float, least_gain: float) -> Stopped | None:
    """Why a problem may end with the votes it has; None where it should go on.

    Under BEST_SCORE the weights are scores and not counts of anything: only the best there can be decides.

    Args:
      votes: the weight of each distinct answer, largest first, as `answers.vote` gives them.
      choice: how it made them.
      observations: solutions that the weights are made from.
      most: the largest weight that what is still to come can add to one answer; 0 where nothing new can come.
      least_gain: as `SearchConfig.least_gain`.
    """
    lead, second, *_ = [*votes.values(), 0.0, 0.0]
    if most <= 0.0:
        return Stopped.DECIDED
    if choice is Choice.BEST_SCORE:
        return Stopped.DECIDED if votes and lead >= 1.0 else None
    if lead > second + most:
        return Stopped.DECIDED
    return Stopped.SMALL_GAIN if chance_of_change(votes, observations) < least_gain else None


def chance_of_change(votes: Mapping[str, float], observations: int) -> float:
    """The estimated probability that the leading answer is not the one that would win in the long run.

    With a and b the counts of the two leading answers, the share of the first among the two has the posterior
    Beta(a + 1, b + 1), and P = I_1/2(a + 1, b + 1) is the chance that it lies below one half (Aggarwal et al. 2023, "Let's Sample
    Step by Step: Adaptive-Consistency", arXiv 2305.11860, equation 2). Weighted votes stand for counts in proportion:
    a = observations * weight / sum of the weights, which for a majority of samples is the count itself.

    Args:
      votes: the weight of each distinct answer, largest first.
      observations: solutions that the weights are made from.
    """
    total = sum(votes.values())
    if total <= 0.0:
        return 0.5
    a, b, *_ = [*(observations * weight / total for weight in votes.values()), 0.0, 0.0]
    return float(mpmath.betainc(a + 1.0, b + 1.0, 0.0, 0.5, regularized=True))


def most_of_tree(tree: Tree, shares: list[float], config: SearchConfig, rollouts: int) -> float:
    """The largest weight that so many more rollouts of a tree search can add to one answer's vote.

    Only nodes without children that are no terminals can bring new solutions. With shares as weights these bring at most the
    shares that such nodes have now, as all solutions below a node together have its share; else each rollout expands max_depth
    nodes at most, each of which gets `candidates` solutions of weight 1 at most.

    Args:
      tree: as it is now; all trees of the problem have grown their roots.
      shares: of its nodes.
    """
    columns = tree.columns()
    is_open = (columns["child_count"] == 0) & (columns["terminal"] == 0)
    if not is_open.any() or rollouts <= 0:
        return 0.0
    if config.choice is Choice.MARGINAL_VOTE:
        return sum(shares[at] for at in is_open.nonzero()[0].tolist())
    return float(rollouts) * config.max_depth * config.candidates
