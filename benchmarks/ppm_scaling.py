"""How much a PPM of nano's size learns from how many problems: python benchmarks/ppm_scaling.py --out DIR [--problems N]

Problems of nano's frontier level are searched with the shipped policy. PPMs are trained from it on the pairs of a sixteenth, a quarter and
all of them, at nano's rates and others, and measured on held-out problems of that level: the pairs ordered rightly, and the answer chosen
among 16 samples, against majority and the policy's own mean log-probability. It may be killed: the same command goes on. Writes
results/ppm_scaling.json.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import yaml
from bench import problem_file, write

import rstar_fast
from rstar_fast import nano
from rstar_fast.config import Annotation, PpmTrainingConfig, SearchConfig
from rstar_fast.evaluation import wilson
from rstar_fast.evolution import measuring
from rstar_fast.nano import WORKED_LEVELS, generate
from rstar_fast.storage import ProblemFile

_PARTS = (16, 4, 1)  # the training problems divided by these, the smaller sets in the larger
_SAMPLES = 16
_LEVEL = WORKED_LEVELS[-1]


def searched(given: ProblemFile, search: SearchConfig, run: Path, policy: str) -> int:
    """Searches problems into a run folder; how many have a right trajectory."""
    _, outcomes = measuring.searched(
        given.problems, policy=policy, ppm="nano", config=search, answers=given.answers, run_dir=run, progress=None
    )
    solved = sum(outcome.solved for outcome in outcomes.values())
    print(f"{run.name}: {solved} of {len(given.problems)} problems solved", flush=True)
    return solved


def chosen(given: ProblemFile, policy: str, ppm: Path, search: SearchConfig, run: Path) -> dict[str, Any]:
    """Of the problems, how many each way of choosing among the same samples gets right."""
    found = measuring.samples(given, policy, str(ppm), _SAMPLES, search, run, None)
    counts = {name: sum(map(bool, found[name])) for name in ("majority", "ppm", "logprob") if name in found}
    return counts | {f"any of {_SAMPLES}": sum(map(bool, found["right"])), "intervals": {
        name: [round(end, 3) for end in wilson(count, len(given.problems))] for name, count in counts.items()
    }}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--policy", default="nano")
    parser.add_argument("--problems", type=int, default=1600)
    parser.add_argument("--heldout", type=int, default=200)
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--rollouts", type=int, default=4)
    parser.add_argument("--open-problems", type=int, default=256)
    parser.add_argument("--rates", type=float, nargs="+", default=[1.0, 0.3], help="times nano's learning rates")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=31)
    given = parser.parse_args()
    usual = PpmTrainingConfig.from_mapping(yaml.safe_load(nano.EVOLUTION.read_text("utf-8"))["ppm_training"])
    search = SearchConfig(
        annotation=Annotation.TERMINAL,
        first_play_urgency=float("inf"),
        candidates=given.candidates,
        rollouts=given.rollouts,
        max_depth=14,
        open_problems=given.open_problems,
        seed=given.seed,
    )
    train = generate("train", given.problems, given.seed, levels=(_LEVEL,))
    held = problem_file(generate("heldout", given.heldout, given.seed, levels=(_LEVEL,)))
    ends = [given.problems // part for part in _PARTS]
    runs = [given.out / f"train-{end}" for end in ends]
    solved = {}
    for run, begin, end in zip(runs, [0, *ends], ends, strict=False):
        solved[run.name] = searched(problem_file(train[begin:end]), search, run, given.policy)
    solved["heldout"] = searched(held, search, given.out / "heldout", given.policy)
    rstar_fast.extract(given.out / "heldout", given.out / "heldout-data")
    heldout = given.out / "heldout-data" / "pairs.parquet"
    inference = dataclasses.replace(search, annotation=Annotation.INFERENCE, first_play_urgency=0.0)
    rows = []
    for at, end in enumerate(ends):
        data = given.out / f"data-{end}"
        extracted = rstar_fast.extract(runs[: at + 1], data)
        for rate in given.rates:
            config = usual.replace(
                learning_rate=usual.learning_rate * rate, muon_learning_rate=usual.muon_learning_rate * rate, epochs=given.epochs
            )
            ppm = given.out / f"ppm-{end}-{rate:g}"
            rstar_fast.train_ppm(data / "pairs.parquet", ppm, policy=given.policy, heldout=heldout, config=config)
            told = measuring.training(ppm)
            row = {"problems": end, "pairs": extracted.pairs, "rate": rate, "updates": told["updates"], "loss": told["loss"]}
            row |= {"heldout_pairs": told["evaluation"]["pairs"], "chosen": chosen(held, given.policy, ppm, inference, given.out / "samples")}
            rows.append(row)
            print(end, extracted.pairs, rate, row["heldout_pairs"]["all"], row["chosen"], flush=True)
    settings = {**vars(given), "out": ""}
    print(write("ppm_scaling", {"settings": settings, "solved": solved, "ppms": rows}))


if __name__ == "__main__":
    main()
