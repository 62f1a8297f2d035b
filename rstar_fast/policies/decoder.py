"""The forward pass of llama-like models in few operations, over tokens without padding.

A tiny model's pass through transformers is mostly the calling of its modules.

Shapes: N tokens of any sequences, H query heads, K heads of keys and values, D numbers each, E the hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

_FAMILIES = ("qwen2", "qwen3", "llama", "mistral", "phi3")
# Rotations that depend on nothing but the position.
_ROTATIONS = ("default", "linear", "llama3", "yarn")

# Of a layer: its number, queries [N, H, D], new keys and values [N, K, D] -> [N, H * D].
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class _Layer:
    """What a layer computes with: `first` makes queries, keys and values, `wide` gate and up."""

    norm: Any
    first: nn.Linear
    query_norm: Any
    key_norm: Any
    out: nn.Linear
    second_norm: Any
    wide: nn.Linear
    down: nn.Linear


def in_parts(attends: Sequence[Attend], sizes: Sequence[int]) -> Attend:
    """The attention of tokens that come in parts of these sizes, each with its own."""

    def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        parts = zip(attends, queries.split(sizes), keys.split(sizes), values.split(sizes), strict=True)
        seen = [of_part(layer, *new) for of_part, *new in parts]
        return seen[0] if len(seen) == 1 else torch.cat(seen)

    return attend


class Decoder:
    """A model's layers, and how to go through them; what a token sees of others is the caller's.

    Args:
      model: one that `fits`, from now on neither moved nor given to another decoder. Matrices that are multiplied with the same
        vectors are joined, the model's own are views of them.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        config = model.config
        self._inner = model.base_model
        self.heads: int = config.num_attention_heads
        self.kv_heads: int = config.num_key_value_heads
        self.size: int = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.device, self.dtype = model.device, model.dtype
        self._layers = [_read(layer) for layer in self._inner.layers]
        self.layers = len(self._layers)
        self._cosines = self._sines = torch.empty(0)

    @classmethod
    def of(cls, model: PreTrainedModel) -> Self | None:
        """The decoder of a model; None where it is not known to be computed as one."""
        return cls(model) if fits(model) else None

    def __call__(self, ids: Tensor, positions: Tensor, attend: Attend, end: int | None = None) -> Tensor:
        """The last hidden states of tokens [N] at positions [N]: [N, E].

        Args:
          end: no position is as large; None: found out, which waits for the device.
        """
        x = self._inner.embed_tokens(ids)
        self.prepare(int(positions.max()) + 1 if end is None else end)
        cosines, sines = self._cosines[positions], self._sines[positions]
        for number, layer in enumerate(self._layers):
            x = x + self._attention(number, layer, _normed(layer.norm, x), cosines, sines, attend)
            gate, up = layer.wide(_normed(layer.second_norm, x)).chunk(2, -1)
            x = x + layer.down(functional.silu(gate).mul_(up))
        return _normed(self._inner.norm, x)

    def prepare(self, end: int) -> tuple[int, int]:
        """Makes the tables of rotations for positions below `end`: cosines and sines, [*, 1, D] each. Where they are in memory.

        The first half of the sines is negative: a rotation is one roll and two products.
        """
        if end > len(self._cosines):
            positions = torch.arange(max(end, 2 * len(self._cosines)), device=self.device)
            like = torch.empty(0, dtype=self.dtype, device=self.device)
            cosines, sines = self._inner.rotary_emb(like, positions[None])
            half = self.size // 2
            self._cosines = cosines[0, :, None]
            self._sines = torch.cat([-sines[0, :, None, :half], sines[0, :, None, half:]], -1)
        return self._cosines.data_ptr(), self._sines.data_ptr()

    def _attention(self, number: int, layer: _Layer, x: Tensor, cosines: Tensor, sines: Tensor, attend: Attend) -> Tensor:
        heads, kv_heads = self.heads, self.kv_heads
        first = layer.first(x).view(len(x), heads + 2 * kv_heads, self.size)
        queries, keys, values = first[:, :heads], first[:, heads : heads + kv_heads], first[:, heads + kv_heads :]
        if layer.query_norm is not None:
            turned = torch.cat([_normed(layer.query_norm, queries), _normed(layer.key_norm, keys)], 1)
        else:
            turned = first[:, : heads + kv_heads]
        turned = _rotated(turned, cosines, sines)
        return layer.out(attend(number, turned[:, :heads], turned[:, heads:], values))


def fits(model: PreTrainedModel) -> bool:
    """Whether a model is computed as `Decoder` does it: every layer sees all that stands before."""
    config = model.config
    of_parameters = {(parameter.device, parameter.dtype) for parameter in model.parameters()}
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        config.model_type in _FAMILIES
        and of_parameters == {(model.device, model.dtype)}  # not spread over devices, nothing left on a disk
        and model.device.type != "meta"
        and getattr(model, "hf_device_map", None) is None
        and all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)
        and rope.get("rope_type", "default") in _ROTATIONS
        and rope.get("partial_rotary_factor", 1.0) == 1.0
        and config.hidden_act == "silu"
        # No adapters, no weights of another form.
        and all(type(part) is nn.Linear for name, part in model.base_model.named_modules() if name.endswith("_proj"))
    )


def _read(layer: Any) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    first = getattr(attention, "qkv_proj", None) or _joined([attention.q_proj, attention.k_proj, attention.v_proj])
    wide = getattr(mlp, "gate_up_proj", None) or _joined([mlp.gate_proj, mlp.up_proj])
    query_norm, key_norm = getattr(attention, "q_norm", None), getattr(attention, "k_norm", None)
    return _Layer(
        layer.input_layernorm,
        first,
        query_norm,
        key_norm,
        attention.o_proj,
        layer.post_attention_layernorm,
        wide,
        mlp.down_proj,
    )


def _joined(parts: Sequence[nn.Linear]) -> nn.Linear:
    """One matrix of several; theirs become views of it, so that no memory is needed twice."""
    joined = nn.Linear(parts[0].in_features, sum(part.out_features for part in parts), parts[0].bias is not None, device="meta")
    for name in ("weight", "bias") if parts[0].bias is not None else ("weight",):
        together = torch.cat([getattr(part, name).data for part in parts])
        for part, own in zip(parts, together.split([part.out_features for part in parts]), strict=True):
            getattr(part, name).data = own
        setattr(joined, name, nn.Parameter(together, requires_grad=False))
    return joined


def _normed(norm: Any, x: Tensor) -> Tensor:
    # In place of torch's, which takes twice as long on a CPU.
    if x.dtype == torch.float32:
        scale = torch.linalg.vecdot(x, x).mul_(1.0 / x.shape[-1]).add_(norm.variance_epsilon).rsqrt_()
        return (x * scale[..., None]).mul_(norm.weight)
    return functional.rms_norm(x, norm.weight.shape, norm.weight, norm.variance_epsilon)


def _rotated(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021), the two halves of a head paired: [N, heads, D]."""
    return (x * cosines).addcmul_(x.roll(x.shape[-1] // 2, -1), sines)
