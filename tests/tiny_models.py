"""Tiny random checkpoints, made in the tests, that read with nano's tokenizer."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedTokenizerFast

from rstar_fast import nano, steps
from rstar_fast.policies.checkpoint import load_tokenizer

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,  # far from equal probabilities
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("Qwen2", {}),
    "llama": ("Llama", {}),
    "phi3": ("Phi3", {}),
    "phi3, sliding window": ("Phi3", {"sliding_window": 12}),
    "qwen2, tied": ("Qwen2", {"tie_word_embeddings": True}),
}


@cache
def nano_tokenizer() -> Any:
    return load_tokenizer(str(nano.POLICY), "policy")


def tokenizer_without_markers(folder: Path) -> PreTrainedTokenizerFast:
    """nano's as it would be of a policy that has not seen code-augmented solutions."""
    told = json.loads((nano.POLICY / "tokenizer.json").read_text("utf-8"))
    told["added_tokens"] = [token for token in told["added_tokens"] if token["content"] not in steps.MARKERS]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plain-tokenizer.json").write_text(json.dumps(told), "utf-8")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "plain-tokenizer.json"))
    tokenizer.eos_token = tokenizer.pad_token = nano_tokenizer().eos_token
    return tokenizer


def make_policy(name: str, folder: Path, tokenizer: Any = None, **settings: Any) -> Path:
    """Writes the checkpoint of a random causal language model."""
    tokenizer = tokenizer or nano_tokenizer()
    family, own = ARCHITECTURES[name]
    torch.manual_seed(3)
    config = getattr(transformers, f"{family}Config")(**SIZES | {"vocab_size": len(tokenizer)} | own | settings)
    model = getattr(transformers, f"{family}ForCausalLM")(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
