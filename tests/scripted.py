"""A policy that answers from a script, and a PPM that values its answers, for evaluations without a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rstar_fast.storage import ProblemFile
from rstar_fast.types import AnswerKey, Candidate, Partial, Problem


class Scripted:
    """Gives, for each question, its answers in turn, as whole solutions of 5 tokens; "" gives none, "!" raises.

    Attributes:
      asked: how many candidates were asked for, by question.
    """

    def __init__(self, answers: Mapping[str, Sequence[str]]) -> None:
        self.answers = answers
        self.asked: Counter[str] = Counter()

    async def propose(self, partials: Sequence[Partial], n: int) -> list[list[Candidate]]:
        return [[self._next(partial.problem.question) for _ in range(n)] for partial in partials]

    def _next(self, question: str) -> Candidate:
        answers = self.answers[question]
        answer = answers[self.asked[question] % len(answers)]
        self.asked[question] += 1
        if answer == "!":
            raise ValueError("the script breaks here")
        return Candidate(f"so \\boxed{{{answer}}}" if answer else "", tokens=5)


def scorer_of(scores: Mapping[str, float]) -> object:
    """A PPM that values a solution by the answer it ends in; 0 for others."""

    def score(partials: Sequence[Partial]) -> list[float]:
        return [next((value for answer, value in scores.items() if f"{{{answer}}}" in p.solution), 0.0) for p in partials]

    return score


def problems(**answers: str) -> ProblemFile:
    """Problems by name; the first letter of a name is the level, the last the type."""
    return ProblemFile(
        tuple(Problem(f"What is {name}?", name) for name in answers),
        AnswerKey(answers),
        labels={name: {"level": name[0], "type": name[-1]} for name in answers},
    )
