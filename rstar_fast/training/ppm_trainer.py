"""transformers' Trainer over token trees of preference pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, linear
from transformers import PreTrainedModel, Trainer, TrainingArguments

from rstar_fast import kernels
from rstar_fast.config import PpmKind, PpmTrainingConfig
from rstar_fast.ppm.attention import inputs
from rstar_fast.ppm.channel import log_p
from rstar_fast.training import trainer as shared
from rstar_fast.training.models import with_adapters
from rstar_fast.training.preferences import Group, Pack, pack

if TYPE_CHECKING:
    from peft import LoraConfig


class PpmTrainer(shared.Watched, Trainer):
    """Trains a PPM; on a GPU the attention over trees is the torch one, since Triton's has no backward.

    Args:
      model: the PPM, which is `attending` while it is trained.
      lora: adapters to train instead of all its weights.
      groups: the pairs.
      packs: which of them are computed together; see `preferences.plan`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        lora: LoraConfig | None,
        groups: Sequence[Group],
        packs: Sequence[Sequence[int]],
        config: PpmTrainingConfig,
        arguments: TrainingArguments,
    ) -> None:
        self._groups, self._config = groups, config
        self._ends = self._rewards = None
        super().__init__(
            with_adapters(model, lora, config.seed),
            arguments,
            train_dataset=packs,  # type: ignore[arg-type]
            data_collator=self._collate,
            optimizers=(shared.optimizer_of(model, config), None),
        )
        # The Trainer counts the labels of an update's packs over all devices: here a label for each group.
        self.model_accepts_loss_kwargs, self._loss_shifts_labels = True, False
        if config.kind is PpmKind.CHANNEL:
            return
        self._head = model.score
        # In the forward of whatever wraps the model, where it has all its weights.
        self._head.register_forward_hook(self._keep_rewards)

    def _collate(self, packs: list[list[int]]) -> dict[str, Any]:
        made = pack([self._groups[at] for at in packs[0]])
        return {"pack": made, "labels": torch.zeros(made.groups)}

    def compute_loss(
        self, model: torch.nn.Module, given: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """The pack's share of the loss of its update: the sum of its groups' losses over the groups of the update."""
        assert num_items_in_batch is not None and not return_outputs
        made: Pack = given["pack"].to(self.args.device)
        loss = torch.zeros((), device=self.args.device)
        if self._config.kind is PpmKind.CHANNEL:
            logits = model(**inputs(made.tokens, made.tree, None), logits_to_keep=made.before).logits[0]
            log_ps = log_p(logits, made.targets)
            rewards = made.of_branches(log_ps)
            loss = loss + self._config.reading_weight * _reading_loss(log_ps, made)
        else:
            self._ends = made.ends
            model(**inputs(made.tokens, made.tree, None))
            rewards, self._rewards = self._rewards, None
        if len(made.group):
            pairs = kernels.pairwise_loss(rewards, made.better, made.worse, made.group)
            if self._config.calibration_weight:
                pairs = pairs + self._config.calibration_weight * _calibration_loss(rewards + self._config.bias, made, self._config.scale)
            loss = loss + pairs * made.groups_of_pairs
        # The gradients of devices are averaged.
        return loss / num_items_in_batch * self.accelerator.num_processes

    def _keep_rewards(self, head: torch.nn.Module, given: tuple[torch.Tensor, ...], logits: torch.Tensor) -> None:
        """Keeps the logits of the branches' ends, [M] float32: in bfloat16, near each other, they would be equal."""
        trained = getattr(head, "modules_to_save", None)  # of PEFT
        weight = (head if trained is None else trained[head.active_adapter]).weight  # type: ignore[index]
        with torch.autocast(logits.device.type, enabled=False):
            self._rewards = linear(given[0][0, self._ends].float(), weight.float())[:, 0]


def _calibration_loss(rewards: torch.Tensor, made: Pack, scale: float) -> torch.Tensor:
    """Mean over groups of the mean cross entropy of (1 + tanh(r / scale)) / 2 = sigmoid(2 r / scale) over its branches."""
    chosen = torch.zeros_like(rewards)
    chosen[made.better] = 1.0
    losses = binary_cross_entropy_with_logits(2.0 / scale * rewards, chosen, reduction="none")
    judged = torch.zeros_like(rewards)
    judged[made.better] = judged[made.worse] = 1.0
    return _means(losses, judged, made.branch_group, made.groups).sum() / made.groups_of_pairs


def _reading_loss(log_ps: torch.Tensor, made: Pack) -> torch.Tensor:
    """Sum over groups of the mean cross entropy of the questions' tokens behind chosen steps, and behind solutions without a pair."""
    read = torch.ones(len(made.ends), device=log_ps.device)
    read[made.worse] = 0.0
    read[made.better] = 1.0
    return _means(-log_ps, read[made.branch], made.branch_group[made.branch], made.groups).sum()


def _means(values: torch.Tensor, counted: torch.Tensor, group: torch.Tensor, groups: int) -> torch.Tensor:
    """[groups]: of each group the mean of those of its values that are counted (1, else 0); 0 where none is."""
    sums, counts = (torch.zeros(groups, device=values.device).index_add(0, group, of) for of in (values * counted, counted))
    return sums / counts.clamp(min=1.0)
