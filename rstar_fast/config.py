"""Settings as frozen dataclasses, to and from plain mappings (and so YAML). No I/O."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
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
    """Whose rules a search or an extraction follows."""

    DEFAULT = "default"  # as DESIGN.md, "The search, exactly"; extraction: as `rstar_fast.extract` says
    REFERENCE = "reference"  # as microsoft/rStar, its quirks included


class Choice(enum.Enum):
    """How the answer is chosen among the trajectories (over classes of equal answers)."""

    BEST_SCORE = "best_score"
    MAJORITY = "majority"
    WEIGHTED_VOTE = "weighted_vote"  # votes weighted by (1 + score) / 2
    MARGINAL_VOTE = "marginal_vote"  # votes weighted by the trajectory's share times (1 + score) / 2


class Difficulty(enum.Enum):
    """How a search fared with a problem (rStar-Math, section 3.4)."""

    EASY = "easy"  # all its trajectories are right
    MEDIUM = "medium"
    HARD = "hard"  # none is right


class DataFormat(enum.Enum):
    """How extracted data sets are written."""

    PARQUET = "parquet"
    JSONL = "jsonl"
    REFERENCE = "reference"  # the JSON that microsoft/rStar's training scripts read


class Require(enum.Enum):
    """Which of the sandbox's layers must be in force for a program to be run (`rstar-fast doctor` lists them)."""

    FULL = "full"  # all
    BASIC = "basic"  # the limits and the system-call filter; what else is missing is logged
    NONE = "none"  # whatever the system has, be it nothing but limits; what is missing is logged


class Mapped:
    """Dataclasses of settings, to and from plain mappings."""

    def replace(self, **settings: Any) -> Self:
        """A copy with some settings changed."""
        return self.from_mapping({**{f.name: getattr(self, f.name) for f in dataclasses.fields(self)}, **settings})  # type: ignore[arg-type]

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> Self:
        """Builds the config from a plain mapping, e.g. a YAML document."""
        known = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        for name in settings:
            if name not in known:
                raise InvalidInput(f"unknown {cls._called} setting {name!r}: the settings are {', '.join(sorted(known))}")
        return cls(**settings)

    def to_mapping(self) -> dict[str, Any]:
        """The plain mapping that `from_mapping` reads: enums as their names, numbers as they are."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapped):
        return value.to_mapping()
    return value.value if isinstance(value, enum.Enum) else value


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
        object.__setattr__(self, "require", _enum(Require, "require", self.require))
        for name, least in (("memory_mb", 16), ("output_chars", 2), ("scratch_mb", 1), ("snapshots", 1), ("snapshot_mb", 1)):
            check_integer(name, getattr(self, name), least)
        for name in ("timeout_s", "cpu_s"):
            value = getattr(self, name)
            if not _is_real(value) or not 0 < value < math.inf:
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
        for name, kind in (("annotation", Annotation), ("choice", Choice), ("behaviour", Behaviour)):
            object.__setattr__(self, name, _enum(kind, name, getattr(self, name)))
        if isinstance(self.sandbox, Mapping):
            object.__setattr__(self, "sandbox", SandboxConfig.from_mapping(self.sandbox))
        if not isinstance(self.sandbox, SandboxConfig):
            raise InvalidInput(f"sandbox is {self.sandbox!r}: give a SandboxConfig, or a mapping of its settings")
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
            _check_real(name, getattr(self, name))
        if not _is_real(self.first_play_urgency) or math.isnan(self.first_play_urgency):
            raise InvalidInput(f"first_play_urgency is {self.first_play_urgency!r}: give a number, or inf")
        if self.behaviour is Behaviour.REFERENCE and self.in_flight != 1:
            raise InvalidInput(f"in_flight is {self.in_flight}: the reference runs one rollout at a time, give 1")

    @classmethod
    def reference(cls, annotation: Annotation | str, **settings: Any) -> Self:
        """The search exactly as microsoft/rStar runs it, quirks included (see tests/golden/README.md)."""
        return cls.from_mapping({"annotation": annotation, "behaviour": Behaviour.REFERENCE, **settings})


@dataclass(frozen=True, kw_only=True)
class Mix(Mapped):
    """Which share of the problems of each difficulty goes into the data sets, 0 to 1 each; drawn by the problem's id."""

    _called = "mix"

    easy: float = 1.0
    medium: float = 1.0
    hard: float = 1.0

    def __post_init__(self) -> None:
        for difficulty in Difficulty:
            share = self.of(difficulty)
            if not _is_real(share) or not 0 <= share <= 1:
                raise InvalidInput(f"the mix's share of {difficulty.value} problems is {share!r}: give a number from 0 to 1")

    def of(self, difficulty: Difficulty) -> float:
        """The share of a difficulty."""
        return getattr(self, difficulty.value)


