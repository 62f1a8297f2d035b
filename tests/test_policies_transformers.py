"""The transformers policy and its sampler, against a plain loop that computes every token anew, on tiny random models."""

from __future__ import annotations

import asyncio
import copy
import json
import shutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from rstar_fast import nano, steps
from rstar_fast.policies import load_policy
from rstar_fast.policies.checkpoint import load_model, load_tokenizer
from rstar_fast.policies.prompt_cache import PromptCache
from rstar_fast.policies.sampler import Sampler, uniforms
from rstar_fast.policies.transformers import TransformersPolicy
from rstar_fast.types import Candidate, InvalidInput, Partial, PartialTooLong, Problem

pytestmark = pytest.mark.usefixtures("one_thread")
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


@cache
def nano_tokenizer() -> Any:
    return load_tokenizer(str(nano.POLICY), "policy")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return nano_tokenizer()


def random_model(name: str, **settings: Any) -> PreTrainedModel:
    family, own = ARCHITECTURES[name]
    torch.manual_seed(3)
    config = getattr(transformers, f"{family}Config")(**SIZES | {"vocab_size": len(nano_tokenizer())} | own | settings)
    return getattr(transformers, f"{family}ForCausalLM")(config).eval()


def keys(count: int, first: int = 0) -> np.ndarray:
    return np.random.default_rng(first).integers(0, 1 << 63, count, np.uint64)


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


def propose(policy: TransformersPolicy, partials: Sequence[Partial], n: int) -> list[Any]:
    return asyncio.run(policy.propose(partials, n))


def texts(candidates: Sequence[Candidate]) -> list[str]:
    return [candidate.step for candidate in candidates]


# The sampler


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("settings", [{}, {"temperature": 0.7, "top_p": 0.9}, {"temperature": 1.5, "top_k": 20}])
def test_samples_are_those_of_a_plain_loop(name: str, settings: dict[str, Any], tokenizer: Any) -> None:
    model = random_model(name)
    oracle = copy.deepcopy(model)
    prompts = prompts_of(tokenizer)
    of_prompt = [keys(3, 1), keys(2, 2), keys(1, 3)]
    all_settings = {"temperature": 1.0, "top_p": 1.0, "top_k": 0} | settings
    samples = Sampler(model, tokenizer, OFTEN, **all_settings).sample(prompts, of_prompt, [14, 20, 9])
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
    together = sampler.sample(prompts, of_prompt, 15)
    for i in range(3):
        same(sampler.sample([prompts[i]], [of_prompt[i]], [15])[0], together[i])
        for j in range(4):
            same(sampler.sample([prompts[i]], [of_prompt[i][j : j + 1]], [15])[0], together[i][j : j + 1])


@pytest.mark.parametrize("name", ["qwen2", "llama", "phi3"])
def test_temperature_zero_takes_the_likeliest_token(name: str, tokenizer: Any) -> None:
    model = random_model(name)
    oracle = copy.deepcopy(model)
    prompts = prompts_of(tokenizer)
    greedy = Sampler(model, tokenizer, OFTEN, 0.0, 1.0, 0).sample(prompts, [keys(2, i) for i in range(3)], [12] * 3)
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


# Prompts of which something is known


