"""What the launchers of the Triton kernels share."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import triton

# Multiply and add in one instruction. Said, because Triton 3.9 warns where it is not, and 3.10 will not do it unasked.
FUSED = {"enable_fp_fusion": True}


def on_device_of(tensor: torch.Tensor) -> AbstractContextManager[object]:
    """Triton launches on the current device: makes it the tensor's."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def interpreting() -> bool:
    """Whether kernels run in Triton's interpreter, on the CPU (TRITON_INTERPRET=1)."""
    return triton.knobs.runtime.interpret
