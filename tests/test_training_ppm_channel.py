"""Training a PPM that reads the question back, against its formulas, text by text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import make_policy, nano_tokenizer
from transformers import AutoModelForCausalLM

from rstar_fast import steps
from rstar_fast.config import PpmTrainingConfig
from rstar_fast.ppm import load_scorer
from rstar_fast.ppm import model as ppm_model
from rstar_fast.ppm.channel import ChannelScorer
from rstar_fast.training import ppm_evaluation
from rstar_fast.training.ppm import train_ppm
from rstar_fast.training.preferences import read_solutions
from rstar_fast.types import InvalidInput

pytestmark = pytest.mark.usefixtures("one_thread")
FAST = {"kind": "channel", "epochs": 3, "batch": 8, "learning_rate": 1e-3, "warm_up": 0.0, "bf16": False}
STEP = "<code>\nx = {} + {}\n<end_of_step>"
END = "\nprint(x)\n<end_of_code>\n<output>{}<end_of_output>"


def question(a: int, b: int) -> str:
    return f"Compute the sum of {a} and {b}."


def rows_of(numbers: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """Of each problem a pair of first steps, and two of what follows."""
    rows: list[dict[str, Any]] = []
    for at, (a, b) in enumerate(numbers):
        prompt, common = steps.prompt_of(question(a, b)), {"problem": str(at), "final": False}
        rows.append({"prompt": prompt, "chosen": STEP.format(a, b), "rejected": STEP.format(a, b + 1), "group": 2 * at, "depth": 1} | common)
        for wrong in (a, b):
            said = {"prompt": prompt + STEP.format(a, b), "chosen": END.format(a + b), "rejected": END.format(wrong)}
            rows.append(said | {"group": 2 * at + 1, "depth": 2} | common)
    return rows


ROWS = rows_of([(1, 2), (3, 5), (12, 4), (7, 40)])
SOLUTIONS = [
    {"prompt": steps.prompt_of(question(a, b)), "completion": STEP.format(a, b) + END.format(a + b), "problem": f"s{a}"}
    for a, b in ((6, 8), (90, 1))
]


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("channel")
    write(made / "pairs.jsonl", ROWS)
    write(made / "solutions.jsonl", SOLUTIONS)
    make_policy("qwen2", made / "qwen2")
    return made


def train(folder: Path, out: Path, **settings: Any) -> dict[str, Any] | None:
    return train_ppm(folder / "pairs.jsonl", out, policy=str(folder / "qwen2"), **{**FAST, **settings})


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()[1:]]


def log_ps(model: Any, asked: str, solution: str) -> torch.Tensor:
    """Of each token of the question behind a solution, [n], as transformers computes them."""
    before = f"{solution}\n<|user|>:\n"
    first = len(nano_tokenizer()(before)["input_ids"])
    ids = torch.tensor(nano_tokenizer()(before + asked)["input_ids"])
    found = model(input_ids=ids[None]).logits[0].log_softmax(-1)
    return found[first - 1 : -1].gather(-1, ids[first:, None])[:, 0]


def loss_by_its_formula(model: Any, rows: Sequence[dict[str, Any]], parts: Sequence[tuple[str, list[str]]], config: PpmTrainingConfig) -> float:
    """The mean over groups of pairwise, calibration and reading loss; groups of solutions have the last alone."""
    of_group: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        of_group.setdefault(row["group"], []).append(row)
    total = 0.0
    for some in of_group.values():
        asked, before = steps.taken_apart(some[0]["prompt"])  # type: ignore[misc]
        texts = {side: list(dict.fromkeys(row[side] for row in some)) for side in ("chosen", "rejected")}
        found = {text: log_ps(model, asked, before + text) for side in texts.values() for text in side}
        pairs = [torch.log(torch.sigmoid(found[row["chosen"]].sum() - found[row["rejected"]].sum())) for row in some]
        total -= float(torch.stack(pairs).mean())
        total -= config.reading_weight * float(torch.cat([found[text] for text in texts["chosen"]]).mean())
        each = []
        for side, sign in (("chosen", 1), ("rejected", -1)):
            each += [torch.log((1 + sign * torch.tanh((found[text].sum() + config.bias) / config.scale)) / 2) for text in texts[side]]
        total -= config.calibration_weight * float(torch.stack(each).mean())
    for asked, some_parts in parts:
        total -= config.reading_weight * float(torch.cat([log_ps(model, asked, part) for part in some_parts]).mean())
    return total / (len(of_group) + len(parts))


def test_the_first_loss_is_the_formula_s(folder: Path, tmp_path: Path) -> None:
    given = {"reading_weight": 0.7, "calibration_weight": 0.3, "bias": 50.0, "scale": 30.0}
    train(folder, tmp_path / "ppm", batch=100, solutions=folder / "solutions.jsonl", **given)
    model = AutoModelForCausalLM.from_pretrained(folder / "qwen2")
    parts = [(question(a, b), [STEP.format(a, b) + END.format(a + b), STEP.format(a, b)]) for a, b in ((6, 8), (90, 1))]
    with torch.inference_mode():
        expected = loss_by_its_formula(model, ROWS, parts, PpmTrainingConfig.from_mapping(given | {"kind": "channel"}))
    assert losses(tmp_path / "ppm")[0] == pytest.approx(expected, rel=1e-4)


def test_batchings_that_are_equivalent_give_one_loss_curve(folder: Path, tmp_path: Path) -> None:
    for name, batch_tokens in (("8x1", 100_000), ("1x8", 1)):
        train(folder, tmp_path / name, batch_tokens=batch_tokens, solutions=folder / "solutions.jsonl", calibration_weight=0.1)
    first = losses(tmp_path / "8x1")
    assert len(first) == 3 and losses(tmp_path / "1x8") == pytest.approx(first, rel=1e-4)


def test_overfitting_reaches_pair_accuracy_1(folder: Path, tmp_path: Path) -> None:
    again = write(tmp_path / "again.jsonl", [{**row, "problem": "x" + row["problem"]} for row in ROWS])
    given = {"epochs": 60, "learning_rate": 3e-3, "calibration_weight": 0.5, "bias": 10.0}
    found = train(folder, tmp_path / "ppm", heldout=again, solutions=folder / "solutions.jsonl", **given)
    assert found is not None and found["pairs"]["all"]["accuracy"] == 1.0 and found["pairs"]["all"]["pairs"] == len(ROWS)
    assert losses(tmp_path / "ppm")[-1] < 0.2 * losses(tmp_path / "ppm")[0]
    # As transformers, and as our scorer, load it; what was evaluated is what is scored.
    model, told = AutoModelForCausalLM.from_pretrained(tmp_path / "ppm", output_loading_info=True)
    assert not told["missing_keys"] and (model.config.ppm_kind, model.config.ppm_bias) == ("channel", 10.0)
    assert isinstance(load_scorer(tmp_path / "ppm", device="cpu"), ChannelScorer)
    groups, _ = ppm_evaluation.read_groups(again, nano_tokenizer(), 512, PpmTrainingConfig(kind="channel").kind)  # type: ignore[arg-type]
    judged = ppm_evaluation._judge(ppm_model.load_channel(str(tmp_path / "ppm"), device="cpu"), groups)
    asked, before = steps.taken_apart(ROWS[0]["prompt"])  # type: ignore[misc]
    with torch.inference_mode():
        expected = float(log_ps(model, asked, before + ROWS[0]["chosen"]).sum()) + 10.0
    assert judged[0].rewards[0] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("settings", [{"lora": True, "learning_rate": 0.01}, {"optimizer": "muon"}, {"gradient_checkpointing": True}])
def test_other_ways_to_train_learn_too(folder: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    train(folder, tmp_path / "ppm", **{"epochs": 16, **settings})
    curve = losses(tmp_path / "ppm")
    assert curve[-1] < 0.8 * curve[0] and not list((tmp_path / "ppm").glob("*adapter*"))
    assert ppm_model.reads_back(str(tmp_path / "ppm"))


def test_a_ppm_goes_on_from_another(folder: Path, tmp_path: Path) -> None:
    train(folder, tmp_path / "first", epochs=8)
    train_ppm(folder / "pairs.jsonl", tmp_path / "second", policy=str(tmp_path / "first"), **FAST)
    assert losses(tmp_path / "second")[0] < losses(tmp_path / "first")[0]


def test_solutions_that_are_too_long_are_left_out(folder: Path, tmp_path: Path) -> None:
    long = {**SOLUTIONS[0], "completion": SOLUTIONS[0]["completion"] + " " + "x " * 200}
    groups, left_out = read_solutions(write(tmp_path / "s.jsonl", [long, *SOLUTIONS]), nano_tokenizer(), 100, 0)
    assert left_out == 1 and [group.problem for group in groups] == ["s6", "s90"]
    assert all(len(group.branches) == 2 and not group.better for group in groups)


def test_bad_input_is_told(folder: Path, tmp_path: Path) -> None:
    foreign = write(tmp_path / "f.jsonl", [{"prompt": "Q: 1 + 1?", "chosen": "2", "rejected": "3"}])
    with pytest.raises(InvalidInput, match="the prompt 'Q: 1 \\+ 1\\?' is not one that `extract` writes"):
        train_ppm(foreign, tmp_path / "a", policy=str(folder / "qwen2"), **FAST)
    with pytest.raises(InvalidInput, match="solutions are for a PPM of kind 'channel', and this is to be a 'head'"):
        train(folder, tmp_path / "b", kind="head", solutions=folder / "solutions.jsonl")
    with pytest.raises(InvalidInput, match="bias is 3.0: it is of the kind 'channel'"):
        train(folder, tmp_path / "c", kind="head", bias=3.0)
    with pytest.raises(InvalidInput, match="gone.jsonl"):
        train(folder, tmp_path / "d", solutions=tmp_path / "gone.jsonl")
