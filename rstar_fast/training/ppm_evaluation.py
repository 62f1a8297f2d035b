"""How well a PPM orders held-out pairs, and how far its scores are probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rstar_fast.config import PpmKind
from rstar_fast.policies.checkpoint import context_tokens, load_tokenizer
from rstar_fast.ppm import model as ppm_model
from rstar_fast.ppm.attention import check_model, hidden_states
from rstar_fast.ppm.channel import log_p
from rstar_fast.training.preferences import Group, pack, read_groups

_RESAMPLES = 2_000
_BINS = 10


@dataclass(frozen=True, slots=True)
class _Judged:
    """A group, and the logits of its branches, [M]."""

    group: Group
    rewards: np.ndarray

    @property
    def right(self) -> list[bool]:
        """Of each pair, whether the chosen one has the higher logit."""
        return [bool(self.rewards[a] > self.rewards[b]) for a, b in zip(self.group.better, self.group.worse, strict=True)]


def evaluate(
    ppm: str, heldout: str | Path, *, max_tokens: int = 2048, batch_tokens: int = 8192, seed: int = 0, device: str | None = None
) -> dict[str, Any]:
    """Measures a PPM on preference pairs of problems that it was not trained on.

    Args:
      ppm: folder or hub name.
      heldout: a dataset, as `train_ppm` takes it.
      max_tokens: pairs with a longer text are left out.
      batch_tokens: most tokens of a pass.
      seed: of the resampling.

    Returns:
      pairs: of all pairs, those of steps, those of whole solutions ("final"), and of steps by depth: `accuracy`, the share ordered
        right, with the `low` and `high` of its 95% interval by a bootstrap over problems (too narrow for few problems), and how
        many `pairs` and `problems` these are; None where there are none.
      calibration: of (1 + score) / 2 as the probability that a step is a chosen one, over the distinct steps of the pairs: ten
        `bins` with how many `steps`, their mean `probability`, and the share that was `chosen`; `error`, the mean over steps of
        the distance between the two (expected calibration error); `brier`, the mean square error.
      calibration_by_depth: the same of steps alone, by depth.
      left_out: pairs that were too long.

    Raises:
      InvalidInput: the checkpoint or the dataset is unusable.
    """
    kind = PpmKind.CHANNEL if ppm_model.reads_back(ppm) else PpmKind.HEAD
    load = ppm_model.load_channel if kind is PpmKind.CHANNEL else ppm_model.load
    model, tokenizer = load(ppm, device=device), load_tokenizer(ppm, "PPM")
    check_model(model)
    groups, left_out = read_groups(heldout, tokenizer, min(max_tokens, context_tokens(model)), kind)
    judged = [one for part in _cut(groups, batch_tokens) for one in _judge(model, part)]
    of_steps = [one for one in judged if not one.group.final]
    depths = sorted({one.group.depth for one in of_steps if one.group.depth is not None})
    by_depth = {str(depth): [one for one in of_steps if one.group.depth == depth] for depth in depths}
    scale = ppm_model.scale_of(model)
    return {
        "pairs": {
            "all": _accuracy(judged, seed),
            "steps": _accuracy(of_steps, seed),
            "final": _accuracy([one for one in judged if one.group.final], seed),
            "steps_by_depth": {depth: _accuracy(some, seed) for depth, some in by_depth.items()},
        },
        "calibration": _calibration(judged, scale),
        "calibration_by_depth": {depth: _calibration(some, scale) for depth, some in by_depth.items()},
        "left_out": left_out,
    }


def _cut(groups: Sequence[Group], batch_tokens: int) -> list[list[Group]]:
    parts: list[list[Group]] = []
    left = 0
    for group in groups:
        if group.tokens > left or not parts:
            parts.append([])
            left = batch_tokens
        parts[-1].append(group)
        left -= group.tokens
    return parts


@torch.inference_mode()
def _judge(model: Any, groups: Sequence[Group]) -> list[_Judged]:
    made = pack(groups).to(model.device)
    hidden = hidden_states(model, made.tokens, made.tree, None)
    if len(made.targets):
        logits = made.of_branches(log_p(model.get_output_embeddings()(hidden[made.before]), made.targets))
    else:
        logits = hidden[made.ends].float() @ model.score.weight[0].float()
    rewards = logits.cpu().numpy() + ppm_model.bias_in(model.config)
    parts = np.split(rewards, np.cumsum([len(group.tails) for group in groups])[:-1])
    return [_Judged(group, part) for group, part in zip(groups, parts, strict=True)]


def _accuracy(judged: Sequence[_Judged], seed: int) -> dict[str, float | int] | None:
    if not judged:
        return None
    of_problem: dict[str, list[bool]] = {}
    for one in judged:
        of_problem.setdefault(one.group.problem, []).extend(one.right)
    right, total = (np.array([count(rights) for rights in of_problem.values()]) for count in (sum, len))
    # Pairs of one problem resemble each other: problems are drawn, not pairs.
    random = np.random.default_rng(seed)
    shares = []
    for _ in range(_RESAMPLES):
        drawn = random.integers(len(total), size=len(total))
        shares.append(right[drawn].sum() / total[drawn].sum())
    low, high = np.quantile(shares, (0.025, 0.975))
    return {
        "accuracy": float(right.sum() / total.sum()),
        "low": float(low),
        "high": float(high),
        "pairs": int(total.sum()),
        "problems": len(total),
    }


def _calibration(judged: Sequence[_Judged], scale: float) -> dict[str, Any]:
    rewards = np.concatenate([one.rewards for one in judged]).astype(np.float64)
    chosen = np.concatenate([np.isin(np.arange(len(one.rewards)), one.group.better) for one in judged])
    probability = (1.0 + np.tanh(rewards / scale)) / 2.0
    at = np.minimum((probability * _BINS).astype(int), _BINS - 1)
    bins = []
    for number in range(_BINS):
        inside = at == number
        of_bin: dict[str, Any] = {"low": number / _BINS, "high": (number + 1) / _BINS, "steps": int(inside.sum())}
        if inside.any():
            of_bin |= {"probability": float(probability[inside].mean()), "chosen": float(chosen[inside].mean())}
        bins.append(of_bin)
    error = sum(b["steps"] * abs(b["probability"] - b["chosen"]) for b in bins if b["steps"]) / len(chosen)
    return {"error": float(error), "brier": float(np.mean((probability - chosen) ** 2)), "steps": len(chosen), "bins": bins}
