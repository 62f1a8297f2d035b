"""The tree search over many problems at once: the C++ forest chooses leaves, batches of them are expanded concurrently."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from rstar_fast._core import Forest
from rstar_fast.config import Behaviour, SearchConfig
from rstar_fast.search.adaptive import most_of_tree, verdict
from rstar_fast.search.answers import choice_of, tree_shares, vote
from rstar_fast.search.budgets import Spending
from rstar_fast.search.dialect import Dialect, NodeRecord
from rstar_fast.search.expand import Expander, Leaf
from rstar_fast.search.ground import Claim, Ground, OpenProblem, parts_of
from rstar_fast.search.held import Held
from rstar_fast.types import Partial, Problem, ProgressEvent, SearchResult, Stopped, Terminal

_LOGARITHMS = 1 << 16
_EMPTY = NodeRecord()  # of the root, and of every node where the dialect does not look


class TreeSearch:
    """Searches problems, many at a time.

    Args:
      config: rules and sizes.
      expander: expands the leaves.
      dialect: says what the reference writes into a node it gives up.
      spending: the budgets, and what has been spent of them.
      progress: told of every expansion; None where nobody listens.
    """

    def __init__(
        self,
        config: SearchConfig,
        expander: Expander,
        dialect: Dialect,
        spending: Spending,
        progress: Callable[[ProgressEvent], object] | None = None,
    ) -> None:
        self._config, self._spending, self._most_lanes = config, spending, expander.lanes
        reference = config.behaviour is Behaviour.REFERENCE
        self._forest = Forest(
            c=config.c,
            first_play_urgency=config.first_play_urgency,
            virtual_loss=config.virtual_loss,
            in_flight=config.in_flight,
            own_visits=config.annotation.needs_scorer,
            reference=reference,
            notes=True,
            max_expansions=config.max_depth if reference else 0,
            # The reference takes its logarithms from NumPy, whose last bit may differ from the C library's.
            log_table=np.log(np.maximum(np.arange(_LOGARITHMS), 1).astype(np.float64)) if reference else None,
        )
        self._ground = Ground(config, self._forest, expander, dialect, spending, progress)
        self._open: dict[int, OpenProblem] = {}  # by the number of each of its trees
        self._running: dict[OpenProblem, set[int]] = {}  # of each open problem the trees that have rollouts to run
        self._held: Held[OpenProblem] = Held(config, spending, lambda problem: problem)

    async def run(self, problems: Sequence[Problem], on_result: Callable[[SearchResult], object]) -> None:
        """Searches the problems; `on_result` gets each result as soon as it is there, in no particular order.

        When it is cancelled or `on_result` raises, leaves in flight are given back and finished results have been handed on; those of
        problems that wait for what others leave are not finished.
        """
        waiting = iter(problems)
        lanes: set[asyncio.Task[None]] = set()
        try:
            while True:
                self._open_problems(waiting)
                while self._held.given_back(self._begins_anew) is not None:
                    pass
                if not self._running:
                    break
                self._stop_where_enough()
                self._fill_lanes(lanes)
                stopped = self._stop_where_enough()
                extended = [problem for problem in self._running if self._extend(problem)]
                settled = [problem for problem in self._running if self._has_ended(problem)]
                for problem in settled:
                    if self._held.takes(problem, self._verdict):
                        del self._running[problem]
                    else:
                        on_result(self._settle(problem))
                for problem in self._held.surplus():
                    on_result(self._settle(problem))
                if lanes and not stopped and not extended:
                    done, lanes = await asyncio.wait(lanes, return_when=asyncio.FIRST_COMPLETED)
                    await asyncio.gather(*done)  # raises what a lane raised
                else:
                    assert settled or stopped or extended, "trees are open, but have no leaf to expand"
        finally:
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)
            self._ground.cancel_all()
        for problem in self._held.all():  # where the search breaks off they are not done: they may get more when it goes on
            on_result(self._settle(problem))
        for problem in waiting:
            on_result(self._spending.not_begun(problem))

    def _open_problems(self, waiting: Iterator[Problem]) -> None:
        while len(self._running) < self._config.open_problems and not self._spending.run_is_over:
            problem = next(waiting, None)
            if problem is None:
                return
            opened = self._ground.open(problem)
            opened.begun = self._portion(opened.allotted)
            parts = parts_of(opened.begun, self._config.trees)
            numbers = [self._ground.add_tree(opened, part) for part in parts if part]
            self._open.update(dict.fromkeys(numbers, opened))
            self._running[opened] = set(numbers)

    def _portion(self, rollouts: int) -> int:
        """How many of so many rollouts are begun together: where the vote may end a problem early, what may be in flight."""
        return min(rollouts, self._config.trees * self._config.in_flight) if self._config.adaptive else rollouts

    def _fill_lanes(self, lanes: set[asyncio.Task[None]]) -> None:
        """Starts batches until all lanes are under way or no leaf is to be had."""
        running = sum(len(problem.trees) for problem in self._running)
        share = math.ceil(running * self._config.in_flight / self._most_lanes)
        while len(lanes) < self._most_lanes:
            tickets, trees, nodes, depths, ended = self._forest.select(min(self._config.batch_leaves, max(1, share)))
            for number in ended.tolist():
                self._running[self._open[number]].discard(number)
            claims = []
            for ticket, number, node, depth, solution in zip(
                tickets.tolist(), trees.tolist(), nodes.tolist(), depths.tolist(), self._forest.solutions(tickets), strict=True
            ):
                problem = self._open[number]
                if problem.failure is not None:  # others of its leaves are still out
                    self._forest.cancel(ticket)
                    continue
                record = problem.records.get(node, _EMPTY)
                leaf = Leaf(
                    Partial(problem.problem, solution), record, depth, self._config.candidates, self._config.sampled_first
                )
                claims.append(Claim(ticket, problem, number, node, leaf))
                self._ground.handed_out(claims[-1])
            if not claims:
                break
            lanes.add(asyncio.create_task(self._expand(claims)))

    async def _expand(self, claims: Sequence[Claim]) -> None:
        await self._ground.expand(claims)

    # --- what ends a problem ---

    def _stop_where_enough(self) -> bool:
        """Stops problems that a budget ends; whether there were any."""
        if not self._spending.is_watched:
            return False
        found = False
        for problem, running in self._running.items():
            self._count(problem)
            if problem.failure is not None or problem.stopped is not None or not running:
                continue
            problem.stopped = self._spending.used_up(problem.stats.policy_tokens, problem.rollouts, problem.started)
            if problem.stopped is not None:
                found = True
                for number in running:
                    self._forest.stop(number)
        return found

    def _count(self, problem: OpenProblem) -> None:
        """Counts the rollouts of a problem that have ended since this was last done."""
        before, problem.rollouts = problem.rollouts, sum(self._forest.rollouts_ended(number) for number in problem.trees)
        self._spending.count(rollouts=problem.rollouts - before)

    def _verdict(self, problem: OpenProblem, rollouts: int) -> Stopped | None:
        """Why a problem may end that could have so many rollouts more."""
        tree, nodes = self._ground.tree_of(problem)
        trajectories = self._ground.trajectories(problem, tree, nodes)
        columns = tree.columns()
        answers = columns["terminal"] == Terminal.ANSWER
        # Solutions in which rollouts have ended, not these rollouts: one that ends where another did saw nothing new.
        observations = int((columns["visits"][answers] > self._config.annotation.needs_scorer).sum())  # the PPM's own visit apart
        all_rooted = problem.rooted == len(problem.trees)
        most = most_of_tree(tree, tree_shares(tree), self._config, rollouts) if all_rooted else math.inf
        choice = choice_of(self._config)
        votes = vote(trajectories, choice)[0] if trajectories else {}
        return verdict(votes, choice, observations, most, self._config.least_gain)

    def _has_ended(self, problem: OpenProblem) -> bool:
        if problem.failure is not None:
            return problem.out == 0
        return not self._running[problem]

    def _extend(self, problem: OpenProblem) -> bool:
        """Begins more rollouts of a problem whose vote is open, its own or then the pool's; whether there are any."""
        if not self._config.adaptive or self._running[problem] or problem.failure is not None or problem.stopped is not None:
            return False
        left = problem.allotted - problem.begun
        more = 0 if left else self._spending.more(problem.allotted)
        if not left and not more:
            return False
        decided = self._verdict(problem, left or more)
        if decided is not None:
            problem.stopped = decided if left else None  # else it had all its rollouts
            return False
        self._spending.pool -= more
        problem.allotted += more
        portion = self._portion(left or more)
        problem.begun += portion
        for number, part in zip(problem.trees, parts_of(portion, len(problem.trees)), strict=True):
            if part:
                self._forest.extend(number, part)
                self._running[problem].add(number)
        return True

    def _begins_anew(self, problem: OpenProblem) -> bool:
        """Begins rollouts of the pool for a problem that waits, where it has enough; whether it has."""
        self._running[problem] = set()
        if self._extend(problem):
            return True
        del self._running[problem]
        return False

    def _settle(self, problem: OpenProblem) -> SearchResult:
        self._count(problem)
        for number in problem.trees:
            del self._open[number]
        self._running.pop(problem, None)
        result = self._ground.settle(problem)
        if result.stats.stopped in (Stopped.DECIDED, Stopped.SMALL_GAIN):
            self._spending.pool += problem.allotted - problem.rollouts
        return result
