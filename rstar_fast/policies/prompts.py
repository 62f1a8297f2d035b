"""The keys and values of prompts, computed in batches; what is known of a prompt is not computed again.

Shapes: n prompts of a batch, L layers, K heads of keys and values, D numbers each, H query heads, T positions of the longest prompt, E
the hidden size.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rstar_fast.policies.decoder import Decoder, in_parts
from rstar_fast.policies.groups import lowest
from rstar_fast.policies.prompt_cache import PromptCache

_MOST_SCORES = 1 << 24  # of prompts computed together: they bound the memory that this takes
# Where prompts of which nothing is known are not computed together: torch's own attention, which takes no padding, is faster there.
_NEW_ALONE = ("cpu",)


def computed(
    decoder: Decoder, prompts: Sequence[np.ndarray], owners: Sequence[Hashable], known: PromptCache | None
) -> tuple[list[Tensor], Tensor]:
    """Keys and values of each prompt, [2 * L, K, tokens, D], and the hidden states of their last tokens, [prompts, E].

    Computed is what is not known.
    """
    found = [None if known is None else known.longest(owner, prompt) for owner, prompt in zip(owners, prompts, strict=True)]
    begins = np.array([0 if beginning is None else beginning.shape[2] for beginning in found])
    lengths = np.array(list(map(len, prompts)))
    alone = (begins == 0) & (decoder.device.type in _NEW_ALONE)
    batches = [
        _Prompts(decoder, of_batch, begins[of_batch], lengths[of_batch])
        for of_batch in _alike(lengths - begins, lengths, decoder.heads, alone)
    ]
    parts = dict(item for batch in batches for item in batch.parts())
    for number, beginning in enumerate(found):
        if beginning is not None:
            parts[number][:, :, : begins[number]] = beginning
    order = np.concatenate([batch.numbers for batch in batches])
    new = (lengths - begins)[order]
    attend = in_parts([batch.attend for batch in batches], [int(batch.new.sum()) for batch in batches])
    ids = np.concatenate([prompts[number][begins[number] :] for number in order]).astype(np.int64)
    positions = np.concatenate([np.arange(begins[number], lengths[number]) for number in order])
    tokens, at = (torch.from_numpy(numbers).to(decoder.device) for numbers in (ids, positions))
    x = decoder(tokens, at, attend, int(lengths.max()))
    if known is not None:
        for number, (prompt, owner) in enumerate(zip(prompts, owners, strict=True)):
            known.add(owner, prompt, parts[number])
    ends = np.empty_like(new)
    ends[order] = np.cumsum(new) - 1
    return [parts[number] for number in range(len(prompts))], x[torch.from_numpy(ends).to(decoder.device)]


def _alike(new: np.ndarray, lengths: np.ndarray, heads: int, alone: np.ndarray) -> list[np.ndarray]:
    """Which prompts are computed as one batch: their numbers, all prompts once.

    Padded to the largest of a batch, its scores are at most _MOST_SCORES, unless it is one prompt alone, and at most twice what
    they would be without padding.

    Args:
      new: [prompts], tokens to be computed.
      lengths: [prompts], tokens in all.
      heads: of queries.
      alone: [prompts] bool, those that get a batch of their own.
    """
    batches: list[list[int]] = [[number] for number in np.flatnonzero(alone).tolist()]
    most = longest = real = 0  # of the batch begun last
    order = np.lexsort((lengths, new))[::-1]  # the one with most new tokens first
    for number in order[~alone[order]].tolist():
        of_new, length = int(new[number]), int(lengths[number])
        longest, real = max(longest, length), real + of_new * length
        padded = most * longest * (len(batches[-1]) + 1) if most else 0
        if most and padded * heads <= _MOST_SCORES and padded <= 2 * real:
            batches[-1].append(number)
        else:
            batches.append([number])
            most, longest, real = of_new, length, of_new * length
    return [np.array(batch) for batch in batches]


class _Prompts:
    """Prompts whose keys and values are computed as one batch, in a room of [2 * L, n, K, T, D].

    Attributes:
      numbers: [n], which prompts they are to the caller.
      new: [n], how many tokens of each are computed.
    """

    def __init__(self, decoder: Decoder, numbers: np.ndarray, begins: np.ndarray, lengths: np.ndarray) -> None:
        self.numbers, self.new, self._lengths = numbers, lengths - begins, lengths
        n, longest, most = len(numbers), int(lengths.max()), int(self.new.max())
        device, kv_heads = decoder.device, decoder.kv_heads
        shape = (2 * decoder.layers, n, kv_heads, longest, decoder.size)
        # A prompt alone has no padding, which must be finite: what is masked is multiplied all the same.
        self._room = (torch.empty if n == 1 else torch.zeros)(shape, dtype=decoder.dtype, device=device)
        self._is_one = n == 1 and not begins.any()
        if self._is_one:
            return
        of_token = np.repeat(np.arange(n), self.new)
        number = np.arange(len(of_token)) - np.repeat(np.cumsum(self.new) - self.new, self.new)
        # Where the new keys stand, counted in vectors, and the queries.
        heads = (of_token[:, None] * kv_heads + np.arange(kv_heads)) * longest + (begins[of_token] + number)[:, None]
        self._keys_at = torch.from_numpy(heads.reshape(-1)).to(device)
        self._queries_at = None if len(of_token) == n * most else torch.from_numpy(of_token * most + number).to(device)
        # A new token sees all that is known, and the new ones up to itself.
        last = torch.from_numpy(begins[:, None] + np.arange(most)).to(device)
        hidden = torch.arange(longest, device=device) > last[..., None]
        self._mask = lowest(hidden, decoder.dtype)[:, None, None]

    def parts(self) -> list[tuple[int, Tensor]]:
        """Each prompt's number and its keys and values, [2 * L, K, tokens, D]."""
        lengths = self._lengths.tolist()
        return [(number, self._room[:, at, :, : lengths[at]]) for at, number in enumerate(self.numbers.tolist())]

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """As `Attend`, of the new tokens, one prompt's after the other's."""
        room_keys, room_values = self._room[2 * layer], self._room[2 * layer + 1]
        if self._is_one:
            room_keys[0], room_values[0] = keys.transpose(0, 1), values.transpose(0, 1)
            seen = functional.scaled_dot_product_attention(
                queries.transpose(0, 1)[None], room_keys, room_values, is_causal=True, enable_gqa=True
            )
            return seen[0].transpose(0, 1).flatten(1)
        # torch's own is left alone where there is a mask: on some GPUs it plans for every new shape anew, which takes a second.
        _, heads, size = queries.shape
        n, kv_heads, longest, _ = room_keys.shape
        for room, new in ((room_keys, keys), (room_values, values)):
            room.view(-1, size).index_copy_(0, self._keys_at, new.reshape(-1, size))
        most, group = self._mask.shape[-2], heads // kv_heads
        queries = queries * size**-0.5
        if self._queries_at is not None:
            queries = queries.new_zeros(n * most, heads, size).index_copy_(0, self._queries_at, queries)
        grouped = queries.view(n, most, kv_heads, group, size).permute(0, 2, 3, 1, 4).reshape(n, kv_heads, -1, size)
        scores = torch.matmul(grouped, room_keys.transpose(-1, -2)).view(n, kv_heads, group, most, longest).add_(self._mask)
        weights = torch.softmax(scores, -1, dtype=torch.float32).to(values.dtype)
        seen = torch.matmul(weights.view(n, kv_heads, -1, longest), room_values)
        seen = seen.view(n, kv_heads, group, most, size).permute(0, 3, 1, 2, 4).reshape(n * most, heads * size)
        return seen if self._queries_at is None else seen[self._queries_at]
