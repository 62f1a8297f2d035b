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
from rstar_fast.config import PpmKind
from rstar_fast.kernels.token_tree import TokenTree
from rstar_fast.ppm.attention import packed
from rstar_fast.ppm.channel import shared_tokens, with_questions
from rstar_fast.ppm.prefixes import Prefixes, Run
from rstar_fast.training.datasets import read_table
from rstar_fast.types import InvalidInput, Partial, Problem

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
      asked: of each branch how many tokens of a question it ends with, where the question stands behind; else 0.
    """

    prefix: np.ndarray
    tails: tuple[np.ndarray, ...]
    better: tuple[int, ...]
    worse: tuple[int, ...]
    problem: str
    depth: int | None
    final: bool
    tokens: int
    asked: tuple[int, ...] = ()

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
      group: [K] int64, the group of each pair, counting those that have pairs.
      branch_group: [M] int64, the group of each branch.
      before, targets, branch: [Q] int64: of each token of a question behind a branch where the token before it lies, its id, and the
        branch.
    """

    tokens: torch.Tensor
    tree: TokenTree
    ends: torch.Tensor
    better: torch.Tensor
    worse: torch.Tensor
    group: torch.Tensor
    branch_group: torch.Tensor
    before: torch.Tensor
    targets: torch.Tensor
    branch: torch.Tensor

    @property
    def groups(self) -> int:
        return int(self.branch_group[-1]) + 1

    @property
    def groups_of_pairs(self) -> int:
        return int(self.group[-1]) + 1 if len(self.group) else 0

    def of_branches(self, log_ps: torch.Tensor) -> torch.Tensor:
        """The sum over each branch's question, [M] float32, of the log-probabilities of tokens [Q]; 0 without a question."""
        return torch.zeros(len(self.ends), device=log_ps.device).index_add(0, self.branch, log_ps)

    def to(self, device: torch.device | str) -> Pack:
        """The same on a device."""
        return Pack(*(getattr(self, name).to(device) for name in self.__slots__))


