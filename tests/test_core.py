"""The C++ forest: its totals over threads, its selectors, its limits and its misuse. All it does: test_core_model.py."""

from __future__ import annotations

import math
import threading
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstar_fast import _core
from rstar_fast.types import Terminal

# --- driving a forest ---------------------------------------------------------------------------------------------------

Children = list[tuple[float, Terminal]]


def draw_children(random: Random, depth: int) -> Children:
    """Values with ties among them, terminals more likely further down."""
    return [
        (
            random.choice([-1.0, -0.5, 0.25, 0.25, 1.0, random.uniform(-1, 1)]),
            random.choice([Terminal.ANSWER, Terminal.TOO_DEEP]) if random.random() < depth / 5 else Terminal.NO,
        )
        for _ in range(random.randint(1, 5))
    ]


def expand(forest: _core.Forest, ticket: int, children: Children, own_visits: bool = True) -> int:
    values = [value if own_visits or terminal else math.nan for value, terminal in children]
    return int(
        forest.expand(
            np.array([ticket], np.int64),
            np.array([len(children)], np.uint32),
            np.array(values, np.float64),
            np.array(values, np.float32),
            np.array([terminal for _, terminal in children], np.uint8),
        )[0]
    )


def run_forest(seed: int, rollouts: int, own_visits: bool, **rules: float) -> dict[str, np.ndarray]:
    random = Random(seed)
    forest = _core.Forest(own_visits=own_visits, **rules)
    tree = forest.add_tree(rollouts)
    while True:
        tickets, _, _, depths, finished = forest.select(1)
        if not len(tickets):
            break
        expand(forest, int(tickets[0]), draw_children(random, int(depths[0])), own_visits)
    assert finished.tolist() == [tree]
    assert forest.in_flight(tree) == 0
    return forest.columns(tree)


# --- totals -----------------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 10**6), in_flight=st.integers(1, 9), trees=st.integers(1, 5), limit=st.integers(1, 20))
def test_totals_are_conserved_with_many_rollouts_in_flight(seed: int, in_flight: int, trees: int, limit: int) -> None:
    """Leaves come back in any order, some cancelled: every rollout still ends once, and no virtual visit is left."""
    random = Random(seed)
    forest = _core.Forest(in_flight=in_flight)
    numbers = [forest.add_tree(12) for _ in range(trees)]
    out: list[tuple[int, int]] = []
    finished: list[int] = []
    while len(finished) < trees:
        tickets, owners, _, depths, ended = forest.select(limit)
        finished += ended.tolist()
        out += zip(tickets.tolist(), depths.tolist(), strict=True)
        assert len(set(owners.tolist())) <= trees
        random.shuffle(out)
        for _ in range(random.randint(min(1, len(out)), len(out))):
            ticket, depth = out.pop()
            if random.random() < 0.2:
                forest.cancel(ticket)
            elif random.random() < 0.1:
                forest.close(ticket, Terminal.NO_CANDIDATES, -1.0)
            else:
                expand(forest, ticket, draw_children(random, depth), own_visits=False)
    for number in numbers:
        check_totals(forest, number, rollouts=12)


def check_totals(forest: _core.Forest, tree: int, rollouts: int) -> None:
    columns = forest.columns(tree)
    assert forest.in_flight(tree) == 0
    assert forest.rollouts_ended(tree) == rollouts
    assert columns["visits"][0] == rollouts
    assert np.all(np.abs(columns["value_sum"]) <= columns["visits"])  # |Q| <= 1
    for node, (first, count) in enumerate(zip(columns["first_child"], columns["child_count"], strict=True)):
        if count:
            assert columns["visits"][first : first + count].sum() == columns["visits"][node]
            assert np.all(columns["parent"][first : first + count] == node)
    ends = columns["terminal"] != Terminal.NO
    assert columns["visits"][ends].sum() == rollouts


