"""The paper's benchmarks: read by name from data sets and files with the columns they have on the hub; graded, where they are at hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rstar_fast import steps
from rstar_fast.evaluation import BENCHMARKS, load_problems
from rstar_fast.evaluation.benchmarks import benchmark_named
from rstar_fast.grading import grade, grade_many
from rstar_fast.storage import ProblemFile
from rstar_fast.types import InvalidInput, Partial, RstarError

# A record of each as it is on the hub, and what is made of it: answer, level, type; the id where it has one.
RECORDS: dict[str, tuple[dict[str, Any], tuple[str, ...], str]] = {
    "gsm8k": ({"question": "How many?", "answer": "3 and 4 are <<3+4=7>>7.\n#### 7"}, ("7", "", ""), ""),
    "math": (
        {"problem": "How many?", "level": "Level 5", "type": "Algebra", "solution": "It is $\\boxed{\\frac{1}{2}}$."},
        ("\\frac{1}{2}", "5", "Algebra"),
        "",
    ),
    "math-500": (
        {"problem": "How many?", "solution": "...", "answer": "p - q", "subject": "Precalculus", "level": 2, "unique_id": "test/precalculus/807.json"},
        ("p - q", "2", "Precalculus"),
        "test/precalculus/807.json",
    ),
    "aime-2024": ({"id": 60, "problem": "How many?", "solution": "...", "answer": "204", "url": "https://x", "year": "2024"}, ("204", "", ""), "60"),
    "amc-2023": ({"id": 0, "question": "How many?", "answer": "27", "url": "https://x"}, ("27", "", ""), "0"),
    "olympiadbench": (
        {
            "id": 1606, "question": "How many?", "solution": ["..."], "final_answer": ["2", "3"], "subject": "Math", "subfield": "Algebra",
            "difficulty": "Competition", "question_type": "Open-ended",
        },
        ("2, 3", "Competition", "Algebra"),
        "1606",
    ),  # fmt: skip
    "college-math": (
        {"data_source": "college_math.Algebra", "question_number": "exercise.1.1.1", "question": "How many?", "answer": "$x^2$", "data_topic": "algebra"},
        ("$x^2$", "", "algebra"),
        "",
    ),
    "gaokao-2023-en": ({"source": "gaokao", "question": "How many?", "answer": "$\\pi$", "lang": "en"}, ("$\\pi$", "", ""), ""),
    "omni-math": (
        {"domain": ["Mathematics -> Algebra", "Mathematics -> Geometry"], "difficulty": 8.5, "solution": "...", "answer": "2", "problem": "How many?", "source": "imo"},
        ("2", "8.5", "Mathematics -> Algebra"),
        "",
    ),
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_MODULES_CACHE", str(tmp_path / "modules"))


def check(found: ProblemFile, name: str, count: int) -> None:
    record, (answer, level, kind), given_id = RECORDS[name]
    assert len(found.problems) == count
    assert found.problems[0].question == "How many?"
    if given_id:
        assert found.problems[0].id == given_id
    assert set(found.answers.values()) == {answer}
    labels = {label: value for label, value in (("level", level), ("type", kind)) if value}
    assert all(of_problem == labels for of_problem in found.labels.values())


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_data_set_with_the_columns_of_the_hub(name: str, tmp_path: Path) -> None:
    """Its subsets and its split as there: named in the data set's README, as on the hub."""
    benchmark = BENCHMARKS[name]
    folder = tmp_path / "copy"
    configs = []
    for subset in benchmark.subsets:
        (folder / subset).mkdir(parents=True, exist_ok=True)
        file = folder / subset / f"{benchmark.split}-00000-of-00001.parquet"
        pq.write_table(pa.Table.from_pylist([RECORDS[name][0]]), file)
        configs.append(
            f"- config_name: {subset or 'default'}\n  data_files:\n  - split: {benchmark.split}\n    path: {file.relative_to(folder).as_posix()}\n"
        )
    (folder / "README.md").write_text(f"---\nconfigs:\n{''.join(configs)}---\n")
    check(load_problems(name, folder), name, len(benchmark.subsets))


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet"])
@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_file_with_the_columns_of_the_hub(name: str, suffix: str, tmp_path: Path) -> None:
    record = RECORDS[name][0]
    if suffix == "csv" and any(isinstance(value, list) for value in record.values()):
        record = {name: ", ".join(value) if name == "final_answer" else value[0] if isinstance(value, list) else value for name, value in record.items()}
    path = tmp_path / f"copy.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist([record]), path)
    elif suffix == "csv":
        import csv

        with path.open("w", newline="") as file:
            csv.writer(file).writerows([record.keys(), record.values()])
    else:
        path.write_text(json.dumps([record] if suffix == "json" else record))
    check(load_problems(name, path), name, 1)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_file_with_our_fields(name: str, tmp_path: Path) -> None:
    path = tmp_path / "ours.jsonl"
    path.write_text(json.dumps({"question": "How many?", "id": "a", "answer": "7", "level": "1", "type": "t", "solution": "\\boxed{8}"}))
    found = load_problems(name, path)
    assert dict(found.answers) == {"a": "7"} and found.labels["a"] == {"level": "1", "type": "t"}


