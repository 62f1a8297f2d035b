"""Rows of tokens being generated, which join and leave at any time; a prompt is computed once for all of its rows.

Shapes: R rows under way, L layers, K heads of keys and values, D numbers each, E the hidden size, V tokens in the vocabulary.
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
from rstar_fast.policies.decoder import Decoder, in_parts
from rstar_fast.policies.graphs import Graphs
from rstar_fast.policies.groups import WIDEST, Group
from rstar_fast.policies.prompt_cache import PromptCache
from rstar_fast.policies.prompts import computed

# A row of more tokens goes on among the stragglers: else the others would be computed as if they were as long.
_SHORT = 64


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

    def advance(self, tokens: np.ndarray) -> None:
        """Appends a token [R] int64 to each row; the order may be another one then, and the `logits` of before are overwritten."""

    def leave(self, rows: np.ndarray) -> None:
        """Takes rows away, given by where they stand in `names`; the order may be another one then."""


class SharedRows:
    """Rows of a `Decoder`.

    Args:
      decoder: the model.
      head: its last matrix, [*, E] -> [*, V].
      known: what is known of prompts; None where nothing is kept.
      graphs: computes steps that come again and again; None: all are computed operation by operation.
    """

    may_join = True

    def __init__(self, decoder: Decoder, head: nn.Module, known: PromptCache | None, graphs: Graphs | None = None) -> None:
        self._decoder, self._head, self._known = decoder, head, known
        self._graphs = graphs
        self._short, self._long = Group(decoder), Group(decoder)
        self.names = np.empty(0, np.int64)
        self.logits = torch.empty(0)

    def join(self, prompts: Sequence[np.ndarray], names: Sequence[np.ndarray], owners: Sequence[Hashable]) -> None:
        """As `Rows`."""
        parts, last = computed(self._decoder, prompts, owners, self._known)
        logits = self._head(last)
        at = len(self._short.names)
        places = [
            (part, of_prompt[begin : begin + WIDEST])
            for part, of_prompt in zip(parts, names, strict=True)
            for begin in range(0, len(of_prompt), WIDEST)
        ]
        self._short.add([part for part, _ in places], [of_place for _, of_place in places])
        counts = torch.tensor([len(of_prompt) for of_prompt in names], device=logits.device)
        logits = logits.repeat_interleave(counts, 0)
        self.logits = torch.cat([self.logits[:at], logits, self.logits[at:]]) if len(self.logits) else logits
        self.names = np.concatenate([self._short.names, self._long.names])

    def advance(self, tokens: np.ndarray) -> None:
        """As `Rows`."""
        count = len(self._short.names)
        groups = [(self._short, tokens[:count]), (self._long, tokens[count:])]
        found = self._replayed(*groups[0]) if count else None
        left = [part for part in groups[found is not None :] if len(part[1])]
        parts = [logits for logits in (found, self._computed(left) if left else None) if logits is not None]
        self.logits = parts[0] if len(parts) == 1 else torch.cat(parts)
        for group, of_group in groups:
            if len(of_group):
                group.end_step()
        straggling = np.flatnonzero(self._short.generated >= _SHORT)
        if len(straggling):
            for row in straggling.tolist():
                prompt, name, own = self._short.row(row)
                self._long.add([prompt], [name], own)
            stay, others = self._short.leave(straggling), np.arange(len(tokens))[count:]
            self._put_in_order(np.concatenate([stay, others, straggling]))

    def leave(self, rows: np.ndarray) -> None:
        """As `Rows`."""
        count = len(self._short.names)
        order = self._short.leave(rows[rows < count])
        long = self._long.leave(rows[rows >= count] - count)
        self._put_in_order(np.concatenate([order, long + count]))

    def _computed(self, groups: Sequence[tuple[Group, np.ndarray]]) -> Tensor:
        """The logits of groups whose rows get these tokens."""
        steps = [group.begin_step() for group, _ in groups]
        tokens, positions = (
            torch.from_numpy(np.concatenate(numbers)).to(self._decoder.device)
            for numbers in ([tokens for _, tokens in groups], [group.positions for group, _ in groups])
        )
        attend = in_parts([step.attend for step in steps], [len(of_group) for _, of_group in groups])
        end = 1 + max(int(group.positions.max()) for group, _ in groups)
        return self._head(self._decoder(tokens, positions, attend, end))

    def _replayed(self, group: Group, tokens: np.ndarray) -> Tensor | None:
        """The same of one group, if its step has a shape that has been captured."""
        if self._graphs is None:
            return None
        sizes, room = group.rounded()
        end = sizes.longest + sizes.end

        def compute(told: Tensor) -> Tensor:
            of_rows, positions, step = group.step_of(sizes, told)
            return self._head(self._decoder(of_rows, positions, step.attend, end))

        shape = (sizes, room, *self._decoder.prepare(end))
        told = group.numbers(sizes, tokens)
        logits = self._graphs.logits(shape, compute, told)
        return None if logits is None else logits[: len(tokens)]

    def _put_in_order(self, stood: np.ndarray) -> None:
        """Puts logits and names into the order of the groups, given where each row of theirs stood."""
        self.logits = self.logits[torch.from_numpy(stood).to(self.logits.device)]
        self.names = np.concatenate([self._short.names, self._long.names])


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

    def advance(self, tokens: np.ndarray) -> None:
        """As `Rows`."""
        self._real = functional.pad(self._real, (0, 1), value=1)
        self._positions = self._positions + 1
        self._forward(torch.from_numpy(tokens[:, None]).to(self._model.device), self._positions)

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
