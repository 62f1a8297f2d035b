"""The PPM: making, saving and loading it, and its scores against one sequence at a time, unpadded."""

from __future__ import annotations

import asyncio
import copy
import json
import math
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import ARCHITECTURES, SIZES
from transformers import AutoModelForSequenceClassification, PreTrainedModel

import rstar_fast
from rstar_fast import steps
from rstar_fast.policies.checkpoint import load_tokenizer, quiet
from rstar_fast.ppm import load_scorer
from rstar_fast.ppm import model as ppm
from rstar_fast.ppm.prefixes import Run
from rstar_fast.ppm.scorer import PpmScorer
from rstar_fast.storage import atomic
from rstar_fast.types import InvalidInput, Partial, PartialTooLong, Problem, Scorer

pytestmark = pytest.mark.usefixtures("one_thread")
CONTEXT = 128
QUESTION = Problem("What is 2 + 3?", id="sum")
PARTIALS = [
    Partial(QUESTION, "<code>\n# Add\nx = 2 + 3\n<end_of_step>\n" + "# Look at it\nprint(x)\n" * 2),
    Partial(QUESTION),
    Partial(QUESTION, "<code>\n"),
    Partial(Problem("How many integers from 1 to 30 are divisible by 7?", id="count"), "<code>\n# Count\n<end_of_step>"),
    Partial(Problem("Name a prime.", id="prime"), "<code>\nprint(7)\n<end_of_code>\n<output>7<end_of_output>\n"),
    Partial(QUESTION, "<code>\nx = 2 - 3\n<end_of_step>"),
]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def policy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    return make_policy(request.param, tmp_path_factory.mktemp("policy"), tokenizer)


