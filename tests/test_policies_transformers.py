"""The transformers policy, and loading its checkpoints."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sampling import CONTEXT, LONG, MIDDLE, PARTIALS, SHORT, SIZES, plainly, prompts_of, random_model, same
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from rstar_fast import nano, steps
from rstar_fast.policies import load_policy
from rstar_fast.policies.checkpoint import load_model, load_tokenizer, step_tokens
from rstar_fast.policies.generation import SharedRows
from rstar_fast.policies.transformers import TransformersPolicy
from rstar_fast.types import Candidate, InvalidInput, Partial, PartialTooLong, Problem

pytestmark = pytest.mark.usefixtures("one_thread")


def propose(policy: TransformersPolicy, partials: Sequence[Partial], n: int) -> list[Any]:
    return asyncio.run(policy.propose(partials, n))


def texts(candidates: Sequence[Candidate]) -> list[str]:
    return [candidate.step for candidate in candidates]


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


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each pass of the model generates for."""
    rows: list[int] = []
    advance = SharedRows.advance

    def counted(self: SharedRows, tokens: torch.Tensor) -> None:
        rows.append(len(tokens))
        advance(self, tokens)

    monkeypatch.setattr(SharedRows, "advance", counted)
    return rows


@pytest.mark.parametrize("max_rows", [1, 3, 4, 7])
def test_no_more_rows_than_allowed_are_generated_at_a_time(
    policy: Callable[..., TransformersPolicy], monkeypatch: pytest.MonkeyPatch, generated: list[int], max_rows: int
) -> None:
    expected = propose(policy(), PARTIALS, 5)
    generated.clear()
    begun: list[int] = []
    join = SharedRows.join

    def counted(self: SharedRows, prompts: Sequence[np.ndarray], names: Sequence[np.ndarray], owners: Any) -> None:
        begun.extend(map(len, names))
        join(self, prompts, names, owners)

    monkeypatch.setattr(SharedRows, "join", counted)
    for mine, others in zip(propose(policy(max_rows=max_rows), PARTIALS, 5), expected, strict=True):
        same(mine, others)
    assert max(generated) == max_rows and sum(begun) == 15


def test_calls_that_overlap_share_what_is_generated(policy: Callable[..., TransformersPolicy], generated: list[int]) -> None:
    expected = [propose(policy(), [partial], 3)[0] for partial in PARTIALS]

    async def together() -> list[Any]:
        asked = policy()
        return await asyncio.gather(*(asked.propose([partial], 3) for partial in PARTIALS))

    generated.clear()
    for (mine,), others in zip(asyncio.run(together()), expected, strict=True):
        same(mine, others)
    assert max(generated) > 3


def test_a_call_that_is_cancelled_leaves_the_others_be(
    policy: Callable[..., TransformersPolicy], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = propose(policy(max_step_tokens=30), [SHORT], 2)[0]
    begun, may_go_on = threading.Event(), threading.Event()
    rows: list[int] = []
    advance = SharedRows.advance

    def held_up(self: SharedRows, tokens: torch.Tensor) -> None:
        rows.append(len(tokens))
        begun.set()
        assert may_go_on.wait(60)
        advance(self, tokens)

    async def cancelled() -> Any:
        asked = policy(max_step_tokens=30)
        lost, kept = (asyncio.create_task(asked.propose([partial], 2)) for partial in (LONG, SHORT))
        await asyncio.to_thread(begun.wait, 60)
        lost.cancel()
        with pytest.raises(asyncio.CancelledError):
            await lost
        may_go_on.set()
        answer = await kept
        assert not asked._asked_by and not asked._sampler.is_busy
        return answer[0]

    monkeypatch.setattr(SharedRows, "advance", held_up)
    same(asyncio.run(cancelled()), expected)
    assert sum(count > 2 for count in rows) <= 1  # of the four rows those that nobody waits for are generated no further


def test_a_failure_is_only_of_the_call_that_has_it(
    policy: Callable[..., TransformersPolicy], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = propose(policy(), [SHORT], 2)[0]
    join = SharedRows.join

    def failing(self: SharedRows, prompts: Sequence[np.ndarray], *others: Any) -> None:
        if any(len(prompt) > 60 for prompt in prompts):
            raise MemoryError("too much of it")
        join(self, prompts, *others)

    async def together() -> list[Any]:
        asked = policy()
        calls = [asked.propose([partial], 2) for partial in (SHORT, LONG, SHORT)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        return [*answers, await asked.propose([MIDDLE], 2)]

    monkeypatch.setattr(SharedRows, "join", failing)
    first, failed, second, later = asyncio.run(together())
    same(first[0], expected)
    assert isinstance(failed, MemoryError)
    assert len(second[0]) == 2 and not set(texts(second[0])) & set(texts(first[0]))
    same(later[0], propose(policy(), [MIDDLE], 2)[0])


def test_what_memory_did_not_do_for_is_gone_before_it_is_tried_again(
    policy: Callable[..., TransformersPolicy], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = propose(policy(), [SHORT], 2)[0]
    held: list[weakref.ref[Any]] = []
    advance = SharedRows.advance

    def failing(self: SharedRows, tokens: torch.Tensor) -> None:
        advance(self, tokens)
        if not held:
            held.append(weakref.ref(self))
            raise torch.OutOfMemoryError("too many rows")
        assert held[0]() is None

    monkeypatch.setattr(SharedRows, "advance", failing)
    same(propose(policy(), [SHORT], 2)[0], expected)
    assert held


def test_a_number_of_samples_below_zero_is_refused(policy: Callable[..., TransformersPolicy]) -> None:
    with pytest.raises(InvalidInput, match="n is -1: give an integer >= 0"):
        propose(policy(), [SHORT], -1)


def test_calls_are_merged_where_the_model_has_a_decoder(policy: Callable[..., TransformersPolicy], tokenizer: Any) -> None:
    assert policy().merges_calls
    assert not TransformersPolicy(random_model("phi3, sliding window"), tokenizer).merges_calls


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


@pytest.mark.parametrize(("of_checkpoint", "asked", "most"), [(None, None, 512), (5, None, 5), (5, 7, 7), (2048, None, 512)])
def test_a_checkpoint_may_say_how_long_its_steps_are(
    tokenizer: Any, of_checkpoint: int | None, asked: int | None, most: int
) -> None:
    model = random_model("llama")
    model.generation_config.max_new_tokens = of_checkpoint
    assert step_tokens(model.generation_config, asked) == most
    if most < 10:
        (candidates,) = propose(TransformersPolicy(model, tokenizer, max_step_tokens=asked), [SHORT], 20)
        assert max(candidate.tokens for candidate in candidates) == most


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
