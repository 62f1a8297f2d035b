"""Attention over token trees in Triton. Forward only: it serves scoring.

Token t at position p of its sequence sees the keys at positions n <= p, with a window of w those of n > p - w. With

    s_n = scale * log2(e) * q . k_n,     o = sum_n 2^(s_n - m) v_n / sum_n 2^(s_n - m),     m = max_n s_n,

m, numerator and denominator are updated a tile of keys at a time (online softmax: Milakov and Gimelshein, arXiv 1805.02867;
in tiles: Dao et al., arXiv 2205.14135), in base 2, which the hardware computes.

A segment's keys are read as one row: first its path, through `paths`, then its own tokens, through `slots`.

    n:     0 ........................ path_length ...... path_length + own tokens
           [ paths[path_start + n]   | slots[start + n - path_length] ]
           | whole tiles: all rows  | tiles masked causally, the       |
           | see all of their keys  | path's last keys among them      |

The rows of a tile are the query heads of one key head of a few tokens that follow each other: row = token * group + head of
the group. A key that is gathered once so serves them all.

Shapes: T tokens, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from .launch import FUSED, interpreting, on_device_of
from .token_tree import TokenTree

_LARGEST = 256  # head size; above it the tiles do not fit shared memory


@dataclass(frozen=True, slots=True)
class Tiling:
    """How a launch is cut.

    Attributes:
      rows, columns: of a tile of queries, of a tile of keys; powers of two >= 16.
      warps: of a program.
      stages: of the loop over a path's keys, as Triton counts them: slots and keys are on their way in these.
    """

    rows: int
    columns: int
    warps: int
    stages: int


def tiling(dtype: torch.dtype, size: int, rows: int, capability: tuple[int, int] | None) -> Tiling:
    """The tiling for heads of `size` when the longest segment has `rows` rows.

    On sm_90 the fastest of those measured on an H200 (benchmarks/results/gpu.json). Others are not measured: chosen as large as
    registers last. Nothing spills up to heads of 128, which tests/test_kernels_triton.py holds.

    Args:
      capability: CUDA's, as (8, 0); None on an AMD GPU.
    """
    if capability is None:
        return Tiling(rows=16 if rows <= 16 else 32 if dtype.itemsize > 2 else 64, columns=32, warps=4, stages=2)
    if dtype.itemsize > 2:
        return Tiling(rows=16, columns=32 if size <= 128 else 16, warps=4, stages=2)
    if size > 128:
        return Tiling(rows=16 if rows <= 16 else 32, columns=32, warps=4, stages=2)
    if rows <= 16:
        return Tiling(rows=16, columns=64, warps=4, stages=3)
    if capability[0] == 9:
        return Tiling(rows=64, columns=64 if size <= 64 else 32, warps=4, stages=4)
    # On Blackwell the tensor cores read their operands from shared memory: there are registers for wider tiles.
    is_wide = size <= 64 or capability[0] == 10
    columns, stages = (64, 2) if is_wide else (32, 3)
    return Tiling(rows=64 if rows <= 64 else 128, columns=columns, warps=4 if rows <= 64 else 8, stages=stages)


def constants(
    dtype: torch.dtype, size: int, group: int, cut: Tiling, windowed: bool, capability: tuple[int, int] | None
) -> dict[str, int | bool | str]:
    """The kernel's constexprs."""
    return {
        "GROUP": group,
        "SIZE": size,
        "WIDTH": max(16, triton.next_power_of_2(size)),
        "ROWS": cut.rows,
        "COLUMNS": cut.columns,
        "STAGES": cut.stages,
        "WINDOWED": windowed,
        # On NVIDIA float32 is multiplied as three products of TF32, some 2^-21 exact: without tensor cores the tiles would need
        # more registers than there are.
        "PRECISION": "tf32x3" if dtype.itemsize > 2 and capability is not None else "ieee",
        # The interpreter computes bfloat16 wrongly.
        "UPCAST": interpreting() and dtype == torch.bfloat16,
    }


def tree_attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    tree: TokenTree,
    *,
    scale: float | None = None,
    window: int | None = None,
) -> torch.Tensor:
    """As `reference.tree_attention`, in one launch; for numbers of at most 32 bits, heads of at most 256, and no gradient.

    Raises:
      ValueError: as there, and where these are asked for.
    """
    tree.check(query, keys, values)
    if query.dtype.itemsize > 4:
        raise ValueError(f"query is {query.dtype}: this kernel takes float32, float16 and bfloat16")
    if torch.is_grad_enabled() and (query.requires_grad or keys.requires_grad or values.requires_grad):
        raise ValueError("a gradient is asked for, which this kernel does not give: call it under torch.no_grad()")
    tokens, heads, size = query.shape
    if size > _LARGEST:
        raise ValueError(f"heads are of {size}: this kernel takes at most {_LARGEST}")
    if query.stride(2) != 1:
        query = query.contiguous()
    keys, values = keys.flatten(0, 1), values.flatten(0, 1)  # views: the check holds that
    attended = query.new_empty(query.shape)  # heads inside, as the layer's output has them, whatever the query's strides
    group = heads // keys.shape[1]
    capability = _capability(query.device)
    cut = tiling(query.dtype, size, tree.longest * group, capability)
    tiles = tree.tiles(group, cut.rows)
    if not len(tiles):
        return attended
    with on_device_of(query):
        _tree_attention[(len(tiles), keys.shape[1])](
            query,
            keys,
            values,
            attended,
            tiles,
            tree.starts,
            tree.slots,
            tree.paths,
            tree.path_starts,
            tree.path_lengths,
            (size**-0.5 if scale is None else scale) * 1.4426950408889634,
            0 if window is None else window,
            *query.stride()[:2],
            *keys.stride()[:2],
            *values.stride()[:2],
            *attended.stride()[:2],
            **constants(query.dtype, size, group, cut, window is not None, capability),
            num_warps=cut.warps,
            num_stages=cut.stages,
            **FUSED,
        )
    return attended


