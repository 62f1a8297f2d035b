"""The evolution of nano on a GPU.

    python benchmarks/evolve_on_gpu.py --out DIR                                            # a larger model, from nothing
    python benchmarks/evolve_on_gpu.py --out DIR --shipped --problems 2000,4000,8000,16000    # nano itself, with more problems

The first trains a bootstrap pair of 12 M parameters each as nano's is trained; both run the four rounds of `rstar-fast evolve --nano`, each
measured against its control. It may be killed: the same command goes on. Writes results/nano_evolution_gpu.json (nano_evolution_shipped.json)
with what each part took; the folder of the evolution holds its summary page.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bench import write

from rstar_fast import evolution
from rstar_fast.cli.evolve_command import counts
from rstar_fast.evolution.nano import PROBLEMS, nano_evolution
from rstar_fast.nano import BOOTSTRAP, BOOTSTRAP_PPM
from rstar_fast.training.models import outline
from rstar_fast.training.nano import PolicySettings, PolicyTrainer, train_bootstrap, train_bootstrap_ppm

_TOLD = ("solved", "updates", "tokens", "seconds")  # of what a stage records


def once(folder: Path, work: Callable[[], object]) -> float:
    """Does what makes a folder, unless it is done; the seconds it took when it was."""
    told = folder.with_name(f"{folder.name}.seconds")
    if not told.exists():
        started = time.perf_counter()
        work()
        told.write_text(f"{time.perf_counter() - started:.1f}")
    return float(told.read_text())


def settings_of(out: Path, bootstrap: Path, ppm: Path, given: argparse.Namespace) -> evolution.EvolutionConfig:
    """As nano's, with more problems open at a time: so many rows cost a GPU hardly more than few."""
    config = nano_evolution(out, base=bootstrap, ppm_base=ppm, problems=given.problems, heldout=given.heldout, seed=given.seed)

    def wider(config: Any) -> Any:
        return dataclasses.replace(config, search=dataclasses.replace(config.search, open_problems=given.open_problems))

    return dataclasses.replace(config, rounds=tuple(map(wider, config.rounds)), evaluation=wider(config.evaluation))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=15_000_000, help="that the first policy reads")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--shipped", action="store_true", help="from the bootstrap pair that is shipped")
    parser.add_argument("--problems", type=counts, default=list(PROBLEMS), help="of each round: one number, or four with commas")
    parser.add_argument("--heldout", type=int, default=160)
    parser.add_argument("--open-problems", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = PolicySettings(tokens=given.tokens, minutes=0, width=given.width, layers=given.layers, seed=given.seed)
    first, bootstrap, ppm, folder = (given.out / name for name in ("first", "bootstrap", "bootstrap-ppm", "evolution"))
    seconds = {}
    if given.shipped:
        bootstrap, ppm = BOOTSTRAP, BOOTSTRAP_PPM
    else:
        seconds["first policy"] = once(first, lambda: PolicyTrainer(first, size, resume=False, device=device).run())
        seconds["bootstrap policy"] = once(bootstrap, lambda: train_bootstrap(first, bootstrap))
        seconds["bootstrap PPM"] = once(ppm, lambda: train_bootstrap_ppm(bootstrap, ppm))
    parameters = outline(str(bootstrap)).num_parameters()
    row: dict[str, Any] = {"settings": {**vars(given), "out": ""}, "parameters": parameters, "seconds": seconds}
    row["device"] = torch.cuda.get_device_name() if device == "cuda" else "none: a CPU"
    stages: list[dict[str, Any]] = []

    def keep() -> Path:
        row["minutes"] = round((sum(seconds.values()) + sum(s["seconds"] for s in stages)) / 60, 1)
        summary = json.loads((folder / "summary.json").read_text("utf-8"))
        return write("nano_evolution_shipped" if given.shipped else "nano_evolution_gpu", row | {"stages": stages, "summary": summary})

    def told(stage: Any, record: Any, before: bool) -> None:
        stages.append({"round": stage.round, "stage": stage.name, **{name: record[name] for name in _TOLD if name in record}})
        print(stages[-1], "(before)" if before else "", flush=True)
        if stage.name == "control-evaluation" and stage.round > 1:  # the summary of the rounds before is there
            keep()

    evolution.evolve(settings_of(folder, bootstrap, ppm, given), folder, done=told)
    print(keep())
    print(f"{parameters / 1e6:.1f} M parameters, {row['minutes']} minutes in all, of these {seconds} s before the evolution")


if __name__ == "__main__":
    main()
