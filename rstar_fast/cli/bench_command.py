"""`rstar-fast bench tree`: what the search tree costs on this machine, beside any model."""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from rstar_fast import _core
from rstar_fast.sandbox.child import usable_cores

bench = typer.Typer(help="Measurements on this machine.", no_args_is_help=True)

_CHILDREN, _DEPTH = 32, 16
_BATCH = 1024
_OPEN = 128  # trees for each thread, where they follow each other


@dataclass(frozen=True, slots=True)
class Measurement:
    """Several runs of one thing.

    Attributes:
      group: what is measured.
      name: in which setting.
      threads: that do it.
      unit: of the values; "M/s" is millions a second.
      values: one a run.
    """

    group: str
    name: str
    threads: int
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@bench.callback()
def _bench() -> None:
    """A group, so that its commands keep their names."""


@bench.command("tree")
def tree(
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the runs, with machine and versions, to this JSON file.")
    ] = None,
    runs: Annotated[
        int, typer.Option(min=1, help="Runs of each measurement; the table shows the median and the extremes.")
    ] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="Most threads; the usable cores by default.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A hundredth of the work: to see that it runs.")] = False,
) -> None:
    """Microbenchmarks of the search tree, with a free evaluator: 32 children a node, depth 16, c = 2."""
    console = Console()
    most = threads or usable_cores()
    found: list[Measurement] = []
    started = time.monotonic()
    with console.status("measuring ...") as status:
        for measurement in _measurements(runs, most, 100 if quick else 1):
            found.append(measurement)
            status.update(f"measured: {measurement.group}, {measurement.name}")
    console.print(_table(found, runs))
    hot, links, cold = _core.NODE_BYTES
    console.print(
        f"a node takes {hot} bytes that selection reads, {hot + links} with its links, {hot + links + cold} in all (those that "
        f"nobody wrote cost nothing); selector {_core.SELECTORS[0]}; {time.monotonic() - started:.0f} s",
        style="dim",
    )
    if out is not None:
        rows = [asdict(measurement) for measurement in found]
        setting = {
            "children": _CHILDREN,
            "depth": _DEPTH,
            "c": 2.0,
            "batch": _BATCH,
            "open": _OPEN,
            "runs": runs,
            "quick": quick,
        }
        result = {**provenance(), "node_bytes": _core.NODE_BYTES, "setting": setting, "measurements": rows}
        out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


