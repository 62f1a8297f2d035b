"""Preference pairs as token trees: of each group the shared prefix once, then its branches.

    prompt --- chosen        the pairs of one prefix are a group: P chosen against N rejected branches
           |-- chosen        tokens that all branches share are one segment, whatever the texts are: where tokens end depends
           `-- rejected      on what follows, so each text is tokenized as a whole, and the tree is one of token ids

Shapes: T tokens of a pack, M branches, K pairs, G groups of a pack.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from transformers import PreTrainedTokenizerBase

from rstar_fast import steps
from rstar_fast.kernels.token_tree import TokenTree
from rstar_fast.ppm.attention import packed
from rstar_fast.ppm.prefixes import Prefixes, Run
from rstar_fast.training.datasets import read_table
from rstar_fast.types import InvalidInput

_TEXTS = ("prompt", "chosen", "rejected")
_CHUNK = 1_000


@dataclass(frozen=True, slots=True)
class Group:
    """The pairs that share a prefix.

    Attributes:
      prefix: the token ids that all texts begin with, [n] int32, the prompt and maybe more.
      tails: those that follow in each distinct text, [n] int32.
      better, worse: of each pair, which branches they are.
      problem: its id; the prompt where the data does not say.
      depth: steps in the prompt; None where the data does not say.
      final: pairs of whole solutions.
      tokens: of the tree.
    """

    prefix: np.ndarray
    tails: tuple[np.ndarray, ...]
    better: tuple[int, ...]
    worse: tuple[int, ...]
    problem: str
    depth: int | None
    final: bool
    tokens: int

    @property
    def branches(self) -> tuple[np.ndarray, ...]:
        """The token ids of each distinct text, [n] int32."""
        return tuple(np.concatenate([self.prefix, tail]) for tail in self.tails)


@dataclass(frozen=True, slots=True)
class Pack:
    """Some groups as one pass of the PPM.

    Attributes:
      tokens: [T] int64.
      tree: what they see.
      ends: [M] int64, of each branch its last token.
      better, worse: [K] int64, of each pair its branches.
      group: [K] int64, the group of each pair.
      branch_group: [M] int64, the group of each branch.
    """

    tokens: torch.Tensor
    tree: TokenTree
    ends: torch.Tensor
    better: torch.Tensor
    worse: torch.Tensor
    group: torch.Tensor
    branch_group: torch.Tensor

    @property
    def groups(self) -> int:
        return int(self.group[-1]) + 1

    def to(self, device: torch.device | str) -> Pack:
        """The same on a device."""
        return Pack(*(getattr(self, name).to(device) for name in self.__slots__))


def read_groups(path: str | Path, tokenizer: PreTrainedTokenizerBase, longest: int) -> tuple[list[Group], int]:
    """Reads preference pairs.

    Args:
      path: a dataset with text columns prompt, chosen, rejected; group, problem, depth and final where it has them. Rows of one
        group, or where there is no such column of one prompt, share their weight.
      longest: most tokens of a text; pairs with a longer one are left out.

    Returns:
      The groups in the order of their first rows, and how many pairs were left out.

    Raises:
      InvalidInput: the file is unusable, a group has two prompts, a pair two equal texts, or no pair is left.
    """
    table = read_table(path, _TEXTS, ("group", "problem", "depth", "final"))
    members = list(_rows_of_groups(table).values())
    groups, left_out = [], 0
    for first in range(0, len(members), _CHUNK):
        some = members[first : first + _CHUNK]
        rows = iter(table.take(pa.array([at for of_group in some for at in of_group])).to_pylist())
        chunk = [[next(rows) for _ in of_group] for of_group in some]
        _check(path, some, chunk)
        tokens = _tokenized(chunk, tokenizer)
        for of_group in chunk:
            kept = [
                row for row in of_group if all(len(tokens[row["prompt"], row[side]]) <= longest for side in ("chosen", "rejected"))
            ]
            left_out += len(of_group) - len(kept)
            if kept:
                groups.append(_group(kept, tokens))
    if not groups:
        raise InvalidInput(
            f"{path}: all {left_out} pairs have a text of more than {longest} tokens: raise max_tokens, or give others"
        )
    return groups, left_out


def pack(groups: Sequence[Group]) -> Pack:
    """Groups as one pass."""
    prefixes = Prefixes(0)
    ends = [prefixes.insert(str(number), tokens) for number, group in enumerate(groups) for tokens in group.branches]
    runs: dict[Run, None] = {}  # parents first
    for end in ends:
        runs.update(dict.fromkeys(end.path()))
    total = 0
    for run in runs:
        run.slots = np.arange(total, total + len(run.tokens), dtype=np.int32)
        total += len(run.tokens)
    firsts = np.cumsum([0, *(len(group.tails) for group in groups)])

    def joined(side: str) -> torch.Tensor:
        return torch.tensor([first + at for first, group in zip(firsts, groups, strict=False) for at in getattr(group, side)])

    return Pack(
        tokens=torch.from_numpy(np.concatenate([run.tokens for run in runs])).long(),
        tree=packed(list(runs)),
        ends=torch.tensor([int(end.slots[-1]) for end in ends]),  # type: ignore[index]
        better=joined("better"),
        worse=joined("worse"),
        group=torch.tensor([number for number, group in enumerate(groups) for _ in group.better]),
        branch_group=torch.tensor([number for number, group in enumerate(groups) for _ in group.tails]),
    )


def balanced(sizes: Sequence[int], count: int) -> list[list[int]]:
    """Spreads items over `count` packs, at most as many as items, of like total sizes: the largest first, to the least full."""
    packs: list[list[int]] = [[] for _ in range(count)]
    heap = [(0, at) for at in range(count)]
    for item in sorted(range(len(sizes)), key=lambda item: (-sizes[item], item)):
        total, at = heapq.heappop(heap)
        packs[at].append(item)
        heapq.heappush(heap, (total + sizes[item], at))
    return packs


def plan(
    sizes: Sequence[int], *, batch: int, batch_tokens: int, devices: int, epochs: int, seed: int
) -> tuple[int, list[list[int]]]:
    """Which groups are computed together, and which are of one update.

    The groups of an update depend on neither batch_tokens nor the devices, so the loss does not either. All updates of an epoch have
    like many groups, and all devices like many packs.

    Args:
      sizes: [G] tokens of each group's tree.
      batch: groups of an update.
      batch_tokens: most tokens of a pack; a larger group is a pack of its own.

    Returns:
      The packs of an update on one device, and the packs of all epochs: of an update after the other, devices taking turns.

    Raises:
      InvalidInput: there are fewer groups than devices.
    """
    if len(sizes) < devices:
        raise InvalidInput(f"there are {len(sizes)} groups of pairs for {devices} devices: give more pairs, or fewer processes")
    random = np.random.default_rng(seed)
    count = max(1, min(round(len(sizes) / batch), len(sizes) // devices))
    updates = [part for _ in range(epochs) for part in np.array_split(random.permutation(len(sizes)), count)]
    most = min(map(len, updates)) // devices
    for of_device in range(1, most + 1):
        parts = [balanced([sizes[at] for at in update], of_device * devices) for update in updates]
        shared = (
            sum(sizes[update[at]] for at in pack)
            for update, packs in zip(updates, parts, strict=True)
            for pack in packs
            if len(pack) > 1
        )
        if max(shared, default=0) <= batch_tokens:
            break
    return of_device, [[int(update[at]) for at in pack] for update, packs in zip(updates, parts, strict=True) for pack in packs]


def _rows_of_groups(table: pa.Table) -> dict[tuple[str, int], list[int]]:
    """The rows of each group: of one number, or where there is none of one prompt; groups in the order of their first rows."""
    prompts = pc.dictionary_encode(table.column("prompt").combine_chunks()).indices.to_pylist()
    numbers = table.column("group").to_pylist() if "group" in table.column_names else [None] * len(prompts)
    found: dict[tuple[str, int], list[int]] = {}
    for row, (number, prompt) in enumerate(zip(numbers, prompts, strict=True)):
        found.setdefault(("prompt", prompt) if number is None else ("group", number), []).append(row)
    return found


def _check(path: str | Path, numbers: Sequence[Sequence[int]], groups: Sequence[Sequence[dict[str, Any]]]) -> None:
    for of_group, rows in zip(numbers, groups, strict=True):
        for at, row in zip(of_group, rows, strict=True):
            if row["chosen"] == row["rejected"]:
                raise InvalidInput(f"{path}, row {at + 1}: chosen and rejected are the same text: leave such pairs out")
            if row["prompt"] != rows[0]["prompt"]:
                raise InvalidInput(
                    f"{path}, row {at + 1}: group {row['group']} has another prompt in an earlier row: number groups once in a file"
                )


def _tokenized(
    groups: Sequence[Sequence[dict[str, Any]]], tokenizer: PreTrainedTokenizerBase
) -> dict[tuple[str, str], np.ndarray]:
    texts = list(
        dict.fromkeys((row["prompt"], row[side]) for group in groups for row in group for side in ("chosen", "rejected"))
    )
    found = tokenizer([steps.without_surrogates(prompt + text) for prompt, text in texts], verbose=False)["input_ids"]
    return {text: np.array(ids, np.int32) for text, ids in zip(texts, found, strict=True)}


def _group(rows: Sequence[dict[str, Any]], tokens: dict[tuple[str, str], np.ndarray]) -> Group:
    number: dict[tuple[str, str], int] = {}
    sides = {
        side: tuple(number.setdefault((row["prompt"], row[side]), len(number)) for row in rows)
        for side in ("chosen", "rejected")
    }
    branches = [tokens[text] for text in number]
    prefixes = Prefixes(0)
    runs = {run for branch in branches for run in prefixes.insert("", branch).path()}
    shortest = min(map(len, branches))
    same = np.all([branch[:shortest] == branches[0][:shortest] for branch in branches], axis=0)
    shared = shortest if same.all() else int(np.argmin(same))
    first = rows[0]
    return Group(
        prefix=branches[0][:shared].copy(),
        tails=tuple(branch[shared:].copy() for branch in branches),
        better=sides["chosen"],
        worse=sides["rejected"],
        problem=str(first["prompt"] if first.get("problem") is None else first["problem"]),
        depth=first.get("depth"),
        final=bool(first.get("final")),
        tokens=sum(len(run.tokens) for run in runs),
    )
