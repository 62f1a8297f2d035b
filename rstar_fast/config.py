"""Settings as frozen dataclasses, to and from plain mappings (and so YAML). No I/O."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

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
    """Whose search is run."""

    DEFAULT = "default"  # as DESIGN.md, "The search, exactly"
    REFERENCE = "reference"  # node by node as microsoft/rStar, its quirks included


class Choice(enum.Enum):
    """How the answer is chosen among the trajectories (over classes of equal answers)."""

    BEST_SCORE = "best_score"
    MAJORITY = "majority"
    WEIGHTED_VOTE = "weighted_vote"  # votes weighted by (1 + score) / 2
    MARGINAL_VOTE = "marginal_vote"  # votes weighted by the trajectory's share times (1 + score) / 2


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
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
      seed: seeds the policy when it is given by name.

    Raises:
      InvalidInput: a setting is out of its range or unknown; names it, the value and the range.
    """

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
    seed: int = 0

    def __post_init__(self) -> None:
        for name, kind in (("annotation", Annotation), ("choice", Choice), ("behaviour", Behaviour)):
            object.__setattr__(self, name, _enum(kind, name, getattr(self, name)))
        for name in (
            "rollouts",
            "candidates",
            "max_depth",
            "max_consecutive_errors",
            "in_flight",
            "open_problems",
            "batch_leaves",
        ):
            _check_integer(name, getattr(self, name), 1, _MOST.get(name))
        _check_integer("seed", self.seed, 0)
        for name in ("c", "virtual_loss"):
            value = getattr(self, name)
            if not _is_real(value) or not math.isfinite(value) or value < 0:
                raise InvalidInput(f"{name} is {value!r}: give a finite number >= 0")
        if not _is_real(self.first_play_urgency) or math.isnan(self.first_play_urgency):
            raise InvalidInput(f"first_play_urgency is {self.first_play_urgency!r}: give a number, or inf")
        if self.behaviour is Behaviour.REFERENCE and self.in_flight != 1:
            raise InvalidInput(f"in_flight is {self.in_flight}: the reference runs one rollout at a time, give 1")

    @classmethod
    def reference(cls, annotation: Annotation | str, **settings: Any) -> Self:
        """The search exactly as microsoft/rStar runs it, quirks included (see tests/golden/README.md)."""
        return cls.from_mapping({"annotation": annotation, "behaviour": Behaviour.REFERENCE, **settings})

    def replace(self, **settings: Any) -> Self:
        """A copy with some settings changed."""
        return self.from_mapping({**{f.name: getattr(self, f.name) for f in dataclasses.fields(self)}, **settings})

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> Self:
        """Builds the config from a plain mapping, e.g. a YAML document."""
        known = {f.name for f in dataclasses.fields(cls)}
        for name in settings:
            if name not in known:
                raise InvalidInput(f"unknown search setting {name!r}: the settings are {', '.join(sorted(known))}")
        return cls(**settings)

    def to_mapping(self) -> dict[str, Any]:
        """The plain mapping that `from_mapping` reads: enums as their names, numbers as they are."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: value.value if isinstance(value, enum.Enum) else value for name, value in values.items()}


def _enum(kind: type[enum.Enum], name: str, value: Any) -> enum.Enum:
    try:
        return kind(value)
    except ValueError:
        names = ", ".join(repr(member.value) for member in kind)
        raise InvalidInput(f"{name} is {value!r}: give one of {names}") from None


def _is_real(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63)


def _check_integer(name: str, value: Any, least: int, most: int | None = None) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InvalidInput(f"{name} is {value!r}: give an integer >= {least}")
    if most is not None and value > most:
        raise InvalidInput(f"{name} is {value!r}: give at most {most}")
