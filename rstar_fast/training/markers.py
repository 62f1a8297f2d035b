"""The markers of the code-augmented chain of thought as tokens of a policy."""

from __future__ import annotations

import torch
from tokenizers import AddedToken
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rstar_fast import steps


def add_markers(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Makes each of `steps.MARKERS` a single token.

    They are ordinary added tokens, not special ones, so that no engine drops them from what it decodes.

    Returns:
      The ids of those that are new.
    """
    lacking = [marker for marker in steps.MARKERS if len(tokenizer(f"x{marker}x", add_special_tokens=False)["input_ids"]) != 3]
    # A marker that is one token, but only between what it is merged with elsewhere, is none.
    lacking = [marker for marker in lacking if marker not in tokenizer.get_added_vocab()]
    tokenizer.add_tokens([AddedToken(marker, normalized=False, special=False) for marker in lacking])
    return [tokenizer.convert_tokens_to_ids(marker) for marker in lacking]


@torch.no_grad()
def embed(model: PreTrainedModel, new: list[int]) -> None:
    """Gives new tokens the mean of the old ones' embeddings, of the input and of the output (Hewitt 2021).

    A zero vector, or what happened to lie in an unused row, would be likelier or less likely than all others; the mean is neither.

    Args:
      new: consecutive ids, the highest of the vocabulary.
    """
    if not new:
        return
    if max(new) >= model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(max(new) + 1, mean_resizing=False)
    old = min(new)  # rows from here on are new, or were of no token
    output = model.get_output_embeddings()
    weights = {id(layer.weight): layer.weight for layer in (model.get_input_embeddings(), output) if layer is not None}
    for weight in weights.values():  # tied ones once
        weight[new] = weight[:old].float().mean(0).to(weight.dtype)
    if output is not None and getattr(output, "bias", None) is not None:
        output.bias[new] = output.bias[:old].float().mean().to(output.bias.dtype)
