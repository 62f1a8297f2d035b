"""Token trees and numbers to try the kernels on."""

from __future__ import annotations

import torch
from rstar_fast.kernels.token_tree import TokenTree


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def random_tree(
    parents: list[int], sizes: list[int], before: list[int], page: int, seed: int = 0
) -> tuple[TokenTree, list[list[int]], int]:
    """A pass of segments, each after its parent's or, with -1, after a path of `before` tokens computed earlier.

    Returns the tree, each token's slots of all that it sees, and the pages of the pool.
    """
    total = sum(sizes) + sum(count for parent, count in zip(parents, before, strict=True) if parent < 0)
    pages = total // page + 3
    free = torch.randperm(pages * page, generator=torch.Generator().manual_seed(seed)).tolist()
    slots, whole, paths, path_starts, path_lengths, seen = [], [], [], [], [], []
    for parent, size, count in zip(parents, sizes, before, strict=True):
        path = whole[parent] if parent >= 0 else [free.pop() for _ in range(count)]
        own = [free.pop() for _ in range(size)]
        whole.append(path + own)
        slots += own
        path_starts.append(len(paths))
        path_lengths.append(len(path))
        paths += path
        seen += [path + own[: i + 1] for i in range(size)]
    starts = [0, *torch.tensor(sizes).cumsum(0).tolist()]
    numbers = (torch.tensor(column, dtype=torch.int32) for column in (starts, slots, paths, path_starts, path_lengths))
    return TokenTree(*numbers, longest=max(sizes)), seen, pages


TREES = {
    "one token": ([-1], [1], [0]),
    "one sequence": ([-1], [9], [0]),
    "after what was computed": ([-1], [5], [7]),
    "siblings of unequal length": ([-1, 0, 0, 0], [6, 1, 5, 3], [0] * 4),
    "deep": ([-1, 0, 1, 2, 3], [1, 2, 1, 4, 1], [0] * 5),
    "several": ([-1, -1, 1, 0, 2, 1], [3, 2, 2, 4, 1, 5], [0, 4, 0, 0, 0, 0]),
}
