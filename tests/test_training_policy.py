"""Policy training: what has a loss, packings and batchings that agree, kills, full disks, and checkpoints that load plainly."""

from __future__ import annotations

import functools
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
import transformers
from safetensors.torch import load_file
from tiny_models import make_policy, nano_tokenizer, tokenizer_without_markers
from trainings import killed_when_saved, log, losses, same, write
from transformers import AutoModelForCausalLM, AutoTokenizer

import rstar_fast
from rstar_fast import PolicyTrainingConfig, nano, steps
from rstar_fast.training import models, session
from rstar_fast.training.markers import add_markers, embed
from rstar_fast.training.policy import train_policy
from rstar_fast.training.solutions import NO_LOSS, tokenized
from rstar_fast.training.trainer import micro_steps
from rstar_fast.types import InvalidInput, OutOfSpace, TrainingDiverged

pytestmark = pytest.mark.usefixtures("one_thread")
ROWS = [
    {"prompt": steps.prompt_of(record.problem.question), "completion": record.solution, "problem": record.problem.id}
    for record in nano.generate("train", 8, 1)
]
FAST = {"learning_rate": 1e-3, "epochs": 3, "batch": 8}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "sft.jsonl", ROWS)


@pytest.fixture(scope="module")
def qwen2(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_policy("qwen2", tmp_path_factory.mktemp("qwen2")))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


# What has a loss


@pytest.mark.parametrize("mask_output", [True, False])
def test_the_loss_is_on_what_the_policy_writes(mask_output: bool) -> None:
    solution = "<code>\nprint(3)\n<end_of_code>\n<output>3<end_of_output>\n<answer>\\boxed{3}<end_of_answer>"
    table = pa.table({"prompt": ["What is 1 + 2?\n"], "completion": [solution]})
    (row,), left_out = tokenized(table, nano_tokenizer(), 512, mask_output)
    written = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != NO_LOSS]
    assert all(label in (token, NO_LOSS) for token, label in zip(row["input_ids"], row["labels"], strict=True))
    expected = solution.replace("\n<output>3<end_of_output>", "") if mask_output else solution
    assert nano_tokenizer().decode(written) == expected + nano_tokenizer().eos_token
    assert nano_tokenizer().decode(row["input_ids"]) == "What is 1 + 2?\n" + solution + nano_tokenizer().eos_token
    assert left_out == 0


def test_a_token_over_the_end_of_the_prompt_belongs_to_the_completion() -> None:
    tokenizer = nano_tokenizer()
    whole = tokenizer("How many")["input_ids"]
    cut = next(
        at
        for at in range(1, 8)
        if tokenizer("How many"[:at])["input_ids"] != whole[: len(tokenizer("How many"[:at])["input_ids"])]
    )
    (row,), _ = tokenized(pa.table({"prompt": ["How many"[:cut]], "completion": ["How many"[cut:]]}), tokenizer, 512, True)
    assert row["input_ids"] == [*whole, tokenizer.eos_token_id]
    shared = [a == b for a, b in zip(tokenizer("How many"[:cut])["input_ids"], whole, strict=False)]
    assert row["labels"].count(NO_LOSS) == sum(shared) < len(shared)


def test_solutions_that_are_too_long_are_left_out_and_counted(data: Path, qwen2: str, tmp_path: Path) -> None:
    lengths = [len(nano_tokenizer()(row["prompt"] + row["completion"])["input_ids"]) + 1 for row in ROWS]
    longest = sorted(lengths)[4]
    train_policy(data, tmp_path / "p", policy=qwen2, **FAST | {"epochs": 1}, max_tokens=longest)
    assert log(tmp_path / "p")[0].items() >= {"solutions": 5, "left_out": 3, "max_tokens": longest}.items()
    with pytest.raises(InvalidInput, match="all 8 solutions are longer than 9 tokens, or empty: raise max_tokens"):
        train_policy(data, tmp_path / "q", policy=qwen2, max_tokens=9)


