"""How much a PPM of nano's size learns from how many problems: python benchmarks/ppm_scaling.py --out DIR [--problems N]

Problems of nano's frontier level are searched with the shipped policy. PPMs are trained from it on the pairs of a sixteenth, a quarter and
all of them, at nano's rates and others, and measured on held-out problems of that level: the pairs ordered rightly, and the answer chosen
among 16 samples, against majority and the policy's own mean log-probability. It may be killed: the same command goes on. Writes
results/ppm_scaling.json.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from bench import write

import rstar_fast
from rstar_fast import nano
from rstar_fast.config import Annotation, PpmTrainingConfig, SearchConfig
from rstar_fast.evaluation import wilson
from rstar_fast.evolution import measuring
from rstar_fast.nano import WORKED_LEVELS, Record, generate
from rstar_fast.storage import ProblemFile
from rstar_fast.types import AnswerKey, Finished, ProgressEvent

_PARTS = (16, 4, 1)  # the training problems divided by these, the smaller sets in the larger
_SAMPLES = 16
_LEVEL = WORKED_LEVELS[-1]


def file_of(records: Sequence[Record]) -> ProblemFile:
    """Records as what is read from a file of them."""
    return ProblemFile(tuple(record.problem for record in records), AnswerKey({record.problem.id: record.answer for record in records}))


def searched(given: ProblemFile, search: SearchConfig, run: Path, policy: str) -> int:
    """Searches problems into a run folder; how many have a right trajectory."""
    answers = {problem.id: given.answers[problem.id] for problem in given.problems}
    _, outcomes = measuring.searched(
        given.problems, policy=policy, ppm="nano", config=search, answers=answers, run_dir=run, progress=_shown(run.name)
    )
    return sum(outcome.solved for outcome in outcomes.values())


def _shown(name: str) -> Any:
    done = 0

    def show(event: ProgressEvent) -> None:
        nonlocal done
        if isinstance(event, Finished):
            done += 1
            if done % 100 == 0:
                print(f"{name}: {done} problems", flush=True)

    return show


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
    held = file_of(generate("heldout", given.heldout, given.seed, levels=(_LEVEL,)))
    ends = [given.problems // part for part in _PARTS]
    runs = [given.out / f"train-{end}" for end in ends]
    solved = {}
    for run, begin, end in zip(runs, [0, *ends], ends, strict=False):
        solved[run.name] = searched(file_of(train[begin:end]), search, run, given.policy)
    solved["heldout"] = searched(held, search, given.out / "heldout", given.policy)
    rstar_fast.extract(given.out / "heldout", given.out / "heldout-data")
    heldout = given.out / "heldout-data" / "pairs.parquet"
    policy = str(nano.POLICY) if given.policy == "nano" else given.policy
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
            rstar_fast.train_ppm(data / "pairs.parquet", ppm, policy=policy, heldout=heldout, config=config)
            told = measuring.training(ppm)
            row = {"problems": end, "pairs": extracted.pairs, "rate": rate, "updates": told["updates"], "loss": told["loss"]}
            row |= {"heldout_pairs": told["evaluation"]["pairs"], "chosen": chosen(held, policy, ppm, inference, given.out / "samples")}
            rows.append(row)
            print(end, extracted.pairs, rate, row["heldout_pairs"]["all"], row["chosen"], flush=True)
    settings = {**vars(given), "out": ""}
    print(write("ppm_scaling", {"settings": settings, "solved": solved, "ppms": rows}))


if __name__ == "__main__":
    main()
