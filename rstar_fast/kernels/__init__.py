"""The exports of kernels/: Triton where the tensors are on a GPU and Triton is installed, `reference` elsewhere.

Importing this package loads neither torch nor Triton; its functions load what they need when they are called.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from rstar_fast.kernels.token_tree import TokenTree

__all__ = ["pairwise_loss", "tree_attention", "value_head"]

# In a wheel the kernels lie in this folder; in a source checkout in kernels/ beside the package.
_CHECKOUT = Path(__file__).resolve().parents[2] / "kernels"
if _CHECKOUT.is_dir() and (_CHECKOUT.parent / "pyproject.toml").is_file():
    __path__.append(str(_CHECKOUT))


def tree_attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    tree: TokenTree,
    *,
    scale: float | None = None,
    window: int | None = None,
) -> torch.Tensor:
    """Attention over a token tree; see `reference.tree_attention`. On a GPU without a gradient."""
    return _for(query, "tree_attention")(query, keys, values, tree, scale=scale, window=window)


def value_head(
    hidden: torch.Tensor, at: torch.Tensor, weight: torch.Tensor, scale: float, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """The PPM's scores; see `reference.value_head`."""
    return _for(hidden, "value_head")(hidden, at, weight, scale, bias)


def pairwise_loss(
    rewards: torch.Tensor, better: torch.Tensor, worse: torch.Tensor, group: torch.Tensor, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """The loss over pairs of steps; see `reference.pairwise_loss`. On a GPU without a gradient to `weight`."""
    return _for(rewards, "pairwise_loss")(rewards, better, worse, group, weight)


def _for(tensor: torch.Tensor, name: str) -> Any:
    """An op's implementation for the tensor's device."""
    module = name if tensor.is_cuda and _is_triton_there() else "reference"
    return getattr(import_module(f"{__name__}.{module}"), name)


@cache
def _is_triton_there() -> bool:
    return find_spec("triton") is not None


class _Package(ModuleType):
    """Python binds a submodule to its name in the package when it is first imported; here such names stay the functions."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
