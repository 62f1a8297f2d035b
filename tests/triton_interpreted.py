"""The Triton kernels against reference.py: in Triton's interpreter, and on a GPU; test_kernels_triton.py runs this file.

The interpreter computes bfloat16 in float32, which proves nothing about rounding: a GPU has to.
"""

from __future__ import annotations

import dataclasses
import math
import os

import pytest
import torch
from rstar_fast.kernels.pairwise_loss import pairwise_loss
from rstar_fast.kernels.token_tree import TokenTree
from rstar_fast.kernels.tree_attention import tree_attention
from rstar_fast.kernels.value_head import value_head
from token_trees import TREES, random, random_tree

from rstar_fast.kernels import reference

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}

# Segments of several tiles, of one token, odd ones; below computed tokens of several tiles and of less than one, and at a root.
LARGE = ([-1, 0, 0, 2, -1], [70, 1, 37, 1, 5], [131, 0, 0, 0, 0])
SMALL = ([-1, 0, 0, 1, -1], [3, 1, 2, 1, 2], [70, 0, 0, 0, 0])


def pool_of(seen: list[list[int]], pages: int, page: int, heads: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values; NaN in slots that nobody sees."""
    used = torch.zeros(pages * page, dtype=torch.bool)
    used[[slot for path in seen for slot in path]] = True
    keys, values = (random(pages, page, heads, size, seed=seed) for seed in (1, 2))
    for pool in (keys, values):
        pool.flatten(0, 1)[~used] = math.nan
    return keys, values


def compare(
    shape, heads: int, key_heads: int, size: int, page: int, window: int | None, dtype: torch.dtype = torch.float32
) -> None:
    tree, seen, pages = random_tree(*shape, page)
    keys, values = (pool.to(DEVICE, dtype) for pool in pool_of(seen, pages, page, key_heads, size))
    # As attention layers give it: the heads outside.
    query = random(heads, len(seen), size).to(DEVICE, dtype).transpose(0, 1)
    tree = tree.to(DEVICE)
    attended = tree_attention(query, keys, values, tree, window=window)
    expected = reference.tree_attention(query, keys, values, tree, window=window)
    assert attended.dtype == dtype and attended.shape == query.shape and not expected.isnan().any()
    torch.testing.assert_close(attended, expected, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("size", "heads", "key_heads", "page", "window"),
    [(64, 1, 1, 16, None), (80, 3, 1, 1, 40), (96, 7, 1, 16, None), (128, 6, 2, 1, 30)],
)
def test_head_sizes_and_groups(
    size: int, heads: int, key_heads: int, page: int, window: int | None, dtype: torch.dtype
) -> None:
    # In the interpreter a tile takes some 10 ms: large trees for some only.
    compare(LARGE if heads < 6 and dtype != torch.bfloat16 else SMALL, heads, key_heads, size, page, window, dtype)


@pytest.mark.parametrize("window", [None, 1, 3, 65])
@pytest.mark.parametrize("group", [1, 7])
def test_short_segments(group: int, window: int | None) -> None:
    compare(SMALL, group, 1, 64, 1, window)


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("shape", TREES.values(), ids=TREES)
def test_small_trees(shape, window: int | None) -> None:
    compare(shape, 3, 1, 5, 4, window, torch.float16)


@pytest.mark.parametrize("path", [0, 1, 31, 32, 33, 63, 64, 65, 128])
def test_paths_around_a_whole_number_of_tiles(path: int) -> None:
    compare(([-1], [2], [path]), 2, 1, 16, 16, None, torch.float16)


def test_siblings_share_a_path_and_a_scale_is_given() -> None:
    tree, seen, pages = random_tree([-1, 0, 0], [40, 2, 3], [0] * 3, 4)
    tree = dataclasses.replace(tree, paths=tree.paths[:40], path_starts=torch.tensor([0, 0, 0], dtype=torch.int32))
    keys, values = pool_of(seen, pages, 4, 2, 16)
    query, keys, values, tree = (part.to(DEVICE) for part in (random(45, 4, 16), keys, values, tree))
    for scale in (0.7, -1.0, 0.0):
        attended = tree_attention(query, keys, values, tree, scale=scale)
        expected = reference.tree_attention(query, keys, values, tree, scale=scale)
        torch.testing.assert_close(attended, expected, atol=1e-5, rtol=1e-5)


def test_scores_far_apart_overflow_nowhere() -> None:
    tree, seen, pages = random_tree([-1], [9], [40], 1)
    keys, values = pool_of(seen, pages, 1, 1, 16)
    query, keys, values, tree = (part.to(DEVICE) for part in (random(9, 1, 16) * 100, keys * 100, values, tree))
    torch.testing.assert_close(
        tree_attention(query, keys, values, tree), reference.tree_attention(query, keys, values, tree), atol=1e-4, rtol=1e-4
    )


def test_addresses_above_32_bits() -> None:
    tree = TokenTree(
        starts=torch.tensor([0, 2], dtype=torch.int32),
        slots=torch.tensor([530, 516], dtype=torch.int32),
        paths=torch.tensor([3, 521], dtype=torch.int32),
        path_starts=torch.tensor([0], dtype=torch.int32),
        path_lengths=torch.tensor([2], dtype=torch.int32),
        longest=2,
    ).to(DEVICE)
    # Slots 2^22 numbers apart; of the 4 GiB only the pages written to are ever there.
    pool = torch.empty(540 * 2**22, dtype=torch.float16, device=DEVICE).view(540, 1, 2**22 // 16, 16)[:, :, :1]
    pool[[3, 516, 521, 530]] = random(4, 1, 1, 16).to(DEVICE, torch.float16)
    query = random(2, 1, 16).to(DEVICE, torch.float16)
    attended = tree_attention(query, pool, pool, tree)
    torch.testing.assert_close(attended, reference.tree_attention(query, pool, pool, tree), atol=2e-3, rtol=2e-3)


def test_a_pass_of_no_tokens_and_what_the_kernel_does_not_do() -> None:
    none = torch.empty(0, dtype=torch.int32, device=DEVICE)
    tree = TokenTree(torch.zeros(1, dtype=torch.int32, device=DEVICE), none, none, none, none, longest=1)
    query, pool = torch.empty(0, 1, 16, device=DEVICE), torch.empty(1, 1, 1, 16, device=DEVICE)
    assert tree_attention(query, pool, pool, tree).shape == (0, 1, 16)
    with pytest.raises(ValueError, match="^heads are of 257: this kernel takes at most 256$"):
        tree_attention(torch.empty(0, 1, 257, device=DEVICE), *[torch.empty(1, 1, 1, 257, device=DEVICE)] * 2, tree)
    with pytest.raises(ValueError, match="^query is torch.float64: this kernel takes float32, float16 and bfloat16$"):
        tree_attention(query.double(), pool.double(), pool.double(), tree)
    with pytest.raises(ValueError, match="^a gradient is asked for"):
        tree_attention(query.requires_grad_(), pool, pool, tree)
    with torch.no_grad():
        tree_attention(query, pool, pool, tree)
    with pytest.raises(ValueError, match=r"^query is \[1, 1, 16\]: give \[0 tokens"):
        tree_attention(torch.empty(1, 1, 16, device=DEVICE), pool, pool, tree)


# The value head


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("tokens", "size", "steps"), [(1, 1, 1), (7, 33, 70), (5, 1100, 3), (3, 16, 0)])
def test_value_head(tokens: int, size: int, steps: int, biased: bool, dtype: torch.dtype) -> None:
    at = torch.randint(tokens, (steps,), generator=torch.Generator().manual_seed(1)).to(DEVICE)
    inputs = [random(tokens, size), random(size, seed=1) * size**-0.5, *([random(1, seed=2)] if biased else [])]
    found, expected = ([tensor.to(DEVICE, dtype).requires_grad_() for tensor in inputs] for _ in range(2))
    scores = value_head(found[0], at, found[1], 2.0, *found[2:])
    wanted = reference.value_head(expected[0], at, expected[1], 2.0, *expected[2:])
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, wanted, atol=1e-6, rtol=1e-5)
    gradient = random(steps, seed=3).to(DEVICE)
    scores.backward(gradient)
    wanted.backward(gradient)
    for one, other in zip(found, expected, strict=True):
        # The reference adds rows gathered twice up in their own dtype.
        near = 1e-5 if dtype == torch.float32 else 3 * TOLERANCE[dtype]
        torch.testing.assert_close(one.grad, other.grad, atol=near, rtol=near)


def test_values_near_zero_and_one() -> None:
    logits = torch.tensor([0.0, 1e-6, -3e-4, 0.0999, -0.1001, 0.7, -4.0, 20.0, -1e4, 1e4, math.inf, math.nan], device=DEVICE)
    every = torch.arange(len(logits), device=DEVICE)
    scores = value_head(logits[:, None], every, torch.ones(1, device=DEVICE), 1.0)
    torch.testing.assert_close(scores, torch.tanh(logits), atol=0, rtol=2e-6, equal_nan=True)


def test_columns_of_hidden_may_lie_apart_and_rows_too() -> None:
    weight, at = random(6, seed=1).to(DEVICE), torch.tensor([2, 0], device=DEVICE)
    for hidden in (random(6, 4).T, random(4, 12)[:, ::2], random(8, 6)[::2], random(4, 9)[:, :6]):
        hidden = hidden.to(DEVICE).detach().requires_grad_()
        scores = value_head(hidden, at, weight, 1.5)
        torch.testing.assert_close(scores, reference.value_head(hidden, at, weight, 1.5), atol=1e-6, rtol=1e-5)
        scores.sum().backward()
        assert hidden.grad is not None and (hidden.grad != 0).any(1).tolist() == [True, False, True, False]


def test_a_step_outside_gives_nan_not_memory() -> None:
    hidden = torch.ones(2, 4, device=DEVICE)
    scores = value_head(hidden, torch.tensor([0, 2, -1], device=DEVICE), torch.ones(4, device=DEVICE), 1.0)
    assert scores.isnan().tolist() == [False, True, True]


# The pairwise loss


def gradients(op, rewards: torch.Tensor, *rest: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    rewards = rewards.detach().clone().requires_grad_()
    loss = op(rewards, *rest)
    (loss * 3).backward()
    assert rewards.grad is not None
    return loss.detach(), rewards.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("steps", "pairs", "groups"), [(2, 1, 1), (9, 20, 3), (70, 1100, 40)])
def test_pairwise_loss(steps: int, pairs: int, groups: int, weighted: bool, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(pairs)
    rewards = (random(steps) * 3).to(DEVICE, dtype)
    better, worse = (torch.randint(steps, (pairs,), generator=generator).to(DEVICE) for _ in range(2))
    group = (torch.randperm(pairs, generator=generator) % groups).to(DEVICE)
    weight = torch.rand(groups, generator=generator).to(DEVICE) if weighted else None
    (loss, gradient), (wanted, expected) = (
        gradients(op, rewards, better, worse, group, weight) for op in (pairwise_loss, reference.pairwise_loss)
    )
    assert loss.shape == () and loss.dtype == torch.float32 and gradient.dtype == dtype
    torch.testing.assert_close(loss, wanted, atol=1e-6, rtol=1e-5)
    near = 1e-5 if dtype == torch.float32 else TOLERANCE[dtype]
    torch.testing.assert_close(gradient, expected, atol=near, rtol=near)


@pytest.mark.parametrize("far", [0.0, 3.0, 12.0, 40.0, 1e4])
def test_far_apart_rewards_overflow_nowhere(far: float) -> None:
    rewards = torch.tensor([far, -far], device=DEVICE)
    none, first = torch.tensor([0], device=DEVICE), torch.tensor([1], device=DEVICE)
    for better, worse in ((none, first), (first, none)):
        (loss, gradient), (wanted, expected) = (
            gradients(op, rewards, better, worse, none) for op in (pairwise_loss, reference.pairwise_loss)
        )
        torch.testing.assert_close(loss, wanted, atol=0, rtol=2e-6)
        torch.testing.assert_close(gradient, expected, atol=0, rtol=2e-6)


def test_a_pair_outside_gives_nan_not_memory() -> None:
    rewards, none = torch.ones(2, device=DEVICE), torch.tensor([0], device=DEVICE)
    assert pairwise_loss(rewards, torch.tensor([2], device=DEVICE), none, none).isnan()
    assert pairwise_loss(rewards, none, torch.tensor([-1], device=DEVICE), none).isnan()
