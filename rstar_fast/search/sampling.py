"""Solutions without a tree: greedy decoding and self-consistency, the baselines every search has to beat."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rstar_fast.config import Choice
from rstar_fast.search.answers import vote
from rstar_fast.search.dialect import NodeRecord
from rstar_fast.search.expand import Expander, Leaf
from rstar_fast.types import Failure, FailureKind, Partial, Problem, SearchResult, SearchStats, Terminal, Trajectory


@dataclass(slots=True)
class _Chain:
    """One solution in the making: the policy's tokens so far, and the sum of their log-probabilities."""

    problem: int
    leaf: Leaf
    tokens: int = 0
    logprob: float = 0.0


@dataclass(slots=True)
class _Tally:
    started: float
    stats: SearchStats = SearchStats()
    failure: Failure | None = None
    trajectories: list[Trajectory] = field(default_factory=list)


class Sampler:
    """Samples independent solutions step by step; the code of every step is run, a step that fails ends its solution.

    Args:
      expander: asked for one candidate a step; it values nothing.
      samples: solutions per problem.
      open_chains: solutions in the making at a time.
    """

    def __init__(self, expander: Expander, samples: int, open_chains: int) -> None:
        self._expander, self._samples, self._open_chains = expander, samples, open_chains

    async def run(self, problems: Sequence[Problem], on_result: Callable[[SearchResult], object]) -> None:
        """Samples the problems, `open_chains` solutions at a time; `on_result` gets the results in order."""
        at_once = max(1, self._open_chains // self._samples)
        for begin in range(0, len(problems), at_once):
            for result in await self._solve(problems[begin : begin + at_once]):
                on_result(result)

    async def _solve(self, problems: Sequence[Problem]) -> list[SearchResult]:
        tallies = [_Tally(time.monotonic()) for _ in problems]
        chains = [
            _Chain(i, Leaf(Partial(problem), NodeRecord(), 0))
            for i, problem in enumerate(problems)
            for _ in range(self._samples)
        ]
        while chains:
            growths = await self._expander.expand([chain.leaf for chain in chains])
            going_on = []
            for chain, growth in zip(chains, growths, strict=True):
                tally = tallies[chain.problem]
                tally.stats = dataclasses.replace(
                    tally.stats,
                    expansions=tally.stats.expansions + 1,
                    candidates=tally.stats.candidates + growth.candidates,
                    failed_steps=tally.stats.failed_steps + growth.failed_steps,
                    steps_run=tally.stats.steps_run + growth.steps_run,
                    policy_tokens=tally.stats.policy_tokens + growth.policy_tokens,
                )
                tally.failure = tally.failure or growth.failure
                tokens, logprob = chain.tokens + growth.policy_tokens, chain.logprob + growth.policy_logprob
                if growth.children:
                    record = growth.children[0].record
                    partial = Partial(problems[chain.problem], chain.leaf.partial.solution + record.text)
                    if record.terminal is Terminal.ANSWER:
                        tally.trajectories.append(Trajectory(partial.solution, record.answer, logprob / max(1, tokens), ()))
                    elif record.terminal is Terminal.NO:
                        going_on.append(_Chain(chain.problem, Leaf(partial, record, chain.leaf.depth + 1), tokens, logprob))
            chains = [chain for chain in going_on if tallies[chain.problem].failure is None]
        return [self._result(problem, tally) for problem, tally in zip(problems, tallies, strict=True)]

    def _result(self, problem: Problem, tally: _Tally) -> SearchResult:
        stats = dataclasses.replace(tally.stats, rollouts=self._samples, seconds=time.monotonic() - tally.started)
        trajectories = tuple(tally.trajectories)
        failure = tally.failure
        if failure is None and not trajectories:
            failure = Failure(FailureKind.NO_ANSWER, f"none of the {self._samples} sampled solutions gave an answer")
        if failure is not None:
            return SearchResult(problem, trajectories=trajectories, stats=stats, failure=failure)
        votes, share = vote(trajectories, Choice.MAJORITY)
        return SearchResult(problem, next(iter(votes)), share, trajectories, votes, stats=stats)