@pytest.mark.parametrize("threads", [1, 2, 4, 7])
def test_threads_conserve_totals(threads: int) -> None:
    """Selecting, expanding, closing and cancelling from many threads at once, each select over several threads itself."""
    forest = _core.Forest(in_flight=5)
    trees = [forest.add_tree(100) for _ in range(40)]
    finished: list[int] = []
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        random = Random(seed)
        try:
            while len(finished) < len(trees):
                tickets, _, _, depths, ended = forest.select(17, threads=1 + seed % 3)
                finished.extend(ended.tolist())
                for ticket, depth in zip(tickets.tolist(), depths.tolist(), strict=True):
                    draw = random.random()
                    if draw < 0.1:
                        forest.cancel(ticket)
                    elif draw < 0.15:
                        forest.close(ticket, Terminal.TOO_MANY_ERRORS, -1.0)
                    else:
                        expand(forest, ticket, draw_children(random, depth), own_visits=False)
        except BaseException as error:  # shown by the main thread
            errors.append(error)
            finished.extend(trees)

    team = [threading.Thread(target=work, args=(seed,)) for seed in range(threads)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    assert not errors
    assert sorted(finished) == trees
    for tree in trees:
        check_totals(forest, tree, rollouts=100)


# --- selection --------------------------------------------------------------------------------------------------------


def model_choice(
    sums: list[float], visits: list[int], flying: list[int], parent: int, c: float, urgency: float, loss: float
) -> int:
    """The formula of selection.h, child by child; the first of equals."""
    log = math.log(parent) if parent else 0.0
    values = []
    for total, count, out in zip(sums, visits, flying, strict=True):
        if count:
            values.append((total - out * loss if out else total) / (count + out) + c * math.sqrt(log / (count + out)))
        elif out:
            values.append((0.0 if math.isinf(urgency) else urgency) - out * loss)
        else:
            values.append(urgency)
    return values.index(max(values))


# Many equal children, children that differ in the last bits only, and any others.
_values = st.one_of(
    st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), st.sampled_from([0.3, 0.3 + 2**-50, 0.3 - 2**-50]), st.floats(-1, 1)
)
_child = st.tuples(
    _values,
    st.one_of(st.integers(0, 3), st.integers(0, 1000), st.integers(0, 2**31)),
    st.one_of(st.just(0), st.integers(0, 4), st.integers(0, 2**14)),
)


@given(
    children=st.lists(_child, min_size=1, max_size=80),
    copies=st.integers(1, 9),
    rollouts=st.integers(1, 6),
    parent=st.one_of(st.integers(0, 10**4), st.integers(0, 2**40)),
    c=st.sampled_from([0.0, 0.7, 2.0, 1e6]),
    urgency=st.sampled_from([0.0, -1.0, 10.0, math.inf, -math.inf]),
    loss=st.sampled_from([0.0, 1.0, 0.5]),
)
def test_every_selector_is_the_formula(
    children: list[tuple[float, int, int]], copies: int, rollouts: int, parent: int, c: float, urgency: float, loss: float
) -> None:
    children = (children * copies)[:90]
    sums = [value * count for value, count, _ in children]
    visits, flying = [count for _, count, _ in children], [out for *_, out in children]
    out = flying.copy()
    expected = []
    for rollout in range(rollouts):
        expected.append(model_choice(sums, visits, out, parent + rollout, c, urgency, loss))
        out[expected[-1]] += 1
    for selector in _core.SELECTORS:
        chosen = _core.select_child(
            selector,
            np.array(sums, np.float64),
            np.array(visits, np.uint32),
            np.array(flying, np.uint16),
            parent,
            rollouts,
            c=c,
            first_play_urgency=urgency,
            virtual_loss=loss,
        )
        assert chosen.tolist() == expected, selector


def test_selectors_take_values_beyond_single_precision() -> None:
    for selector in _core.SELECTORS:
        for sums, best in ([1e300, 1e308, 1e305], 1), ([-1e300, -1e290, -1e308], 1), ([math.inf, 1.0, 2.0], 0):
            chosen = _core.select_child(
                selector, np.array(sums), np.ones(3, np.uint32), np.zeros(3, np.uint16), 5, c=1.0, first_play_urgency=0.0
            )
            assert chosen.tolist() == [best], selector
    assert _core.SELECTORS[-1] == "plain"
    with pytest.raises(ValueError, match="SELECTORS"):
        _core.select_child("none", np.ones(1), np.ones(1, np.uint32), np.ones(1, np.uint16), 1)


