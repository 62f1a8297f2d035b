"""Rows of tokens being generated, which join and leave at any time; a prompt is computed once for all of its rows.

Shapes: R rows under way, P places of prompts, L layers, K heads of keys and values, D numbers each, G query heads to each of
them, T positions of the longest prompt, S tokens generated so far in the longest row, W most rows of a place, E the hidden
size, V tokens in the vocabulary.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import DynamicCache, PreTrainedModel

from rstar_fast.policies.attention import for_changing_shapes
from rstar_fast.policies.checkpoint import cache_argument
from rstar_fast.policies.decoder import Decoder
from rstar_fast.policies.prompt_cache import PromptCache

# A row of more tokens goes on among the stragglers: else the others would be computed as if they were as long.
_SHORT = 64
_BLOCK = 32  # positions by which room grows
_MOST_SCORES = 1 << 24  # of prompts computed together: they bound the memory that this takes
# Where prompts of which nothing is known are not computed together: torch's own attention, which takes no padding, is faster there.
_NEW_ALONE = ("cpu",)
_WIDEST = 8  # most rows of a place: where a few prompts have many rows, the places of the others are not as wide


class Rows(Protocol):
    """Rows under way, in an order of their own.

    Attributes:
      names: [R] int64, what each row was called by its caller.
      logits: [R, V], those of the next token of each row.
      may_join: whether rows can be added now.
    """

    names: np.ndarray
    logits: Tensor

    @property
    def may_join(self) -> bool: ...

    def join(self, prompts: Sequence[np.ndarray], names: Sequence[np.ndarray], owners: Sequence[Hashable]) -> None:
        """Adds rows behind prompts.

        Args:
          prompts: token sequences, none empty.
          names: of each prompt the names of its rows, at least one.
          owners: of each prompt, as PromptCache takes them.
        """

    def advance(self, tokens: Tensor) -> None:
        """Appends a token [R] to each row; the order may be another one then."""

    def leave(self, rows: np.ndarray) -> None:
        """Takes rows away, given by where they stand in `names`; the order may be another one then."""


class SharedRows:
    """Rows of a `Decoder`.

    Args:
      decoder: the model.
      head: its last matrix, [*, E] -> [*, V].
      known: what is known of prompts; None where nothing is kept.
    """

    may_join = True

    def __init__(self, decoder: Decoder, head: nn.Module, known: PromptCache | None) -> None:
        self._decoder, self._head, self._known = decoder, head, known
        self._short, self._long = _Group(decoder), _Group(decoder)
        self.names = np.empty(0, np.int64)
        self.logits = torch.empty(0)

    def join(self, prompts: Sequence[np.ndarray], names: Sequence[np.ndarray], owners: Sequence[Hashable]) -> None:
        """As `Rows`."""
        parts, last = _computed(self._decoder, prompts, owners, self._known)
        logits = self._head(last)
        at = len(self._short.names)
        places = [
            (part, of_prompt[begin : begin + _WIDEST])
            for part, of_prompt in zip(parts, names, strict=True)
            for begin in range(0, len(of_prompt), _WIDEST)
        ]
        self._short.add([part for part, _ in places], [of_place for _, of_place in places])
        counts = torch.tensor([len(of_prompt) for of_prompt in names], device=logits.device)
        logits = logits.repeat_interleave(counts, 0)
        self.logits = torch.cat([self.logits[:at], logits, self.logits[at:]]) if len(self.logits) else logits
        self.names = np.concatenate([self._short.names, self._long.names])

    def advance(self, tokens: Tensor) -> None:
        """As `Rows`."""
        groups = [group for group in (self._short, self._long) if len(group.names)]
        sizes = [len(group.names) for group in groups]
        positions = torch.from_numpy(np.concatenate([group.begin_step() for group in groups])).to(tokens.device)

        def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            parts = zip(groups, queries.split(sizes), keys.split(sizes), values.split(sizes), strict=True)
            seen = [group.attend(layer, *of_group) for group, *of_group in parts]
            return seen[0] if len(seen) == 1 else torch.cat(seen)

        self.logits = self._head(self._decoder(tokens, positions, attend))
        for group in groups:
            group.end_step()
        straggling = np.flatnonzero(self._short.generated >= _SHORT)
        if len(straggling):
            for row in straggling.tolist():
                prompt, name, own = self._short.row(row)
                self._long.add([prompt], [name], own)
            stay, others = self._short.leave(straggling), np.arange(sum(sizes))[sizes[0] :]
            self._put_in_order(np.concatenate([stay, others, straggling]))

    def leave(self, rows: np.ndarray) -> None:
        """As `Rows`."""
        count = len(self._short.names)
        order = self._short.leave(rows[rows < count])
        long = self._long.leave(rows[rows >= count] - count)
        self._put_in_order(np.concatenate([order, long + count]))

    def _put_in_order(self, stood: np.ndarray) -> None:
        """Puts logits and names into the order of the groups, given where each row of theirs stood."""
        self.logits = self.logits[torch.from_numpy(stood).to(self.logits.device)]
        self.names = np.concatenate([self._short.names, self._long.names])


class _Group:
    """Rows whose keys and values have the same room.

    Attributes:
      names: [R] int64.
      generated: [R] int64, tokens of each row behind its prompt.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._device = decoder.device
        self.names = np.empty(0, np.int64)
        self.generated = np.empty(0, np.int64)
        self._place_of = np.empty(0, np.int64)  # [R]
        self._lengths = np.empty(0, np.int64)  # [P], tokens of each prompt
        # Of each layer the keys and the values: [2 * L, P + room, K, T + room, D] and [2 * L, R + room, K, S + room, D].
        # Behind what a row has there are zeros: what is masked is multiplied all the same.
        shape = (2 * decoder.layers, 0, decoder.kv_heads, 0, decoder.size)
        self._nothing = torch.zeros(shape, dtype=decoder.dtype, device=decoder.device)
        self._before = self._own = self._nothing
        self._is_placed = False

    def add(self, prompts: Sequence[Tensor], names: Sequence[np.ndarray], own: Tensor | None = None) -> None:
        """Adds rows.

        Args:
          prompts: [2 * L, K, tokens, D] each; every one gets a place of its own.
          names: of each prompt's rows, at most _WIDEST.
          own: keys and values of what they have generated, [2 * L, rows, K, tokens, D]; None: nothing yet.
        """
        lengths = np.array([prompt.shape[2] for prompt in prompts])
        places = slice(len(self._lengths), len(self._lengths) + len(prompts))
        longest = int(self._lengths.max(initial=0))
        self._before = _with_room(self._before, places.start, longest, places.stop, int(lengths.max()))
        self._before[:, places].zero_()
        for place, prompt in enumerate(prompts, places.start):
            self._before[:, place, :, : prompt.shape[2]] = prompt
        counts = list(map(len, names))
        rows = slice(len(self.names), len(self.names) + sum(counts))
        done = 0 if own is None else own.shape[3]
        self._own = _with_room(self._own, rows.start, int(self.generated.max(initial=0)), rows.stop, done + 1)
        if own is not None:
            self._own[:, rows, :, :done] = own
        self._own[:, rows, :, done:] = 0.0
        self.names = np.concatenate([self.names, *names])
        self.generated = np.concatenate([self.generated, np.full(sum(counts), done)])
        self._place_of = np.concatenate([self._place_of, np.repeat(np.arange(places.start, places.stop), counts)])
        self._lengths = np.concatenate([self._lengths, lengths])
        self._is_placed = False

    def row(self, row: int) -> tuple[Tensor, np.ndarray, Tensor]:
        """A row as `add` takes it."""
        place = self._place_of[row]
        prompt = self._before[:, place, :, : self._lengths[place]]
        return prompt, self.names[row : row + 1], self._own[:, row : row + 1, :, : self.generated[row]]

    def leave(self, rows: np.ndarray) -> np.ndarray:
        """Takes rows away; where each of those that are left stood."""
        order = _filled_up(len(self.names), rows)
        _move(self._own, order)
        self.names, self.generated, self._place_of = self.names[order], self.generated[order], self._place_of[order]
        empty = np.flatnonzero(np.bincount(self._place_of, minlength=len(self._lengths)) == 0)
        if len(empty):
            places = _filled_up(len(self._lengths), empty)
            _move(self._before, places)
            now = np.empty_like(self._lengths)
            now[places] = np.arange(len(places))
            self._lengths, self._place_of = self._lengths[places], now[self._place_of]
        self._is_placed = self._is_placed and not len(rows)
        if not len(order):
            self._before = self._own = self._nothing  # room is not kept for the largest there ever was
        return order

    def begin_step(self) -> np.ndarray:
        """Makes room for a token of each row; their positions, [R]."""
        if not self._is_placed:
            self._arrange()
        self._end = int(self.generated.max()) + 1
        self._own = _with_room(self._own, len(self.names), self._end - 1, len(self.names), self._end)
        generated = torch.from_numpy(self.generated).to(self._device)
        kv_heads, room = self._own.shape[2], self._own.shape[3]
        heads = torch.arange(len(self.names) * kv_heads, device=self._device)
        self._at = heads * room + generated.repeat_interleave(kv_heads)  # where the new keys stand, counted in vectors
        hidden = torch.arange(self._end, device=self._device) > generated[:, None]
        self._own_mask = _lowest(hidden, self._own.dtype)[:, None, None]
        return self._lengths[self._place_of] + self.generated

    def end_step(self) -> None:
        """Counts the token that has been added."""
        self.generated = self.generated + 1

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """As `Attend`, of the rows' new tokens."""
        rows, heads, size = queries.shape
        kv_heads = keys.shape[1]
        own = []
        for at, new in ((2 * layer, keys), (2 * layer + 1, values)):
            self._own[at].view(-1, size).index_copy_(0, self._at, new.reshape(-1, size))
            own.append(self._own[at, :rows, :, : self._end])
        places, longest = len(self._lengths), int(self._lengths.max())
        before_keys, before_values = (self._before[at, :places, :, :longest] for at in (2 * layer, 2 * layer + 1))
        grouped = (queries * size**-0.5).view(rows, kv_heads, heads // kv_heads, size)
        before = torch.matmul(self._by_place(grouped), before_keys.transpose(-1, -2)).add_(self._mask)
        own_scores = torch.matmul(grouped, own[0].transpose(-1, -2)).add_(self._own_mask)
        scores = torch.cat([self._by_row(before), own_scores], -1)
        weights = torch.softmax(scores, -1, dtype=torch.float32).to(values.dtype)
        of_prompts = torch.matmul(self._by_place(weights[..., :longest]), before_values)
        return torch.matmul(weights[..., longest:], own[1]).add_(self._by_row(of_prompts)).view(rows, heads * size)

    def _arrange(self) -> None:
        """Finds where each row stands if every place has W rows, and what of the prompts is room."""
        counts = np.bincount(self._place_of)
        self._width = int(counts.max())
        by_place = np.argsort(self._place_of, kind="stable")
        rank = np.empty_like(by_place)
        rank[by_place] = np.arange(len(by_place)) - (np.cumsum(counts) - counts)[self._place_of[by_place]]
        at = self._place_of * self._width + rank
        self._in_places = (
            None if np.array_equal(at, np.arange(len(counts) * self._width)) else torch.from_numpy(at).to(self._device)
        )
        hidden = np.arange(self._lengths.max()) >= self._lengths[:, None]
        self._mask = _lowest(torch.from_numpy(hidden).to(self._device), self._own.dtype)[:, None, None]
        self._is_placed = True

    def _by_place(self, x: Tensor) -> Tensor:
        """[R, K, G, *] -> [P, K, W * G, *], zeros where a place has fewer rows than W."""
        if self._in_places is not None:
            x = x.new_zeros(len(self._lengths) * self._width, *x.shape[1:]).index_copy_(0, self._in_places, x)
        _, kv_heads, group, size = x.shape
        return x.view(-1, self._width, kv_heads, group, size).transpose(1, 2).reshape(-1, kv_heads, self._width * group, size)

    def _by_row(self, x: Tensor) -> Tensor:
        """[P, K, W * G, *] -> [R, K, G, *]."""
        places, kv_heads, groups, size = x.shape
        x = x.view(places, kv_heads, self._width, -1, size).transpose(1, 2).reshape(-1, kv_heads, groups // self._width, size)
        return x if self._in_places is None else x[self._in_places]


class PaddedRows:
    """Rows of any model, by its own pass: prompts padded on the left, keys and values copied for each row.

    Args:
      model: a causal language model, in evaluation mode.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model, self._cache_argument = model, cache_argument(model)
        self.names = np.empty(0, np.int64)
        self.logits = torch.empty(0)

    @property
    def may_join(self) -> bool:
        """Only rows that begin together stand in one cache."""
        return not len(self.names)

    def join(self, prompts: Sequence[np.ndarray], names: Sequence[np.ndarray], owners: Sequence[Hashable]) -> None:
        """As `Rows`."""
        longest = max(map(len, prompts))
        ids = np.zeros((len(prompts), longest), np.int64)
        real = np.zeros((len(prompts), longest), np.int64)
        for row, tokens in enumerate(prompts):
            ids[row, longest - len(tokens) :] = tokens
            real[row, longest - len(tokens) :] = 1
        self._real = torch.from_numpy(real).to(self._model.device)
        self._cache = DynamicCache(config=self._model.config)
        positions = (self._real.cumsum(1) - 1).clamp_(min=0)
        self._positions = positions[:, -1:]
        self._forward(torch.from_numpy(ids).to(self._model.device), positions)
        self._keep(np.repeat(np.arange(len(prompts)), list(map(len, names))))
        self.names = np.concatenate(names)

    def advance(self, tokens: Tensor) -> None:
        """As `Rows`."""
        self._real = functional.pad(self._real, (0, 1), value=1)
        self._positions = self._positions + 1
        self._forward(tokens[:, None], self._positions)

    def leave(self, rows: np.ndarray) -> None:
        """As `Rows`."""
        kept = np.delete(np.arange(len(self.names)), rows)
        self.names = self.names[kept]
        if len(kept):
            self._keep(kept)

    def _keep(self, rows: np.ndarray) -> None:
        at = torch.from_numpy(rows).to(self._model.device)
        self._cache.batch_select_indices(at)
        self._real, self._positions, self.logits = self._real[at], self._positions[at], self.logits[at]

    def _forward(self, ids: Tensor, positions: Tensor) -> None:
        arguments = {"attention_mask": self._real, "position_ids": positions, self._cache_argument: self._cache}
        with for_changing_shapes():
            self.logits = self._model(input_ids=ids, use_cache=True, logits_to_keep=1, **arguments).logits[:, -1]


def _computed(
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
    sizes = [int(batch.new.sum()) for batch in batches]

    def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        of_batches = zip(batches, queries.split(sizes), keys.split(sizes), values.split(sizes), strict=True)
        seen = [batch.attend(layer, *of_batch) for batch, *of_batch in of_batches]
        return seen[0] if len(seen) == 1 else torch.cat(seen)

    ids = np.concatenate([prompts[number][begins[number] :] for number in order]).astype(np.int64)
    positions = np.concatenate([np.arange(begins[number], lengths[number]) for number in order])
    x = decoder(torch.from_numpy(ids).to(decoder.device), torch.from_numpy(positions).to(decoder.device), attend)
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
        self._mask = _lowest(hidden, decoder.dtype)[:, None, None]

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


def _lowest(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """What a mask adds to scores: the least number where something is hidden, else 0."""
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, torch.finfo(dtype).min)


def _with_room(x: Tensor, used: int, filled: int, entries: int, positions: int) -> Tensor:
    """[*, entries, K, positions, D] with room for so many of both: itself where it has it, else a copy of what is in use.

    Args:
      used, filled: how many entries and positions are in use; used <= entries.
    """
    if entries <= x.shape[1] and positions <= x.shape[3]:
        return x
    positions = -(-max(filled, positions) // _BLOCK) * _BLOCK
    # Where entries come one by one, copies are few.
    entries = entries * 3 // 2 if entries > x.shape[1] else entries
    larger = x.new_zeros(x.shape[0], entries, x.shape[2], positions, x.shape[4])
    larger[:, :used, :, :filled] = x[:, :used, :, :filled]
    return larger


def _filled_up(count: int, gone: np.ndarray) -> np.ndarray:
    """Where each entry stood once some of `count` are gone and the last ones have taken their places: the others stay."""
    left = np.delete(np.arange(count), gone)
    order = np.arange(len(left))
    holes = np.sort(gone[gone < len(left)])
    order[holes] = left[left >= len(left)]
    return order


def _move(x: Tensor, order: np.ndarray) -> None:
    """Moves entries [*, entries, K, positions, D] to where `_filled_up` says; only those are copied that do not stay."""
    to = np.flatnonzero(order != np.arange(len(order)))
    if len(to):
        x[:, torch.from_numpy(to).to(x.device)] = x[:, torch.from_numpy(order[to]).to(x.device)]
