"""Searches with a run folder: streamed, read lazily, continued after any end, never with other settings."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import rstar_fast
from rstar_fast import Candidate, Finished, InvalidInput, Partial, Problem, SearchResult
from rstar_fast.search import api
from rstar_fast.storage import Run, RunResults, load_run
from rstar_fast.types import FailureKind


class Policy:
    """Answers with the length of the question; raises for questions that are in `bad`. Counts what it is asked."""

    def __init__(self, *bad: str) -> None:
        self.bad = bad
        self.asked: Counter[str] = Counter()

    async def propose(self, partials: Sequence[Partial], n: int) -> list[list[Candidate]]:
        for partial in partials:
            if partial.problem.question in self.bad:
                raise ValueError(f"{partial.problem.question} is bad")
            self.asked[partial.problem.question] += 1
        return [[Candidate(f"\\boxed{{{len(partial.problem.question)}}}")] for partial in partials]


def zeros(partials: Sequence[Partial]) -> list[float]:
    return [0.0] * len(partials)


QUESTIONS = ["q" * length for length in range(1, 9)]


def search(problems: Any, folder: Path, policy: Any = None, **settings: Any) -> Any:
    return rstar_fast.search(
        problems, policy=policy or Policy(), ppm=zeros, run_dir=folder, **{"rollouts": 2, "open_problems": 2, **settings}
    )


def plain(result: SearchResult) -> tuple[Any, ...]:
    """All of a result that a second search would find again."""
    assert result.tree is not None
    columns = {name: column.tobytes() for name, column in result.tree.columns().items()}
    return result.problem, result.answer, result.score, result.trajectories, dict(result.votes), result.failure, columns


def test_a_run_holds_what_a_search_returns(tmp_path: Path) -> None:
    expected = rstar_fast.search(QUESTIONS, policy=Policy(), ppm=zeros, rollouts=2)
    results = search(QUESTIONS, tmp_path / "run folder")
    assert [plain(result) for result in results] == [plain(result) for result in expected]
    assert {plain(r)[0] for r in load_run(tmp_path / "run folder")} == {result.problem for result in expected}
    settings = json.loads((tmp_path / "run folder" / "manifest.json").read_text())["settings"]
    usual = rstar_fast.SearchConfig().recorded()
    del usual["sandbox"]  # only what is not as usual, and may change a result
    assert settings["search"] == {**usual, "rollouts": 2, "open_problems": 2}
    assert (settings["policy"], settings["ppm"]) == ("Policy", "zeros")


def test_results_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    results = search(QUESTIONS, tmp_path)
    assert isinstance(results, RunResults) and len(results) == 8
    assert results[3] is not results[3]  # read twice: nothing is kept
    assert [result.answer for result in results[2:4]] == ["3", "4"]
    one = search("qq", tmp_path)
    assert isinstance(one, SearchResult) and one.answer == "2"


def test_results_are_on_disk_when_they_are_told_of(tmp_path: Path) -> None:
    told: list[str] = []

    def progress(event: Any) -> None:
        if isinstance(event, Finished):
            told.append(event.result.problem.id)
            assert [result.problem.id for result in load_run(tmp_path)] == told

    search(QUESTIONS, tmp_path, progress=progress)
    assert len(told) == 8


def test_what_is_finished_is_not_searched_again(tmp_path: Path) -> None:
    first, second, events = Policy(), Policy(), []
    search(QUESTIONS[:5], tmp_path, first)
    results = search(["new", *QUESTIONS, QUESTIONS[0]], tmp_path, second, progress=events.append)
    assert set(first.asked) == set(QUESTIONS[:5]) and set(second.asked) == {"new", *QUESTIONS[5:]}
    assert [result.answer for result in results] == ["3", *map(str, range(1, 9)), "1"]
    finished = [event for event in events if isinstance(event, Finished)]
    assert [event.result.problem.question for event in finished if event.restored] == QUESTIONS[:5]
    assert {event.result.problem.question for event in finished if not event.restored} == {"new", *QUESTIONS[5:]}
    assert len(finished) == 9  # the one asked for twice is told once


def test_a_finished_run_needs_no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = search(QUESTIONS, tmp_path)
    for name in ("policy_model", "scorer_model", "Sandbox"):
        monkeypatch.delattr(api, name)
    assert [plain(result) for result in search(QUESTIONS, tmp_path)] == [plain(result) for result in first]


def test_no_problems_make_an_empty_run(tmp_path: Path) -> None:
    assert len(search([], tmp_path / "run")) == 0
    assert [result.answer for result in search(QUESTIONS, tmp_path / "run")] == list("12345678")


# --- refusals ---


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rollouts": 3}, "search.rollouts=2, not search.rollouts=3"),
        ({"c": 1.0}, "search.c=2.0, not search.c=1.0"),
        ({"annotation": "terminal", "answers": {Problem(question).id: "1" for question in QUESTIONS}}, "search.annotation="),
        ({"policy": lambda partials, n: []}, "policy="),
        ({"ppm": lambda partials: []}, "ppm="),
    ],
)
def test_a_run_is_continued_with_its_own_settings_only(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    search(QUESTIONS[:3], tmp_path)
    settings = {"policy": Policy(), "ppm": zeros, "rollouts": 2, "open_problems": 2, **changed}
    with pytest.raises(InvalidInput, match="continue it with the same settings, or give another folder") as error:
        rstar_fast.search(QUESTIONS, run_dir=tmp_path, **settings)
    assert said in str(error.value)
    assert len(load_run(tmp_path)) == 3


def test_another_question_under_the_same_id_is_refused_before_anything_is_searched(tmp_path: Path) -> None:
    search([Problem("q", "1")], tmp_path)
    policy = Policy()
    with pytest.raises(InvalidInput, match="holds another question under the id '1'"):
        search([Problem("new", "2"), Problem("another", "1")], tmp_path, policy)
    assert not policy.asked and len(load_run(tmp_path)) == 1


def test_a_mistyped_checkpoint_does_not_become_the_run_s(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no policy checkpoint"):
        search(QUESTIONS, tmp_path / "run", "./mistyped")
    with pytest.raises(InvalidInput, match="there is no PPM checkpoint"):
        rstar_fast.search(QUESTIONS, policy=Policy(), ppm="./mistyped", run_dir=tmp_path / "run")
    assert len(search(QUESTIONS, tmp_path / "run")) == 8


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InvalidInput, match="holds 'notes.txt' but no run: give a new or an empty folder"):
        search(QUESTIONS, tmp_path)
    with pytest.raises(InvalidInput, match="is a file: give a folder"):
        search(QUESTIONS, tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


# --- failures ---


def test_failed_problems_are_recorded_and_tried_again_when_asked(tmp_path: Path) -> None:
    results = search(QUESTIONS, tmp_path, Policy("qq", "qqqq"))
    assert [index for index, result in enumerate(results) if result.failure is not None] == [1, 3]
    assert str(results[1].failure) == "policy: the policy raised ValueError: qq is bad"

    policy = Policy()
    assert [str(r.failure) for r in search(QUESTIONS, tmp_path, policy) if r.failure] == [
        str(results[1].failure),
        str(results[3].failure),
    ]
    assert not policy.asked  # a failure is a result: it stays until it is forgotten

    with Run.open(tmp_path, None) as run:
        assert run.forget_failures() == 2
    assert [result.answer for result in search(QUESTIONS, tmp_path, policy)] == list("12345678")
    assert set(policy.asked) == {"qq", "qqqq"}


def test_a_problem_without_an_answer_is_finished(tmp_path: Path) -> None:
    (result,) = search(["q"], tmp_path, lambda partials, n: [[]] * len(partials))
    assert result.failure.kind is FailureKind.NO_ANSWER
    with Run.open(tmp_path, None) as run:
        assert run.forget_failures() == 0


# --- broken off ---


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_end_in_the_middle_keeps_what_is_finished(error: type[BaseException], tmp_path: Path) -> None:
    told = []

    def progress(event: Any) -> None:
        if isinstance(event, Finished):
            told.append(event.result.problem.question)
            if len(told) == 3:
                raise error

    with pytest.raises(error):
        search(QUESTIONS, tmp_path, progress=progress)
    assert [result.problem.question for result in load_run(tmp_path)] == told
    policy = Policy()
    assert [result.answer for result in search(QUESTIONS, tmp_path, policy)] == list("12345678")
    assert set(policy.asked) == set(QUESTIONS) - set(told)


KILLED = """
    import os, signal, sys
    import rstar_fast

    class Policy:
        async def propose(self, partials, n):
            return [[rstar_fast.Candidate("\\\\boxed{%d}" % len(partial.problem.question))] for partial in partials]

    def zeros(partials):
        return [0.0] * len(partials)

    finished = 0

    def progress(event):
        global finished
        finished += isinstance(event, rstar_fast.Finished) and not event.restored
        if finished == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

    questions = ["q" * length for length in range(1, 9)]
    settings = {"rollouts": 2, "open_problems": 2}
    rstar_fast.search(questions, policy=Policy(), ppm=zeros, run_dir=sys.argv[1], progress=progress, **settings)
"""


def test_a_killed_run_continues(tmp_path: Path) -> None:
    """Killed twice, by a signal that nobody can catch, then continued: nothing is lost and nothing done twice."""
    for kills, finished in ((3, 3), (2, 5)):
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), str(kills)], capture_output=True)
        assert (done.returncode, done.stderr) == (-signal.SIGKILL, b"")
        assert len(load_run(tmp_path)) == finished
    kept = {result.problem.question: plain(result) for result in load_run(tmp_path)}
    policy = Policy()
    results = search(QUESTIONS, tmp_path, policy)
    assert set(policy.asked) == set(QUESTIONS) - set(kept) and len(kept) == 5
    assert [result.answer for result in results] == list("12345678")
    assert {question: plain(result) for question, result in zip(QUESTIONS, results, strict=True) if question in kept} == kept
