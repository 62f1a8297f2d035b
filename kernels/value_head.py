"""The PPM's score in Triton, forward and backward: gather, dot product, bias and tanh in one launch.

    x_m = w . h_at(m) + b,     y_m = tanh(x_m / s)

With the gradient g of a loss to y, a_m = g_m (1 - y_m^2) / s is that to x_m, and

    dh_t = w * sum of a_m over the m with at(m) = t,     dw = sum_m a_m h_at(m),     db = sum_m a_m.

All sums run in a fixed order: the gradients are the same in each run.

Shapes: T tokens, H hidden size, M scored steps.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from .checks import check_value_head
from .launch import FUSED, on_device_of
from .ordered_sum import by_index, ordered_sum

# Not measured on a GPU yet; 4 warps with 32 numbers a thread.
_ROWS, _COLUMNS = 4, 1024
_ROWS_OF_PART = 64  # steps that one program adds up for the weight's gradient; 16 a time
_ENTRIES = 4


def value_head(
    hidden: torch.Tensor, at: torch.Tensor, weight: torch.Tensor, scale: float, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """As `reference.value_head`, except that an `at` outside of [0, T) gives NaN: to raise, the device would be waited for."""
    check_value_head(hidden, at, weight, scale, bias)
    return _ValueHead.apply(hidden, at, weight, scale, bias)  # type: ignore[no-any-return]


class _ValueHead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, at: torch.Tensor, weight: torch.Tensor, scale: float, bias: torch.Tensor | None
    ) -> torch.Tensor:
        if hidden.stride(1) != 1:
            hidden = hidden.contiguous()
        at, weight = at.contiguous(), weight.contiguous()
        (tokens, size), steps = hidden.shape, len(at)
        scores = torch.empty(steps, dtype=torch.float32, device=hidden.device)
        if steps:
            with on_device_of(hidden):
                _scores[(triton.cdiv(steps, _ROWS),)](
                    hidden,
                    at,
                    weight,
                    weight if bias is None else bias,
                    scores,
                    1.0 / scale,
                    tokens,
                    steps,
                    size,
                    hidden.stride(0),
                    BIASED=bias is not None,
                    ROWS=_ROWS,
                    COLUMNS=min(_COLUMNS, triton.next_power_of_2(size)),
                    num_warps=4,
                    **FUSED,
                )
        ctx.save_for_backward(hidden, at, weight, bias, scores)
        ctx.scale = scale
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden, at, weight, bias, scores = ctx.saved_tensors
        slopes = gradient * (1.0 - scores * scores) / ctx.scale
        to_hidden, _, to_weight, _, to_bias = ctx.needs_input_grad
        return (
            _hidden_gradient_of(slopes, hidden, at, weight) if to_hidden else None,
            None,
            _weight_gradient_of(slopes, hidden, at).to(weight.dtype) if to_weight else None,
            None,
            slopes.sum().to(bias.dtype).reshape(bias.shape) if to_bias else None,
        )


def _hidden_gradient_of(slopes: torch.Tensor, hidden: torch.Tensor, at: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    tokens, size = hidden.shape
    gradient = torch.empty(tokens, size, dtype=hidden.dtype, device=hidden.device)
    if gradient.numel():
        order, first = by_index(at, tokens)
        columns = min(_COLUMNS, triton.next_power_of_2(size))
        with on_device_of(hidden):
            _hidden_gradient[(triton.cdiv(tokens, _ROWS), triton.cdiv(size, columns))](
                slopes,
                order,
                first,
                weight,
                gradient,
                tokens,
                size,
                ROWS=_ROWS,
                COLUMNS=columns,
                ENTRIES=_ENTRIES,
                num_warps=4,
                **FUSED,
            )
    return gradient


def _weight_gradient_of(slopes: torch.Tensor, hidden: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    (tokens, size), steps = hidden.shape, len(at)
    parts = torch.empty(triton.cdiv(steps, _ROWS_OF_PART), size, dtype=torch.float32, device=hidden.device)
    if parts.numel():
        columns = min(_COLUMNS // 4, triton.next_power_of_2(size))
        with on_device_of(hidden):
            _weight_gradient[(len(parts), triton.cdiv(size, columns))](
                slopes,
                hidden,
                at,
                parts,
                tokens,
                steps,
                size,
                hidden.stride(0),
                PART=_ROWS_OF_PART,
                ROWS=16,
                COLUMNS=columns,
                num_warps=4,
                **FUSED,
            )
    return parts.sum(0)


@triton.jit
def _scores(
    hidden,
    at,
    weight,
    bias,
    scores,
    inverse_scale,
    tokens,
    steps,
    size,
    hidden_token,  # stride
    BIASED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    step = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    token = tl.load(at + step, mask=step < steps, other=0).to(tl.int64)
    is_token = (token >= 0) & (token < tokens)
    products = tl.zeros([ROWS, COLUMNS], tl.float32)
    for begin in range(0, size, COLUMNS):
        column = begin + tl.arange(0, COLUMNS)
        w = tl.load(weight + column, mask=column < size, other=0.0).to(tl.float32)
        h = tl.load(
            hidden + token[:, None] * hidden_token + column[None, :],
            mask=is_token[:, None] & (column < size)[None, :],
            other=0.0,
        )
        products += h.to(tl.float32) * w[None, :]
    x = tl.sum(products, 1)
    if BIASED:
        x += tl.load(bias).to(tl.float32)
    y = _tanh(x * inverse_scale)
    tl.store(scores + step, tl.where(is_token, y, float("nan")), mask=step < steps)


@triton.jit
def _tanh(x):
    # (1 - e) / (1 + e) cancels near 0; the series' next term is 62/2835 x^9, 2e-10 of x at 0.1. Triton has no tanh of its own.
    e = tl.exp(-2.0 * tl.abs(x))
    far = (1.0 - e) / (1.0 + e)
    square = x * x
    near = x * (1.0 - square * (1.0 / 3.0 - square * (2.0 / 15.0 - square * (17.0 / 315.0))))
    return tl.where(tl.abs(x) < 0.1, near, tl.where(x < 0.0, -far, far))


@triton.jit
def _hidden_gradient(
    slopes,
    order,
    first,
    weight,
    gradient,
    tokens,
    size,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    ENTRIES: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    slope = ordered_sum(slopes, order, first, token, tokens, ENTRIES)
    w = tl.load(weight + column, mask=column < size, other=0.0).to(tl.float32)
    tl.store(
        gradient + token[:, None] * size + column[None, :],
        (slope[:, None] * w[None, :]).to(gradient.dtype.element_ty),
        mask=(token < tokens)[:, None] & (column < size)[None, :],
    )


@triton.jit
def _weight_gradient(
    slopes,
    hidden,
    at,
    parts,
    tokens,
    steps,
    size,
    hidden_token,  # stride
    PART: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    part = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for begin in range(0, PART, ROWS):
        step = part * PART + begin + tl.arange(0, ROWS)
        token = tl.load(at + step, mask=step < steps, other=0).to(tl.int64)
        slope = tl.load(slopes + step, mask=step < steps, other=0.0)
        h = tl.load(
            hidden + token[:, None] * hidden_token + column[None, :],
            mask=((step < steps) & (token >= 0) & (token < tokens))[:, None] & (column < size)[None, :],
            other=0.0,
        )
        total += slope[:, None] * h.to(tl.float32)
    tl.store(parts + part * size + column, tl.sum(total, 0), mask=column < size)
