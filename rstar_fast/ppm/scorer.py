"""Scores partial solutions with a PPM whose head values them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rstar_fast import kernels
from rstar_fast.policies.tokenizing import PieceTokenizer
from rstar_fast.ppm import model as ppm_model
from rstar_fast.ppm.prefixes import Run
from rstar_fast.ppm.scores import text_of
from rstar_fast.ppm.tree_scorer import TreeScorer
from rstar_fast.types import Partial


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


class PpmScorer(TreeScorer):
    """A `Scorer` over a sequence-classification model with one label: tanh(logit / scale) of the last token. Arguments as `TreeScorer`."""

    _load = staticmethod(ppm_model.load)
    _reads = staticmethod(_LastToken)
