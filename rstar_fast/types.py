"""The records that cross the boundaries between modules, and the protocols users may implement.

Everything here is frozen and free of I/O. Search receives `Problem`s, which carry no answer; the answers live in an
`AnswerKey`, which only training and evaluation hold (DESIGN: "Answers live apart from problems").
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np


class RstarError(Exception):
    """Base of every error this package raises about its input or surroundings; the message is one clear sentence."""


class InvalidInput(RstarError, ValueError):
    """An argument, setting or record is unusable; says what was given, what was expected and how to mend it."""


class PolicyError(RstarError):
    """A policy raised, or returned something that is not a list of candidates for each partial."""


class ScorerError(RstarError):
    """A scorer raised, or returned something that is not one finite score for each partial."""


class PartialTooLong(RstarError):
    """A partial solution exceeds the model's context; names the problem and both lengths in tokens."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A question to be answered. It never carries the answer.

    Attributes:
      question: the text of the problem, not empty.
      id: unique within a run; defaults to a hash of the question.
    """

    question: str
    id: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.question, str) or not self.question.strip():
            raise InvalidInput(f"a problem needs a question, got {self.question!r}: give a non-empty string")
        if not self.id:
            digest = hashlib.blake2b(self.question.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
            object.__setattr__(self, "id", digest)
        elif not isinstance(self.id, str):
            raise InvalidInput(f"a problem's id must be a string, got {self.id!r}: write it as text")


class AnswerKey(Mapping[str, str]):
    """The answers of problems, by problem id. Only training and evaluation hold one."""

    __slots__ = ("_answers",)

    def __init__(self, answers: Mapping[str, str]) -> None:
        for problem_id, answer in answers.items():
            if not isinstance(answer, str) or not answer.strip():
                raise InvalidInput(f"the key of problem {problem_id!r} is {answer!r}: give its answer as non-empty text")
        self._answers = dict(answers)

    def __getitem__(self, problem_id: str) -> str:
        return self._answers[problem_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._answers)

    def __len__(self) -> int:
        return len(self._answers)


@dataclass(frozen=True, slots=True)
class Partial:
    """A partial solution: a problem and the text of the steps so far ("" at the root)."""

    problem: Problem
    solution: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One sampled next step; the step's text is `text + (stop or "")`.

    Attributes:
      text: what the policy wrote, without the stop string.
      stop: the stop string that ended it; None when it ended otherwise (end of text, or out of tokens).
      tokens: how many tokens were generated for it; None when the policy does not say.
      logprob: sum of the log-probabilities of these tokens; None when the policy does not say.
    """

    text: str
    stop: str | None = None
    tokens: int | None = None
    logprob: float | None = None

    @property
    def step(self) -> str:
        return self.text + (self.stop or "")


class ErrorKind(enum.Enum):
    """Why a program did not run to its end."""

    RAISED = "raised"  # an exception of the program, syntax errors included
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"  # the worker process died or left its protocol


@dataclass(frozen=True, slots=True)
class CodeError:
    """What went wrong in a program: data, never a substring of its output.

    Attributes:
      kind: the class of failure.
      type: name of the exception's type, e.g. "ZeroDivisionError".
      message: the exception's message; may be empty.
    """

    kind: ErrorKind
    type: str
    message: str

    def __str__(self) -> str:
        return f"{self.type}: {self.message}"


@dataclass(frozen=True, slots=True)
class Program:
    """Code to run: `prefix` is the code of the earlier steps of the same block, `code` that of the new step."""

    code: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Execution:
    """What running a program gave.

    Attributes:
      output: everything printed so far, by prefix and code, truncated in the middle at the sandbox's limit.
      error: None when the program ran to its end.
      seconds: wall-clock time of the run.
      timed_out: True exactly when `error.kind` is TIMED_OUT.
    """

    output: str
    error: CodeError | None = None
    seconds: float = 0.0
    timed_out: bool = False


