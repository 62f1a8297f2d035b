"""Settings of a search, and of the sandbox that runs its steps."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from typing import Any, Self

from rstar_fast.config.base import Mapped, check_integer, check_real, is_real
from rstar_fast.types import InvalidInput

# What the counters and blocks of the C++ forest hold (csrc/node.h, arena.h).
_MOST = {"rollouts": 2**31, "candidates": 2**14, "max_depth": 60_000, "in_flight": 2**14}


class Annotation(enum.Enum):
    """Where the values of steps come from (rStar-Math, section 3.2)."""

    TERMINAL = "terminal"  # rounds 1, 2: steps start at 0, terminals are graded against the key
    PPM = "ppm"  # rounds 3, 4: steps start at their PPM score, terminals are graded against the key
    INFERENCE = "inference"  # the PPM values steps and terminals; no key is in reach

    @property
    def needs_key(self) -> bool:
        return self is not Annotation.INFERENCE

    @property
    def needs_scorer(self) -> bool:
        return self is not Annotation.TERMINAL


class Behaviour(enum.Enum):
    """Whose rules a search or an extraction follows."""

    DEFAULT = "default"  # as DESIGN.md, "The search, exactly"; extraction: as `rstar_fast.extract` says
    REFERENCE = "reference"  # as microsoft/rStar, its quirks included


class Choice(enum.Enum):
    """How the answer is chosen among the trajectories (over classes of equal answers)."""

    BEST_SCORE = "best_score"
    MAJORITY = "majority"
    WEIGHTED_VOTE = "weighted_vote"  # votes weighted by (1 + score) / 2
    MARGINAL_VOTE = "marginal_vote"  # votes weighted by the trajectory's share times (1 + score) / 2


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


@dataclass(frozen=True, kw_only=True)
class SearchConfig(Mapped):
    """Settings of one search.

    Attributes:
      annotation: where values come from; also given as its name, e.g. "terminal".
      rollouts: complete trajectories per problem, 1 to 2^31.
      candidates: steps sampled per expansion, 1 to 16384.
      max_depth: most steps in a trajectory, 1 to 60000.
      c: exploration constant of UCT, >= 0.
      max_consecutive_errors: a leaf is given up after this many proposals in a row of which every candidate failed, >= 1.
        (With the reference's behaviour: steps in a row whose code failed.)
      in_flight: rollouts in flight in one tree at a time, 1 to 16384; with 1 the result is determined by the policy's output.
      open_problems: problems searched at the same time, >= 1; their leaves share the batches.
      batch_leaves: most leaves in one call of the policy, >= 1.
      first_play_urgency: the UCT value of an unvisited child, any number, inf included.
      virtual_loss: value taken from a child per rollout in flight through it, >= 0.
      choice: how the answer is chosen at the end.
      behaviour: DEFAULT, or REFERENCE through `SearchConfig.reference`.
      sandbox: what the steps' code may use; also given as a mapping, e.g. {"timeout_s": 10, "require": "full"}.
      seed: seeds the policy when it is given by name.

    Raises:
      InvalidInput: a setting is out of its range or unknown; names it, the value and the range.
    """

    _called = "search"

    annotation: Annotation = Annotation.INFERENCE
    rollouts: int = 16
    candidates: int = 8
    max_depth: int = 16
    c: float = 2.0
    max_consecutive_errors: int = 2
    in_flight: int = 1
    open_problems: int = 64
    batch_leaves: int = 256
    first_play_urgency: float = 0.0
    virtual_loss: float = 1.0
    choice: Choice = Choice.MARGINAL_VOTE
    behaviour: Behaviour = Behaviour.DEFAULT
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        self._take(annotation=Annotation, choice=Choice, behaviour=Behaviour, sandbox=SandboxConfig)
        for name in (
            "rollouts",
            "candidates",
            "max_depth",
            "max_consecutive_errors",
            "in_flight",
            "open_problems",
            "batch_leaves",
        ):
            check_integer(name, getattr(self, name), 1, _MOST.get(name))
        check_integer("seed", self.seed, 0)
        for name in ("c", "virtual_loss"):
            check_real(name, getattr(self, name))
        if not is_real(self.first_play_urgency) or math.isnan(self.first_play_urgency):
            raise InvalidInput(f"first_play_urgency is {self.first_play_urgency!r}: give a number, or inf")
        if self.behaviour is Behaviour.REFERENCE and self.in_flight != 1:
            raise InvalidInput(f"in_flight is {self.in_flight}: the reference runs one rollout at a time, give 1")

    @classmethod
    def reference(cls, annotation: Annotation | str, **settings: Any) -> Self:
        """The search exactly as microsoft/rStar runs it, quirks included (see tests/golden/README.md)."""
        return cls.from_mapping({"annotation": annotation, "behaviour": Behaviour.REFERENCE, **settings})
