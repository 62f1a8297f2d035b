"""Loading checkpoints with transformers: what goes wrong is one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging

from rstar_fast.types import InvalidInput


def load_model(auto_class: Any, name: str, noun: str, device: str | None, dtype: torch.dtype | None, **settings: Any) -> Any:
    """A model in evaluation mode.

    Args:
      auto_class: e.g. AutoModelForCausalLM.
      name: folder or hub name.
      noun: what errors call it, e.g. "policy".
      device: by default "cuda" where there is one, else "cpu".
      dtype: by default bfloat16 on a GPU, float32 on a CPU.

    Raises:
      InvalidInput: there is no such checkpoint, or it cannot be read.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = dtype or (torch.float32 if device == "cpu" else torch.bfloat16)
    model = _loaded(auto_class, name, noun, dtype=dtype, **settings)
    models = model if isinstance(model, tuple) else (model,)  # with output_loading_info: (model, what was missing)
    models[0].to(device).eval()
    return model


def load_tokenizer(name: str, noun: str) -> PreTrainedTokenizerBase:
    """A checkpoint's tokenizer; errors as `load_model`."""
    return _loaded(AutoTokenizer, name, noun)


def context_tokens(model: Any) -> int:
    """The longest sequence a model takes; very large where its config does not say."""
    return int(getattr(model.config, "max_position_embeddings", None) or 1 << 30)


def _loaded(auto_class: Any, name: str, noun: str, **settings: Any) -> Any:
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InvalidInput(f"the {noun} {name!r} is a folder without config.json: give the folder of a checkpoint")
    elif folder.exists() or folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise InvalidInput(f"there is no {noun} checkpoint at {name!r}: give its folder, or a name on the Hugging Face hub")
    try:
        with quiet():
            return auto_class.from_pretrained(str(folder) if folder.is_dir() else name, **settings)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InvalidInput(
            f"the {noun} {name!r} could not be loaded: give a checkpoint's folder, or a name on the Hugging Face hub ({reason[:300]})"
        ) from error


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
