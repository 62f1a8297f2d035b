"""The PPM as a checkpoint: making one from a policy, saving, loading.

It is a Hugging Face sequence-classification model with one label, so that vLLM, transformers and TRL load it as it is. The
scale of its score stands in config.json as `ppm_scale`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from rstar_fast.policies.checkpoint import load_model, quiet
from rstar_fast.types import InvalidInput

DEFAULT_SCALE = 5.0  # the reference's


def from_policy(policy: str, *, scale: float = DEFAULT_SCALE, seed: int = 0, dtype: torch.dtype | None = torch.float32) -> PreTrainedModel:
    """A PPM whose body is a policy's and whose head is new: small random weights.

    Args:
      policy: folder or hub name of a causal language model.
      scale: score = tanh(logit / scale), > 0.
      seed: of the head's weights.

    Raises:
      InvalidInput: the checkpoint is missing or unreadable, or the scale is out of range.
    """
    if not scale > 0:
        raise InvalidInput(f"scale is {scale!r}: give a number > 0")
    model = load_model(AutoModelForSequenceClassification, policy, "policy", "cpu", dtype, num_labels=1)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model.score.weight.normal_(0.0, model.config.hidden_size**-0.5, generator=generator)
    model.config.ppm_scale = float(scale)
    model.config.pad_token_id = model.config.pad_token_id if model.config.pad_token_id is not None else 0
    return model


def load(name: str, *, device: str | None = None, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """Loads a PPM.

    Raises:
      InvalidInput: the checkpoint is missing or unreadable, has no head, or more labels than one.
    """
    model, info = load_model(
        AutoModelForSequenceClassification, name, "PPM", device, dtype, output_loading_info=True, num_labels=1, ignore_mismatched_sizes=True
    )
    if info["missing_keys"] or info["mismatched_keys"]:
        what = ", ".join(sorted(map(str, info["missing_keys"]))) or "a head of one label"
        raise InvalidInput(f"the checkpoint {name!r} is no PPM, it lacks {what}: train one with train_ppm, or give another")
    return model


def scale_of(model: PreTrainedModel) -> float:
    """The scale of a PPM's score; the reference's where its config does not say."""
    return float(getattr(model.config, "ppm_scale", DEFAULT_SCALE))


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Writes a checkpoint as a whole: a reader finds the old one or the new one, never half of one."""
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        with quiet():
            model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
            os.replace(folder, old)
            os.replace(partial, folder)
            shutil.rmtree(old)
        else:
            os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
