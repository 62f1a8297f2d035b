"""Strategies that go down a level at a time: step beams, diverse beams, independent samples. All problems in flight share the batches.

    beam               the n / M best steps of a level go on, each asked for M steps; n at the root
    dvts               n / M trees, in each of which the best of M steps goes on
    samples, greedy    a step goes on asked for as many candidates as were it: the samples that have it in common

n is `rollouts`, M is `candidates`. Samples are held as a tree whose nodes count them (`proposals`): asking one node for as many
candidates as samples stand there is what independent samples do, and their common prefixes are computed once.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from rstar_fast._core import Forest
from rstar_fast.config import Aggregate, Choice, SearchConfig, Strategy
from rstar_fast.search.adaptive import verdict
from rstar_fast.search.answers import aggregated, choice_of, vote
from rstar_fast.search.budgets import Spending
from rstar_fast.search.dialect import Dialect, NodeRecord
from rstar_fast.search.expand import Child, Expander, Growth, Leaf
from rstar_fast.search.ground import Claim, Ground, OpenProblem, parts_of
from rstar_fast.search.held import Held
from rstar_fast.types import Partial, Problem, ProgressEvent, SearchResult, Stopped, Terminal

# Where the vote may end them early, samples are drawn in rounds: the first is such a part of all, the others such a part.
_FIRST, _OTHERS = 1 / 8, 1 / 16
_GROWTH = 3  # a round that a budget has to pay for is at most so many times what has been drawn: what one costs is learned on the way
_EMPTY = NodeRecord()


@dataclass(frozen=True, slots=True)
class Place:
    """A node of a tree.

    Attributes:
      path: the nodes from the root to it.
      scores: the values of the steps on its path: the PPM's scores, of graded answers the key's verdict; NaN where nothing values them.
      proposals: how many of the policy's candidates were its step.
    """

    tree: int
    path: tuple[int, ...]
    partial: Partial
    scores: tuple[float, ...] = ()
    proposals: int = 1
    terminal: Terminal = Terminal.NO

    def below(self, child: Child, node: int) -> Place:
        """The place of a new child."""
        record = child.record
        partial = Partial(self.partial.problem, self.partial.solution + record.text)
        return Place(
            self.tree, (*self.path, node), partial, (*self.scores, child.value.value), record.proposals, record.terminal
        )


Ask = tuple[Place, int]  # a leaf to be expanded, and the candidates asked for


class Rule(Protocol):
    """Which steps of a problem's level go on.

    Attributes:
      unit: solutions that are found together; they may be drawn in rounds of so many. 0: only all of them.
    """

    unit: int

    def roots(self, wanted: int) -> list[int]:
        """The candidates asked for at the root of each new tree, for so many solutions."""

    def go_on(self, families: Sequence[Sequence[Place]]) -> list[Ask]:
        """Of the new children of each leaf that was expanded, in the order asked, those that are expanded next."""


class Beams:
    """The best steps of each level go on, until there are n solutions (Snell et al. 2024, arXiv 2408.03314, section 5.2)."""

    unit = 0

    def __init__(self, width: int, aggregate: Aggregate) -> None:
        self._width, self._aggregate = width, aggregate
        self._wanted = self._beams = 0

    def roots(self, wanted: int) -> list[int]:
        self._wanted, self._beams = wanted, max(1, wanted // self._width)
        return [wanted]

    def go_on(self, families: Sequence[Sequence[Place]]) -> list[Ask]:
        steps = [place for family in families for place in family]
        self._wanted -= sum(place.terminal is Terminal.ANSWER for place in steps)
        if self._wanted <= 0:
            return []
        steps = [place for place in steps if place.terminal is Terminal.NO]
        steps.sort(key=lambda place: -aggregated(place.scores, self._aggregate))  # stable: the first of equals
        return [(place, self._width) for place in steps[: self._beams]]


class Subtrees:
    """In each of n / M trees the best step goes on; a tree ends where that is a terminal (search-and-learn's DVTS)."""

    def __init__(self, width: int, aggregate: Aggregate) -> None:
        self.unit = self._width = width
        self._aggregate = aggregate

    def roots(self, wanted: int) -> list[int]:
        return [self._width] * max(1, wanted // self._width)

    def go_on(self, families: Sequence[Sequence[Place]]) -> list[Ask]:
        usable = [[place for place in family if not place.terminal.failed] for family in families]
        best = [max(family, key=lambda place: aggregated(place.scores, self._aggregate)) for family in usable if family]
        return [(place, self._width) for place in best if place.terminal is Terminal.NO]


class Samples:
    """Every sample goes on."""

    unit = 1

    def roots(self, wanted: int) -> list[int]:
        return [wanted]

    def go_on(self, families: Sequence[Sequence[Place]]) -> list[Ask]:
        return [(place, place.proposals) for family in families for place in family if place.terminal is Terminal.NO]


def rule_of(config: SearchConfig) -> Rule:
    """The rule of the configured strategy, for one problem."""
    if config.strategy is Strategy.BEAM:
        return Beams(config.candidates, config.aggregate)
    return Subtrees(config.candidates, config.aggregate) if config.strategy is Strategy.DVTS else Samples()


@dataclass(slots=True, eq=False)
class _Walk:
    """A problem on its way down.

    Attributes:
      asks: what is expanded next.
    """

    problem: OpenProblem
    rule: Rule
    asks: list[Ask] = field(default_factory=list)


class LevelSearch:
    """Searches problems, many at a time, by a strategy other than the tree search.

    Args:
      config, expander, dialect, spending, progress: as `TreeSearch` takes them.
    """

    def __init__(
        self,
        config: SearchConfig,
        expander: Expander,
        dialect: Dialect,
        spending: Spending,
        progress: Callable[[ProgressEvent], object] | None = None,
    ) -> None:
        self._config, self._spending, self._lanes = config, spending, expander.lanes  # parts of the open problems
        self._samples = config.strategy.samples
        # Of a tree no more leaves are out than fit into a batch.
        self._slots = min(config.batch_leaves, config.solutions)
        self._held: Held[_Walk] = Held(config, spending, lambda walk: walk.problem)
        self._forest = Forest(in_flight=self._slots, own_visits=config.needs_scorer, notes=True)
        self._ground = Ground(config, self._forest, expander, dialect, spending, progress)

    async def run(self, problems: Sequence[Problem], on_result: Callable[[SearchResult], object]) -> None:
        """As `TreeSearch.run`."""
        waiting = iter(problems)
        at_once = self._config.open_problems
        if self._samples:
            of_one = self._part(_OTHERS) if self._config.adaptive else self._spending.rollouts_each
            at_once = max(1, at_once * self._config.candidates // of_one)
        lanes = {asyncio.create_task(self._lane(waiting, part, on_result)) for part in parts_of(at_once, self._lanes) if part}
        try:
            while lanes:
                # Not gather alone: of an interrupt in a lane it would raise it once more, where asyncio is about to close.
                done, lanes = await asyncio.wait(lanes, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.gather(*done)  # raises what a lane raised
        finally:
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)
            self._ground.cancel_all()
        for walk in self._held.all():
            on_result(self._settle(walk))
        for problem in waiting:
            on_result(self._spending.not_begun(problem))

    async def _lane(self, waiting: Iterator[Problem], most: int, on_result: Callable[[SearchResult], object]) -> None:
        """Searches problems of those that wait, so many at a time."""
        walks: list[_Walk] = []
        while True:
            while len(walks) < most and (walk := self._held.given_back(self._draws_on)) is not None:
                walks.append(walk)
            while len(walks) < most and not self._spending.run_is_over and (problem := next(waiting, None)) is not None:
                walks.append(_Walk(self._ground.open(problem), rule_of(self._config)))
                self._begin_round(walks[-1], self._round(walks[-1], walks[-1].problem.allotted))
            if not walks:
                return
            await self._level(walks)
            ended = [walk for walk in walks if self._has_ended(walk)]
            walks = [walk for walk in walks if walk not in ended]
            for walk in ended:
                if not self._held.takes(walk, self._verdict):
                    on_result(self._settle(walk))
            for walk in self._held.surplus():
                on_result(self._settle(walk))

    # --- one level ---

    async def _level(self, walks: Sequence[_Walk]) -> None:
        """Expands what each of the problems asks for, and asks its rule what goes on."""
        asked = [(walk, place, count) for walk in walks for place, count in walk.asks]
        families: dict[_Walk, list[list[Place]]] = {walk: [] for walk in walks}
        for begin in range(0, len(asked), self._config.batch_leaves):
            batch = [ask for ask in asked[begin : begin + self._config.batch_leaves] if ask[0].problem.failure is None]
            if not batch:
                continue
            grown = await self._expand(batch)
            for (walk, place, count), (growth, first) in zip(batch, grown, strict=True):
                families[walk].append([place.below(child, first + i) for i, child in enumerate(growth.children)] if first >= 0 else [])
                self._count(walk.problem, growth, count)
        for walk in walks:
            walk.asks = walk.rule.go_on(families[walk]) if walk.problem.failure is None else []

    async def _expand(self, batch: Sequence[tuple[_Walk, Place, int]]) -> list[tuple[Growth, int]]:
        tickets = self._forest.claim(
            np.array([place.tree for _, place, _ in batch], np.uint32),
            np.array([len(place.path) for _, place, _ in batch], np.uint32),
            np.array([node for _, place, _ in batch for node in place.path], np.uint32),
        ).tolist()
        claims = []
        for ticket, (walk, place, count) in zip(tickets, batch, strict=True):
            leaf = Leaf(place.partial, _EMPTY, len(place.path) - 1, count)
            claims.append(Claim(ticket, walk.problem, place.tree, place.path[-1], leaf))
            self._ground.handed_out(claims[-1])
        grown = await self._ground.expand(claims)
        # What was not cancelled, as its problem failed, waits where it has been expanded or closed.
        waiting = [
            claim.ticket for claim, (growth, first) in zip(claims, grown, strict=True) if first >= 0 or claim.problem.failure is None
        ]
        self._forest.leave(np.array(waiting, np.int64))
        return grown

    def _count(self, problem: OpenProblem, growth: Growth, asked: int) -> None:
        """Counts the solutions that have come to an end, dead ends included."""
        going_on = [child.record.proposals for child in growth.children if child.record.terminal is Terminal.NO]
        if self._samples:
            ended = asked - sum(going_on)
        else:
            ended = len(growth.children) - len(going_on) + (growth.closed is not Terminal.NO)
        if problem.failure is None:
            problem.rollouts += ended
            self._spending.count(rollouts=ended)

    # --- what begins and ends a problem ---

    def _begin_round(self, walk: _Walk, wanted: int) -> None:
        """Draws solutions from new roots."""
        walk.problem.begun += wanted
        for count in walk.rule.roots(wanted):
            tree = self._ground.add_tree(walk.problem, self._slots)
            walk.asks.append((Place(tree, (self._forest.root(tree),), Partial(walk.problem.problem)), count))

    def _round(self, walk: _Walk, left: int) -> int:
        """How many of the solutions left are drawn next: all, or where the vote or a budget may end them early a part; 0 where
        the budget does not pay for one."""
        problem, unit = walk.problem, walk.rule.unit
        wanted = left
        if self._config.adaptive:
            wanted = min(wanted, self._part(_OTHERS if problem.begun else _FIRST))
        if unit and self._config.budget.limits_cost:
            paid = self._spending.pays_for(problem.stats.policy_tokens, problem.begun)
            wanted = min(wanted, paid // unit * unit, _GROWTH * problem.begun) if problem.begun else min(wanted, unit)
        return wanted

    def _part(self, share: float) -> int:
        return math.ceil(self._spending.rollouts_each * share)

    def _has_ended(self, walk: _Walk) -> bool:
        """Whether a problem has come to its end; where its vote is open and it may draw on, a round begins."""
        problem = walk.problem
        if problem.failure is not None:
            return True
        used_up = self._spending.used_up(problem.stats.policy_tokens, problem.rollouts, problem.started)
        if used_up is not None:
            if walk.asks or problem.begun < problem.allotted:
                problem.stopped = used_up
            if self._samples:  # those that are cut short have come to an end without an answer: else the short ones alone would count
                cut = sum(count for _, count in walk.asks)
                problem.rollouts += cut
                self._spending.count(rollouts=cut)
            return True
        return not walk.asks and not self._draws_on(walk)

    def _draws_on(self, walk: _Walk) -> bool:
        """Begins a round of solutions that a problem may still have, its own or then the pool's; whether there is any."""
        problem = walk.problem
        left = problem.allotted - problem.begun
        more = 0 if left else self._spending.more(problem.allotted)
        if not left and not more:
            return False
        decided = self._verdict(problem, left or more) if self._config.adaptive else None
        if decided is not None:
            problem.stopped = decided if left else None
            return False
        wanted = self._round(walk, left or more)
        if not wanted:
            problem.stopped = Stopped.BUDGET
            return False
        self._spending.pool -= more
        problem.allotted += more
        self._begin_round(walk, wanted)
        return True

    def _verdict(self, problem: OpenProblem, rollouts: int) -> Stopped | None:
        """Why a problem may end that could draw so many samples more."""
        choice = choice_of(self._config)
        trajectories = self._ground.trajectories(problem, *self._ground.tree_of(problem))
        # The shares of samples are equal: their marginal vote is the weighted one.
        choice = Choice.WEIGHTED_VOTE if choice is Choice.MARGINAL_VOTE else choice
        votes = vote(trajectories, choice)[0] if trajectories else {}
        return verdict(votes, choice, len(trajectories), float(rollouts), self._config.least_gain)

    def _settle(self, walk: _Walk) -> SearchResult:
        problem = walk.problem
        result = self._ground.settle(problem)
        if result.stats.stopped in (Stopped.DECIDED, Stopped.SMALL_GAIN):
            self._spending.pool += problem.allotted - problem.rollouts
        return result
