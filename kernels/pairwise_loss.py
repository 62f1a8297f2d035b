"""The weighted Bradley-Terry loss over pairs in Triton, forward and backward.

With the groups' weights w, pair k of group g = group(k), which has n_g pairs, and x_k = r_worse(k) - r_better(k):

    loss = sum_k c_k softplus(x_k),     c_k = w_g / (n_g sum of all w),     dloss/dx_k = c_k sigmoid(x_k).

Both are computed from exp(-|x|), which does not overflow, in one launch; the backward adds up each step's pairs, better ones
with a minus, in a fixed order: the gradients are the same in each run.

Shapes: M scored steps, K pairs, G groups of pairs.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from .checks import check_pairwise_loss
from .launch import FUSED, on_device_of
from .ordered_sum import by_index, ordered_sum

# Not measured on a GPU yet.
_PAIRS = 512
_ROWS, _ENTRIES = 64, 8


def pairwise_loss(
    rewards: torch.Tensor, better: torch.Tensor, worse: torch.Tensor, group: torch.Tensor, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """As `reference.pairwise_loss`, except that a step outside of [0, M) gives NaN, and that `weight` gets no gradient."""
    check_pairwise_loss(rewards, better, worse, group, weight)
    # With weights the device need not be waited for.
    groups = int(group.max()) + 1 if weight is None else len(weight)
    weight = torch.ones(groups, device=rewards.device) if weight is None else weight.detach().float()
    counts = torch.zeros(groups, device=rewards.device).index_add_(0, group, torch.ones_like(group, dtype=torch.float32))
    return _PairwiseLoss.apply(rewards, better, worse, group, weight / weight.sum() / counts)  # type: ignore[no-any-return]


class _PairwiseLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rewards: torch.Tensor, better: torch.Tensor, worse: torch.Tensor, group: torch.Tensor, share: torch.Tensor
    ) -> torch.Tensor:
        rewards, better, worse, group = (tensor.contiguous() for tensor in (rewards, better, worse, group))
        pairs = len(better)
        losses = torch.empty(triton.cdiv(pairs, _PAIRS), dtype=torch.float32, device=rewards.device)
        slopes = torch.empty(pairs, dtype=torch.float32, device=rewards.device)
        with on_device_of(rewards):
            _losses[(len(losses),)](
                rewards,
                better,
                worse,
                group,
                share,
                losses,
                slopes,
                len(rewards),
                pairs,
                PAIRS=_PAIRS,
                num_warps=4,
                **FUSED,
            )
        ctx.save_for_backward(better, worse, slopes)
        ctx.rewards = len(rewards), rewards.dtype
        return losses.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        better, worse, slopes = ctx.saved_tensors
        steps, dtype = ctx.rewards
        order, first = by_index(torch.cat([better, worse]), steps)
        slopes = slopes * gradient
        slopes = torch.cat([-slopes, slopes])
        of_rewards = torch.empty(steps, dtype=dtype, device=slopes.device)
        with on_device_of(slopes):
            _gradient[(triton.cdiv(steps, _ROWS),)](
                slopes, order, first, of_rewards, steps, ROWS=_ROWS, ENTRIES=_ENTRIES, num_warps=4, **FUSED
            )
        return of_rewards, None, None, None, None


@triton.jit
def _losses(rewards, better, worse, group, share, losses, slopes, steps, pairs, PAIRS: tl.constexpr):
    pair = tl.program_id(0).to(tl.int64) * PAIRS + tl.arange(0, PAIRS)
    is_pair = pair < pairs
    high = tl.load(better + pair, mask=is_pair, other=0)
    low = tl.load(worse + pair, mask=is_pair, other=0)
    is_step = (high >= 0) & (high < steps) & (low >= 0) & (low < steps)
    # Rows that are no pair have a share of 0; steps that do not exist make NaN.
    r_high = tl.load(rewards + high, mask=is_pair & is_step, other=0.0).to(tl.float32)
    r_low = tl.load(rewards + low, mask=is_pair & is_step, other=0.0).to(tl.float32)
    x = tl.where(is_step, r_low - r_high, float("nan"))
    c = tl.load(share + tl.load(group + pair, mask=is_pair, other=0), mask=is_pair, other=0.0)
    e = tl.exp(-tl.abs(x))
    # log(1 + e): near 0 the sum would lose e's digits; the series' next term is e^6 / 6, 2e-7 of e at 1/16.
    log = tl.where(e < 0.0625, e * (1.0 - e * (0.5 - e * (1.0 / 3.0 - e * (0.25 - e * 0.2)))), tl.log(1.0 + e))
    # Not tl.maximum(x, 0), which may drop a NaN.
    softplus = tl.where(x < 0.0, 0.0, x) + log
    sigmoid = tl.where(x < 0.0, e, 1.0) / (1.0 + e)
    tl.store(slopes + pair, c * sigmoid, mask=is_pair)
    tl.store(losses + tl.program_id(0), tl.sum(tl.where(is_pair, c * softplus, 0.0), 0))


@triton.jit
def _gradient(slopes, order, first, gradient, steps, ROWS: tl.constexpr, ENTRIES: tl.constexpr):
    step = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    total = ordered_sum(slopes, order, first, step, steps, ENTRIES)
    tl.store(gradient + step, total.to(gradient.dtype.element_ty), mask=step < steps)