# Packings and batchings


@pytest.mark.parametrize("family", ["qwen2", "llama", "phi3", "phi3, sliding window"])
def test_packed_and_unpacked_training_agree(data: Path, tmp_path: Path, family: str) -> None:
    policy = str(make_policy(family, tmp_path / "policy"))
    for name, packing in (("packed", True), ("unpacked", False)):
        train_policy(data, tmp_path / name, policy=policy, **FAST, packing=packing)
    assert log(tmp_path / "packed")[0]["rows"] < log(tmp_path / "unpacked")[0]["rows"] == len(ROWS)
    first = losses(tmp_path / "packed")
    assert len(first) == 3 and first[2] < first[0]
    assert losses(tmp_path / "unpacked") == pytest.approx(first, rel=1e-5)


def test_batchings_that_are_equivalent_give_one_loss_curve(data: Path, qwen2: str, tmp_path: Path) -> None:
    for device_batch in (8, 1):
        train_policy(
            data, tmp_path / str(device_batch), policy=qwen2, **FAST | {"batch": 4}, packing=False, device_batch=device_batch
        )
    first = losses(tmp_path / "8")
    assert len(first) == 6 and losses(tmp_path / "1") == pytest.approx(first, rel=1e-5)


@pytest.mark.parametrize(
    ("batch", "device_batch", "devices", "expected"),
    [(128, 4, 8, (4, 4, 128)), (128, 4, 1, (4, 32, 128)), (43, 4, 1, (1, 43, 43)), (6, 4, 1, (3, 2, 6)), (2, 4, 4, (1, 1, 4))],
)
def test_an_update_has_the_rows_asked_for(batch: int, device_batch: int, devices: int, expected: tuple[int, int, int]) -> None:
    assert micro_steps(batch, device_batch, devices) == expected


def test_packing_is_refused_where_sequences_would_see_each_other(qwen2: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(qwen2)
    models.check_packing(model)
    model.base_model._supports_attention_backend = False
    with pytest.raises(InvalidInput, match="whose packed sequences would see each other: give packing=False"):
        models.check_packing(model)


# New tokens and adapters


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("spare_rows", [0, 20])
def test_markers_become_tokens_with_mean_embeddings(tmp_path: Path, tied: bool, spare_rows: int) -> None:
    tokenizer = tokenizer_without_markers(tmp_path)
    old = len(tokenizer)
    policy = make_policy("qwen2", tmp_path / "policy", tokenizer, tie_word_embeddings=tied, vocab_size=old + spare_rows)
    before = AutoModelForCausalLM.from_pretrained(policy)
    new = add_markers(tokenizer)
    assert new == list(range(old, old + len(steps.MARKERS))) and add_markers(tokenizer) == []
    model = models.make_policy(str(policy), new)
    for layer, layer_before in ((m.get_input_embeddings(), b) for m, b in ((model, before.get_input_embeddings()),)):
        mean = layer_before.weight[:old].mean(0)
        assert torch.equal(layer.weight[:old], layer_before.weight[:old])
        assert all(torch.allclose(layer.weight[token], mean, atol=1e-6) for token in new)
    mean = before.get_output_embeddings().weight[:old].mean(0)
    assert all(torch.allclose(model.get_output_embeddings().weight[token], mean, atol=1e-6) for token in new)
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) is tied
    embed(model, [])


