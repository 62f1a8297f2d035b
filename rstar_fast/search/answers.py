"""From a finished tree to its answer: trajectories, votes over equal answers, the choice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from rstar_fast.config import Aggregate, Annotation, Choice, SearchConfig
from rstar_fast.grading import classes
from rstar_fast.types import Failure, FailureKind, Problem, SearchResult, SearchStats, Stopped, Terminal, Trajectory, Tree


def result_of(
    problem: Problem,
    tree: Tree,
    trajectories: tuple[Trajectory, ...],
    config: SearchConfig,
    stats: SearchStats,
    failure: Failure | None = None,
) -> SearchResult:
    """The result of a search.

    Args:
      tree: the finished tree.
      trajectories: its complete solutions, best score first.
      failure: why the search broke off, if it did; the tree so far and its trajectories are kept.
    """
    if failure is not None:
        return SearchResult(problem, trajectories=trajectories, tree=tree, stats=stats, failure=failure)
    if not trajectories:
        return SearchResult(problem, tree=tree, stats=stats, failure=no_answer(tree, config, stats))
    votes, score = vote(trajectories, choice_of(config))
    return SearchResult(problem, next(iter(votes)), score, trajectories, votes, tree, stats)


def choice_of(config: SearchConfig) -> Choice:
    """How a search chooses among its trajectories."""
    # Graded terminals carry the key's verdict as their value: it must not choose the answer. And without a PPM there is no belief.
    return config.choice if config.annotation is Annotation.INFERENCE and config.needs_scorer else Choice.MAJORITY


def trajectories_of(
    tree: Tree,
    correct: Mapping[int, bool],
    aggregate: Aggregate = Aggregate.LAST,
    scores: Sequence[float] | None = None,
    samples: int | None = None,
) -> tuple[Trajectory, ...]:
    """All complete solutions in a tree, best score first.

    Args:
      correct: the key's verdicts by column index of graded terminals.
      aggregate: how the score of a solution that is not graded is made of those of its steps.
      scores: of the solutions that end in each node, where no PPM scored them.
      samples: how many independent samples the tree holds, if it does; each that gave an answer is a trajectory.
    """
    columns = tree.columns()
    ends = (columns["terminal"] == Terminal.ANSWER).nonzero()[0].tolist()
    if not ends:
        return ()
    # Plain lists: a tree may have hundreds of solutions, each looked at once.
    parent, first_child, score, proposals = (columns[name].tolist() for name in ("parent", "first_child", "score", "proposals"))
    q = [
        total / visits if visits else 0.0
        for total, visits in zip(columns["value_sum"].tolist(), columns["visits"].tolist(), strict=True)
    ]
    texts, answers, shares = tree.texts("text"), tree.texts("answer"), shares_of(tree)
    found: list[Trajectory] = []
    for index in ends:
        path = []
        at = index
        while at > 0:
            path.append(at)
            at = parent[at]
        path.reverse()
        verdict = correct.get(index)
        if verdict is not None:
            value = 1.0 if verdict else -1.0
        else:
            value = scores[index] if scores is not None else aggregated([score[step] for step in path], aggregate)
        trajectory = Trajectory(
            solution="".join([texts[step] for step in path]),
            answer=answers[index],
            score=0.0 if value != value else value,
            q_values=tuple([q[step] for step in path]),
            correct=verdict,
            tag=".".join(["0", *[str(step - first_child[parent[step]] + 1) for step in path]]),
            share=math.prod([shares[step] for step in path]) if samples is None else 1.0 / max(1, samples),  # none has ended where a failure broke them off
        )
        found += [trajectory] * (1 if samples is None else proposals[index])
    return tuple(sorted(found, key=lambda trajectory: -trajectory.score))


def aggregated(scores: Sequence[float], aggregate: Aggregate) -> float:
    """One score in [-1, 1] of the PPM's scores of one step or more (see `Aggregate`)."""
    if aggregate is Aggregate.LAST:
        return scores[-1]
    if aggregate is Aggregate.MEAN:
        return math.fsum(scores) / len(scores)
    if aggregate is Aggregate.MIN:
        return min(scores)
    return 2.0 * math.prod([(1.0 + score) / 2.0 for score in scores]) - 1.0