@pytest.fixture(scope="module")
def qwen2(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    return make_policy("qwen2", tmp_path_factory.mktemp("qwen2"), tokenizer)


@pytest.fixture(scope="module")
def checkpoint(qwen2: Path, tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    folder = tmp_path_factory.mktemp("ppms") / "ppm"
    ppm.save(ppm.from_policy(str(qwen2), seed=1), tokenizer, folder)
    return folder


def make_policy(name: str, folder: Path, tokenizer: Any) -> Path:
    return tiny_models.make_policy(name, folder, tokenizer, max_position_embeddings=CONTEXT)


def score(scorer: Scorer, partials: Sequence[Partial]) -> np.ndarray:
    return asyncio.run(scorer.score(partials))  # type: ignore[arg-type]


@torch.inference_mode()
def one_by_one(model: PreTrainedModel, tokenizer: Any, partials: Sequence[Partial], scale: float = 5.0) -> list[float]:
    """tanh(logit / scale) of the model as transformers runs it."""
    encoded = [torch.tensor([tokenizer(steps.prompt(partial))["input_ids"]]) for partial in partials]
    return [math.tanh(float(model(input_ids=ids).logits[0, 0]) / scale) for ids in encoded]


def unique_tokens(tokenizer: Any, partials: Sequence[Partial]) -> int:
    """Tokens of the trees of partial solutions: the distinct prefixes of token ids, a problem."""
    prefixes = set()
    for partial in partials:
        ids = tokenizer(steps.prompt(partial))["input_ids"]
        prefixes |= {(partial.problem.id, *ids[: n + 1]) for n in range(len(ids))}
    return len(prefixes)


def reset(model: PreTrainedModel) -> None:
    """A head whose scores fill the range."""
    with torch.no_grad():
        model.score.weight.mul_(10)


# Scores


def test_scores_are_those_of_one_sequence_at_a_time(policy: Path, tokenizer: Any) -> None:
    model = ppm.from_policy(str(policy), seed=1)
    reset(model)
    expected = one_by_one(model, tokenizer, PARTIALS)
    assert len({round(value, 3) for value in expected}) == len(PARTIALS) and max(map(abs, expected)) > 0.3
    for batch_tokens in (1, 100, 16_384):
        scores = score(PpmScorer(model, tokenizer, batch_tokens=batch_tokens), PARTIALS)
        assert scores.dtype == np.float32 and scores.shape == (len(PARTIALS),)
        np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_order_company_and_repetition_change_nothing(qwen2: Path, tokenizer: Any) -> None:
    scorer = PpmScorer(ppm.from_policy(str(qwen2), seed=1), tokenizer)
    scores = score(scorer, PARTIALS)
    np.testing.assert_allclose(score(scorer, PARTIALS[::-1]), scores[::-1], atol=1e-5)
    for i, partial in enumerate(PARTIALS):
        np.testing.assert_allclose(score(scorer, [partial]), scores[i : i + 1], atol=1e-5)
    repeated = score(scorer, [PARTIALS[2], *PARTIALS, PARTIALS[2]])
    assert repeated[0] == repeated[3] == repeated[-1]
    np.testing.assert_allclose(repeated[1:-1], scores, atol=1e-5)
    nothing = score(scorer, [])
    assert nothing.shape == (0,) and nothing.dtype == np.float32


def test_a_pass_holds_no_more_tokens_than_allowed(qwen2: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    forward = PpmScorer._forward

    def counted(self: PpmScorer, runs: list[Run]) -> np.ndarray:
        sizes.append(sum(len(run.tokens) for run in runs))
        return forward(self, runs)

    monkeypatch.setattr(PpmScorer, "_forward", counted)
    scorer = PpmScorer(ppm.from_policy(str(qwen2)), tokenizer, batch_tokens=50)
    score(scorer, [*PARTIALS, *PARTIALS])
    assert sum(sizes) == unique_tokens(tokenizer, PARTIALS) == scorer.stats.tokens_computed
    assert max(sizes) <= 50 and min(sizes[:-1]) == 50 and scorer.stats.passes == len(sizes)


def test_computed_tokens_are_counted_by_problem(qwen2: Path, tokenizer: Any) -> None:
    """Each token of a problem's tree once, also over several calls and in small passes; a released problem begins anew."""
    scorer = PpmScorer(ppm.from_policy(str(qwen2)), tokenizer, batch_tokens=50)
    problems = {partial.problem for partial in PARTIALS}
    score(scorer, [*PARTIALS, *PARTIALS])
    score(scorer, PARTIALS[:2])
    counted = {problem: scorer.tokens_of(problem) for problem in problems}
    assert counted == {problem: unique_tokens(tokenizer, [p for p in PARTIALS if p.problem == problem]) for problem in problems}
    assert sum(counted.values()) == scorer.stats.tokens_computed
    released = PARTIALS[0].problem
    scorer.release(released)
    score(scorer, [])  # behind it in the same thread
    assert scorer.tokens_of(released) == 0
    score(scorer, [PARTIALS[0]])
    assert scorer.tokens_of(released) == unique_tokens(tokenizer, [PARTIALS[0]])


def test_the_scale_stands_in_the_config(qwen2: Path, tokenizer: Any, tmp_path: Path) -> None:
    model = ppm.from_policy(str(qwen2), scale=0.5, seed=1)
    ppm.save(model, tokenizer, tmp_path / "ppm")
    assert json.loads((tmp_path / "ppm" / "config.json").read_text())["ppm_scale"] == 0.5
    expected = one_by_one(model, tokenizer, PARTIALS, scale=0.5)
    np.testing.assert_allclose(score(load_scorer(tmp_path / "ppm", device="cpu"), PARTIALS), expected, atol=1e-5)
    config = json.loads((tmp_path / "ppm" / "config.json").read_text())
    del config["ppm_scale"]
    (tmp_path / "ppm" / "config.json").write_text(json.dumps(config))
    expected = one_by_one(model, tokenizer, PARTIALS, scale=5.0)
    np.testing.assert_allclose(score(load_scorer(tmp_path / "ppm", device="cpu"), PARTIALS), expected, atol=1e-5)


def test_a_partial_beyond_the_context_is_an_error_that_names_it(qwen2: Path, tokenizer: Any) -> None:
    base = len(tokenizer(steps.prompt(Partial(QUESTION)))["input_ids"])
    scorer = PpmScorer(ppm.from_policy(str(qwen2)), tokenizer)
    fits = Partial(QUESTION, "1" * (CONTEXT - base))
    assert np.isfinite(score(scorer, [fits])).all()
    with pytest.raises(PartialTooLong, match=f"'sum' is {CONTEXT + 1} tokens long and the PPM's context {CONTEXT}: "):
        score(scorer, [*PARTIALS, Partial(QUESTION, fits.solution + "1")])


def test_a_question_that_is_no_utf8_is_scored(qwen2: Path, tokenizer: Any) -> None:
    scores = score(PpmScorer(ppm.from_policy(str(qwen2)), tokenizer), [Partial(Problem("What is \ud800?"), "\udfff")])
    assert np.isfinite(scores).all()


def test_bfloat16_is_near_float32(qwen2: Path, checkpoint: Path) -> None:
    exact = score(load_scorer(checkpoint, device="cpu"), PARTIALS)
    rounded = score(load_scorer(checkpoint, device="cpu", dtype=torch.bfloat16), PARTIALS)
    assert rounded.dtype == np.float32
    np.testing.assert_allclose(rounded, exact, atol=0.1)


# Checkpoints


def test_saving_and_loading_keep_the_scores(policy: Path, tokenizer: Any, tmp_path: Path) -> None:
    model = ppm.from_policy(str(policy), seed=1)
    reset(model)
    expected = score(PpmScorer(model, tokenizer), PARTIALS)
    ppm.save(model, tokenizer, tmp_path / "new" / "ppm")
    np.testing.assert_array_equal(score(load_scorer(tmp_path / "new" / "ppm", device="cpu"), PARTIALS), expected)
    ppm.save(ppm.load(str(tmp_path / "new" / "ppm")), tokenizer, tmp_path / "again")
    scorer = PpmScorer.from_pretrained(str(tmp_path / "again"), device="cpu")
    np.testing.assert_array_equal(score(scorer, PARTIALS), expected)
    asyncio.run(scorer.aclose())


def test_transformers_loads_a_ppm_as_it_is(policy: Path, tokenizer: Any, tmp_path: Path) -> None:
    model = ppm.from_policy(str(policy), seed=1)
    ppm.save(model, tokenizer, tmp_path / "ppm")
    with quiet():
        loaded, info = AutoModelForSequenceClassification.from_pretrained(tmp_path / "ppm", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert loaded.config.num_labels == 1
    assert one_by_one(loaded, tokenizer, PARTIALS) == one_by_one(model, tokenizer, PARTIALS)
    # and pads a batch by itself
    prompts = [steps.prompt(partial) for partial in PARTIALS]
    batch = load_tokenizer(str(tmp_path / "ppm"), "PPM")(prompts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        logits = loaded(**batch).logits[:, 0]
    np.testing.assert_allclose(torch.tanh(logits / 5), one_by_one(model, tokenizer, PARTIALS), atol=1e-5)


def test_a_new_head_follows_from_its_seed(qwen2: Path) -> None:
    one, same, other = (ppm.from_policy(str(qwen2), seed=seed) for seed in (1, 1, 2))
    torch.testing.assert_close(one.score.weight, same.score.weight, atol=0, rtol=0)
    assert not torch.equal(one.score.weight, other.score.weight)
    for name, weight in one.base_model.named_parameters():
        assert torch.equal(weight, other.base_model.get_parameter(name))
    assert ppm.scale_of(one) == ppm.DEFAULT_SCALE == 5.0


def test_a_save_that_fails_leaves_the_old_one(checkpoint: Path, tokenizer: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "ppm")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    model = ppm.load(str(folder), device="cpu")

    class Full(Exception):
        pass

    class Failing:
        def save_pretrained(self, folder: Path) -> None:
            (Path(folder) / "tokenizer.json").write_text("half of")
            raise Full

    with torch.no_grad():
        model.score.weight.zero_()
    with pytest.raises(Full):
        ppm.save(model, Failing(), folder)  # type: ignore[arg-type]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert list(tmp_path.iterdir()) == [folder]
    with pytest.raises(Full):
        ppm.save(model, Failing(), tmp_path / "new")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("swaps", [True, False])
def test_a_save_replaces_the_whole_folder(
    checkpoint: Path, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swaps: bool
) -> None:
    if not swaps:  # a file system that cannot
        monkeypatch.setattr(atomic, "_RENAME_EXCHANGE", 1 << 20)
    folder = shutil.copytree(checkpoint, tmp_path / "ppm")
    (folder / "left-over.bin").touch()
    (tmp_path / "link").symlink_to(folder)
    model = ppm.load(str(folder), device="cpu")
    with torch.no_grad():
        model.score.weight.zero_()
    ppm.save(model, tokenizer, tmp_path / "link")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "ppm"] and (tmp_path / "link").is_symlink()
    assert not (folder / "left-over.bin").exists()
    assert not score(load_scorer(folder, device="cpu"), PARTIALS).any()


def test_there_is_a_checkpoint_at_every_moment_of_a_save(
    checkpoint: Path, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "ppm")
    model = ppm.load(str(folder), device="cpu")
    moments = []
    replace = os.replace

    def look(*arguments: Any) -> None:
        replace(*arguments)
        moments.append((folder / "config.json").is_file())

    monkeypatch.setattr(os, "replace", look)
    ppm.save(model, tokenizer, folder)
    assert all(moments) and (folder / "config.json").is_file()


def test_a_saved_folder_is_as_open_as_any(checkpoint: Path, tokenizer: Any, tmp_path: Path) -> None:
    (tmp_path / "any").mkdir()
    ppm.save(ppm.load(str(checkpoint), device="cpu"), tokenizer, tmp_path / "ppm")
    assert stat.S_IMODE((tmp_path / "ppm").stat().st_mode) == stat.S_IMODE((tmp_path / "any").stat().st_mode)
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match="is a file: give the folder of a checkpoint"):
        ppm.save(ppm.load(str(checkpoint), device="cpu"), tokenizer, tmp_path / "file")


def test_a_policy_is_no_ppm(policy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidInput, match=r"is no PPM, it lacks score\.weight: give one trained as a PPM$") as raised:
        load_scorer(policy, device="cpu")
    assert str(policy) in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_a_model_of_more_labels_is_no_ppm(tokenizer: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = transformers.LlamaConfig(**SIZES, vocab_size=len(tokenizer), id2label={i: f"label {i}" for i in range(3)})
    transformers.LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    message = r"is no PPM, it lacks score\.weight of shape \[1, 32\] \(it has \[3, 32\]\)"
    capfd.readouterr()
    with pytest.raises(InvalidInput, match=message):
        load_scorer(tmp_path, device="cpu")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./no-such-folder", "there is no PPM checkpoint at "),
        ("nobody/no-such-ppm", "the PPM 'nobody/no-such-ppm' could not be loaded: "),
    ],
)
def test_a_name_that_leads_nowhere_is_one_sentence(name: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as raised:
        load_scorer(name)
    assert "\n" not in str(raised.value)


def test_a_ppm_without_its_tokenizer_is_one_sentence(checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "ppm")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(InvalidInput, match="the PPM .* has no tokenizer: save its tokenizer into its folder"):
        load_scorer(folder, device="cpu")


@pytest.mark.parametrize("scale", [0, -1.0, float("nan"), float("inf"), "5", None, True])
def test_a_bad_scale_is_refused(qwen2: Path, checkpoint: Path, tmp_path: Path, scale: Any) -> None:
    with pytest.raises(InvalidInput, match="^the PPM's scale is .*: give a number > 0$"):
        ppm.from_policy(str(qwen2), scale=scale)
    folder = shutil.copytree(checkpoint, tmp_path / "ppm")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"ppm_scale": scale}))
    with pytest.raises(InvalidInput, match="^the PPM's scale is .*: give a number > 0$"):
        ppm.load(str(folder), device="cpu")


