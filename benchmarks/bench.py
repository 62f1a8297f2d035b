"""What every benchmark shares: where a number comes from, and how it is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rstar_fast.cli.bench_command import provenance

RESULTS = Path(__file__).parent / "results"


def write(name: str, row: dict[str, Any]) -> Path:
    """Writes a measurement, with its provenance, as results/<name>.json; the path."""
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({**provenance(), **row}, indent=1) + "\n", "utf-8")
    return path
