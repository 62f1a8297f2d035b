"""Ways of searching, and what they may spend."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from rstar_fast.config.base import Mapped, check_integer, check_real


class Strategy(enum.Enum):
    """How the solutions of a problem are found; each steps through search/expand.py and keeps its tree in the forest."""

    MCTS = "mcts"  # Monte Carlo tree search (DESIGN.md, "The search, exactly")
    BEAM = "beam"  # step beam search with the PPM (Snell et al. 2024, arXiv 2408.03314)
    DVTS = "dvts"  # diverse beams: independent subtrees, each of which follows its best step (search-and-learn, Beeching et al. 2024)
    BEST_OF_N = "best_of_n"  # independent samples, valued by the PPM
    SELF_CONSISTENCY = "self_consistency"  # the majority of independent samples, no PPM (Wang et al. 2022, arXiv 2203.11171)
    GREEDY = "greedy"  # the policy's most likely solution, no PPM

    @property
    def uses_ppm(self) -> bool:
        return self not in (Strategy.SELF_CONSISTENCY, Strategy.GREEDY)

    @property
    def samples(self) -> bool:
        """Whether the solutions are independent samples of the policy."""
        return self in (Strategy.BEST_OF_N, Strategy.SELF_CONSISTENCY, Strategy.GREEDY)

    @property
    def takes_beams(self) -> bool:
        return self in (Strategy.BEAM, Strategy.DVTS)

    @property
    def takes_trees(self) -> bool:
        """Whether a problem may have several trees."""
        return self is Strategy.MCTS

    @property
    def may_adapt(self) -> bool:
        """Whether a problem may end when its vote stands: solutions come one after the other."""
        return self in (Strategy.MCTS, Strategy.BEST_OF_N, Strategy.SELF_CONSISTENCY)


class Aggregate(enum.Enum):
    """How the score of a solution, in [-1, 1], is made of the PPM's scores s of its steps."""

    LAST = "last"
    MEAN = "mean"
    MIN = "min"
    PRODUCT = "product"  # of (1 + s) / 2, the step's chance to be right, over the steps; p becomes 2 p - 1


@dataclass(frozen=True, kw_only=True)
class Budget(Mapped):
    """What may be spent; each None for no limit.

    It is looked at between batches, so that what is under way when it is used up comes on top. Where tokens or seconds are limited,
    independent samples and the trees of "dvts" are drawn in rounds, each of as many as the rest is likely to pay for; a beam's
    solutions all come at its end, so that it needs a budget for all of them.

    Attributes:
      tokens: tokens that the policy generates, >= 1; none are counted where the policy does not say.
      rollouts: complete solutions, >= 1.
      seconds: of wall-clock time, > 0.

    Raises:
      InvalidInput: a limit is out of its range or unknown; names it, the value and the range.
    """

    _called = "budget"

    tokens: int | None = None
    rollouts: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("tokens", "rollouts"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), 1)
        if self.seconds is not None:
            check_real("seconds", self.seconds, above=0)

    @property
    def is_limited(self) -> bool:
        return self != Budget()

    @property
    def limits_cost(self) -> bool:
        """Whether it limits what a solution costs, which is known only when it is there."""
        return self.tokens is not None or self.seconds is not None
