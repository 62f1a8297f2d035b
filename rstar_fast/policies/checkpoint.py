"""Loading checkpoints with transformers: what goes wrong is one sentence."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.utils import logging

from rstar_fast.types import InvalidInput

# What a tokenizer is called that is wholly told by its tokenizer.json.
_GENERIC_TOKENIZERS = ("TokenizersBackend", "PreTrainedTokenizerFast")
_USUAL_STEP_TOKENS = 512


def load_model(
    auto_class: Any,
    name: str,
    noun: str,
    device: str | None,
    dtype: torch.dtype | None,
    *,
    new: Collection[str] = (),
    **settings: Any,
) -> Any:
    """A model in evaluation mode, all of whose weights come from the checkpoint.

    Args:
      auto_class: e.g. AutoModelForCausalLM.
      name: folder or hub name.
      noun: what errors call it, e.g. "policy".
      device: by default "cuda" where there is one, else "cpu".
      dtype: by default bfloat16 on a GPU, float32 on a CPU.
      new: weights that the checkpoint need not have; they are random.

    Raises:
      InvalidInput: there is no such checkpoint, it cannot be read or lacks weights, or there is no such device.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = dtype or (torch.float32 if torch.device(_known(device)).type == "cpu" else torch.bfloat16)
    # transformers would make up what is missing, and say so in a warning.
    model, info = _loaded(
        auto_class.from_pretrained, name, noun, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True, **settings
    )
    lacks = [key for key in info["missing_keys"] if key not in new]
    lacks += [f"{key} of shape {list(expected)} (it has {list(found)})" for key, found, expected in info["mismatched_keys"]]
    if lacks:
        raise InvalidInput(f"the checkpoint {name!r} is no {noun}, it lacks {_listed(lacks)}: give one trained as a {noun}")
    try:
        return model.to(device).eval()
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for the device
        raise InvalidInput(f"the {noun} cannot go to device {device!r} ({_sentence(error)}): give another device") from None


def load_config(name: str, noun: str) -> PretrainedConfig:
    """What a checkpoint's config.json says; errors as `load_model`."""
    return _loaded(AutoConfig.from_pretrained, name, noun)


def load_tokenizer(name: str, noun: str) -> PreTrainedTokenizerBase:
    """A checkpoint's tokenizer; errors as `load_model`."""
    declared = _loaded(get_tokenizer_config, name, noun).get("tokenizer_class")
    # For some model types AutoTokenizer puts the rules of the type's first model in the place of those in tokenizer.json.
    auto_class = PreTrainedTokenizerFast if declared in _GENERIC_TOKENIZERS else AutoTokenizer
    tokenizer = _loaded(auto_class.from_pretrained, name, f"{noun}'s tokenizer")
    if not tokenizer("x = 1", add_special_tokens=False)["input_ids"]:  # made up where the files are missing
        raise InvalidInput(f"the {noun} {name!r} has no tokenizer: save its tokenizer into its folder")
    return tokenizer


def context_tokens(model: Any) -> int:
    """The longest sequence a model takes; very large where its config does not say."""
    return int(getattr(model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30)


def step_tokens(generation: GenerationConfig | None, asked: int | None) -> int:
    """Most tokens of a step: what was asked for, else 512, or fewer where the checkpoint's `max_new_tokens` is less.

    Raises:
      InvalidInput: less than one was asked for.
    """
    if asked is None:
        return min(_USUAL_STEP_TOKENS, getattr(generation, "max_new_tokens", None) or _USUAL_STEP_TOKENS)
    if asked < 1:
        raise InvalidInput(f"max_step_tokens={asked}: give an integer >= 1")
    return asked


def cache_argument(model: Any) -> str:
    """The name under which a model's forward takes its cache; transformers has renamed it, and warns of the old one."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def _known(device: str) -> str:
    try:
        torch.device(device)
    except RuntimeError:
        raise InvalidInput(f"device is {device!r}: give one that torch knows, e.g. 'cpu' or 'cuda:0'") from None
    return device


def _loaded(load: Callable[..., Any], name: str, noun: str, **settings: Any) -> Any:
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InvalidInput(f"the {noun} {name!r} is a folder without config.json: give the folder of a checkpoint")
    elif folder.exists() or folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise InvalidInput(f"there is no {noun} checkpoint at {name!r}: give its folder, or a name on the Hugging Face hub")
    try:
        with quiet():
            return load(str(folder) if folder.is_dir() else name, **settings)
    except Exception as error:  # safetensors, tokenizers, the hub and each model's code have exceptions of their own
        raise InvalidInput(
            f"the {noun} {name!r} could not be loaded: give a checkpoint's folder, or a name on the Hugging Face hub "
            f"({type(error).__name__}: {_sentence(error)})"
        ) from None


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _listed(names: list[str]) -> str:
    first = sorted(map(str, names))[:3]
    return ", ".join(first) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no warnings of transformers: the terminal belongs to the search."""
    verbosity, shows_progress = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shows_progress:
            logging.enable_progress_bar()
