"""Evaluations with a scripted policy: the numbers, the files, and what becomes of one that is interrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scripted import Scripted, problems, scorer_of

import rstar_fast
from rstar_fast.evaluation import Evaluation, load_evaluation
from rstar_fast.evaluation.api import drawn
from rstar_fast.evaluation.metrics import counts_up_to, metrics_of
from rstar_fast.evaluation.outcomes import GradedTrajectory, Outcome
from rstar_fast.storage import Run
from rstar_fast.types import AnswerKey, Finished, InvalidInput, Problem, ProgressEvent

GIVEN = problems(a1x="1/2", a2y="3", b1x="5", b2y="7")
SCRIPT = {
    "What is a1x?": ["0.5", "4", "\\frac{1}{2}", "4"],  # right, wrong, right, wrong
    "What is a2y?": ["3", "3", "3", "2"],
    "What is b1x?": ["6", "", "", "5"],
    "What is b2y?": ["!"],
}


def sampled(out: Path | None = None, **settings: Any) -> Evaluation:
    policy = Scripted(SCRIPT)
    return rstar_fast.evaluate(
        GIVEN, out=out, policy=policy, strategy="self_consistency", **{"rollouts": 4, "open_problems": 1, "candidates": 4, **settings}
    )


def value(evaluation: Evaluation, name: str) -> float:
    return evaluation.metrics[name]["value"]  # type: ignore[no-any-return]


def numbers(evaluation: Evaluation) -> dict[str, Any]:
    """The summary without what depends on the clock."""
    def untimed(part: Any) -> Any:
        if not isinstance(part, dict):
            return part
        return {name: untimed(value) for name, value in part.items() if name not in ("wall_seconds", "problem_seconds")}

    return untimed(dict(evaluation.summary))  # type: ignore[no-any-return]


def test_the_numbers_of_samples() -> None:
    found = sampled()
    assert [outcome.right for outcome in found.outcomes] == [True, True, False, None]  # a tie goes to the first answer
    assert found.accuracy == pytest.approx(2 / 3)
    assert value(found, "pass@1") == pytest.approx((2 / 4 + 3 / 4 + 1 / 4) / 3)  # silent samples count as wrong
    assert value(found, "pass@2") == pytest.approx((5 / 6 + 1 + 1 / 2) / 3)
    assert value(found, "pass@4") == 1.0
    assert value(found, "maj@4") == pytest.approx((1 / 2 + 1 + 1 / 2) / 3)  # ties are shared
    assert set(found.metrics) == {"accuracy", "pass@1", "pass@2", "maj@2", "pass@4", "maj@4"}  # no PPM scored
    assert {metric["problems"] for metric in found.metrics.values()} == {3}
    assert found.summary["failures"] == {"policy": 1}
    assert found.summary["spent"]["tokens"] == 3 * 4 * 5
    by_level, by_type = found.summary["by_level"], found.summary["by_type"]
    assert {name: part["accuracy"]["value"] for name, part in by_level.items()} == {"a": 1.0, "b": 0.0}
    assert {name: part["accuracy"]["problems"] for name, part in by_type.items()} == {"x": 2, "y": 1}
    assert set(by_level["a"]) == {"accuracy", "pass@1", "pass@4", "maj@4"}
    spent = found.summary["spent_by_level"]
    assert {name: (part["problems"], part["tokens"]) for name, part in spent.items()} == {"a": (2, 40), "b": (2, 20)}  # what broke, too
    assert {name: part["tokens"] for name, part in found.summary["spent_by_type"].items()} == {"x": 40, "y": 20}
    assert found.summary["notes"] == []


def test_equal_answers_are_graded_once_and_stand_together() -> None:
    first = sampled().outcomes[0]
    found = sorted((t.answer, t.group, t.right) for t in first.trajectories)
    assert found == [("0.5", 0, True), ("4", 1, False), ("4", 1, False), ("\\frac{1}{2}", 0, True)]
    assert (first.level, first.type, first.key, first.answer, first.samples, first.silent) == ("a", "x", "1/2", "0.5", 4, 0)
    assert sampled().outcomes[2].silent == 2
    assert sampled().outcomes[3].failure is not None


def test_the_ppm_chooses_in_a_tree_search() -> None:
    given = problems(a1x="1", a2x="2")
    script = {"What is a1x?": ["9", "1"], "What is a2x?": ["8", "2", "8", "8"]}
    found = rstar_fast.evaluate(
        given, policy=Scripted(script), ppm=scorer_of({"1": 0.9, "9": -0.9, "2": -0.5, "8": 0.5}), rollouts=1, candidates=4, choice="best_score"
    )
    assert [outcome.right for outcome in found.outcomes] == [True, False]
    assert value(found, "pass@all") == 1.0  # each tree holds both answers, once
    assert value(found, "best@all") == value(found, "weighted@all") == value(found, "maj@all") == 0.5
    assert value(found, "pass@1") == (1 / 2 + 1 / 4) / 2  # the right one is two of four proposals, and one of four
    assert set(found.metrics) == {"accuracy", "pass@1", "pass@all", "maj@all", "weighted@all", "best@all"}
    assert not any("fewer" in metric for metric in found.metrics.values())
    assert [outcome.samples for outcome in found.outcomes] == [0, 0]  # a tree's solutions are no independent samples
    assert found.summary["spent"]["partials_scored"] > 0


def outcome(*trajectories: GradedTrajectory, samples: int = 0, right: bool = True) -> Outcome:
    return Outcome("a", "", "", "1", "1", right, None, samples, trajectories, 0, 0, 0, 0, 0.0)


def test_a_solution_of_a_tree_is_as_likely_as_its_share() -> None:
    """One right one that the policy nearly always gives, and four rare wrong ones."""
    right, wrong = GradedTrajectory("1", 0, True, None, 0.9), [GradedTrajectory(str(n), n, False, None, 0.025) for n in (2, 3, 4, 5)]
    found = metrics_of([outcome(right, *wrong)])["metrics"]
    assert {name: metric["value"] for name, metric in found.items()} == pytest.approx({"accuracy": 1.0, "pass@1": 0.9, "pass@all": 1.0, "maj@all": 0.2})
    half = [GradedTrajectory(one.answer, one.group, one.right, None, one.share / 2) for one in (right, *wrong)]  # others have dead ends
    assert metrics_of([outcome(*half)])["metrics"]["pass@1"]["value"] == pytest.approx(0.9)
    nothing = [GradedTrajectory("1", 0, True, None, 0.0), GradedTrajectory("2", 1, False, None, 0.0)]  # so many steps that it underflows
    assert metrics_of([outcome(*nothing)])["metrics"]["pass@1"]["value"] == 0.5
    alone = metrics_of([outcome(right), outcome(right=False)])["metrics"]
    assert {name: metric["value"] for name, metric in alone.items()} == {"accuracy": 0.5, "pass@1": 0.5, "pass@all": 0.5, "maj@all": 0.5}


def test_of_adaptive_samples_nothing_is_estimated() -> None:
    """Their number depends on what they are: ten that agree end a problem early."""
    found = sampled(rollouts=16, adaptive=True, choice="majority")
    assert found.outcomes[1].stopped is not None
    assert set(found.metrics) == {"accuracy"} and set(found.summary["by_level"]["a"]) == {"accuracy"}
    assert "adaptive search" in found.summary["notes"][0]
    tree = rstar_fast.evaluate(problems(a="1"), policy=Scripted({"What is a?": ["1", "2"]}), ppm=scorer_of({}), rollouts=4, candidates=2, adaptive=True)
    assert {"pass@1", "pass@all"} <= set(tree.metrics) and tree.summary["notes"] == []


def test_where_the_ppm_does_not_count_its_tokens_they_are_unknown() -> None:
    class Counting:
        def score(self, partials: Any) -> list[float]:
            return [0.0] * len(partials)

        def tokens_of(self, problem: Problem) -> int:
            return 7

    settings: dict[str, Any] = {"rollouts": 1, "candidates": 1}
    given = problems(a="1")
    silent = rstar_fast.evaluate(given, policy=Scripted({"What is a?": ["1"]}), ppm=scorer_of({}), **settings)
    assert silent.outcomes[0].ppm_tokens is silent.summary["spent"]["ppm_tokens"] is silent.summary["spent_by_level"]["a"]["ppm_tokens"] is None
    counted = rstar_fast.evaluate(given, policy=Scripted({"What is a?": ["1"]}), ppm=Counting(), **settings)
    assert counted.summary["spent"]["ppm_tokens"] == 7
    unasked = rstar_fast.evaluate(given, policy=Scripted({"What is a?": ["1"]}), strategy="greedy")
    assert unasked.summary["spent"]["ppm_tokens"] == 0


def test_an_evaluation_is_read_back_as_it_was(tmp_path: Path) -> None:
    written = sampled(tmp_path / "e")
    read = load_evaluation(tmp_path / "e")
    assert read == written
    assert json.loads((tmp_path / "e" / "evaluation.json").read_text())["metrics"] == written.metrics
    lines = (tmp_path / "e" / "results.jsonl").read_text().splitlines()
    assert [Outcome.from_json(line) for line in lines] == list(written.outcomes)
    assert numbers(written) == numbers(sampled())


@pytest.mark.parametrize("strategy", ["self_consistency", "greedy", "mcts", "best_of_n", "beam"])
def test_an_interrupted_evaluation_goes_on_to_the_same_numbers(tmp_path: Path, strategy: str) -> None:
    given = problems(**{f"a{i}": str(i) for i in range(8)})
    script = {f"What is a{i}?": [str(i % 5)] for i in range(8)}

    class Stop(Exception):
        pass

    def evaluated(out: Path | None, policy: Scripted, stop_after: int = 9) -> Evaluation:
        done: list[str] = []

        def progress(event: ProgressEvent) -> None:
            if isinstance(event, Finished):
                done.append(event.result.problem.id)
                if len(done) == stop_after:
                    raise Stop

        return rstar_fast.evaluate(
            given, out=out, policy=policy, ppm=scorer_of({}), strategy=strategy, rollouts=2, candidates=2, open_problems=1, progress=progress
        )

    whole = evaluated(None, Scripted(script))
    with pytest.raises(Stop):
        evaluated(tmp_path / "e", Scripted(script), stop_after=3)
    assert not (tmp_path / "e" / "evaluation.json").exists()
    with pytest.raises(InvalidInput, match="no finished evaluation"):
        load_evaluation(tmp_path / "e")
    policy = Scripted(script)
    resumed = evaluated(tmp_path / "e", policy)
    assert len(policy.asked) <= 8 - 3  # what was finished is not searched again
    assert numbers(resumed) == numbers(whole)
    again = Scripted(script)
    assert evaluated(tmp_path / "e", again) == resumed and not again.asked  # nothing is searched, and no time passes


def test_what_broke_is_searched_again_when_asked(tmp_path: Path) -> None:
    assert sampled(tmp_path / "e").summary["failures"] == {"policy": 1}
    mended = Scripted({**SCRIPT, "What is b2y?": ["7"]})
    found = rstar_fast.evaluate(
        GIVEN, out=tmp_path / "e", policy=mended, strategy="self_consistency", rollouts=4, open_problems=1, candidates=4, retry_failed=True
    )
    assert set(mended.asked) == {"What is b2y?"}
    assert found.summary["failures"] == {} and found.outcomes[3].right is True


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"sample": 2}, "of other problems"), ({"rollouts": 2}, "rollouts=4, not search.rollouts=2"), ({"executor": 3}, "executor is 3")],
)
def test_a_refused_call_forgets_nothing(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    before = sampled(tmp_path / "e")
    with pytest.raises(InvalidInput, match=said):
        sampled(tmp_path / "e", retry_failed=True, **changed)
    assert load_evaluation(tmp_path / "e") == before
    with Run.open(tmp_path / "e", None) as run:
        assert len(run.finished()) == 4


def test_a_retry_with_another_question_under_an_id_forgets_nothing(tmp_path: Path) -> None:
    """Where no evaluation.json tells the problems apart, the run does."""
    sampled(tmp_path / "e")
    (tmp_path / "e" / "evaluation.json").unlink()
    other = [Problem("What else?", problem.id) for problem in GIVEN.problems]
    settings: dict[str, Any] = {"strategy": "self_consistency", "rollouts": 4, "open_problems": 1, "candidates": 4}
    with pytest.raises(InvalidInput, match="another question under the id"):
        rstar_fast.evaluate(other, answers=GIVEN.answers, out=tmp_path / "e", policy=Scripted(SCRIPT), retry_failed=True, **settings)
    with Run.open(tmp_path / "e", None) as run:
        assert len(run.finished()) == 4


def test_an_interrupted_retry_does_not_look_finished(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(event: ProgressEvent) -> None:
        if isinstance(event, Finished) and not event.restored:
            raise Stop

    sampled(tmp_path / "e")
    with pytest.raises(Stop):
        sampled(tmp_path / "e", retry_failed=True, progress=stop)
    with pytest.raises(InvalidInput, match="the same command that began it ends it"):
        load_evaluation(tmp_path / "e")
    assert numbers(sampled(tmp_path / "e")) == numbers(sampled())


def test_what_the_budget_of_the_run_cut_short_is_searched_again_when_asked(tmp_path: Path) -> None:
    """It has an answer, which stands, but not all its rollouts."""

    def found(policy: Scripted, **settings: Any) -> Evaluation:
        return rstar_fast.evaluate(problems(a="1"), out=tmp_path / "e", policy=policy, ppm=scorer_of({}), rollouts=4, candidates=2, **settings)

    script = {"What is a?": ["1", "1"]}
    short = found(Scripted(script), run_budget={"tokens": 5})
    assert short.outcomes[0].answer == "1" and short.outcomes[0].stopped == "run budget" and short.summary["stopped"] == {"run budget": 1}
    assert found(again := Scripted({})).outcomes == short.outcomes and not again.asked
    whole = found(Scripted(script), retry_failed=True)
    assert whole.outcomes[0].answer == "1" and whole.outcomes[0].stopped is None and whole.summary["stopped"] == {}


def test_where_problems_have_fewer_solutions_it_is_said() -> None:
    outcomes = [Outcome("a", "", "", "1", "1", True, None, n, tuple(GradedTrajectory("1", 0, True, None) for _ in range(n)), 0, 0, 0, 0, 0.0) for n in (1, 4, 2)]
    metrics = metrics_of(outcomes)["metrics"]
    assert {name: metric.get("fewer") for name, metric in metrics.items()} == {
        "accuracy": None, "pass@1": 0, "pass@2": 1, "maj@2": 1, "pass@4": 2, "maj@4": 2,
    }  # fmt: skip


def test_a_folder_is_that_of_one_evaluation(tmp_path: Path) -> None:
    sampled(tmp_path / "e")
    with pytest.raises(InvalidInput, match="rollouts=4, not search.rollouts=2"):
        sampled(tmp_path / "e", rollouts=2)


def test_a_damaged_evaluation_is_named(tmp_path: Path) -> None:
    sampled(tmp_path / "e")
    results = tmp_path / "e" / "results.jsonl"
    whole = results.read_text()
    results.write_text(whole + "{}\n")
    with pytest.raises(InvalidInput, match=r"results.jsonl, line 5 is no outcome"):
        load_evaluation(tmp_path / "e")
    results.write_text(whole)
    summary = tmp_path / "e" / "evaluation.json"
    summary.write_text(summary.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(InvalidInput, match="upgrade"):
        load_evaluation(tmp_path / "e")
    summary.write_text("[")
    with pytest.raises(InvalidInput, match="is no evaluation"):
        load_evaluation(tmp_path / "e")


def test_problems_are_drawn_by_level_and_seed() -> None:
    given = problems(**{f"{level}{i}": "1" for level, count in (("a", 60), ("b", 30), ("c", 10)) for i in range(count)})
    some = drawn(given, 20, seed=1)
    assert [sum(problem.id[0] == level for problem in some.problems) for level in "abc"] == [12, 6, 2]
    assert list(some.problems) == [problem for problem in given.problems if problem in some.problems]
    assert set(some.answers) == set(some.labels) == {problem.id for problem in some.problems}
    assert drawn(given, 20, seed=1) == some != drawn(given, 20, seed=2)
    assert len(drawn(given, 7, seed=0).problems) == 7
    assert drawn(given, None, seed=0) is given


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"strategy": "magic"}, "strategy is 'magic': give one of 'mcts'"),
        ({"sample": 5}, "sample is 5: give 1 to 4"),
        ({"sample": True}, "sample is True"),
        ({"rollout": 3}, "unknown search setting 'rollout'"),
        ({"annotation": "terminal"}, "searches without the key"),
        ({"config": 3}, "config is 3: give a SearchConfig"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_searched(settings: dict[str, Any], said: str) -> None:
    policy = Scripted(SCRIPT)
    with pytest.raises(InvalidInput, match=said):
        rstar_fast.evaluate(GIVEN, policy=policy, **settings)
    assert not policy.asked


def test_problems_are_given_with_a_key_of_their_own() -> None:
    asked = [Problem("What is a1x?", "a"), Problem("What is a2y?", "b")]
    found = rstar_fast.evaluate(asked, answers={"a": "1/2", "b": "4"}, policy=Scripted(SCRIPT), strategy="greedy")
    assert found.verdicts == {"a": True, "b": False}
    with pytest.raises(InvalidInput, match="two have the same id"):
        rstar_fast.evaluate(asked * 2, answers={"a": "1/2", "b": "4"})
    with pytest.raises(InvalidInput, match="'What is 2\\?': give the name of a benchmark"):
        rstar_fast.evaluate(["What is 2?"], answers={})
    with pytest.raises(InvalidInput, match="answers are the key of Problem objects"):
        rstar_fast.evaluate(GIVEN, answers={})


def test_a_problem_without_its_answer_is_named() -> None:
    from rstar_fast.storage import ProblemFile

    given = ProblemFile((Problem("What is 1?", "one"), Problem("What is 2?", "two")), AnswerKey({"one": "1"}))
    with pytest.raises(InvalidInput, match="1 of 2 problems have no answer, the first has the id 'two'"):
        rstar_fast.evaluate(given)


def test_counts_go_up_in_powers_of_two_to_the_most() -> None:
    assert [counts_up_to(most) for most in (0, 1, 2, 6, 8)] == [[], [1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]