def grown(tokenizer: Any, partial: Partial, steps_: Sequence[str]) -> list[list[int]]:
    """The prompts of a partial and of each one step longer."""
    return [prompts_of(tokenizer, [Partial(partial.problem, partial.solution + "".join(steps_[:n]))])[0] for n in range(len(steps_) + 1)]


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("room", [0, 20_000, 10**9])
def test_what_is_known_of_prompts_changes_no_sample(name: str, room: int, tokenizer: Any) -> None:
    plain = Sampler(random_model(name), tokenizer, OFTEN, 1.0, 1.0, 0)
    sampler = Sampler(random_model(name), tokenizer, OFTEN, 1.0, 1.0, 0, PromptCache(room))
    branches = [grown(tokenizer, partial, ["x = 4\n<end_of_step>\n", "y = 5 * x\n<end_of_step>\n"]) for partial in PARTIALS]
    longer, other = branches[0][1] + [9, 9], branches[0][0] + [8]
    asked = [  # of each call the prompts and whose they are: they grow from call to call
        [(0, branches[0][0]), (0, branches[0][0])],
        [(0, branches[0][1]), (1, branches[1][0]), (1, branches[1][1]), (2, branches[2][0])],
        [(1, branches[1][2]), (0, longer), (2, branches[2][2]), (0, other)],
    ]
    for number, call in enumerate(asked):
        of_call, prompts = zip(*call, strict=True)
        of_prompt = [keys(2, 10 * number + i) for i in range(len(prompts))]
        for mine, expected in zip(sampler.sample(prompts, of_prompt, 9, of_call), plain.sample(prompts, of_prompt, 9), strict=True):
            same(mine, expected)


def test_of_a_longer_prompt_only_what_is_new_is_computed(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = Sampler(random_model("qwen2"), tokenizer, OFTEN, 1.0, 1.0, 0, PromptCache(10**9))
    first, second, third = grown(tokenizer, MIDDLE, ["x = 4\n<end_of_step>\n", "y = 5 * x\n<end_of_step>\n"])
    passes: list[tuple[int, ...]] = []
    forward = Sampler._forward

    def seen(self: Sampler, ids: torch.Tensor, *others: Any) -> torch.Tensor:
        passes.append(tuple(ids.shape))
        return forward(self, ids, *others)

    def computed(prompts: list[list[int]], owners: list[str]) -> list[tuple[int, ...]]:
        passes.clear()
        sampler.sample(prompts, [keys(1)] * len(prompts), 1, owners)
        return list(passes)

    monkeypatch.setattr(Sampler, "_forward", seen)
    assert computed([first], ["a"]) == [(1, len(first))]
    assert computed([first, third], ["a", "a"]) == [(2, len(third) - len(first))]  # the first's last token: for its logits
    assert computed([second], ["b"]) == [(1, len(second))]  # of another owner
    assert computed([second, third, third], ["a", "b", "c"]) == [(1, len(third)), (2, len(third) - len(second))]


@given(st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(0, 1), min_size=1, max_size=6)), max_size=30), st.integers(0, 400))
def test_the_longest_beginning_is_found_and_the_room_is_kept(asked: list[tuple[int, list[int]]], room: int) -> None:
    """Against a list in order of use."""
    cache = PromptCache(room)
    known: list[tuple[int, list[int]]] = []  # the least recently used first
    for owner, tokens in asked:
        found = cache.longest(owner, np.array(tokens, np.int32))
        begins = [entry for entry in known if entry[0] == owner and entry[1] == tokens[: len(entry[1])]]
        if begins:
            longest = max(begins, key=lambda entry: len(entry[1]))
            known.remove(longest)
            known.append(longest)
            length = min(len(longest[1]), len(tokens) - 1)
            if length:
                assert found is not None and found[0, 0, :, 0].tolist() == longest[1][:length]
        if not begins or len(tokens) == 1:
            assert found is None
        tensor = torch.tensor(tokens, dtype=torch.float32).view(1, 1, -1, 1).expand(2, 1, -1, 2).clone()  # 16 bytes a token
        cache.add(owner, np.array(tokens, np.int32), tensor)
        if (owner, tokens) not in known and 16 * len(tokens) <= room:
            known.append((owner, tokens))
            while sum(16 * len(text) for _, text in known) > room:
                known.pop(0)
    kept = {(owner, key) for owner, of_owner in cache._of_owner.items() for key in of_owner}
    assert kept == {(owner, np.array(tokens, np.int32).tobytes()) for owner, tokens in known} == set(cache._tensors)


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
    ((candidate,),) = Sampler(chain(tokenizer, written), tokenizer, stops, 0.0, 1.0, 0).sample([prompt], [keys(1)], [most])
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
    ((candidate,),) = Sampler(model, pieces, steps.STOPS, 0.0, 1.0, 0).sample([[begun]], [keys(1)], [9])
    assert (candidate.text, candidate.stop) == ("p>\n#b", None)


