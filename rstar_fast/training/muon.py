"""Muon: momentum whose update of each weight matrix is made orthogonal.

Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks".

Matrices of one shape are stacked, so that a step costs a few batched products instead of many small ones.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

# The quintic whose iteration drives all singular values to about 1 (same source).
_A, _B, _C = 3.4445, -4.7750, 2.0315


def has_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16: where it does not, float32 was 12 times as fast (AMD Zen 1)."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def orthogonalised(matrices: torch.Tensor, iterations: int = 5) -> torch.Tensor:
    """Moves the singular values of each matrix near 1.

    Args:
      matrices: [K, R, C] float32, none all zero.

    Returns:
      [K, R, C] in the dtype given; singular values roughly in [0.7, 1.2]. bfloat16 suffices for the iteration, where it is fast.
    """
    wide = matrices.mT if matrices.shape[1] > matrices.shape[2] else matrices
    x = wide / (wide.norm(dim=(1, 2), keepdim=True) + 1e-7)
    if matrices.device.type != "cpu" or has_bfloat16():
        x = x.bfloat16()
    for _ in range(iterations):
        gram = x @ x.mT
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    x = x.to(matrices.dtype)
    return x.mT if matrices.shape[1] > matrices.shape[2] else x


class Muon(torch.optim.Optimizer):
    """Muon for 2-D weights; embeddings, biases and norms belong to another optimizer.

    Args:
      parameters: 2-D weights.
      lr: the length of a step, relative to an orthogonal matrix.
      momentum: Nesterov momentum.
      weight_decay: decoupled, times the learning rate.
    """

    def __init__(
        self, parameters: Iterable[torch.Tensor], lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Updates every weight that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[torch.Tensor]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    by_shape.setdefault(weight.shape, []).append(weight)
            for shape, weights in by_shape.items():
                updates = torch.stack([self._momentum(weight, group["momentum"]) for weight in weights])
                updates = orthogonalised(updates)
                scale = max(1.0, shape[0] / shape[1]) ** 0.5
                for weight, update in zip(weights, updates, strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(update, alpha=-group["lr"] * scale)

    def _momentum(self, weight: torch.Tensor, momentum: float) -> torch.Tensor:
        state = self.state[weight]
        if "buffer" not in state:
            state["buffer"] = torch.zeros_like(weight)
        state["buffer"].lerp_(weight.grad, 1 - momentum)
        return torch.lerp(weight.grad, state["buffer"], momentum)


def optimizers_for(model: torch.nn.Module, muon_lr: float, adam_lr: float, weight_decay: float) -> tuple[Muon, torch.optim.AdamW]:
    """Muon for a transformer's weight matrices; AdamW, without decay, for its embeddings, norms, biases and value head."""
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_matrix = parameter.ndim == 2 and not any(part in name for part in ("embed", "lm_head", "score."))
        (matrices if is_matrix else others).append(parameter)
    return (
        Muon(matrices, lr=muon_lr, weight_decay=weight_decay),
        torch.optim.AdamW(others, lr=adam_lr, betas=(0.9, 0.98), weight_decay=0.0),
    )


class MuonAdamW(torch.optim.Optimizer):
    """Muon for a transformer's weight matrices and AdamW for the rest, as `optimizers_for`, in one optimizer with one state.

    Args:
      model: whose weights that ask for a gradient are updated.
      muon_lr, adam_lr: the lengths of their steps.
      weight_decay: of the weight matrices, times the learning rate.
    """

    def __init__(self, model: torch.nn.Module, muon_lr: float, adam_lr: float, weight_decay: float) -> None:
        self._parts = optimizers_for(model, muon_lr, adam_lr, weight_decay)
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._share()

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        self._share()

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Updates every weight that has a gradient; there is no closure."""
        for part in self._parts:
            part.step()

    def _share(self) -> None:
        """Lets the parts work on this optimizer's groups and state: a scheduler and a checkpoint see one."""
        for part, group in zip(self._parts, self.param_groups, strict=True):
            part.param_groups, part.state = [group], self.state
