"""The ground that all strategies stand on: problems whose trees grow in the C++ forest, a batch of leaves at a time."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from rstar_fast._core import Forest
from rstar_fast.config import SearchConfig
from rstar_fast.search.answers import result_of, trajectories_of
from rstar_fast.search.budgets import Spending
from rstar_fast.search.dialect import Dialect, NodeRecord
from rstar_fast.search.expand import Expander, Growth, Leaf
from rstar_fast.search.merging import merged
from rstar_fast.search.values import FAILED
from rstar_fast.types import (
    Expansion,
    Failure,
    NewStep,
    Problem,
    ProgressEvent,
    SearchResult,
    SearchStats,
    Stopped,
    Trajectory,
    Tree,
)

_COUNTED = ("candidates", "failed_steps", "steps_run", "policy_tokens", "partials_scored")


@dataclass(slots=True, eq=False)
class OpenProblem:
    """A problem under search.

    Attributes:
      allotted: rollouts that it may have so far.
      begun: of them, those that its trees were given.
      trees: the numbers of its trees, those first whose roots have grown, in that order: that of its one tree in the end.
      rooted: how many of them have grown roots.
      at_root: children of roots.
      tags: of nodes, where somebody listens to the progress.
      records: what nodes hold, where the dialect reads it.
      correct: the key's verdicts on graded terminals.
      given_up: what stands as the answer of leaves closed without a successor, where anything does.
      said: tokens of the solution up to a node and their log-probability, where nothing else values it.
      rollouts: of them, those that came to an end.
      out: leaves handed out and not yet given back.
      held_since: when it began to wait for rollouts that others leave; that time is not its own.

    Nodes are named by their index in the forest.
    """

    problem: Problem
    started: float
    allotted: int
    begun: int = 0
    trees: list[int] = field(default_factory=list)
    rooted: int = 0
    at_root: int = 0
    tags: dict[int, str] = field(default_factory=dict)
    records: dict[int, NodeRecord] = field(default_factory=dict)
    correct: dict[int, bool] = field(default_factory=dict)
    given_up: dict[int, str] = field(default_factory=dict)
    said: dict[int, tuple[int, float]] = field(default_factory=dict)
    stats: SearchStats = SearchStats()
    rollouts: int = 0
    out: int = 0
    failure: Failure | None = None
    stopped: Stopped | None = None
    held_since: float | None = None

    def hold(self) -> None:
        """Begins to wait."""
        self.held_since = time.monotonic()

    def go_on(self) -> None:
        """Ends to wait, where it does."""
        if self.held_since is not None:
            self.started += time.monotonic() - self.held_since
            self.held_since = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A leaf handed out by the forest."""

    ticket: int
    problem: OpenProblem
    tree: int
    node: int
    leaf: Leaf