def test_bad_settings_are_refused(checkpoint: Path) -> None:
    with pytest.raises(InvalidInput, match="batch_tokens is 0: give an integer >= 1"):
        load_scorer(checkpoint, device="cpu", batch_tokens=0)
    with pytest.raises(InvalidInput, match="does not take these settings .*'warmth'"):
        load_scorer(checkpoint, device="cpu", warmth=1)
    with pytest.raises(InvalidInput, match="device is 'nonsense': give "):
        load_scorer(checkpoint, device="nonsense")


def test_a_scorer_is_a_public_name(checkpoint: Path) -> None:
    scorer = rstar_fast.load_scorer(checkpoint, device="cpu")
    assert isinstance(scorer, Scorer) and score(scorer, PARTIALS).shape == (len(PARTIALS),)


# Token trees


class Counted:
    """A scorer, and what its partial solutions score one by one."""

    def __init__(self, qwen2: Path, tokenizer: Any, dtype: torch.dtype = torch.float32, **settings: Any) -> None:
        self.model, self.tokenizer = ppm.from_policy(str(qwen2), seed=1, dtype=dtype), tokenizer
        reset(self.model)
        self.scorer = PpmScorer(self.model, tokenizer, **settings)

    def check(self, partials: Sequence[Partial], tolerance: float = 1e-5) -> int:
        """Scores them; returns how many tokens were computed for it."""
        before = self.scorer.stats.tokens_computed
        expected = one_by_one(copy.deepcopy(self.model).double(), self.tokenizer, partials)  # the same weights, hardly a rounding
        np.testing.assert_allclose(score(self.scorer, partials), expected, atol=tolerance)
        return self.scorer.stats.tokens_computed - before


