"""What the tests of trainings share: data sets, logs, weights, and a training that is killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import torch


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A data set, as its name's suffix says."""
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
        return path
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text("utf-8").splitlines()]


def losses(out: Path) -> list[float]:
    """Of each update; each is in the log once."""
    assert [line["step"] for line in log(out)[1:]] == list(range(1, len(log(out))))
    return [line["loss"] for line in log(out)[1:]]


def same(kind: Any, one: Path, other: Path) -> bool:
    """Whether two checkpoints, loaded by a class of transformers, have the same weights."""
    first, second = (kind.from_pretrained(path).state_dict() for path in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@contextmanager
def killed_when_saved(call: str, out: Path) -> Iterator[None]:
    """Trains in another process, by a call of a function of rstar_fast, and kills it: after the block, once it has a whole state."""
    code = f"import torch; torch.set_num_threads(1); import rstar_fast; rstar_fast.{call}"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
        while not list((out / ".training").glob("checkpoint-*/complete")):
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (out / "config.json").exists(), "it was done before it could be killed"
