"""Sampling against a plain loop that computes every token anew, on tiny random models."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import tiny_models
import torch
import transformers
from tiny_models import nano_tokenizer
from transformers import PreTrainedModel

from rstar_fast import steps
from rstar_fast.policies.sampler import Ask, Sampler, uniforms
from rstar_fast.types import Candidate, Partial, Problem

CONTEXT = 160
SIZES = tiny_models.SIZES | {"max_position_embeddings": CONTEXT, "eos_token_id": 7}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: tiny_models.ARCHITECTURES[name] for name in ("qwen2", "llama", "phi3", "phi3, sliding window")},
    "qwen2, a layer with a window": ("Qwen2", {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1}),
    "gemma2, capped scores": ("Gemma2", {"sliding_window": 8, "head_dim": 8, "attn_logit_softcapping": 2.0}),
}
SHORT = Partial(Problem("What is 2 + 3?", id="short"))
MIDDLE = Partial(Problem("How many integers from 1 to 30 are divisible by 7?", id="middle"), "<code>\nx = 30\n<end_of_step>\n")
LONG = Partial(Problem("A farmer has 12 cows and buys 30 more. " * 2 + "How many has he?", id="long"), "<code>\n# Cows\n")
PARTIALS = [MIDDLE, SHORT, LONG]
# Common in what a random model writes.
OFTEN = ("in", "5", "e ", "<end_of_step>")


def model_of(family: str, settings: dict[str, Any], vocabulary: int = 90) -> PreTrainedModel:
    torch.manual_seed(3)
    config = getattr(transformers, f"{family}Config")(**SIZES | {"vocab_size": vocabulary} | settings)
    return getattr(transformers, f"{family}ForCausalLM")(config).eval()


def random_model(name: str, **settings: Any) -> PreTrainedModel:
    family, own = ARCHITECTURES[name]
    return model_of(family, own | settings, len(nano_tokenizer()))


def keys(count: int, first: int = 0) -> np.ndarray:
    return np.random.default_rng(first).integers(0, 1 << 63, count, np.uint64)


def sampled(
    sampler: Sampler,
    prompts: Sequence[Sequence[int] | np.ndarray],
    keys: Sequence[np.ndarray],
    max_tokens: int | Sequence[int],
    owners: Sequence[Hashable] | None = None,
) -> list[list[Candidate]]:
    """Continuations of each prompt, where nothing else is under way, in the order of their keys; arguments as `Ask`, for each."""
    lengths = np.broadcast_to(max_tokens, len(prompts)).tolist()
    whose = owners or [None] * len(prompts)
    asks = [Ask(np.asarray(prompt, np.int32), *rest) for prompt, *rest in zip(prompts, keys, lengths, whose, strict=True)]
    candidates: dict[tuple[int, int], Candidate] = {}
    sampler.add(asks)
    while sampler.is_busy:
        candidates.update(((id(ask), number), candidate) for ask, number, candidate in sampler.step())
    return [[candidates[id(ask), number] for number in range(len(ask.keys))] for ask in asks]


def truncated(probabilities: np.ndarray, top_p: float, top_k: int) -> np.ndarray:
    """Nucleus and top-k sampling by their definitions, one token after the other."""
    kept = np.zeros_like(probabilities)
    total = 0.0
    order = np.argsort(-probabilities, kind="stable")[: top_k or None]
    for token in order:
        if total >= top_p * probabilities[order].sum():
            break
        kept[token] = probabilities[token]
        total += probabilities[token]
    return kept


@torch.inference_mode()
def plainly(
    model: PreTrainedModel,
    tokenizer: Any,
    prompt: Sequence[int],
    key: int,
    stops: Sequence[str],
    max_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
) -> Candidate:
    """Samples one continuation: no batch, no cache, no padding; float64 from the logits on."""
    tokens: list[int] = []
    logprob = 0.0
    before = tokenizer.decode(prompt)
    for step in range(max_tokens):
        logits = model(input_ids=torch.tensor([[*prompt, *tokens]])).logits[0, -1].double().numpy()
        logprobs = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
        if temperature == 0:
            token = int(logits.argmax())
        else:
            heated = np.exp((logits - logits.max()) / temperature)
            sums = truncated(heated / heated.sum(), top_p, top_k).cumsum()
            (uniform,) = uniforms(np.array([key], np.uint64), step)
            token = int(np.argmax(sums > uniform * sums[-1]))
        tokens.append(token)
        logprob += float(logprobs[token])
        if token in (model.generation_config.eos_token_id, tokenizer.eos_token_id):
            return Candidate(tokenizer.decode([*prompt, *tokens[:-1]])[len(before) :], None, len(tokens), logprob)
        text = tokenizer.decode([*prompt, *tokens])[len(before) :]
        found = [(text.index(stop), stop) for stop in stops if stop in text]
        if found:
            return Candidate(text[: min(found)[0]], min(found)[1], len(tokens), logprob)
    return Candidate(text, None, len(tokens), logprob)


def same(candidates: Sequence[Candidate], expected: Sequence[Candidate]) -> None:
    assert [(c.text, c.stop, c.tokens) for c in candidates] == [(c.text, c.stop, c.tokens) for c in expected]
    np.testing.assert_allclose([c.logprob for c in candidates], [c.logprob for c in expected], atol=2e-4)


def prompts_of(tokenizer: Any, partials: Sequence[Partial] = PARTIALS) -> list[list[int]]:
    return [tokenizer(steps.prompt(partial))["input_ids"] for partial in partials]
