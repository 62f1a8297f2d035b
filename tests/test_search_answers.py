"""From trajectories to the answer: the three choices, ties, equal answers; and the baselines without a tree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

import rstar_fast
from rstar_fast import Candidate, CodeError, ErrorKind, Execution, InvalidInput, Partial, Problem, Trajectory
from rstar_fast.config import Choice
from rstar_fast.search.answers import vote
from rstar_fast.types import FailureKind


def trajectories(*given: tuple[str, float]) -> list[Trajectory]:
    """One for each answer and score; the best score first, as `vote` takes them."""
    return [Trajectory("", answer, score, ()) for answer, score in sorted(given, key=lambda pair: -pair[1])]


# --- votes ---


def test_the_three_choices_differ() -> None:
    given = trajectories(("1", 0.9), ("2", 0.6), ("2", 0.2), ("3", -0.6), ("3", -0.7), ("3", -0.8))
    votes, score = vote(given, Choice.BEST_SCORE)
    assert (list(votes.items()), score) == ([("1", 0.9), ("2", 0.6), ("3", -0.6)], 0.9)
    votes, score = vote(given, Choice.MAJORITY)
    assert (list(votes.items()), score) == ([("3", 3.0), ("2", 2.0), ("1", 1.0)], 0.5)
    votes, score = vote(given, Choice.WEIGHTED_VOTE)
    assert list(votes) == ["2", "1", "3"]
    assert list(votes.values()) == pytest.approx([0.8 + 0.6, 0.95, 0.2 + 0.15 + 0.1])
    assert score == pytest.approx(1.4 / 2.8)


@pytest.mark.parametrize("choice", Choice)
def test_equal_answers_are_one_however_written(choice: Choice) -> None:
    """Written as in the best trajectory of the class."""
    votes, _ = vote(trajectories(("0.5", 0.1), ("\\frac{1}{2}", 0.8), ("1/2", 0.3), ("7", 0.7)), choice)
    assert list(votes) == ["\\frac{1}{2}", "7"]


@pytest.mark.parametrize("choice", Choice)
def test_ties_go_to_the_better_trajectory_and_then_to_the_first(choice: Choice) -> None:
    votes, _ = vote(trajectories(("4", 0.25), ("5", 0.25)), choice)
    assert list(votes) == ["4", "5"]


def test_a_tied_majority_goes_to_the_best_score() -> None:
    votes, score = vote(trajectories(("4", -0.5), ("4", -0.25), ("5", 0.5), ("5", -0.75)), Choice.MAJORITY)
    assert (list(votes), score) == (["5", "4"], 0.5)


def test_where_all_weigh_nothing_there_is_an_answer_without_a_share() -> None:
    votes, score = vote(trajectories(("4", -1.0), ("5", -1.0)), Choice.WEIGHTED_VOTE)
    assert (votes, score) == ({"4": 0.0, "5": 0.0}, 0.0)


SCORES = {"4": 0.9, "5": 0.5, "6": -0.5}


async def answers_at_once(partials: Sequence[Partial], n: int) -> list[list[Candidate]]:
    """4 with the best score, 5 twice, 6 three times."""
    texts = ["4", "5", " 5", "6", " 6", "  6"]
    return [[Candidate(f"{text}\\boxed{{{text.strip()}}}") for text in texts[:n]] for _ in partials]


def score_of_answer(partials: Sequence[Partial]) -> list[float]:
    return [SCORES[partial.solution.strip()[0]] for partial in partials]


@pytest.mark.parametrize(
    ("choice", "answer", "score"), [("best_score", "4", 0.9), ("majority", "6", 0.5), ("weighted_vote", "5", 1.5 / 3.2)]
)
def test_a_search_chooses_as_configured(choice: str, answer: str, score: float) -> None:
    result = rstar_fast.search("q", policy=answers_at_once, ppm=score_of_answer, choice=choice)
    assert (result.answer, result.failure) == (answer, None)
    assert result.score == pytest.approx(score)
    assert next(iter(result.votes)) == answer and set(result.votes) == {"4", "5", "6"}
    assert [trajectory.score for trajectory in result.trajectories] == pytest.approx([0.9, 0.5, 0.5, -0.5, -0.5, -0.5])


@pytest.mark.parametrize("choice", ["best_score", "weighted_vote", "majority"])
@pytest.mark.parametrize("annotation", ["terminal", "ppm"])
def test_in_training_the_key_does_not_choose_the_answer(annotation: str, choice: str) -> None:
    """The graded trajectories stand first, but the answer is the majority's, whatever the key says."""
    result = rstar_fast.search(
        Problem("q", "q"), policy=answers_at_once, ppm=score_of_answer, annotation=annotation, answers={"q": "4"}, choice=choice
    )
    assert [(t.answer, t.correct, t.score) for t in result.trajectories[:2]] == [("4", True, 1.0), ("5", False, -1.0)]
    assert (result.answer, result.score) == ("6", 0.5)


# --- greedy and sample ---


