"""The one place where an evaluation asks for a search by a strategy's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rstar_fast.search import greedy, sample, search
from rstar_fast.storage import Run
from rstar_fast.types import Executor, Finished, InvalidInput, Problem, ProgressEvent, SearchResult

STRATEGIES = ("mcts", "self_consistency", "greedy")
_SAMPLING = ("self_consistency", "greedy")


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
