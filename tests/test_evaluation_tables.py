"""Comparisons, sweeps and the paper's table, of evaluations with a scripted policy."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from scripted import Scripted, problems, scorer_of

import rstar_fast
from rstar_fast.evaluation import Evaluation, compare, paper_table, sweep
from rstar_fast.evaluation.api import beam_width
from rstar_fast.evaluation.page import errorbars
from rstar_fast.evaluation.paper import paper_tables
from rstar_fast.evaluation.sweeping import all_tables, matches, sweep_tables
from rstar_fast.evaluation.tables import comparison_tables, evaluation_tables
from rstar_fast.storage import ProblemFile
from rstar_fast.types import AnswerKey, Candidate, InvalidInput, Partial, Problem

GIVEN = problems(a1x="1", a2x="2", b1x="3", b2x="4")


def evaluated(answers: list[str], out: Path | None = None, given: Any = GIVEN, **settings: Any) -> Evaluation:
    """Each problem's script is one answer; "!" breaks."""
    script = {problem.question: [answer] for problem, answer in zip(given.problems, answers, strict=True)}
    return rstar_fast.evaluate(given, out=out, policy=Scripted(script), **{"strategy": "greedy", **settings})


def test_a_comparison_counts_what_changed(tmp_path: Path) -> None:
    evaluated(["1", "0", "0", "!"], tmp_path / "a")
    evaluated(["0", "2", "3", "4"], tmp_path / "b")
    found = compare(tmp_path / "a", tmp_path / "b")
    assert (found.problems, found.broken, found.only_first, found.only_second) == (3, 1, 0, 0)
    assert found.gained == ("a2x", "b1x") and found.lost == ("a1x",)
    accuracy = found.accuracy
    assert (accuracy.first, accuracy.second, accuracy.wins, accuracy.losses) == (1 / 3, 2 / 3, 2, 1)
    assert accuracy.difference == pytest.approx(1 / 3)
    assert accuracy.low <= accuracy.difference <= accuracy.high
    assert accuracy.p_value == 1.0  # 2 of 3: four of the eight outcomes are as extreme on either side
    assert found.tokens == (15, 15)
    assert json.loads(json.dumps(found.to_mapping()))["gained"] == ["a2x", "b1x"]
    ((title, rows), _) = comparison_tables(found)
    assert title.endswith("3 problems") and rows[1][:4] == ["accuracy", "33.3%", "66.7%", "+33.3"]


def test_a_comparison_is_of_the_problems_that_both_have() -> None:
    found = compare(evaluated(["1", "2"], given=problems(a="1", b="2")), evaluated(["2", "3"], given=problems(b="2", c="4")))
    assert (found.problems, found.only_first, found.only_second) == (1, 1, 1)
    assert (found.first, found.second) == ("the first", "the second")
    assert found.accuracy.difference == 0.0 and found.accuracy.p_value == 1.0


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds no finished evaluation"):
        compare(tmp_path, tmp_path)
    with pytest.raises(InvalidInput, match="share no problem"):
        compare(evaluated(["1"], given=problems(a="1")), evaluated(["1"], given=problems(b="1")))
    with pytest.raises(InvalidInput, match="broke: evaluate again with --retry-failed"):
        compare(evaluated(["1"], given=problems(a="1")), evaluated(["!"], given=problems(a="1")))
    with pytest.raises(InvalidInput, match="'a' has the key '1' in the first and '2' in the second"):
        compare(evaluated(["1"], given=problems(a="1")), evaluated(["1"], given=problems(a="2")))


def test_trees_are_compared_by_the_shares_of_their_solutions() -> None:
    given = problems(a="1")
    settings: dict[str, Any] = {"ppm": scorer_of({}), "rollouts": 1, "candidates": 4, "first_candidates": 0}
    first = rstar_fast.evaluate(given, policy=Scripted({"What is a?": ["1", "1", "1", "9"]}), **settings)
    second = rstar_fast.evaluate(given, policy=Scripted({"What is a?": ["9", "1", "9", "9"]}), **settings)
    found = compare(first, second).pass_at_1
    assert found is not None and (found.first, found.second) == (0.75, 0.25)


def test_of_adaptive_samples_only_the_choice_is_compared() -> None:
    given, script = problems(a="1"), {"What is a?": ["1", "1", "1", "9"]}
    settings: dict[str, Any] = {"strategy": "self_consistency", "rollouts": 8}
    adaptive, fixed = (rstar_fast.evaluate(given, policy=Scripted(script), adaptive=adaptive, **settings) for adaptive in (True, False))
    found = compare(fixed, adaptive)
    assert found.pass_at_1 is None and found.accuracy.difference == 0.0
    assert "adaptive search" in found.to_mapping()["notes"][0] and found.to_mapping()["pass_at_1"] is None
    assert comparison_tables(found)[0][1][2] == ["pass@1", *["-"] * 6]
    assert compare(fixed, fixed).pass_at_1 is not None and compare(fixed, fixed).notes == []


