"""Reads problem files: JSONL, JSON, CSV and Parquet, told apart by their suffix.

Fields of a problem: `question` (or `problem`), optional `id`, optional `answer`, optional labels `level` and `type` (or `subject`);
others are ignored. The answers go into an `AnswerKey` of their own, so that what is handed to search carries none.
"""

from __future__ import annotations

import csv
import decimal
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rstar_fast.types import AnswerKey, InvalidInput, Problem

_WRAPPER = "example"  # the reference keeps a data set's problems under this name
_LABELS = {"level": "level", "type": "type", "subject": "type"}  # field -> the label it gives
_ANSWER_TAIL = "####"  # GSM8K: the worked solution, then this, then the answer
_FOREIGN_ENCODINGS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


@dataclass(frozen=True, slots=True)
class MalformedRow:
    """A record that is no problem.

    Attributes:
      line: where it starts, from 1; the number of the record in JSON and Parquet, which have no line for each.
      reason: what is wrong with it.
    """

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class ProblemFile:
    """What a problem file holds.

    Attributes:
      problems: in the file's order, with ids all different.
      answers: the key, of those problems that have an answer.
      malformed: the records left out; of a file none unless skip_malformed was given.
      labels: problem id -> its labels, "level" and "type" where the file has them, by which evaluations are broken down.
    """

    problems: tuple[Problem, ...]
    answers: AnswerKey
    malformed: tuple[MalformedRow, ...] = ()
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


# What turns a record of a data set into one of this module's fields.
Translate = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class _NumberAsWritten(str):
    """A decimal number of a JSON file, its digits kept: "3.10" is another precision than "3.1"."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A record of a file, or why it cannot be read as one."""

    line: int
    fields: Mapping[str, Any] | None
    reason: str = ""


# Reads a file; the flag: with all its columns, whatever they are called.
Reader = Callable[[Path, bool], Iterator[_Row]]


def read_problems(path: str | Path, *, skip_malformed: bool = False, translate: Translate | None = None) -> ProblemFile:
    """Reads the problems of a file.

    A problem without an id gets the hash of its question; where that is taken, because the question occurs again, "-2",
    "-3", ... is appended, so every record keeps a result of its own. Of an answer with "####", as in GSM8K, what follows is
    taken.

    Args:
      path: a .jsonl, .json, .csv or .parquet file in UTF-8.
      skip_malformed: leave malformed records out and list them in `malformed`, instead of raising at the first.
      translate: gives a record with other fields those of a problem.

    Raises:
      InvalidInput: there is no such file, it cannot be read, holds no problems, or holds a malformed record; names the file,
        the line and the reason.
    """
    path = Path(path)
    rows = _reader_of(path)(path, translate is not None)
    return _collected(rows, str(path), _unit(path), skip_malformed, translate)


def problems_of(records: Iterable[Mapping[str, Any]], source: str, *, translate: Translate | None = None) -> ProblemFile:
    """The problems of a data set's records, as `read_problems` takes them, but each with an answer.

    A data set of somebody else's cannot be mended: where an id occurs again, "-2", "-3", ... is appended, and a record without an answer
    is left out and listed in `malformed`.

    Args:
      source: where they come from, for errors.

    Raises:
      InvalidInput: one is malformed, or there are none; names the source, the number of the record and the reason.
    """
    rows = (_Row(number, record) for number, record in enumerate(records, 1))
    return _collected(rows, source, "record", False, translate, foreign=True)


def _collected(
    rows: Iterable[_Row], path: str, unit: str, skip_malformed: bool, translate: Translate | None, foreign: bool = False
) -> ProblemFile:
    problems: list[Problem] = []
    answers: dict[str, str] = {}
    malformed: list[MalformedRow] = []
    labels: dict[str, dict[str, str]] = {}
    seen: dict[str, int] = {}
    for row in rows:
        if translate is not None and row.fields is not None:
            row = _Row(row.line, translate(row.fields))
        problem, answer, reason = _problem_of(row, seen, unit, foreign)
        if problem is not None and foreign and not answer:
            malformed.append(MalformedRow(row.line, "it has no answer"))
        elif problem is not None:
            seen[problem.id] = row.line
            problems.append(problem)
            labels[problem.id] = _labels(row.fields or {})
            if answer:
                answers[problem.id] = answer
        elif skip_malformed:
            malformed.append(MalformedRow(row.line, reason))
        else:
            raise InvalidInput(f"{path}, {unit} {row.line}: {reason}; mend it, or skip malformed {unit}s")
    if not problems and malformed:
        first = malformed[0]
        raise InvalidInput(
            f"{path} holds no usable problem, all {len(malformed)} records are malformed, the first at {unit} {first.line}: "
            f"{first.reason}"
        )
    if not problems:
        raise InvalidInput(f"{path} holds no problems: give a file with at least one record that has a 'question'")
    return ProblemFile(tuple(problems), AnswerKey(answers), tuple(malformed), labels)


