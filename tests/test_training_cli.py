"""`rstar-fast train-policy` and `train-ppm` as their users meet them, in one process and in several."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from stored_trees import result, right, stored, wrong
from trainings import losses, write
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
from typer.testing import CliRunner

from rstar_fast import nano, steps
from rstar_fast.cli import app, train_commands

# What every process of a training runs: both commands, one after the other.
BOTH = """
import os, sys, torch
torch.set_num_threads(1)
from rstar_fast.cli import app
from transformers import TrainingArguments
os.write(1, b"of %d\\n" % TrainingArguments().world_size)
for command in sys.argv[1:]:
    app(command.split("|"), standalone_mode=False)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("data")
    records = nano.generate("train", 12, 3)
    prompts = [steps.prompt_of(record.problem.question) for record in records]
    solutions = [{"prompt": prompt, "completion": record.solution} for prompt, record in zip(prompts, records, strict=True)]
    pairs = [
        {"prompt": prompt + "<code>\n", "chosen": "x = 1\n<end_of_step>", "rejected": f"x = {n}\n<end_of_step>", "depth": 0}
        for prompt in prompts
        for n in (2, 3)
    ]
    for name, rows in (("sft", solutions[:8]), ("pairs", pairs[:16]), ("heldout", pairs[16:])):
        write(made / f"{name}.jsonl", rows)
    tiny_models.make_policy("qwen2", made / "qwen2")
    return made


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_reference_s_files_are_trained_on_as_ours_are(folder: Path, tmp_path: Path) -> None:
    runs = stored(tmp_path / "run", *(result(f"{n} + 1", [right(f"a = {n}\n"), wrong(f"b = {n}\n")]) for n in range(4)))
    for name, kind in (("ours", "jsonl"), ("theirs", "reference")):
        assert run("extract", runs, "--out", tmp_path / name, "--format", kind).exit_code == 0
    suffix = {"ours": "jsonl", "theirs": "json"}
    for name in ("ours", "theirs"):
        common = ("--policy", folder / "qwen2", "--epochs", "1", "--learning-rate", "0.001")
        for command, data in (("train-policy", "sft"), ("train-ppm", "pairs")):
            done = run(command, tmp_path / name / f"{data}.{suffix[name]}", *common, "--out", tmp_path / f"{name}-{data}")
            assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "theirs-pairs" / "log.jsonl").read_text().splitlines()[0])["pairs"] == 8  # of steps, of solutions
    # Their solutions have no white space at the ends; pairs are as ours.
    assert losses(tmp_path / "theirs-pairs") == losses(tmp_path / "ours-pairs") and losses(tmp_path / "theirs-sft")


def test_a_policy_and_then_a_ppm_are_trained(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("batch: 4\nepochs: 3\nlearning_rate: 0.001\n")
    common = ("--config", tmp_path / "c.yaml", "--epochs", "1")
    done = run("train-policy", folder / "sft.jsonl", "--policy", folder / "qwen2", "--out", tmp_path / "policy", *common)
    assert done.exit_code == 0 and done.stdout == f"policy   {tmp_path / 'policy'}\n"
    lines = done.stderr.splitlines()
    assert lines[0] == f"1/2 updates  loss {losses(tmp_path / 'policy')[0]:.4f}" and lines[1].startswith("2/2 updates  loss ")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "policy") is not None
    arguments = ("train-ppm", folder / "pairs.jsonl", "--policy", tmp_path / "policy", "--out", tmp_path / "ppm", *common)
    done = run(*arguments, "--heldout", folder / "heldout.jsonl")
    lines = done.stdout.splitlines()
    assert done.exit_code == 0 and lines[0] == f"PPM      {tmp_path / 'ppm'}"
    assert [line[:9].strip() for line in lines[1:]] == ["all", "steps", "depth 0", "calibrati"]
    found = json.loads((tmp_path / "ppm" / "evaluation.json").read_text())["pairs"]["all"]
    assert f"{found['accuracy']:.1%} of 8 pairs in order" in lines[1] and lines[1].endswith("4 problems)")
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "ppm").config.num_labels == 1
    again = run(*arguments, "--heldout", folder / "heldout.jsonl")
    assert again.exit_code == 0 and again.stdout == done.stdout and again.stderr == ""


