"""Problem files: what is read, and the one sentence that each unusable file gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rstar_fast.storage import MalformedRow, looks_like_problem_file, problems_of, read_problems
from rstar_fast.types import InvalidInput, Problem

RECORDS = [
    {"question": "What is 1+1?", "id": "a", "answer": "2"},
    {"question": "Was ist 2·2?\nZeile zwei", "id": "b", "answer": "4"},
    {"question": 'What is "3", squared?', "id": "c"},
]
PROBLEMS = tuple(Problem(record["question"], record["id"]) for record in RECORDS)
KEY = {"a": "2", "b": "4"}


def write_csv(path: Path) -> None:
    path.write_text(
        'id,answer,question,level\r\na,2,What is 1+1?,1\r\nb, 4 ,"Was ist 2·2?\nZeile zwei",2\r\n\r\nc,,"What is ""3"", squared?",3\r\n',
        "utf-8",
        newline="",
    )


WRITERS = {
    "p.jsonl": lambda path: path.write_text("".join(f"{json.dumps(record)}\n" for record in RECORDS)),
    "p.json": lambda path: path.write_text(json.dumps(RECORDS, indent=2)),
    "wrapped.json": lambda path: path.write_text(json.dumps({"dataset": "mine", "example": RECORDS})),
    "p.csv": write_csv,
    "p.parquet": lambda path: pq.write_table(pa.Table.from_pylist(RECORDS), path),
    "UPPER.JSONL": lambda path: path.write_text("".join(f"{json.dumps(record, ensure_ascii=False)}\r\n\n" for record in RECORDS)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_reads_the_same(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    for path in (tmp_path / name, str(tmp_path / name)):
        found = read_problems(path)
        assert found.problems == PROBLEMS
        assert dict(found.answers) == KEY
        assert found.malformed == ()


@pytest.mark.parametrize("name", ["p.jsonl", "p.json", "p.csv"])
def test_a_byte_order_mark_is_no_part_of_the_first_record(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + (tmp_path / name).read_bytes())
    assert read_problems(tmp_path / name).problems == PROBLEMS


def from_lines(tmp_path: Path, *lines: str | bytes, **options: Any) -> Any:
    path = tmp_path / "p.jsonl"
    path.write_bytes(b"\n".join(line.encode() if isinstance(line, str) else line for line in lines))
    return read_problems(path, **options)


@pytest.mark.parametrize(
    ("written", "answer"),
    [
        ('"42"', "42"),
        ("42", "42"),
        ("-7", "-7"),
        ("0.50", "0.50"),
        ("3.140", "3.140"),
        ("1e3", "1e3"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ('"\\\\frac{1}{2}"', "\\frac{1}{2}"),
        ('"She sells 9 * 2 = <<9*2=18>>18.\\n#### 18"', "18"),
        ('"#### 1,234 "', "1,234"),
        ('" 5 "', "5"),
    ],
)
def test_answers_are_kept_as_written(tmp_path: Path, written: str, answer: str) -> None:
    found = from_lines(tmp_path, f'{{"question": "q", "id": "a", "answer": {written}}}')
    assert dict(found.answers) == {"a": answer}


@pytest.mark.parametrize("written", ["null", '""', '"  "', '"#### "'])
def test_a_problem_may_have_no_answer(tmp_path: Path, written: str) -> None:
    found = from_lines(tmp_path, f'{{"question": "q", "answer": {written}}}')
    assert len(found.problems) == 1 and not found.answers


def test_numbers_of_parquet_columns_with_gaps(tmp_path: Path) -> None:
    columns = {"problem": ["p", "q", "r"], "id": [1.0, None, 3.0], "answer": [18.0, None, 0.5]}
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    found = read_problems(tmp_path / "p.parquet")
    assert found.problems == (Problem("p", "1"), Problem("q"), Problem("r", "3"))
    assert dict(found.answers) == {"1": "18", "3": "0.5"}


def test_ids_are_text_and_problem_serves_for_question(tmp_path: Path) -> None:
    found = from_lines(tmp_path, '{"problem": "p", "id": 7}', '{"question": "q", "problem": "p", "id": "8"}', '{"question": "r", "id": null}')
    assert found.problems == (Problem("p", "7"), Problem("q", "8"), Problem("r"))


def test_a_question_that_occurs_again_gets_a_result_of_its_own(tmp_path: Path) -> None:
    same = '{"question": "q", "answer": "1"}'
    taken = f'{{"question": "other", "id": "{Problem("q").id}-3"}}'
    found = from_lines(tmp_path, same, same, taken, same)
    first = Problem("q").id
    assert [problem.id for problem in found.problems] == [first, f"{first}-2", f"{first}-3", f"{first}-4"]
    assert len(found.answers) == 3


MALFORMED = [
    ('{"question": "cut', "it is not valid JSON (Unterminated string starting at column 14)"),
    ("[1, 2]", "it is a list, not an object"),
    ('"text"', "it is a str, not an object"),
    ("null", "it is null, not an object"),
    ('{"text": "q", "label": 1}', "it has no 'question' (its fields: 'text', 'label')"),
    ("{}", "it has no 'question' (its fields: none)"),
    ('{"question": null}', "it has no 'question' (its fields: 'question')"),
    ('{"question": ""}', "its question is empty"),
    ('{"question": " \\n"}', "its question is empty"),
    ('{"question": 5}', "its question is a number, not text"),
    ('{"question": 5.5}', "its question is a number, not text"),
    ('{"question": ["q"]}', "its question is a list, not text"),
    ('{"question": "q", "id": true}', "its id is true or false, not text or an integer"),
    ('{"question": "q", "id": {}}', "its id is an object, not text or an integer"),
    ('{"question": "q", "answer": ["1", "2"]}', "its answer is a list, not text or a number"),
    ('{"question": "q", "id": "good"}', "the id 'good' was already given at line 1, ids must differ"),
    (b'{"question": "\xff"}', "it is not UTF-8 (byte 15 of the line)"),
    ("[" * 100_000, "it is not valid JSON (maximum recursion depth exceeded"),
    (f'{{"question": "q", "answer": {"1" * 5000}}}', "it is not valid JSON (Exceeds the limit"),
]


@pytest.mark.parametrize(("line", "reason"), MALFORMED)
def test_a_malformed_line_is_named_with_its_reason(tmp_path: Path, line: str | bytes, reason: str) -> None:
    lines = ['{"question": "first", "id": "good"}', "", line, '{"question": "last", "id": "last"}']
    with pytest.raises(InvalidInput) as error:
        from_lines(tmp_path, *lines)
    assert str(error.value).startswith(f"{tmp_path / 'p.jsonl'}, line 3: {reason}")
    assert str(error.value).endswith("; mend it, or skip malformed lines")
    found = from_lines(tmp_path, *lines, skip_malformed=True)
    assert [problem.id for problem in found.problems] == ["good", "last"]
    assert len(found.malformed) == 1
    assert found.malformed[0].line == 3 and found.malformed[0].reason.startswith(reason)


def test_malformed_lines_of_csv_are_named_where_they_start(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes(b'question,id\n"two\nlines",a\ntoo,many,fields\n\xffbad,b\n"bad" quote,c\nlast,d\n,e\n"open')
    found = read_problems(path, skip_malformed=True)
    assert [problem.question for problem in found.problems] == ["two\nlines", "last"]
    assert found.malformed == (
        MalformedRow(4, "it has 3 fields where the first line names 2"),
        MalformedRow(5, "it is not UTF-8"),
        MalformedRow(6, "it is not valid CSV (',' expected after '\"')"),
        MalformedRow(8, "its question is empty"),
        MalformedRow(9, "it is not valid CSV (unexpected end of data)"),
    )
    with pytest.raises(InvalidInput, match=r"p.csv, line 4: it has 3 fields where the first line names 2; mend it"):
        read_problems(path)


def test_malformed_records_of_json_and_parquet_are_counted(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('[{"question": "q"}, 5]')
    with pytest.raises(InvalidInput, match=r"p.json, record 2: it is a number, not an object; mend it, or skip malformed records"):
        read_problems(tmp_path / "p.json")
    pq.write_table(pa.table({"question": ["q", None, "r"], "answer": [[1], [2], None]}), tmp_path / "p.parquet")
    found = read_problems(tmp_path / "p.parquet", skip_malformed=True)
    assert [row.line for row in found.malformed] == [1, 2] and [problem.question for problem in found.problems] == ["r"]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("missing.jsonl", None, "there is no file {path}: check its name, relative to {cwd}"),
        ("folder.jsonl", "folder", "{path} is a folder: give a problem file (.jsonl, .json, .csv, .parquet)"),
        ("p.txt", b"q", "{path} has the suffix '.txt': problem files are .jsonl, .json, .csv, .parquet"),
        ("p.jsonl", b"", "{path} is empty: give a file with at least one record that has a 'question'"),
        ("p.csv", b"", "{path} is empty: give a file with at least one record that has a 'question'"),
        ("p.jsonl", b"\n \n", "{path} holds no problems: give a file with at least one record that has a 'question'"),
        ("p.json", b"[]", "{path} holds no problems: give a file with at least one record that has a 'question'"),
        ("p.csv", b"question,id\n", "{path} holds no problems: give a file with at least one record that has a 'question'"),
        ("p.jsonl", "{}".encode("utf-16"), "{path} is UTF-16: save it as UTF-8"),
        ("p.json", b'[{"question":\n"\xff"}]', "{path} is not UTF-8 at line 2: save it as UTF-8"),
        ("p.json", b'[{"question":}]', "{path} is not valid JSON: Expecting value at line 1, column 14"),
        (
            "p.json",
            b'{"question": "a"}\n{"question": "b"}',
            "{path} is not valid JSON: Extra data at line 2, column 1; with one JSON object a line, name it .jsonl",
        ),
        ("p.json", b'{"a": 1}', "{path} holds no list of problems: give a list of objects, or an object with a list under 'example'"),
        ("p.csv", b"text,label\nq,1\n", "{path} has no column 'question': its first line names 'text', 'label'"),
        ("p.parquet", b"not parquet", "{path} cannot be read as Parquet: "),
    ],
)
def test_an_unusable_file_gets_one_clear_sentence(tmp_path: Path, name: str, content: Any, sentence: str) -> None:
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    for skip_malformed in (False, True):
        with pytest.raises(InvalidInput) as error:
            read_problems(path, skip_malformed=skip_malformed)
        assert str(error.value).startswith(sentence.format(path=path, cwd=Path.cwd()))
        assert "\n" not in str(error.value)


def test_a_parquet_file_without_questions_names_its_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["q"]}), tmp_path / "p.parquet")
    with pytest.raises(InvalidInput, match="has no column 'question': its columns are 'text'"):
        read_problems(tmp_path / "p.parquet")


def test_a_file_of_malformed_lines_only_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no usable problem, all 2 records are malformed, the first at line 1: it is a number"):
        from_lines(tmp_path, "1", "2", skip_malformed=True)


@pytest.mark.parametrize(
    ("text", "is_file"),
    [("p.jsonl", True), ("a/b c.CSV", True), ("x.parquet", True), ("What is 1+1?", False), ("1.5", False), ("q\n.json", False), ("", False)],
)
def test_what_looks_like_a_problem_file(text: str, is_file: bool) -> None:
    assert looks_like_problem_file(text) == is_file


def test_public_problem_sets_load(data_dir: Path) -> None:
    counts = {"aime2024": 30, "amc23": 40, "gsm8k-200": 200, "math500": 500}
    for name, count in counts.items():
        found = read_problems(data_dir / f"{name}.jsonl")
        assert (len(found.problems), len(found.answers)) == (count, count)


def test_labels_are_kept_apart(tmp_path: Path) -> None:
    rows = [
        {"question": "a?", "id": "a", "level": 3, "subject": "algebra"},
        {"question": "b?", "id": "b", "level": " Level 5 ", "type": "geometry"},
        {"question": "c?", "id": "c", "level": None, "type": ["x"]},
        {"question": "d?", "id": "d", "level": True, "subject": ""},
    ]
    expected = {"a": {"level": "3", "type": "algebra"}, "b": {"level": "Level 5", "type": "geometry"}, "c": {}, "d": {}}
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    assert read_problems(tmp_path / "p.jsonl").labels == expected
    (tmp_path / "p.csv").write_text("question,id,level,subject\na?,a,3,algebra\n", "utf-8")
    assert read_problems(tmp_path / "p.csv").labels == {"a": expected["a"]}
    table = pa.table({"question": ["a?", "b?"], "id": ["a", "b"], "level": [3, None], "type": ["algebra", "geometry"]})
    pq.write_table(table, tmp_path / "p.parquet")
    assert read_problems(tmp_path / "p.parquet").labels == {"a": expected["a"], "b": {"type": "geometry"}}


def test_the_records_of_a_data_set_are_taken_as_they_are() -> None:
    records = [{"question": "One?", "id": "a", "answer": "1"}, {"question": "Two?", "id": "a", "answer": " "}, {"question": "Three?", "id": "a", "answer": "3"}]
    found = problems_of(records, "somebody/set")
    assert [(problem.id, problem.question) for problem in found.problems] == [("a", "One?"), ("a-2", "Three?")]
    assert dict(found.answers) == {"a": "1", "a-2": "3"} and [row.line for row in found.malformed] == [2]
    with pytest.raises(InvalidInput, match=r"somebody/set, record 2: it has no 'question'"):  # other faults are none of these
        problems_of([*records[:1], {"id": "b", "answer": "2"}], "somebody/set")