def looks_like_problem_file(text: str) -> bool:
    """Whether a command's argument means a problem file and not a question: it ends in a known suffix."""
    return "\n" not in text and Path(text).suffix.lower() in _READERS


def _reader_of(path: Path) -> Reader:
    known = ", ".join(_READERS)
    if path.is_dir():
        raise InvalidInput(f"{path} is a folder: give a problem file ({known})")
    if not path.exists():
        raise InvalidInput(f"there is no file {path}: check its name, relative to {Path.cwd()}")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InvalidInput(f"{path} has the suffix {path.suffix!r}: problem files are {known}")
    try:
        with path.open("rb") as file:
            start = file.read(2)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error
    if not start:
        raise InvalidInput(f"{path} is empty: give a file with at least one record that has a 'question'")
    if start in _FOREIGN_ENCODINGS:
        raise InvalidInput(f"{path} is {_FOREIGN_ENCODINGS[start]}: save it as UTF-8")
    return reader


def _unit(path: Path) -> str:
    return "line" if path.suffix.lower() in (".jsonl", ".csv") else "record"


def _problem_of(row: _Row, seen: Mapping[str, int], unit: str, foreign: bool) -> tuple[Problem | None, str, str]:
    """The problem of a record, its answer ("" without), and what is wrong with it where there is no problem."""
    if row.fields is None:
        return None, "", row.reason
    try:
        question = _question(row.fields)
        given_id = _id(row.fields.get("id"))
        answer = _answer(row.fields.get("answer"))
    except _Malformed as error:
        return None, "", str(error)
    if given_id in seen and not foreign:
        return None, "", f"the id {given_id!r} was already given at {unit} {seen[given_id]}, ids must differ"
    problem = Problem(question, given_id)
    count = 1
    base = problem.id
    while problem.id in seen:
        count += 1
        problem = Problem(question, f"{base}-{count}")
    return problem, answer, ""


class _Malformed(Exception):
    """A field of a record is missing or unusable; the message is the reason."""


def _question(fields: Mapping[str, Any]) -> str:
    question = fields.get("question")
    if question is None:
        question = fields.get("problem")
    if question is None:
        names = ", ".join(repr(name) for name in list(fields)[:8]) or "none"
        raise _Malformed(f"it has no 'question' (its fields: {names})")
    if not isinstance(question, str) or isinstance(question, _NumberAsWritten):
        raise _Malformed(f"its question is {_kind(question)}, not text")
    if not question.strip():
        raise _Malformed("its question is empty")
    return question


def _id(value: Any) -> str:
    """The id as text; "" without one."""
    if isinstance(value, float) and value.is_integer():  # a column of integers with gaps is read as floats
        value = int(value)
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    raise _Malformed(f"its id is {_kind(value)}, not text or an integer")


def _answer(value: Any) -> str:
    """The answer as text; "" without one."""
    if isinstance(value, float):
        if math.isnan(value):  # how a gap in a column of numbers is read
            return ""
        value = int(value) if value.is_integer() and abs(value) < 2**53 else repr(value)
    if value is None:
        return ""
    if not isinstance(value, (str, int, decimal.Decimal)):
        raise _Malformed(f"its answer is {_kind(value)}, not text or a number")
    text = str(value)
    if _ANSWER_TAIL in text:
        text = text.rpartition(_ANSWER_TAIL)[2]
    return text.strip()


