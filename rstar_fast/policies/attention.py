"""Which of torch's attentions a model's own pass may take."""

from __future__ import annotations

from contextlib import AbstractContextManager

from torch.nn.attention import SDPBackend, sdpa_kernel


def for_changing_shapes() -> AbstractContextManager[None]:
    """All but cuDNN's, which torch takes first where there is a mask, on Hopper and later GPUs: it makes a plan for every new shape,
    half a second forward and half a second backward, and here nearly every call has a shape of its own."""
    return sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])
