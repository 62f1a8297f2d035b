"""The sampling loop: many prompts at once, each prompt computed once for its n samples, stop strings exact.

Shapes: B prompts, R rows still generated (one per sample at first), T positions computed so far, the last S of them by one pass,
V tokens in the vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from typing import Any, Self

import numpy as np
import torch
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicLayer
from transformers.masking_utils import eager_mask

from rstar_fast.policies.checkpoint import cache_argument
from rstar_fast.policies.prompt_cache import PromptCache
from rstar_fast.types import Candidate

_GROUPED_ATTENTION = "rstar_fast_grouped"
_CACHE_BLOCK = 64
# Rows that have ended are kept until they are this part of all: dropping them copies the keys and values of the others.
_COMPACT_BELOW = 0.6
_BYTE_TOKEN = re.compile("<0x[0-9A-F]{2}>")


class Sampler:
    """Samples continuations up to a stop string.

    Args:
      model: a causal language model, in evaluation mode.
      tokenizer: its tokenizer.
      stops: strings that end a continuation.
      temperature, top_p, top_k: as TransformersPolicy.
      prompts: where the keys and values of prompts are kept; without it, and where layers differ, each prompt is computed anew.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        stops: Sequence[str],
        temperature: float,
        top_p: float,
        top_k: int,
        prompts: PromptCache | None = None,
    ) -> None:
        self._model, self._tokenizer, self._stops = model, tokenizer, tuple(stops)
        self._temperature, self._top_p, self._top_k = temperature, top_p, top_k
        self._ends = self._end_tokens()
        self._may_stop = self._tokens_that_may_stop()
        self._cache_argument = cache_argument(model)
        # Whether every layer sees all that stands before: then a mask made once and grown by a column serves them all.
        # Other models (sliding windows) get what is padding, and make the masks of their layers themselves.
        self._sees_all = all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)
        self._prompts = prompts if self._sees_all else None
        capped = getattr(model.config.get_text_config(), "attn_logit_softcapping", None) is not None
        if model.device.type == "cpu" and self._sees_all and not capped:
            AttentionInterface.register(_GROUPED_ATTENTION, grouped_attention)
            AttentionMaskInterface.register(_GROUPED_ATTENTION, eager_mask)  # for other callers of the model, who give no mask
            model.set_attn_implementation(_GROUPED_ATTENTION)

    def _end_tokens(self) -> np.ndarray:
        ids = {self._tokenizer.eos_token_id}
        configured = self._model.generation_config.eos_token_id if self._model.generation_config is not None else None
        ids |= set(configured) if isinstance(configured, list) else {configured}
        return np.array(sorted(ids - {None}), np.int64)

    def _tokens_that_may_stop(self) -> np.ndarray:
        """[V] bool: tokens whose text holds the last character of a stop string: only behind them one can be complete."""
        vocabulary = self._tokenizer.get_vocab()
        count = max([*vocabulary.values(), self._model.config.get_text_config().vocab_size - 1]) + 1
        last = {stop[-1] for stop in self._stops}
        if not all(character.isascii() and character.isprintable() and character != " " for character in last):
            return np.ones(count, bool)  # tokenizers write other characters in ways of their own
        may_stop = np.zeros(count, bool)
        for written, token in vocabulary.items():
            may_stop[token] = any(character in written for character in last) or _BYTE_TOKEN.fullmatch(written) is not None
        return may_stop

    @torch.inference_mode()
    def sample(
        self,
        prompts: Sequence[Sequence[int] | np.ndarray],
        keys: Sequence[np.ndarray],
        max_tokens: int | Sequence[int],
        owners: Sequence[Hashable] | None = None,
    ) -> list[list[Candidate]]:
        """Samples continuations of each prompt.

        Args:
          prompts: B token sequences, none empty.
          keys: for each prompt [n] uint64, the randomness of each of its samples; n may differ.
          max_tokens: most tokens of a continuation, >= 1; one number, or one for each prompt.
          owners: what each prompt belongs to, such as its problem: it is taken to begin like prompts of the same. By default they
            belong together.

        Returns:
          For each prompt its candidates, in the order of their keys.
        """
        device = self._model.device
        logits, cache, mask, positions = self._begun(prompts, owners or [None] * len(prompts))
        counts = [len(of_prompt) for of_prompt in keys]
        prompt_of = np.repeat(np.arange(len(prompts)), counts)  # of each sample
        copies = torch.from_numpy(prompt_of).to(device)
        cache.batch_select_indices(copies)
        lengths = np.repeat(np.broadcast_to(max_tokens, len(prompts)), counts)  # the longest of each sample
        longest = int(lengths.max(initial=0))
        logits, mask, positions = logits[copies], mask[copies], positions[copies]
        rows = np.arange(len(prompt_of))  # which sample each row is
        flat_keys = np.concatenate(keys)
        tokens = np.zeros((len(rows), longest), np.int64)
        logprobs = np.zeros(len(rows))
        candidates: list[Candidate | None] = [None] * len(rows)
        alive = np.ones(len(rows), bool)
        for step in range(longest):
            chosen, chosen_logprobs = self._choose(logits, uniforms(flat_keys[rows], step))
            new = chosen.cpu().numpy()
            tokens[rows, step] = new
            logprobs[rows] += np.where(alive, chosen_logprobs.cpu().numpy(), 0.0)
            ended, is_last = np.isin(new, self._ends), lengths[rows] == step + 1
            for at in np.flatnonzero(alive & (ended | is_last | self._may_stop[new])):
                row = rows[at]
                last_token = int(prompts[prompt_of[row]][-1])
                written = tokens[row, : step + 1]
                candidate = self._candidate(last_token, written, bool(ended[at]), bool(is_last[at]), logprobs[row])
                if candidate is not None:
                    candidates[row] = candidate
                    alive[at] = False
            if not alive.any():
                break
            if alive.mean() < _COMPACT_BELOW:
                keep = torch.from_numpy(np.flatnonzero(alive)).to(device)
                cache.batch_select_indices(keep)
                chosen, mask, positions = chosen[keep], mask[keep], positions[keep]
                rows, alive = rows[alive], alive[alive]
            positions = positions + 1
            mask = torch.cat([mask, mask.new_full((*mask.shape[:-1], 1), 0 if self._sees_all else 1)], -1)
            logits = self._forward(chosen[:, None], mask, positions[:, None], cache)
        flat = [candidate for candidate in candidates if candidate is not None]
        assert len(flat) == len(prompt_of)
        ends = np.cumsum(counts).tolist()
        return [flat[end - count : end] for end, count in zip(ends, counts, strict=True)]

    def _begun(
        self, prompts: Sequence[Sequence[int] | np.ndarray], owners: Sequence[Hashable]
    ) -> tuple[torch.Tensor, DynamicCache, torch.Tensor, torch.Tensor]:
        """As `_prefill`, of what of the prompts is not known yet."""
        if self._prompts is None:
            return self._prefill(prompts, [None] * len(prompts))
        tokens = [np.asarray(prompt, np.int32) for prompt in prompts]
        known = [self._prompts.longest(owner, prompt) for owner, prompt in zip(owners, tokens, strict=True)]
        parts: list[torch.Tensor] = [torch.empty(0)] * len(prompts)
        logits: list[torch.Tensor] = [torch.empty(0)] * len(prompts)
        # Whole prompts and single steps apart: padded to the same length, the steps would cost what the prompts do.
        for rows in ([i for i, part in enumerate(known) if part is None], [i for i, part in enumerate(known) if part is not None]):
            if not rows:
                continue
            of_rows, cache, _, _ = self._prefill([tokens[i] for i in rows], [known[i] for i in rows])
            computed = [part[..., : cache.get_seq_length(), :] for layer in cache.layers for part in (layer.keys, layer.values)]
            if len({part.shape for part in computed}) > 1:
                self._prompts = None
                return self._begun(prompts, owners)
            together = torch.stack(computed, 1)
            before = [0 if (part := known[i]) is None else part.shape[2] for i in rows]
            end = max(before)  # of what was known; each row's stands before it, and what is new at the right end
            for row, i in enumerate(rows):
                new = len(tokens[i]) - before[row]
                parts[i] = torch.cat([together[row, :, :, end - before[row] : end], together[row, :, :, -new:]], 2)
                logits[i] = of_rows[row]
                self._prompts.add(owners[i], tokens[i], parts[i])
        cache, seen = self._cache_of(parts)
        positions = torch.tensor([len(prompt) - 1 for prompt in prompts], device=seen.device)
        return torch.stack(logits), cache, self._additive(seen, 1), positions

    def _prefill(
        self, prompts: Sequence[Sequence[int] | np.ndarray], known: Sequence[torch.Tensor | None]
    ) -> tuple[torch.Tensor, DynamicCache, torch.Tensor, torch.Tensor]:
        """Computes the prompts but for what is known of each: last logits [B, V], cache, mask, last positions [B].

        The mask is what the next token adds to its scores [B, 1, 1, T]; where layers differ, 1 for what is no padding [B, T].
        """
        model = self._model
        new = [prompt[0 if part is None else part.shape[2] :] for prompt, part in zip(prompts, known, strict=True)]
        longest = max(map(len, new))
        ids = np.zeros((len(prompts), longest), np.int64)
        real = np.zeros((len(prompts), longest), bool)
        for row, tokens in enumerate(new):
            ids[row, longest - len(tokens) :] = tokens
            real[row, longest - len(tokens) :] = True
        seen = torch.from_numpy(real).to(model.device)
        if any(part is not None for part in known):
            cache, before = self._cache_of(known)
            seen = torch.cat([before, seen], 1)
        else:
            cache = DynamicCache(config=model.config)
            if self._sees_all:
                cache.layers = [_BlockLayer() for _ in cache.layers]
        positions = (seen.cumsum(1) - 1).clamp_(min=0)[:, -longest:]
        mask = self._additive(seen, longest) if self._sees_all else seen.long()
        logits = self._forward(torch.from_numpy(ids).to(model.device), mask, positions, cache)
        return logits, cache, mask[:, :, -1:, :] if self._sees_all else mask, positions[:, -1]

    def _cache_of(self, parts: Sequence[torch.Tensor | None]) -> tuple[DynamicCache, torch.Tensor]:
        """A cache with what is known of prompts, [2 * layers, K, T, D] each, padded on the left; [B, T] bool: what is no padding."""
        some = next(part for part in parts if part is not None)
        tensors, heads, _, size = some.shape
        lengths = [0 if part is None else part.shape[2] for part in parts]
        longest = max(lengths)
        together = some.new_zeros(len(parts), tensors, heads, -(-longest // _CACHE_BLOCK) * _CACHE_BLOCK, size)
        seen = torch.zeros(len(parts), longest, dtype=torch.bool, device=some.device)
        for row, (part, length) in enumerate(zip(parts, lengths, strict=True)):
            if part is not None:
                together[row, :, :, longest - length : longest] = part
                seen[row, longest - length :] = True
        cache = DynamicCache(config=self._model.config)
        cache.layers = [_BlockLayer.of(together[:, at], together[:, at + 1], longest) for at in range(0, tensors, 2)]
        return cache, seen

    def _additive(self, seen: torch.Tensor, new: int) -> torch.Tensor:
        """[B, T] bool -> [B, 1, S, T]: what each of the last S = `new` tokens adds to its scores."""
        at = seen.shape[1] - new
        causal = torch.ones(new, seen.shape[1], dtype=torch.bool, device=seen.device).tril(at)
        visible = seen[:, None, None, :] & causal
        visible |= causal.triu(at)  # padding sees itself: a row of nothing is NaN
        dtype = self._model.dtype
        return torch.zeros(visible.shape, dtype=dtype, device=seen.device).masked_fill_(~visible, torch.finfo(dtype).min)

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
        """The logits of each row's last token, [R, V]."""
        arguments = {"attention_mask": mask, "position_ids": positions, self._cache_argument: cache}
        return self._model(input_ids=ids, use_cache=True, logits_to_keep=1, **arguments).logits[:, -1]

    def _choose(self, logits: torch.Tensor, uniform: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """The next token of each row, [R] int64, where the distribution function reaches `uniform` [R]; its log-probability."""
        logits = logits.float()
        logprobs = torch.log_softmax(logits, -1)
        if self._temperature == 0.0:
            chosen = logits.argmax(-1)
        else:
            probabilities = torch.softmax(logits / self._temperature, -1) if self._temperature != 1.0 else logprobs.exp()
            if self._top_k or self._top_p < 1.0:
                probabilities = self._truncated(probabilities)
            sums = probabilities.cumsum(-1)
            at = torch.from_numpy(uniform.astype(np.float32)).to(logits.device)[:, None] * sums[:, -1:]
            chosen = torch.searchsorted(sums, at, right=True)[:, 0].clamp_(max=logits.shape[-1] - 1)
        return chosen, logprobs.gather(-1, chosen[:, None])[:, 0]

    def _truncated(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Sets to 0 what top_k and top_p leave out; the rest is not renormalised."""
        ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
        if self._top_k:
            ordered[:, self._top_k :] = 0.0
        if self._top_p < 1.0:
            before = ordered.cumsum(-1) - ordered  # the token that crosses top_p stays
            ordered[before >= self._top_p * ordered.sum(-1, keepdim=True)] = 0.0
        return torch.zeros_like(probabilities).scatter_(-1, order, ordered)

    def _candidate(self, last_token: int, tokens: np.ndarray, ended: bool, is_last: bool, logprob: float) -> Candidate | None:
        """The candidate that ends behind these tokens; None when it goes on."""
        # Decoded behind the prompt's last token: some tokenizers drop a space at the beginning of a text.
        before = self._decode([last_token])
        text = self._decode([last_token, *(tokens[:-1] if ended else tokens).tolist()])[len(before) :]
        found = [(text.find(stop), stop) for stop in self._stops if stop in text]
        if found:
            at, stop = min(found)
            return Candidate(text[:at], stop, len(tokens), float(logprob))
        if ended or is_last:
            return Candidate(text, None, len(tokens), float(logprob))
        return None

    def _decode(self, ids: list[int]) -> str:
        # The spaces are the program's: "[1 , 2]" stays as it is.
        return self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def uniforms(keys: np.ndarray, step: int) -> np.ndarray:
    """[R] float64 in [0, 1): the random number of each row's step, by the finalizer of SplitMix64 (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        x = keys + np.uint64(step + 1) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(40)).astype(np.float64) * 2.0**-24  # 24 bits: exact in float32


class _BlockLayer(DynamicLayer):
    """A cache layer that grows by blocks, so that a new token does not copy all keys and values before it."""

    _used = 0

    @classmethod
    def of(cls, keys: torch.Tensor, values: torch.Tensor, used: int) -> Self:
        """A layer that holds keys and values [B, K, >= used, D] already, the first `used` of each."""
        layer = cls()
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values, layer._used = keys, values, used
        return layer

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        begin, end = self._used, self._used + key_states.shape[-2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = (self._grown(new[..., :0, :], end) for new in (key_states, value_states))
        elif end > self.keys.shape[-2]:
            self.keys, self.values = (self._grown(old, end) for old in (self.keys, self.values))
        self.keys[..., begin:end, :] = key_states
        self.values[..., begin:end, :] = value_states
        self._used = end
        return self.keys[..., :end, :], self.values[..., :end, :]

    def _grown(self, old: torch.Tensor, length: int) -> torch.Tensor:
        rows, heads, _, size = old.shape
        capacity = -(-length // _CACHE_BLOCK) * _CACHE_BLOCK
        new = old.new_empty(rows, heads, capacity, size)
        new[..., : self._used, :] = old[..., : self._used, :]
        return new

    def get_seq_length(self) -> int:
        return self._used


def grouped_attention(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor | None, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    """Attention whose query heads share keys and values without repeating them in memory.

    On the CPU a step of generation is bound by memory: repeating is what torch's own attention would do under a mask.

    Args:
      query: [R, H, L, D]; key, value: [R, K, T, D], H a multiple of K.
      attention_mask: [R or 1, 1, L, T], added to the scores; None: nothing is hidden.

    Returns:
      [R, L, H, D], and None in place of the weights.
    """
    rows, heads, length, size = query.shape
    groups = key.shape[1]
    scale = kwargs.get("scaling") or size**-0.5
    grouped = query.reshape(rows, groups, heads // groups * length, size)
    scores = torch.matmul(grouped * scale, key.transpose(-1, -2)).view(rows, groups, heads // groups, length, -1)
    if attention_mask is not None:
        scores = scores + attention_mask[:, :, None, :, : key.shape[-2]]
    weights = torch.softmax(scores, -1).to(value.dtype)
    output = torch.matmul(weights.view(rows, groups, heads // groups * length, -1), value)
    return output.view(rows, heads, length, size).transpose(1, 2).contiguous(), None
