"""Evolution: its settings, the state machine on disk, the summary, and nano's own, whose harder levels no worked program reaches."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rstar_fast import steps
from rstar_fast.config import Annotation
from rstar_fast.evolution import EvolutionConfig, measuring, nano, plan, rounds, stages, summarise, summary
from rstar_fast.evolution.config import PAPER_ROUNDS, may_change, read_settings, recorded_settings
from rstar_fast.evolution.page import tables, write_page
from rstar_fast.evolution.stages import Records, Stage, opened
from rstar_fast.evolution.summary import digests_of
from rstar_fast.nano import BOOTSTRAP, BOOTSTRAP_PPM, FLUENT_LEVELS, LEVELS, POLICY, WORKED_LEVELS, generate
from rstar_fast.nano.lessons import read_last, turned, worked
from rstar_fast.ppm import model as ppm_model
from rstar_fast.training import nano as bootstrap
from rstar_fast.types import Candidate, InvalidInput, Problem, RstarError

FILES = {"problems": "train.jsonl", "heldout": "heldout.jsonl", "base": "some/policy"}


def problem_files(folder: Path, train: int = 4, heldout: int = 6) -> dict[str, str]:
    for name, count in (("train", train), ("heldout", heldout)):
        (folder / f"{name}.jsonl").write_text(nano._problems(generate(name, count, 3)), "utf-8")
    return {"problems": str(folder / "train.jsonl"), "heldout": str(folder / "heldout.jsonl"), "base": "some/policy"}


def heldout_id(folder: Path) -> str:
    return json.loads((folder / "heldout.jsonl").read_text("utf-8").splitlines()[0])["id"]


# --- settings --------------------------------------------------------------------------------------------------------


def test_the_rounds_are_those_of_the_paper() -> None:
    config = EvolutionConfig.from_mapping(FILES)
    told = [(round_.search.annotation, round_.search.rollouts, round_.again) for round_ in config.rounds]
    assert told == [
        (Annotation.TERMINAL, 8, ()),
        (Annotation.TERMINAL, 16, ()),
        (Annotation.PPM, 16, ()),
        (Annotation.PPM, 16, (64, 128)),
    ]
    assert EvolutionConfig(**FILES) == config


def test_settings_of_every_round_are_overridden_by_its_own() -> None:
    config = EvolutionConfig.from_mapping(
        {
            **FILES,
            "search": {"candidates": 3, "rollouts": 7},
            "policy_training": {"epochs": 5},
            "rounds": [{"search": {"rollouts": 2}}, {"policy_training": {"epochs": 1}, "search": {"annotation": "ppm"}, "again": [9]}],
        }
    )
    first, second = config.rounds
    assert (first.search.candidates, first.search.rollouts, first.policy_training.epochs) == (3, 2, 5)
    assert (second.search.candidates, second.search.rollouts, second.policy_training.epochs, second.again) == (3, 7, 1, (9,))
    assert first.search.annotation is Annotation.TERMINAL and second.search.annotation is Annotation.PPM


def test_settings_go_to_a_mapping_and_back() -> None:
    given = {"rounds": PAPER_ROUNDS[:2], "launcher": ["accelerate", "launch"], "seed": 3, "heldout_search": {"rollouts": 4}}
    config = EvolutionConfig.from_mapping({**FILES, **given})
    assert EvolutionConfig.from_mapping(json.loads(json.dumps(config.to_mapping()))) == config


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"base": None}, "base is missing: an evolution needs problems, heldout and base"),
        ({"rounds": []}, r"rounds is \(\): give a list with at least one round"),
        ({"rounds": "four"}, "rounds is 'four': give a list"),
        ({"rounds": [3]}, "a round is 3: give a mapping such as"),
        ({"rounds": [{"serch": {}}]}, "unknown round setting 'serch': the settings are again, earlier, extraction"),
        ({"rounds": [{"search": {"annotation": "ppm"}}]}, "round 1 has annotation=\"ppm\", but there is no PPM before it"),
        ({"rounds": [{"search": {"annotation": "inference"}}]}, 'annotation="inference", which makes no training data'),
        ({"rounds": [{"again": 64}]}, "again is 64: give a list of rollouts"),
        ({"rounds": [{"again": [0]}]}, "rollouts in again is 0: give an integer >= 1"),
        ({"search": {"candidates": 0}}, "candidates is 0"),
        ({"search": 3}, "search is 3: give a mapping of its settings"),
        ({"evaluation": {"search": {"annotation": "terminal"}}}, 'an evaluation has annotation="terminal": give "inference"'),
        ({"evaluation": {"samples": 0}}, "samples is 0"),
        ({"engine": "sglang"}, "engine is 'sglang': give 'transformers' or 'vllm'"),
        ({"launcher": "accelerate launch"}, "launcher is 'accelerate launch': give a list of words"),
        ({"control": 1}, "control is 1: give true or false"),
        ({"colour": 1}, "unknown evolution setting 'colour'"),
        ({"seed": -1}, "seed is -1"),
        ({"heldout_search": 4}, "heldout_search is 4: give a mapping of search settings"),
        ({"heldout_search": {"annotation": "inference"}}, "settings other than annotation and seed, which are the round's"),
        ({"heldout_search": {"rolouts": 4}}, "unknown search setting 'rolouts'"),
        ({"heldout_search": {"rollouts": 0}}, "rollouts is 0"),
    ],
)
def test_bad_settings_are_told_in_a_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        EvolutionConfig.from_mapping({**FILES, **settings})


def test_parts_draw_from_seeds_of_their_own() -> None:
    config = EvolutionConfig.from_mapping({**FILES, "seed": 5})
    from rstar_fast.evolution.config import seed_of

    seeds = [seed_of(config, k, part) for k in range(1, 6) for part in range(12)]
    others = [seed_of(dataclasses.replace(config, seed=6), k, part) for k in range(1, 6) for part in range(12)]
    assert len({*seeds, *others}) == 120


def test_a_problem_without_a_key_or_in_both_files_is_refused(tmp_path: Path) -> None:
    files = problem_files(tmp_path)
    path = tmp_path / "train.jsonl"
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join([*lines, json.dumps({"question": "What is 2 + 2?", "id": "no key"})]), "utf-8")
    with pytest.raises(InvalidInput, match=r"1 of 5 problems of .*train.jsonl have no answer, the first 'no key': add them"):
        rounds.problems_of(EvolutionConfig.from_mapping(files))
    path.write_text("\n".join([*lines, (tmp_path / "heldout.jsonl").read_text("utf-8").splitlines()[0]]), "utf-8")
    with pytest.raises(InvalidInput, match="1 questions of .*heldout.jsonl are in .*train.jsonl as well"):
        rounds.problems_of(EvolutionConfig.from_mapping(files))
    path.write_text(json.dumps({"question": "What is 2 + 2?", "id": heldout_id(tmp_path), "answer": "4"}), "utf-8")
    with pytest.raises(InvalidInput, match="1 ids of .* are in .* as well, .*: hold out others, or leave ids out of both files"):
        rounds.problems_of(EvolutionConfig.from_mapping(files))


def test_a_plan_counts_what_the_rounds_would_take(tmp_path: Path) -> None:
    files = problem_files(tmp_path, train=40) | {"base": str(POLICY)}
    small = plan({**files, "rounds": [{"search": {"rollouts": 2, "candidates": 4}}], "control": False})
    assert [stage.name for stage in small.stages] == [
        *("search", "extract", "policy", "heldout-search", "heldout-extract", "ppm", "greedy", "samples", "evaluation")
    ]
    twice = plan({**files, "rounds": [{"search": {"rollouts": 2, "candidates": 8}}], "control": False})
    assert twice.stages[0].tokens == 2 * small.stages[0].tokens > 0
    assert small.tokens == sum(stage.tokens for stage in small.stages) and small.steps > 0 and small.disk > 0
    names = [(stage.round, stage.name) for stage in plan(files).stages]
    assert (1, "control") not in names and (2, "control") in names and (4, "search-3") in names
    wider = plan({**files, "rounds": [{"search": {"rollouts": 2, "candidates": 4}}], "control": False, "heldout_search": {"candidates": 8}})
    assert [stage.tokens for stage in wider.stages] == [
        stage.tokens * (2 if stage.name == "heldout-search" else 1) for stage in small.stages
    ]


def test_a_plan_counts_what_trainings_take(tmp_path: Path) -> None:
    files = problem_files(tmp_path, train=40) | {"base": str(POLICY)}
    (tmp_path / "more.jsonl").write_text(nano._problems(generate("train", 10, 4)), "utf-8")
    later = {"problems": str(tmp_path / "more.jsonl"), "earlier": 1, "ppm_training": {"lora": True, "lora_rank": 2}}
    found = {(s.round, s.name): s for s in plan({**files, "rounds": [{"policy_training": {"epochs": 3}}, later]}).stages}
    checkpoint = (POLICY / "model.safetensors").stat().st_size
    for key in ((1, "policy"), (1, "ppm"), (2, "control")):
        assert found[key].disk == pytest.approx(checkpoint, rel=0.02)
        assert found[key].states > found[key].disk
    assert found[1, "policy"].trained == 40 * 3 * 2 * (100 + 6 * 60) and found[2, "control"].trained == found[2, "policy"].trained
    assert found[2, "policy"].trained == 50 * 2 * 2 * (100 + 6 * 60)  # two epochs, and the first round's problems too
    assert 0 < found[2, "ppm"].states < found[1, "ppm"].states / 4 and found[1, "ppm"].trained > 0
    assert all(not s.trained and not s.states for s in found.values() if s.name not in ("policy", "ppm", "control"))
    one = {"ppm_training": {"kind": "channel", "epochs": 1}}
    (read,) = (s for s in plan({**files, "ppm_base": str(POLICY), "rounds": [one]}).stages if s.name == "ppm")
    groups = sum(4 * 100 + (depth + 4) * 60 for depth in range(6)) + 4 * (100 + 6 * 60)  # half of the problems have them
    assert read.trained == 40 * (groups // 2 + 2 * (2 * 100 + 6 * 60))  # two solutions of each, whole and in part
    with pytest.raises(InvalidInput, match="nowhere"):
        plan({**files, "ppm_base": str(tmp_path / "nowhere"), "rounds": [one]})
    whole = plan(files)
    assert whole.states == max(s.states for s in whole.stages) and whole.trained == sum(s.trained for s in whole.stages)
    with pytest.raises(InvalidInput, match="there is no policy checkpoint at .*nowhere"):
        plan({**files, "base": str(tmp_path / "nowhere")})


def test_recorded_settings_are_read_back() -> None:
    config = EvolutionConfig.from_mapping({**FILES, "rounds": [*PAPER_ROUNDS[:1], {"again": [64, 128]}]})
    assert read_settings(json.loads(json.dumps(recorded_settings(config, {"train.jsonl": "x"})))) == config
    assert "heldout_search" not in recorded_settings(config, {})  # earlier versions had none
    wider = dataclasses.replace(config, heldout_search={"rollouts": 32})
    assert read_settings(json.loads(json.dumps(recorded_settings(wider, {})))) == wider


@pytest.mark.parametrize(
    ("name", "done", "expected"),
    [
        ("rounds.1.search.rollouts", set(), True),
        ("rounds.1.search.rollouts", {(1, "search")}, False),
        ("rounds.2.search.rollouts", {(1, "search")}, True),
        ("rounds.1.policy_training.learning_rate", {(1, "search"), (1, "extract")}, True),
        ("rounds.1.policy_training.learning_rate", {(1, "policy")}, False),
        ("rounds.1.policy_training.device_batch", {(1, "policy")}, True),
        ("rounds.1.ppm_training.epochs", {(1, "policy")}, True),
        ("rounds.1.again.2", {(1, "search"), (1, "search-2")}, True),
        ("rounds.1.again.2", {(1, "search-2"), (1, "extract")}, False),
        ("rounds.1.again.1", {(1, "search-2")}, False),
        ("evaluation.samples", {(1, "ppm")}, True),
        ("evaluation.samples", {(1, "samples")}, False),
        ("launcher", {(1, "search"), (1, "policy")}, True),
        ("engine", {(1, "search")}, True),
        ("base", {(1, "search")}, False),
        ("base_data", {(1, "policy")}, True),
        ("seed", {(1, "search")}, False),
        ("problems", {(1, "search")}, False),
        ("heldout", {(1, "policy")}, True),
        ("heldout_search.rollouts", {(1, "policy")}, True),
        ("heldout_search.rollouts", {(1, "heldout-search")}, False),
        ("files.train.jsonl", {(1, "search")}, False),
        ("files.more.jsonl", {(1, "search"), (1, "control")}, True),
        ("files.more.jsonl", {(1, "search"), (2, "search")}, False),
        ("files.heldout.jsonl", {(1, "search"), (1, "policy")}, True),
        ("files.heldout.jsonl", {(1, "heldout-search")}, False),
        ("files.base.jsonl", {(1, "evaluation")}, True),
        ("files.base.jsonl", {(1, "control")}, False),
    ],
)
def test_what_is_not_used_yet_may_be_changed(tmp_path: Path, name: str, done: set[tuple[int, str]], expected: bool) -> None:
    config = EvolutionConfig.from_mapping({**FILES, "base_data": "base.jsonl", "rounds": [{}, {"problems": "more.jsonl"}]})
    records = done_in(tmp_path, done)
    assert may_change(name, config, records) is expected
    if name == "base":
        assert may_change(name, dataclasses.replace(config, bootstrap="x"), records)
        assert not may_change(name, dataclasses.replace(config, bootstrap="x"), done_in(tmp_path, {(1, "policy")}))


def done_in(folder: Path, done: set[tuple[int, str]]) -> Records:
    records = Records(folder)
    for k, name in done:
        records.do(stage(name, dict, k))
    return records


def test_a_search_that_has_begun_keeps_its_settings_until_it_is_done(tmp_path: Path) -> None:
    config = EvolutionConfig.from_mapping({**FILES, "rounds": [{}, {"again": [9]}]})
    records = done_in(tmp_path, {(1, "search")})
    run = tmp_path / "round-2" / "search"
    run.mkdir(parents=True)
    assert may_change("rounds.2.search.candidates", config, records) and may_change("engine", config, records)
    (run / "manifest.json").touch()
    assert not any(may_change(name, config, records) for name in ("rounds.2.search.candidates", "engine"))
    assert may_change("rounds.2.again.1", config, records)
    assert may_change("engine", config, done_in(tmp_path, {(2, "search")}))


def begun(folder: Path, config: EvolutionConfig, asked: EvolutionConfig) -> None:
    """Goes on in a folder of one evolution with the settings of another."""
    for settings in (config, asked):
        with opened(folder, recorded_settings(settings, digests_of(settings)), lambda name, records, of=settings: may_change(name, of, records)):
            pass


def test_files_that_are_not_read_yet_may_come_later(tmp_path: Path) -> None:
    config = EvolutionConfig.from_mapping({**problem_files(tmp_path), "rounds": PAPER_ROUNDS[:2]})
    out = tmp_path / "e"
    begun(out, config, config)
    done_in(out, {(1, "search"), (1, "policy")})
    for name in ("base, of 1 = all.jsonl", "more problems.jsonl"):
        (tmp_path / name).write_text((tmp_path / "train.jsonl").read_text("utf-8").splitlines()[0], "utf-8")
    more = dataclasses.replace(config.rounds[1], problems=str(tmp_path / "more problems.jsonl"))
    later = dataclasses.replace(config, base_data=str(tmp_path / "base, of 1 = all.jsonl"), rounds=(config.rounds[0], more))
    begun(out, config, later)
    (tmp_path / "more problems.jsonl").write_text("other", "utf-8")
    begun(out, later, later)  # its digest is another
    done_in(out, {(2, "search")})
    (tmp_path / "base, of 1 = all.jsonl").write_text("other", "utf-8")
    begun(out, later, later)
    done_in(out, {(1, "control")})
    (tmp_path / "base, of 1 = all.jsonl").write_text("others", "utf-8")
    with pytest.raises(InvalidInput, match=r"was begun with files..*base, of 1 = all.jsonl='\w+', not files..*, and that is in"):
        begun(out, later, later)
    (tmp_path / "base, of 1 = all.jsonl").write_text("other", "utf-8")
    with pytest.raises(InvalidInput, match=r"without rounds.2.problems, and that is in what is done or begun"):
        begun(out, later, config)
    (tmp_path / "more problems.jsonl").write_text("others", "utf-8")
    with pytest.raises(InvalidInput, match=r"was begun with files..*more problems.jsonl='\w+', not files..*, and that is in what is done or begun"):
        begun(out, later, later)


# --- the state machine -----------------------------------------------------------------------------------------------


def stage(name: str, work: Callable[[], Any], round_: int = 1) -> Stage:
    return Stage(round_, name, f"does {name}", 0, work)


def test_what_is_done_is_recorded_as_a_whole_and_not_before(tmp_path: Path) -> None:
    with opened(tmp_path / "e", {"a": 1}) as records:
        assert records.get(1, "search") is None
        seen: list[bool] = []
        record = records.do(stage("search", lambda: (seen.append(records.get(1, "search") is None), {"solved": 3})[1]))
        assert record["solved"] == 3 and seen == [True]
        recorded = records.get(1, "search")
        assert recorded is not None and recorded == record and recorded["seconds"] >= 0


def test_seconds_before_a_kill_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path / "e", {}) as records:
        clock = records.folder(1) / "records" / "search.time"
        clock.parent.mkdir(parents=True)
        clock.write_text("100.0")
        records.do(stage("search", dict))
        recorded = records.get(1, "search")
        assert recorded is not None and 100 <= recorded["seconds"] < 110


def test_the_clock_is_written_down_while_a_stage_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "_CLOCK_S", 0.01)
    with opened(tmp_path / "e", {}) as records:
        path = records.folder(1) / "records" / "search.time"

        def work() -> dict[str, Any]:
            while not path.exists() or not float(path.read_text() or 0):
                pass
            return {}

        records.do(stage("search", work))


def test_a_stage_that_fails_is_not_done(tmp_path: Path) -> None:
    def full() -> Any:
        raise OSError(28, "No space left on device", "round-1/x")

    with opened(tmp_path / "e", {}) as records:
        with pytest.raises(RstarError, match=r"round 1, search: No space left on device \(round-1/x\): mend that, and the same command goes on"):
            records.do(stage("search", full))
        assert records.get(1, "search") is None


def test_an_evolution_goes_on_with_its_own_settings_only(tmp_path: Path) -> None:
    folder = tmp_path / "e"
    with opened(folder, {"seed": 1, "search": {"rollouts": 8}}):
        pass
    with opened(folder, {"seed": 1, "search": {"rollouts": 8}}):
        pass
    with pytest.raises(InvalidInput, match="was begun with search.rollouts=8, not search.rollouts=9, and that is in what is done or begun: continue it"), opened(
        folder, {"seed": 1, "search": {"rollouts": 9}}
    ):
        pass


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(InvalidInput, match="holds 'letters.txt' but no evolution"), opened(tmp_path, {}):
        pass
    with pytest.raises(InvalidInput, match="is a file: give a folder"), opened(tmp_path / "letters.txt", {}):
        pass
    assert (tmp_path / "letters.txt").read_text() == "dear" and len(list(tmp_path.iterdir())) == 1


def test_two_processes_do_not_work_on_one_evolution(tmp_path: Path) -> None:
    with opened(tmp_path / "e", {}), pytest.raises(InvalidInput, match="is being written by process"), opened(tmp_path / "e", {}):
        pass


def test_damaged_files_are_told(tmp_path: Path) -> None:
    with opened(tmp_path / "e", {}) as records:
        records.do(stage("search", dict))
        (records.folder(1) / "records" / "search.json").write_text("{")
        with pytest.raises(InvalidInput, match=r"search.json is damaged .*: delete it"):
            records.get(1, "search")
    (tmp_path / "e" / "evolution.json").write_text("[]")
    with pytest.raises(InvalidInput, match=r"evolution.json is damaged .*: restore it"), opened(tmp_path / "e", {}):
        pass


def search_in(folder: Path, broken: Callable[[], bool]) -> list[bool]:
    """Searches four problems, of which the policy breaks one now and then; whether each has broken in the end."""

    def policy(partials: Any, n: int) -> list[list[Candidate]]:
        if any(partial.problem.question == "q0" for partial in partials) and broken():
            raise OSError("no memory")
        return [[Candidate("\\boxed{5}")]] * len(partials)

    problems = [Problem(f"q{at}") for at in range(4)]
    answers = {problem.id: "5" for problem in problems}
    settings = {"annotation": "terminal", "rollouts": 1, "open_problems": 1}
    results, outcomes = measuring.searched(problems, run_dir=folder, progress=None, policy=policy, answers=answers, **settings)
    assert [outcomes[problem.id].solved for problem in problems] == [result.failure is None for result in results]
    return [result.failure is not None for result in results]


def test_a_search_that_broke_is_tried_again_at_once_and_by_the_same_command(tmp_path: Path) -> None:
    turns = iter([True, False])
    assert search_in(tmp_path / "once", lambda: next(turns)) == [False] * 4
    with pytest.raises(RstarError, match="1 of 4 problems could not be searched, the first: policy: .*no memory.*the same command goes on"):
        search_in(tmp_path / "often", lambda: True)
    assert search_in(tmp_path / "often", lambda: False) == [False] * 4


# --- the summary -----------------------------------------------------------------------------------------------------


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """An evolution of two rounds with hand-made records: 20 held-out problems, four of each level."""
    files = problem_files(tmp_path, train=10, heldout=20)
    config = EvolutionConfig.from_mapping({**files, "rounds": PAPER_ROUNDS[:2]})
    folder = tmp_path / "e"
    with opened(folder, recorded_settings(config, digests_of(config))) as records:
        for k in (1, 2):
            right = [(k if at % 5 == 3 else 16 if at % 5 < 3 else 0) * (at < 15 or at % 5 < 3) for at in range(20)]
            correct = [at % 5 < 2 + k for at in range(20)]
            made: dict[str, dict[str, Any]] = {
                "search": {"solved": 4 + k, "solved_by_level": {"1": 2, "2": 2, "3": k}, "tokens": 1000},
                "search-2": {"solved": 1, "solved_by_level": {"4": 1}, "tokens": 500},
                "extract": {"problems": {"easy": 3, "medium": 3, "hard": 4}},
                "policy": {"updates": 10},
                "greedy": {"correct": correct, "tokens": 10},
                "evaluation": {"correct": [*correct[:-1], None], "tokens": 20},
                "samples": {"samples": 16, "right": right, "majority": correct, "ppm": correct, "logprob": correct, "tokens": 5},
                "control-greedy": {"correct": [at % 5 < 3 for at in range(20)], "tokens": 1},
                "ppm": {"evaluation": {"pairs": {"all": {"accuracy": 0.9, "low": 0.8, "high": 0.95, "pairs": 40}}, "calibration": {"error": 0.1}}},
            }
            for name, record in made.items():
                records.do(stage(name, lambda record=record: record, k))
    return folder


def test_the_summary_counts_by_level_and_at_the_frontier(recorded: Path) -> None:
    found = summarise(recorded)
    assert found.frontier == ()  # level 4: 3 of 4 pass, level 5: none
    first, second = found.rounds
    assert (first.solved["all"].count, first.solved["all"].total, first.solved["4"].count) == (6, 10, 1)
    assert first.difficulty == {"easy": 3, "medium": 3, "hard": 4}
    assert (first.measures["greedy"]["all"].count, second.measures["greedy"]["all"].count) == (12, 16)
    assert first.measures["search"]["all"].total == 19
    assert (first.measures["pass@16"]["4"].count, first.measures["pass@16"]["5"].count) == (3, 0)
    assert first.tokens == 1536
    assert second.over_control["greedy"]["all"].value == pytest.approx(0.2) and "search" not in second.over_control
    assert found.over_first["greedy"]["all"].value == pytest.approx(0.2)


def test_other_files_than_it_was_begun_with_are_refused(recorded: Path, tmp_path: Path) -> None:
    path = tmp_path / "heldout.jsonl"
    path.write_text("\n".join(path.read_text("utf-8").splitlines()[:-1]), "utf-8")
    with pytest.raises(InvalidInput, match="heldout.jsonl is not what .* was begun with: restore it"):
        summarise(recorded)
    path.unlink()
    with pytest.raises(InvalidInput, match="heldout.jsonl cannot be read: No such file or directory; restore it"):
        summarise(recorded)


def test_a_gain_on_few_problems_claims_no_certainty() -> None:
    gains = summary._gains([False] * 6, [True] * 3 + [False] * 3, [False] * 6)
    assert str(gains["all"]) == "+50.0 (3 of 6 differ)"
    assert "to" in str(summary._gains([False] * 20, [True] * 10 + [False] * 10, [False] * 20)["all"])


def test_the_frontier_are_levels_of_middling_pass_rate(recorded: Path) -> None:
    levels = ["1"] * 10 + ["2"] * 10 + ["3"] * 10 + ["4"] * 10
    right = [1] * 10 + [1] * 7 + [0] * 3 + [1] * 3 + [0] * 7 + [1] * 2 + [0] * 8
    assert summary._frontier({"right": right}, levels) == ("2", "3")
    assert summary._frontier(None, levels) == ()


def test_the_page_shows_the_numbers_and_stands_alone(recorded: Path) -> None:
    pytest.importorskip("matplotlib")
    page = write_page(summarise(recorded)).read_text("utf-8")
    assert "60.0% (38.7% to 78.1%)" in page and "data:image/png;base64," in page and "http" not in page
    assert (recorded / "summary.png").read_bytes().startswith(b"\x89PNG")
    data = json.loads((recorded / "summary.json").read_text("utf-8"))
    assert data["rounds"][1]["measures"]["greedy"]["all"] == {"share": 0.8, "low": 0.584, "high": 0.9193, "of": 20}
    assert all(len(row) == len(rows[0]) for _, rows in tables(summarise(recorded)) for row in rows)


def test_the_plot_shows_the_ppm_and_what_was_spent(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = []
    figure = pytest.importorskip("matplotlib.figure").Figure
    monkeypatch.setattr("matplotlib.figure.Figure", lambda **settings: figures.append(figure(**settings)) or figures[-1])
    found = summarise(recorded)
    write_page(found)
    write_page(dataclasses.replace(found, frontier=("3",)))
    for drawn, extra in zip(figures, (0, 1), strict=True):
        axes = {axis.get_title(): axis for axis in drawn.axes}
        assert len(axes) == 4 + extra + 1  # and the hours' axis, which has no title
        (errorbar,) = axes["PPM on pairs of held-out problems"].containers
        assert errorbar[0].get_ydata().tolist() == [0.9, 0.9] and errorbar.get_label() == "all pairs"
        assert axes["spent"].lines[0].get_ydata().tolist() == [r.tokens for r in found.rounds]
        assert axes[""].lines[0].get_ydata().tolist() == [r.hours for r in found.rounds]


def test_a_page_without_matplotlib_says_so(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    page = write_page(summarise(recorded)).read_text("utf-8")
    assert page.count("There is no plot: matplotlib is not installed") == 1 and not (recorded / "summary.png").exists()


def test_an_evolution_that_has_just_begun_has_a_summary(tmp_path: Path) -> None:
    config = EvolutionConfig.from_mapping(problem_files(tmp_path))
    with opened(tmp_path / "e", recorded_settings(config, digests_of(config))):
        pass
    found = summarise(tmp_path / "e")
    assert found.rounds == () and found.over_first == {}
    assert "Evolution" in write_page(found).read_text("utf-8")
    with pytest.raises(InvalidInput, match="holds no evolution"):
        summarise(tmp_path)


# --- nano: what it may learn from ------------------------------------------------------------------------------------


def hard_programs() -> set[str]:
    """Every line of a worked program of the harder levels that the easy levels lack, among many problems."""
    lines = {level: {line for r in generate("train", 300, 9, levels=[level]) for line in r.solution.splitlines()} for level in LEVELS}
    easy = set().union(*(lines[level] for level in WORKED_LEVELS))
    return set().union(*(lines[level] for level in LEVELS if level not in WORKED_LEVELS)) - easy


def test_no_worked_program_of_a_harder_level_is_in_the_files_of_an_evolution(tmp_path: Path) -> None:
    config = nano.nano_evolution(tmp_path, problems=60, heldout=20)
    assert (config.base, config.ppm_base) == (str(BOOTSTRAP), str(BOOTSTRAP_PPM))
    for path in (*config.problem_files, config.heldout):
        rows = [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]
        assert {row["level"] for row in rows} == set(LEVELS)
        assert all(set(row) == {"question", "id", "answer", "level"} for row in rows)
        assert not any(marker in json.dumps(row) for row in rows for marker in steps.MARKERS)
    assert config.base_data is not None
    base = {json.loads(line)["completion"] for line in Path(config.base_data).read_text("utf-8").splitlines()}
    assert base == {r.solution for r in read_last()} and {r.level for r in read_last()} == set(WORKED_LEVELS)
    asked = {json.loads(line)["question"] for path in config.problem_files for line in Path(path).read_text("utf-8").splitlines()}
    assert len(asked) == 4 * 60 and not asked & {r.problem.question for r in read_last()}  # each round has others


def test_files_of_before_rounds_had_numbers_of_their_own_go_on(tmp_path: Path) -> None:
    nano.nano_evolution(tmp_path, problems=5, heldout=5)
    made = json.loads((tmp_path / "problems" / "made.json").read_text())
    (tmp_path / "problems" / "made.json").write_text(json.dumps({**made, "problems": 5, "rounds": 4}))
    (tmp_path / "evolution.json").touch()
    nano.nano_evolution(tmp_path, problems=5, heldout=5)
    with pytest.raises(InvalidInput, match="was begun with"):
        nano.nano_evolution(tmp_path, problems=6, heldout=5)


def test_each_round_may_have_its_own_number_of_problems(tmp_path: Path) -> None:
    config = nano.nano_evolution(tmp_path, problems=[6, 12, 24, 48], heldout=5)
    questions = [
        {json.loads(line)["question"] for line in Path(path).read_text("utf-8").splitlines()} for path in config.problem_files
    ]
    assert list(map(len, questions)) == [6, 12, 24, 48] and len(set().union(*questions)) == 90


def test_problem_files_are_made_anew_until_an_evolution_has_begun(tmp_path: Path) -> None:
    def count() -> int:
        return len((tmp_path / "problems" / "train-1.jsonl").read_text("utf-8").splitlines())

    nano.nano_evolution(tmp_path, problems=5, heldout=5)
    nano.nano_evolution(tmp_path, problems=7, heldout=5)
    assert count() == 7
    (tmp_path / "evolution.json").touch()
    nano.nano_evolution(tmp_path, problems=7, heldout=5)
    with pytest.raises(InvalidInput, match=r"was begun with .*'problems': \[7, 7, 7, 7\].*: continue it"):
        nano.nano_evolution(tmp_path, problems=8, heldout=5)
    for bad, name in ((0, "0"), ((5, 5, 0, 5), "0"), (1.5, "1.5"), (None, "None"), ("600", "'600'")):
        with pytest.raises(InvalidInput, match=f"problems is {name}: give an integer >= 1"):
            nano.nano_evolution(tmp_path, problems=bad)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="for 2 rounds: give one number, or 4"):
        nano.nano_evolution(tmp_path, problems=[5, 5])
    with pytest.raises(InvalidInput, match="cannot be used for an evolution"):
        nano.nano_evolution(tmp_path / "evolution.json")


def test_a_worked_program_of_a_harder_level_is_refused() -> None:
    with pytest.raises(ValueError, match="a worked program of level 5"):
        worked(generate("train", 2, 0, levels=(4, 5)))
    with pytest.raises(ValueError, match="a worked program of level 4"):
        turned(generate("train", 2, 0, levels=(3, 4)), 0)


def test_the_bootstrap_ppm_reads_worked_programs_of_easy_levels_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What it is trained on is what the file beside it holds: whole programs and their first steps, each with its question behind."""
    assert set(bootstrap._READ_BACK) == set(FLUENT_LEVELS)
    monkeypatch.setattr(bootstrap, "_READ_BACK", {level: (12, seed) for level, (_, seed) in bootstrap._READ_BACK.items()})
    out = tmp_path / "models" / "ppm"
    bootstrap.main(["bootstrap-ppm", "--policy", str(BOOTSTRAP), "--out", str(out)])
    rows = [json.loads(line) for line in (tmp_path / "models" / "ppm.jsonl").read_text("utf-8").splitlines()]
    known = {r.problem.id: r for level, (n, seed) in bootstrap._READ_BACK.items() for r in generate("train", n, seed, levels=(level,))}
    assert sorted(row["problem"] for row in rows) == sorted(known) and [row["problem"] for row in rows] != list(known)
    whole = 0
    for row in rows:
        record = known[row["problem"]]
        solution = row["prompt"].removesuffix("\n<|user|>:\n")
        assert row["completion"] == record.problem.question
        assert solution == record.solution or solution in steps.begun(record.solution)
        whole += solution == record.solution
    assert 9 < whole < 27
    trained = json.loads((tmp_path / "models" / "ppm.training" / "training.json").read_text("utf-8"))
    assert (trained["policy"], trained["epochs"]) == (str(BOOTSTRAP), 1)
    model = ppm_model.load_channel(str(out))
    shipped = ppm_model.load_channel(str(BOOTSTRAP_PPM))
    assert (model.config.ppm_scale, model.config.ppm_bias) == (shipped.config.ppm_scale, shipped.config.ppm_bias)


