"""The vLLM scorer against a stand-in for the part of vLLM's interface that it uses; vLLM itself needs a GPU."""

from __future__ import annotations

import asyncio
import math
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import rstar_fast
from rstar_fast import steps
from rstar_fast.ppm.vllm import VllmScorer
from rstar_fast.types import InvalidInput, Partial, PartialTooLong, Problem, ScorerError

PROBLEM = Problem("What is 2 + 3?", id="two-plus-three")


@dataclass(frozen=True, kw_only=True)
class PoolingParams:
    use_activation: bool | None = None


class LLM:
    """Classifies with the logit `logit` says, from the prompt; a token per character."""

    def __init__(self, model: str, *, max_model_len: int = 500, hf_config: Any = None, **settings: Any) -> None:
        if model == "missing":
            raise OSError("missing is not a local folder")
        self.settings = {"model": model, **settings}
        hf_config = SimpleNamespace(num_labels=1) if hf_config is None else hf_config
        self.llm_engine = SimpleNamespace(model_config=SimpleNamespace(max_model_len=max_model_len, hf_config=hf_config))
        self.logit: Callable[[str], Sequence[float]] = lambda prompt: [float(prompt.rpartition("code.")[2])]
        self.calls: list[list[str]] = []
        self.said: dict[str, Any] = {}  # of each prompt, beside the logit
        self.threads: set[str] = set()

    def get_tokenizer(self) -> Any:
        return lambda text: SimpleNamespace(input_ids=list(text.encode("utf-8")))  # as real tokenizers do: no surrogates

    def classify(self, prompts: list[Any], *, pooling_params: PoolingParams, use_tqdm: bool = True) -> list[Any]:
        assert not use_tqdm
        assert pooling_params == PoolingParams(use_activation=False)
        self.threads.add(threading.current_thread().name)
        texts = [bytes(prompt["prompt_token_ids"]).decode() for prompt in prompts]
        self.calls.append(texts)
        if any(len(prompt["prompt_token_ids"]) > self.llm_engine.model_config.max_model_len for prompt in prompts):
            raise ValueError("a prompt is longer than the model's context")  # and the whole call is lost
        return [SimpleNamespace(outputs=SimpleNamespace(probs=self.logit(text)), **self.said) for text in texts]


@pytest.fixture(autouse=True)
def vllm(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("vllm")
    module.LLM = LLM  # type: ignore[attr-defined]
    module.PoolingParams = PoolingParams  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)
    return module


def make(logit: Callable[[str], Sequence[float]] | None = None, **settings: Any) -> tuple[VllmScorer, LLM]:
    scorer = VllmScorer.from_pretrained("tiny", **settings)
    engine = scorer._engine
    engine.logit = logit or engine.logit
    return scorer, engine


def score(scorer: VllmScorer, *solutions: object) -> np.ndarray:
    return asyncio.run(scorer.score([Partial(PROBLEM, str(solution)) for solution in solutions]))


def test_the_settings_reach_the_engine() -> None:
    _, engine = make(tensor_parallel_size=2)
    assert engine.settings == {
        "model": "tiny",
        "runner": "pooling",
        "enable_prefix_caching": True,
        "tensor_parallel_size": 2,
    }
    _, engine = make(convert="classify", enable_prefix_caching=False)
    assert engine.settings["convert"] == "classify" and engine.settings["enable_prefix_caching"] is False


def test_a_call_is_one_batch_and_its_scores_keep_the_order() -> None:
    scorer, engine = make()
    scores = score(scorer, 1.5, -2.0, 1.5, 0.25)
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores, np.tanh(np.array([1.5, -2.0, 1.5, 0.25]) / 5).astype(np.float32))
    assert engine.calls == [[steps.prompt(Partial(PROBLEM, solution)) for solution in ("1.5", "-2.0", "0.25")]]  # each once
    (name,) = engine.threads  # one thread, not the event loop's
    assert name.startswith("rstar_fast-vllm-ppm")


def test_tokens_are_counted_by_problem_without_those_of_the_cache() -> None:
    scorer, engine = make()
    other = Problem("What is 1?", id="one")
    given = [Partial(PROBLEM, "1.5"), Partial(PROBLEM, "1.5"), Partial(PROBLEM, "-2.25"), Partial(other, "0.5")]
    of_text = {partial: len(steps.prompt(partial)) for partial in given}  # a token per character

    asyncio.run(scorer.score(given))
    assert scorer.tokens_of(PROBLEM) == of_text[given[0]] + of_text[given[2]] and scorer.tokens_of(other) == of_text[given[3]]
    engine.said = {"num_cached_tokens": 7}
    asyncio.run(scorer.score(given[3:]))
    assert scorer.tokens_of(other) == 2 * of_text[given[3]] - 7
    engine.said = {"num_cached_tokens": None}
    scorer.release(PROBLEM)
    asyncio.run(scorer.score(given[:1]))
    assert scorer.tokens_of(PROBLEM) == of_text[given[0]] and scorer.tokens_of(Problem("Unknown?")) == 0


