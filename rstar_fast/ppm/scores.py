"""What scorers that ask another engine share: the scale of the score, and logits to scores."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from rstar_fast import steps
from rstar_fast.ppm import model as ppm_model
from rstar_fast.types import Partial

_LARGEST = np.nextafter(np.float32(1), np.float32(0))  # float32 has no tanh of a large number but 1


def text_of(partial: Partial) -> str:
    """What the PPM reads."""
    return steps.without_surrogates(steps.prompt(partial))


def checked_scale(scale: float) -> float:
    """A scale given as a setting; InvalidInput where it is no number > 0."""
    return scale_in(SimpleNamespace(ppm_scale=scale))


def scale_in(config: Any) -> float:
    """The scale a checkpoint's config.json tells; see `model.scale_of`."""
    return ppm_model.scale_of(SimpleNamespace(config=config))  # type: ignore[arg-type]


def scores_of(logits: Sequence[float] | np.ndarray, scale: float) -> np.ndarray:
    """tanh(logit / scale) of [B] finite logits (rStar-Math, section 3.3), [B] float32 in (-1, 1)."""
    scores = np.tanh(np.asarray(logits, np.float64) / scale).astype(np.float32)
    return np.clip(scores, -_LARGEST, _LARGEST)
