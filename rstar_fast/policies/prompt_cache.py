"""Keys and values of prompts that were computed: a leaf's prompt is its parent's and one step more."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Hashable

import numpy as np
import torch


class PromptCache:
    """What a model has computed of prompts; those not used for the longest time are forgotten first.

    Shapes: T tokens of a prompt, K heads of keys and values, D numbers each. A prompt's tensor is [2 * layers, K, T, D]: keys and
    values of the first layer, of the second, and so on.

    Args:
      max_bytes: most bytes of all tensors together.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max = self._room = max_bytes
        self._tensors: OrderedDict[tuple[Hashable, bytes], torch.Tensor] = OrderedDict()
        self._of_owner: defaultdict[Hashable, set[bytes]] = defaultdict(set)

    def longest(self, owner: Hashable, prompt: np.ndarray) -> torch.Tensor | None:
        """The tensor of the longest beginning of a prompt [T] that is known, of at most T - 1 tokens; None where none is.

        Args:
          owner: what was given with the beginnings to look among.
        """
        wanted = prompt.tobytes()
        known = max((key for key in self._of_owner.get(owner, ()) if wanted.startswith(key)), key=len, default=None)
        if known is None:
            return None
        self._tensors.move_to_end((owner, known))
        tensor = self._tensors[owner, known][:, :, : len(prompt) - 1]
        return tensor if tensor.shape[2] else None

    def add(self, owner: Hashable, prompt: np.ndarray, tensor: torch.Tensor) -> None:
        """Remembers the tensor of a prompt [T]; one with more bytes than there is room for is not remembered."""
        key = (owner, prompt.tobytes())
        if key in self._tensors or tensor.nbytes > self._max:
            return
        while self._room < tensor.nbytes:
            (forgotten, text), old = self._tensors.popitem(last=False)
            self._of_owner[forgotten].discard(text)
            if not self._of_owner[forgotten]:
                del self._of_owner[forgotten]
            self._room += old.nbytes
        # A part of a larger one is copied: it would keep all of that in memory.
        self._tensors[key] = tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()
        self._of_owner[owner].add(key[1])
        self._room -= tensor.nbytes
