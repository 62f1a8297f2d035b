"""nano's accuracy against compute: every strategy at several budgets, on held-out problems of the two hardest levels.

    python benchmarks/bench_nano_sweep.py --out runs/nano-sweep          # --problems 60; goes on where it was interrupted

Writes results/nano_sweep.json, .md and .png.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import bench

from rstar_fast.evaluation import sweep
from rstar_fast.evaluation.sweeping import STRATEGIES, sweep_tables
from rstar_fast.nano import generate
from rstar_fast.storage import ProblemFile
from rstar_fast.types import AnswerKey

_LEVELS = (4, 5)  # greedy solves nearly all of the easier ones: nothing to gain there


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the sweep; one found there goes on")
    parser.add_argument("--problems", type=int, default=60)
    parser.add_argument("--seed", type=int, default=11, help="of the problems")
    parser.add_argument("--budgets", default="1,4,16")
    parser.add_argument("--strategies", default=",".join(strategy.value for strategy in STRATEGIES))
    options = parser.parse_args()
    records = generate("heldout", options.problems, options.seed, levels=_LEVELS)
    given = ProblemFile(
        tuple(record.problem for record in records),
        AnswerKey({record.problem.id: record.answer for record in records}),
        labels={record.problem.id: {"level": str(record.level), "type": record.family} for record in records},
    )
    budgets = [int(number) for number in options.budgets.split(",")]
    cells = sweep(given, options.out, name="nano, levels 4 and 5", strategies=options.strategies.split(","), budgets=budgets)
    bench.write("nano_sweep", {"problems": options.problems, "seed": options.seed, **json.loads((options.out / "sweep.json").read_text())})
    ((title, (header, *rows)),) = sweep_tables(cells)
    lines = ["# nano: accuracy against compute", "", f"{options.problems} held-out problems of levels 4 and 5. {title}:", ""]
    lines += [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}", *(f"| {' | '.join(row)} |" for row in rows), ""]
    if (options.out / "sweep.png").exists():
        shutil.copy(options.out / "sweep.png", bench.RESULTS / "nano_sweep.png")
        lines += ["![accuracy against tokens](nano_sweep.png)", ""]
    lines += ["`python benchmarks/bench_nano_sweep.py --out DIR` makes it; every number is in `nano_sweep.json`.", ""]
    (bench.RESULTS / "nano_sweep.md").write_text("\n".join(lines), "utf-8")


if __name__ == "__main__":
    main()