@pytest.mark.parametrize(
    ("most", "text", "stop"), [(1, "a", None), (2, "ab", None), (3, "ab<end_of_ste", None), (4, "ab", "<end_of_step>")]
)
def test_a_step_has_no_more_tokens_than_allowed(pieces: Any, most: int, text: str, stop: str | None) -> None:
    candidate = write(pieces, ["a", "b", "<end_of_ste", "p>\n#"], most=most)
    assert (candidate.text, candidate.stop, candidate.tokens) == (text, stop, most)


# The policy


def test_the_policy_is_a_plain_loop_over_the_prompt_and_its_keys(tokenizer: Any) -> None:
    policy = TransformersPolicy.from_pretrained(str(nano.POLICY), device="cpu", seed=5)
    oracle = load_model(transformers.AutoModelForCausalLM, str(nano.POLICY), "policy", "cpu", None)
    of_partial = [policy._keys(partial, 2) for partial in (SHORT, MIDDLE)]
    policy._asked.clear()
    proposed = propose(policy, [SHORT, MIDDLE], 2)
    for candidates, own_keys, prompt in zip(proposed, of_partial, prompts_of(tokenizer, [SHORT, MIDDLE]), strict=True):
        same(candidates, [plainly(oracle, tokenizer, prompt, key, steps.STOPS, 512) for key in own_keys])
    assert {candidate.stop for candidates in proposed for candidate in candidates} <= set(steps.STOPS)


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    return random_model("llama", eos_token_id=None)


@pytest.fixture
def policy(llama: PreTrainedModel, tokenizer: Any) -> Callable[..., TransformersPolicy]:
    def make(**settings: Any) -> TransformersPolicy:
        return TransformersPolicy(llama, tokenizer, **{"max_step_tokens": 8} | settings)

    return make


def test_the_seed_decides(policy: Callable[..., TransformersPolicy]) -> None:
    first = propose(policy(seed=1), PARTIALS, 3)
    assert propose(policy(seed=1), PARTIALS, 3) == first
    for mine, others in zip(propose(policy(seed=2), PARTIALS, 3), first, strict=True):
        assert not set(texts(mine)) & set(texts(others))
    assert len(set(texts(first[0]))) == 3


def test_asking_again_goes_on_with_new_samples(policy: Callable[..., TransformersPolicy]) -> None:
    whole = propose(policy(), [SHORT], 6)[0]
    asked = policy()
    parts = [propose(asked, [SHORT], n)[0] for n in (2, 1, 3)]
    assert len(set(texts(whole))) == 6
    same([candidate for part in parts for candidate in part], whole)


def test_a_partial_asked_for_more_than_once_gets_different_samples(policy: Callable[..., TransformersPolicy]) -> None:
    whole = propose(policy(), [SHORT], 6)[0]
    twice, other, again, thrice = propose(policy(), [SHORT, MIDDLE, SHORT, SHORT], 2)
    same([*twice, *again, *thrice], whole)
    same(other, propose(policy(), [MIDDLE], 2)[0])


def test_the_order_and_company_of_partials_change_nothing(policy: Callable[..., TransformersPolicy]) -> None:
    together = propose(policy(), PARTIALS, 2)
    for partial, candidates in zip(PARTIALS, together, strict=True):
        same(propose(policy(), [partial], 2)[0], candidates)
    for mine, candidates in zip(propose(policy(), PARTIALS[::-1], 2), together[::-1], strict=True):
        same(mine, candidates)


def test_nothing_asked_is_nothing_given(policy: Callable[..., TransformersPolicy]) -> None:
    assert propose(policy(), [], 3) == []
    assert propose(policy(), [SHORT, MIDDLE], 0) == [[], []]


