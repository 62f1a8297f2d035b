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


@dataclass(slots=True, eq=False)
class _OpenTree:
    """A problem under search.

    Attributes:
      records: what each node holds, by its index in the forest.
      correct: the key's verdicts on graded terminals, by index in the forest.
      out: leaves handed out and not yet given back.
    """

    number: int
    problem: Problem
    records: dict[int, NodeRecord]
    started: float
    tags: dict[int, str]
    correct: dict[int, bool] = field(default_factory=dict)
    stats: SearchStats = SearchStats()
    out: int = 0
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class _Claim:
    """A leaf handed out by the forest."""

    ticket: int
    tree: _OpenTree
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
            root = self._forest.root(number)
            self._open[number] = _OpenTree(number, problem, {root: NodeRecord()}, time.monotonic(), {root: "0"})

    def _fill_lanes(self, lanes: set[asyncio.Task[None]]) -> list[int]:
        """Starts batches until all lanes are under way or no leaf is to be had; the trees found finished."""
        finished: list[int] = []
        share = math.ceil(len(self._open) * self._config.in_flight / _LANES)
        while len(lanes) < _LANES:
            tickets, trees, nodes, depths, ended = self._forest.select(min(self._config.batch_leaves, max(1, share)))
            finished += ended.tolist()
            claims = []
            for ticket, number, node, depth in zip(
                tickets.tolist(), trees.tolist(), nodes.tolist(), depths.tolist(), strict=True
            ):
                tree = self._open[number]
                if tree.failure is not None:  # others of its leaves are still out
                    self._forest.cancel(ticket)
                    continue
                tree.out += 1
                partial = Partial(tree.problem, self._solution(tree, node))
                claims.append(_Claim(ticket, tree, Leaf(partial, tree.records[node], node, depth)))
                self._out[ticket] = claims[-1]
            if not claims:
                break
            lanes.add(asyncio.create_task(self._expand(claims)))
        return finished

    @staticmethod
    def _solution(tree: _OpenTree, node: int) -> str:
        texts = []
        at: int | None = node
        while at is not None:
            record = tree.records[at]
            texts.append(record.text)
            at = record.parent
        return "".join(reversed(texts))

    async def _expand(self, claims: Sequence[_Claim]) -> None:
        growths = await self._expander.expand([claim.leaf for claim in claims])
        for claim, growth in zip(claims, growths, strict=True):
            self._give_back(claim, growth)

    def _give_back(self, claim: _Claim, growth: Growth) -> None:
        del self._out[claim.ticket]
        claim.tree.out -= 1
        self._count(claim.tree, growth)
        if growth.failure is not None or claim.tree.failure is not None:
            claim.tree.failure = claim.tree.failure or growth.failure
            self._forest.cancel(claim.ticket)
        elif growth.children:
            self._grow(claim, growth)
        else:
            self._forest.close(claim.ticket, growth.closed, FAILED)
            claim.tree.records[claim.leaf.index] = self._dialect.given_up(claim.leaf.record, growth.closed)

    def _grow(self, claim: _Claim, growth: Growth) -> None:
        tree, children = claim.tree, growth.children
        firsts = self._forest.expand(
            np.array([claim.ticket], np.int64),
            np.array([len(children)], np.uint32),
            np.array([child.value.value for child in children], np.float64),
            np.array([child.value.score for child in children], np.float32),
            np.array([child.record.terminal for child in children], np.uint8),
        )
        first = int(firsts[0])
        for node, child in enumerate(children, first):
            tree.records[node] = child.record
            if child.value.correct is not None:
                tree.correct[node] = child.value.correct
        if self._progress is None:
            return
        parent_tag = tree.tags[claim.leaf.index]
        tree.tags.update({node: f"{parent_tag}.{node - first + 1}" for node in range(first, first + len(children))})
        steps = tuple(
            NewStep(
                tree.tags[node],
                child.record.text,
                child.record.observation,
                child.record.answer or None,
                child.value.score,
                child.record.terminal,
            )
            for node, child in enumerate(children, first)
        )
        self._progress(Expansion(tree.problem, parent_tag, steps, growth.policy_tokens, growth.steps_run))

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
        records = [tree.records[node] for node in nodes]
        columns["proposals"] = np.array([record.proposals for record in records], np.uint32)
        texts = {
            "text": [record.text for record in records],
            "observation": [record.observation for record in records],
            "answer": [record.answer for record in records],
        }
        stats = dataclasses.replace(
            tree.stats, rollouts=self._forest.rollouts_ended(tree.number), seconds=time.monotonic() - tree.started
        )
        self._forest.remove(tree.number)
        del self._open[tree.number]
        correct = {at: tree.correct[node] for at, node in enumerate(nodes) if node in tree.correct}
        finished = Tree.from_texts(columns, texts)
        return result_of(tree.problem, finished, correct, self._config, stats, tree.failure)
