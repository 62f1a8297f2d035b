"""How the text of a candidate becomes a node: the default's way, and the reference's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rstar_fast import steps
from rstar_fast.config import Behaviour, SearchConfig
from rstar_fast.search import reference
from rstar_fast.storage import reference_trees
from rstar_fast.types import Candidate, Execution, Program, Terminal


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """What a tree's node holds besides its statistics.

    Attributes:
      text: the step; after a closed code block with its output.
      observation: what the code printed.
      answer: the answer a terminal gives; "" where there is none.
      terminal: why it has no successors.
      history: the code of the block that is open after this node (kept for the reference only).
      errors: consecutive steps up to this one whose code failed (counted for the reference only).
      proposals: how many of the policy's candidates were this step.
    """

    text: str = ""
    observation: str = ""
    answer: str = ""
    terminal: Terminal = Terminal.NO
    history: str = ""
    errors: int = 0
    proposals: int = 1


@dataclass(frozen=True, slots=True)
class Draft:
    """A candidate that has been read and awaits its run: `program` is None where there is nothing to run."""

    step: steps.Step
    program: Program | None
    proposals: int


class Dialect(Protocol):
    """The three places where the two behaviours read a policy's text differently."""

    # How often in a row a leaf is proposed for until one candidate is usable.
    attempts: int
    # Whether `read` and `finish` look at what the parent holds; else they may be given any record.
    reads_parent: bool

    def is_empty(self, candidate: Candidate) -> bool:
        """Whether a candidate is dropped because it says nothing."""

    def sift(self, candidates: Sequence[Candidate]) -> list[tuple[Candidate, int]]:
        """The candidates worth reading, in order, and how often each was proposed."""

    def read(self, candidate: Candidate, proposals: int, solution: str, parent: NodeRecord) -> Draft:
        """Parses a candidate, proposed so often, that continues `solution`, which ends in `parent`."""

    def finish(self, draft: Draft, execution: Execution | None, parent: NodeRecord, depth: int) -> NodeRecord | None:
        """The node at `depth` that comes of a draft and its run; None when the step failed and is no node."""

    # What stands as the answer of a leaf that is closed without a successor.
    given_up: str


class DefaultDialect:
    """As DESIGN.md has it: a failed step is no node, and a leaf none of whose candidates runs is tried again."""

    reads_parent = False
    given_up = ""

    def __init__(self, config: SearchConfig) -> None:
        self.attempts = config.max_consecutive_errors
        self._max_depth = config.max_depth

    def is_empty(self, candidate: Candidate) -> bool:
        # Without a text of its own, a candidate may still end the code block, which shows what the block prints.
        return not candidate.text.strip() and candidate.stop != steps.END_OF_CODE

    def sift(self, candidates: Sequence[Candidate]) -> list[tuple[Candidate, int]]:
        """Drops empty candidates and repeated ones."""
        return _first_of_each([c for c in candidates if not self.is_empty(c)], lambda c: c.step)

    def read(self, candidate: Candidate, proposals: int, solution: str, parent: NodeRecord) -> Draft:
        step = steps.parse(candidate.step, solution)
        return Draft(step, Program(step.code, step.prefix) if step.code is not None else None, proposals)

    def finish(self, draft: Draft, execution: Execution | None, parent: NodeRecord, depth: int) -> NodeRecord | None:
        if execution is not None and execution.error is not None:
            return None
        output = execution.output if execution is not None else ""
        terminal = Terminal.NO
        if draft.step.answer is not None:
            terminal = Terminal.ANSWER
        elif depth >= self._max_depth:
            terminal = Terminal.TOO_DEEP
        return NodeRecord(
            steps.render(draft.step, output),
            output.strip(),
            draft.step.answer or "",
            terminal,
            proposals=draft.proposals,
        )


class ReferenceDialect:
    """As microsoft/rStar; the numbers name the quirks of tests/golden/README.md."""

    attempts = 1
    reads_parent = True
    given_up = reference_trees.NO_CANDIDATES

    def __init__(self, config: SearchConfig) -> None:
        self._max_depth = config.max_depth
        self._max_errors = config.max_consecutive_errors

    def is_empty(self, candidate: Candidate) -> bool:
        return False  # it is a step like any other

    def sift(self, candidates: Sequence[Candidate]) -> list[tuple[Candidate, int]]:
        """Quirk 1: repeated texts go, and the first `<end_of_answer>` silences all others."""
        distinct = _first_of_each(candidates, lambda c: c.text)
        answers = [(c, count) for c, count in distinct if c.stop == steps.END_OF_ANSWER]
        return answers[:1] or distinct

    def read(self, candidate: Candidate, proposals: int, solution: str, parent: NodeRecord) -> Draft:
        text = candidate.step
        if "boxed" in text:  # quirk 3: terminal, and never run
            return Draft(steps.Step(text, None, "", False, reference.final_answer(text) or None), None, proposals)
        code = reference.program(parent.history + text)
        step = steps.Step(text, code, "", steps.END_OF_CODE in text, None)
        return Draft(step, Program(code), proposals)

    def finish(self, draft: Draft, execution: Execution | None, parent: NodeRecord, depth: int) -> NodeRecord:
        step, text = draft.step, draft.step.text
        if step.answer is not None:
            return NodeRecord(text, "", step.answer, Terminal.ANSWER, proposals=draft.proposals)
        terminal, observation, answer, errors = Terminal.NO, "", "", 0
        if execution is not None:
            observation = reference.observation(execution)
            shown = observation
            if step.ends_code:
                shown = f"{steps.OUTPUT}{observation}{steps.END_OF_OUTPUT}"
                text = f"{step.text}\n{shown}"
            if "error" in shown.lower():  # quirk 4
                errors = parent.errors + 1
                if errors >= self._max_errors:
                    closed = step.text if step.ends_code else step.text + steps.END_OF_CODE
                    text = f"{closed}\n{steps.OUTPUT}{shown}{steps.END_OF_OUTPUT}"
                    terminal, answer = Terminal.TOO_MANY_ERRORS, reference_trees.TOO_MANY_ERRORS
        if terminal is Terminal.NO and depth > self._max_depth:  # quirk 6
            terminal, answer = Terminal.TOO_DEEP, reference_trees.TOO_DEEP
        ended = steps.END_OF_CODE in text or steps.END_OF_OUTPUT in text
        history = "" if ended else parent.history + (step.text if execution is not None else "")
        return NodeRecord(text, observation, answer, terminal, history, errors, draft.proposals)


def _first_of_each(candidates: Sequence[Candidate], key: Callable[[Candidate], str]) -> list[tuple[Candidate, int]]:
    counts = Counter(map(key, candidates))
    first: dict[str, Candidate] = {}
    for candidate in candidates:
        first.setdefault(key(candidate), candidate)
    return [(candidate, counts[said]) for said, candidate in first.items()]


def dialect_of(config: SearchConfig) -> Dialect:
    """The dialect of the configured behaviour."""
    return ReferenceDialect(config) if config.behaviour is Behaviour.REFERENCE else DefaultDialect(config)