def test_samples_that_the_ppm_scores() -> None:
    """Best of n takes what the choice says, self-consistency always the majority's."""
    given = problems(a="1")
    settings: dict[str, Any] = {"policy": Scripted({"What is a?": ["9", "1", "9"]}), "ppm": scorer_of({"1": 0.5, "9": -0.5}), "rollouts": 3}
    best = rstar_fast.evaluate(given, strategy="best_of_n", choice="best_score", **settings)
    assert best.outcomes[0].answer == "1" and best.outcomes[0].samples == 3
    assert best.metrics["best@3"]["value"] == best.metrics["weighted@3"]["value"] == 1.0  # 0.75 against twice 0.25
    assert best.metrics["maj@3"]["value"] == 0.0
    assert rstar_fast.evaluate(given, strategy="self_consistency", **settings).accuracy == 0.0
    assert rstar_fast.evaluate(given, strategy="best_of_n", choice="majority", **settings).accuracy == 0.0


class Swept:
    """A sweep of two strategies, and which evaluations it began."""

    def __init__(self, out: Path, policy: Any = None, **settings: Any) -> None:
        self.begun: list[tuple[str, int]] = []
        script = {"What is a?": ["1"], "What is b?": ["9", "2"]}
        self.policy = policy or Scripted(script)
        self.cells = sweep(
            problems(a="1", b="2"), out, policy=self.policy, ppm=scorer_of({}), begun=lambda *cell: self.begun.append(cell),
            **{"strategies": ["greedy", "self_consistency"], "budgets": [4, 2], **settings},
        )  # fmt: skip