# --- leaves that are valued, and limits --------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 10**6),
    in_flight=st.sampled_from([1, 2, 5, 40]),
    simulations=st.integers(1, 80),
    limit=st.integers(1, 50),
)
def test_a_valued_leaf_ends_its_rollout_and_stays_a_leaf(seed: int, in_flight: int, simulations: int, limit: int) -> None:
    """Classical search: a leaf is valued on its first visit and expanded on its second."""
    random = Random(seed)
    forest = _core.Forest(in_flight=in_flight, first_play_urgency=math.inf)
    tree = forest.add_tree(simulations)
    valued: dict[int, float] = {}
    while True:
        tickets, _, nodes, depths, finished = forest.select(limit)
        if not len(tickets):
            break
        assert len(set(nodes.tolist())) == len(nodes)  # no leaf is out twice
        ends = [at for at, node in enumerate(nodes.tolist()) if node not in valued]
        values = [random.uniform(-1, 1) for _ in ends]
        valued.update(zip(nodes[ends].tolist(), values, strict=True))
        forest.backup(tickets[ends], np.array(values))
        for at in sorted(set(range(len(tickets))) - set(ends)):
            terminal = Terminal.NO if depths[at] < 4 else Terminal.ANSWER
            expand(forest, int(tickets[at]), [(0.5, terminal)] * random.randint(1, 4), own_visits=False)
    assert finished.tolist() == [tree]
    assert forest.in_flight(tree) == 0 and forest.rollouts_ended(tree) == simulations
    columns = forest.columns(tree)
    assert columns["visits"][0] == simulations
    ends_at = [valued.get(node) for node in columns["node"].tolist()]
    for node, (first, count) in enumerate(zip(columns["first_child"], columns["child_count"], strict=True)):
        below = columns["visits"][first : first + count].sum() if count else 0
        own = columns["visits"][node] - below
        assert own == (ends_at[node] is not None) or columns["terminal"][node]
        if columns["visits"][node] == 1 and ends_at[node] is not None:
            assert columns["value"][node] == columns["value_sum"][node] == ends_at[node]


def test_the_forest_limits_the_leaves_that_are_out() -> None:
    forest = _core.Forest(in_flight=3, most_out=5, first_play_urgency=math.inf)
    for _ in range(4):
        forest.add_tree(10)
    first, *_ = forest.select(100)
    assert len(first) == 4  # one root each: the other rollouts wait for it
    assert len(forest.select(100)[0]) == 0
    forest.expand(
        first, np.full(4, 3, np.uint32), np.full(12, math.nan), np.full(12, math.nan, np.float32), np.zeros(12, np.uint8)
    )
    second, *_ = forest.select(100)
    assert len(second) == 5
    assert len(forest.select(100)[0]) == 0
    forest.cancel(int(second[0]))
    forest.backup(second[1:3], np.zeros(2))
    forest.close(int(second[3]), Terminal.TOO_DEEP, -1.0)
    third, *_ = forest.select(100)
    assert len(third) == 4


def test_no_tree_starves_and_a_lonely_tree_fills_the_batch() -> None:
    forest = _core.Forest(in_flight=64, first_play_urgency=math.inf)
    trees = [forest.add_tree(100) for _ in range(30)]
    served = np.zeros(30, int)
    for _ in range(30):
        tickets, owners, *_ = forest.select(7)
        served += np.bincount(owners, minlength=30)
        count = len(tickets)
        forest.expand(
            tickets,
            np.full(count, 2, np.uint32),
            np.full(2 * count, math.nan),
            np.full(2 * count, math.nan, np.float32),
            np.zeros(2 * count, np.uint8),
        )
    assert served.min() >= served.max() - 1 and served.sum() == 210
    alone = _core.Forest(in_flight=64, first_play_urgency=math.inf)
    alone.add_tree(1000)
    (root,), *_ = alone.select(64)
    alone.expand(
        np.array([root]),
        np.array([64], np.uint32),
        np.full(64, math.nan),
        np.full(64, math.nan, np.float32),
        np.zeros(64, np.uint8),
    )
    assert len(alone.select(64)[0]) == 64
    assert trees == list(range(30))


def test_no_tree_starves_when_a_thread_comes_no_more() -> None:
    """Trees are divided among the threads that select; those of a thread that is gone are served all the same."""
    forest = _core.Forest()
    for _ in range(100):
        forest.add_tree(10**6)

    def serve(limit: int) -> np.ndarray:
        tickets, owners, *_ = forest.select(limit)
        for ticket in tickets.tolist():
            forest.cancel(ticket)
        return np.bincount(owners, minlength=100)

    for _ in range(3):
        thread = threading.Thread(target=serve, args=(7,))
        thread.start()
        thread.join()
    served = sum(serve(7) for _ in range(2000))
    assert served.sum() == 14_000 and served.min() >= 140 - 8 and served.max() <= 140 + 8


