"""The records: what they refuse, what they default to, and trees as their readers see them."""

from __future__ import annotations

import dataclasses
import enum
import inspect
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstar_fast import types
from rstar_fast.types import (
    TREE_COLUMNS,
    TREE_TEXTS,
    AnswerKey,
    Candidate,
    CodeError,
    ErrorKind,
    Failure,
    FailureKind,
    InvalidInput,
    Node,
    Partial,
    Policy,
    Problem,
    RstarError,
    Scorer,
    Terminal,
    Tree,
    Verdict,
    VerdictReason,
)

any_text = st.text(st.characters() | st.sampled_from("\ud800\udfff\x00\n"), max_size=8)


# --- problems, keys, small records ---


@given(question=any_text.filter(str.strip))
def test_the_id_defaults_to_a_hash_of_the_question(question: str) -> None:
    problem = Problem(question)
    assert problem.id == Problem(question).id == Problem(question, "").id == Problem(question, None).id
    assert len(problem.id) == 16 and set(problem.id) <= set("0123456789abcdef")
    assert problem.id != Problem(f"{question}.").id
    assert Problem(question, "mine").id == "mine"


@pytest.mark.parametrize("question", ["", "  \n", None, 3, b"q"])
def test_a_problem_needs_a_question(question: Any) -> None:
    with pytest.raises(InvalidInput, match="needs a question"):
        Problem(question)


@pytest.mark.parametrize("given_id", [3, 0, False, b"x", ["x"]])
def test_an_id_is_text(given_id: Any) -> None:
    with pytest.raises(InvalidInput, match="id must be a string"):
        Problem("q", given_id)


