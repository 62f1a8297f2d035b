"""The tree search over many problems at once: the C++ forest chooses leaves, batches of them are expanded concurrently."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from rstar_fast._core import Forest
from rstar_fast.config import Behaviour, SearchConfig
from rstar_fast.search.answers import result_of
from rstar_fast.search.dialect import Dialect, NodeRecord
from rstar_fast.search.expand import Expander, Growth, Leaf
from rstar_fast.search.values import FAILED
from rstar_fast.types import (
    Expansion,
    Failure,
    NewStep,
    Partial,
    Problem,
    ProgressEvent,
    SearchResult,
    SearchStats,
    Tree,
)

# Batches under way at a time: while one is in the policy, another's code runs.
_LANES = 2
_LOGARITHMS = 1 << 16
_EMPTY = NodeRecord()  # of the root, and of every node where the dialect does not look


@dataclass(slots=True, eq=False)
class _OpenTree:
    """A problem under search.

    Attributes:
      tags: of nodes, where somebody listens to the progress.
      records: what nodes hold, where the dialect reads it.
      correct: the key's verdicts on graded terminals.
      given_up: what stands as the answer of leaves closed without a successor, where anything does.
      out: leaves handed out and not yet given back.

    Nodes are named by their index in the forest.
    """

    number: int
    problem: Problem
    started: float
    tags: dict[int, str]
    records: dict[int, NodeRecord] = field(default_factory=dict)
    correct: dict[int, bool] = field(default_factory=dict)
    given_up: dict[int, str] = field(default_factory=dict)
    stats: SearchStats = SearchStats()
    out: int = 0
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class _Claim:
    """A leaf handed out by the forest."""

    ticket: int
    tree: _OpenTree
    node: int
    leaf: Leaf


class TreeSearch:
    """Searches problems, many at a time.

    Args:
      config: rules and sizes.
      expander: expands the leaves.
      dialect: says what the reference writes into a node it gives up.
      progress: told of every expansion; None where nobody listens.
    """

    def __init__(
        self,
        config: SearchConfig,
        expander: Expander,
        dialect: Dialect,
        progress: Callable[[ProgressEvent], object] | None = None,
    ) -> None:
        self._config, self._expander, self._dialect, self._progress = config, expander, dialect, progress
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
        self._open: dict[int, _OpenTree] = {}
        self._out: dict[int, _Claim] = {}  # by ticket

    async def run(self, problems: Sequence[Problem], on_result: Callable[[SearchResult], object]) -> None:
        """Searches the problems; `on_result` gets each result as soon as it is there, in no particular order.

        When it is cancelled or `on_result` raises, leaves in flight are given back and finished results have been handed on.
        """
        waiting = iter(problems)
        lanes: set[asyncio.Task[None]] = set()
        try:
            while True:
                self._open_trees(waiting)
                if not self._open:
                    return
                settled = [self._open[number] for number in self._fill_lanes(lanes)]
                settled += [
                    tree for tree in self._open.values() if tree.failure is not None and not tree.out and tree not in settled
                ]
                for tree in settled:
                    on_result(self._settle(tree))
                if lanes:
                    done, lanes = await asyncio.wait(lanes, return_when=asyncio.FIRST_COMPLETED)
                    await asyncio.gather(*done)  # raises what a lane raised
                else:
                    assert settled, "trees are open, but have no leaf to expand"
        finally:
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)
            for ticket in self._out:  # cancelled, or a callback raised: no leaf may stay out
                self._forest.cancel(ticket)
            self._out.clear()

    def _open_trees(self, waiting: Iterator[Problem]) -> None:
        while len(self._open) < self._config.open_problems:
            problem = next(waiting, None)
            if problem is None:
                return
            number = self._forest.add_tree(self._config.rollouts)
            self._open[number] = _OpenTree(number, problem, time.monotonic(), {self._forest.root(number): "0"})

    def _fill_lanes(self, lanes: set[asyncio.Task[None]]) -> list[int]:
        """Starts batches until all lanes are under way or no leaf is to be had; the trees found finished."""
        finished: list[int] = []
        share = math.ceil(len(self._open) * self._config.in_flight / _LANES)
        while len(lanes) < _LANES:
            tickets, trees, nodes, depths, ended = self._forest.select(min(self._config.batch_leaves, max(1, share)))
            finished += ended.tolist()
            claims = []
            for ticket, number, node, depth, solution in zip(
                tickets.tolist(), trees.tolist(), nodes.tolist(), depths.tolist(), self._forest.solutions(tickets), strict=True
            ):
                tree = self._open[number]
                if tree.failure is not None:  # others of its leaves are still out
                    self._forest.cancel(ticket)
                    continue
                tree.out += 1
                leaf = Leaf(Partial(tree.problem, solution), tree.records.get(node, _EMPTY), depth)
                claims.append(_Claim(ticket, tree, node, leaf))
                self._out[ticket] = claims[-1]
            if not claims:
                break
            lanes.add(asyncio.create_task(self._expand(claims)))
        return finished

    async def _expand(self, claims: Sequence[_Claim]) -> None:
        growths = await self._expander.expand([claim.leaf for claim in claims])
        grown: list[tuple[_Claim, Growth]] = []
        for claim, growth in zip(claims, growths, strict=True):
            self._count(claim.tree, growth)
            claim.tree.failure = claim.tree.failure or growth.failure
            if claim.tree.failure is not None:
                self._forest.cancel(claim.ticket)
                self._is_back(claim)
            elif growth.children:
                grown.append((claim, growth))
            else:
                self._forest.close(claim.ticket, growth.closed, FAILED)
                self._is_back(claim)
                if self._dialect.given_up:
                    claim.tree.given_up[claim.node] = self._dialect.given_up
        if grown:
            self._grow(grown)

    def _is_back(self, claim: _Claim) -> None:
        del self._out[claim.ticket]
        claim.tree.out -= 1

    def _grow(self, grown: Sequence[tuple[_Claim, Growth]]) -> None:
        """Gives leaves their children, all in one call."""
        children = [child for _, growth in grown for child in growth.children]
        records = [child.record for child in children]
        firsts = self._forest.expand(
            np.array([claim.ticket for claim, _ in grown], np.int64),
            np.array([len(growth.children) for _, growth in grown], np.uint32),
            np.array([child.value.value for child in children], np.float64),
            np.array([child.value.score for child in children], np.float32),
            np.array([record.terminal for record in records], np.uint8),
            (
                [record.text for record in records],
                [record.observation for record in records],
                [record.answer for record in records],
                np.array([record.proposals for record in records], np.uint32),
            ),
        )
        for claim, _ in grown:
            self._is_back(claim)
        for (claim, growth), first in zip(grown, firsts.tolist(), strict=True):
            for node, child in enumerate(growth.children, first):
                if self._dialect.reads_parent:
                    claim.tree.records[node] = child.record
                if child.value.correct is not None:
                    claim.tree.correct[node] = child.value.correct
            if self._progress is not None:
                self._progress(self._expansion(claim, growth, first))

    @staticmethod
    def _expansion(claim: _Claim, growth: Growth, first: int) -> Expansion:
        tags = claim.tree.tags
        parent_tag = tags[claim.node]
        tags.update({first + i: f"{parent_tag}.{i + 1}" for i in range(len(growth.children))})
        steps = tuple(
            NewStep(
                tags[node],
                child.record.text,
                child.record.observation,
                child.record.answer or None,
                child.value.score,
                child.record.terminal,
            )
            for node, child in enumerate(growth.children, first)
        )
        return Expansion(claim.tree.problem, parent_tag, steps, growth.policy_tokens, growth.steps_run)

    @staticmethod
    def _count(tree: _OpenTree, growth: Growth) -> None:
        counted = ("candidates", "failed_steps", "steps_run", "policy_tokens", "partials_scored")
        sums = {name: getattr(tree.stats, name) + getattr(growth, name) for name in counted}
        tree.stats = dataclasses.replace(tree.stats, expansions=tree.stats.expansions + 1, **sums)

    def _settle(self, tree: _OpenTree) -> SearchResult:
        """Takes a tree that is done or has failed out of the forest and makes its result."""
        in_flight = self._forest.in_flight(tree.number)
        # Rollouts of a failed tree may still wait for a leaf that another of them held; they go with the tree.
        assert in_flight == 0 or tree.failure is not None, f"{in_flight} virtual visits are left in a finished tree"
        columns = self._forest.columns(tree.number)
        nodes = columns.pop("node").tolist()
        stats = dataclasses.replace(
            tree.stats, rollouts=self._forest.rollouts_ended(tree.number), seconds=time.monotonic() - tree.started
        )
        self._forest.remove(tree.number)
        del self._open[tree.number]
        finished = Tree(columns)
        if tree.given_up:
            answers = [tree.given_up.get(node, answer) for node, answer in zip(nodes, finished.texts("answer"), strict=True)]
            finished = Tree.from_texts(columns, {"answer": answers})
        correct = {at: tree.correct[node] for at, node in enumerate(nodes) if node in tree.correct}
        return result_of(tree.problem, finished, correct, self._config, stats, tree.failure)
