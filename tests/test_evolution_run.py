"""A whole evolution of two rounds, small: undisturbed, killed at random instants, and from the command line."""

from __future__ import annotations

import bisect
import itertools
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
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from typer.testing import CliRunner

import rstar_fast
from rstar_fast import evolution
from rstar_fast.cli import app
from rstar_fast.evolution import EvolutionConfig, api, nano, rounds
from rstar_fast.evolution.rounds import Rounds, problems_of
from rstar_fast.evolution.stages import Records, Stage
from rstar_fast.nano import POLICY, generate
from rstar_fast.storage import load_run
from rstar_fast.types import Finished, InvalidInput, RstarError, TrainingDiverged

KILLS = int(os.environ.get("RSTAR_FAST_KILLS", "5"))
SEED = int(os.environ.get("RSTAR_FAST_SEED", "5"))
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
        "heldout_search": {"rollouts": 6},
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


def test_each_run_has_the_models_and_the_seed_of_its_round(undisturbed: tuple[Path, Path]) -> None:
    files, out = undisturbed
    base = str(files / "base")
    first, second = ({name: str(out / f"round-{k}" / name) for name in ("policy", "ppm", "control")} for k in (1, 2))
    # Name -> policy, PPM, seed, rollouts.
    expected = {
        "round-1/search": (base, None, 57, 4),
        "round-1/heldout-search": (base, None, 53, 6),
        "round-1/greedy": (first["policy"], None, 54, 1),
        "round-1/samples": (first["policy"], None, 55, 3),
        "round-1/evaluation": (first["policy"], first["ppm"], 56, 2),
        "round-1/control-greedy": (first["control"], None, 54, 1),
        "round-1/control-evaluation": (first["control"], first["ppm"], 56, 2),
        "round-2/search": (first["policy"], first["ppm"], 107, 4),
        "round-2/search-2": (first["policy"], first["ppm"], 108, 5),
        "round-2/heldout-search": (first["policy"], first["ppm"], 103, 6),
        "round-2/greedy": (second["policy"], None, 104, 1),
        "round-2/samples": (second["policy"], None, 105, 3),
        "round-2/evaluation": (second["policy"], second["ppm"], 106, 2),
        "round-2/control-greedy": (second["control"], None, 104, 1),
        "round-2/control-evaluation": (second["control"], first["ppm"], 106, 2),
    }
    found = {}
    for path in out.glob("round-*/*/manifest.json"):
        told = json.loads(path.read_text())["settings"]
        rollouts = 1 if told["search"].get("strategy") == "greedy" else told["search"]["rollouts"]
        found[str(path.parent.relative_to(out))] = (told["policy"], told["ppm"], told["search"]["seed"], rollouts)
    assert found == expected
    trained = {path.parent.name: json.loads(path.read_text())["policy"] for path in out.glob("round-2/*/training.json")}
    assert trained == {"policy": base, "ppm": second["policy"], "control": first["policy"]}


def test_a_second_pass_searches_what_the_first_left_unsolved(undisturbed: tuple[Path, Path]) -> None:
    _, out = undisturbed
    first, again = (list(load_run(out / "round-2" / name)) for name in ("search", "search-2"))
    unsolved = {result.problem.id for result in first if not any(trajectory.correct for trajectory in result.trajectories)}
    assert 0 < len(unsolved) < len(first) == 6
    assert {result.problem.id for result in again} == unsolved


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
    in_order = sorted(whole.glob("round-*/records/*.json"), key=lambda path: path.stat().st_mtime_ns)
    seconds = [json.loads(path.read_text())["seconds"] for path in in_order]
    chance = random.Random(SEED)
    # Instants of the undisturbed evolution, as how many stages are done and seconds from there on: on a machine that is faster or
    # slower than it was then they come all the same. None is in the last stage, which might be over before.
    instants = sorted(chance.uniform(0.0, sum(seconds[:-1])) for _ in range(KILLS))
    kills = 0
    while True:
        process = context.Process(target=rstar_fast.evolve, args=(settings, str(out)))
        process.start()
        if kills < KILLS:
            ends = list(itertools.accumulate(seconds))
            stages = bisect.bisect_right(ends, instants[kills])
            while process.exitcode is None and len(list(out.glob("round-*/records/*.json"))) < stages:
                process.join(0.05)
            process.join(instants[kills] - (ends[stages - 1] if stages else 0.0))
        else:
            process.join()
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        kills += 1
    print(f"seed {SEED}: killed {kills} times in some {sum(seconds):.0f} s")
    assert process.exitcode == 0 and kills == KILLS
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
        (["evolve", "--nano", "--dry-run", "--problems", "3,"], "--problems is '3,': give a number, or one for each round"),
        (["evolve", "--nano", "--dry-run", "--problems", "3,4"], "problems is [3, 4], for 2 rounds: give one number"),
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


