"""Reads the data sets of microsoft/rStar's training scripts, as `extract` writes them too (extraction/reference.py says what they hold)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rstar_fast import steps
from rstar_fast.types import InvalidInput


def read_reference_sft(path: str | Path) -> Iterator[dict[str, Any]]:
    """The rows of the reference's SFT file, with our `prompt` and `completion`.

    Raises:
      InvalidInput: the file is missing, or no list of such rows; names the row.
    """
    for row in _rows(Path(path), ("query", "response"), ()):
        yield {"prompt": steps.USER + row["query"], "completion": row["response"]}


def read_reference_pairs(path: str | Path) -> Iterator[dict[str, Any]]:
    """The rows of the reference's pairs, with our `prompt`, `chosen`, `rejected`, `group`, `positives` and `negatives`.

    A group is a run of rows with one prompt.

    Raises:
      InvalidInput: the file is missing, or no list of such rows; names the row.
    """
    group, last = -1, None
    for row in _rows(Path(path), ("prompt", "pos", "neg"), ("pos_count", "neg_count")):
        group += row["prompt"] != last
        last = row["prompt"]
        yield {
            "prompt": last,
            "chosen": row["pos"],
            "rejected": row["neg"],
            "group": group,
            "positives": row["pos_count"],
            "negatives": row["neg_count"],
        }


def _rows(path: Path, texts: tuple[str, ...], counts: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    try:
        rows = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InvalidInput(f"there is no file {path}: check its name, relative to {Path.cwd()}") from None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidInput(f"{path} is not valid JSON ({error}): give a list as microsoft/rStar's scripts write it") from None
    if not isinstance(rows, list):
        raise InvalidInput(f"{path} holds no list: give a list as microsoft/rStar's scripts write it")
    for number, row in enumerate(rows, 1):
        for names, kind in ((texts, str), (counts, int)):
            for name in names:
                if not isinstance(row, dict) or not isinstance(row.get(name), kind):
                    raise InvalidInput(
                        f"{path}, row {number}: it has no {name!r}; give rows as microsoft/rStar's scripts write them"
                    )
        yield row
