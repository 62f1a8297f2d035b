"""What every benchmark shares: where a number comes from, and how it is kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rstar_fast.cli.bench_command import provenance
from rstar_fast.nano import Record
from rstar_fast.storage import ProblemFile
from rstar_fast.types import AnswerKey

RESULTS = Path(__file__).parent / "results"


def write(name: str, row: dict[str, Any]) -> Path:
    """Writes a measurement, with its provenance, as results/<name>.json; the path."""
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({**provenance(), **row}, indent=1) + "\n", "utf-8")
    return path


def problem_file(records: Sequence[Record]) -> ProblemFile:
    """Generated problems as what is read from a file of them, with their levels and families."""
    return ProblemFile(
        tuple(record.problem for record in records),
        AnswerKey({record.problem.id: record.answer for record in records}),
        labels={record.problem.id: {"level": str(record.level), "type": record.family} for record in records},
    )
