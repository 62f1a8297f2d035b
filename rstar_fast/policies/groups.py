"""Rows under way whose keys and values have the same room, and what a step of theirs sees.

Shapes: R rows, P places of prompts, W rows of a place, L layers, K heads of keys and values, D numbers each, G query heads to each of
them, T positions of prompts, S positions of what the rows have generated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rstar_fast.policies.decoder import Decoder

WIDEST = 8  # most rows of a place: where a few prompts have many rows, the places of the others are not as wide
_BLOCK = 32  # positions by which room grows


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a step: R, P, W, T and S. They may be larger than what is there, up to the room."""

    rows: int
    places: int
    width: int
    longest: int
    end: int


@dataclass(frozen=True, slots=True)
class Step:
    """What the new tokens of rows see.

    Attributes:
      before: keys and values of prompts, and room: [2 * L, *, K, *, D].
      own: those of what the rows have generated, and room: [2 * L, *, K, *, D].
      sizes: what of these is looked at.
      own_at: [R * K] int64, where their keys and values are put, counted in vectors.
      own_mask: [R, 1, 1, S], added to the scores.
      places_at: [R] int64, where each row stands if every place has W rows; beyond these for a row that is none. None: they stand so.
      mask: [P, 1, 1, T].
    """

    before: Tensor
    own: Tensor
    sizes: Sizes
    own_at: Tensor
    own_mask: Tensor
    places_at: Tensor | None
    mask: Tensor

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """As `Attend`."""
        rows, heads, size = queries.shape
        kv_heads, sizes = keys.shape[1], self.sizes
        own = []
        for at, new in ((2 * layer, keys), (2 * layer + 1, values)):
            self.own[at].view(-1, size).index_copy_(0, self.own_at, new.reshape(-1, size))
            own.append(self.own[at, :rows, :, : sizes.end])
        before_keys, before_values = (self.before[at, : sizes.places, :, : sizes.longest] for at in (2 * layer, 2 * layer + 1))
        grouped = (queries * size**-0.5).view(rows, kv_heads, heads // kv_heads, size)
        before = torch.matmul(self._by_place(grouped), before_keys.transpose(-1, -2)).add_(self.mask)
        own_scores = torch.matmul(grouped, own[0].transpose(-1, -2)).add_(self.own_mask)
        scores = torch.cat([self._by_row(before), own_scores], -1)
        weights = torch.softmax(scores, -1, dtype=torch.float32).to(values.dtype)
        of_prompts = torch.matmul(self._by_place(weights[..., : sizes.longest]), before_values)
        return torch.matmul(weights[..., sizes.longest :], own[1]).add_(self._by_row(of_prompts)).view(rows, heads * size)

    def _by_place(self, x: Tensor) -> Tensor:
        """[R, K, G, *] -> [P, K, W * G, *], zeros where a place has fewer rows than W."""
        places, width = self.sizes.places, self.sizes.width
        if self.places_at is not None:
            # One more, for the rows that are none.
            x = x.new_zeros(places * width + 1, *x.shape[1:]).index_copy_(0, self.places_at, x)[:-1]
        _, kv_heads, group, size = x.shape
        return x.view(-1, width, kv_heads, group, size).transpose(1, 2).reshape(-1, kv_heads, width * group, size)

    def _by_row(self, x: Tensor) -> Tensor:
        """[P, K, W * G, *] -> [R, K, G, *]."""
        places, kv_heads, groups, size = x.shape
        width = self.sizes.width
        x = x.view(places, kv_heads, width, -1, size).transpose(1, 2).reshape(-1, kv_heads, groups // width, size)
        return x if self.places_at is None else x[self.places_at.clamp(max=len(x) - 1)]


class Group:
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
        self._placed: tuple[int, np.ndarray] | None = None  # W, and where each row stands among W rows a place; None: to be found
        self._placement: tuple[Tensor | None, Tensor] | None = None  # a step's places_at and mask

    def add(self, prompts: Sequence[Tensor], names: Sequence[np.ndarray], own: Tensor | None = None) -> None:
        """Adds rows.

        Args:
          prompts: [2 * L, K, tokens, D] each; every one gets a place of its own.
          names: of each prompt's rows, at most WIDEST.
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
        self._placed = self._placement = None

    def row(self, row: int) -> tuple[Tensor, np.ndarray, Tensor]:
        """A row's prompt, its name and what it has generated, as `add` takes them."""
        place = self._place_of[row]
        prompt = self._before[:, place, :, : self._lengths[place]]
        return prompt, self.names[row : row + 1], self._own[:, row : row + 1, :, : self.generated[row]]

    def leave(self, rows: np.ndarray) -> np.ndarray:
        """Takes rows away; where each of those that are left stood."""
        order = filled_up(len(self.names), rows)
        _move(self._own, order)
        self.names, self.generated, self._place_of = self.names[order], self.generated[order], self._place_of[order]
        empty = np.flatnonzero(np.bincount(self._place_of, minlength=len(self._lengths)) == 0)
        if len(empty):
            places = filled_up(len(self._lengths), empty)
            _move(self._before, places)
            now = np.empty_like(self._lengths)
            now[places] = np.arange(len(places))
            self._lengths, self._place_of = self._lengths[places], now[self._place_of]
        if len(rows):
            self._placed = self._placement = None
        if not len(order):
            self._before = self._own = self._nothing  # room is not kept for the largest there ever was
        return order

    @property
    def positions(self) -> np.ndarray:
        """[R] int64, of the rows' next tokens."""
        return self._lengths[self._place_of] + self.generated

    def begin_step(self) -> Step:
        """Makes room for a token of each row: what they will see."""
        sizes = self._sizes()
        own_at, own_mask = self._of_rows(sizes, self._on_device(self.generated))
        if self._placement is None:
            _, at = self._find_places()
            stand_so = np.array_equal(at, np.arange(sizes.places * sizes.width))
            mask = self._of_places(sizes, self._on_device(self._lengths))
            self._placement = (None if stand_so else self._on_device(at), mask)
        return Step(self._before, self._own, sizes, own_at, own_mask, *self._placement)

    def end_step(self) -> None:
        """Counts the token that has been added."""
        self.generated = self.generated + 1

    # --- a step of a shape that comes again ---------------------------------------------------------------------------

    def rounded(self) -> tuple[Sizes, tuple[int, ...]]:
        """Makes room for a token of each row: sizes at least as large as needed, of which there are few, and what else a step of the
        same shape has in common with this one: where the keys and values are."""
        sizes = self._sizes()
        room = (self._own, self._before)
        rounded = Sizes(
            rows=min(_rounded(sizes.rows, 8), self._own.shape[1]),
            places=min(_rounded(sizes.places, 8), self._before.shape[1]),
            width=min(1 << (sizes.width - 1).bit_length(), WIDEST),
            longest=min(_rounded(sizes.longest, 2 * _BLOCK), self._before.shape[3]),
            end=min(_rounded(sizes.end, _BLOCK), self._own.shape[3]),
        )
        return rounded, tuple(number for x in room for number in (x.data_ptr(), *x.shape))

    def numbers(self, sizes: Sizes, tokens: np.ndarray) -> np.ndarray:
        """What a step of these sizes is told, [4 * R + P] int64: of each row the new token, its position, how many the row has
        generated and where it stands among W rows a place, and of each place the length of its prompt."""
        width, at = self._find_places()
        told = np.zeros(4 * sizes.rows + sizes.places, np.int64)
        of_rows = told[: 4 * sizes.rows].reshape(4, sizes.rows)
        of_rows[3] = sizes.places * sizes.width  # a row that is none
        of_rows[:, : len(tokens)] = tokens, self.positions, self.generated, at // width * sizes.width + at % width
        told[4 * sizes.rows :][: len(self._lengths)] = self._lengths
        return told

    def step_of(self, sizes: Sizes, told: Tensor) -> tuple[Tensor, Tensor, Step]:
        """The tokens [R], their positions [R] and what they will see, of the numbers told, which are on the device."""
        tokens, positions, generated, at = told[: 4 * sizes.rows].view(4, sizes.rows).unbind()
        own_at, own_mask = self._of_rows(sizes, generated)
        mask = self._of_places(sizes, told[4 * sizes.rows :])
        return tokens, positions, Step(self._before, self._own, sizes, own_at, own_mask, at, mask)

    # --- what they share ---------------------------------------------------------------------------------------------

    def _sizes(self) -> Sizes:
        """The sizes that there are, after there is room for a token of each row."""
        end = int(self.generated.max()) + 1
        self._own = _with_room(self._own, len(self.names), end - 1, len(self.names), end)
        width, _ = self._find_places()
        return Sizes(len(self.names), len(self._lengths), width, int(self._lengths.max()), end)

    def _find_places(self) -> tuple[int, np.ndarray]:
        """W, and where each row stands if every place has W rows, [R] int64."""
        if self._placed is None:
            counts = np.bincount(self._place_of)
            width = int(counts.max())
            by_place = np.argsort(self._place_of, kind="stable")
            rank = np.empty_like(by_place)
            rank[by_place] = np.arange(len(by_place)) - (np.cumsum(counts) - counts)[self._place_of[by_place]]
            self._placed = width, self._place_of * width + rank
        return self._placed

    def _of_rows(self, sizes: Sizes, generated: Tensor) -> tuple[Tensor, Tensor]:
        """A step's own_at and own_mask."""
        kv_heads, room = self._own.shape[2], self._own.shape[3]
        heads = torch.arange(sizes.rows * kv_heads, device=self._device).view(sizes.rows, kv_heads)
        own_at = (heads * room + generated[:, None]).view(-1)
        hidden = torch.arange(sizes.end, device=self._device) > generated[:, None]
        return own_at, lowest(hidden, self._own.dtype)[:, None, None]

    def _of_places(self, sizes: Sizes, lengths: Tensor) -> Tensor:
        """A step's mask."""
        hidden = torch.arange(sizes.longest, device=self._device) >= lengths[:, None]
        return lowest(hidden, self._own.dtype)[:, None, None]

    def _on_device(self, numbers: np.ndarray) -> Tensor:
        return torch.from_numpy(numbers).to(self._device)


def lowest(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """What a mask adds to scores: the least number where something is hidden, else 0."""
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, torch.finfo(dtype).min)


def _rounded(count: int, least: int) -> int:
    """The smallest of least, 1.5 * least, 2 * least, 3 * least, 4 * least, ... that is at least the count."""
    size = least << max(0, -(-count // least) - 1).bit_length()
    return size * 3 // 4 if size > least and count <= size * 3 // 4 else size


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


def filled_up(count: int, gone: np.ndarray) -> np.ndarray:
    """Where each entry stood once some of `count` are gone and the last ones have taken their places: the others stay."""
    left = np.delete(np.arange(count), gone)
    order = np.arange(len(left))
    holes = np.sort(gone[gone < len(left)])
    order[holes] = left[left >= len(left)]
    return order


def _move(x: Tensor, order: np.ndarray) -> None:
    """Moves entries [*, entries, K, positions, D] to where `filled_up` says; only those are copied that do not stay."""
    to = np.flatnonzero(order != np.arange(len(order)))
    if len(to):
        x[:, torch.from_numpy(to).to(x.device)] = x[:, torch.from_numpy(order[to]).to(x.device)]