def test_tokens_are_computed_once_over_calls(qwen2: Path, tokenizer: Any) -> None:
    counted = Counted(qwen2, tokenizer)
    parent = Partial(QUESTION, "<code>\n# Add\nx = 2 + 3\n<end_of_step>\n")
    children = [Partial(QUESTION, parent.solution + f"# Step {n}\ny = x * {n}\n<end_of_step>\n") for n in range(8)]
    assert counted.check([Partial(QUESTION)]) == unique_tokens(tokenizer, [Partial(QUESTION)])
    assert counted.check(children) == unique_tokens(tokenizer, [*children, Partial(QUESTION)]) - unique_tokens(tokenizer, [Partial(QUESTION)])
    assert counted.check([parent, *children, Partial(QUESTION)]) == 0  # ends inside of what was computed have scores too
    counted.scorer.release(QUESTION)
    assert counted.check(children) == unique_tokens(tokenizer, children)


@given(st.data())
@settings(max_examples=40)
def test_any_trees_in_any_company_score_as_one_by_one(qwen2: Path, tokenizer: Any, data: st.DataObject) -> None:
    counted = Counted(
        qwen2,
        tokenizer,
        batch_tokens=data.draw(st.integers(1, 120), "batch_tokens"),
        kept_tokens=data.draw(st.sampled_from([1, 200, 100_000]), "kept_tokens"),
    )
    pieces = ["x = 1", "2", "\n", "<end_of_step>\n", "# Add", "ab", "print(x)", " 3"]
    solutions = st.lists(st.sampled_from(pieces), max_size=8).map("".join)
    problems = [QUESTION, Problem("What is 2?", id="other")]
    for _ in range(data.draw(st.integers(1, 3), "calls")):
        drawn = data.draw(st.lists(st.tuples(st.sampled_from(problems), solutions), min_size=1, max_size=8), "partials")
        counted.check([Partial(problem, solution) for problem, solution in drawn])
        if data.draw(st.booleans(), "released"):
            counted.scorer.release(QUESTION)


