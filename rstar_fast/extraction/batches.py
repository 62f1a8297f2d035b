"""The trees of some problems at a time, as columns that lie one behind the other, with the verdicts on their answers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rstar_fast._core import Trees, UsageError
from rstar_fast.extraction.sources import Source
from rstar_fast.grading import grade_many
from rstar_fast.storage.columns import unescape
from rstar_fast.types import TREE_TEXTS, FailureKind, InvalidInput, Terminal

_LINKS = ("parent", "first_child", "child_count", "depth", "terminal", "visits", "value_sum")
_TREE = (*_LINKS, *(f"{name}_offsets" for name in TREE_TEXTS), *(f"{name}_bytes" for name in TREE_TEXTS))
_VERDICTS = ("tag", "correct")  # of trajectories
COLUMNS = (
    "id",
    "question",
    "failure_kind",
    *(f"trajectories.list.element.{name}" for name in _VERDICTS),
    *(f"tree_{name}" for name in _TREE),
)


@dataclass(frozen=True, slots=True)
class Batch:
    """Trees of P problems, N rows in all.

    Attributes:
      ids: [P].
      questions: [P].
      trees: their columns, checked; a problem's number is its place in `ids`.
      correct: [N] int8, 1 where a row's answer is right, 0 where it is wrong, -1 elsewhere.
      depth: [N] uint16.
      failed: problems left out, as the search of each failed for another reason than that no solution gave an answer.
    """

    ids: tuple[str, ...]
    questions: tuple[str, ...]
    trees: Trees | None
    correct: np.ndarray
    depth: np.ndarray
    failed: int


def batches(sources: Sequence[Source], answers: Mapping[str, str]) -> Iterator[Batch]:
    """All problems of the sources, each once, with its trees of all sources.

    Args:
      answers: the key; grades the answers that a search without one found.

    Raises:
      InvalidInput: a problem's trees were not graded and it has no key, or stands for different questions; a file is damaged.
    """
    for number, source in enumerate(sources):
        for table in source.tables(COLUMNS):
            ids = [unescape(problem_id) for problem_id in table.column("id").to_pylist()]
            fresh = [not any(problem_id in earlier for earlier in sources[:number]) for problem_id in ids]
            if not any(fresh):
                continue
            if not all(fresh):
                table = table.filter(pa.array(fresh))
            tables = [_flat(table)]
            for later in sources[number + 1 :]:
                shared = [problem_id for problem_id, new in zip(ids, fresh, strict=True) if new and problem_id in later]
                tables += [_flat(later.rows(problem_id, COLUMNS)) for problem_id in shared]
            yield _batch(pa.concat_tables(tables), sources, answers)


def _flat(table: pa.Table) -> pa.Table:
    """The table with a column for each field of its trajectories."""
    trajectories = table.column("trajectories").combine_chunks()
    for name in _VERDICTS:
        values = pc.struct_field(trajectories.flatten(), name)
        # Lists of records are never null: a result without a trajectory has an empty one.
        table = table.append_column(f"trajectory_{name}", pa.ListArray.from_arrays(_starts(trajectories), values))
    return table.drop_columns(["trajectories"])


def _starts(lists: pa.ListArray) -> pa.Array:
    """Where each list begins in `lists.flatten()`, and the end of the last."""
    return pc.subtract(lists.offsets, lists.offsets[0])


def _batch(table: pa.Table, sources: Sequence[Source], answers: Mapping[str, str]) -> Batch:
    names = [unescape(problem_id) for problem_id in table.column("id").to_pylist()]
    asked = [unescape(question) for question in table.column("question").to_pylist()]
    questions: dict[str, str] = {}
    for problem_id, question in zip(names, asked, strict=True):
        if questions.setdefault(problem_id, question) != question:
            raise InvalidInput(
                f"problem {problem_id!r} stands for different questions in {_named(sources)}: give runs of the same problems"
            )
    kinds = table.column("failure_kind").to_pylist()
    has_tree = table.column("tree_parent").is_valid().to_pylist()
    usable = [tree and kind in (None, FailureKind.NO_ANSWER.value) for tree, kind in zip(has_tree, kinds, strict=True)]
    number_of = {
        name: number for number, name in enumerate(dict.fromkeys(n for n, good in zip(names, usable, strict=True) if good))
    }
    failed = len(questions) - len(number_of)
    ids = tuple(number_of)
    if not ids:
        return Batch((), (), None, np.empty(0, np.int8), np.empty(0, np.uint16), failed)
    problems = np.array([number_of[name] for name, good in zip(names, usable, strict=True) if good], np.uint32)
    if not all(usable):
        table = table.filter(pa.array(usable))
    if (problems[1:] < problems[:-1]).any():  # another source's trees stand behind: the trees of a problem lie side by side
        order = np.argsort(problems, kind="stable")
        problems, table = problems[order], table.take(pa.array(order))
    try:
        columns = _columns(table)
        trees = Trees(columns | {"problems": problems})
    except (UsageError, pa.ArrowException) as error:
        raise InvalidInput(
            f"{_named(sources)}: of the {len(ids)} problems from {ids[0]!r} to {ids[-1]!r}, {error}; restore it from a copy"
        ) from error
    correct = _verdicts(table, trees, columns, ids, problems, answers)
    return Batch(ids, tuple(questions[problem_id] for problem_id in ids), trees, correct, columns["depth"], failed)


def _named(sources: Sequence[Source]) -> str:
    return " and ".join(source.name for source in sources)


def _columns(table: pa.Table) -> dict[str, np.ndarray]:
    """The columns that `Trees` takes, without copies where the table has one chunk."""
    columns: dict[str, np.ndarray] = {}
    for name in _TREE:
        column = table.column(f"tree_{name}").combine_chunks()
        if name.endswith("_bytes"):
            text = name.removesuffix("_bytes")
            _, offsets, data = column.buffers()
            offsets = np.frombuffer(offsets, np.int32)[column.offset :][: len(column) + 1].astype(np.int64)
            columns[f"{text}_starts"] = offsets - offsets[0]
            columns[name] = np.frombuffer(data or b"", np.uint8)[offsets[0] : offsets[-1]]
        else:
            columns[name] = column.flatten().to_numpy(zero_copy_only=True)
            if name == "parent":
                columns["starts"] = _starts(column).to_numpy().astype(np.int64)
    return columns


def _verdicts(
    table: pa.Table,
    trees: Trees,
    columns: Mapping[str, np.ndarray],
    ids: Sequence[str],
    problems: np.ndarray,
    answers: Mapping[str, str],
) -> np.ndarray:
    """The search's verdicts, and where it made none, the key's."""
    correct = np.full(len(columns["parent"]), -1, np.int8)
    tags, verdicts = (table.column(f"trajectory_{name}").combine_chunks() for name in _VERDICTS)
    said = verdicts.flatten()
    if len(said) > said.null_count:
        of_tree = np.repeat(np.arange(len(table), dtype=np.uint32), np.diff(tags.offsets.to_numpy()))
        known = said.is_valid()
        rows = trees.rows(of_tree[known.to_numpy(zero_copy_only=False)], tags.flatten().filter(known).to_pylist())
        there = rows >= 0
        correct[rows[there]] = said.drop_null().to_numpy(zero_copy_only=False)[there]
    answered = columns["terminal"] == Terminal.ANSWER
    correct[~answered] = -1
    ungraded = (answered & (correct < 0)).nonzero()[0]
    if len(ungraded):
        of_tree = np.searchsorted(columns["starts"], ungraded, side="right") - 1
        keys = [_key_of(ids[number], answers) for number in problems[of_tree]]
        offsets, data = trees.answers(ungraded)
        given = [data[begin:end].tobytes().decode() for begin, end in itertools.pairwise(offsets.tolist())]
        correct[ungraded] = [bool(verdict) for verdict in grade_many(list(zip(keys, given, strict=True)))]
    return correct


def _key_of(problem_id: str, answers: Mapping[str, str]) -> str:
    if problem_id not in answers:
        raise InvalidInput(
            f"problem {problem_id!r} was searched without a key and has none: give answers={{problem id: answer}}, on the "
            "command line --answers FILE"
        )
    return answers[problem_id]
