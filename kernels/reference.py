"""Every op of this folder in plain torch: the CPU's path, the tests' oracle, the benchmarks' baseline.

Shapes: T tokens, H hidden size, D head size, M scored steps, K pairs, G groups of pairs.
"""

from __future__ import annotations

import math

import torch

from .checks import check_pairwise_loss, check_value_head
from .token_tree import Siblings, TokenTree


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
    attended = torch.empty_like(query)
    scaled = query.float() * (query.shape[-1] ** -0.5 if scale is None else scale)
    for siblings in tree.siblings():
        of_all = _attend(scaled[siblings.tokens], keys, values, siblings, window)
        attended[siblings.tokens[siblings.is_token]] = of_all[siblings.is_token].to(query.dtype)
    return attended


def _attend(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, siblings: Siblings, window: int | None
) -> torch.Tensor:
    """Attention of R segments of L tokens to a path of P tokens that they share, and causally to themselves.

    Args:
      query: [R, L, heads, D] float32, scaled.
      keys, values: [slots, key heads, D].

    Returns:
      [R, L, heads, D] float32.
    """
    runs, longest, heads, size = query.shape
    key_heads = keys.shape[1]
    rows = longest * (heads // key_heads)
    query = query.view(runs, longest, key_heads, -1, size).permute(2, 0, 1, 3, 4)  # the heads of a key head are rows
    path, own = siblings.path, siblings.own
    # [key heads, R * rows, P], and [key heads, R, rows, L]
    to_path = query.reshape(key_heads, runs * rows, size) @ keys[path].float().permute(1, 2, 0)
    to_own = query.reshape(key_heads, runs, rows, size) @ keys[own].float().permute(2, 0, 3, 1)
    position = len(path) + torch.arange(longest, device=query.device)
    behind = position[:, None] - torch.arange(len(path) + longest, device=query.device)  # [L, P + L]
    unseen = behind < 0
    if window is not None:
        unseen |= behind >= window
    scores = torch.cat([to_path.view(key_heads, runs, rows, -1), to_own], -1).view(
        key_heads, runs, longest, -1, behind.shape[1]
    )
    weights = torch.softmax(scores.masked_fill_(unseen[:, None], -math.inf), -1).view(key_heads, runs, rows, -1)
    attended = weights[..., len(path) :] @ values[own].float().permute(2, 0, 1, 3)
    if len(path):
        of_path = weights[..., : len(path)].reshape(key_heads, runs * rows, -1) @ values[path].float().transpose(0, 1)
        attended += of_path.view(key_heads, runs, rows, size)
    return attended.view(key_heads, runs, longest, -1, size).permute(1, 2, 0, 3, 4).reshape(runs, longest, heads, size)


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
