"""From a finished tree to its answer: trajectories, votes over equal answers, the choice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from rstar_fast.config import Annotation, Choice, SearchConfig
from rstar_fast.grading import classes
from rstar_fast.types import Failure, FailureKind, Problem, SearchResult, SearchStats, Terminal, Trajectory, Tree


def result_of(
    problem: Problem,
    tree: Tree,
    correct: Mapping[int, bool],
    config: SearchConfig,
    stats: SearchStats,
    failure: Failure | None = None,
) -> SearchResult:
    """The result of a search.

    Args:
      tree: the finished tree.
      correct: the key's verdicts by column index of graded terminals.
      failure: why the search stopped early, if it did; the tree so far and its trajectories are kept.
    """
    trajectories = trajectories_of(tree, correct)
    if failure is not None:
        return SearchResult(problem, trajectories=trajectories, tree=tree, stats=stats, failure=failure)
    if not trajectories:
        return SearchResult(problem, tree=tree, stats=stats, failure=no_answer(tree))
    # Graded terminals carry the key's verdict as their value: it must not choose the answer.
    choice = config.choice if config.annotation is Annotation.INFERENCE else Choice.MAJORITY
    votes, score = vote(trajectories, choice)
    return SearchResult(problem, next(iter(votes)), score, trajectories, votes, tree, stats)


def trajectories_of(tree: Tree, correct: Mapping[int, bool]) -> tuple[Trajectory, ...]:
    """All complete solutions in a tree, best score first."""
    columns = tree.columns()
    ends = (columns["terminal"] == Terminal.ANSWER).nonzero()[0].tolist()
    if not ends:
        return ()
    # Plain lists: a tree may have hundreds of solutions, each looked at once.
    parent, first_child, score = (columns[name].tolist() for name in ("parent", "first_child", "score"))
    q = [
        total / visits if visits else 0.0
        for total, visits in zip(columns["value_sum"].tolist(), columns["visits"].tolist(), strict=True)
    ]
    texts, answers, shares = tree.texts("text"), tree.texts("answer"), _shares(tree)
    found = []
    for index in ends:
        path = []
        at = index
        while at > 0:
            path.append(at)
            at = parent[at]
        path.reverse()
        verdict = correct.get(index)
        value = score[index] if verdict is None else (1.0 if verdict else -1.0)
        found.append(
            Trajectory(
                solution="".join([texts[step] for step in path]),
                answer=answers[index],
                score=0.0 if value != value else value,
                q_values=tuple([q[step] for step in path]),
                correct=verdict,
                tag=".".join(["0", *[str(step - first_child[parent[step]] + 1) for step in path]]),
                share=math.prod([shares[step] for step in path]),
            )
        )
    return tuple(sorted(found, key=lambda trajectory: -trajectory.score))


def _shares(tree: Tree) -> list[float]:
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


def no_answer(tree: Tree) -> Failure:
    """Why a search that ran to its end has no answer."""
    terminal = tree.columns()["terminal"]
    counts = {kind: int((terminal == kind).sum()) for kind in Terminal if kind.failed}
    said = {
        Terminal.TOO_MANY_ERRORS: "ended where no proposed code ran",
        Terminal.TOO_DEEP: "reached max_depth or the end of a model's context",
        Terminal.NO_CANDIDATES: "ended where the policy proposed nothing usable",
    }
    reasons = [f"{count} {said[kind]}" for kind, count in counts.items() if count]
    return Failure(FailureKind.NO_ANSWER, f"no solution gave an answer: {', '.join(reasons) or 'none came to its end'}")