def test_a_key_is_a_mapping_that_copies() -> None:
    answers = {"a": "secret", "b": "2"}
    key = AnswerKey(answers)
    answers["a"] = "3"
    assert dict(key) == {"a": "secret", "b": "2"} and len(key) == 2 and "c" not in key
    with pytest.raises(KeyError):
        key["c"]
    with pytest.raises(TypeError):
        key["a"] = "3"  # type: ignore[index]
    assert "secret" not in repr(key)  # does not show in a traceback or a log


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"a": ""}, "'a' is ''"),
        ({"a": 5}, "'a' is 5"),
        ({"a": None}, "'a' is None"),
        ({3: "5"}, "problem id 3"),
        (["5"], "made from list: give a mapping"),
        (None, "made from NoneType"),
    ],
)
def test_what_is_no_key(answers: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        AnswerKey(answers)


@pytest.mark.parametrize(
    "record", [record for _, record in inspect.getmembers(types, dataclasses.is_dataclass)], ids=lambda record: record.__name__
)
def test_records_are_frozen(record: type) -> None:
    assert record.__dataclass_params__.frozen  # type: ignore[attr-defined]


@pytest.mark.parametrize("record", [Problem, Partial, Candidate], ids=lambda record: record.__name__)
def test_what_search_hands_on_has_no_place_for_an_answer(record: type) -> None:
    assert not [field.name for field in dataclasses.fields(record) if "answer" in field.name or "key" in field.name]
    assert hasattr(record, "__slots__") and "__dict__" not in dir(record)  # nor can one be put there


def test_small_records_say_what_they_are() -> None:
    assert Candidate("a", "<end_of_step>").step == "a<end_of_step>"
    assert Candidate("a").step == "a"
    assert str(CodeError(ErrorKind.RAISED, "ValueError", "no")) == "ValueError: no"
    assert str(Failure(FailureKind.NO_ANSWER, "none")) == "no answer: none"
    assert Verdict(True, VerdictReason.SAME_TEXT) and not Verdict(False, VerdictReason.DIFFERENT)


def test_every_error_is_an_rstar_error() -> None:
    errors = [error for _, error in inspect.getmembers(types, inspect.isclass) if issubclass(error, Exception)]
    assert len(errors) >= 5 and all(issubclass(error, RstarError) for error in errors)
    assert issubclass(InvalidInput, ValueError)


def test_stored_numbers_of_terminals_never_change() -> None:
    assert {kind.name: int(kind) for kind in Terminal} == {
        "NO": 0,
        "ANSWER": 1,
        "TOO_MANY_ERRORS": 2,
        "TOO_DEEP": 3,
        "NO_CANDIDATES": 4,
        "EXHAUSTED": 5,
    }
    assert [kind.name for kind in Terminal if kind.failed] == ["TOO_MANY_ERRORS", "TOO_DEEP", "NO_CANDIDATES"]


def test_enums_have_no_two_names_for_one_value() -> None:
    for _, kind in inspect.getmembers(types, lambda member: inspect.isclass(member) and issubclass(member, enum.Enum)):
        assert len(kind.__members__) == len(set(kind))


def test_the_protocols_are_told_at_run_time() -> None:
    class Both:
        async def propose(self, partials: Any, n: int) -> Any: ...
        async def score(self, partials: Any) -> Any: ...

    assert isinstance(Both(), Policy) and isinstance(Both(), Scorer)
    assert not isinstance(object(), Policy)


# --- trees ---


def make_columns(parents: list[int]) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """Columns of a tree given by its parents, breadth-first, with content that follows from the index."""
    count = len(parents)
    depth = [0] * count
    for node in range(1, count):
        depth[node] = depth[parents[node]] + 1
    children = [[node for node in range(1, count) if parents[node] == parent] for parent in range(count)]
    values = {
        "parent": [-1, *parents[1:]],
        "first_child": [group[0] if group else -1 for group in children],
        "child_count": [len(group) for group in children],
        "depth": depth,
        "visits": range(count),
        "value_sum": [0.5 * node for node in range(count)],
        "value": [0.25] * count,
        "score": [float("nan"), *[0.125] * (count - 1)],
        "terminal": [0] * count,
        "proposals": [1, *range(2, count + 1)],
    }
    columns = {name: np.array(list(values[name]), dtype) for name, dtype in TREE_COLUMNS.items()}
    texts = {
        "text": ["", *[f"step {node} \ud800é" for node in range(1, count)]],
        "observation": [f"out {node}" for node in range(count)],
        "answer": ["" if node % 2 else str(node) for node in range(count)],
    }
    return columns, texts


def make_tree(parents: list[int]) -> Tree:
    columns, texts = make_columns(parents)
    return Tree.from_texts(columns, texts)


@st.composite
def parent_lists(draw: st.DrawFn) -> list[int]:
    """Parents in breadth-first order: never decreasing, each before its child."""
    random = Random(draw(st.integers(0, 10**6)))
    parents = [-1]
    for node in range(1, draw(st.integers(1, 30))):
        parents.append(random.randint(max(0, parents[-1]), node - 1))
    return parents


@given(parents=parent_lists())
def test_nodes_tags_and_relatives_agree(parents: list[int]) -> None:
    tree = make_tree(parents)
    nodes = list(tree)
    assert len(tree) == len(nodes) == len(parents)
    assert nodes[0] == tree.root == tree["0"] and tree.root.parent is None and tree.root.path == () and tree.root.solution == ""
    assert len({node.tag for node in nodes}) == len(nodes)
    for index, node in enumerate(nodes):
        assert (node.index, node.depth) == (index, node.tag.count("."))
        assert tree[node.tag] == node
        assert [child.parent for child in node.children] == [node] * len(node.children)
        assert [child.tag for child in node.children] == [f"{node.tag}.{i}" for i in range(1, len(node.children) + 1)]
        if node.parent is not None:
            assert node.parent.index == parents[index]
            assert node.path == (*node.parent.path, node)
            assert node.solution == node.parent.solution + node.text
    assert sorted(child.index for node in nodes for child in node.children) == list(range(1, len(nodes)))


def test_a_node_reads_its_row() -> None:
    node = list(make_tree([-1, 0, 0]))[2]
    assert (node.text, node.observation, node.answer) == ("step 2 \ud800é", "out 2", "2")
    assert (node.visits, node.q, node.value, node.score, node.terminal) == (2, 0.5, 0.25, 0.125, Terminal.NO)
    assert {type(value) for value in (node.visits, node.depth)} == {int}
    root, first, _ = make_tree([-1, 0, 0])
    assert (root.q, root.visits, root.score) == (0.0, 0, None)
    assert first.answer is None


def test_a_chain_of_thousands_of_steps_has_tags() -> None:
    tree = make_tree([-1, *range(3000)])
    last = Node(tree, 3000)
    assert last.tag == ".".join(["0", *["1"] * 3000])
    assert tree[last.tag] == last and len(last.path) == 3000


@pytest.mark.parametrize("tag", ["", "1", "0.0", "0.3", "0.-1", "0.1.1", "0.x", "0..1", "x", "0.1."])
def test_a_tag_that_names_no_node(tag: str) -> None:
    with pytest.raises(KeyError):
        make_tree([-1, 0, 0])[tag]


@pytest.mark.parametrize("tag", [0, None, slice(1)])
def test_a_tag_is_text(tag: Any) -> None:
    with pytest.raises(TypeError, match="by its tag"):
        make_tree([-1, 0])[tag]


def test_a_tree_cannot_be_changed() -> None:
    tree = make_tree([-1, 0])
    for column in tree.columns().values():
        with pytest.raises(ValueError, match="read-only"):
            column[:] = 0
    tree.columns().clear()
    assert len(tree.columns()) == len(TREE_COLUMNS) + 2 * len(TREE_TEXTS)
    with pytest.raises(dataclasses.FrozenInstanceError):
        tree.root.index = 1  # type: ignore[misc]


def test_columns_are_not_copied() -> None:
    columns = make_tree([-1, 0]).columns()
    assert all(Tree(columns).columns()[name] is column for name, column in columns.items())


@pytest.mark.parametrize("name", [*TREE_COLUMNS, *(f"{text}_{part}" for text in TREE_TEXTS for part in ("bytes", "offsets"))])
def test_each_column_is_checked(name: str) -> None:
    columns = make_tree([-1, 0, 0]).columns()
    good = columns[name]
    with pytest.raises(InvalidInput, match=f"{name}|'parent'"):
        Tree({other: column for other, column in columns.items() if other != name})
    for bad in (good.astype(np.float16), good[:-1], np.append(good, good[-1:]), good[None], good.tolist(), None):
        with pytest.raises(InvalidInput):
            Tree({**columns, name: bad})  # type: ignore[dict-item]


@pytest.mark.parametrize("offsets", [[1, 2, 3], [0, 3, 2], [0, 2, 1], [0, -1, 2], [0, 1, 1]])
def test_texts_fill_their_bytes_in_order(offsets: list[int]) -> None:
    columns, texts = make_columns([-1, 0])
    packed = Tree.from_texts(columns, {**texts, "answer": ["a", "b"]}).columns()
    with pytest.raises(
        InvalidInput, match=r"tree column 'answer_offsets', row [0-2], is -?\d: expected .*; the columns are corrupt"
    ):
        Tree({**packed, "answer_offsets": np.array(offsets, np.int64)})


@given(parents=st.lists(st.integers(0, 30), max_size=30), data=st.data())
def test_a_corrupt_number_is_found_and_its_row_named(parents: list[int], data: st.DataObject) -> None:
    above = sorted(parent % row for row, parent in enumerate(parents, 1))
    columns = make_tree([-1, *(min(parent, row) for row, parent in enumerate(above))]).columns()
    name = data.draw(st.sampled_from(["parent", "first_child", "child_count", "depth", "terminal"]))
    limits = np.iinfo(TREE_COLUMNS[name])
    near = st.integers(-2, len(parents) + 2).filter(lambda value: limits.min <= value <= limits.max)
    bad = data.draw(near | st.integers(int(limits.min), int(limits.max)))
    row = data.draw(st.integers(0, len(parents)))
    corrupt = columns[name].copy()
    corrupt[row] = bad
    if bad == columns[name][row] or (name == "terminal" and bad < 6):
        Tree({**columns, name: corrupt})
    else:
        with pytest.raises(InvalidInput, match=r"^tree column '\w+', row \d+, is -?\d+: expected .+; the columns are corrupt$"):
            Tree({**columns, name: corrupt})


def test_corrupt_columns_say_what_was_expected() -> None:
    columns, texts = make_columns([-1, 0, 0, 1])
    packed = Tree.from_texts(columns, texts).columns()
    for name, row, bad, said in (
        ("parent", 0, 0, "'parent', row 0, is 0: expected -1, as the root has none"),
        ("parent", 3, 2, "'parent', row 3, is 2: expected 1, among whose children this row is"),
        ("first_child", 2, 3, "'first_child', row 2, is 3: expected -1, as the node has no children"),
        (
            "first_child",
            0,
            2**31 - 1,
            "'first_child', row 0, is 2147483647: expected a later row, with room for 2 children before row 4",
        ),
        ("child_count", 1, -7, "'child_count', row 1, is -7: expected 0 to 3"),
        ("depth", 3, 1, "'depth', row 3, is 1: expected one more than its parent's, 2"),
        ("terminal", 2, 9, "'terminal', row 2, is 9: expected 0 to 5"),
    ):
        corrupt = packed[name].copy()
        corrupt[row] = bad
        with pytest.raises(InvalidInput, match=said):
            Tree({**packed, name: corrupt})
    childless = {**packed, "first_child": np.array([1, -1, -1, -1], np.int32), "child_count": np.array([2, 0, 0, 0], np.int32)}
    with pytest.raises(InvalidInput, match="'parent', row 3, is 1: expected a row among whose children this one is"):
        Tree(childless)
    with pytest.raises(InvalidInput, match="'parent', row 3, is 3: expected the number of an earlier row"):
        Tree({**childless, "parent": np.array([-1, 0, 0, 3], np.int32)})


@given(
    st.lists(
        st.binary(max_size=5) | st.text(max_size=3).map(lambda text: text.encode("utf-8", "surrogatepass")),
        min_size=1,
        max_size=4,
    )
)
def test_bytes_that_are_no_text_are_found(pieces: list[bytes]) -> None:
    columns, texts = make_columns([-1, *[0] * (len(pieces) - 1)])
    packed = Tree.from_texts(columns, texts).columns()
    packed["observation_bytes"] = np.frombuffer(b"".join(pieces), np.uint8)
    packed["observation_offsets"] = np.cumsum([0, *map(len, pieces)], dtype=np.int64)

    def is_text(piece: bytes) -> bool:
        try:
            return isinstance(piece.decode("utf-8", "surrogatepass"), str)
        except UnicodeDecodeError:
            return False

    wrong = [row for row, piece in enumerate(pieces) if not is_text(piece)]
    if not wrong:
        assert [node.observation.encode("utf-8", "surrogatepass") for node in Tree(packed)] == pieces
    else:
        with pytest.raises(InvalidInput, match=f"tree column 'observation_bytes', the text of row {wrong[0]}, is no UTF-8"):
            Tree(packed)


def test_a_tree_without_nodes_is_none() -> None:
    with pytest.raises(InvalidInput, match="at least the root"):
        Tree({"parent": np.array([], np.int32)})
    with pytest.raises(InvalidInput, match="at least the root"):
        Tree({})
