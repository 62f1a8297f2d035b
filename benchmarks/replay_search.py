"""Strategies on the steps of recorded samples: what a search is worth where a model costs nothing.

    python benchmarks/bench_nano_ppm.py --out DIR      # samples nano's policy
    python benchmarks/replay_search.py --out DIR       # replays its steps, at the probabilities that they have there

Whatever stands behind a partial solution in the samples of its problem is proposed as often as it does there, and counts the tokens that it has.
So all strategies have the same, exactly known policy, whose every solution is known, and hundreds of problems take a minute. Search, sandbox and PPM
are those of the package. What the samples do not hold is not to be found here: budgets beyond as many samples say nothing.
Writes results/nano_replay.json and results/nano_replay.md.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import bench
import numpy as np
from bench_nano_ppm import given_problems

from rstar_fast import steps
from rstar_fast.evaluation import evaluate
from rstar_fast.evaluation.tables import share_with_interval
from rstar_fast.nano import POLICY
from rstar_fast.policies.checkpoint import load_tokenizer
from rstar_fast.ppm import load_scorer
from rstar_fast.storage import Run
from rstar_fast.types import Candidate, Partial, Scorer, SearchResult


class Replay:
    """A policy that proposes what recorded samples say.

    Args:
      results: searches whose trajectories are the samples.
      seed: of what is drawn.
    """

    def __init__(self, results: Sequence[SearchResult], seed: int) -> None:
        self._behind: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self._random = Random(seed)
        for result in results:
            for trajectory in result.trajectories:
                for before, step in taken(trajectory.solution):
                    self._behind[result.problem.id, before][step] += 1
        tokenizer = load_tokenizer(str(POLICY), "policy")
        texts = list({step for counts in self._behind.values() for step in counts})
        self._tokens = {text: len(ids) for text, ids in zip(texts, tokenizer(texts, add_special_tokens=False)["input_ids"], strict=True)}

    async def propose(self, partials: Sequence[Partial], n: int) -> list[list[Candidate]]:
        return [self._proposed(self._behind.get((partial.problem.id, partial.solution), Counter()), n) for partial in partials]

    def _proposed(self, behind: Counter[str], n: int) -> list[Candidate]:
        drawn = self._random.choices(list(behind), list(behind.values()), k=n) if behind else []
        found = []
        for step in drawn:
            stop = next((stop for stop in steps.STOPS if step.endswith(stop)), None)
            found.append(Candidate(step.removesuffix(stop or ""), stop, self._tokens[step]))
        return found


class Remembering:
    """A scorer that scores nothing twice."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._known: dict[tuple[str, str], float] = {}

    async def score(self, partials: Sequence[Partial]) -> np.ndarray:
        new = [partial for partial in dict.fromkeys(partials) if (partial.problem.id, partial.solution) not in self._known]
        for partial, score in zip(new, await self._scorer.score(new) if new else [], strict=True):
            self._known[partial.problem.id, partial.solution] = float(score)
        return np.array([self._known[partial.problem.id, partial.solution] for partial in partials], np.float32)


def taken(solution: str) -> list[tuple[str, str]]:
    """The steps of a solution: what stands before each, outputs included, and its text."""
    found, at = [], 0
    for before in [*steps.begun(solution), solution]:
        step, _, _ = before[at:].partition(f"\n{steps.OUTPUT}")
        found.append((solution[:at], step))
        at = len(before)
    return found


def rows(most: int) -> dict[str, dict[str, Any]]:
    """Name -> the settings of a search; up to so many samples."""
    budgets = [count for count in (1, 2, 4, 8, 16, 32, 64) if count <= most]
    found: dict[str, dict[str, Any]] = {}
    for count in budgets:
        found[f"best of {count}"] = {"strategy": "best_of_n", "rollouts": count}
        found[f"majority of {count}"] = {"strategy": "self_consistency", "rollouts": count}
    for count in (4, 16, 64):
        found[f"tree, {count} rollouts"] = {"rollouts": count}
    found["tree, 16 rollouts, c = 0.5"] = {"rollouts": 16, "c": 0.5}
    found["tree, 16 rollouts, 4 candidates"] = {"rollouts": 16, "candidates": 4}
    found["tree, 16 rollouts, all 8 candidates at once"] = {"rollouts": 16, "first_candidates": 0}
    for trees in (2, 4, 8):
        found[f"{trees} trees, 8 rollouts each"] = {"rollouts": 8 * trees, "trees": trees}
    for trees in (4, 8):
        found[f"{trees} trees, 4 rollouts each, 2 candidates"] = {"rollouts": 4 * trees, "trees": trees, "candidates": 2}
    for beams, width in ((1, 4), (2, 4), (4, 4)):
        found[f"{beams} beams, {width} candidates each"] = {"strategy": "beam", "rollouts": beams * width, "candidates": width}
    return found


def table(row: dict[str, Any]) -> str:
    """The page."""
    lines = [
        "# nano: searches replayed on recorded samples",
        "",
        f"{row['problems']} held-out problems of level 4; the policy proposes the steps of {row['samples']} recorded samples of each, as often as they occur there, so that no search can find "
        "more than these. 95% intervals, bootstrap over problems.",
        "",
        "| search | tokens a problem | accuracy | any right |",
        "| --- | --- | --- | --- |",
    ]
    by_tokens = sorted(row["rows"].items(), key=lambda item: item[1]["tokens"])
    lines += [f"| {name} | {of['tokens']:,.0f} | {share_with_interval(of['accuracy'])} | {share_with_interval(of['any_right'])} |" for name, of in by_tokens]
    return "\n".join([*lines, "", "`python benchmarks/replay_search.py --out DIR` makes it.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of bench_nano_ppm.py's samples")
    parser.add_argument("--ppm", default="nano")
    parser.add_argument("--problems", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    given = given_problems(options.problems)
    with Run.open(options.out / "samples", None) as run:
        recorded = list(run.read(given.problems))
    most = max(len(result.trajectories) for result in recorded)
    scorer = Remembering(load_scorer(options.ppm))
    found: dict[str, Any] = {}
    for name, settings in rows(most).items():
        summary = evaluate(given, policy=Replay(recorded, options.seed), ppm=scorer, max_depth=24, seed=options.seed, **settings).summary
        tokens = summary["spent"]["tokens"] / summary["problems"]["count"]
        metrics = summary["metrics"]
        any_right = metrics.get("pass@all", metrics.get(f"pass@{settings['rollouts']}"))  # of a tree, of samples
        found[name] = {"settings": settings, "tokens": tokens, "accuracy": metrics["accuracy"], "any_right": any_right}
        print(f"{name}: {tokens:,.0f} tokens, {found[name]['accuracy']['value']:.1%}", flush=True)
    row = {"problems": options.problems, "samples": most, "ppm": options.ppm, "rows": found}
    print(bench.write("nano_replay", row))
    (bench.RESULTS / "nano_replay.md").write_text(table(row), "utf-8")


if __name__ == "__main__":
    main()
