"""Writes the records of a journal as a Parquet shard."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rstar_fast.storage.atomic import sync_folder
from rstar_fast.storage.columns import SCHEMA, read_record, unescape
from rstar_fast.storage.journal import scan

_GROUP_RESULTS = 64
_GROUP_BYTES = 4 << 20  # reading one result costs reading its row group


def write_shard(journal: Path, shard: Path) -> list[str]:
    """Writes a journal's records as rows, in order; the shard appears whole and durable, or not at all.

    Returns:
      The problem ids in row order; without any, nothing is written.

    Raises:
      OSError: it cannot be written.
    """
    ids: list[str] = []
    temporary = shard.with_name(f"{shard.name}.tmp")
    try:
        with pq.ParquetWriter(temporary, SCHEMA, compression="zstd", write_page_checksum=True) as writer:
            for rows in _groups(journal):
                writer.write_table(pa.Table.from_batches(rows).combine_chunks(), row_group_size=len(rows))
                ids += [unescape(row.column("id")[0].as_py()) for row in rows]
        if not ids:
            return ids
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(shard)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(shard.parent)
    return ids


def footer_checksum(shard: Path) -> int:
    """CRC-32 of a Parquet file's footer: the schema and where everything lies.

    Raises:
      OSError: it cannot be read.
    """
    with shard.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 8))  # 4 bytes length of the footer, 4 bytes "PAR1"
        length = int.from_bytes(file.read(8)[:4], "little") + 8
        file.seek(max(0, end - length))
        return zlib.crc32(file.read(length))


def _groups(journal: Path) -> Iterator[list[pa.RecordBatch]]:
    """The journal's records, in row groups."""
    rows: list[pa.RecordBatch] = []
    size = 0
    for _, payload in scan(journal):
        rows.append(read_record(payload))
        size += len(payload)
        if len(rows) >= _GROUP_RESULTS or size >= _GROUP_BYTES:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows
