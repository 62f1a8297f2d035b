"""Misread problems: right and wrong worked solutions of equal prefix, exact, of the train split only."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from rstar_fast import steps
from rstar_fast.sandbox import Sandbox
from rstar_fast.training.nano_misreadings import misread_problems
from rstar_fast.training.nano_rollouts import Rollouts
from rstar_fast.types import Program


@pytest.fixture(scope="module")
def problems() -> list[Rollouts]:
    return list(misread_problems(300, seed=5))


def test_every_problem_has_its_right_solution_and_a_wrong_one(problems: list[Rollouts]) -> None:
    assert len({problem.question for problem in problems}) > 290
    for problem in problems:
        right, *others = problem.solutions
        assert right.correct and right.answer == problem.answer
        assert any(not other.correct for other in others)
        assert all(other.correct is (other.answer == problem.answer) for other in others)
        assert len({solution.text for solution in problem.solutions}) == len(problem.solutions)
    assert {problem.level for problem in problems} == {1, 2, 3, 4, 5}


def test_wrong_solutions_share_their_beginning_with_the_right_one(problems: list[Rollouts]) -> None:
    """Many have whole steps in common with it: pairs of equal prefix, some deep."""
    common = []
    for problem in problems:
        right, *others = [solution.text.split(steps.END_OF_STEP) for solution in problem.solutions]
        common += [sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(right, other))) for other in others]
    assert sum(count > 0 for count in common) > len(common) / 3
    assert sum(count > 2 for count in common) > len(common) / 20


def test_their_answers_are_what_their_code_prints(problems: list[Rollouts]) -> None:
    solutions = [solution for problem in problems[:60] for solution in problem.solutions]
    programs = [Program(steps.parse(solution.text.split(steps.OUTPUT)[0], "").code or "") for solution in solutions]

    async def run() -> list[str]:
        async with Sandbox() as sandbox:
            return [execution.output.strip() for execution in await sandbox.run_batch(programs)]

    assert asyncio.run(run()) == [solution.answer for solution in solutions]


def test_the_same_arguments_give_the_same_problems(problems: list[Rollouts]) -> None:
    assert list(misread_problems(20, seed=5)) == problems[:20]
    assert list(misread_problems(20, seed=6)) != problems[:20]