def test_no_tree_starves_when_trees_are_added_later() -> None:
    forest = _core.Forest()
    forest.add_tree(10**6)
    forest.add_tree(10**6)
    out, *_ = forest.select(2)
    for _ in range(2):
        thread = threading.Thread(target=lambda: [forest.select(1) for _ in range(5000)])
        thread.start()
        thread.join()
    for _ in range(97):
        forest.add_tree(10**6)
    forest.cancel(int(out[0]))
    forest.cancel(int(out[1]))
    served = np.zeros(99, int)
    for _ in range(2000):
        tickets, owners, *_ = forest.select(7)
        for ticket in tickets.tolist():
            forest.cancel(ticket)
        served += np.bincount(owners, minlength=99)
    assert served.sum() == 14_000 and served.min() >= 120


# --- shape and misuse --------------------------------------------------------------------------------------------------


def test_a_node_has_16_hot_bytes_and_24_with_its_links() -> None:
    statistics, links, _ = _core.NODE_BYTES
    assert statistics <= 16 and statistics + links <= 24


def test_siblings_are_contiguous_and_columns_begin_with_the_root() -> None:
    columns = run_forest(seed=1, rollouts=20, own_visits=False)
    for first, count in zip(columns["first_child"], columns["child_count"], strict=True):
        nodes = columns["node"][first : first + count] if count else columns["node"][:0]
        assert np.all(np.diff(nodes.astype(np.int64)) == 1)
    assert columns["parent"][0] == -1
    assert np.all(columns["parent"][1:] < np.arange(1, len(columns["parent"])))


def test_a_removed_tree_gives_its_memory_to_the_next() -> None:
    forest = _core.Forest()
    indices = set()
    for _ in range(50):
        tree = forest.add_tree(1)
        (ticket,), *_ = forest.select(1)
        expand(forest, int(ticket), [(1.0, Terminal.ANSWER)])
        *_, finished = forest.select(1)
        assert finished.tolist() == [tree]
        indices |= set(forest.columns(tree)["node"].tolist())
        forest.remove(tree)
    assert len(indices) == 2  # a root and its child, fifty times


def test_columns_are_views_of_memory_of_their_own() -> None:
    forest = _core.Forest()
    tree = forest.add_tree(1)
    columns = forest.columns(tree)
    assert not columns["visits"].flags.owndata and columns["visits"].base is not None
    forest.remove(tree)
    assert columns["visits"].tolist() == [0]


def test_each_ticket_serves_once() -> None:
    forest = _core.Forest()
    forest.add_tree(2)
    (ticket,), *_ = forest.select(1)
    forest.cancel(int(ticket))
    with pytest.raises(_core.UsageError, match="used up"):
        forest.cancel(int(ticket))
    with pytest.raises(_core.UsageError, match="never handed out"):
        forest.close(10**6, Terminal.TOO_DEEP, -1.0)
    (again,), *_ = forest.select(1)
    assert again != ticket
    with pytest.raises(_core.UsageError, match="used up"):
        expand(forest, int(ticket), [(1.0, Terminal.ANSWER)])
    expand(forest, int(again), [(1.0, Terminal.ANSWER)])


def test_a_wrong_ticket_in_a_batch_changes_nothing() -> None:
    forest = _core.Forest()
    trees = [forest.add_tree(1), forest.add_tree(1)]
    tickets, *_ = forest.select(2)
    with pytest.raises(_core.UsageError):
        forest.expand(
            np.array([tickets[0], 10**7], np.int64),
            np.array([1, 1], np.uint32),
            np.zeros(2),
            np.zeros(2, np.float32),
            np.full(2, Terminal.ANSWER, np.uint8),
        )
    for ticket in tickets.tolist():
        expand(forest, ticket, [(1.0, Terminal.ANSWER)])
    *_, finished = forest.select(2)
    assert sorted(finished.tolist()) == trees


@pytest.mark.parametrize(
    ("counts", "values", "sentence"),
    [([0], [], "0 children"), ([2], [1.0], "add up to 2"), ([1, 1], [1.0, 1.0], "one entry for each ticket")],
)
def test_wrong_counts_are_said(counts: list[int], values: list[float], sentence: str) -> None:
    forest = _core.Forest()
    forest.add_tree(1)
    tickets, *_ = forest.select(1)
    with pytest.raises(_core.UsageError, match=sentence):
        forest.expand(
            tickets,
            np.array(counts, np.uint32),
            np.array(values),
            np.array(values, np.float32),
            np.zeros(len(values), np.uint8),
        )