def test_a_sweep_is_a_grid_of_evaluations_that_goes_on(tmp_path: Path) -> None:
    swept = Swept(tmp_path / "s")
    assert swept.begun == [("greedy", 1), ("self_consistency", 2), ("self_consistency", 4)]  # greedy once
    assert [cell.tokens for cell in swept.cells] == [5.0, 10.0, 20.0]
    written = json.loads((tmp_path / "s" / "sweep.json").read_text())
    assert [(cell["strategy"], cell["rollouts"], cell["per_problem"]["tokens"]) for cell in written["cells"]] == [
        ("greedy", 1, 5.0), ("self_consistency", 2, 10.0), ("self_consistency", 4, 20.0),
    ]  # fmt: skip
    assert written["cells"][2]["metrics"]["pass@4"]["value"] == 1.0
    assert (tmp_path / "s" / "sweep.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "s" / "sweep.html").read_text()
    assert "self_consistency" in page and "data:image/png" in page
    ((_, rows),) = sweep_tables(swept.cells)
    assert rows[0][:3] == ["strategy", "rollouts", "accuracy"] and [row[1] for row in rows[1:]] == ["1", "2", "4"]
    again = Swept(tmp_path / "s", Scripted({}))
    assert not again.policy.asked and [cell.evaluation for cell in again.cells] == [cell.evaluation for cell in swept.cells]


def test_a_sweep_says_what_the_tree_search_gains_at_no_fewer_tokens(tmp_path: Path) -> None:
    """Of two solutions the PPM finds the right one, of three the majority does not."""

    class Anew(Scripted):
        """Begins each script anew at every call."""

        async def propose(self, partials: Sequence[Partial], n: int) -> list[list[Candidate]]:
            self.asked.clear()
            return await super().propose(partials, n)

    given = problems(a1="1", a2="2", b3="3")
    script = {"What is a1?": ["1"], "What is a2?": ["9", "2", "9"], "What is b3?": ["9"]}
    ppm = scorer_of({"2": 0.9, "9": -0.9})
    strategies = ["mcts", "self_consistency", "greedy"]
    cells = sweep(given, tmp_path / "s", policy=Anew(script), ppm=ppm, strategies=strategies, budgets=[1, 3], candidates=2)
    written = json.loads((tmp_path / "s" / "sweep.json").read_text())
    assert [set(cell["by_level"]) for cell in written["cells"]] == [{"a", "b"}] * len(cells)
    tokens = {(cell.strategy, cell.rollouts): cell.tokens for cell in cells}
    found = written["at_equal_tokens"]
    assert (1, "self_consistency") in {(match["mcts"]["rollouts"], match["rival"]["strategy"]) for match in found}
    for match in found:
        spent, rival = match["mcts"]["tokens"], match["rival"]
        able = [one for (strategy, _), one in tokens.items() if strategy == rival["strategy"] and one >= spent]
        assert rival["tokens"] == min(able)
    assert not any(match["rival"]["strategy"] == "greedy" for match in found)  # it never has so many
    one = next(match for match in found if match["mcts"]["rollouts"] == 1 and match["rival"]["strategy"] == "self_consistency")
    (mcts,) = (cell for cell in cells if (cell.strategy, cell.rollouts) == ("mcts", 1))
    (rival,) = (cell for cell in cells if (cell.strategy, cell.rollouts) == ("self_consistency", one["rival"]["rollouts"]))
    assert one["accuracy"] == compare(rival.evaluation, mcts.evaluation).to_mapping()["accuracy"]
    assert one["accuracy"]["difference"] == pytest.approx(1 / 3) and one["by_level"]["a"]["difference"] == 0.5
    assert one["by_level"]["b"]["difference"] == 0.0 and one["by_level"]["b"]["low"] < 0.0
    of_levels, of_matches = all_tables(cells, matches(cells))[1:]
    assert of_levels[1][0] == ["strategy", "rollouts", "level a", "level b"]
    assert of_levels[1][1] == ["mcts", "1", "100.0%", "0.0%"]
    assert len(of_matches[1]) == 1 + len(found) and of_matches[1][1][5].startswith("+33.3 (")
    page = (tmp_path / "s" / "sweep.html").read_text()
    assert "Accuracy by level" in page and "no fewer tokens a problem" in page


def test_without_levels_and_a_tree_search_a_sweep_is_its_grid(tmp_path: Path) -> None:
    given = ProblemFile((Problem("What is a?", "a"),), AnswerKey({"a": "1"}))
    cells = sweep(given, tmp_path / "s", policy=Scripted({"What is a?": ["1"]}), strategies=["greedy"], budgets=[1])
    assert all_tables(cells, matches(cells)) == sweep_tables(cells)


def test_the_page_of_adaptive_samples_says_what_it_leaves_out(tmp_path: Path) -> None:
    cells = Swept(tmp_path / "s", strategies=["self_consistency"], budgets=[8], adaptive=True).cells
    ((_, rows),) = sweep_tables(cells)
    assert rows[1][3:5] == ["-", "-"]
    assert "adaptive search" in (tmp_path / "s" / "sweep.html").read_text()
    assert "adaptive search" in json.loads((tmp_path / "s" / "sweep.json").read_text())["notes"][0]


def test_there_are_no_fewer_beams_than_steps_asked_for_at_each() -> None:
    assert {n: beam_width(8, n) for n in (1, 2, 4, 6, 7, 8, 16, 64, 128)} == {1: 1, 2: 1, 4: 2, 6: 2, 7: 1, 8: 2, 16: 4, 64: 8, 128: 8}
    assert [beam_width(candidates, 64) for candidates in (1, 3, 5, 9)] == [1, 2, 4, 8]


def test_beams_are_as_wide_as_divides_what_a_sweep_gives_them(tmp_path: Path) -> None:
    cells = Swept(tmp_path / "s", strategies=["beam"], budgets=[4, 6, 1], candidates=4).cells
    widths = [cell.evaluation.summary["settings"]["search"]["candidates"] for cell in cells]
    assert [(cell.rollouts, width) for cell, width in zip(cells, widths, strict=True)] == [(1, 1), (4, 2), (6, 2)]


def test_what_only_some_strategies_have_is_theirs_alone(tmp_path: Path) -> None:
    cells = Swept(tmp_path / "s", strategies=["mcts", "self_consistency", "greedy", "dvts"], budgets=[1, 4], trees=2, adaptive=True).cells
    found = {(cell.strategy, cell.rollouts): cell.evaluation.summary["settings"]["search"] for cell in cells}
    assert {cell: (of.get("trees", 1), of.get("adaptive", False)) for cell, of in found.items()} == {
        ("mcts", 1): (1, True), ("mcts", 4): (2, True), ("self_consistency", 1): (1, True), ("self_consistency", 4): (1, True),
        ("greedy", 1): (1, False), ("dvts", 1): (1, False), ("dvts", 4): (1, False),
    }  # fmt: skip


def test_a_sweep_without_matplotlib_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    Swept(tmp_path / "s")
    assert not (tmp_path / "s" / "sweep.png").exists()
    assert "matplotlib is not installed" in (tmp_path / "s" / "sweep.html").read_text()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"strategies": ["greedy", "magic"]}, "strategy is 'magic'"),
        ({"strategies": []}, "needs strategies and budgets"),
        ({"budgets": [0]}, "budget is 0: give an integer >= 1"),
        ({"least_gain": 2.0}, "least_gain is 2.0"),
        ({"rollouts": 3}, "give them as budgets"),
    ],
)
def test_a_bad_sweep_is_named_before_it_begins(settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=said):
        Swept(tmp_path / "s", **settings)
    assert not (tmp_path / "s").exists()