def _labels(fields: Mapping[str, Any]) -> dict[str, str]:
    """The labels of a record; what is neither text nor an integer is none."""
    labels = {}
    for name, label in _LABELS.items():
        value = fields.get(name)
        if isinstance(value, float) and value.is_integer():  # a column of integers with gaps is read as floats
            value = int(value)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            labels[label] = str(value).strip()
    return labels


def _kind(value: Any) -> str:
    if isinstance(value, _NumberAsWritten):
        return "a number"
    names = {dict: "an object", list: "a list", bool: "true or false", int: "a number", float: "a number", type(None): "null"}
    return names.get(type(value), f"a {type(value).__name__}")


def _parse_json(text: str) -> Any:
    return json.loads(text, parse_float=_NumberAsWritten)


def _read_jsonl(path: Path, any_columns: bool) -> Iterator[_Row]:
    with path.open("rb") as file:
        for line, raw in enumerate(file, 1):
            raw = raw.removeprefix(b"\xef\xbb\xbf") if line == 1 else raw
            if not raw.strip():
                continue
            try:
                value = _parse_json(raw.rstrip(b"\r\n").decode("utf-8"))
            except UnicodeDecodeError as error:
                yield _Row(line, None, f"it is not UTF-8 (byte {error.start + 1} of the line)")
            except json.JSONDecodeError as error:
                yield _Row(line, None, f"it is not valid JSON ({_said(error)} at column {error.colno})")
            except (ValueError, RecursionError) as error:  # a number of too many digits; brackets nested too deep
                yield _Row(line, None, f"it is not valid JSON ({error})")
            else:
                yield _object_row(line, value)


def _said(error: json.JSONDecodeError) -> str:
    return error.msg.removesuffix(" at")


def _object_row(line: int, value: Any) -> _Row:
    return _Row(line, value) if isinstance(value, dict) else _Row(line, None, f"it is {_kind(value)}, not an object")


def _read_json(path: Path, any_columns: bool) -> Iterator[_Row]:
    text = _decoded(path, path.read_bytes())
    try:
        value = _parse_json(text)
    except json.JSONDecodeError as error:
        hint = "; with one JSON object a line, name it .jsonl" if error.msg == "Extra data" else ""
        raise InvalidInput(f"{path} is not valid JSON: {_said(error)} at line {error.lineno}, column {error.colno}{hint}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path} is not valid JSON: {error}") from None
    if isinstance(value, dict):
        value = value.get(_WRAPPER)
    if not isinstance(value, list):
        raise InvalidInput(f"{path} holds no list of problems: give a list of objects, or an object with a list under '{_WRAPPER}'")
    for number, record in enumerate(value, 1):
        yield _object_row(number, record)


def _read_csv(path: Path, any_columns: bool) -> Iterator[_Row]:
    text = _decoded(path, path.read_bytes(), errors="surrogateescape")
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    while True:
        line = rows.line_num + 1
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield _Row(line, None, f"it is not valid CSV ({error})")
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = [cell.strip() for cell in cells]
            if not any_columns and "question" not in header and "problem" not in header:
                raise InvalidInput(f"{path} has no column 'question': its first line names {', '.join(map(repr, header[:8]))}")
        elif len(cells) > len(header):
            yield _Row(line, None, f"it has {len(cells)} fields where the first line names {len(header)}")
        elif any("\udc80" <= character <= "\udcff" for cell in cells for character in cell):
            yield _Row(line, None, "it is not UTF-8")
        else:
            yield _Row(line, dict(zip(header, cells, strict=False)))


def _decoded(path: Path, raw: bytes, errors: str = "strict") -> str:
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        return raw.decode("utf-8", errors)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InvalidInput(f"{path} is not UTF-8 at line {line}: save it as UTF-8") from None


def _read_parquet(path: Path, any_columns: bool) -> Iterator[_Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            wanted = [name for name in names if any_columns or name in ("question", "problem", "id", "answer", *_LABELS)]
            if not any_columns and "question" not in wanted and "problem" not in wanted:
                raise InvalidInput(f"{path} has no column 'question': its columns are {', '.join(map(repr, names[:8]))}")
            number = 0
            for batch in file.iter_batches(batch_size=1024, columns=wanted):
                for record in batch.to_pylist():
                    number += 1
                    yield _Row(number, record)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from error


_READERS: Mapping[str, Reader] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
