"""The reference kernels against arithmetic done by hand, and Muon against a singular value decomposition."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from token_trees import TREES, random, random_tree

from rstar_fast import kernels
from rstar_fast.kernels import pairwise_loss, tree_attention, value_head
from rstar_fast.training.muon import Muon, orthogonalised


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# The value head


def test_a_value_is_the_tanh_of_the_last_tokens_logit() -> None:
    hidden = torch.tensor([[1.0, 2.0], [3.0, -1.0], [9.0, 9.0], [0.0, 1.0]])
    weight = torch.tensor([2.0, 0.5])
    values = value_head(hidden, torch.tensor([1, 3, 1]), weight, 5.0)
    expected = [math.tanh((2 * 3 - 0.5) / 5), math.tanh(0.5 / 5), math.tanh((2 * 3 - 0.5) / 5)]
    torch.testing.assert_close(values, torch.tensor(expected), atol=1e-6, rtol=0)
    values = value_head(hidden, torch.tensor([3]), weight, 5.0, torch.tensor([-2.0]))
    torch.testing.assert_close(values, torch.tensor([math.tanh(-1.5 / 5)]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("tokens", "size"), [(1, 1), (7, 33), (5, 256)])
def test_values_are_computed_in_float32(dtype: torch.dtype, tokens: int, size: int) -> None:
    hidden, weight = random(tokens, size, dtype=dtype), random(size, seed=1, dtype=dtype)
    at = torch.arange(2 * tokens) % tokens
    values = value_head(hidden, at, weight, 3.0)
    assert values.dtype == torch.float32 and values.shape == (2 * tokens,)
    for row, token in enumerate(at.tolist()):
        logit = sum(a * b for a, b in zip(hidden[token].tolist(), weight.tolist(), strict=True))
        assert math.isclose(values[row], math.tanh(logit / 3.0), abs_tol=1e-5)


def test_the_value_heads_gradients() -> None:
    hidden, weight = random(5, 4, dtype=torch.float64), random(4, seed=1, dtype=torch.float64)
    bias = random(1, seed=2, dtype=torch.float64)
    at = torch.tensor([2, 0, 2])
    value_head(hidden.requires_grad_(), at, weight.requires_grad_(), 2.0, bias.requires_grad_()).sum().backward()
    for token, times in ((0, 1), (2, 2)):
        slope = (1 - math.tanh(float(hidden[token].detach() @ weight.detach() + bias.detach()) / 2) ** 2) / 2
        torch.testing.assert_close(hidden.grad[token], times * slope * weight.detach(), atol=1e-6, rtol=1e-5)  # type: ignore[index]
    assert hidden.grad is not None and hidden.grad[[1, 3, 4]].abs().sum() == 0
    # Computed in float32, so the differences are wide.
    inputs = (hidden, weight, bias)
    assert torch.autograd.gradcheck(lambda h, w, b: value_head(h, at, w, 2.0, b), inputs, eps=1e-2, atol=1e-3, rtol=1e-2)


# Attention over token trees


def softmax_attention(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float) -> torch.Tensor:
    """One query [D] over keys and values [n, D], in doubles."""
    return torch.softmax(keys.double() @ query.double() * scale, 0) @ values.double()


@pytest.mark.parametrize("window", [None, 1, 3, 100])
@pytest.mark.parametrize(("heads", "key_heads", "size", "page"), [(1, 1, 4, 1), (6, 2, 8, 16), (4, 4, 5, 4)])
@pytest.mark.parametrize("shape", TREES.values(), ids=TREES)
def test_a_token_sees_its_ancestors_and_itself(
    shape: tuple[list[int], list[int], list[int]], heads: int, key_heads: int, size: int, page: int, window: int | None
) -> None:
    tree, seen, pages = random_tree(*shape, page)
    query = random(len(seen), heads, size)
    keys, values = (random(pages, page, key_heads, size, seed=seed) for seed in (1, 2))
    unused = torch.ones(pages * page, dtype=torch.bool)
    unused[[slot for path in seen for slot in path]] = False
    keys.flatten(0, 1)[unused] = values.flatten(0, 1)[unused] = math.nan
    assert tree.positions().tolist() == [len(path) - 1 for path in seen]
    for scale in (None, 0.3):
        attended = tree_attention(query, keys, values, tree, scale=scale, window=window)
        assert attended.shape == query.shape and attended.dtype == query.dtype
        for token, path in enumerate(seen):
            path = path[-window:] if window else path
            for head in range(heads):
                k, v = (pool.flatten(0, 1)[path, head * key_heads // heads] for pool in (keys, values))
                expected = softmax_attention(query[token, head], k, v, scale or size**-0.5)
                torch.testing.assert_close(attended[token, head].double(), expected, atol=1e-5, rtol=1e-5)


def test_siblings_may_share_a_path() -> None:
    tree, _, pages = random_tree([-1, 0, 0], [4, 2, 3], [0] * 3, 4)
    shared = dataclasses.replace(tree, paths=tree.paths[:4], path_starts=torch.tensor([0, 0, 0], dtype=torch.int32))
    query, keys, values = random(9, 2, 8), random(pages, 4, 1, 8, seed=1), random(pages, 4, 1, 8, seed=2)
    torch.testing.assert_close(tree_attention(query, keys, values, shared), tree_attention(query, keys, values, tree))


@pytest.mark.parametrize(
    ("query", "keys", "values", "message"),
    [
        ((8, 2, 4), (9, 4, 1, 4), (9, 4, 1, 4), r"^query is \[8, 2, 4\]: give \[9 tokens, heads, head size\]$"),
        ((9, 2, 4), (9, 4, 1, 4), (9, 4, 1, 5), r"^keys are \[9, 4, 1, 4\] and values \[9, 4, 1, 5\]: give \[pages, page size, key heads"),
        ((9, 2, 4), (9, 4, 1, 5), (9, 4, 1, 5), r"^query has 2 heads of 4 and keys 1 of 5: give heads of one size"),
        ((9, 3, 4), (9, 4, 2, 4), (9, 4, 2, 4), r"^query has 3 heads of 4 and keys 2 of 4: .* a multiple of the keys'$"),
    ],
)
def test_shapes_that_do_not_fit_are_told(query: Any, keys: Any, values: Any, message: str) -> None:
    tree, _, _ = random_tree([-1, 0, 0], [4, 2, 3], [0] * 3, 4)
    with pytest.raises(ValueError, match=message):
        tree_attention(random(*query), random(*keys), random(*values), tree)
    with pytest.raises(ValueError, match=r"^query is torch.float16, keys torch.float32 and values torch.float32: give one dtype$"):
        tree_attention(random(9, 2, 4).half(), random(9, 4, 1, 4), random(9, 4, 1, 4), tree)


def test_a_pool_with_gaps_is_told() -> None:
    tree, _, _ = random_tree([-1], [2], [0], 4)
    query, keys, across = random(2, 1, 4), random(3, 4, 1, 4), random(3, 4, 4, 1).transpose(2, 3)
    gaps = random(3, 5, 1, 4)[:, :4]
    for wrong, strides in ((gaps, r"\[20, 4, 4, 1\]"), (random(3, 4, 1, 8)[..., ::2], r"\[32, 8, 8, 2\]")):
        with pytest.raises(ValueError, match=rf"^keys have the strides {strides}: give a pool whose slots lie at one distance"):
            tree_attention(query, wrong, keys, tree)
        with pytest.raises(ValueError, match=rf"^values have the strides {strides}"):
            tree_attention(query, keys, wrong, tree)
    torch.testing.assert_close(tree_attention(query, across, across, tree), tree_attention(query, across.contiguous(), across, tree))


@pytest.mark.parametrize("shape", TREES.values(), ids=TREES)
def test_tiles_hold_every_row_once_the_longest_work_first(shape: tuple[list[int], list[int], list[int]]) -> None:
    tree, _, _ = random_tree(*shape, 4)
    for group, rows in ((1, 1), (1, 4), (3, 2), (7, 16), (2, 1000)):
        tiles = tree.tiles(group, rows)
        assert tiles.dtype == torch.int32 and tree.tiles(group, rows) is tiles
        held = [
            (segment, row)
            for segment, first in tiles.tolist()
            for row in range(first, min(first + rows, shape[1][segment] * group))
        ]
        assert sorted(held) == [(segment, row) for segment, size in enumerate(shape[1]) for row in range(size * group)]
        work = [int(tree.path_lengths[segment]) + first // group for segment, first in tiles.tolist()]
        assert work == sorted(work, reverse=True)
        assert all(first < shape[1][segment] * group for segment, first in tiles.tolist())


# The pairwise loss


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda one, at: value_head(one, at, one, 1.0), r"^hidden is \[2\] and at \[1\]: give \[tokens, hidden size\] and \[steps\]$"),
        (lambda one, at: value_head(one[None], at, one[:1], 1.0), r"^weight is \[1\]: give \[2 hidden size\]"),
        (lambda one, at: value_head(one[None], at, one, 1.0, one), r"^weight is \[2\] and bias \[2\]: give"),
        (lambda one, at: value_head(one[None], at, one, 0.0), r"^scale is 0.0: give a number > 0$"),
        (lambda one, at: value_head(one[None], at, one.to("meta"), 1.0), r"^hidden is on cpu, .* weight is on meta: give one device$"),
        (lambda one, at: pairwise_loss(one[None], at, at, at), r"^rewards are \[1, 2\]: give \[steps\]$"),
        (lambda one, at: pairwise_loss(one, at, at, at[:0]), r"^better is \[1\], worse \[1\] and group \[0\]: give \[pairs\]"),
        (lambda one, at: pairwise_loss(one, at[:0], at[:0], at[:0]), r"and a pair$"),
        (lambda one, at: pairwise_loss(one, at, at, at, one[None]), r"^weight is \[1, 2\]: give \[groups\]$"),
    ],
)
def test_arguments_that_do_not_fit_are_told(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(torch.ones(2), torch.zeros(1, dtype=torch.int64))


def test_a_loss_is_the_mean_over_a_groups_pairs() -> None:
    rewards = torch.tensor([2.0, -1.0, 0.5])
    loss = pairwise_loss(rewards, torch.tensor([0, 0]), torch.tensor([1, 2]), torch.tensor([0, 0]))
    expected = -(math.log(sigmoid(3.0)) + math.log(sigmoid(1.5))) / 2
    assert loss.shape == () and loss.dtype == torch.float32
    assert math.isclose(loss, expected, abs_tol=1e-6)


def test_a_single_pair_of_equal_rewards_is_log_two() -> None:
    loss = pairwise_loss(torch.tensor([3.0, 3.0]), torch.tensor([0]), torch.tensor([1]), torch.tensor([0]))
    assert math.isclose(loss, math.log(2), abs_tol=1e-6)


@pytest.mark.parametrize("weight", [None, [1.0, 1.0, 1.0], [2.0, 0.0, 0.5]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_groups_count_by_their_weight_not_by_their_pairs(weight: list[float] | None, dtype: torch.dtype) -> None:
    rewards = (random(9, seed=4) * 2).to(dtype)
    pairs = [(0, 1, 0), (0, 2, 0), (3, 1, 0), (3, 2, 0), (4, 5, 1), (6, 7, 2), (6, 8, 2)]  # 2 x 2, 1 x 1, 1 x 2
    better, worse, group = (torch.tensor(column) for column in zip(*pairs, strict=True))
    loss = pairwise_loss(rewards, better, worse, group, None if weight is None else torch.tensor(weight))
    exact = rewards.tolist()
    of_group: list[list[float]] = [[], [], []]
    for one, other, at in pairs:
        of_group[at].append(-math.log(sigmoid(exact[one] - exact[other])))
    weights = weight or [1.0] * 3
    expected = sum(w * sum(losses) / len(losses) for w, losses in zip(weights, of_group, strict=True)) / sum(weights)
    assert loss.dtype == torch.float32 and math.isclose(loss, expected, rel_tol=1e-5)
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(1))
    shuffled = pairwise_loss(
        rewards, better[order], worse[order], group[order], None if weight is None else torch.tensor(weight)
    )
    torch.testing.assert_close(shuffled, loss)


def test_far_apart_rewards_overflow_nowhere() -> None:
    rewards = torch.tensor([1e4, -1e4], requires_grad=True)
    right = pairwise_loss(rewards, torch.tensor([0]), torch.tensor([1]), torch.tensor([0]))
    wrong = pairwise_loss(rewards, torch.tensor([1]), torch.tensor([0]), torch.tensor([0]))
    assert right.item() == 0 and wrong.item() == 2e4
    wrong.backward()
    assert rewards.grad is not None and rewards.grad.tolist() == [1.0, -1.0]


def test_the_losss_gradients() -> None:
    rewards = random(5, seed=2, dtype=torch.float64).requires_grad_()
    better, worse, group = torch.tensor([0, 0, 3]), torch.tensor([1, 2, 4]), torch.tensor([0, 0, 1])
    weight = torch.tensor([1.0, 3.0])
    pairwise_loss(rewards, better, worse, group, weight).backward()
    r = rewards.tolist()
    first, second, third = (sigmoid(r[low] - r[high]) for high, low in ((0, 1), (0, 2), (3, 4)))
    expected = [-(first + second) / 8, first / 8, second / 8, -third * 3 / 4, third * 3 / 4]
    torch.testing.assert_close(rewards.grad, torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=1e-5)
    # Computed in float32, so the differences are wide.
    assert torch.autograd.gradcheck(
        lambda rewards: pairwise_loss(rewards, better, worse, group, weight), (rewards,), eps=1e-2, atol=1e-3, rtol=1e-2
    )


# The package


def test_importing_the_package_does_not_load_torch() -> None:
    code = (
        "import sys; from rstar_fast import kernels; print('torch' in sys.modules, 'triton' in sys.modules); "
        "kernels.value_head; print('torch' in sys.modules, kernels.pairwise_loss.__name__); "
        "import torch; one = torch.ones(1, 1); at = torch.tensor([0]); "
        "print(kernels.value_head(one, at, one[0], 1.0).shape, 'triton.language' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\nFalse pairwise_loss\ntorch.Size([1]) False\n"


def test_all_that_is_exported_is_there() -> None:
    assert all(callable(getattr(kernels, name)) for name in kernels.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = kernels.nothing  # type: ignore[attr-defined]


# Muon


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 40), (2, 40, 16), (1, 1, 5), (1, 5, 1)])
def test_orthogonalised_keeps_the_directions_and_evens_the_lengths(shape: tuple[int, int, int]) -> None:
    matrices = random(*shape, seed=5)
    # Singular values from 1 down to 1/10: the iteration needs longer for smaller ones.
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    matrices = left @ torch.diag_embed(torch.linspace(1, 0.1, values.shape[1]).expand_as(values)) @ right
    moved = orthogonalised(matrices)
    assert moved.dtype == matrices.dtype and moved.shape == matrices.shape
    lengths = torch.linalg.svdvals(moved)
    assert 0.65 < lengths.min() and lengths.max() < 1.25
    # Against U V^T, the nearest orthogonal matrix: the same directions.
    inner = left.mT @ moved @ right.mT
    assert (inner - torch.diag_embed(inner.diagonal(dim1=1, dim2=2))).abs().max() < 0.06
    assert (left @ right - moved).abs().max() < 0.5
    torch.testing.assert_close(orthogonalised(matrices * 1000), moved, atol=0.02, rtol=0.02)


def test_matrices_of_a_stack_do_not_mix() -> None:
    matrices = random(3, 6, 9, seed=6)
    together = orthogonalised(matrices)
    for i in range(3):
        torch.testing.assert_close(orthogonalised(matrices[i : i + 1])[0], together[i], atol=0.02, rtol=0.02)


def test_muon_goes_down_a_quadratic() -> None:
    goals = [random(6, 9, seed=7), random(9, 6, seed=8), random(6, 9, seed=9)]
    weights = [torch.nn.Parameter(torch.zeros_like(goal)) for goal in goals]
    untouched = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = Muon([*weights, untouched], lr=0.1, momentum=0.8)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = sum(((weight - goal) ** 2).sum() for weight, goal in zip(weights, goals, strict=True))
        assert isinstance(loss, torch.Tensor)
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    assert all(after < before for before, after in zip(losses, losses[1:10], strict=False))
    assert losses[-1] < losses[0] / 20
    assert torch.equal(untouched, torch.ones(2, 2))


def test_a_step_is_momentum_made_orthogonal_and_scaled() -> None:
    gradients = [random(8, 4, seed=1), random(8, 4, seed=2)]
    weight = torch.nn.Parameter(random(8, 4, seed=3))
    expected, momentum = weight.detach().clone(), torch.zeros(8, 4)
    optimizer = Muon([weight], lr=0.05, momentum=0.9, weight_decay=0.2)
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
        momentum = 0.9 * momentum + 0.1 * gradient
        update = orthogonalised((0.1 * gradient + 0.9 * momentum)[None])[0]
        expected = expected * (1 - 0.05 * 0.2) - 0.05 * math.sqrt(2) * update
        torch.testing.assert_close(weight.detach(), expected, atol=1e-3, rtol=1e-3)


def test_muons_state_is_saved_and_restored() -> None:
    def run(restore: bool) -> torch.Tensor:
        weight = torch.nn.Parameter(random(4, 4, seed=1))
        optimizer = Muon([weight], lr=0.1)
        for seed in range(4):
            if seed == 2 and restore:
                state = optimizer.state_dict()
                optimizer = Muon([weight], lr=0.5)
                optimizer.load_state_dict(state)
            weight.grad = random(4, 4, seed=seed + 10)
            optimizer.step()
        return weight.detach()

    torch.testing.assert_close(run(True), run(False), atol=0, rtol=0)
