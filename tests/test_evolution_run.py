"""A whole evolution of two rounds, small: undisturbed, killed at random instants, and from the command line."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from typer.testing import CliRunner

import rstar_fast
from rstar_fast import evolution
from rstar_fast.cli import app
from rstar_fast.evolution import EvolutionConfig, nano
from rstar_fast.evolution.rounds import Rounds, problems_of
from rstar_fast.evolution.stages import Records, Stage
from rstar_fast.nano import POLICY, generate
from rstar_fast.types import InvalidInput, RstarError

KILLS = int(os.environ.get("RSTAR_FAST_KILLS", "5"))
_PRELOADED = ["torch", "transformers", "trl", "datasets", "peft", "accelerate", "rstar_fast.evolution", "rstar_fast.search", "rstar_fast.training.policy"]

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]


def make_unsure(folder: Path) -> None:
    """nano's policy with noise on its weights, so that it is sometimes wrong: without wrong steps there are no pairs."""
    model = AutoModelForCausalLM.from_pretrained(POLICY, dtype=torch.float32)
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight += 0.28 * weight.std() * torch.randn(weight.shape, generator=chance)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(POLICY).save_pretrained(folder)


def settings_in(folder: Path) -> dict[str, Any]:
    """Two rounds: of ten problems, and of six others with a PPM and a second pass, which learns from the first's trees as well."""
    folder.mkdir(exist_ok=True)
    if not (folder / "base").exists():
        make_unsure(folder / "base")
    files = {}
    for name, split, count, seed in (("train", "train", 10, 11), ("more", "train", 6, 13), ("heldout", "heldout", 6, 11)):
        files[name] = folder / f"{name}.jsonl"
        records = generate(split, count, seed, levels=(1, 2))
        files[name].write_text(nano._problems(records), "utf-8")
    base = folder / "base.jsonl"
    base.write_text(nano.worked(generate("train", 8, 12, levels=(1, 2))), "utf-8")
    return {
        "problems": str(files["train"]),
        "heldout": str(files["heldout"]),
        "base": str(folder / "base"),
        "base_data": str(base),
        "search": {"candidates": 4, "rollouts": 4, "max_depth": 12},
        "policy_training": {"epochs": 1, "batch": 4, "learning_rate": 1e-4, "save_minutes": 0},
        "ppm_training": {"epochs": 1, "batch": 4, "learning_rate": 1e-4, "save_minutes": 0},
        "rounds": [{}, {"search": {"annotation": "ppm"}, "again": [5], "problems": str(files["more"]), "earlier": 1}],
        "evaluation": {"samples": 3, "search": {"rollouts": 2, "candidates": 3, "max_depth": 12}},
    }