@pytest.mark.parametrize("lora", [False, True])
def test_the_checkpoint_loads_plainly_with_markers_and_adapters_merged(data: Path, tmp_path: Path, lora: bool) -> None:
    policy = make_policy("llama", tmp_path / "policy", tokenizer_without_markers(tmp_path))
    out = train_policy(data, tmp_path / "out", policy=str(policy), **FAST | {"epochs": 4, "learning_rate": 0.01}, lora=lora)
    assert sorted(path.name for path in out.glob("*adapter*")) == [] and not (out / ".training").exists()
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert [len(tokenizer(marker, add_special_tokens=False)["input_ids"]) for marker in steps.MARKERS] == [1] * 7
    model, told = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"]
    # What was trained is what was written: the next loss of the log would be the checkpoint's.
    dataset, _ = tokenized(pa.Table.from_pylist(ROWS), tokenizer, 512, True)
    with torch.inference_mode():
        parts = [
            (float(model(input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).loss), n)
            for row in dataset
            if (n := sum(label != NO_LOSS for label in row["labels"][1:]))
        ]
    loss = sum(mean * n for mean, n in parts) / sum(n for _, n in parts)
    curve = losses(out)
    assert curve[0] > curve[1] > curve[2] > curve[3] > loss > curve[3] - 2 * (curve[2] - curve[3])
    result = rstar_fast.load_policy(str(out), device="cpu", max_step_tokens=4)
    assert result is not None


@pytest.mark.parametrize("bf16", [False, True])
def test_adapters_train_the_new_rows_of_tied_embeddings(data: Path, tmp_path: Path, bf16: bool) -> None:
    tokenizer = tokenizer_without_markers(tmp_path)
    policy = make_policy("qwen2, tied", tmp_path / "policy", tokenizer)
    old, new = len(tokenizer), add_markers(tokenizer)
    settings = FAST | {"learning_rate": 0.01, "save_minutes": 0, "lora": True, "bf16": bf16}
    out = train_policy(data, tmp_path / "out", policy=str(policy), **settings)
    assert losses(out)[2] < losses(out)[0]
    assert not any("adapter" in path.name for path in out.iterdir())
    model, told = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"]
    assert not any("lora" in name or "token_adapter" in name for name in load_file(out / "model.safetensors"))
    embeddings = model.get_input_embeddings().weight
    assert embeddings is model.get_output_embeddings().weight
    before = models.make_policy(str(policy), new).get_input_embeddings().weight
    assert torch.equal(embeddings[:old], before[:old])
    assert ((embeddings[new] - before[new]).abs().amax(1) > 1e-3).all()
    assert len({tuple(row.tolist()) for row in embeddings[new]}) == len(new)  # all began alike
    stopped_after(data, tmp_path / "cut", str(policy), 2, settings)
    train_policy(data, tmp_path / "cut", policy=str(policy), **settings)
    assert same(AutoModelForCausalLM, tmp_path / "cut", out)


def test_the_checkpoint_has_the_policy_s_dtype(data: Path, qwen2: str, tmp_path: Path) -> None:
    half = AutoModelForCausalLM.from_pretrained(qwen2, dtype=torch.bfloat16)
    half.save_pretrained(tmp_path / "half")
    nano_tokenizer().save_pretrained(tmp_path / "half")
    out = train_policy(
        data, tmp_path / "out", policy=str(tmp_path / "half"), **FAST | {"epochs": 1}, gradient_checkpointing=True
    )
    assert AutoModelForCausalLM.from_pretrained(out).dtype == torch.bfloat16


@pytest.mark.parametrize("lora", [False, True])
def test_bfloat16_computes_nearly_the_same(data: Path, qwen2: str, tmp_path: Path, lora: bool) -> None:
    for name, bf16 in (("half", True), ("full", False)):
        train_policy(data, tmp_path / name, policy=qwen2, **FAST, bf16=bf16, lora=lora)
    half, full = losses(tmp_path / "half"), losses(tmp_path / "full")
    assert half != full and half == pytest.approx(full, rel=0.02)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "half").dtype == torch.float32
    # What was not trained is as it was, to the last bit.
    before, after = weights(Path(qwen2)), weights(tmp_path / "half")
    assert torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"]) is lora