def test_the_scale_is_the_checkpoint_s() -> None:
    scorer, _ = make(hf_config=SimpleNamespace(num_labels=1, ppm_scale=2.0))
    np.testing.assert_array_equal(score(scorer, 1.5), np.tanh(np.array([0.75])).astype(np.float32))
    with pytest.raises(InvalidInput, match="the PPM's scale is 'big': give a number > 0"):
        make(hf_config=SimpleNamespace(num_labels=1, ppm_scale="big"))


def test_no_logit_reaches_the_ends_of_the_range() -> None:
    low, high = score(make()[0], -1e30, 1e30)
    assert -1 < low < -0.999999 and 0.999999 < high < 1


def test_no_partials_need_no_engine() -> None:
    scorer, engine = make()
    assert score(scorer).shape == (0,)
    assert engine.calls == []


def test_a_model_with_more_labels_is_no_ppm() -> None:
    with pytest.raises(InvalidInput, match="has 2 labels: give a PPM"):
        make(hf_config=SimpleNamespace(num_labels=2))
    with pytest.raises(InvalidInput, match="reads questions back, and vLLM's pooling does not score so: give its name without 'vllm:'"):
        make(hf_config=SimpleNamespace(ppm_kind="channel"))


def test_the_partial_that_is_too_long_is_named() -> None:
    scorer, engine = make()
    long = Partial(PROBLEM, "1" * 500)
    with pytest.raises(PartialTooLong) as raised:
        score(scorer, 1.5, long.solution)
    assert "'two-plus-three'" in str(raised.value)
    assert str(len(steps.prompt(long))) in str(raised.value) and "500" in str(raised.value)
    assert engine.calls == []


def test_a_context_may_be_filled() -> None:
    scorer, _ = make(max_model_len=len(steps.prompt(Partial(PROBLEM, "1.5"))))
    assert score(scorer, 1.5).shape == (1,)
    with pytest.raises(PartialTooLong):
        score(scorer, 1.25)


def test_an_engine_that_fails() -> None:
    def logit(prompt: str) -> list[float]:
        raise RuntimeError("EngineCore died")

    with pytest.raises(ScorerError, match="vLLM failed on 2 prompts .RuntimeError: EngineCore died"):
        score(make(logit)[0], 1, 2)


@pytest.mark.parametrize("row", [[], [0.25, 0.75]])
def test_another_number_of_logits(row: list[float]) -> None:
    with pytest.raises(ScorerError, match="for 2 prompts: expected one logit for each"):
        score(make(lambda prompt: row if prompt.endswith("2") else [1.0])[0], 1, 2)


def test_another_number_of_results() -> None:
    scorer, engine = make()
    engine.classify = lambda *arguments, **settings: []  # type: ignore[method-assign]
    with pytest.raises(ScorerError, match="for 1 prompts: expected one logit for each"):
        score(scorer, 1)


def test_a_logit_that_is_no_number() -> None:
    with pytest.raises(ScorerError, match="vLLM returned nan as a logit"):
        score(make(lambda prompt: [math.nan])[0], 1)


def test_lone_surrogates_do_no_harm() -> None:
    scorer, engine = make()
    asyncio.run(scorer.score([Partial(Problem("q\ud800"), "1.5")]))
    assert engine.calls == [[steps.prompt(Partial(Problem("q\ufffd"), "1.5"))]]


def test_a_closed_scorer_says_so() -> None:
    scorer, _ = make()

    async def main() -> None:
        await scorer.score([Partial(PROBLEM, "1")])
        await scorer.aclose()
        with pytest.raises(ScorerError, match="closed"):
            await scorer.score([Partial(PROBLEM, "1")])

    asyncio.run(main())


def test_without_vllm_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(InvalidInput, match=r"the PPM 'vllm:my/ppm' needs vLLM: pip install 'rstar_fast\[vllm\]'"):
        rstar_fast.load_scorer("vllm:my/ppm")


def test_a_model_that_cannot_be_loaded() -> None:
    with pytest.raises(InvalidInput, match="could not start with 'missing' .*not a local folder"):
        VllmScorer.from_pretrained("missing")


def test_load_scorer_knows_vllm() -> None:
    scorer: Any = rstar_fast.load_scorer("vllm:tiny", max_model_len=700)
    assert isinstance(scorer, VllmScorer)
    assert scorer._engine.settings["model"] == "tiny"
