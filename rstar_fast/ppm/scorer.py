"""Scores partial solutions with a PPM whose head values them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rstar_fast import kernels
from rstar_fast.policies.checkpoint import load_tokenizer
from rstar_fast.policies.tokenizing import PieceTokenizer
from rstar_fast.ppm import model as ppm_model
from rstar_fast.ppm.prefixes import Run
from rstar_fast.ppm.scores import text_of
from rstar_fast.ppm.tree_scorer import TreeScorer
from rstar_fast.types import Partial


class PpmScorer(TreeScorer):
    """A `Scorer` over a sequence-classification model with one label: tanh(logit / scale) of the last token.

    Args:
      model, batch_tokens, kept_tokens: as `TreeScorer`.
      tokenizer: the model's.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        batch_tokens: int = 16_384,
        kept_tokens: int = 131_072,
    ) -> None:
        super().__init__(model, _LastToken(model, tokenizer), batch_tokens=batch_tokens, kept_tokens=kept_tokens)

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        *,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        batch_tokens: int = 16_384,
        kept_tokens: int = 131_072,
    ) -> Self:
        """Loads a checkpoint by folder or hub name; errors as `model.load`."""
        model, tokenizer = ppm_model.load(name, device=device, dtype=dtype), load_tokenizer(name, "PPM")
        return cls(model, tokenizer, batch_tokens=batch_tokens, kept_tokens=kept_tokens)


class _LastToken:
    """The `Reading` of a value head."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self._weight, self._tokenizer = model.score.weight, PieceTokenizer(tokenizer)
        self._scale = ppm_model.scale_of(model)
        self._bias = torch.full((1,), ppm_model.bias_in(model.config), device=model.device)
        if model.score.bias is not None:
            self._bias += model.score.bias.detach().float()

    def tokens(self, partials: Sequence[Partial]) -> list[tuple[np.ndarray, int]]:
        """Those of each text as a whole, as where tokens end depends on what follows."""
        return [(ids, 1) for ids in self._tokenizer([text_of(partial) for partial in partials])]

    def values(self, hidden: torch.Tensor, runs: Sequence[Run]) -> torch.Tensor:
        """The scores of all partial solutions that could end here: another may."""
        every = torch.arange(len(hidden), device=hidden.device)
        return kernels.value_head(hidden, every, self._weight[0], self._scale, self._bias)

    def score(self, values: np.ndarray) -> float:
        return float(values[0])
