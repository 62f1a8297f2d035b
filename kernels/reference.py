"""Every op of this folder in plain torch: the CPU's path, the tests' oracle, the benchmarks' baseline.

Shapes: B sequences, L positions, H hidden size, M scored steps, K pairs, G groups of pairs.
"""

from __future__ import annotations

import torch


def value_head(hidden: torch.Tensor, last: torch.Tensor, weight: torch.Tensor, scale: float) -> torch.Tensor:
    """The PPM's score: tanh(w . h / scale) at the last token of each sequence (rStar-Math, section 3.3).

    Args:
      hidden: [B, L, H], any float dtype.
      last: [B] int64, position of each sequence's last token.
      weight: [H].
      scale: > 0; the reference uses 5.

    Returns:
      [B] float32 in (-1, 1), computed in float32.
    """
    at_last = hidden[torch.arange(len(last), device=hidden.device), last]
    return torch.tanh(at_last.float() @ weight.float() / scale)


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
    """
    losses = -torch.nn.functional.logsigmoid(rewards[better].float() - rewards[worse].float())
    groups = int(group.max()) + 1
    counts = torch.bincount(group, minlength=groups)
    means = torch.zeros(groups, device=losses.device).index_add(0, group, losses) / counts
    if weight is None:
        return means.mean()
    return (means * weight).sum() / weight.sum()
