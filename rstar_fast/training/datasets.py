"""The files that training reads: Parquet, JSON lines or microsoft/rStar's lists, a row for each solution or pair."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet

from rstar_fast.training.reference import read_reference_pairs, read_reference_sft
from rstar_fast.types import InvalidInput

_READERS = {".parquet": pyarrow.parquet.read_table, ".jsonl": pyarrow.json.read_json}


def read_table(path: str | Path, texts: Sequence[str], optional: Sequence[str] = ()) -> pa.Table:
    """Reads a dataset.

    Args:
      path: a .parquet or .jsonl file, or a .json file as microsoft/rStar's training scripts read it.
      texts: columns that must be there, and hold text in every row.
      optional: columns that may be there; what else the file has is left out.

    Returns:
      At least one row.

    Raises:
      InvalidInput: there is no such file, it cannot be read, has no rows, or a column or text is missing.
    """
    path = Path(path)
    rows = read_reference_sft if "completion" in texts else read_reference_pairs
    read = {**_READERS, ".json": lambda name: pa.Table.from_pylist(list(rows(name)))}.get(path.suffix.lower())
    if read is None:
        raise InvalidInput(
            f"{path} is no dataset: give a file whose name ends in .parquet, .jsonl or .json, as `rstar-fast extract` writes"
        )
    if not path.is_file():
        raise InvalidInput(f"there is no file {path}: give a dataset, as `rstar-fast extract` writes")
    if path.stat().st_size == 0:
        raise InvalidInput(f"{path} is empty: give a dataset with at least one row")
    try:
        table = read(str(path))
    except (pa.ArrowException, OSError, UnicodeEncodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {' '.join(str(error).split())[:300]}") from None
    if not table.num_rows:
        raise InvalidInput(f"{path} has no rows: give a dataset with at least one")
    for name in texts:
        if name not in table.column_names:
            raise InvalidInput(
                f"{path} has no column {name!r}, only {', '.join(table.column_names)}: give a dataset with {', '.join(texts)}"
            )
        column = table.column(name)
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            raise InvalidInput(f"{path}: the column {name!r} holds {column.type}: give text in every row")
        if column.null_count:
            row = pc.index(column.is_null(), True).as_py()
            raise InvalidInput(f"{path}, row {row + 1}: {name!r} is missing: give text in every row")
    return table.select([name for name in (*texts, *optional) if name in table.column_names])


def digest(path: str | Path) -> str:
    """Of a file's content: tells whether a training that goes on reads what it has read before."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
