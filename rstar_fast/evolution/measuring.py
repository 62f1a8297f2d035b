"""What a round's models are worth on held-out problems: verdicts problem by problem, as plain values for the stages' records."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rstar_fast.config import SearchConfig
from rstar_fast.evaluation import correctness
from rstar_fast.grading import grade_many
from rstar_fast.ppm import load_scorer
from rstar_fast.search import greedy as search_greedy
from rstar_fast.search import sample
from rstar_fast.search import search as tree_search
from rstar_fast.storage import ProblemFile
from rstar_fast.types import Partial, ProgressEvent, SearchResult, Trajectory

Progress = Callable[[ProgressEvent], object] | None


def greedy(given: ProblemFile, policy: str, config: SearchConfig, progress: Progress) -> dict[str, Any]:
    """The policy alone, without chance: `correct`, for each problem true, false, or null where it failed."""
    results = search_greedy(given.problems, policy=policy, progress=progress, **_settings(config))
    return _verdicts(given, results)


def search(
    given: ProblemFile, policy: str, ppm: str, config: SearchConfig, run_dir: Path, progress: Progress
) -> dict[str, Any]:
    """Tree search with the PPM at inference: `correct`, as `greedy`."""
    results = tree_search(given.problems, policy=policy, ppm=ppm, config=config, run_dir=run_dir, progress=progress)
    return _verdicts(given, results)


def samples(
    given: ProblemFile, policy: str, ppm: str, count: int, config: SearchConfig, progress: Progress
) -> dict[str, Any]:
    """Independent solutions of the policy, and what each way to choose among them is worth.

    Returns:
      `samples`: how many per problem, and lists over the problems: `right`, how many of them are right, and whether the answer is
      right that `majority`, the `ppm`'s best score and the best mean `logprob` choose. Null where sampling failed.
    """
    results = sample(given.problems, count, policy=policy, progress=progress, **_settings(config))
    verdicts = correctness([given.answers[problem.id] for problem in given.problems], results)
    scores = _scores(ppm, results)
    pairs = [(given.answers[result.problem.id], t.answer) for result in results for t in result.trajectories]
    right = iter([verdict.equal for verdict in grade_many(pairs)])
    found: dict[str, list[Any]] = {name: [] for name in ("right", "majority", "ppm", "logprob")}
    for result, verdict, of_ppm in zip(results, verdicts, scores, strict=True):
        is_right = {trajectory.answer: next(right) for trajectory in result.trajectories}
        if verdict is None or not result.trajectories:
            for name, values in found.items():
                values.append(None if verdict is None else 0 if name == "right" else False)
            continue
        found["right"].append(sum(is_right[trajectory.answer] for trajectory in result.trajectories))
        found["majority"].append(bool(verdict))
        found["ppm"].append(is_right[_best(result.trajectories, of_ppm)])
        found["logprob"].append(is_right[_best(result.trajectories, [t.score for t in result.trajectories])])
    return {"samples": count, **found, **_spent(results)}


def training(out: Path) -> dict[str, Any]:
    """What a training says of itself: its data, updates and last loss, and the PPM's evaluation where there is one."""
    first, *_, last = map(json.loads, (out / "log.jsonl").read_text("utf-8").splitlines())
    told: dict[str, Any] = {**first, "updates": last["step"], "loss": last["loss"]}
    evaluation = out / "evaluation.json"
    if evaluation.exists():
        told["evaluation"] = json.loads(evaluation.read_text("utf-8"))
    return told


def _best(trajectories: Sequence[Trajectory], scores: Sequence[float]) -> str:
    """The answer of the solution with the highest score; the first of equals."""
    return trajectories[int(np.argmax(scores))].answer


def _scores(ppm: str, results: Sequence[SearchResult]) -> list[list[float]]:
    """The PPM's score of each complete solution."""
    partials = [Partial(result.problem, trajectory.solution) for result in results for trajectory in result.trajectories]

    async def score() -> np.ndarray:
        scorer = load_scorer(ppm)
        try:
            return np.concatenate([await scorer.score(partials[at : at + 256]) for at in range(0, len(partials), 256)] or [np.empty(0)])
        finally:
            await scorer.aclose()

    values = iter(asyncio.run(score()).tolist())
    return [[next(values) for _ in result.trajectories] for result in results]


def _settings(config: SearchConfig) -> dict[str, Any]:
    """Those of a search that sampling without a tree has."""
    return {"max_depth": config.max_depth, "open_problems": config.open_problems, "sandbox": config.sandbox, "seed": config.seed}


def _verdicts(given: ProblemFile, results: Sequence[SearchResult]) -> dict[str, Any]:
    return {"correct": correctness([given.answers[problem.id] for problem in given.problems], results), **_spent(results)}


def _spent(results: Sequence[SearchResult]) -> dict[str, Any]:
    return {
        "tokens": sum(result.stats.policy_tokens for result in results),
        "failed": sum(result.failure is not None and result.failure.kind.value != "no answer" for result in results),
    }
