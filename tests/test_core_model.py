"""The C++ forest against a plain Python model of all its operations, bit for bit: many rollouts in flight, batches that walk
down together, leaves that are expanded, valued, closed and cancelled in any order."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rstar_fast import _core
from rstar_fast.types import Terminal

RUN = 16  # trees that a select looks at in one go


@dataclass(eq=False)
class Node:
    parent: Node | None = None
    terminal: Terminal = Terminal.NO
    terminal_value: float = 0.0
    score: float = math.nan
    visits: int = 0
    value_sum: float = 0.0
    first_value: float = 0.0
    in_flight: int = 0
    claimed: bool = False
    children: list[Node] = field(default_factory=list)

    def visit(self, value: float) -> None:
        if self.visits == 0:
            self.first_value = value
        self.visits += 1
        self.value_sum += value

    @property
    def path(self) -> list[Node]:
        return [self] if self.parent is None else [*self.parent.path, self]


@dataclass(eq=False)
class Rollout:
    """A slot. Free: no node. Out: its leaf is handed out. Else it waits to be walked on."""

    tree: ModelTree
    node: Node | None = None
    out: bool = False


@dataclass(eq=False)
class ModelTree:
    target: int
    root: Node = field(default_factory=Node)
    slots: list[Rollout] = field(default_factory=list)
    started: int = 0
    ended: int = 0
    finished: bool = False
    stopped: bool = False


@dataclass
class Model:
    c: float
    urgency: float
    loss: float
    in_flight: int
    own_visits: bool
    trees: list[ModelTree] = field(default_factory=list)
    cursor: int = 0

    def add_tree(self, rollouts: int) -> None:
        tree = ModelTree(rollouts)
        tree.slots = [Rollout(tree) for _ in range(self.in_flight)]
        self.trees.append(tree)

    # --- choosing a child, with `taken` choices before this one seen as virtual visits ---

    def choose(self, node: Node, parent_visits: int, taken: list[int]) -> int:
        log = math.log(parent_visits) if parent_visits else 0.0
        values = [self.uct(child, child.in_flight + extra, log) for child, extra in zip(node.children, taken, strict=True)]
        return values.index(max(values))

    def uct(self, child: Node, in_flight: int, log: float) -> float:
        if child.visits == 0:
            if in_flight == 0:
                return self.urgency
            return (0.0 if math.isinf(self.urgency) else self.urgency) - in_flight * self.loss
        n = child.visits + in_flight
        q = (child.value_sum - in_flight * self.loss if in_flight else child.value_sum) / n
        return q + self.c * math.sqrt(log / n)

    # --- walking ---

    def walk(self, slot: Rollout) -> str:
        while True:
            node = slot.node
            assert node is not None
            if node.terminal is not Terminal.NO:
                for above in node.path:
                    above.visit(node.terminal_value)
                    above.in_flight -= 1
                return "ended"
            if node.children:
                best = self.choose(node, node.visits + node.in_flight - 1, [0] * len(node.children))
                slot.node = node.children[best]
                slot.node.in_flight += 1
            elif node.claimed:
                return "wait"
            else:
                node.claimed = True
                return "leaf"

    def walk_together(self, slots: list[Rollout]) -> list[tuple[Rollout, str]]:
        """Where each stops, in the order they come to stand in: those that take one way side by side."""
        if len(slots) == 1:
            return [(slots[0], self.walk(slots[0]))]
        stops: dict[int, str] = {}
        order, groups = slots, [(0, len(slots))]
        while groups:
            chosen = {begin: self.choose_together(order[begin:end]) for begin, end in groups}
            below = []
            for begin, end in groups:
                group, choices = order[begin:end], chosen[begin]
                if not choices:
                    stops.update({id(slot): self.walk(slot) for slot in group})
                    continue
                at = begin
                for number, child in enumerate(group[0].node.children):
                    came = [slot for slot, choice in zip(group, choices, strict=True) if choice == number]
                    child.in_flight += len(came)
                    if came:
                        order[at : at + len(came)] = came
                        below.append((at, at + len(came)))
                        at += len(came)
                for slot, choice in zip(group, choices, strict=True):
                    slot.node = slot.node.children[choice]
            groups = below
        return [(slot, stops[id(slot)]) for slot in order]

    def choose_together(self, group: list[Rollout]) -> list[int]:
        node = group[0].node
        assert node is not None
        choices: list[int] = []
        for k in range(len(group) if node.children else 0):
            taken = [choices.count(number) for number in range(len(node.children))]
            choices.append(self.choose(node, node.visits + node.in_flight - len(group) + k, taken))
        return choices

    # --- selecting ---

    def select(self, limit: int) -> tuple[list[Rollout], list[int]]:
        leaves: list[Rollout] = []
        finished: list[int] = []
        while len(leaves) < limit:
            found = self.once_round(limit - len(leaves), finished)
            leaves += found
            if not found:
                break
        return leaves, finished

    def once_round(self, limit: int, finished: list[int]) -> list[Rollout]:
        count, leaves, looked = len(self.trees), [], 0
        share = min(self.in_flight, max(1, limit // count))
        while limit > 0:
            mine = min(limit, share * RUN)
            limit -= mine
            reached = -(-mine // share)
            size = min(reached, count - min(looked, count))
            looked += reached
            if size == 0:
                break
            run = [(self.cursor + i) % count for i in range(size)]
            self.cursor += size if count > 1 else 0
            for number in run:
                tree = self.trees[number]
                if mine > 0 and not tree.finished:
                    found = self.take(tree, min(share, mine))
                    mine -= len(found)
                    leaves += found
                    if not found and self.has_ended(tree) and (self.in_flight > 1 or not tree.slots[0].out):
                        tree.finished = True
                        finished.append(number)
            limit += mine
        return leaves

    @staticmethod
    def has_ended(tree: ModelTree) -> bool:
        return tree.started == tree.ended if tree.stopped else tree.ended >= tree.target

    def take(self, tree: ModelTree, most: int) -> list[Rollout]:
        taken: list[Rollout] = []
        idle: list[Rollout] = []
        waiting = list(tree.slots)

        def arrived(slot: Rollout, stop: str) -> None:
            if stop == "leaf":
                slot.out = True
                taken.append(slot)
            elif stop == "ended":
                tree.ended += 1
                slot.node = None
                idle.append(slot)

        while len(taken) < most and (waiting or idle):
            while waiting and len(taken) + len(idle) < most:
                slot = waiting.pop(0)
                if slot.out:
                    continue
                if slot.node is not None and tree.stopped:
                    self.leave(slot)
                if slot.node is None:
                    idle.append(slot)
                else:
                    arrived(slot, self.walk(slot))
            started = 0 if tree.stopped else min(len(idle), tree.target - tree.started)
            walking, idle = idle[:started], []
            tree.started += started
            tree.root.in_flight += started
            for slot in walking:
                slot.node = tree.root
            if walking:
                for slot, stop in self.walk_together(walking):
                    arrived(slot, stop)
        return taken

    # --- giving back ---

    def expand(self, slot: Rollout, children: list[tuple[float, Terminal]]) -> None:
        assert slot.node is not None
        for value, terminal in children:
            child = Node(slot.node, terminal, value)
            if self.own_visits:
                child.score = value
                child.visit(value)
            slot.node.children.append(child)
        slot.out = False

    def backup(self, slot: Rollout, value: float) -> None:
        assert slot.node is not None
        for node in slot.node.path:
            node.visit(value)
            node.in_flight -= 1
        slot.node.claimed = False
        slot.node, slot.out = None, False
        slot.tree.ended += 1

    def close(self, slot: Rollout, terminal: Terminal, value: float) -> None:
        assert slot.node is not None
        slot.node.terminal, slot.node.terminal_value = terminal, value
        slot.out = False

    def cancel(self, slot: Rollout) -> None:
        assert slot.node is not None
        slot.node.claimed = False
        self.leave(slot)

    # --- leaves that the caller chooses, and how many rollouts there are ---

    def may_claim(self, tree: ModelTree, node: Node) -> bool:
        is_leaf = not node.children and node.terminal is Terminal.NO and not node.claimed
        runs = not tree.finished and not tree.stopped and tree.started < tree.target
        return is_leaf and runs and any(slot.node is None for slot in tree.slots)

    def claim(self, tree: ModelTree, node: Node) -> Rollout:
        slot = next(slot for slot in tree.slots if slot.node is None)
        slot.node, slot.out, node.claimed = node, True, True
        tree.started += 1
        for above in node.path:
            above.in_flight += 1
        return slot

    def leave(self, slot: Rollout) -> None:
        assert slot.node is not None
        for node in slot.node.path:
            node.in_flight -= 1
        slot.node, slot.out = None, False
        slot.tree.started -= 1

    def extend(self, tree: ModelTree, rollouts: int) -> None:
        tree.target = (tree.started if tree.stopped else tree.target) + rollouts
        tree.stopped = tree.finished = False


def check(forest: _core.Forest, number: int, tree: ModelTree, notes: dict[int, str]) -> None:
    nodes = [tree.root]
    for node in nodes:
        nodes.extend(node.children)
    columns = forest.columns(number)
    place = {id(node): at for at, node in enumerate(nodes)}
    assert columns["parent"].tolist() == [-1 if node.parent is None else place[id(node.parent)] for node in nodes]
    assert columns["child_count"].tolist() == [len(node.children) for node in nodes]
    assert columns["visits"].tolist() == [node.visits for node in nodes]
    assert columns["value_sum"].tolist() == [node.value_sum for node in nodes]  # to the last bit
    assert columns["value"].tolist() == [node.first_value for node in nodes]
    assert columns["terminal"].tolist() == [node.terminal for node in nodes]
    scores = np.array([node.score for node in nodes], np.float32)
    assert np.array_equal(columns["score"], scores, equal_nan=True)
    assert forest.in_flight(number) == sum(node.in_flight for node in nodes)
    assert forest.rollouts_ended(number) == tree.ended
    texts = [
        columns["text_bytes"][begin:end].tobytes().decode("utf-8", "surrogatepass")
        for begin, end in zip(columns["text_offsets"], columns["text_offsets"][1:], strict=False)
    ]
    assert texts == [notes.get(id(node), "") for node in nodes]
    assert columns["proposals"].tolist() == [1 + len(notes.get(id(node), "")) for node in nodes]
    assert not columns["observation_bytes"].size and np.array_equal(columns["answer_offsets"], columns["text_offsets"])


@settings(max_examples=400)
@given(
    seed=st.integers(0, 2**32),
    in_flight=st.sampled_from([1, 1, 1, 2, 3, 5, 9]),
    trees=st.integers(1, 20),
    rollouts=st.integers(1, 25),
    c=st.sampled_from([0.0, 0.7, 2.0]),
    urgency=st.sampled_from([0.0, 0.4, math.inf]),
    loss=st.sampled_from([0.0, 1.0, 0.25]),
    own_visits=st.booleans(),
    widest=st.sampled_from([3, 5, 40, 70]),
    changes=st.booleans(),
)
def test_the_forest_is_the_model_through_any_operations(
    seed: int,
    in_flight: int,
    trees: int,
    rollouts: int,
    c: float,
    urgency: float,
    loss: float,
    own_visits: bool,
    widest: int,
    changes: bool,
) -> None:
    random = Random(seed)
    forest = _core.Forest(
        c=c, first_play_urgency=urgency, virtual_loss=loss, in_flight=in_flight, own_visits=own_visits, notes=True
    )
    model = Model(c, urgency, loss, in_flight, own_visits)
    for _ in range(trees):
        forest.add_tree(rollouts)
        model.add_tree(rollouts)
    notes: dict[int, str] = {}  # the text of each node
    out: list[tuple[int, Rollout]] = []
    while not all(tree.finished for tree in model.trees):
        limit = random.choice([1, 2, 5, random.randint(1, 80)])
        tickets, owners, _, depths, finished = forest.select(limit)
        leaves, expected = model.select(limit)
        assert owners.tolist() == [model.trees.index(slot.tree) for slot in leaves]
        assert depths.tolist() == [len(slot.node.path) - 1 for slot in leaves if slot.node]
        assert finished.tolist() == expected
        solutions = ["".join(notes.get(id(node), "") for node in slot.node.path) for slot in leaves if slot.node]
        assert forest.solutions(tickets) == solutions
        out += zip(tickets.tolist(), leaves, strict=True)
        random.shuffle(out)
        for _ in range(random.randint(min(1, len(out)), 6)):
            some = [out.pop() for _ in range(min(len(out), random.randint(1, 9)))]
            give_back(random, forest, model, some, notes, widest)
        if changes and random.random() < 0.3:
            change_rollouts(random, forest, model)
        if changes and random.random() < 0.3:
            out += claim_some(random, forest, model)
    assert not out
    for number, tree in enumerate(model.trees):
        check(forest, number, tree, notes)
        forest.remove(number)


def give_back(
    random: Random, forest: _core.Forest, model: Model, some: list[tuple[int, Rollout]], notes: dict[int, str], widest: int
) -> None:
    kind = random.choice(["expand", "expand", "expand", "backup", "close", "cancel"])
    leaves = kind in ("expand", "close") and random.random() < 0.2
    tickets = np.array([ticket for ticket, _ in some], np.int64)
    if kind == "backup":
        values = [random.uniform(-1, 1) for _ in some]
        forest.backup(tickets, np.array(values))
        for (_, slot), value in zip(some, values, strict=True):
            model.backup(slot, value)
    elif kind == "expand":
        families = [draw_children(random, len(slot.node.path), widest) for _, slot in some if slot.node]
        children = [child for family in families for child in family]
        values = np.array([value if model.own_visits or terminal else math.nan for value, terminal in children])
        texts = [random.choice(["", "a", "é\ud800", "step\n" * random.randint(1, 30)]) for _ in children]
        forest.expand(
            tickets,
            np.array([len(family) for family in families], np.uint32),
            values,
            values.astype(np.float32) if model.own_visits else np.full(len(values), math.nan, np.float32),
            np.array([terminal for _, terminal in children], np.uint8),
            (texts, [""] * len(texts), texts, np.array([1 + len(text) for text in texts], np.uint32)),
        )
        for (_, slot), family in zip(some, families, strict=True):
            model.expand(slot, family)
            assert slot.node is not None
            notes.update(zip(map(id, slot.node.children), texts, strict=False))
            texts = texts[len(family) :]
    else:
        for ticket, slot in some:
            if kind == "close":
                forest.close(ticket, Terminal.TOO_DEEP, -0.75)
                model.close(slot, Terminal.TOO_DEEP, -0.75)
            else:
                forest.cancel(ticket)
                model.cancel(slot)
    if leaves:
        forest.leave(tickets)
        for _, slot in some:
            model.leave(slot)


def change_rollouts(random: Random, forest: _core.Forest, model: Model) -> None:
    """Stops a tree, or extends one; the seldomer, the more have been."""
    number = random.randrange(len(model.trees))
    tree = model.trees[number]
    if random.random() < 0.5:
        forest.stop(number)
        tree.stopped = True
    elif random.random() < 4 / (4 + tree.ended):
        more = random.randint(0, 5)
        forest.extend(number, more)
        model.extend(tree, more)


def claim_some(random: Random, forest: _core.Forest, model: Model) -> list[tuple[int, Rollout]]:
    """Claims nodes of a tree, leaves that may be had or not, in one call: all of them or none."""
    number = random.randrange(len(model.trees))
    tree = model.trees[number]
    nodes = [tree.root]
    for node in nodes:
        nodes.extend(node.children)
    chosen = [random.choice(nodes[-9:]) for _ in range(random.randint(1, 3))]
    at = {id(node): index for node, index in zip(nodes, forest.columns(number)["node"].tolist(), strict=True)}
    paths = [[at[id(node)] for node in end.path] for end in chosen]
    arrays = [[number] * len(paths), [len(path) for path in paths], [node for path in paths for node in path]]
    claimed: list[Rollout] = []
    for node in chosen:
        if not model.may_claim(tree, node):
            for slot in claimed:
                model.cancel(slot)
            with pytest.raises(_core.UsageError):
                forest.claim(*(np.array(values, np.uint32) for values in arrays))
            return []
        claimed.append(model.claim(tree, node))
    tickets = forest.claim(*(np.array(values, np.uint32) for values in arrays))
    return list(zip(tickets.tolist(), claimed, strict=True))


def draw_children(random: Random, depth: int, widest: int) -> list[tuple[float, Terminal]]:
    """Values with ties among them, terminals more likely further down."""
    return [
        (
            random.choice([-1.0, -0.5, 0.25, 0.25, 1.0, random.uniform(-1, 1)]),
            random.choice([Terminal.ANSWER, Terminal.TOO_DEEP]) if random.random() < depth / 6 else Terminal.NO,
        )
        for _ in range(random.randint(1, widest))
    ]
