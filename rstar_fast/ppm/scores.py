"""What all scorers share: the text that a PPM reads, what is said of one too long for it, and logits to scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rstar_fast import steps
from rstar_fast.types import Partial, PartialTooLong

_LARGEST = np.nextafter(np.float32(1), np.float32(0))  # float32 has no tanh of a large number but 1


def text_of(partial: Partial) -> str:
    """What the PPM reads."""
    return steps.without_surrogates(steps.prompt(partial))


def check_length(partial: Partial, tokens: int, context: int) -> None:
    """Whether a partial solution of so many tokens fits a PPM's context.

    Raises:
      PartialTooLong: it does not; names the problem and both lengths.
    """
    if tokens > context:
        raise PartialTooLong(
            f"a partial solution of problem {partial.problem.id!r} is {tokens} tokens long and the PPM's "
            f"context {context}: lower max_depth, or use a PPM with a longer context"
        )


def scores_of(logits: Sequence[float] | np.ndarray, scale: float, bias: float = 0.0) -> np.ndarray:
    """tanh((logit + bias) / scale) of [B] finite logits (rStar-Math, section 3.3), [B] float32 in (-1, 1)."""
    scores = np.tanh((np.asarray(logits, np.float64) + bias) / scale).astype(np.float32)
    return np.clip(scores, -_LARGEST, _LARGEST)
