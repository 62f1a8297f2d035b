"""A SearchResult as one row of Arrow columns, and back, exactly. The one schema of journals and Parquet shards.

A tree's columns are lists under `tree_<name>`, null without a tree; its texts are UTF-8 blobs under `tree_<name>_bytes`.
Other texts are plain strings, with lone surrogates escaped (see `escape`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from rstar_fast.types import (
    TREE_COLUMNS,
    TREE_TEXTS,
    Failure,
    FailureKind,
    InvalidInput,
    Problem,
    SearchResult,
    SearchStats,
    Stopped,
    Trajectory,
    Tree,
)

_COUNTS = ("rollouts", "expansions", "candidates", "steps_run", "failed_steps", "policy_tokens", "partials_scored")
_NUMERIC = {**TREE_COLUMNS, **{f"{name}_offsets": np.int64 for name in TREE_TEXTS}}
_BLOBS = tuple(f"{name}_bytes" for name in TREE_TEXTS)

_TRAJECTORY = pa.struct(
    [
        ("solution", pa.string()),
        ("answer", pa.string()),
        ("score", pa.float64()),
        ("q_values", pa.list_(pa.float64())),
        ("correct", pa.bool_()),
        ("tag", pa.string()),
        ("share", pa.float64()),
    ]
)
_VOTE = pa.struct([("answer", pa.string()), ("weight", pa.float64())])
_STATS = pa.struct([*((name, pa.int64()) for name in _COUNTS), ("seconds", pa.float64())])

# Results of earlier versions lack the last two columns, so that their records are those of FIRST_SCHEMA.
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("question", pa.string()),
        ("answer", pa.string()),
        ("score", pa.float64()),
        ("failure_kind", pa.string()),
        ("failure_message", pa.string()),
        ("trajectories", pa.list_(_TRAJECTORY)),
        ("votes", pa.list_(_VOTE)),
        ("stats", _STATS),
        *((f"tree_{name}", pa.list_(pa.from_numpy_dtype(dtype))) for name, dtype in _NUMERIC.items()),
        *((f"tree_{name}", pa.binary()) for name in _BLOBS),
        ("stopped", pa.string()),
        ("ppm_tokens", pa.int64()),
    ]
)
_LATER = ("stopped", "ppm_tokens")
FIRST_SCHEMA = pa.schema([field for field in SCHEMA if field.name not in _LATER])

# Arrow strings are UTF-8, which has no lone surrogates; models and users produce them nevertheless.
_MARK = "\U0010ffff"  # a code point that Unicode sets aside for uses like this one
_TO_ESCAPE = re.compile(f"[\ud800-\udfff{_MARK}]")
_ESCAPED = re.compile(f"{_MARK}([0-9a-f]{{4}})")


def escape(text: str) -> str:
    """Text as valid UTF-8: a lone surrogate becomes U+10FFFF and its four hex digits, U+10FFFF itself that and "ffff"."""
    return _TO_ESCAPE.sub(lambda match: f"{_MARK}{ord(match[0]) & 0xFFFF:04x}", text)


def unescape(text: str) -> str:
    """Undoes `escape`."""
    return _ESCAPED.sub(lambda match: _MARK if match[1] == "ffff" else chr(int(match[1], 16)), text)


def top_level(columns: Sequence[str]) -> list[str]:
    """The columns of SCHEMA of which `columns` names fields, e.g. "votes" for "votes.list.element.answer"; each once."""
    return list(dict.fromkeys(name.partition(".")[0] for name in columns))


def to_row(result: SearchResult) -> pa.RecordBatch:
    """One row of SCHEMA.

    Raises:
      InvalidInput: the tree has a column that the schema does not.
    """
    failure = result.failure
    values: dict[str, Any] = {
        "id": escape(result.problem.id),
        "question": escape(result.problem.question),
        "answer": None if result.answer is None else escape(result.answer),
        "score": None if result.score is None else float(result.score),
        "failure_kind": None if failure is None else failure.kind.value,
        "failure_message": None if failure is None else escape(failure.message),
        "trajectories": [_trajectory_row(trajectory) for trajectory in result.trajectories],
        "votes": [{"answer": escape(answer), "weight": float(weight)} for answer, weight in result.votes.items()],
        "stats": {**{name: int(getattr(result.stats, name)) for name in _COUNTS}, "seconds": float(result.stats.seconds)},
    }
    arrays = [pa.array([value], SCHEMA.field(name).type) for name, value in values.items()]
    arrays += _tree_arrays(result.tree)
    stopped = result.stats.stopped
    arrays.append(pa.array([None if stopped is None else stopped.value], pa.string()))
    arrays.append(pa.array([result.stats.ppm_tokens], pa.int64()))
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def _trajectory_row(trajectory: Trajectory) -> dict[str, Any]:
    return {
        "solution": escape(trajectory.solution),
        "answer": escape(trajectory.answer),
        "score": float(trajectory.score),
        "q_values": [float(q) for q in trajectory.q_values],
        "correct": None if trajectory.correct is None else bool(trajectory.correct),
        "tag": escape(trajectory.tag),
        "share": float(trajectory.share),
    }


def _tree_arrays(tree: Tree | None) -> list[pa.Array]:
    names = [*_NUMERIC, *_BLOBS]
    if tree is None:
        return [pa.nulls(1, SCHEMA.field(f"tree_{name}").type) for name in names]
    columns = tree.columns()
    unknown = sorted(set(columns) - set(names))
    if unknown:
        raise InvalidInput(f"the tree has the column {unknown[0]!r}, for which runs have no place: leave it out")
    arrays: list[pa.Array] = []
    for name in _NUMERIC:
        offsets = pa.array([0, len(columns[name])], pa.int32())
        arrays.append(pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(columns[name]))))
    arrays += [pa.array([columns[name].tobytes()], pa.binary()) for name in _BLOBS]
    return arrays


def from_row(table: pa.Table | pa.RecordBatch, row: int) -> SearchResult:
    """The result in a row; it keeps nothing of the table alive."""
    names = SCHEMA.names if _LATER[-1] in table.schema.names else FIRST_SCHEMA.names
    values = {name: table.column(name)[row] for name in names}
    plain = {name: value.as_py() for name, value in values.items() if not name.startswith("tree_")}
    kind = plain["failure_kind"]
    return SearchResult(
        problem=Problem(unescape(plain["question"]), unescape(plain["id"])),
        answer=None if plain["answer"] is None else unescape(plain["answer"]),
        score=plain["score"],
        trajectories=tuple(_trajectory(trajectory) for trajectory in plain["trajectories"]),
        votes={unescape(vote["answer"]): vote["weight"] for vote in plain["votes"]},
        tree=_tree(values),
        stats=stats_of(plain["stats"], plain.get("stopped"), plain.get("ppm_tokens")),
        failure=None if kind is None else Failure(FailureKind(kind), unescape(plain["failure_message"])),
    )


def stats_of(row: dict[str, Any], stopped: str | None, ppm_tokens: int | None) -> SearchStats:
    """The stats in a row's columns `stats`, `stopped` and `ppm_tokens`."""
    return SearchStats(**row, stopped=None if stopped is None else Stopped(stopped), ppm_tokens=ppm_tokens or 0)


