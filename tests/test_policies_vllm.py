"""The vLLM policy against a stand-in for the part of vLLM's interface that it uses; vLLM itself needs a GPU."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from rstar_fast import steps
from rstar_fast.policies.vllm import VllmPolicy
from rstar_fast.types import Candidate, InvalidInput, Partial, PartialTooLong, PolicyError, Problem

END_OF_TEXT = "<|endoftext|>"
ROOT = Partial(Problem("What is 2 + 3?", id="two-plus-three"))


class Tokenizer:
    """A token per character, save for END_OF_TEXT and the pieces it is asked to hold together."""

    def __init__(self) -> None:
        self.pieces = [END_OF_TEXT]

    def __call__(self, text: str) -> SimpleNamespace:
        text.encode("utf-8")  # as real tokenizers do: no surrogates
        return SimpleNamespace(input_ids=[ord(character) for character in text])

    def token(self, piece: str) -> int:
        if len(piece) == 1:
            return ord(piece)
        if piece not in self.pieces:
            self.pieces.append(piece)
        return sys.maxunicode + 1 + self.pieces.index(piece)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        texts = [chr(i) if i <= sys.maxunicode else self.pieces[i - sys.maxunicode - 1] for i in ids]
        return "".join(text for text in texts if not (skip_special_tokens and text == END_OF_TEXT))


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    max_tokens: int | None = 16
    stop: Sequence[str] = ()
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    logprobs: int | None = None


# What the model writes: from the prompt, the sample's index and its seed, the pieces of text, one a token.
Writer = Callable[[str, int, int], Sequence[str]]


class LLM:
    """Generates what `write` says, and ends it as vLLM's own detokenizer does: after each token it looks for a stop string
    in the text; the end-of-text token ends a sample without a `stop_reason`, and is text where stop strings are kept."""

    def __init__(self, model: str, *, max_model_len: int = 500, **settings: Any) -> None:
        if model == "missing":
            raise OSError("missing is not a local folder")
        self.settings = {"model": model, **settings}
        self.llm_engine = SimpleNamespace(model_config=SimpleNamespace(max_model_len=max_model_len))
        self.tokenizer = Tokenizer()
        self.write: Writer = lambda prompt, sample, seed: [*"# add\n", "<end_of_", "step>"]
        self.calls: list[list[SamplingParams]] = []
        self.threads: set[str] = set()

    def get_tokenizer(self) -> Tokenizer:
        return self.tokenizer

    def generate(self, prompts: list[Any], sampling_params: list[SamplingParams], *, use_tqdm: bool = True) -> list[Any]:
        assert not use_tqdm
        self.calls.append(sampling_params)
        self.threads.add(threading.current_thread().name)
        outputs = []
        for prompt, sampling in zip(prompts, sampling_params, strict=True):
            ids = prompt["prompt_token_ids"]
            if len(ids) + sampling.max_tokens > self.llm_engine.model_config.max_model_len:
                raise ValueError("a prompt is longer than the model's context")  # and the whole call is lost
            samples = [self._sample(self.tokenizer.decode(ids), i, sampling) for i in range(sampling.n)]
            outputs.append(SimpleNamespace(outputs=samples))
        return outputs

    def _sample(self, prompt: str, index: int, sampling: SamplingParams) -> SimpleNamespace:
        text, ids, finish_reason, stop_reason = "", [], "length", None
        for piece in self.write(prompt, index, sampling.seed + index)[: sampling.max_tokens]:
            ids.append(self.tokenizer.token(piece))
            if piece == END_OF_TEXT:
                finish_reason = "stop"
                text += piece if sampling.include_stop_str_in_output and not sampling.skip_special_tokens else ""
                break
            text += piece
            found = [stop for stop in sampling.stop if stop in text]
            if found:
                end = text.index(found[0]) + (len(found[0]) if sampling.include_stop_str_in_output else 0)
                text, finish_reason, stop_reason = text[:end], "stop", found[0]
                break
        logprob = None if sampling.logprobs is None else -0.5 * len(ids)
        return SimpleNamespace(
            text=text, token_ids=tuple(ids), cumulative_logprob=logprob, finish_reason=finish_reason, stop_reason=stop_reason
        )


@pytest.fixture(autouse=True)
def vllm(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("vllm")
    module.LLM = LLM  # type: ignore[attr-defined]
    module.SamplingParams = SamplingParams  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)
    return module


def make(write: Writer | None = None, **settings: Any) -> tuple[VllmPolicy, LLM]:
    policy = VllmPolicy.from_pretrained("tiny", **settings)
    engine = policy._engine
    engine.write = write or engine.write
    return policy, engine


def propose(policy: VllmPolicy, partials: list[Partial] | None = None, n: int = 1) -> list[Any]:
    return asyncio.run(policy.propose(partials or [ROOT], n))


def test_the_settings_reach_the_engine() -> None:
    policy, engine = make(seed=3, temperature=0.7, top_p=0.9, top_k=5, max_step_tokens=77, tensor_parallel_size=2)
    assert engine.settings == {"model": "tiny", "enable_prefix_caching": True, "seed": 3, "tensor_parallel_size": 2}
    assert propose(policy, n=4) == [[Candidate("# add\n", steps.END_OF_STEP, 8)] * 4]
    ((sampling,),) = engine.calls
    assert sampling == SamplingParams(
        n=4,
        temperature=0.7,
        top_p=0.9,
        top_k=5,
        seed=sampling.seed,
        max_tokens=77,
        stop=list(steps.STOPS),
        include_stop_str_in_output=True,
        skip_special_tokens=False,
        spaces_between_special_tokens=False,
    )


def test_an_engine_setting_overrides_the_default() -> None:
    assert make(enable_prefix_caching=False)[1].settings["enable_prefix_caching"] is False


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["x", "<end_of_code>"], Candidate("x", steps.END_OF_CODE, 2)),
        (["x", " <end_", "of_answer>\n<"], Candidate("x ", steps.END_OF_ANSWER, 3)),  # the last token straddles its end
        (["x<end_of_answer><end_of_step>"], Candidate("x", steps.END_OF_ANSWER, 1)),
        (["x", "y", END_OF_TEXT], Candidate("xy", None, 3)),
        ([END_OF_TEXT], Candidate("", None, 1)),
        (["x", "<end_of_"], Candidate("x<end_of_", None, 2)),  # out of tokens
        (["x", "<|endoftext", "|>"], Candidate("x<|endoftext|>", None, 3)),  # as text, not as the token
    ],
)
def test_the_stop_string_is_exact(pieces: list[str], expected: Candidate) -> None:
    policy, _ = make(lambda prompt, sample, seed: pieces)
    assert propose(policy) == [[expected]]


def test_logprobs_are_set_on_request() -> None:
    policy, engine = make(logprobs=True)
    assert propose(policy) == [[Candidate("# add\n", steps.END_OF_STEP, 8, -4.0)]]
    assert engine.calls[0][0].logprobs == 0


def test_a_call_is_one_batch_and_its_results_keep_the_order() -> None:
    policy, engine = make(lambda prompt, sample, seed: [prompt[-1], str(sample), "<end_of_step>"])
    partials = [Partial(ROOT.problem, letter) for letter in "abc"]
    result = propose(policy, partials, n=2)
    assert result == [[Candidate(f"{letter}{i}", steps.END_OF_STEP, 3) for i in range(2)] for letter in "abc"]
    assert len(engine.calls) == 1
    assert propose(policy, partials[:1]) == [[Candidate("a0", steps.END_OF_STEP, 3)]]
    (name,) = engine.threads  # one thread, not the event loop's
    assert name.startswith("rstar_fast-vllm")


def test_no_partials_need_no_engine() -> None:
    policy, engine = make()
    assert asyncio.run(policy.propose([], 4)) == []
    assert engine.calls == []


def test_seeds_differ_by_leaf_and_by_call_and_repeat_by_policy() -> None:
    def seeds(seed: int) -> list[int]:
        policy, engine = make(seed=seed)
        for _ in range(2):
            propose(policy, [ROOT, Partial(ROOT.problem, "a")])
        return [sampling.seed for call in engine.calls for sampling in call]

    first = seeds(0)
    assert len(set(first)) == 4
    assert seeds(0) == first
    assert not set(seeds(1)) & set(first)


def test_a_partial_too_long_does_not_lose_the_others() -> None:
    policy, engine = make()
    long = Partial(ROOT.problem, "x" * 500)
    first, second, third = propose(policy, [ROOT, long, ROOT])
    assert first == third == [Candidate("# add\n", steps.END_OF_STEP, 8)]
    assert isinstance(second, PartialTooLong)
    assert "'two-plus-three'" in str(second) and str(len(steps.prompt(long))) in str(second) and "500" in str(second)
    (error,) = propose(policy, [long])
    assert isinstance(error, PartialTooLong)
    assert len(engine.calls) == 1  # an engine is not asked for nothing


@pytest.mark.parametrize("room", [1, 5])
def test_near_the_end_of_the_context_less_is_asked_for(room: int) -> None:
    policy, engine = make(max_model_len=len(steps.prompt(ROOT)) + room)
    assert propose(policy) == [[Candidate("# add\n"[:room], None, room)]]
    assert engine.calls[0][0].max_tokens == room


def test_an_engine_that_fails_is_an_error_of_each_partial() -> None:
    def write(prompt: str, sample: int, seed: int) -> list[str]:
        raise RuntimeError("EngineCore died")

    policy, _ = make(write)
    result = propose(policy, [ROOT, ROOT])
    assert [type(error) for error in result] == [PolicyError] * 2
    assert "RuntimeError: EngineCore died" in str(result[0])


def test_lone_surrogates_do_no_harm() -> None:
    policy, _ = make(lambda prompt, sample, seed: [prompt[-1], "\ud800"])
    assert propose(policy, [Partial(Problem("q\ud800"), "\udfff")]) == [[Candidate("\ufffd\ufffd", None, 2)]]


def test_a_closed_policy_says_so() -> None:
    policy, _ = make()

    async def main() -> None:
        await policy.propose([ROOT], 1)
        await policy.aclose()
        with pytest.raises(PolicyError, match="closed"):
            await policy.propose([ROOT], 1)

    asyncio.run(main())


def test_without_vllm_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(InvalidInput, match=r"'vllm:Qwen/Q' needs vLLM: pip install 'rstar_fast\[vllm\]'"):
        VllmPolicy.from_pretrained("Qwen/Q")


def test_a_broken_vllm_is_not_taken_for_a_missing_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "vllm.py").write_text("import no_such_module_of_vllm\n")
    monkeypatch.delitem(sys.modules, "vllm")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InvalidInput, match="cannot be imported .*no_such_module_of_vllm"):
        VllmPolicy.from_pretrained("tiny")


def test_a_model_that_cannot_be_loaded() -> None:
    with pytest.raises(InvalidInput, match="could not start with 'missing' .*not a local folder"):
        VllmPolicy.from_pretrained("missing")


@pytest.mark.parametrize("setting", [{"temperature": -1.0}, {"top_p": 0.0}, {"top_k": -1}, {"max_step_tokens": 0}])
def test_unusable_settings(setting: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=f"{next(iter(setting))}.*give"):
        make(**setting)


def test_n_must_be_positive() -> None:
    with pytest.raises(InvalidInput, match="n is 0"):
        propose(make()[0], n=0)
