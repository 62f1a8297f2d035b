"""Steps of generation as CUDA graphs: of a small model on a GPU a step is mostly the calling of its operations from Python."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable

import numpy as np
import torch
from torch import Tensor

_LOG = logging.getLogger(__name__)
_OFTEN = 6  # a shape that has come so often is captured: many never come again
_MOST = 64  # graphs kept

# Takes a function from numbers [N] int64 on the device to logits, and N; gives one that computes the same of numbers on the host.
Capture = Callable[[Callable[[Tensor], Tensor], int], Callable[[np.ndarray], Tensor]]


class Graphs:
    """Computes steps of shapes that come again and again as one operation each.

    Args:
      capture: makes such an operation.
    """

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._came: Counter[Hashable] = Counter()
        self._captured: dict[Hashable, Callable[[np.ndarray], Tensor]] = {}

    def has(self, shape: Hashable, compute: Callable[[Tensor], Tensor], count: int) -> bool:
        """Whether steps of this shape can be computed by `logits`; those that cannot are counted.

        Args:
          shape: what two steps have in common that are computed by the same operations in the same memory.
          compute: from numbers [count] int64 to logits.
        """
        if shape in self._captured:
            return True
        self._came[shape] += 1
        if self._came[shape] < _OFTEN or len(self._captured) >= _MOST:
            return False
        try:
            self._captured[shape] = self._capture(compute, count)
        except RuntimeError as error:  # no memory, or an operation that cannot be captured
            _LOG.warning("steps are computed operation by operation, as they cannot be captured (%s)", error)
            self._captured.clear()
            self._came.clear()
            self.has = lambda *_: False  # type: ignore[method-assign]
            return False
        return True

    def logits(self, shape: Hashable, told: np.ndarray) -> Tensor:
        """The logits of a step; they are there until the next."""
        return self._captured[shape](told)


class CudaCapture:
    """Captures CUDA graphs that share their memory: one is replayed at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, compute: Callable[[Tensor], Tensor], count: int) -> Callable[[np.ndarray], Tensor]:
        """As `Capture`."""
        told = torch.zeros(count, dtype=torch.int64, device=self._device)
        graph = torch.cuda.CUDAGraph()
        # Other threads go on meanwhile: the PPM's, for one.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            logits = compute(told)

        def replay(numbers: np.ndarray) -> Tensor:
            told.copy_(torch.from_numpy(numbers))
            graph.replay()
            return logits

        return replay
