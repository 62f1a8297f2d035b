"""The evolution of nano with a larger model, on a GPU, from nothing: python benchmarks/evolve_on_gpu.py --out DIR

Trains a bootstrap policy of 12 M parameters as nano's is trained, then runs the four rounds of `rstar-fast evolve --nano` from it, each
measured against its control. It may be killed: the same command goes on. Writes results/nano_evolution_gpu.json with what each part
took; the folder of the evolution holds its summary page.
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
from safetensors import safe_open

from rstar_fast import evolution
from rstar_fast.evolution.nano import nano_evolution
from rstar_fast.training.nano import PolicySettings, PolicyTrainer, train_bootstrap


def once(folder: Path, work: Callable[[], object]) -> float:
    """Does what makes a folder, unless it is done; the seconds it took when it was."""
    told = folder.with_name(f"{folder.name}.seconds")
    if not told.exists():
        started = time.perf_counter()
        work()
        told.write_text(f"{time.perf_counter() - started:.1f}")
    return float(told.read_text())


def settings_of(out: Path, bootstrap: Path, given: argparse.Namespace) -> evolution.EvolutionConfig:
    """As nano's, with more problems open at a time: so many rows cost a GPU hardly more than few."""
    config = nano_evolution(out, base=bootstrap, problems=given.problems, heldout=given.heldout, seed=given.seed)

    def wider(config: Any) -> Any:
        return dataclasses.replace(config, search=dataclasses.replace(config.search, open_problems=given.open_problems))

    return dataclasses.replace(config, rounds=tuple(map(wider, config.rounds)), evaluation=wider(config.evaluation))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=15_000_000, help="that the first policy reads")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--problems", type=int, default=1300, help="of each round")
    parser.add_argument("--heldout", type=int, default=160)
    parser.add_argument("--open-problems", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = PolicySettings(tokens=given.tokens, minutes=0, width=given.width, layers=given.layers, seed=given.seed)
    first, bootstrap, folder = given.out / "first", given.out / "bootstrap", given.out / "evolution"

    def told(stage: Any, record: Any, before: bool) -> None:
        taken = {name: record[name] for name in ("solved", "updates", "tokens", "seconds") if name in record}
        print(f"round {stage.round} {stage.name}: {taken}{' (before)' if before else ''}", flush=True)

    seconds = {"first policy": once(first, lambda: PolicyTrainer(first, size, resume=False, device=device).run())}
    seconds["bootstrap policy"] = once(bootstrap, lambda: train_bootstrap(first, bootstrap))
    summary = evolution.evolve(settings_of(folder, bootstrap, given), folder, done=told)
    for round_ in summary.rounds:
        seconds[f"round {round_.round}"] = round(3600 * round_.hours, 1)
    with safe_open(bootstrap / "model.safetensors", "pt") as weights:
        parameters = sum(weights.get_tensor(name).numel() for name in weights.keys())
    row: dict[str, Any] = {"settings": {**vars(given), "out": ""}, "parameters": parameters, "seconds": seconds}
    row["minutes"] = round(sum(seconds.values()) / 60, 1)
    row["device"] = torch.cuda.get_device_name() if device == "cuda" else "none: a CPU"
    print(f"{parameters / 1e6:.1f} M parameters, {row['minutes']} minutes in all: {seconds}")
    print(write("nano_evolution_gpu", row | {"summary": json.loads((folder / "summary.json").read_text("utf-8"))}))


if __name__ == "__main__":
    main()
