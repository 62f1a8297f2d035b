"""PPM training: groups as token trees, the loss by its formula, batchings that agree, overfitting, and the evaluation."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import make_policy, nano_tokenizer
from trainings import killed_when_saved, losses, same, write
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rstar_fast import PpmTrainingConfig, nano, steps
from rstar_fast.ppm import load_scorer
from rstar_fast.ppm import model as ppm_model
from rstar_fast.ppm.attention import attending, hidden_states, inputs
from rstar_fast.training import ppm_evaluation
from rstar_fast.training.ppm import train_ppm
from rstar_fast.training.ppm_trainer import _calibration_loss
from rstar_fast.training.preferences import Group, balanced, pack, plan, read_groups
from rstar_fast.types import InvalidInput, OutOfSpace, Partial, Problem, TrainingDiverged

pytestmark = pytest.mark.usefixtures("one_thread")
RIGHT = ("\nx = x + 1\n<end_of_step>", "\n# Add one\nx += 1\n<end_of_step>")
WRONG = ("\nx = x - 1\n<end_of_step>", "\nx = 7\n<end_of_step>")
FAST = {"learning_rate": 1e-3, "epochs": 3, "batch": 4}


def rows_of(first: int, count: int) -> list[dict[str, Any]]:
    """Groups of unequal sizes: 2 x 2 or 1 x 2 steps, now and then whole solutions behind the question."""
    rows = []
    for number, record in enumerate(nano.generate("train", first + count, 2)[first:], first):
        prompt = steps.prompt_of(record.problem.question)
        final, depth = number % 4 == 3, number % 3
        told = {"problem": f"p{number}", "group": number, "depth": 0 if final else depth, "final": final}
        prefix = prompt if final else prompt + "<code>\n# Begin\n<end_of_step>" + "\ny = 0\n<end_of_step>" * depth
        for chosen in (record.solution,) if final else RIGHT[: 1 + number % 2]:
            for rejected in ("<code>\nprint(0)\n<end_of_code>",) if final else WRONG:
                rows.append({"prompt": prefix, "chosen": chosen, "rejected": rejected, **told})
    return rows


ROWS, HELD_OUT = rows_of(0, 8), rows_of(8, 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("data")
    write(made / "pairs.jsonl", ROWS)
    write(made / "heldout.jsonl", HELD_OUT)
    make_policy("qwen2", made / "qwen2", initializer_range=0.1)
    return made


def train(folder: Path, out: Path, **settings: Any) -> dict[str, Any] | None:
    return train_ppm(folder / "pairs.jsonl", out, policy=str(folder / "qwen2"), **FAST | settings)


def one_by_one(model: Any, texts: Sequence[str]) -> torch.Tensor:
    """[M] the logits of texts, each alone, as transformers computes them."""
    return torch.stack([model(input_ids=torch.tensor([nano_tokenizer()(text)["input_ids"]])).logits[0, 0] for text in texts])


def loss_by_its_formula(model: Any, rows: Sequence[dict[str, Any]]) -> torch.Tensor:
    """Mean over groups of -(1 / (P N)) sum log sigmoid(r+ - r-), pair by pair."""
    groups: dict[int, list[torch.Tensor]] = {}
    for row in rows:
        better, worse = one_by_one(model, [row["prompt"] + row["chosen"], row["prompt"] + row["rejected"]])
        groups.setdefault(row["group"], []).append(-torch.log(1 / (1 + torch.exp(worse - better))))
    return torch.stack([torch.stack(pairs).mean() for pairs in groups.values()]).mean()


# Groups, trees, packs


@pytest.mark.parametrize("family", ["qwen2", "llama", "phi3", "phi3, sliding window"])
def test_a_pack_gives_the_logits_and_gradients_of_texts_alone(folder: Path, tmp_path: Path, family: str) -> None:
    model = ppm_model.from_policy(str(make_policy(family, tmp_path / "policy")))
    groups, _ = read_groups(folder / "pairs.jsonl", nano_tokenizer(), 512)
    made = pack(groups)
    texts = dict.fromkeys((row["group"], row["prompt"] + row[side]) for row in ROWS for side in ("chosen", "rejected"))
    # Branches are numbered as their texts first occur: all of a row's before the next row's.
    by_group = [nano_tokenizer().decode(branch) for group in groups for branch in group.branches]
    assert sorted(by_group) == sorted(text for _, text in texts)
    expected = one_by_one(model, by_group)
    expected.square().mean().backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    rewards = (hidden_states(model, made.tokens, made.tree, None) @ model.score.weight[0])[made.ends]
    assert torch.allclose(rewards, expected, atol=1e-5)
    rewards.square().mean().backward()
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter.grad, gradients[name], atol=1e-4, rtol=1e-3), name
    with attending(model):
        logits = model(**inputs(made.tokens, made.tree, None)).logits
    assert logits.shape == (1, 1) and len(made.tokens) < sum(len(branch) for group in groups for branch in group.branches) / 2


def test_shared_tokens_are_found_by_ids_and_not_by_texts(tmp_path: Path) -> None:
    """The end of the prompt is another token with one branch than with the other."""
    tokenizer = nano_tokenizer()
    cut = next(at for at in range(1, 8) if tokenizer("How many"[:at])["input_ids"] != tokenizer("How many")["input_ids"][:at])
    row = {"prompt": "x = 1\n" + "How many"[:cut], "chosen": "How many"[cut:], "rejected": "\n"}
    (group,), _ = read_groups(write(tmp_path / "p.jsonl", [row]), tokenizer, 512)
    assert [tokenizer.decode(branch) for branch in group.branches] == [
        row["prompt"] + row["chosen"],
        row["prompt"] + row["rejected"],
    ]
    made = pack([group])
    longest = next(n for n, (a, b) in enumerate(zip(*group.branches, strict=False)) if a != b)
    assert len(made.tokens) == group.tokens == sum(map(len, group.branches)) - longest


def test_a_branch_may_be_the_beginning_of_another(tmp_path: Path) -> None:
    row = {"prompt": "x = 1\n", "chosen": "y = 2\n", "rejected": "y = 2\nz = 3\n"}
    (group,), _ = read_groups(write(tmp_path / "p.jsonl", [row]), nano_tokenizer(), 512)
    made = pack([group, group])
    assert group.tokens == max(map(len, group.branches)) and len(made.tokens) == 2 * group.tokens
    assert made.ends.tolist() == [len(group.branches[0]) - 1, group.tokens - 1] + [
        group.tokens + len(group.branches[0]) - 1,
        2 * group.tokens - 1,
    ]


def test_rows_without_groups_are_grouped_by_their_prompts(tmp_path: Path) -> None:
    bare = [{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in ROWS]
    with_groups, _ = read_groups(write(tmp_path / "a.jsonl", ROWS), nano_tokenizer(), 512)
    without, _ = read_groups(write(tmp_path / "b.jsonl", bare), nano_tokenizer(), 512)
    assert [(g.better, g.worse, len(g.branches)) for g in without] == [
        (g.better, g.worse, len(g.branches)) for g in with_groups
    ]
    assert {len(g.better) for g in with_groups} == {1, 2, 4} and {g.depth for g in without} == {None}


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.data())
def test_packs_are_balanced_and_none_is_empty(sizes: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(sizes)))
    packs = balanced(sizes, count)
    assert len(packs) == count and all(packs) and sorted(at for p in packs for at in p) == list(range(len(sizes)))
    totals = [sum(sizes[at] for at in p) for p in packs]
    assert max(totals) - min(totals) <= max(sizes)


@given(
    sizes=st.lists(st.integers(1, 50), min_size=4, max_size=40),
    batch=st.integers(1, 50),
    batch_tokens=st.integers(1, 200),
    devices=st.integers(1, 4),
    epochs=st.integers(1, 3),
)
def test_every_plan_reads_each_group_once_an_epoch_in_full_updates(
    sizes: list[int], batch: int, batch_tokens: int, devices: int, epochs: int
) -> None:
    told = {"batch": batch, "devices": devices, "epochs": epochs, "seed": 1}
    of_device, packs = plan(sizes, batch_tokens=batch_tokens, **told)
    assert len(packs) % (of_device * devices * epochs) == 0 and all(packs)
    updates = [
        sorted(at for p in packs[i : i + of_device * devices] for at in p) for i in range(0, len(packs), of_device * devices)
    ]
    of_epoch = len(updates) // epochs
    for epoch in range(epochs):
        assert sorted(at for update in updates[epoch * of_epoch : (epoch + 1) * of_epoch] for at in update) == list(
            range(len(sizes))
        )
    assert max(map(len, updates)) - min(map(len, updates)) <= 1
    # The same groups in an update, however much a device holds.
    least, all_at_once = plan(sizes, batch_tokens=10**6, **told)
    assert least == 1
    assert [
        sorted(at for p in all_at_once[i : i + devices] for at in p) for i in range(0, len(all_at_once), devices)
    ] == updates
    fits = all(sum(sizes[at] for at in p) <= batch_tokens or len(p) == 1 for p in packs)
    assert fits or of_device == min(map(len, updates)) // devices


def test_fewer_groups_than_devices_are_told() -> None:
    with pytest.raises(InvalidInput, match="there are 2 groups of pairs for 3 devices: give more pairs, or fewer processes"):
        plan([1, 1], batch=1, batch_tokens=1, devices=3, epochs=1, seed=0)


# The loss


def test_the_first_loss_is_the_formula_s(folder: Path, tmp_path: Path) -> None:
    train(folder, tmp_path / "ppm", batch=8, epochs=1)
    with torch.inference_mode():
        expected = loss_by_its_formula(ppm_model.from_policy(str(folder / "qwen2"), seed=0), ROWS)
    assert losses(tmp_path / "ppm")[0] == pytest.approx(float(expected), rel=1e-5)


def test_batchings_that_are_equivalent_give_one_loss_curve(folder: Path, tmp_path: Path) -> None:
    for name, batch_tokens in (("8x1", 100_000), ("1x8", 1)):
        train(folder, tmp_path / name, batch=8, batch_tokens=batch_tokens)
    first = losses(tmp_path / "8x1")
    assert len(first) == 3 and losses(tmp_path / "1x8") == pytest.approx(first, rel=1e-4)


def test_the_calibration_loss_is_the_cross_entropy_of_the_score() -> None:
    prefix, tails = np.array([1], np.int32), tuple(np.array([token], np.int32) for token in range(3))
    groups = [Group(prefix, tails, (0, 0), (1, 2), "a", 0, False, 4), Group(prefix, tails[:2], (1,), (0,), "b", 0, False, 3)]
    rewards = torch.tensor([2.0, -1.0, 0.5, 3.0, -2.0])
    probability = (1 + torch.tanh(rewards / 5.0)) / 2
    chosen = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0])
    each = -torch.log(torch.where(chosen > 0, probability, 1 - probability))
    expected = (each[:3].mean() + each[3:].mean()) / 2
    assert torch.allclose(_calibration_loss(rewards, pack(groups), 5.0), expected)


def test_overfitting_reaches_pair_accuracy_1(folder: Path, tmp_path: Path) -> None:
    heldout = [{**row, "problem": "x" + row["problem"]} for row in ROWS]  # the same pairs under other names
    found = train_ppm(
        folder / "pairs.jsonl",
        tmp_path / "ppm",
        policy=str(folder / "qwen2"),
        heldout=write(tmp_path / "again.jsonl", heldout),
        **FAST | {"epochs": 25, "learning_rate": 3e-3, "calibration_weight": 0.5},
    )
    assert found is not None and found["pairs"]["all"]["accuracy"] == 1.0
    assert losses(tmp_path / "ppm")[-1] < 0.2 * losses(tmp_path / "ppm")[0]
    assert found["calibration"]["error"] < 0.2
    assert json.loads((tmp_path / "ppm" / "evaluation.json").read_text()) == found
    # As transformers, and as our scorer, load it.
    model, told = AutoModelForSequenceClassification.from_pretrained(tmp_path / "ppm", output_loading_info=True)
    assert not told["missing_keys"] and model.config.num_labels == 1 and model.config.ppm_scale == 5.0
    assert len(AutoTokenizer.from_pretrained(tmp_path / "ppm")) == len(nano_tokenizer())
    assert load_scorer(tmp_path / "ppm", device="cpu") is not None


@pytest.mark.parametrize(
    "settings", [{"lora": True, "learning_rate": 0.01}, {"optimizer": "muon"}, {"gradient_checkpointing": True}]
)
def test_other_ways_to_train_learn_too(folder: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    train(folder, tmp_path / "ppm", **{"epochs": 8, **settings})
    curve = losses(tmp_path / "ppm")
    with torch.inference_mode():
        after = float(loss_by_its_formula(AutoModelForSequenceClassification.from_pretrained(tmp_path / "ppm"), ROWS))
    assert after < 0.7 * curve[0] and not list((tmp_path / "ppm").glob("*adapter*"))
    if "gradient_checkpointing" in settings:
        train(folder, tmp_path / "without", epochs=8)
        assert losses(tmp_path / "without") == pytest.approx(curve, rel=1e-4)


@pytest.mark.parametrize("lora", [False, True])
def test_bfloat16_computes_nearly_the_same(folder: Path, tmp_path: Path, lora: bool) -> None:
    for name, bf16 in (("half", True), ("full", False)):
        train(folder, tmp_path / name, bf16=bf16, lora=lora)
    half, full = losses(tmp_path / "half"), losses(tmp_path / "full")
    assert half != full and half == pytest.approx(full, rel=0.03)


# The evaluation


def test_the_evaluation_counts_pairs_by_kind_and_depth(folder: Path, tmp_path: Path) -> None:
    train(folder, tmp_path / "ppm", epochs=1)
    found = ppm_evaluation.evaluate(str(tmp_path / "ppm"), folder / "heldout.jsonl", batch_tokens=300, device="cpu")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "ppm")
    right = []
    with torch.inference_mode():
        for row in HELD_OUT:
            better, worse = one_by_one(model, [row["prompt"] + row["chosen"], row["prompt"] + row["rejected"]])
            right.append(bool(better > worse))
    assert 0 < sum(right) < len(right)

    def share(kept: Sequence[bool]) -> float:
        return float(np.mean([r for r, keep in zip(right, kept, strict=True) if keep]))

    assert found["pairs"]["all"]["accuracy"] == pytest.approx(share([True] * len(right)))
    assert found["pairs"]["final"]["accuracy"] == pytest.approx(share([row["final"] for row in HELD_OUT]))
    assert found["pairs"]["steps"]["pairs"] == sum(not row["final"] for row in HELD_OUT)
    assert sorted(found["pairs"]["steps_by_depth"]) == ["0", "1", "2"]
    for depth, measured in found["pairs"]["steps_by_depth"].items():
        assert measured["accuracy"] == pytest.approx(
            share([not row["final"] and row["depth"] == int(depth) for row in HELD_OUT])
        )
        assert measured["low"] <= measured["accuracy"] <= measured["high"]
    assert found["pairs"]["all"]["problems"] == 8 and found["left_out"] == 0
    assert sorted(found["calibration_by_depth"]) == ["0", "1", "2"]
    for depth, measured in found["calibration_by_depth"].items():
        of_depth = [row for row in HELD_OUT if not row["final"] and row["depth"] == int(depth)]
        chosen = {(row["prompt"], row["chosen"]): 1.0 for row in of_depth}
        steps_of_depth = {(row["prompt"], row["rejected"]): 0.0 for row in of_depth} | chosen
        with torch.inference_mode():
            rewards = np.array([float(one_by_one(model, [prompt + text])[0]) for prompt, text in steps_of_depth])
        probability = (1 + np.tanh(rewards / 5.0)) / 2
        assert measured["steps"] == len(steps_of_depth)
        assert measured["brier"] == pytest.approx(np.mean((probability - list(steps_of_depth.values())) ** 2), abs=1e-5)


def test_calibration_is_measured_over_bins() -> None:
    tails = tuple(np.array([token], np.int32) for token in range(2))
    group = Group(np.array([1], np.int32), tails, (0,), (1,), "p", 0, False, 3)
    # Scores of +-0.5: probabilities 0.75 and 0.25.
    logit = 5.0 * math.atanh(0.5)
    judged = [ppm_evaluation._Judged(group, np.array([logit, -logit]))] * 3 + [
        ppm_evaluation._Judged(group, np.array([-logit, logit]))
    ]
    found = ppm_evaluation._calibration(judged, 5.0)
    assert found["error"] == pytest.approx(0.0, abs=1e-9) and found["brier"] == pytest.approx(0.75 * 0.25)
    filled = {b["low"]: (b["steps"], b["probability"], b["chosen"]) for b in found["bins"] if b["steps"]}
    assert filled == {0.2: (4, pytest.approx(0.25), 0.25), 0.7: (4, pytest.approx(0.75), 0.75)}
    sure = [ppm_evaluation._Judged(group, np.array([-1e4, 1e4]))]
    assert ppm_evaluation._calibration(sure, 5.0)["error"] == pytest.approx(1.0)
    assert ppm_evaluation._accuracy(judged, 0) == {"accuracy": 0.75, "low": 0.75, "high": 0.75, "pairs": 4, "problems": 1}
    assert ppm_evaluation._accuracy([], 0) is None


def test_held_out_problems_are_held_out(folder: Path, tmp_path: Path) -> None:
    mixed = write(tmp_path / "mixed.jsonl", HELD_OUT + ROWS[:1])
    with pytest.raises(
        InvalidInput, match="mixed.jsonl shares 1 problems with .*pairs.jsonl, e.g. 'p0': hold out whole problems"
    ):
        train(folder, tmp_path / "ppm", heldout=mixed)


def test_an_evaluation_that_was_cut_off_is_made_up_for(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(folder, tmp_path / "ppm", epochs=1)
    first = train(folder, tmp_path / "ppm", epochs=1, heldout=folder / "heldout.jsonl")
    assert first is not None
    with monkeypatch.context() as without:
        without.setattr(ppm_evaluation, "evaluate", None)
        assert train(folder, tmp_path / "ppm", epochs=1, heldout=folder / "heldout.jsonl") == first


# Kills, divergence, bad input


def test_a_killed_training_goes_on_to_the_same_end(folder: Path, tmp_path: Path) -> None:
    settings = FAST | {"batch": 1, "save_minutes": 0}
    given = f"{str(folder / 'pairs.jsonl')!r}, {str(tmp_path / 'cut')!r}, policy={str(folder / 'qwen2')!r}, **{settings!r}"
    with killed_when_saved(f"train_ppm({given})", tmp_path / "cut"):
        train(folder, tmp_path / "whole", **settings)
    seen: list[int] = []
    train(folder, tmp_path / "cut", progress=lambda step, total, loss: seen.append(step), **settings)
    assert 1 < seen[0] and seen[-1] == 24 == len(losses(tmp_path / "whole"))
    assert same(AutoModelForSequenceClassification, tmp_path / "cut", tmp_path / "whole") and losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_a_diverging_training_stops(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        TrainingDiverged, match=r"became (nan|inf) in update \d+: give another folder and a learning_rate below"
    ):
        train(folder, tmp_path / "ppm", learning_rate=1e38, epochs=6, warm_up=0.5)
    assert not (tmp_path / "ppm" / "config.json").exists()


def test_a_full_disk_is_one_sentence(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        with open("/dev/full", "wb", 0) as file:
            file.write(b"anything")

    with monkeypatch.context() as disk:
        disk.setattr(torch, "save", full)
        with pytest.raises(OutOfSpace, match="^the disk of .* is full"):
            train(folder, tmp_path / "ppm")
    train(folder, tmp_path / "ppm")
    assert len(losses(tmp_path / "ppm")) == 6


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "is empty: give a dataset with at least one row"),
        ([{"prompt": "a", "chosen": "b"}], "has no column 'rejected', only prompt, chosen"),
        (
            [{"prompt": "a", "chosen": "b", "rejected": "b"}],
            "row 1: chosen and rejected are the same text: leave such pairs out",
        ),
        (
            [{"prompt": p, "chosen": "b", "rejected": "c", "group": 1} for p in ("a", "d")],
            "row 2: group 1 has another prompt in an earlier row: number groups once in a file",
        ),
        (
            [{"prompt": "a" * 999, "chosen": "b", "rejected": "c"}],
            "all 1 pairs have a text of more than 512 tokens: raise max_tokens",
        ),
    ],
)
def test_unusable_pairs_are_one_sentence(folder: Path, tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        train_ppm(write(tmp_path / "p.jsonl", rows), tmp_path / "out", policy=str(folder / "qwen2"))


def test_another_architecture_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=1280
    )
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    nano_tokenizer().save_pretrained(tmp_path / "bert")
    with pytest.raises(InvalidInput, match=r"the checkpoint .*bert' is no policy, it lacks classifier"):
        train_ppm(folder / "pairs.jsonl", tmp_path / "out", policy=str(tmp_path / "bert"))


def test_the_defaults_are_the_reference_s() -> None:
    config = PpmTrainingConfig()
    assert (config.learning_rate, config.epochs, config.max_tokens, 4 * config.batch, config.scale) == (7e-6, 2, 2048, 512, 5.0)
    assert PpmTrainingConfig.from_mapping(config.to_mapping()) == config
    with pytest.raises(InvalidInput, match="unknown PPM training setting 'packing'"):
        PpmTrainingConfig.from_mapping({"packing": True})


def test_a_trained_ppm_scores_as_it_was_trained(folder: Path, tmp_path: Path) -> None:
    import asyncio

    train(folder, tmp_path / "ppm")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "ppm")
    problem = Problem("What is 2 + 3?")
    partials = [Partial(problem, text) for text in ("", "<code>\nx = 2\n<end_of_step>", "<code>\nx = 3\n<end_of_step>")]
    with torch.inference_mode():
        expected = torch.tanh(one_by_one(model, [steps.prompt(partial) for partial in partials]) / 5.0)
    scores = asyncio.run(load_scorer(tmp_path / "ppm", device="cpu").score(partials))
    assert scores == pytest.approx(expected.numpy(), abs=1e-5)
