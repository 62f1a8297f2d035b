"""Reads the PPMs of microsoft/rStar: a causal language model with a value head beside its weights, or among them.

Its scorer (rstar_deepthink/llms/rm.py) reads the head from `value_head.bin`, as v_head.summary.weight and .bias; its training, by
TRL's AutoModelForCausalLMWithValueHead, leaves the same names among the weights. The head is linear, with a dropout that scoring
does not apply. Nothing of a checkpoint is run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from rstar_fast.policies.checkpoint import load_tokenizer, quiet
from rstar_fast.ppm.model import DEFAULT_SCALE, check_scale, save
from rstar_fast.types import InvalidInput

_HEAD_FILES = ("value_head.bin", "value_head.safetensors")
_WRAPPERS = ("module.", "pretrained_model.")  # of distributed training and of TRL
_WEIGHT, _BIAS = "summary.weight", "summary.bias"


def from_reference(source: str | Path, out: str | Path, *, scale: float = DEFAULT_SCALE) -> Path:
    """Writes a reference's PPM as one of ours.

    Args:
      source: folder with config.json, tokenizer, weights (safetensors or bin, in one file or several) and a value head.
      out: folder of the checkpoint. Its head is the reference's; what the head adds to each logit, which transformers' heads
        cannot, stands in config.json as `ppm_bias`, and our scorers add it.
      scale: score = tanh(logit / scale); the reference's is 5.

    Returns:
      `out`.

    Raises:
      InvalidInput: there is no such checkpoint, it has no value head or two that differ, or it does not fit its config.
    """
    check_scale(scale)
    folder = Path(source)
    if not (folder / "config.json").is_file():
        raise InvalidInput(f"{folder} has no config.json: give the folder of a reference's PPM")
    weights = {_unwrapped(name): weight for path in _weight_files(folder) for name, weight in _read(path).items()}
    weight, bias = _head(folder, weights)
    with quiet():
        config = AutoConfig.from_pretrained(str(folder), num_labels=1)
        config.ppm_scale, config.ppm_bias = float(scale), bias
        try:
            model = AutoModelForSequenceClassification.from_config(config, dtype=config.dtype or weight.dtype)
        except ValueError as error:  # no such model with a head
            raise InvalidInput(f"{folder} cannot be a PPM: {' '.join(str(error).split())[:300]}") from None
    _load(model, weights, weight, folder)
    if model.config.pad_token_id is None:
        model.config.pad_token_id = 0
    save(model.eval(), load_tokenizer(str(folder), "PPM"), Path(out))
    return Path(out)


def _weight_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        raise InvalidInput(
            f"{folder} has neither model*.safetensors nor pytorch_model*.bin: give the folder of a reference's PPM"
        )
    return files


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each format has exceptions of its own
        raise InvalidInput(f"{path} cannot be read ({' '.join(str(error).split())[:200]}): give weights only, whole") from None


def _unwrapped(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    return name


def _head(folder: Path, weights: dict[str, torch.Tensor]) -> tuple[torch.Tensor, float]:
    """Takes the head out of the weights, or out of its own file: [1, hidden size], and what it adds."""
    found = []
    inside = {name: weights.pop(name) for name in list(weights) if name.startswith("v_head.")}
    beside = [_read(folder / name) for name in _HEAD_FILES if (folder / name).is_file()]
    for state in (inside, *beside):
        if state:
            plain = {_unwrapped(name).removeprefix("v_head."): weight for name, weight in state.items()}
            if _WEIGHT not in plain or plain[_WEIGHT].dim() != 2 or len(plain[_WEIGHT]) != 1:
                raise InvalidInput(
                    f"the value head of {folder} has {', '.join(sorted(state))}: give one with v_head.{_WEIGHT} of one row"
                )
            found.append((plain[_WEIGHT], float(plain[_BIAS]) if _BIAS in plain else 0.0))
    if not found:
        raise InvalidInput(f"{folder} has no value head: give one with value_head.bin, or with v_head.* among its weights")
    for weight, bias in found[1:]:
        if not torch.equal(weight.float(), found[0][0].float()) or bias != found[0][1]:
            raise InvalidInput(
                f"{folder} has v_head.* among its weights and another head in a file of its own: remove the one that was not trained"
            )
    return found[0]


def _load(model: Any, weights: dict[str, torch.Tensor], head: torch.Tensor, folder: Path) -> None:
    own = model.state_dict()
    given = {name: weight for name, weight in weights.items() if not name.startswith("lm_head.")} | {"score.weight": head}
    lacking = [name for name in own if name not in given]
    unknown = [name for name in given if name not in own and not name.endswith("rotary_emb.inv_freq")]
    wrong = [name for name in own if name in given and own[name].shape != given[name].shape]
    for names, what in (
        (lacking, "lacks"),
        (unknown, "has the unknown weights"),
        (wrong, "has weights of other shapes than its config says:"),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise InvalidInput(
                f"{folder} {what} {', '.join(names[:3])}{more}: give the folder of a reference's PPM, as it was saved"
            )
    model.load_state_dict({name: given[name] for name in own})
