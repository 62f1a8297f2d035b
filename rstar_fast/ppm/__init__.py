"""The process preference model: a sequence-classification model with one label that values partial solutions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rstar_fast._openmp  # noqa: F401  # before torch
from rstar_fast.types import InvalidInput, Scorer


def load_scorer(name: str | Path, **settings: Any) -> Scorer:
    """Opens a PPM.

    Args:
      name: "nano", or a checkpoint's folder or hub name.
      **settings: as PpmScorer takes them, e.g. device="cpu".

    Raises:
      InvalidInput: there is no such checkpoint, or it is no PPM.
    """
    from rstar_fast.ppm.scorer import PpmScorer

    if name == "nano":
        from rstar_fast.nano import PPM as name
    try:
        return PpmScorer.from_pretrained(str(name), **settings)
    except TypeError as error:  # a keyword the class does not know
        raise InvalidInput(f"the PPM {str(name)!r} does not take these settings ({error}): see PpmScorer") from error