def read_groups(
    path: str | Path, tokenizer: PreTrainedTokenizerBase, longest: int, kind: PpmKind = PpmKind.HEAD
) -> tuple[list[Group], int]:
    """Reads preference pairs.

    Args:
      path: a dataset with text columns prompt, chosen, rejected; group, problem, depth and final where it has them. Rows of one
        group, or where there is no such column of one prompt, share their weight.
      longest: most tokens of a text; pairs with a longer one are left out.
      kind: of a "channel" the question stands behind each branch, and prompts must be those that `extract` writes.

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
        texts = [(row["prompt"], row[side]) for of_group in chunk for row in of_group for side in ("chosen", "rejected")]
        tokens = _tokenized(path, texts, tokenizer, kind)
        for of_group in chunk:
            kept = [
                row for row in of_group if all(len(tokens[row["prompt"], row[side]][0]) <= longest for side in ("chosen", "rejected"))
            ]
            left_out += len(of_group) - len(kept)
            if kept:
                groups.append(_group(kept, tokens))
    if not groups:
        raise InvalidInput(
            f"{path}: all {left_out} pairs have a text of more than {longest} tokens: raise max_tokens, or give others"
        )
    return groups, left_out


def read_solutions(
    path: str | Path, tokenizer: PreTrainedTokenizerBase, longest: int, seed: int
) -> tuple[list[Group], int]:
    """Reads right solutions, from which a PPM of the kind "channel" learns to read the question back.

    Args:
      path: a dataset with text columns prompt and completion, and problem where it has one.
      longest: most tokens of a text; solutions with a longer one are left out.
      seed: draws the part.

    Returns:
      A group without pairs for each solution: the whole one, and where it has several steps its first few; and how many were left out.

    Raises:
      InvalidInput: the file is unusable.
    """
    table = read_table(path, ("prompt", "completion"), ("problem",))
    random = np.random.default_rng(seed)
    groups, left_out = [], 0
    for batch in table.to_batches(max_chunksize=_CHUNK):
        rows = batch.to_pylist()
        parts = [_parts(row["completion"], random) for row in rows]
        tokens = _tokenized(
            path, [(row["prompt"], part) for row, of_row in zip(rows, parts, strict=True) for part in of_row], tokenizer, PpmKind.CHANNEL
        )
        for row, of_row in zip(rows, parts, strict=True):
            branches = [tokens[row["prompt"], part] for part in of_row]
            if max(len(ids) for ids, _ in branches) > longest:
                left_out += 1
                continue
            problem = row["prompt"] if row.get("problem") is None else row["problem"]
            groups.append(_made(branches, better=(), worse=(), problem=str(problem), depth=None, final=True))
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
        return _integers([first + at for first, group in zip(firsts, groups, strict=False) for at in getattr(group, side)])

    tokens = np.concatenate([run.tokens for run in runs]).astype(np.int64)
    with_pairs = [group for group in groups if group.better]
    counts = [count for group in groups for count in group.asked or [0] * len(group.tails)]
    behind = [_last(end, count + 1) for end, count in zip(ends, counts, strict=True) if count]
    before, asked = (np.concatenate([*(part[cut] for part in behind), np.empty(0, np.int64)]) for cut in (slice(-1), slice(1, None)))
    return Pack(
        tokens=torch.from_numpy(tokens),
        tree=packed(list(runs)),
        ends=torch.tensor([int(end.slots[-1]) for end in ends]),  # type: ignore[index]
        better=joined("better"),
        worse=joined("worse"),
        group=_integers([number for number, group in enumerate(with_pairs) for _ in group.better]),
        branch_group=_integers([number for number, group in enumerate(groups) for _ in group.tails]),
        before=torch.from_numpy(before),
        targets=torch.from_numpy(tokens[asked]),
        branch=torch.from_numpy(np.repeat(np.arange(len(counts)), counts)),
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
    path: str | Path, texts: Sequence[tuple[str, str]], tokenizer: PreTrainedTokenizerBase, kind: PpmKind
) -> dict[tuple[str, str], tuple[np.ndarray, int]]:
    """Of each prompt and what follows it what the PPM reads: its tokens, [n] int32, and how many of the last are of a question."""
    distinct = list(dict.fromkeys(texts))

    def ids(parts: Sequence[str]) -> list[np.ndarray]:
        found = tokenizer([steps.without_surrogates(part) for part in parts], verbose=False)["input_ids"]
        return [np.array(of_part, np.int32) for of_part in found]

    if kind is PpmKind.HEAD:
        return {text: (of_text, 0) for text, of_text in zip(distinct, ids([prompt + text for prompt, text in distinct]), strict=True)}
    return dict(zip(distinct, with_questions([_turned(path, *text) for text in distinct], ids), strict=True))


def _turned(path: str | Path, prompt: str, text: str) -> tuple[str, str]:
    """The solution up to where the user speaks, and the question."""
    parts = steps.taken_apart(prompt)
    if parts is None:
        raise InvalidInput(f"{path}: the prompt {prompt[:60]!r} is not one that `extract` writes, so that its question is not known: give kind 'head'")
    question, solution = parts
    return steps.read_back(Partial(Problem(question), solution + text))


def _parts(solution: str, random: np.random.Generator) -> list[str]:
    """A solution, and some of its first steps."""
    begun = steps.begun(solution)
    return [solution, begun[random.integers(len(begun))]] if begun else [solution]


def _group(rows: Sequence[dict[str, Any]], tokens: dict[tuple[str, str], tuple[np.ndarray, int]]) -> Group:
    number: dict[tuple[str, str], int] = {}
    better, worse = (
        tuple(number.setdefault((row["prompt"], row[side]), len(number)) for row in rows) for side in ("chosen", "rejected")
    )
    first = rows[0]
    return _made(
        [tokens[text] for text in number],
        better=better,
        worse=worse,
        problem=str(first["prompt"] if first.get("problem") is None else first["problem"]),
        depth=first.get("depth"),
        final=bool(first.get("final")),
    )


def _made(given: Sequence[tuple[np.ndarray, int]], **named: Any) -> Group:
    """A group of branches, each with how many tokens of a question it ends with."""
    branches = [ids for ids, _ in given]
    prefixes = Prefixes(0)
    runs = {run for branch in branches for run in prefixes.insert("", branch).path()}
    shortest = min(map(len, branches))
    shared = min(shared_tokens(branches[0][:shortest], branch) for branch in branches)
    return Group(
        prefix=branches[0][:shared].copy(),
        tails=tuple(branch[shared:].copy() for branch in branches),
        tokens=sum(len(run.tokens) for run in runs),
        asked=tuple(count for _, count in given),
        **named,
    )


def _last(end: Run, count: int) -> np.ndarray:
    """Where the last tokens up to a run's end lie in the pass, [count]."""
    return np.concatenate([run.slots for run in end.path()])[-count:].astype(np.int64)  # type: ignore[misc]


def _integers(given: Sequence[int]) -> torch.Tensor:
    return torch.tensor(given, dtype=torch.int64)
