"""What the trainings of policies and PPMs share: transformers' Trainer, watched, resumed, and its weights taken out of it."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate.utils import broadcast
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from rstar_fast.config import Optimizer, PolicyTrainingConfig, PpmTrainingConfig
from rstar_fast.policies.attention import for_changing_shapes
from rstar_fast.policies.checkpoint import quiet
from rstar_fast.training.folder import TrainingFolder
from rstar_fast.training.muon import MuonAdamW
from rstar_fast.types import InvalidInput, TrainingDiverged, TrainingProgress

_Config = PolicyTrainingConfig | PpmTrainingConfig
# transformers has renamed it, and warns of the old name.
_CHECKPOINTING = next(
    name for name in ("activation_checkpointing", "gradient_checkpointing") if name in TrainingArguments.__dataclass_fields__
)
_Arguments = TypeVar("_Arguments", bound=TrainingArguments)


def arguments(kind: type[_Arguments], config: _Config, folder: Path, **own: Any) -> _Arguments:
    """A Trainer's arguments.

    Args:
      kind: TrainingArguments or a subclass of it.
      folder: where the Trainer writes its checkpoints.
      own: arguments of the kind.

    Raises:
      InvalidInput: several GPUs are visible to one process.
    """
    on_cpu = not torch.cuda.is_available()
    made = kind(
        output_dir=str(folder),
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        warmup_steps=config.warm_up,  # below 1 it is a part of all steps
        lr_scheduler_type=config.schedule.value,
        max_grad_norm=config.max_grad_norm,
        bf16=not on_cpu if config.bf16 is None else config.bf16,
        **{_CHECKPOINTING: config.gradient_checkpointing, f"{_CHECKPOINTING}_kwargs": {"use_reentrant": False}},
        seed=config.seed,
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        ddp_find_unused_parameters=False,  # all that have a gradient are used
        save_strategy="no",  # _Watch says when
        save_total_limit=2,
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would hide what TrainingDiverged is about
        report_to="none",
        disable_tqdm=True,
        **own,
    )
    if made.n_gpu > 1:
        raise InvalidInput(
            f"{made.n_gpu} GPUs are visible to one process: start it with `accelerate launch --module rstar_fast.cli ...`, "
            "or choose one with CUDA_VISIBLE_DEVICES"
        )
    if made.world_size > 1 and config.optimizer is Optimizer.MUON:
        raise InvalidInput(f"optimizer 'muon' trains in one process, and there are {made.world_size}: give 'adamw'")
    return made


def micro_steps(batch: int, device_batch: int, devices: int) -> tuple[int, int, int]:
    """How an update's rows are computed.

    Args:
      batch: rows of an update, over all devices.
      device_batch: most rows that a device computes at a time.

    Returns:
      The rows a device computes at a time, how often it does so for an update, and the rows of an update: `batch`, or the
      multiple of the devices nearest to it. These do not depend on device_batch.
    """
    of_device = max(1, round(batch / devices))
    rows = max(rows for rows in range(1, min(device_batch, of_device) + 1) if of_device % rows == 0)
    return rows, of_device // rows, of_device * devices


class Watched:
    """For a subclass of Trainer: stops at the first loss or gradient that is no number, before the weights are.

    The check waits for the device; so does the log of each update.
    """

    def training_step(self, *given: Any, **named: Any) -> torch.Tensor:
        loss = super().training_step(*given, **named)  # type: ignore[misc]
        self._check("loss", float(loss))
        return loss

    def _get_grad_norm(self, *given: Any, **named: Any) -> Any:
        norm = super()._get_grad_norm(*given, **named)  # type: ignore[misc]
        # In parts under FSDP.
        self._check("gradient", float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm))
        return norm

    def create_model_card(self, *given: Any, **named: Any) -> None:
        """TRL writes one at every checkpoint; the log and training.json say more."""

    def _check(self, what: str, number: float) -> None:
        if not math.isfinite(number):
            step, rate = self.state.global_step + 1, self.args.learning_rate  # type: ignore[attr-defined]
            raise TrainingDiverged(
                f"the {what} became {number} in update {step}: give another folder and a learning_rate below {rate:g}, or look for "
                f"bad rows; the states before it are kept in {self.args.output_dir}"  # type: ignore[attr-defined]
            )


class _Watch(TrainerCallback):
    """Logs, tells of the progress, and says when a state is to be written and that it was."""

    def __init__(self, folder: TrainingFolder, save_minutes: float, progress: TrainingProgress | None) -> None:
        self._folder, self._save_s, self._progress = folder, 60.0 * save_minutes, progress
        self._saved = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        # The last one too: the checkpoint that is written from it may need a second try.
        due = time.monotonic() - self._saved >= self._save_s or state.global_step >= state.max_steps
        if args.world_size > 1:  # clocks differ, and all take part
            due = bool(broadcast(torch.tensor(float(due), device=args.device)))
        control.should_save = due

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        args.distributed_state.wait_for_everyone()
        if state.is_world_process_zero:
            self._folder.state_is_whole(state.global_step)
        self._saved = time.monotonic()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if not state.is_world_process_zero or logs is None or "loss" not in logs:
            return
        self._folder.log({"step": state.global_step, **logs})
        if self._progress is not None:
            self._progress(state.global_step, state.max_steps, float(logs["loss"]))


def train(trainer: Trainer, folder: TrainingFolder, config: _Config, first: dict[str, Any], progress: TrainingProgress | None) -> None:
    """Trains to the end, from the last state in the folder if there is one.

    Args:
      first: the log's first line.

    Raises:
      TrainingDiverged: see Watched.
    """
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_Watch(folder, config.save_minutes, progress))
    last = folder.last_state()
    if trainer.is_world_process_zero():
        folder.begin_log(first, int(last.name.rpartition("-")[2]) if last else 0)
    trainer.args.distributed_state.wait_for_everyone()
    with warnings.catch_warnings(), for_changing_shapes():
        # PEFT says so whenever there are new tokens; their embeddings are trained and saved.
        warnings.filterwarnings("ignore", "Setting `save_embedding_layers`", UserWarning)
        trainer.train(resume_from_checkpoint=str(last) if last else None)


def optimizer_of(model: torch.nn.Module, config: _Config) -> torch.optim.Optimizer | None:
    """The optimizer that the Trainer does not make by itself."""
    if config.optimizer is not Optimizer.MUON:
        return None
    return MuonAdamW(model, config.muon_learning_rate, config.learning_rate, config.weight_decay)


def finish(
    trainer: Trainer,
    folder: TrainingFolder,
    tokenizer: PreTrainedTokenizerBase,
    make_model: Callable[[], torch.nn.Module],
    dtype: torch.dtype,
) -> None:
    """Writes the checkpoint, adapters merged, by the main process; the others wait.

    Args:
      make_model: a model as it was before the training, adapters included, on the CPU; gets the trained weights.
      dtype: of the checkpoint.
    """
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)  # all take part, where it is in parts
    if trainer.is_world_process_zero():
        model = make_model()
        trained = [name for name, weight in model.named_parameters() if weight.requires_grad]  # a tied one once
        model.load_state_dict({name: weights[name].cpu() for name in trained}, strict=False)
        if not isinstance(model, PreTrainedModel):
            model = model.merge_and_unload()
        model.to(dtype).eval()

        def save(path: Path) -> None:
            with quiet():
                model.save_pretrained(path)
                tokenizer.save_pretrained(path)

        folder.finish(save)
    trainer.args.distributed_state.wait_for_everyone()
