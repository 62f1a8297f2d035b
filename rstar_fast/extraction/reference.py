"""The data sets of microsoft/rStar's training scripts: rows of ours as theirs, and their files read as rows of ours.

    SFT    [{"query": question and frame, "response": solution}]
    pairs  [{"prompt": question, frame and prefix, "pos": step, "neg": step, "pos_count": positives, "neg_count": negatives}]

Their query lacks the prompt's first line, and their response the white space at its ends.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rstar_fast.types import InvalidInput

_USER = "<|user|>:\n"


def sft_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """The reference's form of a row of `rows.SFT`."""
    return {"query": row["prompt"].removeprefix(_USER), "response": row["completion"].strip()}


def pair_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """The reference's form of a row of `rows.PAIRS`."""
    return {
        "prompt": row["prompt"],
        "neg": row["rejected"],
        "pos": row["chosen"],
        "neg_count": row["negatives"],
        "pos_count": row["positives"],
    }


def read_reference_sft(path: str | Path) -> Iterator[dict[str, Any]]:
    """The rows of the reference's SFT file, with our `prompt` and `completion`.

    Raises:
      InvalidInput: the file is missing, or no list of such rows; names the row.
    """
    for row in _rows(Path(path), ("query", "response"), ()):
        yield {"prompt": _USER + row["query"], "completion": row["response"]}


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