def test_muon_trains_and_goes_on_from_its_state(
    data: Path, qwen2: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = FAST | {"optimizer": "muon", "muon_learning_rate": 0.02, "save_minutes": 0}
    whole = train_policy(data, tmp_path / "whole", policy=qwen2, **settings)
    assert losses(whole)[2] < losses(whole)[0]
    stopped_after(data, tmp_path / "cut", qwen2, 2, settings)
    train_policy(data, tmp_path / "cut", policy=qwen2, **settings)
    assert same(AutoModelForCausalLM, tmp_path / "cut", whole) and losses(tmp_path / "cut") == losses(whole)


# Kills, changed minds, divergence, full disks


class Stop(Exception):
    pass


def stopped_after(data: Path, out: Path, policy: str, update: int, settings: dict[str, Any]) -> None:
    def stop(step: int, total: int, loss: float) -> None:
        if step > update:
            raise Stop

    with pytest.raises(Stop):
        train_policy(data, out, policy=policy, progress=stop, **settings)
    assert not (out / "config.json").exists()


def test_a_killed_training_goes_on_to_the_same_end(data: Path, qwen2: str, tmp_path: Path) -> None:
    settings = FAST | {"batch": 2, "save_minutes": 0}
    whole = train_policy(data, tmp_path / "whole", policy=qwen2, **settings)
    with killed_when_saved(f"train_policy({str(data)!r}, {str(tmp_path / 'cut')!r}, policy={qwen2!r}, **{settings!r})", tmp_path / "cut"):
        pass
    last = max(int(path.parent.name.split("-")[1]) for path in (tmp_path / "cut" / ".training").glob("checkpoint-*/complete"))
    seen: list[int] = []
    train_policy(data, tmp_path / "cut", policy=qwen2, progress=lambda step, total, loss: seen.append(step), **settings)
    assert seen == list(range(last + 1, len(losses(whole)) + 1))
    assert same(AutoModelForCausalLM, tmp_path / "cut", whole) and losses(tmp_path / "cut") == losses(whole)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_is_done_is_not_done_again_and_what_differs_is_told(data: Path, qwen2: str, tmp_path: Path) -> None:
    out = train_policy(data, tmp_path / "p", policy=qwen2, **FAST | {"epochs": 1})
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    updates: list[int] = []
    train_policy(
        data, out, policy=qwen2, progress=lambda *told: updates.append(told[0]), **FAST | {"epochs": 1, "device_batch": 2}
    )
    assert not updates and {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before
    with pytest.raises(
        InvalidInput, match=r"holds a training with epochs=1, and now epochs is 2: give the same to go on, or another folder"
    ):
        train_policy(data, out, policy=qwen2, **FAST | {"epochs": 2})
    other = write(tmp_path / "other.jsonl", ROWS[:3])
    with pytest.raises(InvalidInput, match="holds a training with data="):
        train_policy(other, out, policy=qwen2, **FAST | {"epochs": 1})


def test_what_a_kill_left_beside_a_checkpoint_goes_with_the_next_call(data: Path, qwen2: str, tmp_path: Path) -> None:
    settings = FAST | {"epochs": 1}
    out = train_policy(data, tmp_path / "p", policy=qwen2, **settings)
    (tmp_path / ".p.partial-killed" / ".training" / "checkpoint-1").mkdir(parents=True)
    train_policy(data, out, policy=qwen2, **settings)
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


def test_a_half_written_state_is_not_gone_on_from(data: Path, qwen2: str, tmp_path: Path) -> None:
    settings = FAST | {"save_minutes": 0}
    stopped_after(data, tmp_path / "p", qwen2, 1, settings)
    half = shutil.copytree(tmp_path / "p" / ".training" / "checkpoint-1", tmp_path / "p" / ".training" / "checkpoint-2")
    (half / "complete").unlink()
    (half / "model.safetensors").write_bytes(b"half")
    (tmp_path / ".p.partial-killed").mkdir()
    with open(tmp_path / "p" / "log.jsonl", "a") as file:
        file.write('{"step": 9')
    train_policy(data, tmp_path / "p", policy=qwen2, **settings)
    assert len(losses(tmp_path / "p")) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


def test_a_diverging_training_stops_before_its_weights_are_lost(data: Path, qwen2: str, tmp_path: Path) -> None:
    settings = FAST | {"learning_rate": 1e38, "save_minutes": 0, "epochs": 6, "warm_up": 0.5}
    for _ in range(2):  # again from its last state
        with pytest.raises(
            TrainingDiverged,
            match=r"^the (loss|gradient) became (nan|inf) in update \d: give another folder and a learning_rate below",
        ):
            train_policy(data, tmp_path / "p", policy=qwen2, **settings)
        states = list((tmp_path / "p" / ".training").glob("checkpoint-*/complete"))
        assert states and not (tmp_path / "p" / "config.json").exists()


def on_a_full_disk(save: Any, part: str, value: Any, path: Any, **settings: Any) -> None:
    """Writes what goes to such a path to a device that is full."""
    if part not in str(path):
        save(value, path, **settings)
        return
    with open("/dev/full", "wb", 0) as file:
        file.write(b"anything")


@pytest.mark.parametrize("what", ["state", "checkpoint"])
def test_a_full_disk_is_one_sentence_and_the_training_goes_on(
    data: Path, qwen2: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    settings = FAST | {"save_minutes": 0}
    whole = train_policy(data, tmp_path / "whole", policy=qwen2, **settings)
    with monkeypatch.context() as full:
        if what == "state":
            full.setattr(torch, "save", functools.partial(on_a_full_disk, torch.save, "checkpoint-2"))
        else:
            full.setattr(shutil, "copyfile", functools.partial(on_a_full_disk, None, ""))
        with pytest.raises(
            OutOfSpace, match=r"^the disk of .* is full \(.*No space left on device.*\): make room, and the same call goes on"
        ):
            train_policy(data, tmp_path / "p", policy=qwen2, **settings)
    assert not (tmp_path / "p" / "config.json").exists()
    seen: list[int] = []
    train_policy(data, tmp_path / "p", policy=qwen2, progress=lambda step, *_: seen.append(step), **settings)
    assert seen == ([2, 3] if what == "state" else [])
    assert same(AutoModelForCausalLM, tmp_path / "p", whole)


# Bad input


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.jsonl", None, "there is no file .*none.jsonl: give a dataset"),
        ("empty.jsonl", "", "empty.jsonl is empty: give a dataset with at least one row"),
        ("blank.jsonl", "\n\n", "blank.jsonl (has no rows|cannot be read)"),
        ("rows.csv", "prompt,completion", "rows.csv is no dataset: give a file whose name ends in .parquet, .jsonl or .json"),
        ("sft.json", '{"query": "a"}', "sft.json holds no list: give a list as microsoft/rStar's scripts write it"),
        ("sft.json", '[{"query": "a"}]', "sft.json, row 1: it has no 'response'; give rows as"),
        ("sft.json", "[]", "sft.json has no rows: give a dataset with at least one"),
        ("sft.json", '[{"query": "\\ud800", "response": "b"}]', "sft.json cannot be read: .*surrogates"),
        ("rows.parquet", "not parquet", "rows.parquet cannot be read: "),
        ("rows.jsonl", '{"prompt": 1', "rows.jsonl cannot be read: "),
        ("rows.jsonl", '{"prompt": "a"}', "has no column 'completion', only prompt: give a dataset with prompt, completion"),
        ("rows.jsonl", '{"prompt": "a", "completion": 1}', "the column 'completion' holds int64: give text in every row"),
        (
            "rows.jsonl",
            '{"prompt": "a", "completion": "b"}\n{"prompt": "a"}',
            "row 2: 'completion' is missing: give text in every row",
        ),
    ],
)
def test_unusable_data_is_one_sentence(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InvalidInput, match=message) as told:
        train_policy(tmp_path / name, tmp_path / "out")
    assert "\n" not in str(told.value) and not (tmp_path / "out").exists()


def test_parquet_is_read_as_json_lines_are(qwen2: str, data: Path, tmp_path: Path) -> None:
    columns = write(tmp_path / "sft.parquet", ROWS)
    for name, path in (("rows", data), ("columns", columns)):
        train_policy(path, tmp_path / name, policy=qwen2, **FAST | {"epochs": 1})
    assert same(AutoModelForCausalLM, tmp_path / "rows", tmp_path / "columns")


def test_a_checkpoint_of_another_architecture_is_one_sentence(data: Path, tmp_path: Path) -> None:
    config = transformers.T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=len(nano_tokenizer()))
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path / "t5")
    nano_tokenizer().save_pretrained(tmp_path / "t5")
    with pytest.raises(InvalidInput, match="the policy .*t5' could not be loaded: give a checkpoint's folder"):
        train_policy(data, tmp_path / "out", policy=str(tmp_path / "t5"))
    with pytest.raises(InvalidInput, match="there is no policy checkpoint at .*nowhere"):
        train_policy(data, tmp_path / "out", policy=str(tmp_path / "nowhere"))
    # Nothing was lost, so the mistake may be mended.
    train_policy(data, tmp_path / "out", policy=str(make_policy("qwen2", tmp_path / "qwen2")), **FAST | {"epochs": 1})