def test_wrong_notes_are_said_and_change_nothing() -> None:
    forest = _core.Forest(notes=True)
    forest.add_tree(1)
    tickets, *_ = forest.select(1)
    assert forest.solutions(tickets) == [""]

    def give(*notes: object) -> None:
        forest.expand(
            tickets,
            np.array([2], np.uint32),
            np.zeros(2),
            np.zeros(2, np.float32),
            np.full(2, Terminal.ANSWER, np.uint8),
            *notes,
        )

    one = np.ones(2, np.uint32)
    for notes, sentence in (
        ((), "this forest keeps texts: give notes for each child"),
        (((["a"], ["b"]),), "give a tuple of the four"),
        (((["a", "b"], ["", ""], [""], one),), "one entry for each child"),
        (((["a", b"b"], ["", ""], ["", ""], one),), "a text is a bytes: give a str"),
    ):
        with pytest.raises(_core.UsageError, match=sentence):
            give(*notes)
    give((["a", "\ud800"], ["", ""], ["x", ""], one))
    with pytest.raises(_core.UsageError, match="used up"):
        forest.solutions(tickets)
    with pytest.raises(_core.UsageError, match="never handed out"):
        forest.solutions(np.array([-3]))
    plain = _core.Forest()
    plain.add_tree(1)
    tickets, *_ = plain.select(1)
    with pytest.raises(_core.UsageError, match="keeps no texts"):
        plain.solutions(tickets)


def test_texts_may_be_long_and_their_memory_is_used_again() -> None:
    forest = _core.Forest(notes=True)
    long = "ä" * (3 << 20)

    def give(ticket: int, text: str) -> None:
        one = np.ones(1, np.uint32)
        notes = ([text], ["out"], [""], one)
        forest.expand(np.array([ticket]), one, np.zeros(1), np.zeros(1, np.float32), np.zeros(1, np.uint8), notes)

    for _ in range(30):  # 180 MB if none were given back
        tree = forest.add_tree(1)
        (ticket,), *_ = forest.select(1)
        give(ticket, long)
        (ticket,), *_ = forest.select(1)
        assert forest.solutions(np.array([ticket])) == [long]
        columns = forest.columns(tree)
        assert columns["text_bytes"].tobytes().decode() == long and columns["observation_offsets"].tolist() == [0, 0, 3]
        forest.cancel(int(ticket))
        forest.remove(tree)
    tree = forest.add_tree(1)
    (ticket,), *_ = forest.select(1)
    with pytest.raises(ValueError, match="64 MiB is the most there is room for"):
        give(ticket, "a" * (65 << 20))
    forest.cancel(int(ticket))  # it is out as before


def test_unknown_trees_and_terminals_are_said() -> None:
    forest = _core.Forest()
    with pytest.raises(_core.UsageError, match="no tree 3"):
        forest.columns(3)
    forest.add_tree(1)
    (ticket,), *_ = forest.select(1)
    with pytest.raises(_core.UsageError, match="terminal code 9"):
        forest.close(int(ticket), 9, -1.0)
    with pytest.raises(_core.UsageError, match="goes on: give a terminal's code"):
        forest.close(int(ticket), 0, -1.0)
    forest.close(int(ticket), Terminal.TOO_DEEP, -1.0)
    with pytest.raises(_core.UsageError, match="one rollout at a time, give 1"):
        _core.Forest(reference=True, in_flight=2)


# --- leaves that the caller chooses, rollouts that are stopped and extended ----------------------------------------------


def claim(forest: _core.Forest, tree: int, *paths: list[int]) -> np.ndarray:
    nodes = [node for path in paths for node in path]
    arrays = [tree] * len(paths), [len(path) for path in paths], nodes
    return forest.claim(*(np.array(values, np.uint32) for values in arrays))