def data_of(out: Path) -> dict[str, Any]:
    """Everything that trains a model."""
    return {str(path.relative_to(out)): pq.read_table(path).to_pylist() for path in sorted(out.glob("round-*/*data/*.parquet"))}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of the files, and that of an evolution which ran through."""
    folder = tmp_path_factory.mktemp("evolution")
    rstar_fast.evolve(settings_in(folder / "files"), folder / "whole")
    return folder / "files", folder / "whole"


def test_every_round_leaves_models_that_transformers_loads_and_a_page(undisturbed: tuple[Path, Path]) -> None:
    _, out = undisturbed
    for k in (1, 2):
        AutoModelForCausalLM.from_pretrained(out / f"round-{k}" / "policy")
        AutoModelForSequenceClassification.from_pretrained(out / f"round-{k}" / "ppm")
    summary = evolution.summarise(out)
    assert [r.round for r in summary.rounds] == [1, 2]
    for r, searched, learned_from in zip(summary.rounds, (10, 6), (10, 16), strict=True):
        assert r.solved["all"].total == searched and r.solved["all"].count > 0
        assert sum(r.difficulty.values()) == learned_from
        assert set(r.measures) == {"greedy", "search", "majority", "ppm best of n", "logprob best of n", "pass@3", "control greedy", "control search"}
        assert all(of["all"].total == 6 for of in r.measures.values())
        assert r.over_control["greedy"]["all"].low <= r.over_control["greedy"]["all"].value
        assert r.tokens > 0 and r.hours > 0
    assert summary.rounds[1].ppm is not None and 0 <= summary.rounds[1].ppm["pairs"]["all"]["accuracy"] <= 1
    assert (out / "summary.html").exists() and (out / "summary.png").exists()
    data = data_of(out)
    assert data["round-1/data/sft.parquet"] and data["round-1/data/pairs.parquet"]


def test_the_control_is_trained_as_long_as_the_policy(undisturbed: tuple[Path, Path]) -> None:
    _, out = undisturbed
    for k in (1, 2):
        updates = {name: json.loads((out / f"round-{k}" / "records" / f"{name}.json").read_text())["updates"] for name in ("policy", "control")}
        assert updates["policy"] == updates["control"] > 0


def test_what_is_done_is_not_done_again(undisturbed: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    files, out = undisturbed
    times = {path: path.stat().st_mtime_ns for path in out.glob("round-*/*/*")}
    told: list[bool] = []
    rstar_fast.evolve(settings_in(files), out, done=lambda stage, record, before: told.append(before))
    assert all(told) and len(told) > 20
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_killed_at_random_instants_it_ends_with_the_same_data(undisturbed: tuple[Path, Path], tmp_path: Path) -> None:
    files, whole = undisturbed
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    out, settings = tmp_path / "killed", settings_in(files)
    instants = random.Random(KILLS)
    seconds = sum(json.loads(path.read_text())["seconds"] for path in whole.glob("round-*/records/*.json"))
    kills = 0
    while True:
        process = context.Process(target=rstar_fast.evolve, args=(settings, str(out)))
        process.start()
        process.join(instants.uniform(0.2, 2.0) * seconds / KILLS if kills < KILLS else None)
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        kills += 1
    assert process.exitcode == 0 and kills > 0
    print(f"killed {kills} times in some {seconds:.0f} s")
    expected, found = data_of(whole), data_of(out)
    assert found.keys() == expected.keys()
    for name, rows in expected.items():
        # The company in which a PPM scores a step is chance, and changes its score by a rounding.
        assert found[name] == [{key: pytest.approx(value, abs=1e-6) if isinstance(value, float) else value for key, value in row.items()} for row in rows]
        if name.startswith("round-1"):
            assert found[name] == rows, name
    assert json.loads((out / "summary.json").read_text())["rounds"][1]["measures"] == json.loads((whole / "summary.json").read_text())["rounds"][1]["measures"]


# --- the command line ------------------------------------------------------------------------------------------------


def test_the_command_goes_on_and_shows_the_tables(undisturbed: tuple[Path, Path], tmp_path: Path) -> None:
    files, out = undisturbed
    config = tmp_path / "evolution.yaml"
    config.write_text(json.dumps(settings_in(files)))
    shown = CliRunner().invoke(app, ["evolve", str(config), "--out", str(out)])
    assert shown.exit_code == 0, shown.output
    assert "Training problems solved" in shown.output and "summary.html" in shown.output
    assert re.search(r"round 1  train the policy from the base: .*updates, done before", shown.output)


def test_a_dry_run_prints_the_plan_and_begins_nothing(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["evolve", "--nano", "--dry-run"], env={"COLUMNS": "160"})
    assert shown.exit_code == 0, shown.output
    assert "heldout-search" in shown.output and "estimated" in shown.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["evolve"], "give the YAML file of an evolution, or --nano"),
        (["evolve", "--nano"], "an evolution needs a folder: give --out FOLDER"),
        (["evolve", "missing.yaml", "--out", "x"], "there is no file missing.yaml"),
        (["evolve", "missing.yaml", "--out", "x", "--problems", "3"], "are numbers for --nano"),
    ],
)
def test_a_wrong_command_is_told_in_a_sentence(arguments: list[str], sentence: str) -> None:
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 1
    assert sentence in shown.output and "Traceback" not in shown.output


def test_a_base_that_is_not_there_is_told_before_the_search(undisturbed: tuple[Path, Path], tmp_path: Path) -> None:
    files, _ = undisturbed
    settings = settings_in(files) | {"base": str(tmp_path / "no such model"), "bootstrap": str(files / "base")}
    with pytest.raises(InvalidInput, match="no such model"):
        rstar_fast.evolve(settings, tmp_path / "e")
    assert not (tmp_path / "e").exists()


# --- trainings by a launcher -----------------------------------------------------------------------------------------


def policy_stage(settings: dict[str, Any], out: Path) -> Stage:
    """The stage that trains the policy of round 1, in an evolution of its own that has the data of another."""
    config = EvolutionConfig.from_mapping(settings)
    return next(stage for stage in Rounds(config, Records(out), problems_of(config)).stages() if stage.name == "policy")


def test_a_launcher_trains_as_this_process_does(undisturbed: tuple[Path, Path], tmp_path: Path) -> None:
    files, whole = undisturbed
    shutil.copytree(whole / "round-1" / "data", tmp_path / "round-1" / "data")
    (tmp_path / "round-1" / "records").mkdir()
    launched = policy_stage(settings_in(files) | {"launcher": [sys.executable]}, tmp_path).work()
    assert launched["updates"] == 1
    expected, found = (load_file(out / "round-1" / "policy" / "model.safetensors") for out in (whole, tmp_path))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize(
    ("launcher", "sentence"),
    [(["false"], "round 1, policy: the launcher ended with status 1"), (["no such command"], "launcher 'no such command' cannot be started")],
)
def test_a_launcher_that_fails_is_told(undisturbed: tuple[Path, Path], tmp_path: Path, launcher: list[str], sentence: str) -> None:
    files, _ = undisturbed
    (tmp_path / "round-1" / "records").mkdir(parents=True)
    with pytest.raises(RstarError, match=sentence):
        policy_stage(settings_in(files) | {"launcher": launcher}, tmp_path).work()
