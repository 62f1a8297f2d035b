"""How well a PPM tells right samples of a problem from wrong ones: python benchmarks/bench_nano_ppm.py --out DIR [--ppm NAME,NAME,...]

nano's policy samples solutions of held-out problems of its frontier level. Each judge orders those of a problem, right above wrong, chooses the
answer of the best one, and weighs their votes: each PPM, the policy's own mean log-probability, and the majority, which judges nothing.
The same problems are searched with their keys, and each PPM orders the pairs that `extract` finds there, of steps and of whole solutions.
Writes results/nano_ppm.json and results/nano_ppm.md; DIR keeps samples and trees, so that other PPMs judge the same ones.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import RESULTS, problem_file, write

import rstar_fast
from rstar_fast.cli.bench_command import provenance
from rstar_fast.config import Choice, Strategy
from rstar_fast.evaluation import bootstrap, paired_difference
from rstar_fast.evaluation.tables import share_with_interval
from rstar_fast.evolution import measuring
from rstar_fast.nano import BOOTSTRAP_PPM, PPM, WORKED_LEVELS, generate
from rstar_fast.search.answers import vote
from rstar_fast.storage import ProblemFile
from rstar_fast.training import ppm_evaluation
from rstar_fast.types import SearchResult, Trajectory

_LEVEL = WORKED_LEVELS[-1]
_SEED = 1_101


def given_problems(count: int) -> ProblemFile:
    """Held-out problems of nano's frontier level."""
    return problem_file(generate("heldout", count, _SEED, levels=(_LEVEL,)))


def chosen(trajectories: Sequence[Trajectory], right: dict[str, bool], choice: Choice) -> bool:
    """Whether the answer is right that is chosen among the samples of a problem; without a sample it is not."""
    return bool(trajectories) and right[next(iter(vote(trajectories, choice)[0]))]


def ordered(trajectories: Sequence[Trajectory], right: dict[str, bool]) -> float | None:
    """The share of the pairs of a right and a wrong solution that are ordered rightly, half of ties; None without such a pair."""
    score_of = {t.solution: (right[t.answer], t.score) for t in trajectories}
    of_right, of_wrong = ([score for is_right, score in score_of.values() if is_right is wanted] for wanted in (True, False))
    pairs = [(a > b) + 0.5 * (a == b) for a in of_right for b in of_wrong]
    return sum(pairs) / len(pairs) if pairs else None


def pairs_of_searches(given: ProblemFile, out: Path) -> Path:
    """Preference pairs of a search with the key, as round 1 of an evolution has it but wider."""
    trees, data = out / "trees", out / "data"
    settings = {"annotation": "terminal", "first_play_urgency": math.inf, "candidates": 4, "rollouts": 4, "max_depth": 14}
    rstar_fast.search(given.problems, answers=given.answers, run_dir=trees, open_problems=256, seed=1, **settings)
    rstar_fast.extract(trees, data)
    return data / "pairs.parquet"


