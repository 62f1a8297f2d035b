"""The reference's PPMs: a value head beside the language model's weights or among them, however they were wrapped and cut."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tiny_models import make_policy, nano_tokenizer
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
from typer.testing import CliRunner

from rstar_fast import Partial, Problem, steps
from rstar_fast.cli import app
from rstar_fast.ppm import load_scorer
from rstar_fast.ppm.convert import from_reference
from rstar_fast.types import InvalidInput

PARTIALS = [
    Partial(Problem("What is 2 + 3?"), text) for text in ("", "<code>\nx = 2\n<end_of_step>", "<code>\nprint(5)\n<end_of_code>")
]
BIAS = 0.75


def head(seed: int = 5) -> dict[str, torch.Tensor]:
    """As the reference names it."""
    weight = torch.randn(1, 32, generator=torch.Generator().manual_seed(seed))
    return {"v_head.summary.weight": weight, "v_head.summary.bias": torch.tensor([BIAS])}


def policy(folder: Path, family: str = "qwen2") -> dict[str, torch.Tensor]:
    """A policy's folder whose weights are taken out; the weights."""
    make_policy(family, folder)
    weights = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    (folder / "model.safetensors").unlink()
    return {name: weight.clone() for name, weight in weights.items()}


def beside(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    save_file(weights, folder / "model.safetensors")
    torch.save(head(), folder / "value_head.bin")


def among(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    save_file(weights | head(), folder / "model.safetensors")


def wrapped_in_a_bin(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    torch.save({f"pretrained_model.{name}": weight for name, weight in weights.items()} | head(), folder / "pytorch_model.bin")


def in_two_files(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    names = sorted(weights | head())
    for number, part in enumerate((names[::2], names[1::2]), 1):
        save_file({name: (weights | head())[name] for name in part}, folder / f"model-0000{number}-of-00002.safetensors")


def both_alike(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    among(folder, weights)
    save_file({name.removeprefix("v_head."): weight for name, weight in head().items()}, folder / "value_head.safetensors")


@pytest.mark.parametrize("family", ["qwen2", "phi3"])
@pytest.mark.parametrize("write", [beside, among, wrapped_in_a_bin, in_two_files, both_alike])
def test_the_scores_are_the_reference_s(tmp_path: Path, write: Callable[..., None], family: str) -> None:
    weights = policy(tmp_path / "theirs", family)
    write(tmp_path / "theirs", weights)
    out = from_reference(tmp_path / "theirs", tmp_path / "ours")
    # What the reference's scorer does: the last token's last hidden state through the head, tanh(. / 5).
    make_policy(family, tmp_path / "policy")
    body = AutoModelForCausalLM.from_pretrained(tmp_path / "policy").model.double()
    given = head()
    expected = []
    for partial in PARTIALS:
        with torch.inference_mode():
            hidden = body(input_ids=torch.tensor([nano_tokenizer()(steps.prompt(partial))["input_ids"]])).last_hidden_state[
                0, -1
            ]
        expected.append(float(torch.tanh((hidden @ given["v_head.summary.weight"][0].double() + BIAS) / 5.0)))
    assert asyncio.run(load_scorer(out, device="cpu").score(PARTIALS)) == pytest.approx(expected, abs=1e-6)
    told = json.loads((out / "config.json").read_text())
    assert (told["ppm_scale"], told["ppm_bias"]) == (5.0, BIAS)
    # Plainly, all but the bias.
    model, info = AutoModelForSequenceClassification.from_pretrained(out, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and model.config.num_labels == 1
    with torch.inference_mode():
        logit = float(model(input_ids=torch.tensor([nano_tokenizer()(steps.prompt(PARTIALS[1]))["input_ids"]])).logits[0, 0])
    assert torch.tanh(torch.tensor((logit + BIAS) / 5.0)) == pytest.approx(expected[1], abs=1e-6)


def test_tied_embeddings_are_no_stranger(tmp_path: Path) -> None:
    weights = policy(tmp_path / "theirs", "qwen2, tied")
    among(tmp_path / "theirs", {name: weight for name, weight in weights.items() if name != "lm_head.weight"})
    from_reference(tmp_path / "theirs", tmp_path / "ours", scale=3.0)
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["ppm_scale"] == 3.0


class Mean:
    """Runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["RSTAR_FAST_TEST_MEAN"],)


def test_nothing_of_a_checkpoint_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSTAR_FAST_TEST_MEAN", str(tmp_path / "ran"))
    save_file(policy(tmp_path / "theirs"), tmp_path / "theirs" / "model.safetensors")
    (tmp_path / "theirs" / "value_head.bin").write_bytes(pickle.dumps(Mean()))
    with pytest.raises(InvalidInput, match=r"value_head.bin cannot be read \(.*\): give weights only, whole"):
        from_reference(tmp_path / "theirs", tmp_path / "ours")
    assert not (tmp_path / "ran").exists() and not (tmp_path / "ours").exists()


def without_a_head(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    save_file(weights, folder / "model.safetensors")


def without_weights(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    torch.save(head(), folder / "value_head.bin")


def with_two_heads(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    among(folder, weights)
    torch.save(head(6), folder / "value_head.bin")


def with_a_deep_head(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    save_file(weights | {"v_head.0.weight": torch.ones(4, 32)}, folder / "model.safetensors")


def with_a_layer_missing(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    among(folder, {name: weight for name, weight in weights.items() if "layers.1.self_attn" not in name})


def with_another_shape(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    save_file(weights | {"v_head.summary.weight": torch.ones(1, 31)}, folder / "model.safetensors")


def with_something_more(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    among(folder, weights | {"model.layers.2.norm.weight": torch.ones(32)})


def without_config(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    among(folder, weights)
    (folder / "config.json").unlink()


def cut_in_half(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    among(folder, weights)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (without_a_head, "has no value head: give one with value_head.bin, or with v_head.* among its weights"),
        (without_weights, "has neither model.*safetensors nor pytorch_model.*bin"),
        (
            with_two_heads,
            "has v_head.* among its weights and another head in a file of its own: remove the one that was not trained",
        ),
        (with_a_deep_head, "the value head of .* has v_head.0.weight: give one with v_head.summary.weight of one row"),
        (with_a_layer_missing, "lacks model.layers.1.self_attn.* and 4 more: give the folder"),
        (with_another_shape, "has weights of other shapes than its config says: score.weight"),
        (with_something_more, "has the unknown weights model.layers.2.norm.weight"),
        (without_config, "has no config.json: give the folder of a reference's PPM"),
        (cut_in_half, "model.safetensors cannot be read"),
    ],
)
def test_what_is_no_ppm_is_one_sentence(tmp_path: Path, write: Callable[..., None], message: str) -> None:
    write(tmp_path / "theirs", policy(tmp_path / "theirs"))
    with pytest.raises(InvalidInput, match=message) as told:
        from_reference(tmp_path / "theirs", tmp_path / "ours")
    assert "\n" not in str(told.value) and not (tmp_path / "ours").exists()


def test_the_command(tmp_path: Path) -> None:
    beside(tmp_path / "theirs", policy(tmp_path / "theirs"))
    done = CliRunner().invoke(app, ["convert-ppm", str(tmp_path / "theirs"), "--out", str(tmp_path / "ours")])
    assert (
        done.exit_code == 0
        and done.stdout == f"PPM      {tmp_path / 'ours'}\n"
        and (tmp_path / "ours" / "config.json").exists()
    )
    done = CliRunner().invoke(app, ["convert-ppm", str(tmp_path / "ours"), "--out", str(tmp_path / "again")])
    assert done.exit_code == 1 and done.stderr.startswith("error: ") and "has no value head" in done.stderr
