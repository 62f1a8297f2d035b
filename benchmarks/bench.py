"""What every benchmark shares: where a number comes from, and how it is kept."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_REPOSITORY = Path(__file__).resolve().parents[1]


def provenance() -> dict[str, Any]:
    """Commit, machine and versions of a measurement; "+" behind a commit means that files differed from it."""
    return {
        "commit": _git("rev-parse", "--short=12", "HEAD") + ("+" if _git("status", "--porcelain", "-uno") else ""),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "python": platform.python_version(),
        **{name: version(name) for name in ("rstar_fast", "numpy", "torch", "transformers")},
    }


def write(name: str, row: dict[str, Any]) -> Path:
    """Writes a measurement, with its provenance, as results/<name>.json; the path."""
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({**provenance(), **row}, indent=1) + "\n", "utf-8")
    return path


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", _REPOSITORY, *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() or ("unknown" if arguments[0] == "rev-parse" else "")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