def test_the_benchmarks_are_those_of_the_paper_and_found_by_what_people_call_them() -> None:
    titles = {"GSM8K", "MATH", "MATH-500", "AIME 2024", "AMC 2023", "OlympiadBench", "College Math", "Gaokao 2023 En", "Omni-MATH"}
    assert {benchmark.title for benchmark in BENCHMARKS.values()} == titles
    for name, benchmark in BENCHMARKS.items():
        assert benchmark_named(name) == benchmark_named(benchmark.title) == benchmark_named(name.replace("-", "_").upper()) == name
    assert benchmark_named("aime24") == "aime-2024" and benchmark_named("amc23") == "amc-2023"
    assert benchmark_named("math-501") is None


@pytest.mark.usefixtures("cache")
def test_without_the_hub_it_is_said_what_to_do() -> None:
    with pytest.raises(RstarError, match=r"^gsm8k cannot be loaded from openai/gsm8k \(.*\): connect to the hub, or give a problem file"):
        load_problems("gsm8k")


def from_the_hub(name: str, records: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> ProblemFile:
    """A benchmark loaded where the hub has these records in its first subset."""
    import datasets

    subsets = iter([records])
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: next(subsets, []))
    return load_problems(name)


def test_a_repeated_id_on_the_hub_gets_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [{"problem": f"What is {i}?", "answer": str(i), "unique_id": "same"} for i in range(3)]
    found = from_the_hub("math-500", records, monkeypatch)
    assert [problem.id for problem in found.problems] == ["same", "same-2", "same-3"]
    assert dict(found.answers) == {"same": "0", "same-2": "1", "same-3": "2"}
    assert from_the_hub("math-500", records, monkeypatch) == found


def test_a_record_on_the_hub_without_a_key_is_left_out(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    solutions = ["It is $\\boxed{7}$.", "It is seven.", "It is $\\boxed{9}$."]
    records = [{"problem": f"What is {i}?", "solution": solution, "level": "Level 1", "type": "Algebra"} for i, solution in enumerate(solutions)]
    found = from_the_hub("math", records, monkeypatch)
    assert [problem.question for problem in found.problems] == ["What is 0?", "What is 2?"]
    assert set(found.labels) == set(found.answers) == {problem.id for problem in found.problems}
    assert [(row.line, row.reason) for row in found.malformed] == [(2, "it has no answer")]
    assert "1 of the 3 records of EleutherAI/hendrycks_math have no answer that can be read and are left out" in caplog.messages
    with pytest.raises(InvalidInput, match="all 1 records are malformed, the first at record 1: it has no answer"):
        from_the_hub("math", records[1:2], monkeypatch)


def test_another_size_than_the_paper_s_is_said_of_the_hub(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    records = [{"problem": f"What is {i}?", "answer": str(i), "id": i} for i in range(31)]
    from_the_hub("aime-2024", records[:30], monkeypatch)
    path = tmp_path / "copy.json"  # of a file its size is its owner's
    path.write_text(json.dumps(records[:3]))
    load_problems("aime-2024", path)
    assert not caplog.messages
    from_the_hub("aime-2024", records, monkeypatch)
    said = "HuggingFaceH4/aime_2024 has 31 problems and the paper's AIME 2024 has 30: the numbers are not of the same problems"
    assert caplog.messages == [said]


def test_a_file_of_a_benchmark_stays_strict(tmp_path: Path) -> None:
    path = tmp_path / "copy.json"
    path.write_text(json.dumps([{"problem": f"What is {i}?", "answer": str(i), "unique_id": "same"} for i in range(2)]))
    with pytest.raises(InvalidInput, match="the id 'same' was already given at record 1"):
        load_problems("math-500", path)
    path.write_text(json.dumps([{"problem": "What is 1?", "answer": "1"}, {"problem": "What is 2?"}]))
    assert len(load_problems("math-500", path).problems) == 2  # the second without its answer, which an evaluation refuses


def test_without_datasets_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(RstarError, match=r"pip install 'rstar_fast\[train\]', or give a problem file of math-500"):
        load_problems("MATH500")


def test_what_is_neither_benchmark_nor_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="'gsm9k' is no benchmark and no file: give a problem file, or one of gsm8k, math,"):
        load_problems("gsm9k")
    with pytest.raises(InvalidInput, match="is no benchmark, so its file cannot be another"):
        load_problems("mine.jsonl", tmp_path / "other.jsonl")
    with pytest.raises(InvalidInput, match="there is no file"):
        load_problems("gsm8k.jsonl")


@pytest.mark.parametrize(
    ("name", "file", "count"),
    [("gsm8k", "gsm8k-200.jsonl", 200), ("math-500", "math500.jsonl", 500), ("aime-2024", "aime2024.jsonl", 30), ("amc-2023", "amc23.jsonl", 40)],
)
def test_public_problems_are_loaded_prompted_and_graded(name: str, file: str, count: int, data_dir: Path) -> None:
    given = load_problems(name, data_dir / file)
    assert len(given.problems) == len(given.answers) == count
    assert all(problem.question in steps.prompt(Partial(problem)) for problem in given.problems)
    keys = [given.answers[problem.id] for problem in given.problems]
    rewritings = ["{}", " {} ", "${}$", "\\boxed{{{}}}"]
    verdicts = grade_many([(key, form.format(key)) for key in keys for form in rewritings])
    wrong = [key for at, key in enumerate(keys) if not all(verdicts[at * len(rewritings) :][: len(rewritings)])]
    assert not wrong
    numbers = [key for key in keys if key.isdigit()]
    assert all(grade(key, f"{int(key):,}") and grade(key, f"{key}.0") and not grade(key, str(int(key) + 1)) for key in numbers)
