"""What a new step is worth: the three annotations, each holding exactly what it may see.

Only the two training annotations take a `TerminalReward`, the one thing in a search that holds an answer key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rstar_fast.grading import grade_many
from rstar_fast.search.models import ScorerModel
from rstar_fast.types import AnswerKey, Failure, Partial, Problem, Terminal

NO_VALUE = float("nan")
FAILED = -1.0


@dataclass(frozen=True, slots=True)
class NewStep:
    """A step to be valued.

    Attributes:
      partial: the solution up to and including the step.
      answer: the answer it gives; "" where it gives none.
    """

    partial: Partial
    answer: str
    terminal: Terminal


@dataclass(frozen=True, slots=True)
class Value:
    """A step's worth.

    Attributes:
      value: what the tree counts, in [-1, 1]; NaN without one.
      score: what the PPM said; NaN where it was not asked.
      correct: the key's verdict; None without a key.
    """

    value: float = NO_VALUE
    score: float = NO_VALUE
    correct: bool | None = None


class TerminalReward:
    """Grades terminal answers: +1 correct, -1 wrong. Training only."""

    def __init__(self, key: AnswerKey) -> None:
        self._key = key

    async def grade(self, steps: Sequence[NewStep]) -> list[Value]:
        """The value of each step, all of which give an answer; the key must hold their problems."""
        pairs = [(self._key[step.partial.problem.id], step.answer) for step in steps]
        verdicts = await asyncio.to_thread(grade_many, pairs) if pairs else []
        return [Value(1.0 if verdict else -1.0, correct=bool(verdict)) for verdict in verdicts]

    def missing(self, problems: Sequence[Problem]) -> list[str]:
        """The ids of problems that have no answer in the key."""
        return [problem.id for problem in problems if problem.id not in self._key]


class Valuation(Protocol):
    """Values new steps under one annotation."""

    async def value(self, steps: Sequence[NewStep]) -> list[Value | Failure]:
        """One value for each of the steps, in order, or why it has none."""


class TerminalValuation:
    """annotation="terminal": steps start without a value, answers are graded against the key."""

    def __init__(self, reward: TerminalReward) -> None:
        self._reward = reward

    async def value(self, steps: Sequence[NewStep]) -> list[Value | Failure]:
        values: list[Value | Failure] = [Value(FAILED) if step.terminal.failed else Value() for step in steps]
        await _fill(values, steps, self._reward)
        return values


class PpmValuation:
    """annotation="ppm": steps start at their PPM score, answers are graded against the key."""

    def __init__(self, scorer: ScorerModel, reward: TerminalReward) -> None:
        self._scorer, self._reward = scorer, reward

    async def value(self, steps: Sequence[NewStep]) -> list[Value | Failure]:
        values = await _scored(self._scorer, steps, [step.terminal is Terminal.NO for step in steps])
        await _fill(values, steps, self._reward)
        return values


class InferenceValuation:
    """annotation="inference": the PPM values steps and answers. No key can be given to it."""

    def __init__(self, scorer: ScorerModel) -> None:
        self._scorer = scorer

    async def value(self, steps: Sequence[NewStep]) -> list[Value | Failure]:
        return await _scored(self._scorer, steps, [not step.terminal.failed for step in steps])


async def _scored(scorer: ScorerModel, steps: Sequence[NewStep], wanted: Sequence[bool]) -> list[Value | Failure]:
    scores = iter(await scorer.score([step.partial for step, score in zip(steps, wanted, strict=True) if score]))
    values: list[Value | Failure] = []
    for score_it in wanted:
        score = next(scores) if score_it else FAILED
        values.append(score if isinstance(score, Failure) else Value(score, score) if score_it else Value(FAILED))
    return values


async def _fill(values: list[Value | Failure], steps: Sequence[NewStep], reward: TerminalReward) -> None:
    at = [i for i, step in enumerate(steps) if step.terminal is Terminal.ANSWER]
    for i, graded in zip(at, await reward.grade([steps[i] for i in at]), strict=True):
        values[i] = graded
