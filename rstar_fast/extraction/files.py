"""Writes the files of a data set: Parquet, JSON lines, or the lists of microsoft/rStar's training scripts.

Rows come in the order in which searches ended, which is chance; they are written in an order that follows from the problems' ids alone, so
that the same trees give the same files. For that they wait in parts of some thousand problems, told apart by a hash of the id.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, Self, TextIO
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rstar_fast.config import DataFormat
from rstar_fast.extraction.reference import pair_row, sft_row
from rstar_fast.extraction.rows import PAIRS, PROBLEMS, SFT

_PART_PROBLEMS, _MOST_PARTS = 2_000, 200  # of the latter three files each are open
_SLICE = 8192  # rows written at a time
_SCHEMAS = {"sft": SFT, "pairs": PAIRS, "problems": PROBLEMS}
_REFERENCE_ROWS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"sft": sft_row, "pairs": pair_row}


class _Writer(Protocol):
    def write_batch(self, batch: pa.RecordBatch) -> None: ...


class DataFiles:
    """The files of a data set: `sft`, `pairs` and `problems`, with the format's suffix. A context manager.

    Args:
      folder: of the data set; also where rows wait.
      data_format: the files'.
      problems: about how many there will be.
    """

    def __init__(self, folder: Path, data_format: DataFormat, problems: int) -> None:
        self._folder, self._format = folder, data_format
        self._count = min(_MOST_PARTS, 1 + problems // _PART_PROBLEMS)
        self._open = ExitStack()
        self._parts: dict[tuple[str, int], pa.RecordBatchFileWriter] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: Any) -> None:
        self._open.close()
        for name, part in self._parts:
            self._path(name, part).unlink(missing_ok=True)

    def write(self, name: str, batch: pa.RecordBatch) -> None:
        """Takes rows of one of the files; those of a problem follow each other.

        Raises:
          OSError: they cannot be written.
        """
        if not batch.num_rows:
            return
        batch = batch.cast(_large(_SCHEMAS[name]))
        if self._count == 1:
            self._part(name, 0).write_batch(batch)
            return
        ids = batch.column("problem").dictionary_encode()
        part_of = np.array([crc32(problem_id.encode()) % self._count for problem_id in ids.dictionary.to_pylist()], np.int64)
        parts = part_of[ids.indices.to_numpy()]
        for part in np.unique(parts).tolist():
            self._part(name, part).write_batch(batch.filter(pa.array(parts == part)))

    def finish(self) -> None:
        """Writes the files, when all rows are there.

        Raises:
          OSError: they cannot be written.
        """
        self._open.close()
        for name, schema in _SCHEMAS.items():
            with ExitStack() as opened:
                writer = self._opened(name, schema, opened)
                numbered = _Numbers()
                for part in range(self._count):
                    if (name, part) not in self._parts:
                        continue
                    with pa.memory_map(str(self._path(name, part))) as file:
                        table = pa.ipc.open_file(file).read_all().combine_chunks()
                        order = _order(table)
                        for begin in range(0, len(order), _SLICE):
                            rows = table.take(pa.array(order[begin : begin + _SLICE])).cast(schema)
                            if name == "pairs":
                                at = schema.get_field_index("group")
                                numbers = pa.array(numbered(rows.column("group").to_numpy()))
                                rows = rows.set_column(at, schema.field(at), numbers)
                            for batch in rows.to_batches():
                                writer.write_batch(batch)

    def _part(self, name: str, part: int) -> pa.RecordBatchFileWriter:
        if (name, part) not in self._parts:
            self._parts[name, part] = self._open.enter_context(pa.ipc.new_file(str(self._path(name, part)), _large(_SCHEMAS[name])))
        return self._parts[name, part]

    def _path(self, name: str, part: int) -> Path:
        return self._folder / f".{name}-{part}.arrow"

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


def _large(schema: pa.Schema) -> pa.Schema:
    """The schema with texts that may be more than 2 GiB together, as those of a part may."""
    return pa.schema([(field.name, pa.large_string() if field.type == pa.string() else field.type) for field in schema])


def _order(table: pa.Table) -> np.ndarray:
    """Where the rows stand by problem id, those of a problem as they were."""
    ids = table.column("problem").combine_chunks().dictionary_encode()
    names = ids.dictionary.to_pylist()
    rank = np.empty(len(names), np.int64)
    rank[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    return np.argsort(rank[ids.indices.to_numpy()], kind="stable")


class _Numbers:
    """Numbers groups one after the other as their rows come."""

    def __init__(self) -> None:
        self._last, self._number = -1, -1

    def __call__(self, groups: np.ndarray) -> np.ndarray:
        numbers = self._number + np.cumsum(np.diff(groups, prepend=self._last) != 0)
        self._last, self._number = int(groups[-1]), int(numbers[-1])
        return numbers