@dataclass(frozen=True, kw_only=True)
class ExtractionConfig(Mapped):
    """Settings of an extraction.

    Attributes:
      trajectories: most solutions per problem in the SFT set, >= 0.
      positives: most steps of a prefix that lead to a right answer, 1 to 2^31.
      negatives: most steps of a prefix that lead to a wrong one, 1 to 2^31.
      final_step: pair whole trajectories as well, right against wrong (rStar-Math, section 3.3).
      min_margin: least difference between the Q of a pair, 0 to 2. A positive's Q is above its negative's in any case.
      min_edit_distance: least edit distance between the texts of a pair, in characters, >= 0.
      mix: shares of easy, medium and hard problems that are kept; also given as a mapping, e.g. {"easy": 0.5}.
      format: also given by name, e.g. "jsonl".
      behaviour: DEFAULT, or REFERENCE through `ExtractionConfig.reference`.
      seed: draws the mix, >= 0.

    Raises:
      InvalidInput: a setting is out of its range or unknown; names it, the value and the range.
    """

    _called = "extraction"

    trajectories: int = 2
    positives: int = 2
    negatives: int = 2
    final_step: bool = True
    min_margin: float = 0.0
    min_edit_distance: int = 0
    mix: Mix = field(default_factory=Mix)
    format: DataFormat = DataFormat.PARQUET
    behaviour: Behaviour = Behaviour.DEFAULT
    seed: int = 0

    def __post_init__(self) -> None:
        for name, kind in (("format", DataFormat), ("behaviour", Behaviour)):
            object.__setattr__(self, name, _enum(kind, name, getattr(self, name)))
        if isinstance(self.mix, Mapping):
            object.__setattr__(self, "mix", Mix.from_mapping(self.mix))
        if not isinstance(self.mix, Mix):
            raise InvalidInput(f"mix is {self.mix!r}: give a Mix, or a mapping like {{'easy': 0.5, 'hard': 0}}")
        check_integer("trajectories", self.trajectories, 0, 2**31)
        for name in ("positives", "negatives"):
            check_integer(name, getattr(self, name), 1, 2**31)
        for name in ("min_edit_distance", "seed"):
            check_integer(name, getattr(self, name), 0, 2**62)
        if not isinstance(self.final_step, bool):
            raise InvalidInput(f"final_step is {self.final_step!r}: give true or false")
        if not _is_real(self.min_margin) or not 0 <= self.min_margin <= 2:
            raise InvalidInput(f"min_margin is {self.min_margin!r}: give a number from 0 to 2")

    @classmethod
    def reference(cls, **settings: Any) -> Self:
        """The extraction exactly as microsoft/rStar's scripts do it, quirks included (csrc/extract.h lists them)."""
        usual = {"behaviour": Behaviour.REFERENCE, "final_step": False, "min_margin": 0.5, "min_edit_distance": 20}
        return cls.from_mapping({**usual, **settings})


def _enum(kind: type[enum.Enum], name: str, value: Any) -> enum.Enum:
    try:
        return kind(value)
    except ValueError:
        names = ", ".join(repr(member.value) for member in kind)
        raise InvalidInput(f"{name} is {value!r}: give one of {names}") from None


def _is_real(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63)


def check_integer(name: str, value: Any, least: int, most: int | None = None) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InvalidInput(f"{name} is {value!r}: give an integer >= {least}")
    if most is not None and value > most:
        raise InvalidInput(f"{name} is {value!r}: give at most {most}")


def _check_real(name: str, value: Any, *, above: float | None = None) -> None:
    if not _is_real(value) or not math.isfinite(value) or (value < 0 if above is None else value <= above):
        raise InvalidInput(f"{name} is {value!r}: give a finite number {'>= 0' if above is None else f'> {above:g}'}")


def _check_flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise InvalidInput(f"{name} is {value!r}: give true or false")


class Schedule(enum.Enum):
    """How the learning rate goes down after the warm-up."""

    LINEAR = "linear"  # to 0 at the end
    COSINE = "cosine"  # to 0 at the end
    CONSTANT = "constant_with_warmup"


class Optimizer(enum.Enum):
    """What updates the weights."""

    ADAMW = "adamw"
    MUON = "muon"  # of weight matrices; AdamW of the rest: trains small models much faster, in one process


