"""Settings of the sandbox that runs the code of steps."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from rstar_fast.config.base import Mapped, check_integer, is_real
from rstar_fast.types import InvalidInput


class Require(enum.Enum):
    """Which of the sandbox's layers must be in force for a program to be run (`rstar-fast doctor` lists them)."""

    FULL = "full"  # all
    BASIC = "basic"  # the limits and the system-call filter; what else is missing is logged
    NONE = "none"  # whatever the system has, be it nothing but limits; what is missing is logged


@dataclass(frozen=True, kw_only=True)
class SandboxConfig(Mapped):
    """What the code of a step may use, and how its states are kept.

    Attributes:
      timeout_s: wall-clock seconds of a step, > 0.
      cpu_s: processor seconds of a step over all its threads, counted in whole seconds, > 0.
      memory_mb: MiB of memory of a solution's steps together, beyond what the loaded libraries take, >= 16.
      output_chars: bytes of UTF-8 output that are kept; more is cut in the middle; >= 2.
      scratch_mb: MiB of files that a step may write, into its own scratch folder, >= 1.
      snapshots: states of steps that a worker keeps, >= 1; beyond, those used longest ago are made anew when they are needed.
      snapshot_mb: MiB that those of a worker may take together, >= 1.
      require: which layers of confinement must be in force; also given by name, e.g. "full".

    Raises:
      InvalidInput: a setting is out of its range or unknown; names it, the value and the range.
    """

    _called = "sandbox"  # not a field: it has no annotation

    timeout_s: float = 5.0
    cpu_s: float = 5.0
    memory_mb: int = 512
    output_chars: int = 4096
    scratch_mb: int = 16
    snapshots: int = 64
    snapshot_mb: int = 512
    require: Require = Require.BASIC

    def __post_init__(self) -> None:
        self._take(require=Require)
        for name, least in (("memory_mb", 16), ("output_chars", 2), ("scratch_mb", 1), ("snapshots", 1), ("snapshot_mb", 1)):
            check_integer(name, getattr(self, name), least)
        for name in ("timeout_s", "cpu_s"):
            value = getattr(self, name)
            if not is_real(value) or not 0 < value < math.inf:
                raise InvalidInput(f"{name} is {value!r}: give a number of seconds > 0")