def _measurements(runs: int, threads: int, divisor: int) -> Iterator[Measurement]:
    for simulations in (1_000, 10_000, 100_000, 1_000_000):
        count = max(100, simulations // divisor)
        yield _measured(
            "one tree",
            f"{simulations:,} simulations",
            1,
            runs,
            lambda count=count: count / _core.microbench_single(count)["seconds"] / 1e6,
        )
    teams = sorted({1, 2, threads} | {2**k for k in range(2, 12) if 2**k < threads}) if threads > 1 else [1]
    for team in teams:
        for name, in_flight, batch in (("128 at a time", 128, 128), ("1 at a time", 1, 1)):
            count = max(100, (1_000_000 if batch > 1 else 200_000) // divisor)
            yield _measured(
                "one shared tree",
                name,
                team,
                runs,
                lambda count=count, in_flight=in_flight, batch=batch, team=team: (
                    count
                    / _core.microbench_forest(
                        trees=1, simulations=count, in_flight=in_flight * team, batch=batch, threads=team
                    )["seconds"]
                    / 1e6
                ),
            )
    if threads > 1:  # what sharing costs here: it varies with where a virtual machine's cores lie
        yield _measured("cache line", "from core to core", 2, runs, _core.microbench_handover, "ns")
    for team in teams:
        in_turn = {"open": _OPEN * team, "batch": _OPEN // 2}
        for group, setting, memories in (
            (f"{_OPEN} trees/thread", in_turn, {"recycled": 3}),
            ("8,192 trees", {"batch": _BATCH}, {"recycled": 3, "fresh": 1}),
        ):
            for rollouts, counted in ((False, "simulations"), (True, "rollout steps")):
                for memory, repeats in memories.items():
                    yield _measured(
                        group,
                        f"{counted}, {memory}",
                        team,
                        runs,
                        lambda rollouts=rollouts, setting=setting, repeats=repeats, team=team: _forest_speed(
                            max(_OPEN * team, 8192 // divisor), rollouts, threads=team, repeats=repeats, **setting
                        ),
                    )
    for name, with_texts in (("a leaf of 1,024", False), ("the same, with texts", True)):
        yield _measured(
            "from Python",
            name,
            1,
            runs,
            lambda with_texts=with_texts: _python_boundary(max(4, 100 // divisor), with_texts),
            "µs",
        )


def _measured(group: str, name: str, threads: int, runs: int, run: Callable[[], float], unit: str = "M/s") -> Measurement:
    return Measurement(group, name, threads, unit, tuple(run() for _ in range(runs)))


def _forest_speed(trees: int, rollouts: bool, **setting: int) -> float:
    """Millions a second: simulations, 64 in each tree, or with `rollouts` the steps of 4 rollouts in each."""
    measured = _core.microbench_forest(trees=trees, simulations=4 if rollouts else 64, rollouts=rollouts, **setting)
    return (float(measured["leaves"]) if rollouts else trees * 64) / float(measured["seconds"]) / 1e6


def _python_boundary(steps: int, with_texts: bool) -> float:
    """Microseconds a leaf that driving the forest from Python takes: select 1,024 leaves, give each 8 scored children.

    With texts, the leaves' solutions are fetched, and each child is a step of some 50 bytes.
    """
    forest = _core.Forest(own_visits=True, notes=with_texts)
    for _ in range(4 * _BATCH):
        forest.add_tree(1000)
    children = np.random.default_rng(0).uniform(-1, 1, 8 * _BATCH)
    counts, terminals = np.full(_BATCH, 8, np.uint32), np.zeros(8 * _BATCH, np.uint8)
    scores = children.astype(np.float32)
    texts, none = [f"# Step {i}.\nx = {i} + 1\nprint(x)\n<end_of_step>\n" for i in range(8 * _BATCH)], [""] * (8 * _BATCH)
    notes = (texts, none, none, np.ones(8 * _BATCH, np.uint32)) if with_texts else None
    started = time.perf_counter()
    for _ in range(steps):
        tickets, *_ = forest.select(_BATCH)
        if with_texts:
            forest.solutions(tickets)
        forest.expand(tickets, counts, children, scores, terminals, notes)
    return (time.perf_counter() - started) / (steps * _BATCH) * 1e6


def _table(found: list[Measurement], runs: int) -> Table:
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    table.add_column("")
    for heading in ("", "threads", f"median of {runs}", "lowest", "highest"):
        table.add_column(heading, justify="right" if heading else "left")
    table.add_column("")
    group = ""
    for measurement in found:
        numbers = (measurement.median, min(measurement.values), max(measurement.values))
        table.add_row(
            measurement.group if measurement.group != group else "",
            measurement.name,
            str(measurement.threads),
            *(f"{number:.2f}" for number in numbers),
            measurement.unit,
        )
        group = measurement.group
    return table


def provenance() -> dict[str, Any]:
    """Where a measurement comes from: commit (where there is a checkout), date, machine, versions, compiler.

    "+" behind a commit means that files differed from it.
    """
    return {
        "commit": _git("rev-parse", "--short=12", "HEAD") + ("+" if _git("status", "--porcelain", "-uno") else ""),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{_processor()}, {usable_cores()} cores",
        "python": platform.python_version(),
        "compiler": _core.COMPILER,
        **{name: version(name) for name in ("rstar_fast", "numpy", "torch", "transformers")},
    }


def _git(*arguments: str) -> str:
    folder = Path(__file__).resolve().parents[2]
    unknown = "unknown" if arguments[0] == "rev-parse" else ""
    if not (folder / "CMakeLists.txt").exists():  # an installed package is no checkout
        return unknown
    try:
        done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return unknown
    return done.stdout.strip() or unknown


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
