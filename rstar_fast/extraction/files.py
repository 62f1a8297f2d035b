"""Writes the files of a data set as rows come: Parquet, JSON lines, or the lists of microsoft/rStar's training scripts."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, Self, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from rstar_fast.config import DataFormat
from rstar_fast.extraction.reference import pair_row, sft_row
from rstar_fast.extraction.rows import PAIRS, PROBLEMS, SFT

_SCHEMAS = {"sft": SFT, "pairs": PAIRS, "problems": PROBLEMS}
_REFERENCE_ROWS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"sft": sft_row, "pairs": pair_row}


class _Writer(Protocol):
    def write_batch(self, batch: pa.RecordBatch) -> None: ...


class DataFiles:
    """The open files of a data set: `sft`, `pairs` and `problems`, with the format's suffix. A context manager."""

    def __init__(self, folder: Path, data_format: DataFormat) -> None:
        self._folder, self._format = folder, data_format
        self._open = ExitStack()
        self._writers: dict[str, _Writer] = {}

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            for name, schema in _SCHEMAS.items():
                self._writers[name] = self._opened(name, schema, opened)
            self._open = opened.pop_all()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._open.__exit__(*exception)

    def write(self, name: str, batch: pa.RecordBatch) -> None:
        """Appends rows to one of the files.

        Raises:
          OSError: they cannot be written.
        """
        if batch.num_rows:
            self._writers[name].write_batch(batch)

    def _opened(self, name: str, schema: pa.Schema, opened: ExitStack) -> _Writer:
        if self._format is DataFormat.PARQUET:
            return opened.enter_context(pq.ParquetWriter(self._folder / f"{name}.parquet", schema, compression="zstd"))
        row = _REFERENCE_ROWS.get(name) if self._format is DataFormat.REFERENCE else None
        suffix = "jsonl" if row is None else "json"
        file = opened.enter_context((self._folder / f"{name}.{suffix}").open("w", encoding="utf-8"))
        return _JsonLines(file) if row is None else opened.enter_context(_JsonList(file, row))


class _JsonLines:
    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write_batch(self, batch: pa.RecordBatch) -> None:
        self._file.writelines(f"{json.dumps(row, ensure_ascii=False)}\n" for row in batch.to_pylist())


class _JsonList:
    """One list of objects, an object a line. A context manager, which ends the list."""

    def __init__(self, file: TextIO, row: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._file, self._row = file, row
        self._separator = "[\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: Any) -> None:
        self._file.write("[]\n" if self._separator == "[\n" else "\n]\n")

    def write_batch(self, batch: pa.RecordBatch) -> None:
        for row in batch.to_pylist():
            self._file.write(self._separator + json.dumps(self._row(row), ensure_ascii=False))
            self._separator = ",\n"
