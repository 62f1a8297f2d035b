"""What came of one problem: its search graded against the key. One line of an evaluation's results.jsonl."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from rstar_fast.evaluation.verdicts import failed
from rstar_fast.grading import classes, grade_many
from rstar_fast.types import InvalidInput, SearchResult

RESULTS = "results.jsonl"


@dataclass(frozen=True, slots=True)
class GradedTrajectory:
    """A complete solution and its verdict, without its text.

    Attributes:
      answer: as it gives it.
      group: number of its class of equal answers, in order of first appearance, from 0.
      right: the key's verdict on that class.
      score: as `Trajectory.score`; None where that is no finite number.
      share: as `Trajectory.share`.
    """

    answer: str
    group: int
    right: bool
    score: float | None
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one problem.

    Attributes:
      id: the problem's.
      level, type: its labels; "" without.
      key: the right answer.
      answer: the chosen one; None without.
      right: its verdict. Without an answer it is False; None where the search broke, which says nothing about it.
      failure: why there is no answer: kind and message; None with one.
      samples: solutions begun, those that gave no answer included, where they are independent samples of the policy; 0 of a tree.
      trajectories: the complete solutions, best score first.
      tokens, ppm_tokens, partials_scored, steps_run, seconds: what it cost (`SearchStats`); ppm_tokens is None where a PPM scored and
        does not say of how many tokens.
      stopped: why its search ended early (`Stopped`); None where it had all its rollouts.
    """

    id: str
    level: str
    type: str
    key: str
    answer: str | None
    right: bool | None
    failure: Mapping[str, str] | None
    samples: int
    trajectories: tuple[GradedTrajectory, ...]
    tokens: int
    ppm_tokens: int | None
    partials_scored: int
    steps_run: int
    seconds: float
    stopped: str | None = None

    @property
    def silent(self) -> int:
        """Samples that gave no answer."""
        return max(0, self.samples - len(self.trajectories))

    def to_json(self) -> str:
        """The line, without a break at its end."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Reads a line.

        Raises:
          ValueError, TypeError: it is none.
        """
        values = json.loads(line)
        if not isinstance(values, dict):
            raise TypeError("it is no object")
        values["trajectories"] = tuple(GradedTrajectory(**trajectory) for trajectory in values.get("trajectories", ()))
        return cls(**values)


def outcome_of(result: SearchResult, key: str, labels: Mapping[str, str], independent: bool) -> Outcome:
    """Grades a search: each class of equal answers once, by the answer of its best solution.

    Args:
      key: the right answer.
      labels: of the problem, "level" and "type" where it has them.
      independent: whether its solutions are independent samples of the policy.

    Raises:
      GraderUnavailable: the process that evaluates expressions cannot be started.
    """
    answers = [trajectory.answer for trajectory in result.trajectories]
    if result.answer is not None:
        answers.append(result.answer)
    groups = classes(answers)
    first = dict(zip(reversed(groups), reversed(answers), strict=True))
    verdicts = dict(zip(first, [bool(verdict) for verdict in grade_many([(key, answer) for answer in first.values()])], strict=True))
    trajectories = tuple(
        GradedTrajectory(t.answer, group, verdicts[group], t.score if math.isfinite(t.score) else None, t.share)
        for t, group in zip(result.trajectories, groups, strict=False)
    )
    failure, stats = result.failure, result.stats
    right = verdicts[groups[-1]] if result.answer is not None else False
    return Outcome(
        id=result.problem.id,
        level=labels.get("level", ""),
        type=labels.get("type", ""),
        key=key,
        answer=result.answer,
        right=None if failed(result) else right,
        failure=None if failure is None else {"kind": failure.kind.value, "message": failure.message},
        samples=stats.rollouts if independent else 0,
        trajectories=trajectories,
        tokens=stats.policy_tokens,
        ppm_tokens=None if stats.partials_scored and not stats.ppm_tokens else stats.ppm_tokens,
        partials_scored=stats.partials_scored,
        steps_run=stats.steps_run,
        seconds=round(stats.seconds, 6),
        stopped=None if stats.stopped is None else stats.stopped.value,
    )


def read_outcomes(folder: Path) -> list[Outcome]:
    """The outcomes in an evaluation's folder.

    Raises:
      InvalidInput: there are none, or the file is damaged; names it and the line.
    """
    path = folder / RESULTS
    try:
        lines = path.read_text("utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        raise InvalidInput(f"{folder} holds no finished evaluation: give the folder that an evaluation was given with --out") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error
    outcomes = []
    for number, line in enumerate(lines, 1):
        try:
            outcomes.append(Outcome.from_json(line))
        except (ValueError, TypeError) as error:
            raise InvalidInput(f"{path}, line {number} is no outcome ({error}): evaluate into the folder again") from None
    return outcomes
