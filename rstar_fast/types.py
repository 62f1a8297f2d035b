"""The records that cross the boundaries between modules, and the protocols users may implement.

Everything here is frozen and free of I/O. Search receives `Problem`s, which carry no answer; the answers live in an
`AnswerKey`, which only training and evaluation hold (DESIGN: "Answers live apart from problems").
"""

from __future__ import annotations

import enum
import hashlib
import itertools
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np

from rstar_fast._core import fault_of_tree
from rstar_fast.programs import CodeError as CodeError
from rstar_fast.programs import ErrorKind as ErrorKind
from rstar_fast.programs import Execution as Execution
from rstar_fast.programs import Program as Program


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


class TrainingDiverged(RstarError):
    """A loss or gradient became infinite or NaN; names the update, and what the training goes on from."""


class OutOfSpace(RstarError):
    """A disk is full; names the folder. What had been written before is whole, and the same call goes on from it."""


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
        if self.id is None or self.id == "":
            digest = hashlib.blake2b(self.question.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
            object.__setattr__(self, "id", digest)
        elif not isinstance(self.id, str):
            raise InvalidInput(f"a problem's id must be a string, got {self.id!r}: write it as text")


class AnswerKey(Mapping[str, str]):
    """The answers of problems, by problem id. Only training and evaluation hold one."""

    __slots__ = ("_answers",)

    def __init__(self, answers: Mapping[str, str]) -> None:
        """Copies the answers.

        Raises:
          InvalidInput: they are no mapping from the ids of problems to non-empty text.
        """
        if not isinstance(answers, Mapping):
            raise InvalidInput(f"an answer key is made from {type(answers).__name__}: give a mapping from problem id to answer")
        for problem_id, answer in answers.items():
            if not isinstance(problem_id, str):
                raise InvalidInput(f"the key has the problem id {problem_id!r}: ids are text, as Problem.id gives them")
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
    TOO_DEEP = 3  # max_depth, or the end of a model's context, reached without an answer
    NO_CANDIDATES = 4  # the policy had nothing usable to propose
    EXHAUSTED = 5  # all children are terminal; reference behaviour only

    @property
    def failed(self) -> bool:
        return self in (Terminal.TOO_MANY_ERRORS, Terminal.TOO_DEEP, Terminal.NO_CANDIDATES)


@runtime_checkable
class Policy(Protocol):
    """Proposes next steps. A plain function `policy(partials, n)`, sync or async, serves as well.

    One with a true attribute `merges_calls`, whose calls may overlap and share its batches, is asked for fewer partials at a time,
    and more often.
    """

    def propose(self, partials: Sequence[Partial], n: int) -> Awaitable[Sequence[Sequence[Candidate]]]:
        """Returns n or fewer candidates for each of the B partials, in the order given."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """Values partial solutions. A plain function `scorer(partials)`, sync or async, serves as well.

    One that keeps something of a problem may have a method `release(problem)`: it is called when the problem has been searched.
    """

    def score(self, partials: Sequence[Partial]) -> Awaitable[np.ndarray]:
        """Returns [B] float32 in [-1, 1], in the order given."""
        ...


@runtime_checkable
class Executor(Protocol):
    """Runs the code of steps, confined."""

    def run_batch(self, programs: Sequence[Program]) -> Awaitable[Sequence[Execution]]:
        """Runs each program in a namespace of its own; [B] executions in the order given. Never raises for a program."""
        ...


# A tree's columns: N nodes, the root first, every parent before its children, siblings next to each other in order.
TREE_COLUMNS: Mapping[str, type[np.generic]] = {
    "parent": np.int32,  # [N], -1 at the root
    "first_child": np.int32,  # [N], -1 without children
    "child_count": np.int32,  # [N]
    "depth": np.uint16,  # [N], 0 at the root
    "visits": np.uint32,  # [N], a PPM-valued step's own visit included
    "value_sum": np.float64,  # [N], q: the sum of the visits' values
    "value": np.float64,  # [N], the first value the node received, 0 before
    "score": np.float32,  # [N], PPM score, NaN without
    "terminal": np.uint8,  # [N], Terminal
    "proposals": np.uint32,  # [N], how many of the policy's candidates were this step; 1 at the root
}
# Texts are UTF-8: `<name>_bytes` uint8 [M] and `<name>_offsets` int64 [N + 1].
TREE_TEXTS: tuple[str, ...] = ("text", "observation", "answer")


class Tree:
    """A finished search tree: an immutable view of its columns.

    `len(tree)` is the number of nodes; iterating gives `Node`s in column order, the root first; `tree["0.3.1"]` finds a
    node by tag.
    """

    def __init__(self, columns: Mapping[str, np.ndarray]) -> None:
        """Wraps columns as TREE_COLUMNS and TREE_TEXTS describe them; see `from_texts` for making the texts.

        Raises:
          InvalidInput: a column is missing or has another dtype or length, or a row does not fit the others: a parent,
            children, depth, terminal or text that cannot be; names the row.
        """
        self._columns = dict(columns)
        if not np.size(self._columns.get("parent", ())):
            raise InvalidInput("a tree needs a column 'parent' with at least the root: the columns are incomplete")
        count = np.size(self._columns["parent"])
        expected = [(name, dtype, count) for name, dtype in TREE_COLUMNS.items()]
        expected += [(f"{name}_offsets", np.int64, count + 1) for name in TREE_TEXTS]
        expected += [(f"{name}_bytes", np.uint8, None) for name in TREE_TEXTS]
        for name, dtype, length in expected:
            column = self._columns.get(name)
            found = f"of type {type(column).__name__}" if column is not None else "missing"
            if isinstance(column, np.ndarray):
                if column.dtype == dtype and column.ndim == 1 and length in (None, len(column)):
                    continue
                found = f"{column.dtype}{list(column.shape)}"
            raise InvalidInput(f"tree column {name!r} is {found}: expected {np.dtype(dtype)}[{length or 'any'}]")
        if fault := fault_of_tree(self._columns):
            raise InvalidInput(f"tree {fault}; the columns are corrupt")
        for name, *_ in expected:
            self._columns[name].flags.writeable = False

    @classmethod
    def from_texts(cls, columns: Mapping[str, np.ndarray], texts: Mapping[str, Sequence[str]]) -> Tree:
        """Builds a tree from its columns, where for names of `texts` one string per node takes the place of the column."""
        packed = dict(columns)
        for name in texts:
            encoded = [text.encode("utf-8", "surrogatepass") for text in texts[name]]
            packed[f"{name}_offsets"] = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
            packed[f"{name}_bytes"] = np.frombuffer(b"".join(encoded), np.uint8)
        return cls(packed)

    def columns(self) -> dict[str, np.ndarray]:
        """The columns by name, read-only, not copied."""
        return dict(self._columns)

    def texts(self, name: str) -> list[str]:
        """All texts of one of TREE_TEXTS, [N]."""
        data, offsets = self._columns[f"{name}_bytes"].tobytes(), self._columns[f"{name}_offsets"].tolist()
        return [data[begin:end].decode("utf-8", "surrogatepass") for begin, end in itertools.pairwise(offsets)]

    def __len__(self) -> int:
        return len(self._columns["parent"])

    def __iter__(self) -> Iterator[Node]:
        return (Node(self, index) for index in range(len(self)))

    @property
    def root(self) -> Node:
        return Node(self, 0)

    def __getitem__(self, tag: str) -> Node:
        if not isinstance(tag, str):
            raise TypeError(f"a node is found by its tag, as in tree['0.3.1'], not by {tag!r}; iterate over the tree for all")
        node = self.root
        try:
            first, *path = (int(part) for part in tag.split("."))
            if first != 0:
                raise ValueError
            for child in path:
                if child < 1:
                    raise ValueError
                node = node.children[child - 1]
        except (ValueError, IndexError):
            raise KeyError(tag) from None
        return node

    def _text(self, name: str, index: int) -> str:
        begin, end = self._columns[f"{name}_offsets"][index : index + 2]
        return self._columns[f"{name}_bytes"][begin:end].tobytes().decode("utf-8", "surrogatepass")


@dataclass(frozen=True)
class Node:
    """One node of a finished tree."""

    tree: Tree
    index: int

    def _number(self, name: str) -> float:
        return self.tree._columns[name][self.index].item()

    @cached_property
    def tag(self) -> str:
        """ "0" at the root; "0.3.1" is the first child of the root's third child."""
        first_child = self.tree._columns["first_child"]
        numbers: list[int] = []
        node, parent = self, self.parent
        while parent is not None:  # no recursion: solutions may have thousands of steps
            numbers.append(node.index - int(first_child[parent.index]) + 1)
            node, parent = parent, parent.parent
        return ".".join(map(str, [0, *reversed(numbers)]))

    @property
    def text(self) -> str:
        """The step; after a closed code block with its output."""
        return self.tree._text("text", self.index)

    @property
    def observation(self) -> str:
        """What the code printed."""
        return self.tree._text("observation", self.index)

    @property
    def answer(self) -> str | None:
        return self.tree._text("answer", self.index) or None

    @property
    def visits(self) -> int:
        return int(self._number("visits"))

    @property
    def q(self) -> float:
        """Mean value, 0 before the first visit."""
        return self._number("value_sum") / self.visits if self.visits else 0.0

    @property
    def value(self) -> float:
        """The first value the node received, 0 before."""
        return self._number("value")

    @property
    def score(self) -> float | None:
        """The PPM's score of the step; None where no PPM valued it."""
        score = self._number("score")
        return None if score != score else score

    @property
    def proposals(self) -> int:
        """How many of the policy's candidates were this step; 1 at the root."""
        return int(self._number("proposals"))

    @property
    def depth(self) -> int:
        return int(self._number("depth"))

    @property
    def terminal(self) -> Terminal:
        return Terminal(int(self._number("terminal")))

    @property
    def parent(self) -> Node | None:
        parent = int(self._number("parent"))
        return None if parent < 0 else Node(self.tree, parent)

    @property
    def children(self) -> tuple[Node, ...]:
        first = int(self._number("first_child"))
        return tuple(Node(self.tree, first + i) for i in range(int(self._number("child_count"))))

    @property
    def path(self) -> tuple[Node, ...]:
        """The nodes from the root's child down to this node; empty at the root."""
        nodes: list[Node] = []
        node: Node | None = self
        while node is not None and node.index:
            nodes.append(node)
            node = node.parent
        return tuple(reversed(nodes))

    @property
    def solution(self) -> str:
        """The partial solution that ends in this node."""
        return "".join(node.text for node in self.path)


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A complete solution found by the search.

    Attributes:
      solution: the text of all its steps.
      answer: the answer it gives.
      score: +1/-1 where a key graded it; at inference `SearchConfig.aggregate` of the PPM's scores of its steps, by default that of
        the last; without a PPM the mean log-probability of the policy's tokens, 0 where the policy does not say.
      q_values: mean value Q of each step, root excluded, first step first; 0 of steps without a visit.
      correct: the key's verdict; None without a key.
      tag: the tag of its last node in the tree.
      share: the policy's probability of this solution as the search found it, in (0, 1]: the product over its steps of how often
        the step was proposed, divided by how often it and its siblings were. Where solutions are independent samples, each is a
        trajectory of its own, and its share is one of all samples.
    """

    solution: str
    answer: str
    score: float
    q_values: tuple[float, ...]
    correct: bool | None = None
    tag: str = ""
    share: float = 1.0


class Stopped(enum.Enum):
    """Why a search ended before it had all its rollouts."""

    BUDGET = "budget"  # the problem's is used up
    RUN_BUDGET = "run budget"
    DECIDED = "decided"  # whatever comes, the vote stays
    SMALL_GAIN = "small gain"  # the vote is not likely to change


@dataclass(frozen=True, slots=True)
class SearchStats:
    """What a search spent.

    Attributes:
      rollouts: complete solutions and dead ends: rollouts or samples that reached a terminal, terminals that beams reached.
      expansions: leaves that were expanded.
      candidates: steps the policy proposed, duplicates included.
      steps_run: programs run in the sandbox.
      failed_steps: candidates dropped because their code failed or they were empty.
      policy_tokens: tokens the policy generated; 0 when it does not say.
      partials_scored: partial solutions given to the scorer.
      seconds: wall-clock time from the problem's first selection to its result.
      stopped: why it ended early; None when it did not.
      ppm_tokens: tokens that the scorer computed, shared ones once; 0 when it does not say.
    """

    rollouts: int = 0
    expansions: int = 0
    candidates: int = 0
    steps_run: int = 0
    failed_steps: int = 0
    policy_tokens: int = 0
    partials_scored: int = 0
    seconds: float = 0.0
    stopped: Stopped | None = None
    ppm_tokens: int = 0


class FailureKind(enum.Enum):
    """Why a problem has no result."""

    POLICY = "policy"  # the policy raised or broke its contract
    SCORER = "scorer"
    SANDBOX = "sandbox"
    NO_ANSWER = "no answer"  # the search ended, but no trajectory gives an answer
    INPUT = "input"
    BUDGET = "budget"  # the run's budget was used up before the problem had an answer


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
    tree: Tree | None = None
    stats: SearchStats = SearchStats()
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class NewStep:
    """A node just added to a tree, as progress callbacks see it; `score` is NaN where no PPM valued it."""

    tag: str
    text: str
    observation: str
    answer: str | None
    score: float
    terminal: Terminal


@dataclass(frozen=True, slots=True)
class Expansion:
    """Progress: the node `parent_tag` got these children."""

    problem: Problem
    parent_tag: str
    children: tuple[NewStep, ...]
    policy_tokens: int
    steps_run: int


@dataclass(frozen=True, slots=True)
class Finished:
    """Progress: a problem has its result, or its failure. `restored` marks one read back from an earlier run."""

    result: SearchResult
    restored: bool = False


ProgressEvent = Expansion | Finished
TrainingProgress = Callable[[int, int, float], None]  # updates done, updates in all, loss of the last
