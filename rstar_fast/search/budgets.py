"""What the problems of a search may spend, what they have, and the pool of rollouts that some leave to others."""

from __future__ import annotations

import time
from collections.abc import Iterable

from rstar_fast.config import Budget, SearchConfig
from rstar_fast.types import Failure, FailureKind, Problem, SearchResult, SearchStats, Stopped

_MARGIN = 1.25


class Spending:
    """The budgets of a search, of each problem and of all.

    Args:
      config: the limits.
      restored: what results of a run folder have cost; their tokens and rollouts count as spent, and the pool is what they left.

    Attributes:
      rollouts_each: rollouts that a problem begins with.
      gives_on: whether undecided problems get what others have left: where the run has a budget; else it is saved.
      pool: rollouts that problems have left.
      is_watched: whether anything may end a problem early.
    """

    def __init__(self, config: SearchConfig, restored: Iterable[SearchStats] = ()) -> None:
        self._budget, self._run_budget = config.budget, config.run_budget
        self._started = time.monotonic()
        self._tokens = self._rollouts = 0
        self.is_limited_to_fewer = config.budget.rollouts is not None and config.budget.rollouts < config.solutions
        self.rollouts_each = min(config.solutions, config.budget.rollouts or config.solutions)
        self.is_watched = config.adaptive or config.budget.is_limited or config.run_budget.is_limited
        self.gives_on = config.adaptive and config.run_budget.is_limited
        self.pool = 0
        for stats in restored:
            self.count(tokens=stats.policy_tokens, rollouts=stats.rollouts)
            if self.gives_on:
                self.pool += left(stats, self.rollouts_each)

    def count(self, *, tokens: int = 0, rollouts: int = 0) -> None:
        """Adds to what the run has spent."""
        self._tokens += tokens
        self._rollouts += rollouts

    @property
    def run_is_over(self) -> bool:
        """Whether the run's budget is used up."""
        return _is_used_up(self._run_budget, self._tokens, self._rollouts, time.monotonic() - self._started)

    def used_up(self, tokens: int, rollouts: int, started: float) -> Stopped | None:
        """Which budget ends a problem that has spent so much since `started`; None where none does."""
        if self.run_is_over:
            return Stopped.RUN_BUDGET
        return Stopped.BUDGET if _is_used_up(self._budget, tokens, rollouts, time.monotonic() - started) else None

    def pays_for(self, tokens: int, solutions: int) -> int:
        """How many more solutions the rest of a problem's token budget is likely to pay for, if so many have taken so many tokens;
        a very large number without such a budget."""
        if self._budget.tokens is None or not tokens:
            return 1 << 31
        of_one, rest = tokens / solutions, self._budget.tokens - tokens
        # The longest of some take more than their mean: a few are left out, rather than that all are cut short.
        return max(int(rest / of_one >= 1.0), int(rest / of_one / _MARGIN))

    def room(self, allotted: int) -> int:
        """How many rollouts a problem that has had so many may get from the pool: in all no more than as many again."""
        most = 2 * self.rollouts_each
        if self._budget.rollouts is not None:
            most = min(most, self._budget.rollouts)
        return max(0, most - allotted)

    def more(self, allotted: int) -> int:
        """How many rollouts the pool has for a problem that has had so many."""
        return max(0, min(self.pool, self.room(allotted))) if self.gives_on else 0

    def not_begun(self, problem: Problem) -> SearchResult:
        """The result of a problem that the run had nothing left for."""
        message = "the run's budget was used up before the problem was begun: search it again with a larger run_budget"
        return SearchResult(problem, failure=Failure(FailureKind.BUDGET, message))


def left(stats: SearchStats, rollouts_each: int) -> int:
    """The rollouts that a problem, by its stats, has left to others; below 0 where it took of theirs.

    Only a problem whose vote stood leaves any: one that failed or was stopped by a budget has none to give.
    """
    stands = stats.stopped in (Stopped.DECIDED, Stopped.SMALL_GAIN)
    return rollouts_each - stats.rollouts if stands else min(0, rollouts_each - stats.rollouts)


def _is_used_up(budget: Budget, tokens: int, rollouts: int, seconds: float) -> bool:
    spent = ((budget.tokens, tokens), (budget.rollouts, rollouts), (budget.seconds, seconds))
    return any(limit is not None and has >= limit for limit, has in spent)
