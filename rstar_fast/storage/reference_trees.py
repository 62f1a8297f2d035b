"""Search trees in the format of microsoft/rStar: JSON lines, one a problem, in and out.

    {"question": ..., "answer": ..., "rstar": {tag: {"text", "extra_info", "action", "action_input", "final_answer", "value",
                                                     "q_value", "visit_count", "observation"}}}

The root has the tag "0" and the question in its `extra_info`; "0.3.1" is the first child of the root's third. A line that has
the tree under "tree" is read as well.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rstar_fast.storage.run import Run
from rstar_fast.types import (
    Failure,
    FailureKind,
    InvalidInput,
    Node,
    Problem,
    SearchResult,
    SearchStats,
    Terminal,
    Trajectory,
    Tree,
)

# The reference puts these where an answer would stand. They are part of its output format.
TOO_MANY_ERRORS = "Too many consecutive steps have code errors."
TOO_DEEP = "Fail to sove the problem within limited steps."
NO_CANDIDATES = "Fail to generate parsable text for next step."

_GIVEN_UP = {TOO_MANY_ERRORS: Terminal.TOO_MANY_ERRORS, TOO_DEEP: Terminal.TOO_DEEP, NO_CANDIDATES: Terminal.NO_CANDIDATES}
_SAID = {terminal: said for said, terminal in _GIVEN_UP.items()}
_ROOT = "0"


def read_reference_trees(path: str | Path) -> Iterator[SearchResult]:
    """The problems of a file of trees, in order, read as they are asked for.

    Where the values of all answers are 1 or -1 they are a key's verdicts; elsewhere they are a PPM's scores.

    Raises:
      InvalidInput: there is no such file, or a line holds no tree; names the line and what is wrong with it.
    """
    path = Path(path)
    for line, _, text in lines_of(path):
        yield result_of_line(text, f"{path}, line {line}")


def import_reference_trees(path: str | Path, run_dir: str | Path) -> int:
    """Makes a run of a file of trees; returns how many. A question that occurs again gets an id of its own."""
    seen: dict[str, int] = {}
    with Run.open(run_dir, {"imported": Path(path).name}) as run:
        for result in read_reference_trees(path):
            number = seen[result.problem.id] = seen.get(result.problem.id, 0) + 1
            if number > 1:
                problem = Problem(result.problem.question, f"{result.problem.id}-{number}")
                result = SearchResult(
                    problem, result.answer, result.score, result.trajectories, tree=result.tree, failure=result.failure
                )
            run.add(result)
    return sum(seen.values())


def export_reference_trees(results: Iterable[SearchResult], path: str | Path, answers: Mapping[str, str] | None = None) -> int:
    """Writes the trees of results, e.g. of `load_run(folder)`, as a file that microsoft/rStar's scripts read; returns how many.

    Args:
      answers: the key, by problem id; lines without an answer have none that the scripts could grade against.
    """
    written = 0
    with Path(path).open("w", encoding="utf-8") as file:
        for result in results:
            if result.tree is None:
                continue
            key = (answers or {}).get(result.problem.id)
            line = {"id": result.problem.id, "question": result.problem.question, **({} if key is None else {"answer": key})}
            line["rstar"] = {node.tag: _state(node, result.problem) for node in result.tree}
            file.write(json.dumps(line) + "\n")
            written += 1
    return written


def lines_of(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """The lines of a file that are not blank: number from 1, offset in bytes, text.

    Raises:
      InvalidInput: the file is missing or cannot be read.
    """
    try:
        with path.open("rb") as file:
            offset = 0
            for number, text in enumerate(file, 1):
                if text.strip():
                    yield number, offset, text
                offset += len(text)
    except FileNotFoundError:
        raise InvalidInput(f"there is no file {path}: check its name, relative to {Path.cwd()}") from None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error


def problem_of_line(text: bytes, where: str) -> tuple[Problem, dict[str, Any]]:
    """The problem and the fields of a line.

    Raises:
      InvalidInput: it is no JSON object with a question; begins with `where`.
    """
    try:
        fields = json.loads(text)
    except ValueError as error:  # not JSON, or not UTF-8
        raise InvalidInput(f"{where}: it is not valid JSON ({error}); give lines as microsoft/rStar writes them") from None
    question = fields.get("question", fields.get("query")) if isinstance(fields, dict) else None
    if not isinstance(question, str) or not question.strip():
        raise InvalidInput(f"{where}: it has no 'question'; give lines as microsoft/rStar writes them")
    given = fields.get("id", "")
    return Problem(question, str(given) if given is not None else ""), fields


def result_of_line(text: bytes, where: str) -> SearchResult:
    """The problem and tree of a line; see `read_reference_trees`."""
    problem, fields = problem_of_line(text, where)
    states = fields.get("rstar", fields.get("tree"))
    if not isinstance(states, dict) or _ROOT not in states:
        raise InvalidInput(
            f"{where}: it has no tree under 'rstar' with the root '0'; give lines as microsoft/rStar writes them"
        )
    try:
        tree, correct = _tree(states)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(f"{where}: its tree is damaged ({type(error).__name__}: {error}); write the file again") from error
    trajectories = tuple(sorted(_trajectories(tree, correct), key=lambda trajectory: -trajectory.score))
    if not trajectories:
        return SearchResult(problem, tree=tree, failure=Failure(FailureKind.NO_ANSWER, "no solution gave an answer"))
    return SearchResult(problem, trajectories[0].answer, trajectories[0].score, trajectories, tree=tree, stats=SearchStats())


def _tree(states: Mapping[str, Mapping[str, Any]]) -> tuple[Tree, dict[int, bool] | None]:
    """The tree, and the key's verdicts by row where its answers were graded."""
    children: dict[str, list[str]] = {}
    for tag in states:
        if tag != _ROOT:
            children.setdefault(tag.rpartition(".")[0], []).append(tag)
    order = [_ROOT]
    first_child: list[int] = []
    parent = [-1]
    for row, tag in enumerate(order):  # grows as it is walked
        own = sorted(children.get(tag, ()), key=lambda child: int(child.rpartition(".")[2]))
        first_child.append(len(order) if own else -1)
        order += own
        parent += [row] * len(own)
    if len(order) != len(states):
        stray = next(iter(set(states) - set(order)))
        raise ValueError(f"node {stray!r} has no parent")
    nodes = [states[tag] for tag in order]
    counts = [len(children.get(tag, ())) for tag in order]
    said = [str(node.get("final_answer") or "") for node in nodes]
    terminal = [
        _GIVEN_UP.get(text, Terminal.ANSWER) if text and not count else Terminal.NO
        for text, count in zip(said, counts, strict=True)
    ]
    visits = [int(node["visit_count"]) for node in nodes]
    means = [float(node["q_value"]) for node in nodes]
    if not all(map(math.isfinite, means)):
        raise ValueError("a q_value is not finite")
    values = [float(node.get("value") or 0.0) for node in nodes]
    answers = [row for row, kind in enumerate(terminal) if kind is Terminal.ANSWER]
    graded = all(abs(means[row]) == 1.0 for row in answers)
    score = np.full(len(nodes), np.nan, np.float32)
    if not graded:
        score[answers] = [values[row] for row in answers]
    columns = {
        "parent": np.array(parent, np.int32),
        "first_child": np.array(first_child, np.int32),
        "child_count": np.array(counts, np.int32),
        "depth": np.array([tag.count(".") for tag in order], np.uint16),
        "visits": np.array(visits, np.uint32),
        "value_sum": np.array([_sum_of(mean, count) for mean, count in zip(means, visits, strict=True)]),
        "value": np.array(values),
        "score": score,
        "terminal": np.array(terminal, np.uint8),
        "proposals": np.ones(len(nodes), np.uint32),
    }
    texts = {
        "text": [str(node["text"]) for node in nodes],
        "observation": [str(node.get("observation") or "") for node in nodes],
        "answer": said,
    }
    return Tree.from_texts(columns, texts), {row: means[row] > 0 for row in answers} if graded else None


def _sum_of(mean: float, visits: int) -> float:
    """The sum of which the mean is exactly the given one: a product rounds, and may be one unit off."""
    product = mean * visits
    for total in (product, math.nextafter(product, math.inf), math.nextafter(product, -math.inf)):
        if visits and total / visits == mean:
            return total
    return product


def _trajectories(tree: Tree, correct: Mapping[int, bool] | None) -> Iterator[Trajectory]:
    for node in tree:
        if node.terminal is Terminal.ANSWER:
            q_values = tuple(step.q for step in node.path)
            verdict = None if correct is None else correct[node.index]
            yield Trajectory(node.solution, node.answer or "", node.q, q_values, verdict, node.tag)


def _state(node: Node, problem: Problem) -> dict[str, Any]:
    return {
        "text": node.text,
        "extra_info": "" if node.index else f"question: {problem.question}",
        "action": "",
        "action_input": "",
        "final_answer": _SAID.get(node.terminal, node.answer or ""),
        "value": node.value,
        "q_value": node.q,
        "visit_count": node.visits,
        "observation": node.observation,
    }
