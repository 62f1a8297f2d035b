"""A PPM that reads the question back, against transformers' log-probabilities of one text at a time."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from tiny_models import ARCHITECTURES
from transformers import PreTrainedModel

from rstar_fast import steps
from rstar_fast.ppm import load_scorer
from rstar_fast.ppm import model as ppm
from rstar_fast.ppm.channel import ChannelScorer
from rstar_fast.ppm.scorer import PpmScorer
from rstar_fast.types import InvalidInput, Partial, PartialTooLong, Problem

pytestmark = pytest.mark.usefixtures("one_thread")
CONTEXT = 160
BIAS, SCALE = 40.0, 60.0
SUM = Problem("What is 2 + 3?", id="sum")
FIRST = "<code>\n# Add\nx = 2 + 3\n<end_of_step>"
PARTIALS = [
    Partial(SUM, FIRST + "\n# Look at it\nprint(x)\n<end_of_code>\n<output>5<end_of_output>"),
    Partial(SUM),
    Partial(SUM, FIRST),
    Partial(SUM, "<code>\nx = 2 - 3\n<end_of_step>"),
    Partial(Problem("How many integers from 1 to 30 are divisible by 7?", id="count"), "<code>\n# Count\n<end_of_step>"),
]


def channel(folder: Path, bias: float = BIAS, scale: float = SCALE) -> Path:
    """Makes a policy's folder one of a PPM."""
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(told | {"ppm_kind": "channel", "ppm_bias": bias, "ppm_scale": scale}))
    return folder


@pytest.fixture(scope="module", params=ARCHITECTURES)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    folder = tmp_path_factory.mktemp("ppm")
    return channel(tiny_models.make_policy(request.param, folder, tokenizer, max_position_embeddings=CONTEXT))


@pytest.fixture(scope="module")
def qwen2(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    folder = tmp_path_factory.mktemp("qwen2")
    return channel(tiny_models.make_policy("qwen2", folder, tokenizer, max_position_embeddings=CONTEXT))


def score(scorer: Any, partials: Sequence[Partial]) -> np.ndarray:
    return asyncio.run(scorer.score(partials))


@torch.inference_mode()
def one_by_one(model: PreTrainedModel, tokenizer: Any, partials: Sequence[Partial]) -> list[float]:
    """tanh((log p + bias) / scale), where log p is the sum over the question's tokens behind solution and user's line."""
    found = []
    for partial in partials:
        before = tokenizer(f"{partial.solution}\n<|user|>:\n")["input_ids"]
        whole = tokenizer(f"{partial.solution}\n<|user|>:\n{partial.problem.question}")["input_ids"]
        assert whole[: len(before)] == before
        log_p = model(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
        total = sum(float(log_p[at - 1, whole[at]]) for at in range(len(before), len(whole)))
        found.append(math.tanh((total + BIAS) / SCALE))
    return found


@pytest.mark.parametrize("batch_tokens", [1, 7, 50, 16_384])
def test_scores_are_those_of_one_text_at_a_time(checkpoint: Path, tokenizer: Any, batch_tokens: int) -> None:
    model = ppm.load_channel(str(checkpoint), device="cpu")
    expected = one_by_one(model, tokenizer, PARTIALS)
    assert len({round(value, 3) for value in expected}) == len(PARTIALS)
    scores = score(ChannelScorer(model, tokenizer, batch_tokens=batch_tokens), PARTIALS)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, atol=2e-5)


def test_what_is_asked_for_again_or_goes_on_is_not_computed_again(qwen2: Path, tokenizer: Any) -> None:
    scorer = ChannelScorer.from_pretrained(str(qwen2), device="cpu")
    together = score(scorer, PARTIALS)
    computed = scorer.stats.tokens_computed
    assert computed < scorer.stats.tokens_given  # the first step and the rest of its line are shared
    assert score(scorer, PARTIALS).tolist() == together.tolist()
    assert scorer.stats.tokens_computed == computed

    alone = ChannelScorer.from_pretrained(str(qwen2), device="cpu", kept_tokens=1, batch_tokens=13)
    one_at_a_time = [score(alone, [partial]).item() for partial in PARTIALS[::-1] + PARTIALS]
    np.testing.assert_allclose(one_at_a_time, [*together[::-1], *together], atol=2e-5)


def test_a_solution_in_which_a_user_speaks(qwen2: Path, tokenizer: Any) -> None:
    said = Partial(SUM, f"{FIRST}\n<|user|>:\nWhat is 2 + 3?")
    assert steps.read_back(said) == (f"{FIRST}\n[user]:\nWhat is 2 + 3?\n<|user|>:\n", "What is 2 + 3?")
    scorer = ChannelScorer.from_pretrained(str(qwen2), device="cpu")
    scores = score(scorer, [said, Partial(SUM, FIRST), said])
    assert np.isfinite(scores).all() and scores[0] == scores[2] != scores[1]
    fresh = ChannelScorer.from_pretrained(str(qwen2), device="cpu")
    np.testing.assert_allclose(score(fresh, [Partial(SUM, FIRST)]), scores[1:2], atol=2e-5)


def test_the_config_says_which_kind_a_ppm_is(qwen2: Path, tmp_path: Path, tokenizer: Any) -> None:
    assert isinstance(load_scorer(qwen2, device="cpu"), ChannelScorer)
    head = tmp_path / "head"
    ppm.save(ppm.from_policy(str(qwen2)), tokenizer, head)
    assert isinstance(load_scorer(head, device="cpu"), PpmScorer)


def test_text_that_is_too_long(qwen2: Path) -> None:
    with pytest.raises(PartialTooLong, match="of problem 'sum' is .* tokens long and the PPM's context 160"):
        score(ChannelScorer.from_pretrained(str(qwen2), device="cpu"), [Partial(SUM, "x = 1\n" * 100)])


def test_a_checkpoint_that_cannot_read_back(qwen2: Path, tmp_path: Path, tokenizer: Any) -> None:
    head = tmp_path / "head"
    ppm.save(ppm.from_policy(str(tiny_models.make_policy("qwen2", tmp_path / "p", tokenizer, tie_word_embeddings=False))), tokenizer, head)
    with pytest.raises(InvalidInput, match="is no PPM, it lacks lm_head.weight"):
        load_scorer(channel(head), device="cpu")
    capped = tmp_path / "capped"
    shutil.copytree(qwen2, capped)
    told = json.loads((capped / "config.json").read_text())
    (capped / "config.json").write_text(json.dumps(told | {"final_logit_softcapping": 30.0}))
    with pytest.raises(InvalidInput, match="changes the logits of its head \\(final_logit_softcapping\\)"):
        load_scorer(capped, device="cpu")
