"""One expansion: propose -> parse -> run -> value, for a batch of leaves. Shared by every way of searching."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from rstar_fast.search.dialect import Dialect, Draft, NodeRecord
from rstar_fast.search.models import PolicyModel, TooLong, raised
from rstar_fast.search.values import NewStep, Valuation, Value
from rstar_fast.types import Candidate, Execution, Executor, Failure, FailureKind, Partial, Program, Terminal


@dataclass(frozen=True, slots=True)
class Leaf:
    """A node to be expanded.

    Attributes:
      partial: the solution that ends in it.
      record: what it holds; any where the dialect does not read it.
      depth: its depth, 0 at the root.
      candidates: steps to be sampled, >= 1.
      first: of them, those that are sampled first, the others only where these are not all one step; 0: all at once.
    """

    partial: Partial
    record: NodeRecord
    depth: int
    candidates: int
    first: int = 0


@dataclass(frozen=True, slots=True)
class Child:
    """A new node and its value.

    Attributes:
      tokens, logprob: of the policy's candidate, as it says them; 0 where it does not.
    """

    record: NodeRecord
    value: Value
    tokens: int = 0
    logprob: float = 0.0


@dataclass(slots=True)
class Growth:
    """What came of one leaf.

    Attributes:
      children: its new nodes; empty when it is closed or its problem failed.
      closed: why it has no successors; NO when it has.
      failure: why its problem cannot go on.
    """

    children: list[Child] = field(default_factory=list)
    closed: Terminal = Terminal.NO
    failure: Failure | None = None
    candidates: int = 0
    failed_steps: int = 0
    steps_run: int = 0
    policy_tokens: int = 0
    partials_scored: int = 0

    @property
    def is_open(self) -> bool:
        """Whether nothing has come of the leaf yet."""
        return not self.children and self.failure is None and self.closed is Terminal.NO


@dataclass(slots=True)
class _Attempt:
    """A candidate on its way to a node: whose it is, how it was read, what its run gave."""

    owner: int
    candidate: Candidate
    draft: Draft
    execution: Execution | None = None


class Expander:
    """Expands leaves.

    Args:
      policy: proposes candidates.
      executor: runs their code.
      dialect: reads them.
      valuation: values what became of them; None where nothing is valued.
      fills: whether a policy that gives fewer candidates than it is asked for is asked again for the others.
    """

    def __init__(
        self, policy: PolicyModel, executor: Executor, dialect: Dialect, valuation: Valuation | None, fills: bool = False
    ) -> None:
        self._policy, self._executor, self._dialect = policy, executor, dialect
        self._valuation, self._fills = valuation, fills
        # Batches worth having under way at a time: while one is in the policy, another's code runs. Where the policy merges them,
        # small ones are better: each waits for its own slowest sample and program only.
        self.lanes = 16 if policy.merges_calls else 2

    async def expand(self, leaves: Sequence[Leaf]) -> list[Growth]:
        """Expands each of the leaves; a leaf none of whose candidates is usable is tried again, then closed."""
        growths = [Growth() for _ in leaves]
        open_leaves = list(range(len(leaves)))
        for attempt in range(self._dialect.attempts):
            await self._attempt(leaves, growths, open_leaves, is_first=attempt == 0)
            open_leaves = [i for i in open_leaves if growths[i].is_open]
            if not open_leaves:
                break
        for i in open_leaves:
            growths[i].closed = Terminal.TOO_MANY_ERRORS if growths[i].steps_run else Terminal.NO_CANDIDATES
        return growths

    async def _attempt(self, leaves: Sequence[Leaf], growths: Sequence[Growth], at: Sequence[int], is_first: bool) -> None:
        attempts: list[_Attempt] = []
        of_leaves = [leaves[i] for i in at]
        if is_first and any(leaf.first for leaf in of_leaves):
            proposals = await self._propose_in_parts(of_leaves)
        else:
            proposals = await self._propose([leaf.partial for leaf in of_leaves], [leaf.candidates for leaf in of_leaves])
        for i, proposal in zip(at, proposals, strict=True):
            if isinstance(proposal, TooLong) and leaves[i].depth > 0:
                growths[i].closed = Terminal.TOO_DEEP
            elif isinstance(proposal, Failure):
                growths[i].failure = _recorded(proposal)
            else:
                attempts += [_Attempt(i, candidate, draft) for candidate, draft in self._read(leaves[i], growths[i], proposal)]
        attempts = await self._run(attempts, growths)
        made: list[tuple[_Attempt, NodeRecord]] = []
        for attempt in attempts:
            leaf, growth = leaves[attempt.owner], growths[attempt.owner]
            record = self._dialect.finish(attempt.draft, attempt.execution, leaf.record, leaf.depth + 1)
            if record is None:
                growth.failed_steps += 1
            else:
                made.append((attempt, record))
        await self._value(made, leaves, growths)

    async def _propose_in_parts(self, leaves: Sequence[Leaf]) -> list[list[Candidate] | Failure]:
        """As `_propose`; where the first candidates are all one step, the policy is sure, and more would be tokens for nothing."""
        firsts = [min(leaf.first or leaf.candidates, leaf.candidates) for leaf in leaves]
        found = await self._propose([leaf.partial for leaf in leaves], firsts)
        unsure = [
            i
            for i, (leaf, said) in enumerate(zip(leaves, found, strict=True))
            if leaf.candidates > firsts[i] and not isinstance(said, Failure) and len(self._dialect.sift(said)) != 1
        ]
        if unsure:
            more = await self._propose([leaves[i].partial for i in unsure], [leaves[i].candidates - firsts[i] for i in unsure])
            for i, said in zip(unsure, more, strict=True):
                before = found[i]
                assert not isinstance(before, Failure)
                found[i] = said if isinstance(said, Failure) else [*before, *said]
        return found

    async def _propose(self, partials: Sequence[Partial], counts: Sequence[int]) -> list[list[Candidate] | Failure]:
        """What the policy says to each partial, asked for so many candidates."""
        found = await self._ask(partials, counts)
        while self._fills:
            missing = [
                (i, counts[i] - len(said)) for i, said in enumerate(found) if not isinstance(said, Failure) and 0 < len(said) < counts[i]
            ]
            if not missing:
                break
            more = await self._ask([partials[i] for i, _ in missing], [count for _, count in missing])
            for (i, _), said in zip(missing, more, strict=True):
                before = found[i]
                assert not isinstance(before, Failure)
                if isinstance(said, Failure):
                    found[i] = said
                else:
                    found[i] = [*before, *said]
                    counts = [*counts[:i], len(found[i]), *counts[i + 1 :]] if not said else counts  # it has no more to say
        return found

    async def _ask(self, partials: Sequence[Partial], counts: Sequence[int]) -> list[list[Candidate] | Failure]:
        """One call of the policy for all that are asked for equally many candidates; several calls at the same time."""
        at_count: dict[int, list[int]] = {}
        for i, count in enumerate(counts):
            at_count.setdefault(count, []).append(i)
        if len(at_count) == 1:
            return await self._policy.propose(partials, counts[0])
        calls = {
            count: asyncio.create_task(self._policy.propose([partials[i] for i in at], count)) for count, at in at_count.items()
        }
        try:
            await asyncio.wait(calls.values())
        finally:  # not a TaskGroup: it would raise an interrupt in a call once more, where asyncio is about to close
            for call in calls.values():
                call.cancel()
            await asyncio.gather(*calls.values(), return_exceptions=True)
        said = {i: answer for count, at in at_count.items() for i, answer in zip(at, calls[count].result(), strict=True)}
        return [said[i] for i in range(len(partials))]

    def _read(self, leaf: Leaf, growth: Growth, proposal: Sequence[Candidate]) -> list[tuple[Candidate, Draft]]:
        growth.candidates += len(proposal)
        growth.policy_tokens += sum(candidate.tokens or 0 for candidate in proposal)
        growth.failed_steps += sum(self._dialect.is_empty(candidate) for candidate in proposal)
        sifted = self._dialect.sift(proposal)
        return [(candidate, self._dialect.read(candidate, count, leaf.partial.solution, leaf.record)) for candidate, count in sifted]

    async def _run(self, attempts: list[_Attempt], growths: Sequence[Growth]) -> list[_Attempt]:
        """Runs all programs of the batch; of a leaf whose sandbox failed nothing remains but the failure."""
        to_run = [attempt for attempt in attempts if attempt.draft.program is not None]
        programs: list[Program] = [attempt.draft.program for attempt in to_run if attempt.draft.program is not None]
        try:
            executions = await self._executor.run_batch(programs) if programs else []
            message = _misfit(executions, len(programs))
        except Exception as error:  # an executor may be the user's own; its failure belongs to these problems alone
            message = raised("the executor", error)
        if message:
            for attempt in to_run:
                growths[attempt.owner].failure = Failure(FailureKind.SANDBOX, message)
            return [attempt for attempt in attempts if growths[attempt.owner].failure is None]
        for attempt, execution in zip(to_run, executions, strict=True):
            attempt.execution = execution
            growths[attempt.owner].steps_run += 1
        return attempts

    async def _value(self, made: Sequence[tuple[_Attempt, NodeRecord]], leaves: Sequence[Leaf], growths: Sequence[Growth]) -> None:
        new_steps = [
            NewStep(
                Partial(leaves[attempt.owner].partial.problem, leaves[attempt.owner].partial.solution + record.text),
                record.answer,
                record.terminal,
            )
            for attempt, record in made
        ]
        values = await self._valuation.value(new_steps) if self._valuation is not None else [Value()] * len(made)
        too_long: set[int] = set()
        for (attempt, record), value in zip(made, values, strict=True):
            i, candidate = attempt.owner, attempt.candidate
            growth = growths[i]
            if isinstance(value, TooLong) and leaves[i].depth > 0:
                growth.failed_steps += 1
                too_long.add(i)
            elif isinstance(value, Failure):
                growth.failure = growth.failure or _recorded(value)
            else:
                growth.children.append(Child(record, value, int(candidate.tokens or 0), candidate.logprob or 0.0))
                growth.partials_scored += value.score == value.score
        for i in too_long:  # a step that cannot be scored is no node; where none can, the solution has come to its end
            if growths[i].is_open:
                growths[i].closed = Terminal.TOO_DEEP


def _recorded(failure: Failure) -> Failure:
    """A failure as results keep it."""
    return Failure(failure.kind, failure.message)


def _misfit(executions: object, count: int) -> str:
    """What is wrong with what an executor returned for `count` programs; "" when nothing is."""
    if isinstance(executions, Sequence) and len(executions) == count and all(isinstance(e, Execution) for e in executions):
        return ""
    found = f"a {type(executions).__name__}" + (f" of {len(executions)}" if isinstance(executions, Sequence) else "")
    return f"the executor returned {found} for {count} programs: return one Execution for each"
