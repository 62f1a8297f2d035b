"""A decoder of transformers over token trees: its attention reads keys and values from a pool that outlives the pass, or from the
pass alone, which then has a gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import AttentionInterface, PreTrainedModel

from rstar_fast import kernels
from rstar_fast.kernels import reference
from rstar_fast.kernels.token_tree import TokenTree
from rstar_fast.policies.decoder import Attend
from rstar_fast.ppm.prefixes import Run
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


def attention_over(tree: TokenTree, pool: KeyValuePool) -> Attend:
    """The attention of a `Decoder` to the tokens of a pass, and to those in the pool."""

    def attend(layer: int, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        kept = pool.put(layer, keys, values, tree.slots)
        return kernels.tree_attention(queries, *kept, tree, scale=queries.shape[-1] ** -0.5).flatten(1)

    return attend


@dataclass(frozen=True, slots=True)
class _Pass:
    """What the attention of one forward pass needs besides the layer's query, key and value."""

    tree: TokenTree
    pool: KeyValuePool | None


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
    tree, pool = token_tree.tree, token_tree.pool
    query, key, value = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    if pool is None:
        # Under autocast the rotation of query and key is in the hidden states' float32. One page, in the order of the slots.
        query, keys, values = query.to(value.dtype), key[None].to(value.dtype), value[None]
    else:
        keys, values = pool.put(module.layer_idx, key, value, tree.slots)  # type: ignore[arg-type]
    # Triton's has no backward.
    attend = reference.tree_attention if query.requires_grad else kernels.tree_attention
    return attend(query, keys, values, tree, scale=scaling, window=sliding_window)[None], None


AttentionInterface.register(_NAME, _attention)


def inputs(tokens: torch.Tensor, tree: TokenTree, pool: KeyValuePool | None) -> dict[str, Any]:
    """What the forward of an `attending` model, or of its body, takes for a pass.

    Args:
      tokens: [T] int64, on the model's device as the tree.
      tree: which tokens these are; without a pool its slots are 0 to T - 1, and all that they see is of this pass.
    """
    return {
        "input_ids": tokens[None],
        "position_ids": tree.positions()[None],
        "use_cache": False,
        "token_tree": _Pass(tree, pool),
    }


def hidden_states(model: PreTrainedModel, tokens: torch.Tensor, tree: TokenTree, pool: KeyValuePool | None) -> torch.Tensor:
    """The last hidden states of the tokens of a pass, [T, hidden size]; their keys and values are in the pool then, if there is one.

    Args:
      model: any decoder of transformers whose attention is chosen by name.
      tokens, tree, pool: as `inputs`.
    """
    with attending(model):
        return model.base_model(**inputs(tokens, tree, pool)).last_hidden_state[0]


@contextmanager
def attending(model: PreTrainedModel) -> Iterator[None]:
    """Lets a model attend over token trees; after it the model is as it was."""
    config = model.base_model.config
    before = config._attn_implementation
    # transformers makes no mask for an attention that it does not know: `tree` says who sees whom.
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def packed(runs: list[Run]) -> TokenTree:
    """Runs that have slots as the kernels take them; each is a segment."""
    starts = np.cumsum([0, *(len(run.tokens) for run in runs)])
    paths: list[np.ndarray] = []
    begins: dict[Run | None, int] = {}  # of the path that ends with a run
    total = 0
    for run in runs:
        if run.parent not in begins:
            begins[run.parent] = total
            above = run.parent.path() if run.parent is not None else []
            paths += [before.slots for before in above]  # type: ignore[misc]
            total += run.start
    return TokenTree(
        starts=torch.from_numpy(starts.astype(np.int32)),
        slots=torch.from_numpy(np.concatenate([run.slots for run in runs])),  # type: ignore[arg-type]
        paths=torch.from_numpy(np.concatenate([np.empty(0, np.int32), *paths])),
        path_starts=torch.tensor([begins[run.parent] for run in runs], dtype=torch.int32),
        path_lengths=torch.tensor([run.start for run in runs], dtype=torch.int32),
        longest=max(len(run.tokens) for run in runs),
    )


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