def read_record(payload: bytes) -> pa.RecordBatch:
    """The row that a journal's record holds, in SCHEMA."""
    try:
        return pa.ipc.read_record_batch(pa.py_buffer(payload), SCHEMA)
    except pa.ArrowInvalid:  # it has fewer columns: an earlier version wrote it
        row = pa.ipc.read_record_batch(pa.py_buffer(payload), FIRST_SCHEMA)
        return pa.RecordBatch.from_arrays([*row.columns, *(pa.nulls(1, SCHEMA.field(name).type) for name in _LATER)], schema=SCHEMA)


def _trajectory(row: dict[str, Any]) -> Trajectory:
    return Trajectory(
        solution=unescape(row["solution"]),
        answer=unescape(row["answer"]),
        score=row["score"],
        q_values=tuple(row["q_values"]),
        correct=row["correct"],
        tag=unescape(row["tag"]),
        share=row["share"],
    )


def _tree(values: dict[str, Any]) -> Tree | None:
    if not values["tree_parent"].is_valid:
        return None
    # Copies: a view would keep the columns of all results that were read together in memory.
    columns = {name: values[f"tree_{name}"].values.to_numpy(zero_copy_only=False).copy() for name in _NUMERIC}
    columns |= {name: np.frombuffer(values[f"tree_{name}"].as_py(), np.uint8) for name in _BLOBS}
    return Tree(columns)
