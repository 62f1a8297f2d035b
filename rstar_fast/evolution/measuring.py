"""What a round's models are worth on held-out problems: verdicts problem by problem, as plain values for the stages' records."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rstar_fast.config import SearchConfig, Strategy
from rstar_fast.evaluation import correctness, failed
from rstar_fast.grading import grade_many
from rstar_fast.search import search as tree_search
from rstar_fast.search.api import run_anywhere
from rstar_fast.search.models import scorer_model
from rstar_fast.storage import ProblemFile, Run
from rstar_fast.storage.manifest import FILE as MANIFEST
from rstar_fast.types import Finished, Partial, Problem, ProgressEvent, RstarError, SearchResult, Trajectory

_MOST_BROKEN = 0.1  # of the problems
_AT_ONCE = 32  # problems whose solutions are scored together
Progress = Callable[[ProgressEvent], object] | None


def greedy(given: ProblemFile, policy: str, config: SearchConfig, run_dir: Path, progress: Progress) -> dict[str, Any]:
    """The policy alone, without chance: `correct`, for each problem true, false, or null where it failed."""
    settings = {**_settings(config), "strategy": Strategy.GREEDY}
    results, _ = searched(given.problems, policy=policy, run_dir=run_dir, progress=progress, **settings)
    return _verdicts(given, results)


def search(
    given: ProblemFile, policy: str, ppm: str, config: SearchConfig, run_dir: Path, progress: Progress
) -> dict[str, Any]:
    """Tree search with the PPM at inference: `correct`, as `greedy`."""
    results, _ = searched(given.problems, policy=policy, ppm=ppm, config=config, run_dir=run_dir, progress=progress)
    return _verdicts(given, results)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a problem's search, without its tree.

    Attributes:
      solved: some trajectory is right.
      broke: see `evaluation.failed`.
      tokens: that the policy generated.
    """

    solved: bool
    broke: str
    tokens: int


def searched(
    problems: Sequence[Problem], *, run_dir: Path, progress: Progress, **arguments: Any
) -> tuple[Sequence[SearchResult], dict[str, Outcome]]:
    """Searches into a run folder; what fails for a passing reason, such as memory or a disk, is tried again, also after a kill.

    Returns:
      The results, which are read when they are asked for, and what came of each problem.

    Raises:
      RstarError: more than one problem in ten fails all the same.
    """
    outcomes: dict[str, Outcome] = {}

    def note(event: ProgressEvent) -> None:
        if isinstance(event, Finished):
            result = event.result
            solved = result.failure is None and any(trajectory.correct for trajectory in result.trajectories)
            outcomes[result.problem.id] = Outcome(solved, str(result.failure) if failed(result) else "", result.stats.policy_tokens)
        if progress is not None:
            progress(event)

    for _ in range(2):
        if (run_dir / MANIFEST).exists():
            with Run.open(run_dir, None) as run:
                run.forget_failures()
        results = tree_search(problems, run_dir=run_dir, progress=note, **arguments)
        broken = [outcome.broke for outcome in outcomes.values() if outcome.broke]
        if not broken:
            break
    check_failures(broken, len(outcomes))
    return results, outcomes


def check_failures(broken: Sequence[str], total: int) -> None:
    """Whether so few searches broke that the others say something.

    Raises:
      RstarError: they did not.
    """
    if len(broken) > _MOST_BROKEN * total:
        raise RstarError(f"{len(broken)} of {total} problems could not be searched, the first: {broken[0]}; mend that, and the same command goes on")


def samples(
    given: ProblemFile, policy: str, ppm: str, count: int, config: SearchConfig, run_dir: Path, progress: Progress
) -> dict[str, Any]:
    """Independent solutions of the policy, and what each way to choose among them is worth.

    Returns:
      `samples`: how many per problem, and lists over the problems: `right`, how many of them are right, and whether the answer is
      right that `majority`, the `ppm`'s best score and the best mean `logprob` choose. Null where sampling failed.
    """
    settings = {**_settings(config), "strategy": Strategy.SELF_CONSISTENCY, "rollouts": count}
    stored, _ = searched(given.problems, policy=policy, run_dir=run_dir, progress=progress, **settings)
    results = list(stored)
    verdicts = correctness([given.answers[problem.id] for problem in given.problems], results)
    scores = ppm_scores(ppm, results)
    found: dict[str, list[Any]] = {name: [] for name in ("right", "majority", "ppm", "logprob")}
    for result, verdict, of_ppm, is_right in zip(results, verdicts, scores, right_answers(given, results), strict=True):
        if verdict is None or not result.trajectories:
            for name, values in found.items():
                values.append(None if verdict is None else 0 if name == "right" else False)
            continue
        found["right"].append(sum(is_right[trajectory.answer] for trajectory in result.trajectories))
        found["majority"].append(bool(verdict))
        found["ppm"].append(is_right[_best(result.trajectories, of_ppm)])
        found["logprob"].append(is_right[_best(result.trajectories, [t.score for t in result.trajectories])])
    if all(trajectory.score == 0.0 for result in results for trajectory in result.trajectories):
        del found["logprob"]  # the policy does not say
    return {"samples": count, **found, **_spent(results)}


def training(out: Path) -> dict[str, Any]:
    """What a training says of itself: its data, updates and last loss, and the PPM's evaluation where there is one."""
    first, *updates = map(json.loads, (out / "log.jsonl").read_text("utf-8").splitlines())
    last = updates[-1] if updates else {"step": 0, "loss": None}
    told: dict[str, Any] = {**first, "updates": last["step"], "loss": last["loss"]}
    evaluation = out / "evaluation.json"
    if evaluation.exists():
        told["evaluation"] = json.loads(evaluation.read_text("utf-8"))
    return told


def _best(trajectories: Sequence[Trajectory], scores: Sequence[float]) -> str:
    """The answer of the solution with the highest score; the first of equals."""
    return trajectories[int(np.argmax(scores))].answer


def right_answers(given: ProblemFile, results: Sequence[SearchResult]) -> list[dict[str, bool]]:
    """For each result whether each answer that its solutions give is right."""
    pairs = [(given.answers[result.problem.id], t.answer) for result in results for t in result.trajectories]
    right = iter([verdict.equal for verdict in grade_many(pairs)])
    return [{trajectory.answer: next(right) for trajectory in result.trajectories} for result in results]


def ppm_scores(ppm: str, results: Sequence[SearchResult]) -> list[list[float]]:
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


def _settings(config: SearchConfig) -> dict[str, Any]:
    """Those of a search that sampling without a tree has."""
    return {"max_depth": config.max_depth, "open_problems": config.open_problems, "sandbox": config.sandbox, "seed": config.seed}


def _verdicts(given: ProblemFile, results: Sequence[SearchResult]) -> dict[str, Any]:
    return {"correct": correctness([given.answers[problem.id] for problem in given.problems], results), **_spent(results)}


def _spent(results: Sequence[SearchResult]) -> dict[str, Any]:
    return {
        "tokens": sum(result.stats.policy_tokens for result in results),
        "failed": sum(map(failed, results)),
    }
