"""The data sets of microsoft/rStar's training scripts: rows of ours as theirs; `training.reference` reads them.

    SFT    [{"query": question and frame, "response": solution}]
    pairs  [{"prompt": question, frame and prefix, "pos": step, "neg": step, "pos_count": positives, "neg_count": negatives}]

Their query lacks the prompt's first line, and their response the white space at its ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rstar_fast import steps


def sft_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """The reference's form of a row of `rows.SFT`."""
    return {"query": row["prompt"].removeprefix(steps.USER), "response": row["completion"].strip()}


def pair_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """The reference's form of a row of `rows.PAIRS`."""
    return {
        "prompt": row["prompt"],
        "neg": row["rejected"],
        "pos": row["chosen"],
        "neg_count": row["negatives"],
        "pos_count": row["positives"],
    }