class VerdictReason(enum.Enum):
    """How two answers were found equal or different."""

    SAME_TEXT = "same text"  # equal after normalisation
    SAME_NUMBER = "same number"
    SAME_MATHEMATICS = "same mathematics"
    DIFFERENT = "different"
    NOT_UNDERSTOOD = "not understood"  # at least one side could not be read as mathematics
    EMPTY = "empty"
    TIMED_OUT = "timed out"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an answer equals the key, and how that was found. Never equal because parsing failed."""

    equal: bool
    reason: VerdictReason

    def __bool__(self) -> bool:
        return self.equal


class Terminal(enum.IntEnum):
    """Why a node has no successors; stored as uint8 in a tree's columns."""

    NO = 0
    ANSWER = 1  # the step gives an answer
    TOO_MANY_ERRORS = 2  # max_consecutive_errors reached
    TOO_DEEP = 3  # max_depth reached without an answer
    NO_CANDIDATES = 4  # the policy had nothing usable to propose
    EXHAUSTED = 5  # all children are terminal; reference behaviour only

    @property
    def failed(self) -> bool:
        return self in (Terminal.TOO_MANY_ERRORS, Terminal.TOO_DEEP, Terminal.NO_CANDIDATES)


@runtime_checkable
class Policy(Protocol):
    """Proposes next steps. A plain function `policy(partials, n)`, sync or async, serves as well."""

    def propose(self, partials: Sequence[Partial], n: int) -> Awaitable[Sequence[Sequence[Candidate]]]:
        """Returns n or fewer candidates for each of the B partials, in the order given."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """Values partial solutions. A plain function `scorer(partials)`, sync or async, serves as well."""

    def score(self, partials: Sequence[Partial]) -> Awaitable[np.ndarray]:
        """Returns [B] float32 in [-1, 1], in the order given."""
        ...


@runtime_checkable
class Executor(Protocol):
    """Runs the code of steps, confined."""

    def run_batch(self, programs: Sequence[Program]) -> Awaitable[Sequence[Execution]]:
        """Runs each program in a namespace of its own; [B] executions in the order given. Never raises for a program."""
        ...


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A complete solution found by the search.

    Attributes:
      solution: the text of all its steps.
      answer: the answer it gives.
      score: the terminal's value: PPM score at inference, +1/-1 where a key graded it.
      q_values: mean value Q of each step, root excluded, first step first.
      correct: the key's verdict; None without a key.
      tag: the tag of its last node in the tree.
    """

    solution: str
    answer: str
    score: float
    q_values: tuple[float, ...]
    correct: bool | None = None
    tag: str = ""


@dataclass(frozen=True, slots=True)
class SearchStats:
    """What a search spent.

    Attributes:
      rollouts: rollouts that reached a terminal.
      expansions: leaves that were expanded.
      candidates: steps the policy proposed, duplicates included.
      steps_run: programs run in the sandbox.
      failed_steps: candidates dropped because their code failed or they were empty.
      policy_tokens: tokens the policy generated; 0 when it does not say.
      partials_scored: partial solutions given to the scorer.
      seconds: wall-clock time from the problem's first selection to its result.
    """

    rollouts: int = 0
    expansions: int = 0
    candidates: int = 0
    steps_run: int = 0
    failed_steps: int = 0
    policy_tokens: int = 0
    partials_scored: int = 0
    seconds: float = 0.0


class FailureKind(enum.Enum):
    """Why a problem has no result."""

    POLICY = "policy"  # the policy raised or broke its contract
    SCORER = "scorer"
    SANDBOX = "sandbox"
    NO_ANSWER = "no answer"  # the search ended, but no trajectory gives an answer
    INPUT = "input"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a problem failed: recorded, never a silent zero."""

    kind: FailureKind
    message: str

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.message}"


@dataclass(frozen=True)
class SearchResult:
    """The outcome of the search on one problem.

    Attributes:
      answer: the chosen answer; None when `failure` says why there is none.
      score: the chosen answer's score under the configured choice; None without an answer.
      trajectories: all complete solutions, best score first.
      votes: weight of each distinct answer under the configured choice, largest first.
      tree: the search tree.
    """

    problem: Problem
    answer: str | None = None
    score: float | None = None
    trajectories: tuple[Trajectory, ...] = ()
    votes: Mapping[str, float] = field(default_factory=dict)
    tree: "Tree | None" = None
    stats: SearchStats = SearchStats()
    failure: Failure | None = None