def _capability(device: torch.device) -> tuple[int, int] | None:
    if torch.version.hip is not None:
        return None
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else (8, 0)


@triton.jit
def _tree_attention(
    query,
    keys,
    values,
    attended,
    tiles,
    starts,
    slots,
    paths,
    path_starts,
    path_lengths,
    scale,  # log2(e) included
    window,
    query_token,  # strides from here on
    query_head,
    keys_slot,
    keys_head,
    values_slot,
    values_head,
    attended_token,
    attended_head,
    GROUP: tl.constexpr,
    SIZE: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    STAGES: tl.constexpr,
    WINDOWED: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):
    segment = tl.load(tiles + 2 * tl.program_id(0))
    first_row = tl.load(tiles + 2 * tl.program_id(0) + 1)
    key_head = tl.program_id(1).to(tl.int64)
    start = tl.load(starts + segment)
    own = tl.load(starts + segment + 1) - start
    path = tl.load(path_lengths + segment)
    paths += tl.load(path_starts + segment).to(tl.int64)
    slots += start.to(tl.int64)
    keys += key_head * keys_head
    values += key_head * values_head

    row = first_row + tl.arange(0, ROWS)
    token = row // GROUP
    head = key_head * GROUP + row % GROUP
    position = path + tl.minimum(token, own - 1)  # rows behind the last see what it sees, and are not stored
    number = tl.arange(0, WIDTH)
    is_there = (row < own * GROUP)[:, None] & (number < SIZE)[None, :]
    of_token = (start + token).to(tl.int64)[:, None]
    q = tl.load(query + of_token * query_token + head[:, None] * query_head + number[None, :], mask=is_there, other=0.0)
    if UPCAST:
        q = q.to(tl.float32)
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    weighted = tl.zeros([ROWS, WIDTH], tl.float32)

    # A window leaves out all keys before those that the first row sees.
    begin = first_row * 0
    if WINDOWED:
        begin = tl.maximum(path + first_row // GROUP - window + 1, 0)
    middle = begin + tl.maximum(path - begin, 0) // COLUMNS * COLUMNS
    end = path + tl.minimum(own, (first_row + ROWS - 1) // GROUP + 1)
    top, total, weighted = _over_keys(
        top, total, weighted, q, position, keys, values, paths, slots, path, scale, window, keys_slot, values_slot,
        begin, middle, SIZE, WIDTH, COLUMNS, False, STAGES, WINDOWED, PRECISION, UPCAST,
    )  # fmt: skip
    top, total, weighted = _over_keys(
        top, total, weighted, q, position, keys, values, paths, slots, path, scale, window, keys_slot, values_slot,
        middle, end, SIZE, WIDTH, COLUMNS, True, 1, WINDOWED, PRECISION, UPCAST,
    )  # fmt: skip

    tl.store(
        attended + of_token * attended_token + head[:, None] * attended_head + number[None, :],
        (weighted / total[:, None]).to(attended.dtype.element_ty),
        mask=is_there,
    )


@triton.jit
def _over_keys(
    top,
    total,
    weighted,
    q,
    position,
    keys,
    values,
    paths,
    slots,
    path,
    scale,
    window,
    keys_slot,
    values_slot,
    begin,
    end,
    SIZE: tl.constexpr,
    WIDTH: tl.constexpr,
    COLUMNS: tl.constexpr,
    CAUSAL: tl.constexpr,  # otherwise the keys are whole tiles of the path
    STAGES: tl.constexpr,
    WINDOWED: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """The online softmax over the keys begin ... end - 1."""
    number = tl.arange(0, WIDTH)[None, :]
    for first in tl.range(begin, end, COLUMNS, num_stages=STAGES):
        n = first + tl.arange(0, COLUMNS)
        if CAUSAL:
            # What stands in slots that nobody sees may be NaN, which no weight of 0 takes away: it is not read.
            of_path = tl.load(paths + n, mask=n < path, other=0)
            of_own = tl.load(slots + (n - path), mask=(n >= path) & (n < end), other=0)
            slot = tl.where(n < path, of_path, of_own).to(tl.int64)[:, None]
            is_there = (n < end)[:, None] & (number < SIZE)
            k = tl.load(keys + slot * keys_slot + number, mask=is_there, other=0.0)
            v = tl.load(values + slot * values_slot + number, mask=is_there, other=0.0)
        else:
            slot = tl.load(paths + n).to(tl.int64)[:, None]
            if SIZE == WIDTH:
                k = tl.load(keys + slot * keys_slot + number)
                v = tl.load(values + slot * values_slot + number)
            else:
                k = tl.load(keys + slot * keys_slot + number, mask=number < SIZE, other=0.0)
                v = tl.load(values + slot * values_slot + number, mask=number < SIZE, other=0.0)
        if UPCAST:
            k, v = k.to(tl.float32), v.to(tl.float32)
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
        if CAUSAL:
            scores = tl.where(n[None, :] <= position[:, None], scores, float("-inf"))
        if WINDOWED:
            scores = tl.where(n[None, :] > position[:, None] - window, scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        # Where a row has seen nothing yet, -inf - -inf would be NaN; without a window every row sees the first tile.
        shift = tl.where(higher == float("-inf"), 0.0, higher) if WINDOWED else higher
        weights = tl.exp2(scores - shift[:, None])
        fade = tl.exp2(top - shift)
        total = total * fade + tl.sum(weights, 1)
        weighted = tl.dot(weights.to(v.dtype), v, weighted * fade[:, None], input_precision=PRECISION)
        top = higher
    return top, total, weighted