@dataclass(frozen=True, kw_only=True)
class _TrainingConfig(Mapped):
    """What trainings of policies and PPMs have in common; `PolicyTrainingConfig` says what each setting is."""

    learning_rate: float = 7e-6
    epochs: int = 2
    max_tokens: int = 2048
    batch: int = 128
    weight_decay: float = 0.0
    warm_up: float = 0.0
    schedule: Schedule = Schedule.LINEAR
    max_grad_norm: float = 1.0
    optimizer: Optimizer = Optimizer.ADAMW
    muon_learning_rate: float = 0.002
    lora: bool = False
    lora_rank: int = 64
    bf16: bool | None = None
    gradient_checkpointing: bool = False
    save_minutes: float = 15.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, kind in (("schedule", Schedule), ("optimizer", Optimizer)):
            object.__setattr__(self, name, _enum(kind, name, getattr(self, name)))
        for name in ("epochs", "max_tokens", "batch", "lora_rank"):
            check_integer(name, getattr(self, name), 1)
        check_integer("seed", self.seed, 0, 2**32 - 1)
        for name in ("learning_rate", "max_grad_norm", "muon_learning_rate"):
            _check_real(name, getattr(self, name), above=0.0)
        for name in ("weight_decay", "warm_up", "save_minutes"):
            _check_real(name, getattr(self, name))
        if self.warm_up >= 1:
            raise InvalidInput(f"warm_up is {self.warm_up!r}: give the part of the training in which the rate rises, in [0, 1)")
        for name in ("lora", "gradient_checkpointing"):
            _check_flag(name, getattr(self, name))
        if self.bf16 is not None:
            _check_flag("bf16", self.bf16)
        if self.lora and self.optimizer is Optimizer.MUON:
            raise InvalidInput("optimizer is 'muon' and lora is true: muon trains all weights, give 'adamw' or lora=False")


@dataclass(frozen=True, kw_only=True)
class PolicyTrainingConfig(_TrainingConfig):
    """How a policy is trained. The defaults are those of microsoft/rStar's training script (its README, branch rStar-math).

    Attributes:
      learning_rate: the highest, > 0.
      epochs: passes over the solutions, >= 1.
      max_tokens: longer sequences are left out, and counted; at most the policy's context is used.
      batch: solutions an update learns from, over all devices, >= 1; with packing on average.
      device_batch: rows that a device computes at a time, >= 1: bounds its memory, and changes no result.
      weight_decay: decoupled, >= 0.
      warm_up: part of the training in which the rate rises, in [0, 1).
      schedule: how it goes down then.
      max_grad_norm: gradients are scaled down to this norm, > 0.
      optimizer: "adamw", or "muon" for a small model in one process.
      muon_learning_rate: that of weight matrices under "muon", > 0; the rest has learning_rate.
      packing: rows hold several solutions, which do not see each other; changes no solution's loss.
      updates: how many in all, >= 1, whatever `epochs` says: the data comes again as often as it takes; None for `epochs`.
      mask_output: what the sandbox writes, from behind `<end_of_code>` to `<end_of_output>`, has no loss: the policy never
        writes it. The paper does not say.
      lora: train low-rank adapters of the linear layers instead of all weights; they are merged into the checkpoint.
      lora_rank: of the adapters, >= 1.
      bf16: compute in bfloat16, weights and optimizer in float32; by default on a GPU.
      gradient_checkpointing: keep less for the backward pass, and compute it again.
      save_minutes: minutes between states from which a training that was killed goes on, >= 0; 0: after each update.
      seed: of the order, and of adapters.

    Raises:
      InvalidInput: a setting is out of its range or unknown; names it, the value and the range.
    """

    _called = "policy training"

    weight_decay: float = 0.1
    device_batch: int = 4
    packing: bool = True
    updates: int | None = None
    mask_output: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("device_batch", self.device_batch, 1)
        if self.updates is not None:
            check_integer("updates", self.updates, 1)
        for name in ("packing", "mask_output"):
            _check_flag(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class PpmTrainingConfig(_TrainingConfig):
    """How a PPM is trained. The defaults are those of microsoft/rStar's training script (its README, branch rStar-math).

    The settings of `PolicyTrainingConfig` mean the same here, but for these:

    Attributes:
      batch: groups an update learns from, over all devices, >= 1. The reference has 512 pairs, and a group up to 4.
      batch_tokens: tokens that a device computes at a time, shared ones counted once, >= 1: bounds its memory, and changes no
        result. A group stays whole.
      scale: score = tanh(logit / scale), > 0.
      calibration_weight: >= 0: weight of the cross entropy of (1 + score) / 2 against "is a chosen step", which ties the score to
        0 and the pairwise loss does not; 0 is the paper's loss.

    Raises:
      InvalidInput: a setting is out of its range or unknown; names it, the value and the range.
    """

    _called = "PPM training"

    batch_tokens: int = 8192
    scale: float = 5.0
    calibration_weight: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("batch_tokens", self.batch_tokens, 1)
        _check_real("scale", self.scale, above=0.0)
        _check_real("calibration_weight", self.calibration_weight)