def test_what_follows_may_change_where_tokens_end(qwen2: Path, tokenizer: Any) -> None:
    parent, child = Partial(QUESTION, "# Add the num"), Partial(QUESTION, "# Add the numbers")
    ids, longer = (tokenizer(steps.prompt(partial))["input_ids"] for partial in (parent, child))
    assert longer[: len(ids)] != ids
    counted = Counted(qwen2, tokenizer)
    assert counted.check([parent]) + counted.check([child]) == unique_tokens(tokenizer, [parent, child])


def test_bfloat16_over_trees_is_that_of_one_by_one(qwen2: Path, tokenizer: Any) -> None:
    Counted(qwen2, tokenizer, torch.bfloat16, batch_tokens=40).check(PARTIALS, 2e-2)


def test_where_memory_ends_passes_become_smaller(qwen2: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    forward, sizes = PpmScorer._forward, []

    def limited(self: PpmScorer, runs: list[Run]) -> np.ndarray:
        sizes.append(sum(len(run.tokens) for run in runs))
        if sizes[-1] > 30:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, runs)

    monkeypatch.setattr(PpmScorer, "_forward", limited)
    counted = Counted(qwen2, tokenizer)
    assert counted.check(PARTIALS) == unique_tokens(tokenizer, PARTIALS)
    assert sizes[0] > 60 and all(size <= 30 for size in sizes[-3:]) and sorted(sizes[:3], reverse=True) == sizes[:3]
    monkeypatch.setattr(PpmScorer, "_forward", lambda self, runs: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory")))
    counted.scorer.release(QUESTION)
    with pytest.raises(torch.OutOfMemoryError):  # not even one token
        score(counted.scorer, PARTIALS)
    monkeypatch.setattr(PpmScorer, "_forward", forward)
    counted.check(PARTIALS)


def test_a_pass_that_fails_leaves_nothing_behind(qwen2: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(qwen2, tokenizer, batch_tokens=30)
    forward, passes = PpmScorer._forward, []

    def failing(self: PpmScorer, runs: list[Run]) -> np.ndarray:
        passes.append(runs)
        if len(passes) == 3:
            raise RuntimeError("the device is gone")
        return forward(self, runs)

    monkeypatch.setattr(PpmScorer, "_forward", failing)
    with pytest.raises(RuntimeError, match="the device is gone"):
        score(counted.scorer, PARTIALS)
    assert counted.check(PARTIALS) < unique_tokens(tokenizer, PARTIALS)  # what the first passes computed was kept


def test_the_model_is_as_it_was(qwen2: Path, tokenizer: Any) -> None:
    model = ppm.from_policy(str(qwen2), seed=1)
    before = model.config._attn_implementation
    score(PpmScorer(model, tokenizer), PARTIALS)
    assert model.config._attn_implementation == before == model.base_model.config._attn_implementation


def test_a_model_whose_attention_cannot_be_chosen_is_refused(tokenizer: Any) -> None:
    config = transformers.BloomConfig(vocab_size=len(tokenizer), hidden_size=16, n_layer=1, n_head=2, num_labels=1, pad_token_id=0)
    with pytest.raises(InvalidInput, match="^the PPM is a BloomForSequenceClassification, whose attention transformers does not let one choose"):
        PpmScorer(transformers.BloomForSequenceClassification(config).eval(), tokenizer)