class Ground:
    """Opens problems, expands leaves that were handed out, and makes results.

    Args:
      config: rules and sizes.
      forest: where the trees stand; with notes.
      expander: expands the leaves.
      dialect: says what the reference writes into a node it gives up.
      spending: counts what is spent.
      progress: told of every expansion; None where nobody listens.
    """

    def __init__(
        self,
        config: SearchConfig,
        forest: Forest,
        expander: Expander,
        dialect: Dialect,
        spending: Spending,
        progress: Callable[[ProgressEvent], object] | None,
    ) -> None:
        self._config, self._forest, self._expander, self._dialect = config, forest, expander, dialect
        self._spending, self._progress = spending, progress
        self._reads_policy = config.strategy.samples and not config.strategy.uses_ppm
        self._out: dict[int, Claim] = {}  # by ticket

    def open(self, problem: Problem) -> OpenProblem:
        """A problem that begins, without a tree yet."""
        return OpenProblem(problem, time.monotonic(), self._spending.rollouts_each)

    def add_tree(self, problem: OpenProblem, rollouts: int) -> int:
        """Gives a problem a tree; its number."""
        number = self._forest.add_tree(rollouts)
        problem.trees.append(number)
        problem.tags[self._forest.root(number)] = "0"
        return number

    def handed_out(self, claim: Claim) -> None:
        """Notes that a leaf is out, until `expand` or `cancel_all` gives it back."""
        claim.problem.out += 1
        self._out[claim.ticket] = claim

    def cancel_all(self) -> None:
        """Gives back what is out: the search was cancelled, or a callback raised."""
        for ticket in self._out:
            self._forest.cancel(ticket)
        self._out.clear()

    async def expand(self, claims: Sequence[Claim]) -> list[tuple[Growth, int]]:
        """Expands leaves and gives them back.

        Returns:
          For each what came of it and its first child's node: -1 where it has none, be it that it was closed, or cancelled as its
          problem has failed.
        """
        growths = await self._expander.expand([claim.leaf for claim in claims])
        grown: list[tuple[Claim, Growth]] = []
        for claim, growth in zip(claims, growths, strict=True):
            problem = claim.problem
            self._count(problem, growth)
            problem.failure = problem.failure or growth.failure
            if problem.failure is not None:
                self._forest.cancel(claim.ticket)
                self._is_back(claim)
            elif growth.children:
                grown.append((claim, growth))
            else:
                self._forest.close(claim.ticket, growth.closed, FAILED)
                self._is_back(claim)
                if self._dialect.given_up:
                    problem.given_up[claim.node] = self._dialect.given_up
        firsts = iter(self._grow(grown) if grown else [])
        has_grown = {claim.ticket for claim, _ in grown}
        return [(growth, next(firsts) if claim.ticket in has_grown else -1) for claim, growth in zip(claims, growths, strict=True)]

    def _is_back(self, claim: Claim) -> None:
        del self._out[claim.ticket]
        claim.problem.out -= 1

    def _count(self, problem: OpenProblem, growth: Growth) -> None:
        sums = {name: getattr(problem.stats, name) + getattr(growth, name) for name in _COUNTED}
        problem.stats = dataclasses.replace(problem.stats, expansions=problem.stats.expansions + 1, **sums)
        self._spending.count(tokens=growth.policy_tokens)

    def _grow(self, grown: Sequence[tuple[Claim, Growth]]) -> list[int]:
        """Gives leaves their children, all in one call; the first child of each."""
        children = [child for _, growth in grown for child in growth.children]
        records = [child.record for child in children]
        firsts: list[int] = self._forest.expand(
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
        ).tolist()
        for claim, _ in grown:
            self._is_back(claim)
        for (claim, growth), first in zip(grown, firsts, strict=True):
            self._note(claim, growth, first)
        return firsts

    def _note(self, claim: Claim, growth: Growth, first: int) -> None:
        """Keeps of new nodes what the forest does not."""
        problem = claim.problem
        for node, child in enumerate(growth.children, first):
            if self._dialect.reads_parent:
                problem.records[node] = child.record
            if child.value.correct is not None:
                problem.correct[node] = child.value.correct
            if self._reads_policy:
                tokens, logprob = problem.said.get(claim.node, (0, 0.0))
                problem.said[node] = tokens + child.tokens, logprob + child.logprob
        before = 0
        if claim.leaf.depth == 0:  # children of roots stand side by side in the end
            problem.trees.remove(claim.tree)
            problem.trees.insert(problem.rooted, claim.tree)
            problem.rooted += 1
            before = problem.at_root
            problem.at_root += len(growth.children)
        if self._progress is not None:
            self._progress(self._expansion(claim, growth, first, before))

    @staticmethod
    def _expansion(claim: Claim, growth: Growth, first: int, before: int) -> Expansion:
        tags = claim.problem.tags
        parent_tag = tags[claim.node]
        tags.update({first + i: f"{parent_tag}.{before + i + 1}" for i in range(len(growth.children))})
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
        return Expansion(claim.problem.problem, parent_tag, steps, growth.policy_tokens, growth.steps_run)

    def tree_of(self, problem: OpenProblem) -> tuple[Tree, list[int]]:
        """The problem's trees as one, as they are now, and the nodes of its rows."""
        columns = merged([self._forest.columns(number) for number in problem.trees])
        nodes: list[int] = columns.pop("node").tolist()
        tree = Tree(columns)
        if problem.given_up:
            answers = [problem.given_up.get(node, answer) for node, answer in zip(nodes, tree.texts("answer"), strict=True)]
            tree = Tree.from_texts(columns, {"answer": answers})
        return tree, nodes

    def trajectories(self, problem: OpenProblem, tree: Tree, nodes: Sequence[int]) -> tuple[Trajectory, ...]:
        """The complete solutions in `tree_of` the problem."""
        correct = {at: problem.correct[node] for at, node in enumerate(nodes) if node in problem.correct}
        scores = None
        if self._reads_policy:
            scores = [logprob / max(1, tokens) for tokens, logprob in (problem.said.get(node, (0, 0.0)) for node in nodes)]
        samples = problem.rollouts if self._config.strategy.samples else None
        return trajectories_of(tree, correct, self._config.aggregate, scores, samples)

    def settle(self, problem: OpenProblem) -> SearchResult:
        """Takes the trees of a problem that is done or has failed out of the forest and makes its result."""
        problem.go_on()
        in_flight = sum(self._forest.in_flight(number) for number in problem.trees)
        # Rollouts of a failed tree may still wait for a leaf that another of them held; they go with the tree.
        assert in_flight == 0 or problem.failure is not None, f"{in_flight} virtual visits are left in a finished tree"
        tree, nodes = self.tree_of(problem)
        trajectories = self.trajectories(problem, tree, nodes)
        for number in problem.trees:
            self._forest.remove(number)
        stopped = problem.stopped
        if stopped is None and problem.failure is None and self._spending.is_limited_to_fewer:
            stopped = Stopped.BUDGET
        stats = dataclasses.replace(
            problem.stats, rollouts=problem.rollouts, seconds=time.monotonic() - problem.started, stopped=stopped
        )
        return result_of(problem.problem, tree, trajectories, self._config, stats, problem.failure)


def parts_of(count: int, parts: int) -> list[int]:
    """So many divided into parts, as evenly as may be."""
    return [count // parts + (k < count % parts) for k in range(parts)]
