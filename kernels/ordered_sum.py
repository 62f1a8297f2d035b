"""Sums by index in a fixed order: the gradient of a gather, without atomics, the same in each run.

The entries are sorted by their index, stably. Those of index j then are order[first[j]] ... order[first[j + 1] - 1], and who
needs their sum adds them in this order.

Shapes: E entries, N indices.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl


def by_index(index: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the entries of each index stand.

    Args:
      index: [E] int64, in [0, size); entries outside belong to none.
      size: N.

    Returns:
      order [E] and first [N + 1], int64.
    """
    ordered, order = torch.sort(index, stable=True)
    return order, torch.searchsorted(ordered, torch.arange(size + 1, device=index.device))


@triton.jit
def ordered_sum(numbers, order, first, j, size, ENTRIES: tl.constexpr):
    """For a tile of indices j the sums of their `numbers` [E] float32; 0 where there is none, or j >= size."""
    at = tl.load(first + j, mask=j < size, other=0)
    end = tl.load(first + j + 1, mask=j < size, other=0)
    total = tl.zeros(j.shape, tl.float32)
    for done in range(0, tl.max(end - at, 0), ENTRIES):
        entry = at[:, None] + done + tl.arange(0, ENTRIES)[None, :]
        is_there = entry < end[:, None]
        total += tl.sum(tl.load(numbers + tl.load(order + entry, mask=is_there, other=0), mask=is_there, other=0.0), 1)
    return total
