"""Small trees written as nested steps, and the columns of many trees for the extraction in C++."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rstar_fast.search.answers import trajectories_of
from rstar_fast.storage import Run
from rstar_fast.types import TREE_TEXTS, Failure, Problem, SearchResult, Terminal, Tree


@dataclass
class Step:
    """A step of a tree to be made.

    Attributes:
      correct: the key's verdict on its answer; None where it gives none, or nobody graded it.
    """

    text: str
    q: float = 0.0
    visits: int = 1
    children: list[Step] = field(default_factory=list)
    terminal: Terminal = Terminal.NO
    correct: bool | None = None
    observation: str = ""
    answer: str = ""


def right(text: str, q: float = 1.0, **more: Any) -> Step:
    return Step(text, q, terminal=Terminal.ANSWER, correct=True, answer="1", **more)


def wrong(text: str, q: float = -1.0, **more: Any) -> Step:
    return Step(text, q, terminal=Terminal.ANSWER, correct=False, answer="2", **more)


def ungraded(text: str, answer: str, q: float = 0.0) -> Step:
    return Step(text, q, terminal=Terminal.ANSWER, answer=answer)


def tree_of(children: Sequence[Step]) -> tuple[Tree, dict[int, bool]]:
    """The tree whose root has these children, breadth-first, and its verdicts by row."""
    steps, parent, first_child, depth = [Step("", children=list(children))], [-1], [], [0]
    for row, step in enumerate(steps):  # grows as it is walked
        first_child.append(len(steps) if step.children else -1)
        steps += step.children
        parent += [row] * len(step.children)
        depth += [depth[row] + 1] * len(step.children)
    columns = {
        "parent": np.array(parent, np.int32),
        "first_child": np.array(first_child, np.int32),
        "child_count": np.array([len(step.children) for step in steps], np.int32),
        "depth": np.array(depth, np.uint16),
        "visits": np.array([step.visits for step in steps], np.uint32),
        "value_sum": np.array([step.q * step.visits for step in steps], np.float64),
        "value": np.array([step.q for step in steps], np.float64),
        "score": np.full(len(steps), np.nan, np.float32),
        "terminal": np.array([step.terminal for step in steps], np.uint8),
        "proposals": np.ones(len(steps), np.uint32),
    }
    texts = {name: [getattr(step, name) for step in steps] for name in ("text", "observation", "answer")}
    return Tree.from_texts(columns, texts), {row: step.correct for row, step in enumerate(steps) if step.correct is not None}


def result(name: str, children: Sequence[Step], failure: Failure | None = None) -> SearchResult:
    """What a search of the problem found."""
    tree, correct = tree_of(children)
    return SearchResult(
        Problem(f"What is {name}?", name), trajectories=trajectories_of(tree, correct), tree=tree, failure=failure
    )


def stored(folder: Path, *results: SearchResult) -> Path:
    """A run of these results."""
    with Run.open(folder, {}) as run:
        for found in results:
            run.add(found)
    return folder


def columns_of(trees: Sequence[Tree], problems: Sequence[int]) -> dict[str, np.ndarray]:
    """The columns that `_core.Trees` takes."""
    each = [tree.columns() for tree in trees]
    names = ["parent", "first_child", "child_count", "depth", "terminal", "visits", "value_sum"]
    names += [f"{text}_{part}" for text in TREE_TEXTS for part in ("offsets", "bytes")]
    columns = {name: np.concatenate([tree[name] for tree in each]) for name in names}
    for name, of in (("starts", "parent"), *((f"{text}_starts", f"{text}_bytes") for text in TREE_TEXTS)):
        columns[name] = np.cumsum([0, *(len(tree[of]) for tree in each)], dtype=np.int64)
    return columns | {"problems": np.array(problems, np.uint32)}
