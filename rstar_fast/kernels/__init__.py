"""The exports of kernels/. Importing this package does not load torch; its functions are loaded when first used."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rstar_fast.kernels.reference import pairwise_loss as pairwise_loss
    from rstar_fast.kernels.reference import tree_attention as tree_attention
    from rstar_fast.kernels.reference import value_head as value_head

__all__ = ["pairwise_loss", "tree_attention", "value_head"]

# In a wheel the kernels lie in this folder; in a source checkout in kernels/ beside the package.
_CHECKOUT = Path(__file__).resolve().parents[2] / "kernels"
if _CHECKOUT.is_dir() and (_CHECKOUT.parent / "pyproject.toml").is_file():
    __path__.append(str(_CHECKOUT))


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.reference"), name)
