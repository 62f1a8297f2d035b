"""Settings of the trainings of policies and PPMs."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from rstar_fast.config.base import Mapped, check_flag, check_integer, check_real, is_real
from rstar_fast.types import InvalidInput


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

    # May differ when a training goes on; not a field: it has no annotation.
    changes_no_result = ("save_minutes", "gradient_checkpointing")

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
        self._take(schedule=Schedule, optimizer=Optimizer)
        for name in ("epochs", "max_tokens", "batch", "lora_rank"):
            check_integer(name, getattr(self, name), 1)
        check_integer("seed", self.seed, 0, 2**32 - 1)
        for name in ("learning_rate", "max_grad_norm", "muon_learning_rate"):
            check_real(name, getattr(self, name), above=0.0)
        for name in ("weight_decay", "warm_up", "save_minutes"):
            check_real(name, getattr(self, name))
        if self.warm_up >= 1:
            raise InvalidInput(f"warm_up is {self.warm_up!r}: give the part of the training in which the rate rises, in [0, 1)")
        for name in ("lora", "gradient_checkpointing"):
            check_flag(name, getattr(self, name))
        if self.bf16 is not None:
            check_flag("bf16", self.bf16)
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
    changes_no_result = (*_TrainingConfig.changes_no_result, "device_batch")

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
            check_flag(name, getattr(self, name))


class PpmKind(enum.Enum):
    """What the reward r of a PPM is."""

    HEAD = "head"  # a linear head over the last token's hidden state, as in rStar-Math
    CHANNEL = "channel"  # log p(question | solution) of a causal language model, see ppm/channel.py


@dataclass(frozen=True, kw_only=True)
class PpmTrainingConfig(_TrainingConfig):
    """How a PPM is trained. The defaults are those of microsoft/rStar's training script (its README, branch rStar-math).

    The settings of `PolicyTrainingConfig` mean the same here, but for these:

    Attributes:
      batch: groups an update learns from, over all devices, >= 1. The reference has 512 pairs, and a group up to 4.
      batch_tokens: tokens that a device computes at a time, shared ones counted once, >= 1: bounds its memory, and changes no
        result. A group stays whole.
      kind: what the reward is; also given by name, e.g. "channel".
      scale: score = tanh((logit + bias) / scale), > 0.
      bias: finite; of a head, which learns what to add, 0.
      reading_weight: >= 0: of the kind "channel" weight of the cross entropy of the question's tokens, given each chosen step and each
        solution, against the pairwise loss; without it nothing keeps the model one of language.
      calibration_weight: >= 0: weight of the cross entropy of (1 + score) / 2 against "is a chosen step", which ties the score to
        0 and the pairwise loss does not; 0 is the paper's loss.

    Raises:
      InvalidInput: a setting is out of its range or unknown; names it, the value and the range.
    """

    _called = "PPM training"
    changes_no_result = (*_TrainingConfig.changes_no_result, "batch_tokens")

    batch_tokens: int = 8192
    kind: PpmKind = PpmKind.HEAD
    scale: float = 5.0
    bias: float = 0.0
    reading_weight: float = 1.0
    calibration_weight: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("batch_tokens", self.batch_tokens, 1)
        self._take(kind=PpmKind)
        check_real("scale", self.scale, above=0.0)
        check_real("reading_weight", self.reading_weight)
        if not is_real(self.bias) or not math.isfinite(self.bias):
            raise InvalidInput(f"bias is {self.bias!r}: give a finite number")
        if self.kind is PpmKind.HEAD and self.bias:
            raise InvalidInput(f"bias is {self.bias!r}: it is of the kind 'channel', leave it out")
        check_real("calibration_weight", self.calibration_weight)
