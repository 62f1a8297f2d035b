"""The PPM as a checkpoint: making one from a policy, saving, loading.

It is a Hugging Face sequence-classification model with one label, so that vLLM, transformers and TRL load it as it is; or, where
config.json has the `ppm_kind` "channel", a causal language model that reads questions back (channel.py). The scale of its score
stands in config.json as `ppm_scale`. So does `ppm_bias`, which is added to the logit: a head of transformers has none, but the
reference's does (see convert.py). It cancels in preferences.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from rstar_fast.policies.checkpoint import load_config, load_model, quiet
from rstar_fast.policies.saving import replaced
from rstar_fast.types import InvalidInput

DEFAULT_SCALE = 5.0  # the reference's


def from_policy(
    policy: str, *, scale: float = DEFAULT_SCALE, seed: int = 0, dtype: torch.dtype | None = torch.float32
) -> PreTrainedModel:
    """A PPM whose body is a policy's and whose head is new: small random weights.

    Args:
      policy: folder or hub name of a causal language model.
      scale: score = tanh(logit / scale), > 0.
      seed: of the head's weights.

    Raises:
      InvalidInput: the checkpoint is missing or unreadable, or the scale is out of range.
    """
    check_scale(scale)
    model = load_model(AutoModelForSequenceClassification, policy, "policy", "cpu", dtype, new=["score.weight"], num_labels=1)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model.score.weight.normal_(0.0, model.config.hidden_size**-0.5, generator=generator)
    model.config.ppm_kind, model.config.ppm_scale = "head", float(scale)
    model.config.pad_token_id = model.config.pad_token_id if model.config.pad_token_id is not None else 0
    return model


def channel_from_policy(
    policy: str, *, scale: float = DEFAULT_SCALE, bias: float = 0.0, dtype: torch.dtype | None = torch.float32
) -> PreTrainedModel:
    """A PPM that reads the question back, with all weights of a policy, or of another such PPM.

    Args:
      scale, bias: score = tanh((log p + bias) / scale), see channel.py.

    Raises:
      InvalidInput: as `load_channel`, or a number is out of range.
    """
    model = load_channel(policy, device="cpu", dtype=dtype)
    model.config.ppm_kind, model.config.ppm_scale, model.config.ppm_bias = "channel", check_scale(scale), check_bias(bias)
    return model


def load(name: str, *, device: str | None = None, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """Loads a PPM.

    Raises:
      InvalidInput: the checkpoint is missing or unreadable, has no head, or more labels than one.
    """
    model = load_model(AutoModelForSequenceClassification, name, "PPM", device, dtype, num_labels=1)
    scale_of(model)
    bias_in(model.config)
    return model


def load_channel(name: str, *, device: str | None = None, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """Loads a PPM that reads the question back; see channel.py.

    Raises:
      InvalidInput: the checkpoint is missing or unreadable, no causal language model, or one whose logits are more than its head's.
    """
    model = load_model(AutoModelForCausalLM, name, "PPM", device, dtype)
    for setting in ("logit_scale", "logits_scaling", "final_logit_softcapping"):
        if getattr(model.config, setting, None) not in (None, 1, 1.0):
            raise InvalidInput(f"the PPM {name!r} changes the logits of its head ({setting}): give one of another architecture, such as Qwen2 or Llama")
    scale_of(model)
    bias_in(model.config)
    return model


def reads_back(name: str) -> bool:
    """Whether a checkpoint is a PPM of the kind "channel": `ppm_kind` in its config.json says so. Errors as `load`."""
    return is_channel(load_config(name, "PPM"))


def is_channel(config: Any) -> bool:
    """Whether a PPM's config.json has the `ppm_kind` "channel"; "head" where it does not say."""
    return getattr(config, "ppm_kind", "head") == "channel"


def scale_of(model: PreTrainedModel) -> float:
    """The scale of a PPM's score; as `scale_in`."""
    return scale_in(model.config)


def scale_in(config: Any) -> float:
    """The scale of the score in a PPM's config.json, `ppm_scale`; the reference's where it does not say.

    Raises:
      InvalidInput: the config's is no number > 0.
    """
    return check_scale(getattr(config, "ppm_scale", DEFAULT_SCALE))


def bias_in(config: Any) -> float:
    """What is added to the logit, `ppm_bias` in a PPM's config.json; 0 where it does not say.

    Raises:
      InvalidInput: the config's is no finite number.
    """
    return check_bias(getattr(config, "ppm_bias", 0.0))


def check_bias(bias: Any) -> float:
    """A bias, if it is one.

    Raises:
      InvalidInput: it is no finite number.
    """
    if not isinstance(bias, int | float) or isinstance(bias, bool) or not math.isfinite(bias):
        raise InvalidInput(f"the PPM's bias is {bias!r}: give a finite number")
    return float(bias)


def check_scale(scale: Any) -> float:
    """A scale, if it is one.

    Raises:
      InvalidInput: it is no number > 0.
    """
    if not isinstance(scale, int | float) or isinstance(scale, bool) or not 0 < scale < math.inf:
        raise InvalidInput(f"the PPM's scale is {scale!r}: give a number > 0")
    return float(scale)


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Writes a checkpoint as a whole, as `saving.replaced` does; errors as there."""
    with replaced(folder) as partial, quiet():
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
