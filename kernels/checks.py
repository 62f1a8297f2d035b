"""What the ops take, held alike on every device; what concerns a token tree stands in `TokenTree.check`.

Shapes: T tokens, H hidden size, M scored steps, K pairs, G groups of pairs.
"""

from __future__ import annotations

import torch


def check_value_head(
    hidden: torch.Tensor, at: torch.Tensor, weight: torch.Tensor, scale: float, bias: torch.Tensor | None
) -> None:
    """Whether the arguments of `value_head` fit each other.

    Raises:
      ValueError: they do not; says which and why.
    """
    if hidden.dim() != 2 or at.dim() != 1:
        raise ValueError(f"hidden is {list(hidden.shape)} and at {list(at.shape)}: give [tokens, hidden size] and [steps]")
    if weight.shape != hidden.shape[1:] or (bias is not None and bias.numel() != 1):
        given = "" if bias is None else f" and bias {list(bias.shape)}"
        raise ValueError(f"weight is {list(weight.shape)}{given}: give [{hidden.shape[1]} hidden size] and, if any, [1]")
    if not scale > 0:
        raise ValueError(f"scale is {scale}: give a number > 0")
    _check_one_device(hidden=hidden, at=at, weight=weight, bias=bias)


def check_pairwise_loss(
    rewards: torch.Tensor, better: torch.Tensor, worse: torch.Tensor, group: torch.Tensor, weight: torch.Tensor | None
) -> None:
    """Whether the arguments of `pairwise_loss` fit each other.

    Raises:
      ValueError: they do not; says which and why.
    """
    if rewards.dim() != 1:
        raise ValueError(f"rewards are {list(rewards.shape)}: give [steps]")
    if better.dim() != 1 or not better.shape == worse.shape == group.shape or not len(better):
        raise ValueError(
            f"better is {list(better.shape)}, worse {list(worse.shape)} and group {list(group.shape)}: "
            "give [pairs] for each, and a pair"
        )
    if weight is not None and weight.dim() != 1:
        raise ValueError(f"weight is {list(weight.shape)}: give [groups]")
    _check_one_device(rewards=rewards, better=better, worse=worse, group=group, weight=weight)


def _check_one_device(**tensors: torch.Tensor | None) -> None:
    devices = {name: tensor.device for name, tensor in tensors.items() if tensor is not None}
    if len(set(devices.values())) > 1:
        raise ValueError(", ".join(f"{name} is on {device}" for name, device in devices.items()) + ": give one device")