@pytest.mark.parametrize("max_rows", [1, 3, 4, 7])
def test_no_more_rows_than_allowed_are_generated_at_a_time(
    policy: Callable[..., TransformersPolicy], monkeypatch: pytest.MonkeyPatch, max_rows: int
) -> None:
    expected = propose(policy(), PARTIALS, 5)
    rows: list[int] = []
    sample = Sampler.sample

    def counted(self: Sampler, prompts: Any, keys: Any, *others: Any) -> Any:
        rows.append(sum(map(len, keys)))
        return sample(self, prompts, keys, *others)

    monkeypatch.setattr(Sampler, "sample", counted)
    for mine, others in zip(propose(policy(max_rows=max_rows), PARTIALS, 5), expected, strict=True):
        same(mine, others)
    assert max(rows) <= max_rows and sum(rows) == 15


def test_a_partial_beyond_the_context_fails_alone(policy: Callable[..., TransformersPolicy], tokenizer: Any) -> None:
    def of_length(length: int) -> Partial:
        partial = Partial(Problem("Sum?", id=f"length-{length}"))
        base = len(prompts_of(tokenizer, [partial])[0])
        partial = Partial(partial.problem, "1" * (length - base))
        assert len(prompts_of(tokenizer, [partial])[0]) == length
        return partial

    alone = propose(policy(max_step_tokens=30), [SHORT], 2)[0]
    partials = [of_length(CONTEXT), SHORT, of_length(CONTEXT - 3), of_length(CONTEXT + 40)]
    at, short, near, beyond = propose(policy(max_step_tokens=30), partials, 2)
    same(short, alone)
    assert {candidate.tokens for candidate in short} == {30}  # a long neighbour does not cut it
    assert max(candidate.tokens for candidate in near) == 3
    for failure, length in ((at, CONTEXT), (beyond, CONTEXT + 40)):
        assert isinstance(failure, PartialTooLong)
        assert f"'length-{length}' is {length} tokens long and the policy's context {CONTEXT}" in str(failure)


def test_a_question_that_is_no_utf8_is_read_all_the_same(policy: Callable[..., TransformersPolicy]) -> None:
    (candidates,) = propose(policy(), [Partial(Problem("What is \ud800 + 1?"), "<code>\n\udfff")], 2)
    assert len(candidates) == 2


def test_bfloat16_runs(tokenizer: Any) -> None:
    policy = TransformersPolicy(random_model("qwen2").to(torch.bfloat16), tokenizer, max_step_tokens=5)
    for candidates in propose(policy, PARTIALS, 2):
        assert len(candidates) == 2 and all(np.isfinite(candidate.logprob) for candidate in candidates)


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"max_step_tokens": 0},
        {"max_rows": 0},
        {"prompt_cache_mb": -1},
    ],
)
def test_bad_settings_are_refused(policy: Callable[..., TransformersPolicy], settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=f"{next(iter(settings))}=.*: give "):
        policy(**settings)


# Checkpoints


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "good"
    random_model("llama").save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_checkpoint_is_what_it_was_saved_from(checkpoint: Path, tokenizer: Any) -> None:
    loaded = load_policy(checkpoint, device="cpu", seed=1, max_step_tokens=6)
    made = TransformersPolicy(random_model("llama"), tokenizer, seed=1, max_step_tokens=6)
    for mine, others in zip(propose(loaded, PARTIALS, 2), propose(made, PARTIALS, 2), strict=True):  # type: ignore[arg-type]
        same(mine, others)
    asyncio.run(loaded.aclose())  # type: ignore[attr-defined]


