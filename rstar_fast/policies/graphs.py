"""Steps of generation as CUDA graphs: of a small model on a GPU a step is mostly the calling of its operations from Python."""

from __future__ import annotations

import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable

import numpy as np
import torch
from torch import Tensor

_LOG = logging.getLogger(__name__)
_OFTEN = 6  # a shape that has come so often is captured: many never come again
_MOST = 64  # graphs kept
_MOST_BYTES = 1 << 30  # of the logits that they give: each has its own
_MOST_COUNTED = 10_000  # shapes that are counted
_ONE_AT_A_TIME = threading.Lock()  # captures in a process

Compute = Callable[[Tensor], Tensor]  # from numbers [N] int64 on the device to logits
# Of a function and numbers on the host: computes the same of as many other numbers, its result there until it is called again.
Capture = Callable[[Compute, np.ndarray], Callable[[np.ndarray], Tensor]]


class Graphs:
    """Computes steps whose shapes come again and again as one operation each; the least recently used are forgotten first.

    Args:
      capture: makes such an operation.
    """

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._cannot = False
        self.forget()

    def forget(self) -> None:
        """Lets go of all that has been captured."""
        self._came: Counter[Hashable] = Counter()
        self._captured: OrderedDict[Hashable, Callable[[np.ndarray], Tensor]] = OrderedDict()
        self._bytes: dict[Hashable, int] = {}

    def logits(self, shape: Hashable, compute: Compute, told: np.ndarray) -> Tensor | None:
        """The logits of a step, overwritten by the next; None where its shape has not come often, or cannot be captured.

        Args:
          shape: what two steps have in common that are computed by the same operations in the same memory.
          compute: computes the step.
          told: [N] int64, what it is told.
        """
        if self._cannot:
            return None
        if shape in self._captured:
            self._captured.move_to_end(shape)
            return self._captured[shape](told)
        if len(self._came) >= _MOST_COUNTED:
            self._came.clear()
        self._came[shape] += 1
        if self._came[shape] < _OFTEN:
            return None
        try:
            replay = self._capture(compute, told)
        except RuntimeError as error:  # no memory, or an operation that cannot be captured
            _LOG.warning("steps are computed operation by operation, as they cannot be captured (%s)", error)
            self._cannot = True
            self.forget()
            return None
        logits = replay(told)
        self._captured[shape], self._bytes[shape] = replay, logits.nbytes
        while len(self._captured) > 1 and (len(self._captured) > _MOST or sum(self._bytes.values()) > _MOST_BYTES):
            oldest, _ = self._captured.popitem(last=False)
            del self._bytes[oldest], self._came[oldest]
        return logits


class CudaCapture:
    """Captures CUDA graphs that share their memory: one is replayed at a time, its result used before the next.

    A step may be computed again with the same numbers: it writes the same into the same memory.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)

    def __call__(self, compute: Compute, numbers: np.ndarray) -> Callable[[np.ndarray], Tensor]:
        """As `Capture`."""
        told = torch.from_numpy(numbers).to(self._device)
        graph = torch.cuda.CUDAGraph()
        with _ONE_AT_A_TIME, torch.cuda.device(self._device):
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                compute(told)  # what an operation does when it is called for the first time cannot be captured
                # Other threads go on meanwhile: the PPM's, for one.
                graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
                try:
                    logits = compute(told)
                finally:
                    graph.capture_end()
            torch.cuda.current_stream().wait_stream(self._stream)

        def replay(numbers: np.ndarray) -> Tensor:
            told.copy_(torch.from_numpy(numbers))
            graph.replay()
            return logits

        return replay
