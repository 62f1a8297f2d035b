"""Every op of this folder in plain torch: the CPU's path, the tests' oracle, the benchmarks' baseline.

Shapes: T tokens, H hidden size, D head size, M scored steps, K pairs, G groups of pairs.
"""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention

from .checks import check_pairwise_loss, check_value_head
from .token_tree import TokenTree


def tree_attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    tree: TokenTree,
    *,
    scale: float | None = None,
    window: int | None = None,
) -> torch.Tensor:
    """Attention in which each token sees its ancestors in a token tree, the tokens before it in its segment, and itself.

    Args:
      query: [T, heads, D], any float dtype.
      keys, values: [pages, page size, key heads, D], the pool, in which the pass's own tokens stand already; the query's heads are
        a multiple of the key heads, each of which serves as many of them that follow each other.
      tree: which tokens these are, and what they see.
      scale: of the scores; D ** -0.5 by default.
      window: a token sees itself and the window - 1 positions before it; by default all.

    Returns:
      [T, heads, D] in the query's dtype, computed in float32.

    Raises:
      ValueError: shapes, dtypes or devices do not fit.
    """
    tree.check(query, keys, values)
    keys, values = keys.flatten(0, 1), values.flatten(0, 1)
    key_heads, size = keys.shape[1:]
    group = query.shape[1] // key_heads
    attended = torch.empty_like(query)
    for block in tree.blocks(group, window):
        # The heads of a key head are rows: [segments, key heads, longest * group, D].
        q = query[block.tokens].unflatten(2, (key_heads, group)).permute(0, 2, 1, 3, 4).flatten(2, 3)
        k, v = (pool[block.slots].transpose(1, 2) for pool in (keys, values))
        rows = scaled_dot_product_attention(q.float(), k.float(), v.float(), block.mask, scale=scale)
        of_tokens = rows.unflatten(2, (-1, group)).permute(0, 2, 1, 3, 4).flatten(2, 3)[block.is_token]
        attended[block.tokens[block.is_token]] = of_tokens.to(query.dtype)
    return attended


def value_head(
    hidden: torch.Tensor, at: torch.Tensor, weight: torch.Tensor, scale: float, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """The PPM's score: tanh((w . h + b) / scale) at the last token of each step (rStar-Math, section 3.3).

    Args:
      hidden: [T, H], any float dtype.
      at: [M] int64, the steps' last tokens, in [0, T).
      weight: [H].
      scale: > 0; the reference uses 5.
      bias: [1]; 0 by default.

    Returns:
      [M] float32 in (-1, 1), computed in float32.

    Raises:
      ValueError: shapes or devices do not fit, or scale <= 0.
    """
    check_value_head(hidden, at, weight, scale, bias)
    logits = hidden[at].float() @ weight.float()
    if bias is not None:
        logits = logits + bias.float()
    return torch.tanh(logits / scale)


def pairwise_loss(
    rewards: torch.Tensor, better: torch.Tensor, worse: torch.Tensor, group: torch.Tensor, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Weighted Bradley-Terry loss over pairs of steps that share a prefix (rStar-Math, section 3.3).

    A group holds the P x N pairs of the P positive and N negative steps of one prefix; its loss is
    -(1 / (P * N)) * sum log sigmoid(r+ - r-). The loss is the weighted mean over groups.

    Args:
      rewards: [M] logits of the steps, before tanh.
      better, worse: [K] int64, the positive and the negative step of each pair, in [0, M).
      group: [K] int64, the group of each pair, in [0, G); every group has a pair.
      weight: [G], >= 0, not all 0; by default 1 each.

    Returns:
      A float32 scalar.

    Raises:
      ValueError: shapes or devices do not fit, or there is no pair.
    """
    check_pairwise_loss(rewards, better, worse, group, weight)
    losses = -torch.nn.functional.logsigmoid(rewards[better].float() - rewards[worse].float())
    groups = int(group.max()) + 1
    counts = torch.bincount(group, minlength=groups)
    means = torch.zeros(groups, device=losses.device).index_add(0, group, losses) / counts
    if weight is None:
        return means.mean()
    return (means * weight).sum() / weight.sum()
