"""The rules of extraction: the reference's results exactly, and the default's against a plain model of them."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_trees import Step, columns_of, right, tree_of, wrong

from rstar_fast import _core
from rstar_fast.storage.reference_trees import result_of_line
from rstar_fast.types import Terminal, Tree

GOLDEN = Path(__file__).parent / "golden"
BAD = (Terminal.TOO_MANY_ERRORS, Terminal.TOO_DEEP, Terminal.NO_CANDIDATES)


def golden(mode: str) -> list[dict[str, Any]]:
    with gzip.open(GOLDEN / f"{mode}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def extract(
    trees: Sequence[Tree], verdicts: Sequence[dict[int, bool]], problems: Sequence[int] | None = None, **rules: Any
) -> Any:
    """What C++ extracts, and the trees it did so from."""
    columns = columns_of(trees, range(len(trees)) if problems is None else problems)
    correct = np.full(len(columns["parent"]), -1, np.int8)
    for start, of_tree in zip(columns["starts"], verdicts, strict=False):
        for row, verdict in of_tree.items():
            correct[start + row] = verdict
    made = _core.Trees(columns)
    return made.extract(correct, **rules), made


def texts(made: Any, part: str, rows: Sequence[int]) -> list[str]:
    offsets, data = getattr(made, part)(np.array(rows, np.int64))
    return [data[begin:end].tobytes().decode() for begin, end in itertools.pairwise(offsets)]


@pytest.mark.parametrize("mode", ["terminal", "ppm"])
def test_the_reference_is_reproduced_tree_by_tree(mode: str) -> None:
    """golden/: every trajectory with its Q, the SFT set, every pair with its margins, and which of them are kept."""
    pairs_in_all = 0
    for line in golden(mode):
        wanted, result = line["extraction"], result_of_line(json.dumps(line).encode(), "golden")
        tree = result.tree
        assert tree is not None
        verdicts = {tree[t.tag].index: bool(t.correct) for t in result.trajectories}
        rules = {"reference": True, "final_step": False}
        found, made = extract([tree], [verdicts], **rules)

        nodes = list(tree)
        traces = [
            {
                "solution": nodes[row].solution,
                "correct": bool(correct),
                "q_values": [found["q"][step.index] for step in nodes[row].path],
            }
            for row, correct in zip(found["trajectory_row"].tolist(), found["trajectory_correct"].tolist(), strict=True)
            if nodes[row].terminal in (Terminal.ANSWER, Terminal.TOO_MANY_ERRORS)
        ]
        # The reference puts the wrong ones first, and has none of a tree without an answer.
        traces.sort(key=lambda trace: trace["correct"])
        assert (traces if result.trajectories else []) == wanted["traces"]

        rank = found["trajectory_rank"]
        best = [found["trajectory_row"][(rank == place).nonzero()[0][0]] for place in range(1, rank.max(initial=0) + 1)]
        assert texts(made, "solutions", best) == wanted["sft"]

        chosen, rejected = found["pair_chosen"], found["pair_rejected"]
        pairs = zip(
            texts(made, "prefixes", chosen),
            texts(made, "steps", chosen),
            texts(made, "steps", rejected),
            (found["pair_q_chosen"] - found["pair_q_rejected"]).tolist(),
            found["pair_continued_margin"].tolist(),
            found["pair_positives"].tolist(),
            found["pair_negatives"].tolist(),
            strict=True,
        )
        names = ("prefix", "chosen", "rejected", "step_margin", "steps_margin", "positives", "negatives")
        assert list(pairs) == [tuple(pair[name] for name in names) for pair in wanted["pairs"]]

        kept, _ = extract([tree], [verdicts], **rules, min_margin=0.5, min_edit_distance=20)
        places = {(c, r) for c, r in zip(kept["pair_chosen"].tolist(), kept["pair_rejected"].tolist(), strict=True)}
        assert [pair["kept"] for pair in wanted["pairs"]] == [
            pair in places for pair in zip(chosen.tolist(), rejected.tolist(), strict=True)
        ]
        pairs_in_all += len(wanted["pairs"])
    assert pairs_in_all > 200


# A plain model of the default rules. A step is the texts from the root to it: equal steps behind equal steps are one.
Path_ = tuple[str, ...]


class Model:
    def __init__(self, trees: Sequence[Tree], verdicts: Sequence[dict[int, bool]]) -> None:
        self.row: dict[Path_, int] = {}
        self.visits: dict[Path_, int] = {}
        self.total: dict[Path_, float] = {}
        self.terminal: dict[Path_, Terminal] = {}
        self.correct: dict[Path_, bool] = {}
        self.observation: dict[Path_, str] = {}
        self.children: dict[Path_, list[Path_]] = {}
        start = 0
        for tree, of_tree in zip(trees, verdicts, strict=True):
            for node in tree:
                self.add(node, tuple(step.text for step in node.path), start, of_tree)
            start += len(tree)

    def add(self, node: Any, path: Path_, start: int, verdicts: dict[int, bool]) -> None:
        if path not in self.row:
            self.row[path] = start + node.index
            self.visits[path], self.total[path], self.terminal[path] = 0, 0.0, Terminal.NO
            self.observation[path] = node.observation
            self.children[path] = []
            if path:
                self.children[path[:-1]].append(path)
        self.visits[path] += node.visits
        self.total[path] += float(node.tree.columns()["value_sum"][node.index])
        kinds = [self.terminal[path], node.terminal]
        self.terminal[path] = Terminal.ANSWER if Terminal.ANSWER in kinds else kinds[0] or kinds[1]
        if node.index in verdicts:
            self.correct.setdefault(path, verdicts[node.index])

    def value(self, path: Path_) -> float:
        if self.visits[path]:
            return self.total[path] / self.visits[path]
        outcome = self.outcome(path)
        return 0.0 if outcome is None else 1.0 if outcome else -1.0

    def outcome(self, path: Path_) -> bool | None:
        """Whether a trajectory that ends here is right; None where none does."""
        if self.children[path]:
            return None
        if self.terminal[path] is Terminal.ANSWER:
            return self.correct[path]
        return False if self.terminal[path] in BAD else None

    def ends(self, path: Path_) -> Iterator[Path_]:
        """Where the trajectories through a step end, depth first."""
        if self.outcome(path) is not None:
            yield path
        for child in self.children[path]:
            yield from self.ends(child)

    def leads_to(self, path: Path_, what: bool) -> bool:
        return any(self.outcome(end) is what for end in self.ends(path))

    def quality(self, path: Path_) -> tuple[float, float]:
        values = [self.value(path[:length]) for length in range(1, len(path) + 1)]
        total = 0.0
        for value in values:
            total += value
        return total / len(values), min(values)

    def trajectories(self) -> list[Path_]:
        best: dict[str, Path_] = {}
        ends = [end for end in self.ends(()) if end]
        for end in ends:
            text = "".join(end)
            if text not in best or self.quality(end) > self.quality(best[text]):
                best[text] = end
        return [end for end in ends if best["".join(end)] == end]

    def best_correct(self, most: int) -> list[Path_]:
        good = [end for end in self.trajectories() if self.outcome(end)]
        clean = [end for end in good if not any("error" in self.observation[end[:n]].lower() for n in range(len(end) + 1))]
        return sorted(clean, key=self.quality, reverse=True)[:most]

    def pairs(self, positives: int, negatives: int) -> Iterator[tuple[int, int, float, float, bool]]:
        """(chosen row, rejected row, their Q, whether whole trajectories)."""
        level: list[Path_] = [()]
        for path in level:  # breadth first; grows as it is walked
            children = self.children[path]
            level += children
            good = sorted([c for c in children if self.leads_to(c, True)], key=self.value, reverse=True)[:positives]
            bad = [c for c in children if self.leads_to(c, False) and not self.leads_to(c, True)]
            for a, b in itertools.product(good, sorted(bad, key=self.value)[:negatives]):
                if self.value(a) > self.value(b):
                    yield self.row[a], self.row[b], self.value(a), self.value(b), False
        bad = [end for end in self.trajectories() if self.terminal[end] is Terminal.ANSWER and not self.outcome(end)]
        for a, b in itertools.product(self.best_correct(positives), sorted(bad, key=self.quality)[:negatives]):
            if self.quality(a)[0] > self.quality(b)[0]:
                yield self.row[a], self.row[b], self.quality(a)[0], self.quality(b)[0], True


@st.composite
def forests(draw: st.DrawFn) -> list[tuple[Tree, dict[int, bool]]]:
    """A few trees of few different texts, so that steps and solutions are often equal."""

    def step(depth: int) -> Step:
        children = draw(st.lists(st.just(None), max_size=3 if depth < 3 else 0))
        made = Step(draw(st.sampled_from(["a", "b", "ab", "ba", "é"])), draw(st.sampled_from([-1.0, -0.5, 0.1, 0.3, 1.0])))
        made.visits = draw(st.integers(0, 3))
        made.observation = draw(st.sampled_from(["", "", "4", "NameError: x", "ERRor"]))
        made.children = [step(depth + 1) for _ in children]
        if not children:
            made.terminal = draw(st.sampled_from([Terminal.NO, Terminal.ANSWER, Terminal.ANSWER, Terminal.ANSWER, *BAD]))
            made.correct = draw(st.booleans()) if made.terminal is Terminal.ANSWER else None
        return made

    return [tree_of([step(1) for _ in range(draw(st.integers(0, 4)))]) for _ in range(draw(st.integers(1, 3)))]


@settings(max_examples=150)
@given(forest=forests(), trajectories=st.integers(0, 3), positives=st.integers(1, 3), negatives=st.integers(1, 3))
def test_the_default_rules_are_those_of_the_model(
    forest: list[tuple[Tree, dict[int, bool]]], trajectories: int, positives: int, negatives: int
) -> None:
    """All trees are one problem's; before and behind them stands another's, which must change nothing."""
    trees, verdicts = zip(*forest, strict=True)
    other = tree_of([right("x"), wrong("y")])
    numbers = [0, *[1] * len(trees), 2]
    found, _ = extract(
        [other[0], *trees, other[0]],
        [other[1], *verdicts, other[1]],
        numbers,
        trajectories=trajectories,
        positives=positives,
        negatives=negatives,
    )
    model = Model(trees, verdicts)
    first = len(other[0])  # rows of the problem before
    ends = model.trajectories()
    of_problem = found["trajectory_problem"] == 1
    assert (found["trajectory_row"][of_problem] - first).tolist() == [model.row[end] for end in ends]
    assert found["trajectory_correct"][of_problem].tolist() == [bool(model.outcome(end)) for end in ends]
    quality = list(
        zip(found["trajectory_q_mean"][of_problem].tolist(), found["trajectory_q_min"][of_problem].tolist(), strict=True)
    )
    assert quality == [model.quality(end) for end in ends]
    assert found["problem_trajectories"].tolist() == [2, len(ends), 2]
    assert found["problem_correct"].tolist() == [1, sum(bool(model.outcome(end)) for end in ends), 1]

    rank = found["trajectory_rank"][of_problem]
    chosen = [found["trajectory_row"][of_problem][rank == place][0] - first for place in range(1, rank.max(initial=0) + 1)]
    assert chosen == [model.row[end] for end in model.best_correct(trajectories)]

    of_problem = found["pair_problem"] == 1
    names = ("chosen", "rejected", "q_chosen", "q_rejected", "final")
    pairs = list(zip(*(found[f"pair_{name}"][of_problem].tolist() for name in names), strict=True))
    assert [(a - first, b - first, x, y, bool(final)) for a, b, x, y, final in pairs] == list(model.pairs(positives, negatives))
    assert found["pair_group"].tolist() == sorted(found["pair_group"].tolist())


def levenshtein(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(before + (x != y), row[j] + 1, row[j - 1] + 1)
    return row[-1]


@settings(max_examples=200)
@given(a=st.text("abé\U0001f600", max_size=14), b=st.text("abé\U0001f600", max_size=14), least=st.integers(0, 16))
def test_edit_distances_are_of_characters(a: str, b: str, least: int) -> None:
    assert _core.differ_by(a, b, least) == (levenshtein(a, b) >= least)


def test_a_step_that_leads_to_both_is_no_negative_and_an_unvisited_answer_has_the_keys_value() -> None:
    both = Step("both", 0.0, 2, [right("r"), wrong("w")])
    unseen = Step("never visited", 0.0, 0, terminal=Terminal.ANSWER, correct=True, answer="1")
    tree, verdicts = tree_of([Step("good", 1.0, 1, [right("!")]), both, unseen])
    found, made = extract([tree], [verdicts], final_step=False)
    assert texts(made, "prefixes", found["pair_chosen"]) == ["both"]
    assert (texts(made, "steps", found["pair_chosen"]), texts(made, "steps", found["pair_rejected"])) == (["r"], ["w"])
    assert found["q"][3] == 1.0
    widened, _ = extract([tree], [verdicts], final_step=False, reference=True)
    assert len(widened["pair_chosen"]) > 1


def test_margin_and_distance_leave_pairs_out() -> None:
    tree, verdicts = tree_of([right("a good step", 0.5), wrong("a good stop", 0.25), wrong("something else", -1.0)])
    for rules, count in (
        ({}, 2),
        ({"min_margin": 0.25}, 2),
        ({"min_margin": 0.5}, 1),
        ({"min_edit_distance": 2}, 1),
        ({"negatives": 1}, 1),
    ):
        assert len(extract([tree], [verdicts], final_step=False, **rules)[0]["pair_chosen"]) == count


def test_texts_are_valid_utf8_whatever_the_policy_wrote() -> None:
    tree, verdicts = tree_of([Step("\ud83d", children=[right("\ude00 \udfff é")])])
    found, made = extract([tree], [verdicts])
    assert texts(made, "solutions", found["trajectory_row"]) == ["\U0001f600 � é"]
    assert texts(made, "steps", [1, 0]) == ["�", ""]


def test_tags_name_rows() -> None:
    tree, _ = tree_of([Step("a"), Step("b", children=[Step("c")])])
    made = _core.Trees(columns_of([tree, tree], [0, 1]))
    tags = ["0", "0.2", "0.2.1", "0.2.1", "0.3", "0.2.1.1", "", "1", "0.", "0.2.x", "0.0", "0.99999999999999999999"]
    found = made.rows(np.array([0, 0, 0, 1] + [0] * 8, np.uint32), tags)
    assert found.tolist() == [0, 2, 3, 7] + [-1] * 8


@pytest.mark.parametrize(
    ("name", "row", "value", "said"),
    [
        ("parent", 2, 9, "tree 0: column 'parent', row 2"),
        ("first_child", 0, 7, "tree 0: column"),
        ("child_count", 5, 3, "tree 1: column"),
        ("terminal", 1, 200, "terminal"),
        ("value_sum", 6, np.nan, "tree 1: column 'value_sum', row 2, is not finite"),
        ("text_offsets", 1, 99, "text_offsets"),
        ("text_bytes", 0, 0xFF, "no UTF-8"),
        ("observation_offsets", 0, 1, "observation_offsets"),
        ("answer_offsets", 3, 5, "answer_offsets"),
        ("starts", 1, 3, "tree 0"),
        ("starts", 2, 99, "starts run from 0 to 99"),
        ("text_starts", 1, 99, "starts of texts fall"),
        ("problems", 0, 5, "problems fall at tree 1"),
    ],
)
def test_a_corrupt_column_is_told(name: str, row: int, value: float, said: str) -> None:
    tree, _ = tree_of([Step("ab"), Step("b", children=[Step("c")])])
    columns = {key: column.copy() for key, column in columns_of([tree, tree], [0, 0]).items()}
    columns[name][row] = value
    with pytest.raises(_core.UsageError, match=said.replace("(", r"\(")):
        _core.Trees(columns)


@settings(max_examples=200)
@given(data=st.data())
def test_no_corruption_crashes(data: st.DataObject) -> None:
    """Whatever stands in the columns, they are refused or extracted from."""
    tree, _ = tree_of([Step("ab", children=[right("x"), wrong("y")]), Step("b", children=[Step("c", observation="4")])])
    columns = {name: column.copy() for name, column in columns_of([tree, tree], [0, 0]).items()}
    name = data.draw(st.sampled_from(sorted(columns)))
    column = columns[name]
    column[data.draw(st.integers(0, len(column) - 1))] = data.draw(st.sampled_from([0, 1, 2, 3, 6, 7, 8, 127]))
    if data.draw(st.booleans()):
        columns[name] = column[: data.draw(st.integers(0, len(column)))]
    try:
        made = _core.Trees(columns)
    except _core.UsageError:
        return
    found = made.extract(np.zeros(len(columns["parent"]), np.int8))
    texts(made, "solutions", found["trajectory_row"])


def test_what_is_asked_of_trees_is_checked() -> None:
    tree, _ = tree_of([right("x")])
    columns = columns_of([tree], [0])
    made = _core.Trees(columns)
    with pytest.raises(ValueError, match="read-only"):
        columns["parent"][0] = 5
    with pytest.raises(_core.UsageError, match="row 2 does not exist: give 0 to 1"):
        made.steps(np.array([2]))
    with pytest.raises(_core.UsageError, match="tree 1 does not exist"):
        made.rows(np.array([1], np.uint32), ["0"])
    with pytest.raises(_core.UsageError, match="expected one for each of the 2 rows"):
        made.extract(np.zeros(3, np.int8))
    with pytest.raises(_core.UsageError, match="'visits' is missing"):
        _core.Trees({name: column for name, column in columns.items() if name != "visits"})
    with pytest.raises(_core.UsageError, match="'visits' has another type than uint32"):
        _core.Trees(columns | {"visits": columns["visits"].astype(np.int64)})