def test_mistakes_are_one_line(folder: Path, tmp_path: Path) -> None:
    for arguments, message in (
        (("train-policy", tmp_path / "no.jsonl", "--out", tmp_path / "p"), "error: there is no file "),
        (("train-ppm", tmp_path / "no.jsonl", "--out", tmp_path / "p"), "error: "),
        (
            ("train-policy", folder / "sft.jsonl", "--out", tmp_path / "p", "--epochs", "0"),
            "error: epochs is 0: give an integer >= 1",
        ),
        (
            ("train-ppm", folder / "pairs.jsonl", "--out", tmp_path / "p", "--policy", tmp_path / "no"),
            "error: there is no policy checkpoint at ",
        ),
    ):
        done = run(*arguments)
        assert done.exit_code == 1 and done.stderr.startswith(message) and done.stderr.count("\n") == 1, done.stderr
    assert run("train-policy").exit_code == 2


def test_an_interrupted_training_says_how_to_go_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train_commands.ProgressLine, "__call__", interrupt)
    monkeypatch.setattr(sys, "argv", ["rstar-fast", "train-policy", "my data.jsonl"])
    done = run("train-policy", folder / "sft.jsonl", "--policy", folder / "qwen2", "--out", tmp_path / "p")
    assert done.exit_code == 130
    assert (
        done.stderr
        == f"interrupted: its last state is kept in {tmp_path / 'p'}; to go on: rstar-fast train-policy 'my data.jsonl'\n"
    )


def test_two_processes_train_what_one_does(folder: Path, tmp_path: Path) -> None:
    """As `accelerate launch` starts them on machines with several GPUs, here on the CPU."""

    def commands(name: str) -> list[list[str]]:
        common = ["--policy", str(folder / "qwen2"), "--batch", "4", "--epochs", "2", "--learning-rate", "0.001"]
        policy = ["train-policy", str(folder / "sft.jsonl"), "--out", str(tmp_path / name / "policy"), "--no-packing"]
        ppm = ["train-ppm", str(folder / "pairs.jsonl"), "--out", str(tmp_path / name / "ppm")]
        return [policy + common, ppm + ["--heldout", str(folder / "heldout.jsonl")] + common]

    (tmp_path / "both.py").write_text(BOTH)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(tmp_path / "both.py")]
        + ["|".join(command) for command in commands("two")],
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("of 2\n") == 2
    assert done.stdout.count("PPM      ") == done.stdout.count("policy   ") == 1  # by the main process only
    assert all(run(*command).exit_code == 0 for command in commands("one"))
    for part in ("policy", "ppm"):
        first, second = losses(tmp_path / "one" / part), losses(tmp_path / "two" / part)
        assert len(first) == 4 and second == [pytest.approx(loss, rel=1e-5) for loss in first]


@pytest.mark.gpu
@pytest.mark.timeout(300)
@pytest.mark.parametrize("version", ["1", "2"])
def test_a_model_in_parts_trains_as_a_whole_one(folder: Path, tmp_path: Path, version: str) -> None:
    """FSDP, which accelerate leaves out on CPUs, of one process: whoever has one GPU can run this."""
    common = ["--policy", str(folder / "qwen2"), "--batch", "4", "--epochs", "2", "--learning-rate", "0.001", "--fp32"]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--use_fsdp", "--fsdp_version", version, "--num_processes", "1"]
    for kind, data in (("policy", "sft"), ("ppm", "pairs")):
        command = [f"train-{kind}", str(folder / f"{data}.jsonl"), *common, "--out"]
        parts, whole = tmp_path / f"{kind} in parts", tmp_path / kind
        done = subprocess.run([*launch, "--module", "rstar_fast.cli", *command, str(parts)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert run(*command, whole).exit_code == 0
        assert losses(parts) == [pytest.approx(loss, rel=1e-3) for loss in losses(whole)]
        model = AutoModelForCausalLM if kind == "policy" else AutoModelForSequenceClassification
        found, expected = (model.from_pretrained(path).state_dict() for path in (parts, whole))
        assert set(found) == set(expected)
        assert all(torch.allclose(found[name], weight, atol=1e-3) for name, weight in expected.items())
