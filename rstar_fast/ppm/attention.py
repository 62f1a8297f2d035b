"""A decoder of transformers over token trees: its attention reads keys and values from a pool that outlives the pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedModel

from rstar_fast import kernels
from rstar_fast.kernels.token_tree import TokenTree
from rstar_fast.types import InvalidInput

_NAME = "rstar_token_tree"


class KeyValuePool:
    """Keys and values of scored tokens, of every layer; memory is taken when a layer first asks for it.

    Args:
      pages: how many.
      page_tokens: tokens of a page.
    """

    def __init__(self, pages: int, page_tokens: int) -> None:
        self._shape = pages, page_tokens
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def put(self, layer: int, key: torch.Tensor, value: torch.Tensor, slots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keeps keys and values, [T, key heads, head size]; returns the layer's, [pages, page tokens, key heads, head size]."""
        if layer not in self._layers:
            self._layers[layer] = key.new_empty(*self._shape, *key.shape[1:]), value.new_empty(*self._shape, *value.shape[1:])
        keys, values = self._layers[layer]
        keys.flatten(0, 1)[slots] = key
        values.flatten(0, 1)[slots] = value
        return keys, values

    def free(self) -> None:
        """Gives back all memory; what was kept is lost."""
        self._layers.clear()


@dataclass(frozen=True, slots=True)
class _Pass:
    """What the attention of one forward pass needs besides the layer's query, key and value."""

    tree: TokenTree
    pool: KeyValuePool


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    token_tree: _Pass,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """As transformers calls it: query [1, heads, T, head size]; returns [1, T, heads, head size]."""
    tree = token_tree.tree
    keys, values = token_tree.pool.put(module.layer_idx, key[0].transpose(0, 1), value[0].transpose(0, 1), tree.slots)  # type: ignore[arg-type]
    attended = kernels.tree_attention(query[0].transpose(0, 1), keys, values, tree, scale=scaling, window=sliding_window)
    return attended[None], None


AttentionInterface.register(_NAME, _attention)


def hidden_states(model: PreTrainedModel, tokens: torch.Tensor, tree: TokenTree, pool: KeyValuePool) -> torch.Tensor:
    """The last hidden states of the tokens of a pass, [T, hidden size]; their keys and values are in the pool then.

    Args:
      model: any decoder of transformers whose attention is chosen by name.
      tokens: [T] int64, on the model's device as the tree.
    """
    with _attending(model):
        output = model.base_model(
            input_ids=tokens[None],
            position_ids=tree.positions()[None],
            use_cache=False,
            token_tree=_Pass(tree, pool),
        )
    return output.last_hidden_state[0]


@contextmanager
def _attending(model: PreTrainedModel) -> Iterator[None]:
    """Lets a model attend over token trees; after it the model is as it was."""
    config = model.base_model.config
    before = config._attn_implementation
    # transformers makes no mask for an attention that it does not know: `tree` says who sees whom.
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def check_model(model: PreTrainedModel) -> None:
    """Whether a model can score over token trees.

    Raises:
      InvalidInput: it cannot.
    """
    if not getattr(model.base_model, "_supports_attention_backend", False):
        raise InvalidInput(
            f"the PPM is a {type(model).__name__}, whose attention transformers does not let one choose: give one of a newer "
            "architecture, such as Qwen2, Llama or Phi-3"
        )
