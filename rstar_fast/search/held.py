"""Problems that have had their rollouts and are undecided: they wait for what others leave."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from rstar_fast.config import SearchConfig
from rstar_fast.search.budgets import Spending
from rstar_fast.search.ground import OpenProblem
from rstar_fast.types import Stopped

Entry = TypeVar("Entry")  # a problem, or what a way of searching has of one


class Held(Generic[Entry]):
    """Holds them, in the order in which they came; no more than may be open.

    Args:
      config: how many may be open.
      spending: whether there is a pool that they wait for, and what is in it.
      problem_of: the problem of an entry.
    """

    def __init__(self, config: SearchConfig, spending: Spending, problem_of: Callable[[Entry], OpenProblem]) -> None:
        self._config, self._spending, self._problem_of = config, spending, problem_of
        self._entries: deque[Entry] = deque()
        self._pool_seen = 0  # with so large a pool none of them can be changed

    def takes(self, entry: Entry, verdict: Callable[[OpenProblem, int], Stopped | None]) -> bool:
        """Holds a problem that has come to the end of its rollouts, if more of them could change its vote; whether it does.

        Args:
          verdict: why a problem may end that could have so many rollouts more; None where it should go on.
        """
        problem = self._problem_of(entry)
        if not self._spending.gives_on or problem.failure is not None or problem.stopped is not None:
            return False
        if self._spending.used_up(problem.stats.policy_tokens, problem.rollouts, problem.started) is not None:
            return False
        room = self._spending.room(problem.allotted)
        if not room or verdict(problem, room) is not None:
            return False
        problem.hold()
        self._entries.append(entry)
        self._pool_seen = min(self._pool_seen, self._spending.pool)
        return True

    def given_back(self, begins: Callable[[Entry], bool]) -> Entry | None:
        """One for which the pool has enough, which is held no longer; None where there is none.

        Args:
          begins: begins more rollouts of a problem, if the pool has enough to change its vote; whether it did.
        """
        if not self._entries or self._spending.run_is_over or self._spending.pool <= self._pool_seen:
            return None
        for entry in self._entries:
            if begins(entry):
                self._problem_of(entry).go_on()
                self._entries.remove(entry)
                return entry
        self._pool_seen = self._spending.pool
        return None

    def surplus(self) -> Iterator[Entry]:
        """Gives up the first ones where more are held than may be open."""
        while len(self._entries) > self._config.open_problems:
            yield self._entries.popleft()

    def all(self) -> Iterator[Entry]:
        """Gives up all of them."""
        while self._entries:
            yield self._entries.popleft()
