"""Several trees of one problem as one tree under one root."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rstar_fast.types import TREE_TEXTS, Terminal


def merged(trees: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The columns of trees as those of one tree, breadth-first.

    Its root stands for all roots: it has their children, in order, the sum of their visits and values, and is terminal where all
    of them are. Equal steps stay apart; extraction finds them together.

    Args:
      trees: T >= 1 trees' columns, breadth-first, as `Forest.columns` gives them, `node` included.
    """
    if len(trees) == 1:
        return dict(trees[0])
    # Without roots, but the first: row r of tree t is row starts[t] + r - (t > 0). Stably sorted by depth, what was
    # breadth-first in each tree is so in all.
    sizes = [len(tree["parent"]) for tree in trees]
    columns = {
        name: np.concatenate([tree[name][min(t, 1) :] for t, tree in enumerate(trees)])
        for name in trees[0]
        if not name.endswith(("_offsets", "_bytes"))
    }
    before = np.cumsum([0, *(size - 1 for size in sizes[:-1])])
    parents = [np.where(tree["parent"][min(t, 1) :] <= 0, tree["parent"][min(t, 1) :], tree["parent"][min(t, 1) :] + before[t]) for t, tree in enumerate(trees)]
    order = np.argsort(columns["depth"], kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    columns = {name: column[order] for name, column in columns.items()}
    parent = np.concatenate(parents)[order]
    columns["parent"] = np.where(parent < 0, -1, place[parent]).astype(np.int32)
    counts = np.bincount(columns["parent"][1:], minlength=len(order))
    columns["child_count"] = counts.astype(np.int32)
    columns["first_child"] = np.where(counts > 0, 1 + np.cumsum(counts) - counts, -1).astype(np.int32)
    columns["visits"][0] = sum(int(tree["visits"][0]) for tree in trees)
    columns["value_sum"][0] = sum(float(tree["value_sum"][0]) for tree in trees)
    if not all(tree["terminal"][0] for tree in trees):
        columns["terminal"][0] = Terminal.NO
    for name in TREE_TEXTS:
        columns |= _texts(name, trees, order)
    return columns


def _texts(name: str, trees: Sequence[Mapping[str, np.ndarray]], order: np.ndarray) -> dict[str, np.ndarray]:
    """The texts of all trees in order, packed."""
    lengths = np.concatenate([np.diff(tree[f"{name}_offsets"])[min(t, 1) :] for t, tree in enumerate(trees)])
    data = np.concatenate([tree[f"{name}_bytes"] for tree in trees])  # roots have no text
    begins = np.cumsum(lengths) - lengths
    offsets = np.concatenate([[0], np.cumsum(lengths[order])])
    # For each byte where it comes from: its text's old beginning, and how far into the text it is.
    source = np.repeat(begins[order] - offsets[:-1], lengths[order]) + np.arange(offsets[-1])
    return {f"{name}_offsets": offsets.astype(np.int64), f"{name}_bytes": data[source]}