def judged(results: Sequence[SearchResult], right: Sequence[dict[str, bool]], scores: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Of one judge the shares, and whether its choices are right, problem by problem."""
    by_score = [
        sorted((dataclasses.replace(t, score=score) for t, score in zip(result.trajectories, of, strict=True)), key=lambda t: -t.score)
        for result, of in zip(results, scores, strict=True)
    ]
    shares = [ordered(t, is_right) for t, is_right in zip(by_score, right, strict=True)]
    return {
        "ordered": [share for share in shares if share is not None],
        "best": [chosen(t, is_right, Choice.BEST_SCORE) for t, is_right in zip(by_score, right, strict=True)],
        "vote": [chosen(t, is_right, Choice.WEIGHTED_VOTE) for t, is_right in zip(by_score, right, strict=True)],
    }


def summary(found: dict[str, Any], majority: Sequence[bool]) -> dict[str, Any]:
    """Shares with their intervals, and how many points more often right than the majority."""
    told: dict[str, Any] = {"problems_with_both": len(found["ordered"])}
    for name, values in found.items():
        low, high = bootstrap(values)
        told[name] = {"value": sum(values) / max(1, len(values)), "low": low, "high": high}
        if name != "ordered":
            told[name] |= {"right": sum(values), "over_majority": paired_difference(majority, values)}
    return told


def table(row: dict[str, Any]) -> str:
    """The page."""

    def choice(of: dict[str, Any]) -> str:
        gain, low, high = (100 * value for value in of["over_majority"])
        return f"{of['right']}: {gain:+.1f} ({low:+.1f} to {high:+.1f})"

    def pairs(of: dict[str, Any]) -> str:
        return f"{of['accuracy']:.1%} of {of['pairs']} ({of['low']:.1%} to {of['high']:.1%})"

    lines = [
        "# nano: how well a PPM tells right samples from wrong ones",
        "",
        f"{row['problems']} held-out problems of level {_LEVEL}, {row['samples']} samples each of nano's policy: {row['sampled_right']:.1%} of the samples are right, any is on "
        f"{row['any_right']} problems, the majority on {row['majority_right']}. On {row['problems_with_both']} problems some are right and some are wrong.",
        "",
        "| judge | pairs of a right and a wrong sample in the right order | its choice is right on: points over the majority | votes weighted by it | "
        "pairs of searches | of these, steps | whole solutions |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, of in row["judges"].items():
        weighted = choice(of["vote"]) if "vote" in of else "-"
        searched = " | ".join(pairs(of["searches"][kind]) if "searches" in of else "-" for kind in ("all", "steps", "final"))
        lines.append(f"| {name} | {share_with_interval(of['ordered'])} | {choice(of['best'])} | {weighted} | {searched} |")
    told = row["provenance"]
    lines += ["", f"95% intervals, bootstrap over problems. Commit {told['commit']}, {told['machine']}, torch {told['torch']}.", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ppm", default=f"nano,{BOOTSTRAP_PPM}", help="names or folders, with commas")
    parser.add_argument("--problems", type=int, default=500)
    parser.add_argument("--samples", type=int, default=16)
    given = parser.parse_args()
    problems = given_problems(given.problems)
    settings = {"strategy": Strategy.SELF_CONSISTENCY, "rollouts": given.samples, "open_problems": 256, "seed": 1}
    results = list(rstar_fast.search(problems.problems, run_dir=given.out / "samples", **settings))
    right = measuring.right_answers(problems, results)
    of_samples = [[is_right[t.answer] for t in result.trajectories] for result, is_right in zip(results, right, strict=True)]
    majority = [chosen(result.trajectories, is_right, Choice.MAJORITY) for result, is_right in zip(results, right, strict=True)]
    preferences = pairs_of_searches(problems, given.out)
    judges: dict[str, Any] = {}
    for name in given.ppm.split(","):
        found = summary(judged(results, right, measuring.ppm_scores(name, results)), majority)
        searches = ppm_evaluation.evaluate(str(PPM) if name == "nano" else name, preferences)["pairs"]
        judges[name if name == "nano" else Path(name).name] = found | {"searches": searches}
    own = judged(results, right, [[t.score for t in result.trajectories] for result in results])
    del own["vote"]  # a log-probability is no score to weigh votes with
    judges["mean log-probability"] = summary(own, majority)
    row = {
        "problems": len(results),
        "samples": given.samples,
        "sampled_right": sum(map(sum, of_samples)) / (len(results) * given.samples),
        "any_right": sum(map(any, of_samples)),
        "majority_right": sum(majority),
        "problems_with_both": judges["mean log-probability"]["problems_with_both"],
        "judges": judges,
    }
    print(write("nano_ppm", row))
    (RESULTS / "nano_ppm.md").write_text(table(row | {"provenance": provenance()}), "utf-8")


if __name__ == "__main__":
    main()