def test_the_table_of_the_paper(tmp_path: Path) -> None:
    """The PPM values the right answer, the outcome reward model the wrong one."""
    script = {"What is a?": ["9", "1"], "What is b?": ["2"]}
    begun: list[str] = []
    rows = paper_table(
        problems(a="1", b="2"), tmp_path / "t", policy=Scripted(script), ppm=scorer_of({"1": 0.9, "9": -0.9}), orm=scorer_of({"1": -0.9, "9": 0.9}),
        trajectories=[2, 1], candidates=2, begun=begun.append,
    )  # fmt: skip
    assert [row.name for row in rows] == ["policy alone", "best of 2", "MCTS, 1 trajectory", "MCTS, 2 trajectories"]
    assert begun[:3] == ["policy alone", "best of 2 with PPM", "best of 2 with ORM"] and len(begun) == 7
    accuracies = {(row.name, model): one.accuracy for row in rows for model, one in row.evaluations.items()}
    assert accuracies["policy alone", ""] == 0.5
    assert accuracies["best of 2", "PPM"] == accuracies["MCTS, 2 trajectories", "PPM"] == 1.0
    assert accuracies["best of 2", "ORM"] == accuracies["MCTS, 2 trajectories", "ORM"] == 0.5
    ((_, table),) = paper_tables(rows)
    assert table[0] == ["", "with PPM", "with ORM", "tokens, PPM", "tokens, ORM"]
    assert table[1][1] == table[1][2]  # the policy alone is the same in both columns
    written = json.loads((tmp_path / "t" / "paper.json").read_text())
    assert written["rows"][1]["models"]["ORM"]["metrics"]["accuracy"]["value"] == 0.5
    assert (tmp_path / "t" / "paper.html").exists()


def test_what_only_tree_searches_have_is_theirs_alone_in_the_table(tmp_path: Path) -> None:
    rows = paper_table(GIVEN, tmp_path / "t", policy=Scripted({}), ppm=scorer_of({}), trajectories=[1, 4], candidates=1, trees=2, adaptive=True)
    found = {row.name: one.summary["settings"]["search"] for row in rows for one in row.evaluations.values()}
    assert {name: (of.get("trees", 1), of.get("adaptive", False)) for name, of in found.items()} == {
        "policy alone": (1, False), "best of 4": (1, True), "MCTS, 1 trajectory": (1, True), "MCTS, 4 trajectories": (2, True),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"trajectories": []}, "trajectories is empty"),
        ({"trajectories": [0]}, "trajectories is 0"),
        ({"choice": "majority"}, "choice itself"),
        ({"best_of": 0}, "best_of is 0"),
        ({"best_of": 20_000}, "rollouts is 20000: give at most 16384"),
        ({"trees": 0}, "trees is 0"),
    ],
)
def test_a_bad_table_is_named_before_it_begins(settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=said):
        paper_table(GIVEN, tmp_path / "t", policy=Scripted({}), ppm=scorer_of({}), **settings)
    assert not (tmp_path / "t").exists()


def test_an_evaluation_as_tables() -> None:
    found = dict(evaluation_tables(evaluated(["1", "0", "3", "!"])))
    assert found["problems: greedy with Scripted"][1][:2] == ["accuracy", "66.7%"]
    assert found["By level"][1:] == [["a", "50.0%", "50.0%", "2", "5.0"], ["b", "100.0%", "100.0%", "1", "2.5"]]
    assert found["Failures"][1:] == [["policy", "1"]]
    assert found["Spent"][1] == ["tokens generated", "15", "3.8"]
    assert found["Spent"][2] == ["tokens that the PPM computed", "0", "0.0"]  # none is asked
    assert "Of k of a problem's solutions, drawn at random" not in found  # there is one
    broken = dict(evaluation_tables(evaluated(["!"] * 4)))
    assert broken["problems: greedy with Scripted"][1][1:] == ["-", "0.0% to 100.0%", "0"]


def test_a_tree_as_tables() -> None:
    found = dict(evaluation_tables(evaluated(["1", "0", "3", "4"], strategy="mcts", ppm=scorer_of({}), rollouts=1, candidates=1)))
    (title, rows), *_ = [(title, rows) for title, rows in found.items() if title.startswith("Of")]
    assert title == "Of a tree's solutions: one drawn by its share, or all" and rows[0] == ["", "k = 1", "k = all"]
    assert rows[1] == ["pass@k: any is right", "75.0%", "75.0%"]
    assert found["Spent"][2] == ["tokens that the PPM computed", "-", "-"]  # it does not say


def test_no_point_makes_no_plot() -> None:
    assert errorbars({}, "", "") == b""