def tree_shares(tree: Tree) -> list[float]:
    """For each node the policy's probability of the solution up to it: the product of `shares_of` on its path; 1 at the root."""
    parent, shares = tree.columns()["parent"].tolist(), shares_of(tree)
    for node in range(1, len(shares)):  # parents stand before their children
        shares[node] *= shares[parent[node]]
    return shares


def shares_of(tree: Tree) -> list[float]:
    """For each node the part of its siblings' proposals, its own included, that were this step; 1 at the root."""
    parent, proposals = tree.columns()["parent"][1:], tree.columns()["proposals"]
    of_siblings = np.bincount(parent, weights=proposals[1:], minlength=len(tree))[parent]
    return [1.0, *(proposals[1:] / of_siblings).tolist()]


def vote(trajectories: Sequence[Trajectory], choice: Choice) -> tuple[dict[str, float], float]:
    """Weighs the distinct answers.

    Args:
      trajectories: at least one, best score first; that order breaks ties.

    Returns:
      The weight of each distinct answer, written as in its best trajectory, largest first; and the first one's score: its
      best trajectory's under BEST_SCORE, its share of all weight, 0 to 1, under the two votes.
    """
    weights: dict[int, float] = {}
    written: dict[int, str] = {}
    of_class = classes([trajectory.answer for trajectory in trajectories])
    for trajectory, number in zip(trajectories, of_class, strict=True):
        written.setdefault(number, trajectory.answer)
        if choice is Choice.BEST_SCORE:
            weights.setdefault(number, trajectory.score)
        else:
            weights[number] = weights.get(number, 0.0) + _weight(trajectory, choice)
    votes = {written[number]: weight for number, weight in sorted(weights.items(), key=lambda item: -item[1])}
    best = next(iter(votes.values()))
    if choice is Choice.BEST_SCORE:
        return votes, best
    total = sum(votes.values())
    return votes, best / total if total else 0.0


def _weight(trajectory: Trajectory, choice: Choice) -> float:
    """The weight of a trajectory's vote.

    A tree holds each solution once, however often the policy proposes it. With their shares as weights the votes estimate what
    the votes of independent samples do: for each answer the probability that the policy gives it, times the belief in it.
    """
    if choice is Choice.MAJORITY:
        return 1.0
    belief = (1.0 + trajectory.score) / 2.0
    return belief if choice is Choice.WEIGHTED_VOTE else belief * trajectory.share


def no_answer(tree: Tree, config: SearchConfig, stats: SearchStats) -> Failure:
    """Why a search that ran to its end, or to that of a budget, has no answer."""
    if stats.stopped is Stopped.RUN_BUDGET:
        return Failure(
            FailureKind.BUDGET, "the run's budget was used up before a solution gave an answer: search it again with a larger run_budget"
        )
    until = " before the problem's budget was used up" if stats.stopped is Stopped.BUDGET else ""
    if config.strategy.samples:
        return Failure(FailureKind.NO_ANSWER, f"none of the {stats.rollouts} sampled solutions gave an answer{until}")
    terminal = tree.columns()["terminal"]
    counts = {kind: int((terminal == kind).sum()) for kind in Terminal if kind.failed}
    said = {
        Terminal.TOO_MANY_ERRORS: "ended where no proposed code ran",
        Terminal.TOO_DEEP: "reached max_depth or the end of a model's context",
        Terminal.NO_CANDIDATES: "ended where the policy proposed nothing usable",
    }
    reasons = [f"{count} {said[kind]}" for kind, count in counts.items() if count]
    return Failure(FailureKind.NO_ANSWER, f"no solution gave an answer{until}: {', '.join(reasons) or 'none came to its end'}")