@pytest.mark.parametrize("model_type", ["qwen2", "llama", "phi3"])
def test_a_tokenizer_is_what_its_file_says(tmp_path: Path, model_type: str) -> None:
    """AutoTokenizer of transformers 5.24 splits a Qwen2 checkpoint's text by the rules of Qwen2's own tokenizer."""
    folder = shutil.copytree(nano.POLICY, tmp_path / "policy")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": model_type}))
    loaded = load_tokenizer(str(folder), "policy")
    original = Tokenizer.from_file(str(nano.POLICY / "tokenizer.json"))
    solutions = [record.solution for record in nano.generate("heldout", 60, 1)]
    for text in ("If 3) x = 'a' # don't\n\n  y == 12345", "e\u0301 \t\n\n x", *solutions):
        assert loaded(text)["input_ids"] == original.encode(text).ids


def without(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink()


def shortened(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-64])


def configured(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | values))

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "there is no policy checkpoint at "),
        (lambda folder: without(folder, "config.json"), "is a folder without config.json: give the folder of a checkpoint"),
        (lambda folder: without(folder, "model.safetensors"), "could not be loaded: .*model.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x10" + bytes(7) + b"no"), "could not be loaded: "),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), "could not be loaded: "),
        (shortened, "could not be loaded: "),
        (lambda folder: (folder / "config.json").write_text("{"), "could not be loaded: .*JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "could not be loaded: "),
        (configured(model_type="nonsense"), "could not be loaded: .*nonsense"),
        (configured(model_type="vit"), "could not be loaded: "),
        (configured(hidden_size=64), "is no policy, it lacks .*shape"),
        (configured(num_hidden_layers=3), r"is no policy, it lacks model\.layers\.2.* and 6 more: give one trained as a pol"),
        (lambda folder: without(folder, "tokenizer.json"), "tokenizer"),
        (lambda folder: without(folder, "tokenizer.json", "tokenizer_config.json"), "tokenizer"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "tokenizer.* could not be loaded: "),
        (lambda folder: (folder / "tokenizer_config.json").write_text("{"), "could not be loaded: "),
    ],
)
def test_a_bad_checkpoint_is_one_sentence(
    checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], damage: Callable[[Path], object], message: str
) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "bad")
    damage(folder)
    with pytest.raises(InvalidInput, match=message) as raised:
        load_policy(folder, device="cpu")
    assert str(folder) in str(raised.value) and "\n" not in str(raised.value) and len(str(raised.value)) < 700
    assert raised.value.__cause__ is None and (raised.value.__suppress_context__ or raised.value.__context__ is None)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nobody/no-such-model", "could not be loaded: .*a name on the Hugging Face hub"),
        ("no-such-model", "could not be loaded: .*a name on the Hugging Face hub"),
        ("./no-such-folder", "there is no policy checkpoint at "),
        ("~/no-such-folder", "there is no policy checkpoint at "),
        ("/no/such/folder", "there is no policy checkpoint at "),
        (__file__, "there is no policy checkpoint at "),
    ],
)
def test_a_name_that_leads_nowhere_is_one_sentence(capfd: pytest.CaptureFixture[str], name: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as raised:
        load_policy(name)
    assert repr(name) in str(raised.value) and "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_a_ppm_is_no_policy(tmp_path: Path, tokenizer: Any) -> None:
    config = transformers.LlamaConfig(**SIZES, vocab_size=len(tokenizer), num_labels=1)
    transformers.LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InvalidInput, match=r"is no policy, it lacks lm_head\.weight: give one trained as a policy"):
        load_policy(tmp_path, device="cpu")


@pytest.mark.parametrize("device", ["nonsense", "cuda:977"])
def test_a_device_that_is_not_there_is_one_sentence(checkpoint: Path, device: str) -> None:
    with pytest.raises(InvalidInput, match=f"device.*{device}.*: give "):
        load_policy(checkpoint, device=device)


def test_an_unknown_setting_is_named(checkpoint: Path) -> None:
    with pytest.raises(InvalidInput, match="does not take these settings .*'warmth'"):
        load_policy(checkpoint, device="cpu", warmth=1)