def test_a_folder_of_something_else_is_left_alone(data: Path, qwen2: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(InvalidInput, match="mine holds files but no training: give a new or an empty folder"):
        train_policy(data, tmp_path / "mine", policy=qwen2)
    with pytest.raises(InvalidInput, match="sft.jsonl is a file: give a folder for the checkpoint"):
        train_policy(data, data, policy=qwen2)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_two_trainings_do_not_share_a_folder(data: Path, qwen2: str, tmp_path: Path) -> None:
    def again(*_: Any) -> None:
        with pytest.raises(InvalidInput, match=f"is being written by process {os.getpid()}"):
            train_policy(data, tmp_path / "p", policy=qwen2, **FAST | {"epochs": 1})
        raise Stop

    with pytest.raises(Stop):
        train_policy(data, tmp_path / "p", policy=qwen2, progress=again, **FAST | {"epochs": 1})


def test_a_missing_library_is_named(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "find_spec", lambda name: None if name == "trl" else object())
    with pytest.raises(InvalidInput, match=r"^training needs trl: install with pip install 'rstar_fast\[train\]'$"):
        train_policy(data, tmp_path / "out")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0}, "learning_rate is 0: give a finite number > 0"),
        ({"epochs": 1.5}, "epochs is 1.5: give an integer >= 1"),
        ({"packing": "yes"}, "packing is 'yes': give true or false"),
        ({"schedule": "steps"}, "schedule is 'steps': give one of 'linear', 'cosine', 'constant_with_warmup'"),
        ({"warm_up": 1}, r"warm_up is 1: give the part of the training in which the rate rises, in \[0, 1\)"),
        ({"lora": True, "optimizer": "muon"}, "optimizer is 'muon' and lora is true"),
        ({"rate": 1}, "unknown policy training setting 'rate': the settings are batch, "),
    ],
)
def test_settings_out_of_range_are_told(data: Path, tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        train_policy(data, tmp_path / "out", **settings)


def test_the_defaults_are_the_paper_s() -> None:
    config = PolicyTrainingConfig()
    assert (config.learning_rate, config.epochs, config.max_tokens, config.batch) == (7e-6, 2, 2048, 128)
    assert PolicyTrainingConfig.from_mapping(config.to_mapping()) == config
    assert config.replace(schedule="cosine").to_mapping()["schedule"] == "cosine"
    with pytest.raises(InvalidInput, match="config is a dict: give a PolicyTrainingConfig, or None"):
        train_policy("data.jsonl", "out", config={})  # type: ignore[arg-type]