@pytest.mark.parametrize(
    ("kind", "role", "sentence"),
    [
        ("T5", "base", "the policy .*T5' is no causal language model: give one such as Qwen2, Llama or Phi-3"),
        ("T5", "bootstrap", "the policy .*T5' is no causal language model"),
        ("Mamba", "base", "the policy .*Mamba' cannot be the body of a PPM"),
        ("Bloom", "base", "the PPM is a BloomForSequenceClassification, whose attention transformers does not let one choose"),
        ("Mamba", "ppm_base", "the PPM is a MambaForCausalLM, whose attention transformers does not let one choose"),
    ],
)
def test_a_model_of_a_wrong_architecture_is_told_before_the_search(
    undisturbed: tuple[Path, Path], tmp_path: Path, kind: str, role: str, sentence: str
) -> None:
    files, _ = undisturbed
    folder = tmp_path / kind
    getattr(transformers, f"{kind}Config")().save_pretrained(folder)  # no weights: none are read
    AutoTokenizer.from_pretrained(POLICY).save_pretrained(folder)
    settings = settings_in(files) | {"bootstrap": str(files / "base"), role: str(folder)}
    if role == "ppm_base":
        settings["ppm_training"] = settings["ppm_training"] | {"kind": "channel"}
    with pytest.raises(InvalidInput, match=sentence):
        rstar_fast.evolve(settings, tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_packing_is_checked_before_the_search(undisturbed: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, _ = undisturbed
    settings = settings_in(files)

    def refuse(model: torch.nn.Module) -> None:
        raise InvalidInput(f"no packing of {type(model).__name__} on {next(model.parameters()).device}")

    monkeypatch.setattr(api, "check_packing", refuse)
    with pytest.raises(InvalidInput, match=r"no packing of \w+ForCausalLM on meta"):
        rstar_fast.evolve(settings, tmp_path / "e")
    settings["policy_training"] |= {"packing": False}
    with pytest.raises(Stop):
        rstar_fast.evolve(settings, tmp_path / "e", progress=stop)


# --- what goes wrong in the middle -----------------------------------------------------------------------------------


LEARNED = ("search", "extract", "data", "policy", "heldout-search", "heldout-extract", "heldout-data", "ppm")


class Stop(Exception):
    pass


def stop(*_: Any) -> None:
    raise Stop


def as_far_as(whole: Path, out: Path, *stages: str) -> Path:
    """A copy of an evolution that has come to the end of some stages of its first round."""
    for name in ("evolution.json", *(f"round-1/{part}" for stage in stages for part in (stage, f"records/{stage}.json"))):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        if (whole / name).is_dir():
            shutil.copytree(whole / name, out / name)
        elif (whole / name).exists():  # the folder of `extract` is `data`
            shutil.copyfile(whole / name, out / name)
    return out


def goes_on(settings: dict[str, Any], out: Path, until: str) -> list[str]:
    """The stages that an evolution does before it is stopped at the end of one."""
    done: list[str] = []

    def note(stage: Stage, record: Any, before: bool) -> None:
        if not before:
            done.append(stage.name)
        if stage.name == until:
            raise Stop

    with pytest.raises(Stop):
        rstar_fast.evolve(settings, out, done=note)
    return done


@pytest.mark.parametrize(
    ("name", "change"),
    [("engine", {"engine": "vllm"}), ("rounds.1.search.candidates", {"search": {"candidates": 3, "rollouts": 4, "max_depth": 12}})],
)
def test_in_the_middle_of_a_search_its_settings_stay(undisturbed: tuple[Path, Path], tmp_path: Path, name: str, change: dict[str, Any]) -> None:
    files, _ = undisturbed
    settings = settings_in(files)
    with pytest.raises(Stop):
        rstar_fast.evolve(settings, tmp_path / "e", progress=lambda stage, event: stop() if isinstance(event, Finished) else None)
    with pytest.raises(InvalidInput, match=rf"was begun with {name}=.*, and that is in what is done or begun: continue it with the same"):
        rstar_fast.evolve(settings | change, tmp_path / "e")


@pytest.mark.parametrize(
    ("extraction", "sentence"),
    [
        ({"trajectories": 0}, "round 1 found no solutions for the policy: let its extraction keep more"),
        ({"mix": {"easy": 0, "medium": 0, "hard": 0}}, "round 1 found no solutions for the policy"),
        ({"min_margin": 2, "min_edit_distance": 10_000}, "round 1 found no pairs for the PPM: .* a lower min_margin or min_edit_distance"),
    ],
)
def test_an_extraction_that_trains_nothing_is_told_before_the_trainings(
    undisturbed: tuple[Path, Path], tmp_path: Path, extraction: dict[str, Any], sentence: str
) -> None:
    files, whole = undisturbed
    out = as_far_as(whole, tmp_path / "e", "search")
    settings = settings_in(files)
    with pytest.raises(RstarError, match=sentence):
        rstar_fast.evolve(settings | {"extraction": extraction}, out)
    assert not (out / "round-1" / "policy").exists()
    again = [{"again": [6]}, *settings["rounds"][1:]]  # the one advice
    assert goes_on(settings | {"rounds": again, "extraction": extraction | {"mix": {"hard": 0.5}}}, out, "search-2") == ["search-2"]
    assert goes_on(settings | {"rounds": again}, out, "extract") == ["extract"]  # the other


def test_a_round_that_solved_nothing_goes_on_with_another_pass(undisturbed: tuple[Path, Path], tmp_path: Path) -> None:
    files, whole = undisturbed
    out = as_far_as(whole, tmp_path / "e", "search")
    path = out / "round-1" / "records" / "search.json"
    searched = json.loads(path.read_text())
    path.write_text(json.dumps(searched | {"solved": 0, "unsolved": [json.loads(line)["id"] for line in (files / "train.jsonl").read_text().splitlines()]}))
    settings = settings_in(files)
    with pytest.raises(RstarError, match="round 1 solved no problem: add a pass with more rollouts to its `again`, and the same command goes on"):
        rstar_fast.evolve(settings, out)
    settings["rounds"][0] = {"again": [6]}
    assert goes_on(settings, out, "extract") == ["search-2", "extract"]


def test_a_policy_that_diverges_goes_on_with_a_lower_rate(undisturbed: tuple[Path, Path], tmp_path: Path) -> None:
    files, whole = undisturbed
    out = as_far_as(whole, tmp_path / "e", "search", "extract", "data")
    settings = settings_in(files)
    settings["policy_training"] |= {"learning_rate": 1e38, "warm_up": 0.5, "epochs": 6}
    with pytest.raises(TrainingDiverged, match="round 1, policy: .* here, give the round's policy_training a lower learning_rate"):
        rstar_fast.evolve(settings, out)
    states = list((out / "round-1" / "policy" / ".training").glob("checkpoint-*/complete"))
    assert states  # without the removal it would go on from them, or refuse
    settings["policy_training"] |= {"learning_rate": 1e-4}
    assert goes_on(settings, out, "policy") == ["policy"]
    assert json.loads((out / "round-1" / "policy" / "training.json").read_text())["learning_rate"] == 1e-4
    assert not list((out / "round-1").glob(".policy*"))


@pytest.mark.parametrize("launcher", [[], [sys.executable]])
def test_a_ppm_that_reads_questions_back_learns_from_the_solutions_too(
    undisturbed: tuple[Path, Path], tmp_path: Path, launcher: list[str]
) -> None:
    files, whole = undisturbed
    out = as_far_as(whole, tmp_path / "e", *LEARNED[:-1])
    settings = settings_in(files)
    settings["ppm_training"] |= {"kind": "channel", "bias": 7.0, "scale": 500.0, "calibration_weight": 0.1}
    settings |= {"ppm_base": settings["base"], "launcher": launcher}
    done = goes_on(settings, out, "ppm" if launcher else "evaluation")
    assert done[0] == "ppm" and set(done) <= {"ppm", "greedy", "samples", "evaluation"}
    ppm = out / "round-1" / "ppm"
    told, log = json.loads((ppm / "training.json").read_text()), json.loads((ppm / "log.jsonl").read_text().splitlines()[0])
    data = {name: pq.read_table(out / "round-1" / "data" / f"{name}.parquet") for name in ("pairs", "sft")}
    assert (told["policy"], told["kind"]) == (settings["base"], "channel")
    assert log["groups"] == len(set(data["pairs"]["group"].to_pylist())) + data["sft"].num_rows
    model = AutoModelForCausalLM.from_pretrained(ppm)
    assert (model.config.ppm_kind, model.config.ppm_bias) == ("channel", 7.0)
    if not launcher:
        scores = {node.q for result in load_run(out / "round-1" / "evaluation") for node in result.tree if node.parent is not None}
        assert len(scores) > 3 and max(scores) < 0  # of a PPM to which this base, with its noise, makes every question unlikely


@pytest.mark.parametrize("name", ["greedy", "samples"])
def test_a_measurement_that_was_killed_goes_on(undisturbed: tuple[Path, Path], tmp_path: Path, name: str) -> None:
    files, whole = undisturbed
    out = as_far_as(whole, tmp_path / "e", *LEARNED, *(["greedy"] if name == "samples" else []))
    settings = settings_in(files)
    seen: list[bool] = []

    def kill(stage: Stage, event: Any) -> None:
        if isinstance(event, Finished):
            seen.append(event.restored)
            if len(seen) == 3:
                raise Stop

    with pytest.raises(Stop):
        rstar_fast.evolve(settings, out, progress=kill)
    restored: list[bool] = []
    with pytest.raises(Stop):
        rstar_fast.evolve(
            settings,
            out,
            progress=lambda stage, event: restored.append(event.restored) if isinstance(event, Finished) else None,
            done=lambda stage, record, before: stop() if stage.name == name else None,
        )
    assert sorted(restored) == [False] * 3 + [True] * 3 and seen == [False] * 3
    record = json.loads((out / "round-1" / "records" / f"{name}.json").read_text())
    expected = json.loads((whole / "round-1" / "records" / f"{name}.json").read_text())
    assert record | {"seconds": 0} == expected | {"seconds": 0}


def test_a_control_that_diverges_is_left_out(undisturbed: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, whole = undisturbed
    out = as_far_as(whole, tmp_path / "e", *LEARNED, "greedy", "samples", "evaluation")
    settings = settings_in(files)

    def diverge(*_: Any, **__: Any) -> None:
        raise TrainingDiverged("the loss became nan in update 1")

    monkeypatch.setattr(rounds, "train_policy", diverge)
    with pytest.raises(TrainingDiverged, match="round 1, control: the loss became nan in update 1; here, give control: false, and the same command"):
        rstar_fast.evolve(settings, out)
    with pytest.raises(Stop):  # the second round begins
        rstar_fast.evolve(settings | {"control": False}, out, progress=stop)
    assert (out / "round-2").exists()


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
    [
        (["false"], "round 1, policy: the launcher ended with status 1; .* Where the training diverged, give the round's policy_training"),
        (["no such command"], "launcher 'no such command' cannot be started"),
    ],
)
def test_a_launcher_that_fails_is_told(undisturbed: tuple[Path, Path], tmp_path: Path, launcher: list[str], sentence: str) -> None:
    files, _ = undisturbed
    (tmp_path / "round-1" / "records").mkdir(parents=True)
    with pytest.raises(RstarError, match=sentence):
        policy_stage(settings_in(files) | {"launcher": launcher}, tmp_path).work()
