"""The one place where an evaluation asks for a search by a strategy's name."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rstar_fast.config import Choice
from rstar_fast.search import greedy, sample, search
from rstar_fast.search.answers import vote
from rstar_fast.search.api import run_anywhere
from rstar_fast.search.models import ScorerLike, scorer_model
from rstar_fast.storage import Run
from rstar_fast.types import Executor, Finished, InvalidInput, Partial, Problem, ProgressEvent, SearchResult

STRATEGIES = ("mcts", "best_of_n", "self_consistency", "greedy")
_SAMPLING = ("best_of_n", "self_consistency", "greedy")
_AT_ONCE = 32  # problems whose solutions are scored together


def samples_independently(strategy: str) -> bool:
    """Whether a strategy's solutions are independent samples of the policy."""
    return strategy in _SAMPLING


def check_strategy(strategy: str) -> None:
    """Whether there is such a strategy.

    Raises:
      InvalidInput: there is none.
    """
    if strategy not in STRATEGIES:
        raise InvalidInput(f"strategy is {strategy!r}: give one of {', '.join(STRATEGIES)}")


def run_strategy(
    strategy: str,
    problems: Sequence[Problem],
    *,
    policy: Any,
    ppm: Any,
    run_dir: Path | None,
    settings: Mapping[str, Any],
    progress: Callable[[ProgressEvent], object] | None = None,
    executor: Executor | None = None,
) -> Sequence[SearchResult]:
    """Searches by a strategy, into a run folder or into memory; settings are passed on by name."""
    check_strategy(strategy)
    if strategy == "mcts":
        return search(problems, policy=policy, ppm=ppm, run_dir=run_dir, progress=progress, executor=executor, **settings)
    if strategy == "best_of_n":
        choice = Choice(settings.get("choice", Choice.BEST_SCORE))
        results = _sampled("self_consistency", problems, policy, run_dir, settings, progress, executor)
        return _Valued(results, solution_scores(ppm, results), choice)
    return _sampled(strategy, problems, policy, run_dir, settings, progress, executor)


def _sampled(
    strategy: str,
    problems: Sequence[Problem],
    policy: Any,
    run_dir: Path | None,
    settings: Mapping[str, Any],
    progress: Callable[[ProgressEvent], object] | None,
    executor: Executor | None,
) -> Sequence[SearchResult]:
    """Samples without a tree, into a run folder or into memory."""
    settings = dict(settings)
    rollouts = settings.pop("rollouts", 16)
    asked = {"policy": policy, "executor": executor, **settings}

    def sampled(some: Sequence[Problem], told: Callable[[ProgressEvent], object] | None) -> Sequence[SearchResult]:
        return greedy(some, progress=told, **asked) if strategy == "greedy" else sample(some, rollouts, progress=told, **asked)

    if run_dir is None:
        return sampled(problems, progress)
    name = policy if isinstance(policy, str) else getattr(policy, "__qualname__", type(policy).__qualname__)
    plain = {key: value for key, value in settings.items() if isinstance(value, str | int | float)}
    with Run.open(run_dir, {"strategy": strategy, "policy": name, "rollouts": rollouts, **plain}) as run:
        done = run.finished(problems)

        def keep(event: ProgressEvent) -> None:
            if isinstance(event, Finished):
                run.add(event.result)
            if progress is not None:
                progress(event)

        for result in run.read([problem for problem in problems if problem.id in done]):
            if progress is not None:
                progress(Finished(result, restored=True))
        to_do = [problem for problem in problems if problem.id not in done]
        if to_do:
            sampled(to_do, keep)
        return run.read(problems)


class _Valued(Sequence[SearchResult]):
    """Samples whose solutions a PPM has scored, and the answer that it makes of them; each is read when it is asked for."""

    def __init__(self, results: Sequence[SearchResult], scores: Sequence[Sequence[float]], choice: Choice) -> None:
        self._results, self._scores, self._choice = results, scores, choice

    def __len__(self) -> int:
        return len(self._results)

    def __getitem__(self, at: Any) -> Any:
        result, scores = self._results[at], self._scores[at]
        if not result.trajectories:
            return result
        scored = [dataclasses.replace(t, score=score) for t, score in zip(result.trajectories, scores, strict=True)]
        trajectories = tuple(sorted(scored, key=lambda trajectory: -trajectory.score))
        stats = dataclasses.replace(result.stats, partials_scored=len(scores))
        if result.failure is not None:
            return dataclasses.replace(result, trajectories=trajectories, stats=stats)
        votes, score = vote(trajectories, self._choice)
        return dataclasses.replace(
            result, answer=next(iter(votes)), score=score, votes=votes, trajectories=trajectories, stats=stats
        )


def solution_scores(ppm: ScorerLike, results: Sequence[SearchResult]) -> list[list[float]]:
    """The PPM's score of each complete solution; -inf where it has none, e.g. as the solution outgrows its context."""

    async def score() -> list[list[float]]:
        scorer = scorer_model(ppm)
        try:
            found = []
            for begin in range(0, len(results), _AT_ONCE):
                some = results[begin : begin + _AT_ONCE]
                partials = [Partial(result.problem, trajectory.solution) for result in some for trajectory in result.trajectories]
                scores = iter(await scorer.score(partials) if partials else [])
                for result in some:
                    of_result = [next(scores) for _ in result.trajectories]
                    found.append([score if isinstance(score, float) else -math.inf for score in of_result])
                    scorer.release(result.problem)
            return found
        finally:
            await scorer.aclose()

    return run_anywhere(score())
