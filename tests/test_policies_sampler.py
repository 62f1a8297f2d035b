"""The sampler against a plain loop that computes every token anew, and its stop strings."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sampling import ARCHITECTURES, OFTEN, SIZES, keys, plainly, prompts_of, random_model, same, sampled, truncated
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from rstar_fast import steps
from rstar_fast.policies.sampler import Sampler, uniforms
from rstar_fast.types import Candidate

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("settings", [{}, {"temperature": 0.7, "top_p": 0.9}, {"temperature": 1.5, "top_k": 20}])
def test_samples_are_those_of_a_plain_loop(name: str, settings: dict[str, Any], tokenizer: Any) -> None:
    model = random_model(name)
    oracle = copy.deepcopy(model)
    prompts = prompts_of(tokenizer)
    of_prompt = [keys(3, 1), keys(2, 2), keys(1, 3)]
    all_settings = {"temperature": 1.0, "top_p": 1.0, "top_k": 0} | settings
    samples = sampled(Sampler(model, tokenizer, OFTEN, **all_settings), prompts, of_prompt, [14, 20, 9])
    ends = set()
    for candidates, prompt, own_keys, most in zip(samples, prompts, of_prompt, [14, 20, 9], strict=True):
        same(candidates, [plainly(oracle, tokenizer, prompt, key, OFTEN, most, **all_settings) for key in own_keys])
        ends |= {candidate.stop for candidate in candidates}
    assert ends & set(OFTEN)


@pytest.mark.parametrize("name", ["qwen2", "llama", "phi3"])
def test_what_shares_the_batch_changes_no_sample(name: str, tokenizer: Any) -> None:
    sampler = Sampler(random_model(name), tokenizer, OFTEN, 1.0, 1.0, 0)
    prompts = prompts_of(tokenizer)
    of_prompt = [keys(4, i) for i in range(3)]
    together = sampled(sampler, prompts, of_prompt, 15)
    for i in range(3):
        same(sampled(sampler, [prompts[i]], [of_prompt[i]], [15])[0], together[i])
        for j in range(4):
            same(sampled(sampler, [prompts[i]], [of_prompt[i][j : j + 1]], [15])[0], together[i][j : j + 1])


@pytest.mark.parametrize("name", ["qwen2", "llama", "phi3"])
def test_temperature_zero_takes_the_likeliest_token(name: str, tokenizer: Any) -> None:
    model = random_model(name)
    oracle = copy.deepcopy(model)
    prompts = prompts_of(tokenizer)
    greedy = sampled(Sampler(model, tokenizer, OFTEN, 0.0, 1.0, 0), prompts, [keys(2, i) for i in range(3)], [12] * 3)
    for candidates, prompt in zip(greedy, prompts, strict=True):
        same(candidates, [plainly(oracle, tokenizer, prompt, 0, OFTEN, 12, temperature=0)] * 2)


@pytest.mark.parametrize(
    ("temperature", "top_p", "top_k"),
    [(1.0, 1.0, 0), (0.5, 1.0, 0), (1.0, 0.6, 0), (2.0, 0.9, 5), (1.0, 1e-9, 0), (1.0, 1.0, 1)],
)
def test_tokens_come_as_often_as_the_truncated_distribution_says(
    temperature: float, top_p: float, top_k: int, tokenizer: Any
) -> None:
    sampler = Sampler(random_model("qwen2"), tokenizer, OFTEN, temperature, top_p, top_k)
    logits = torch.randn(50, generator=torch.Generator().manual_seed(1)) * 2
    grid = (np.arange(4000) + 0.5) / 4000
    chosen, logprobs = sampler._choose(logits.expand(4000, -1), grid)
    heated = torch.softmax(logits.double() / temperature, -1).numpy()
    expected = truncated(heated, top_p, top_k)
    frequencies = np.bincount(chosen.numpy(), minlength=50) / 4000
    np.testing.assert_allclose(frequencies, expected / expected.sum(), atol=1.5 / 4000)
    assert not frequencies[expected == 0].any()
    np.testing.assert_allclose(logprobs, torch.log_softmax(logits, -1)[chosen], atol=1e-6)


def test_random_numbers_are_even_and_the_edges_are_safe(tokenizer: Any) -> None:
    numbers = np.concatenate([uniforms(keys(2000), step) for step in range(5)])
    assert 0 <= numbers.min() and numbers.max() < 1 and len(np.unique(numbers)) > 9900
    counts, _ = np.histogram(numbers, 10, (0, 1))
    assert abs(counts - 1000).max() < 120  # four standard deviations
    sampler = Sampler(random_model("qwen2"), tokenizer, OFTEN, 1.0, 1.0, 0)
    logits = torch.tensor([[-1e9, 0.0, 1.0, -1e9, 2.0, -1e9]] * 2)
    chosen, _ = sampler._choose(logits, np.array([0.0, 1 - 2.0**-24]))
    assert chosen.tolist() == [1, 4]


def test_other_callers_of_the_model_keep_causal_attention(tokenizer: Any) -> None:
    model = random_model("llama")
    ids = torch.tensor(prompts_of(tokenizer)[:1])
    with torch.inference_mode():
        before = model(input_ids=ids).logits
        Sampler(model, tokenizer, OFTEN, 1.0, 1.0, 0)
        torch.testing.assert_close(model(input_ids=ids).logits, before, atol=1e-4, rtol=1e-4)


# Stop strings, on a model whose next token follows from its last

CHARACTERS = [chr(code) for code in range(32, 127)] + ["\n", "é"]
PIECES = [
    "p>\n#", "<end_of_ste", "<end_of_", "step>x", "<end_of_code><end_of_step>", "<end", "_of_answer", "code> <end_of_step>",
    "<end_of_step>", "<|end|>", "<|special|>", "<end_of_step", "<0x3E>", "<0x70>", "<0xC3>", "<0xA9>", " ,", "print",
]  # fmt: skip


@pytest.fixture(scope="module")
def pieces() -> Any:
    """A tokenizer of characters and PIECES."""
    vocabulary = [*CHARACTERS, *PIECES]
    backend = Tokenizer(models.Unigram([(piece, -1.0) for piece in vocabulary], unk_id=0))
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>", additional_special_tokens=["<|special|>"])
    wrapped.clean_up_tokenization_spaces = True  # as some checkpoints have it
    return wrapped


def chain(tokenizer: Any, written: Sequence[str]) -> PreTrainedModel:
    """A model that writes these tokens, one after the other, the first behind ".", and then the end of text."""
    size = len(tokenizer)
    config = transformers.Qwen2Config(
        **SIZES | {"vocab_size": size, "hidden_size": 128, "num_hidden_layers": 1, "eos_token_id": None}
    )
    model = transformers.Qwen2ForCausalLM(config).eval()
    ids = tokenizer.convert_tokens_to_ids([".", *written, "<|end|>"])
    assert len(set(ids)) == len(ids)
    with torch.no_grad():
        for projection in (model.model.layers[0].self_attn.o_proj, model.model.layers[0].mlp.down_proj):
            projection.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(size, 128))
        model.lm_head.weight.zero_()
        for last, following in zip(ids, ids[1:], strict=False):
            model.lm_head.weight[following, last] = 1.0
    return model


def write(tokenizer: Any, written: Sequence[str], stops: Sequence[str] = steps.STOPS, most: int = 50) -> Candidate:
    prompt = tokenizer.convert_tokens_to_ids(["a", "<end_of_step>", "."])
    ((candidate,),) = sampled(Sampler(chain(tokenizer, written), tokenizer, stops, 0.0, 1.0, 0), [prompt], [keys(1)], [most])
    return candidate


@pytest.mark.parametrize(
    ("written", "text", "stop", "tokens"),
    [
        (["a", "<end_of_ste", "p>\n#", "b"], "a", "<end_of_step>", 3),
        (["a", "<end_of_", "step>x", "b"], "a", "<end_of_step>", 3),
        (["a", "<end_of_code><end_of_step>", "b"], "a", "<end_of_code>", 2),
        (["a", "<end_of_", "code> <end_of_step>", "b"], "a", "<end_of_code>", 3),
        (["<end", "_of_answer", ">", "b"], "", "<end_of_answer>", 3),
        (["<end_of_step>", "b"], "", "<end_of_step>", 1),
        (["a", "<", "e", "n", "d", "_"], "a<end_", None, 7),
        (["a", ">", "b"], "a>b", None, 4),
        (["<end_of_step", "<0x3E>", "b"], "", "<end_of_step>", 2),
        (["a", "<|special|>", "b"], "a<|special|>b", None, 4),
        (["print", "(", " ,", " ", "'", "é", "\n"], "print( , 'é\n", None, 8),
        (["<0xC3>", "<0xA9>", "!"], "é!", None, 4),
        ([], "", None, 1),
    ],
)
def test_stop_strings_are_exact(pieces: Any, written: list[str], text: str, stop: str | None, tokens: int) -> None:
    candidate = write(pieces, written)
    assert (candidate.text, candidate.stop, candidate.tokens) == (text, stop, tokens)


@pytest.mark.parametrize(
    ("stop", "written", "text"),
    [
        ("p", ["a", "<0x70>", "b"], "a"),
        ("é", ["a", "<0xC3>", "<0xA9>", "b"], "a"),
        ("é", ["a", "é", "b"], "a"),
        ("\n", ["a", "p>\n#", "b"], "ap>"),
        ("a ", ["x", "a", " ,", "b"], "x"),
    ],
)
def test_any_stop_string_is_found_in_any_writing(pieces: Any, stop: str, written: list[str], text: str) -> None:
    candidate = write(pieces, written, [stop])
    assert (candidate.text, candidate.stop) == (text, stop)


def test_a_stop_string_that_the_prompt_began_is_none(pieces: Any) -> None:
    model = chain(pieces, ["p>\n#", "b"])
    with torch.no_grad():  # "p>" follows the prompt's last token
        begun, following = pieces.convert_tokens_to_ids(["<end_of_ste", "p>\n#"])
        model.lm_head.weight[following, begun] = 1.0
    ((candidate,),) = sampled(Sampler(model, pieces, steps.STOPS, 0.0, 1.0, 0), [[begun]], [keys(1)], [9])
    assert (candidate.text, candidate.stop) == ("p>\n#b", None)


@pytest.mark.parametrize(
    ("most", "text", "stop"), [(1, "a", None), (2, "ab", None), (3, "ab<end_of_ste", None), (4, "ab", "<end_of_step>")]
)
def test_a_step_has_no_more_tokens_than_allowed(pieces: Any, most: int, text: str, stop: str | None) -> None:
    candidate = write(pieces, ["a", "b", "<end_of_ste", "p>\n#"], most=most)
    assert (candidate.text, candidate.stop, candidate.tokens) == (text, stop, most)
