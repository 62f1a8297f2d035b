"""The layers that hold a program in, by name: what a report on a machine's sandbox speaks of."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


class Layer(enum.Enum):
    """What holds a program in; the value says what it does."""

    LIMITS = "limits on memory, processor time, file sizes and descriptors; the wall clock ends what takes too long"
    FILTER = "system-call filter: what is not on its list is refused, such as sockets, programs and other processes"
    SUPERVISION = "a supervisor decides about each fork, thread and signal; the states of steps can be kept"
    LANDLOCK = "Landlock: only Python, its libraries and the scratch folder can be opened; no TCP, no signals to others"
    USER = "user namespace: no privilege of the caller's"
    FILES = "mount namespace: only Python and its libraries are there, read-only, and a scratch folder in memory"
    PROCESSES = "process namespace: no other process can be named"
    NETWORK = "network namespace: there is none"
    IPC = "IPC namespace: shared memory and queues of its own"
    CAPABILITIES = "no capabilities"


# Without these no program is run unless that is asked for.
BASIC = (Layer.LIMITS, Layer.FILTER)


@dataclass(frozen=True)
class Confinement:
    """What holds programs in on this machine.

    Attributes:
      missing: the layers that are not in force, each with the reason.
    """

    missing: Mapping[Layer, str]

    @property
    def in_force(self) -> list[Layer]:
        return [layer for layer in Layer if layer not in self.missing]

    def lacks(self, required: Iterable[Layer]) -> list[Layer]:
        """What is missing of what is required."""
        return [layer for layer in required if layer in self.missing]

    def __str__(self) -> str:
        layers: dict[str, list[str]] = {}
        for layer, reason in self.missing.items():
            layers.setdefault(reason, []).append(layer.name)
        missing = ", ".join(f"{', '.join(names)} ({reason})" for reason, names in layers.items())
        return f"missing: {missing or 'nothing'}; in force: {', '.join(layer.name for layer in self.in_force) or 'nothing'}"