def test_a_claimed_leaf_is_one_that_was_selected() -> None:
    forest = _core.Forest(in_flight=3)
    tree = forest.add_tree(9)
    root = forest.root(tree)
    (ticket,) = claim(forest, tree, [root])
    assert forest.in_flight(tree) == 1
    first = expand(forest, int(ticket), [(0.5, Terminal.NO)] * 3)
    tickets = claim(forest, tree, [root, first + 2])
    selected, _, nodes, *_ = forest.select(9)
    assert nodes.tolist() == [first, first + 1]
    assert forest.in_flight(tree) == 6  # the first rollout, selected again, and two more, on two nodes each
    for out in [*tickets.tolist(), *selected.tolist()]:
        forest.cancel(out)
    assert forest.in_flight(tree) == forest.rollouts_ended(tree) == 0


def test_what_cannot_be_claimed_is_said_and_changes_nothing() -> None:
    forest = _core.Forest(in_flight=3, most_out=3)
    tree = forest.add_tree(3)
    root = forest.root(tree)
    (ticket,) = claim(forest, tree, [root])
    first = expand(forest, int(ticket), [(0.5, Terminal.NO), (0.5, Terminal.NO), (1.0, Terminal.ANSWER)])
    forest.leave(np.array([ticket]))
    good, last = [root, first], [root, first + 1]
    for paths, sentence in (
        ([good, []], "is empty: begin with the root"),
        ([good, [first]], f"begins with node {first}: begin with the root, {root}"),
        ([good, [root, first + 3]], f"goes from node {root} to node {first + 3}, which is no child of it"),
        ([good, [root, first, first]], "which is no child of it"),
        ([good, [root]], "has children: claim a leaf that nobody holds"),
        ([good, [root, first + 2]], "is terminal: claim a leaf that nobody holds"),
        ([good, good], "is held by another rollout: claim a leaf that nobody holds"),
        ([good, last, good, last], "more leaves would be out than the 3 that may be"),
    ):
        with pytest.raises(_core.UsageError, match=sentence):
            claim(forest, tree, *paths)
        assert forest.in_flight(tree) == 0
    with pytest.raises(_core.UsageError, match="there are 1 trees, 1 lengths that add up to 2, and 1 nodes"):
        forest.claim(*(np.array(values, np.uint32) for values in ([tree], [2], [root])))
    with pytest.raises(_core.UsageError, match="no tree 7"):
        claim(forest, 7, good)
    with pytest.raises(_core.UsageError, match="does not wait where its leaf was"):
        forest.leave(np.array([ticket]))
    assert len(claim(forest, tree, good, last)) == 2  # all is as it was
    with pytest.raises(_core.UsageError, match="chooses its leaves itself"):
        claim(_core.Forest(reference=True), 0, [0])


def test_claims_start_no_more_rollouts_than_the_tree_has_and_slots() -> None:
    for in_flight, rollouts, sentence in (1, 9, "that may be in flight are, 1"), (9, 1, "has no rollout left: extend it"):
        forest = _core.Forest(in_flight=in_flight)
        tree = forest.add_tree(rollouts)
        root = forest.root(tree)
        (ticket,) = claim(forest, tree, [root])
        first = expand(forest, int(ticket), [(0.5, Terminal.NO)] * 2)
        with pytest.raises(_core.UsageError, match=sentence):
            claim(forest, tree, [root, first])
        forest.leave(np.array([ticket]))
        assert len(claim(forest, tree, [root, first])) == 1


def test_a_stopped_tree_ends_without_a_visit_and_an_extended_one_goes_on() -> None:
    forest = _core.Forest(in_flight=2)
    tree = forest.add_tree(10)
    (ticket,), *_ = forest.select(2)
    expand(forest, int(ticket), [(0.5, Terminal.NO)] * 2)
    tickets, *_ = forest.select(2)
    forest.stop(tree)
    expand(forest, int(tickets[0]), [(1.0, Terminal.ANSWER)])
    left, *_, finished = forest.select(2)
    assert not len(left) and not len(finished)  # a leaf is out
    forest.cancel(int(tickets[1]))
    assert forest.select(2)[-1].tolist() == [tree]
    assert forest.in_flight(tree) == forest.rollouts_ended(tree) == 0 and forest.columns(tree)["visits"][0] == 0
    forest.extend(tree, 2)
    (ticket,), *_ = forest.select(2)  # the first ends at the answer
    expand(forest, int(ticket), [(1.0, Terminal.ANSWER)])
    assert forest.select(2)[-1].tolist() == [tree] and forest.rollouts_ended(tree) == 2
    with pytest.raises(_core.UsageError, match="more than 2\\^32 - 1 rollouts"):
        forest.extend(tree, 2**32 - 1)
    forest.remove(tree)