class Sequenced:
    """What it gives at the root is taken in turn from a script; below, each answers with what it was. Notes what is asked for."""

    def __init__(self, *roots: str) -> None:
        self.roots, self.asked, self.calls = roots, Counter[str](), list[tuple[int, int]]()

    async def propose(self, partials: Sequence[Partial], n: int) -> list[list[Candidate]]:
        self.calls.append((len(partials), n))
        return [[Candidate(self._next(partial)) for _ in range(n)] for partial in partials]

    def _next(self, partial: Partial) -> str:
        if partial.solution:
            return f"\\boxed{{{partial.solution.split()[-1]}}}"
        turn = self.asked[partial.problem.id]
        self.asked[partial.problem.id] += 1
        return self.roots[turn % len(self.roots)]


class Runs:
    """Programs with "raise" in them fail."""

    async def run_batch(self, programs: Any) -> list[Execution]:
        failed = CodeError(ErrorKind.RAISED, "ValueError", "")
        return [Execution("", failed if "raise" in program.code else None) for program in programs]


def test_greedy_is_one_solution() -> None:
    policy = Sequenced("so 5\n")
    result = rstar_fast.search.greedy("q", policy=policy)
    assert (result.answer, result.score, result.failure, policy.calls) == ("5", 1.0, None, [(1, 1), (1, 1)])
    assert [trajectory.solution for trajectory in result.trajectories] == ["so 5\n\\boxed{5}"]
    assert (result.stats.rollouts, result.stats.expansions, result.stats.candidates) == (1, 2, 2)


def test_sample_takes_the_majority() -> None:
    policy = Sequenced("4\n", "5\n", "<code>raise<end_of_code>", "5\n")
    result = rstar_fast.search.sample("q", 8, policy=policy, executor=Runs())
    assert (result.answer, result.votes, len(result.trajectories)) == ("5", {"5": 4.0, "4": 2.0}, 6)
    assert result.score == pytest.approx(4 / 6)
    assert policy.calls == [(1, 8), (1, 2), (1, 4)]  # equal steps are one node, asked for what stands there
    assert (result.stats.rollouts, result.stats.failed_steps, result.stats.steps_run) == (8, 1, 1)  # equal steps run once


def test_a_sampled_solutions_score_is_the_mean_log_probability_of_its_tokens() -> None:
    def policy(partials: Sequence[Partial], n: int) -> list[list[Candidate]]:
        return [[Candidate("so 5\n", None, 3, -1.5) if not partial.solution else Candidate("\\boxed{5}", None, 2, -1.0)] for partial in partials]

    result = rstar_fast.search.sample("q", 2, policy=policy)
    assert [trajectory.score for trajectory in result.trajectories] == [-0.5, -0.5]
    silent = rstar_fast.search.sample("q", 1, policy=Sequenced("4\n"))
    assert [trajectory.score for trajectory in silent.trajectories] == [0.0]


def test_solutions_that_do_not_end_are_no_solutions() -> None:
    result = rstar_fast.search.sample("q", 3, policy=lambda partials, n: [[Candidate("on\n")]] * len(partials), max_depth=4)
    assert result.failure is not None and result.failure.kind is FailureKind.NO_ANSWER
    assert str(result.failure) == "no answer: none of the 3 sampled solutions gave an answer"
    assert (result.stats.expansions, result.stats.candidates, result.stats.rollouts) == (4, 3 * 4, 3)


def test_problems_come_back_in_order_and_in_batches() -> None:
    policy, finished = Sequenced("4\n", "5\n"), []
    problems = ["a", Problem("b", "id b"), "c", "a"]
    results = rstar_fast.search.sample(problems, 2, policy=policy, progress=finished.append, open_problems=1, candidates=4)
    assert [result.problem.question for result in results] == ["a", "b", "c", "a"]
    told = [event.result.problem.question for event in finished if isinstance(event, rstar_fast.Finished)]
    assert sorted(told) == ["a", "b", "c"]
    assert policy.calls.count((1, 2)) == 3 and len(policy.calls) == 2 * 3  # two problems of two samples at a time, each a lane
    assert rstar_fast.search.sample([], policy=policy) == []


def test_a_policy_that_fails_for_one_problem_costs_the_others_nothing() -> None:
    def policy(partials: Sequence[Partial], n: int) -> list[list[Candidate]]:
        if any(partial.problem.question == "bad" for partial in partials):
            raise ValueError("no\nsuch luck")
        return [[Candidate("\\boxed{5}")]] * len(partials)

    good, bad, other = rstar_fast.search.sample(["good", "bad", "other"], 2, policy=policy)
    assert (good.answer, other.answer) == ("5", "5")
    assert str(bad.failure) == "policy: the policy raised ValueError: no such luck"


@pytest.mark.parametrize("samples", [0, -1, 1.5, "4", None, True])
def test_samples_are_counted_from_one(samples: Any) -> None:
    with pytest.raises(InvalidInput, match="samples is .*: give an integer >= 1"):
        rstar_fast.search.sample("q", samples, policy=Sequenced("4\n"))