def test_the_bootstrap_reads_no_worked_program_of_a_harder_level(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All that reaches the tokenizer's training and the policy's is caught, with a canary in each harder program."""
    canary = "zyxwv"
    read: list[str] = []

    def marked(*arguments: Any, **settings: Any) -> list[Any]:
        records = generate(*arguments, **settings)
        return [r if r.level in FLUENT_LEVELS else dataclasses.replace(r, solution=r.solution.replace("print", canary)) for r in records]

    def lesson_of(record: Any) -> str:
        read.append(real(record))
        return read[-1]

    real = bootstrap.lesson_of
    monkeypatch.setattr(bootstrap, "generate", marked)
    monkeypatch.setattr(bootstrap, "lesson_of", lesson_of)
    monkeypatch.setattr(bootstrap, "_CHUNK_PROBLEMS", 40)
    settings = bootstrap.PolicySettings(tokens=3_000, batch_tokens=1_000)
    trainer = bootstrap.PolicyTrainer(tmp_path, settings, resume=False)
    before = len(read)
    trainer.run()
    assert before > 1_000 and len(read) > before
    assert not any(canary in text for text in read)
    assert sum(steps.CODE not in text for text in read) > 100  # questions of harder levels are read
    vocabulary = trainer.tokenizer.get_vocab()
    assert "zyx" not in "".join(vocabulary) and canary not in vocabulary
    assert any(canary in r.solution for r in marked("train", 10, 0))


def test_the_bootstrap_reads_last_what_the_control_reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    few = sorted(read_last(), key=lambda record: len(record.solution))[:6]
    monkeypatch.setattr(bootstrap, "read_last", lambda: few)
    bootstrap.main(["bootstrap", "--policy", str(BOOTSTRAP), "--out", str(tmp_path / "b")])
    assert (tmp_path / "b.jsonl").read_text("utf-8") == worked(few)
    first, *updates = [json.loads(line) for line in (tmp_path / "b" / "log.jsonl").read_text("utf-8").splitlines()]
    assert first["solutions"] == 6 and updates and (tmp_path / "b" / "model.safetensors").exists()


def test_harder_levels_have_programs_of_their_own() -> None:
    """Else there would be nothing to learn, and the tests above could not fail."""
    assert len(hard_programs()) > 500
