"""Scores partial solutions with a PPM."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rstar_fast import kernels, steps
from rstar_fast.policies.checkpoint import context_tokens, load_tokenizer
from rstar_fast.ppm import model as ppm_model
from rstar_fast.types import InvalidInput, Partial, PartialTooLong


class PpmScorer:
    """A `Scorer` over a sequence-classification model with one label: tanh(logit / scale) of the last token.

    Args:
      model: the PPM, in evaluation mode.
      tokenizer: its tokenizer.
      batch_tokens: tokens of a forward pass, padding included, >= 1; bounds its memory.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, batch_tokens: int = 16_384) -> None:
        if batch_tokens < 1:
            raise InvalidInput(f"batch_tokens is {batch_tokens}: give an integer >= 1")
        self._model, self._tokenizer, self._batch_tokens = model, tokenizer, batch_tokens
        self._scale, self._context = ppm_model.scale_of(model), context_tokens(model)
        self._thread = ThreadPoolExecutor(1, "rstar_fast.ppm")

    @classmethod
    def from_pretrained(
        cls, name: str, *, device: str | None = None, dtype: torch.dtype | None = None, batch_tokens: int = 16_384
    ) -> Self:
        """Loads a checkpoint by folder or hub name; errors as `model.load`."""
        return cls(ppm_model.load(name, device=device, dtype=dtype), load_tokenizer(name, "PPM"), batch_tokens=batch_tokens)

    async def score(self, partials: Sequence[Partial]) -> np.ndarray:
        """Scores partial solutions with the PPM (rStar-Math, section 3.3).

        Args:
          partials: B partial solutions; one that occurs more than once is computed once.

        Returns:
          [B] float32 in (-1, 1), in the order given.

        Raises:
          PartialTooLong: a partial exceeds the model's context; names the problem and both lengths.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._score, list(partials))

    async def aclose(self) -> None:
        """Ends the thread."""
        await asyncio.to_thread(self._thread.shutdown)

    @torch.inference_mode()
    def _score(self, partials: list[Partial]) -> np.ndarray:
        texts = {partial: steps.without_surrogates(steps.prompt(partial)) for partial in partials}
        tokens: dict[Partial, list[int]] = {}
        for partial, text in texts.items():
            tokens[partial] = self._tokenizer(text, verbose=False)["input_ids"]
            if len(tokens[partial]) > self._context:
                raise PartialTooLong(
                    f"a partial solution of problem {partial.problem.id!r} is {len(tokens[partial])} tokens long and the PPM's "
                    f"context {self._context}: lower max_depth, or use a PPM with a longer context"
                )
        scores: dict[Partial, float] = {}
        batch: list[Partial] = []
        for partial in sorted(tokens, key=lambda partial: len(tokens[partial])):  # of like length: least padding
            if batch and (len(batch) + 1) * len(tokens[partial]) > self._batch_tokens:
                scores |= self._forward(batch, tokens)
                batch = []
            batch.append(partial)
        if batch:
            scores |= self._forward(batch, tokens)
        return np.array([scores[partial] for partial in partials], np.float32)

    def _forward(self, batch: list[Partial], tokens: dict[Partial, list[int]]) -> dict[Partial, float]:
        """One pass, padded on the right: under causal attention what stands behind a token does not change it."""
        lengths = torch.tensor([len(tokens[partial]) for partial in batch])
        ids = torch.zeros(len(batch), int(lengths.max()), dtype=torch.int64)
        for row, partial in enumerate(batch):
            ids[row, : lengths[row]] = torch.tensor(tokens[partial])
        device = self._model.device
        hidden = self._model.base_model(input_ids=ids.to(device), use_cache=False).last_hidden_state
        scores = kernels.value_head(hidden, (lengths - 1).to(device), self._model.score.weight[0], self._scale)
        return dict(zip(batch, scores.tolist(), strict=True))
