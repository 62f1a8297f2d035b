"""Run folders: exact round trips, and nothing lost or doubled wherever a writer is killed."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rstar_fast.storage import Run, load_run, run as run_module, store as store_module
from rstar_fast.storage.columns import FIRST_SCHEMA, escape, to_row, unescape
from rstar_fast.storage.journal import HEADER, Journal, scan
from rstar_fast.storage.shards import footer_checksum
from rstar_fast.types import (
    TREE_COLUMNS,
    TREE_TEXTS,
    Failure,
    FailureKind,
    InvalidInput,
    Problem,
    RstarError,
    SearchResult,
    SearchStats,
    Stopped,
    Trajectory,
    Tree,
)

SETTINGS = {"search": {"rollouts": 16, "c": 2.0}, "policy": "nano"}

any_text = st.text(st.characters() | st.sampled_from("\ud800\udfff\U0010ffff\x00\r\n"), max_size=12)
any_float = st.floats(allow_nan=True, width=64)


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    count = draw(st.integers(1, 5))
    columns = {}
    for name, dtype in TREE_COLUMNS.items():
        if np.issubdtype(dtype, np.floating):
            values = draw(st.lists(st.floats(width=32), min_size=count, max_size=count))
        else:
            limits = np.iinfo(dtype)
            values = draw(st.lists(st.integers(int(limits.min), int(limits.max)), min_size=count, max_size=count))
        columns[name] = np.array(values, dtype)
    # The shape is a tree's, breadth-first; all other numbers are any.
    parent = sorted(draw(st.integers(0, row - 1)) for row in range(1, count))
    children = [[row for row, above in enumerate(parent, 1) if above == node] for node in range(count)]
    columns["parent"][:] = [-1, *parent]
    columns["first_child"][:] = [group[0] if group else -1 for group in children]
    columns["child_count"][:] = [len(group) for group in children]
    columns["depth"][0] = 0
    for row, above in enumerate(parent, 1):
        columns["depth"][row] = columns["depth"][above] + 1
    columns["terminal"] %= 6
    return Tree.from_texts(columns, {name: draw(st.lists(any_text, min_size=count, max_size=count)) for name in TREE_TEXTS})


trajectories = st.builds(
    Trajectory,
    any_text,
    any_text,
    any_float,
    st.lists(any_float, max_size=4).map(tuple),
    st.sampled_from([None, True, False]),
    any_text,
)
results = st.builds(
    SearchResult,
    problem=st.builds(Problem, any_text.map(lambda text: f"q{text}"), any_text),
    answer=st.none() | any_text,
    score=st.none() | any_float,
    trajectories=st.lists(trajectories, max_size=3).map(tuple),
    votes=st.dictionaries(any_text, any_float, max_size=4),
    tree=st.none() | trees(),
    stats=st.builds(SearchStats, *[st.integers(0, 2**40)] * 7, st.floats(0, 1e9), st.none() | st.sampled_from(Stopped)),
    failure=st.none() | st.builds(Failure, st.sampled_from(FailureKind), any_text),
)


def exactly(result: SearchResult) -> tuple[Any, ...]:
    """All of a result in a form that compares exactly, NaN and the sign of zero included."""
    columns = {} if result.tree is None else result.tree.columns()
    tree = {name: (column.dtype, column.tobytes()) for name, column in columns.items()}
    return repr(dataclasses.replace(result, tree=None)), tree


def test_folders_of_versions_that_did_not_know_why_a_search_stopped_still_load(tmp_path: Path) -> None:
    """Their shards and their journals' records have no column `stopped`."""
    with Run.open(tmp_path, SETTINGS) as run:
        run.add(a_result(1))
    (shard,) = tmp_path.glob("*.parquet")
    pq.write_table(pq.read_table(shard).select(FIRST_SCHEMA.names), shard, write_page_checksum=True)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["shards"][0] |= {"size": shard.stat().st_size, "footer": footer_checksum(shard)}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    journal = Journal(tmp_path / "journal-00001.bin")
    journal.append(to_row(a_result(2)).select(FIRST_SCHEMA.names).serialize().to_pybytes())
    journal.close()
    with Run.open(tmp_path, SETTINGS) as run:
        run.add(a_result(3))
        assert dict(run.stats()) == {str(name): a_result(name).stats for name in (1, 2, 3)}
    check(tmp_path, {"1", "2", "3"})


def a_result(name: str | int, kind: FailureKind | None = None, nodes: int = 3) -> SearchResult:
    """A result of some weight whose content follows from its name."""
    columns = {column: np.arange(nodes).astype(dtype) for column, dtype in TREE_COLUMNS.items()}
    columns["score"][0] = np.nan
    columns["parent"] -= 1  # a chain
    columns["first_child"] = np.array([*range(1, nodes), -1], np.int32)
    columns["child_count"] = np.array([1] * (nodes - 1) + [0], np.int32)
    columns["terminal"] %= 6
    texts = {text: [f"{text} {i} of {name}" for i in range(nodes)] for text in TREE_TEXTS}
    return SearchResult(
        Problem(f"question {name}", str(name)),
        None if kind else str(name),
        None if kind else 0.5,
        () if kind else (Trajectory(f"solution {name}", str(name), 0.25, (0.1, -0.2)),),
        {} if kind else {str(name): 1.5, "7": 0.5},
        Tree.from_texts(columns, texts),
        SearchStats(rollouts=4, seconds=1.25),
        Failure(kind, f"because {name}") if kind else None,
    )


def check(folder: Path, expected: set[str]) -> None:
    """The folder continues with exactly these problems finished, each once and as it was added."""
    with Run.open(folder, SETTINGS) as run:
        assert run.finished() == expected
        ids = sorted(expected)
        assert [exactly(result) for result in run.read(ids)] == [exactly(a_result(name)) for name in ids]
    stored = load_run(folder)
    assert sorted(result.problem.id for result in stored) == ids
    rows = [row for shard in sorted(folder.glob("*.parquet")) for row in pq.read_table(shard, columns=["id"])["id"].to_pylist()]
    assert sorted(rows) == ids


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
@given(wanted=st.lists(results, max_size=4, unique_by=lambda result: result.problem.id), rolled=st.booleans())
def test_results_round_trip_exactly(wanted: list[SearchResult], rolled: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("run")
    with Run.open(folder, SETTINGS) as run:
        for result in wanted:
            run.add(result)
        if not rolled:  # read from the journal
            assert [exactly(result) for result in run.read([result.problem for result in wanted])] == list(map(exactly, wanted))
    if rolled:  # read from the shard
        assert [exactly(result) for result in load_run(folder)] == list(map(exactly, wanted))


@given(any_text)
def test_escaped_text_is_utf8_and_comes_back(text: str) -> None:
    assert unescape(escape(text).encode("utf-8").decode("utf-8")) == text


def test_unescaping_leaves_no_room_for_two_readings() -> None:
    texts = ["\ud800", "\U0010ffffd800", "\U0010ffff", "\U0010ffffffff", "ffff"]
    assert len({escape(text) for text in texts}) == len(texts)
    assert [unescape(escape(text)) for text in texts] == texts


def test_a_run_is_plain_parquet_for_others(tmp_path: Path) -> None:
    with Run.open(tmp_path / "run", SETTINGS) as run:
        run.add(a_result(1))
    table = pq.read_table(tmp_path / "run" / "shard-00000.parquet")
    assert table["question"].to_pylist() == ["question 1"]
    assert table["tree_visits"].to_pylist() == [[0, 1, 2]]
    assert table["votes"].to_pylist() == [[{"answer": "1", "weight": 1.5}, {"answer": "7", "weight": 0.5}]]


def test_results_come_in_the_order_asked_for_and_stay_readable_after_closing(tmp_path: Path) -> None:
    with Run.open(tmp_path, SETTINGS) as run:
        for name in range(5):
            run.add(a_result(name))
        problems = [Problem(f"question {name}", str(name)) for name in (3, 0, 4, 0)]
        found = run.read(problems)
        assert [result.answer for result in found] == ["3", "0", "4", "0"]
    assert [result.answer for result in found] == ["3", "0", "4", "0"]
    assert found[-1].answer == "0" and [result.answer for result in found[1:3]] == ["0", "4"] and len(found[1:3]) == 2
    with pytest.raises(IndexError):
        found[4]


def test_many_results_are_read_lazily(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count, decoded = 5000, 0
    texts = Random(1)
    from_row = store_module.from_row

    def counted(*arguments: Any) -> SearchResult:
        nonlocal decoded
        decoded += 1
        return from_row(*arguments)

    monkeypatch.setattr(store_module, "from_row", counted)
    with Run.open(tmp_path, SETTINGS) as run:
        for name in range(count):
            heavy = Trajectory(texts.randbytes(4000).hex(), str(name), 0.0, ())
            run.add(SearchResult(Problem(f"question {name}", str(name)), str(name), 0.0, (heavy,)))
    found = load_run(tmp_path)
    assert len(found) == count and decoded == 0
    assert found[4321].answer == "4321" and decoded == 1
    before = pa.total_allocated_bytes()
    seen: list[weakref.ref[SearchResult]] = []
    for name, result in enumerate(found):
        assert result.answer == str(name)
        seen.append(weakref.ref(result))
    del result
    assert decoded == 1 + count
    assert not any(reference() for reference in seen)
    assert pa.total_allocated_bytes() - before < 8 << 20  # of 40 MB of text


def test_the_journal_becomes_shards_by_count_and_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "_SHARD_RESULTS", 4)
    with Run.open(tmp_path / "count", SETTINGS) as run:
        for name in range(10):
            run.add(a_result(name))
        assert len(list((tmp_path / "count").glob("shard-*.parquet"))) == 2
    check(tmp_path / "count", {str(name) for name in range(10)})
    monkeypatch.setattr(run_module, "_SHARD_BYTES", 50_000)
    monkeypatch.setattr(run_module, "_SHARD_RESULTS", 1000)
    with Run.open(tmp_path / "size", SETTINGS) as run:
        for name in range(10):
            run.add(a_result(name, nodes=200))
        assert len(list((tmp_path / "size").glob("shard-*.parquet"))) >= 2


def test_an_empty_run_continues(tmp_path: Path) -> None:
    for _ in range(2):
        with Run.open(tmp_path, SETTINGS) as run:
            assert run.finished() == frozenset() and len(run.read([])) == 0
    assert not list(tmp_path.glob("*.parquet"))


# Killed.

WRITER = textwrap.dedent("""
    import sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    from test_storage import SETTINGS, a_result
    from rstar_fast.storage import Run, run
    run._SHARD_RESULTS = 5
    with Run.open(sys.argv[2], SETTINGS) as writer:
        print("open", flush=True)
        for name in range(10**6):
            if str(name) not in writer.finished():
                writer.add(a_result(name))
                print(name, flush=True)
""")


def test_a_killed_writer_loses_and_doubles_nothing(tmp_path: Path) -> None:
    random = Random(7)
    folder = tmp_path / "run"
    reported: set[str] = set()
    for _ in range(12):
        command = [sys.executable, "-c", WRITER, str(Path(__file__).parent), str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "open\n"
            for _ in range(random.randrange(12)):  # then at whatever it is doing
                reported.add(writer.stdout.readline().strip())
            writer.send_signal(signal.SIGKILL)
            rest = writer.stdout.read()
        reported |= {line for line in rest.split("\n")[:-1]}
        with Run.open(folder, SETTINGS) as run:
            finished = run.finished()
            assert reported <= finished and len(finished - reported) <= 1  # the last may not have been reported any more
            reported = set(finished)
    assert len(reported) > 20
    check(folder, reported)


def test_every_instant_of_a_run_can_be_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies the folder around every change of a file name and after every record: each copy must continue."""
    monkeypatch.setattr(run_module, "_SHARD_RESULTS", 3)
    folder = tmp_path / "run"
    instants: list[tuple[Path, set[str], str]] = []
    added: set[str] = set()
    adding = ""

    def snapshot() -> None:
        copy = tmp_path / f"instant-{len(instants)}"
        shutil.copytree(folder, copy)
        instants.append((copy, set(added), adding))

    def watched(change: Any) -> Any:
        def watch(path: Path, *arguments: Any, **named: Any) -> Any:
            snapshot()
            outcome = change(path, *arguments, **named)
            snapshot()
            return outcome

        return watch

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", watched(Path.replace))
        patched.setattr(Path, "unlink", watched(Path.unlink))
        with Run.open(folder, SETTINGS) as run:
            for name in range(8):
                adding = str(name)
                run.add(a_result(name))
                added.add(adding)
                adding = ""
                snapshot()
    assert len(instants) > 20
    for copy, expected, on_its_way in instants:
        with Run.open(copy, SETTINGS) as continued:
            assert expected <= continued.finished() <= expected | {on_its_way} - {""}
            finished = set(continued.finished())
        check(copy, finished)
        assert not list(copy.glob("*.tmp")) and not list(copy.glob("journal-*"))


def test_a_journal_torn_at_any_byte_keeps_the_whole_records(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    payloads = [b"first", b"", b"third record"]
    journal = Journal(path)
    ends = []
    for payload in payloads:
        journal.append(payload)
        ends.append(journal.size)
    journal.close()
    whole = path.read_bytes()
    assert len(whole) == ends[-1]
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        kept = [payload for payload, end in zip(payloads, ends, strict=True) if end <= length]
        assert [payload for _, payload in scan(path)] == kept
        journal = Journal(path)  # cuts the torn tail off and goes on
        journal.append(b"next")
        journal.close()
        assert [payload for _, payload in scan(path)] == [*kept, b"next"]


@pytest.mark.parametrize("tail", [b"\0" * 40, b"\xff" * 40, b"\x05"], ids=["zeros", "ones", "short"])
def test_a_journal_keeps_nothing_of_an_unwritten_tail(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.append(b"whole")
    journal.close()
    path.write_bytes(path.read_bytes() + tail)
    assert [payload for _, payload in scan(path)] == [b"whole"]


def test_a_changed_byte_ends_a_journal_before_its_record(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    ends = [len(HEADER)]
    for payload in (b"first", b"second", b"third"):
        journal.append(payload)
        ends.append(journal.size)
    journal.close()
    whole = path.read_bytes()
    for at in range(len(HEADER), len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
        assert len(list(scan(path))) == sum(end <= at for end in ends) - 1


@pytest.mark.parametrize("cut", [1, 100, 3000])
def test_a_run_with_a_torn_journal_continues(tmp_path: Path, cut: int) -> None:
    folder = tmp_path / "run"
    run = Run.open(folder, SETTINGS)
    for name in range(3):
        run.add(a_result(name))
    shutil.copytree(folder, tmp_path / "copy")
    run.close()
    journal = tmp_path / "copy" / "journal-00000.bin"
    os.truncate(journal, journal.stat().st_size - cut)
    with Run.open(tmp_path / "copy", SETTINGS) as continued:
        assert continued.finished() == {"0", "1"}
        continued.add(a_result(2))
    check(tmp_path / "copy", {"0", "1", "2"})


def test_a_record_that_cannot_be_written_leaves_the_run_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite

    def full(fd: int, data: Any, offset: int) -> int:
        if offset > 3000:
            raise OSError(28, "No space left on device")
        return pwrite(fd, bytes(data)[:2000], offset)

    with Run.open(tmp_path, SETTINGS) as run:
        run.add(a_result(0))
        with monkeypatch.context() as patched:
            patched.setattr(os, "pwrite", full)
            with pytest.raises(RstarError, match=r"problem '1' could not be written to .*No space left"):
                run.add(a_result(1))
        assert run.finished() == {"0"}
        run.add(a_result(2))
    check(tmp_path, {"0", "2"})


def test_a_shard_that_cannot_be_written_leaves_the_results_in_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    run = Run.open(tmp_path, SETTINGS)
    run.add(a_result(0))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        with pytest.raises(RstarError, match=r"shard-00000.parquet could not be written: .*the results wait in"):
            run.close()
    assert [result.answer for result in run.read(["0"])] == ["0"]
    check(tmp_path, {"0"})


# One writer, one set of settings.


def test_two_processes_cannot_write_one_run(tmp_path: Path) -> None:
    with Run.open(tmp_path, SETTINGS):
        with pytest.raises(
            InvalidInput, match=f"being written by process {os.getpid()}: wait for it to end, or give another folder"
        ):
            Run.open(tmp_path, SETTINGS)
    with Run.open(tmp_path, SETTINGS) as run:
        run.add(a_result(1))


def test_a_failed_opening_leaves_no_lock(tmp_path: Path) -> None:
    Run.open(tmp_path, SETTINGS).close()
    with pytest.raises(InvalidInput):
        Run.open(tmp_path, {})
    Run.open(tmp_path, SETTINGS).close()


def test_a_run_that_is_being_written_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "_SHARD_RESULTS", 2)
    with Run.open(tmp_path, SETTINGS) as run:
        for name in range(5):
            run.add(a_result(name))
            assert [result.answer for result in load_run(tmp_path)] == [str(i) for i in range(name + 1)]


def test_a_run_continues_only_with_its_own_settings(tmp_path: Path) -> None:
    Run.open(tmp_path, SETTINGS).close()
    changed = {"search": {"rollouts": 32, "c": 2.0}, "ppm": "x"}
    with pytest.raises(InvalidInput) as error:
        Run.open(tmp_path, changed)
    assert str(error.value) == (
        f"{tmp_path} was made with search.rollouts=16, not search.rollouts=32; policy='nano', not without policy; "
        "without ppm, not ppm='x': continue it with the same settings, or give another folder"
    )


def test_settings_must_be_plain(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="must be plain values"):
        Run.open(tmp_path, {"policy": object()})
    Run.open(tmp_path, {"first_play_urgency": float("inf"), "pair": (1, 2)}).close()
    Run.open(tmp_path, {"first_play_urgency": float("inf"), "pair": [1, 2]}).close()


def test_an_existing_run_opens_with_the_settings_it_has(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds no run"):
        Run.open(tmp_path / "none", None)
    assert not (tmp_path / "none").exists()
    Run.open(tmp_path, SETTINGS).close()
    Run.open(tmp_path, None).close()
    Run.open(tmp_path, SETTINGS).close()


def test_a_problem_is_finished_once(tmp_path: Path) -> None:
    with Run.open(tmp_path, SETTINGS) as run:
        run.add(a_result(1))
        with pytest.raises(InvalidInput, match="problem '1' is finished"):
            run.add(a_result(1))
        assert run.finished([Problem("question 1", "1"), Problem("question 2", "2")]) == {"1"}
        with pytest.raises(InvalidInput, match="problem '2' is not finished"):
            run.read(["1", "2"])
    with pytest.raises(InvalidInput, match="is closed: open it again"):
        run.add(a_result(2))
    run.close()


def test_the_same_id_with_another_question_is_told(tmp_path: Path) -> None:
    with Run.open(tmp_path, SETTINGS) as run:
        run.add(a_result(1))
    with Run.open(tmp_path, SETTINGS) as run:
        for ask in (run.finished, run.read):
            with pytest.raises(
                InvalidInput, match="another question under the id '1': give another folder, or the problem another id"
            ):
                ask([Problem("something else", "1")])


def test_failures_can_be_forgotten_but_no_answer_is_an_outcome(tmp_path: Path) -> None:
    with Run.open(tmp_path, SETTINGS) as run:
        run.add(a_result(0))
        run.add(a_result(1, FailureKind.POLICY))
        run.add(a_result(2, FailureKind.NO_ANSWER))
    with Run.open(tmp_path, SETTINGS) as run:
        assert run.finished() == {"0", "1", "2"}
        run.add(a_result(3, FailureKind.SANDBOX))
        assert run.forget_failures() == 2
        assert run.finished() == {"0", "2"}
        run.add(a_result(1))
        run.add(a_result(4, FailureKind.SCORER))  # later failures count again
    with Run.open(tmp_path, SETTINGS) as run:
        assert run.finished() == {"0", "1", "2", "4"}
        assert run.read(["1"])[0].answer == "1"
        assert run.forget_failures() == 1
    assert sorted(result.problem.id for result in load_run(tmp_path)) == ["0", "1", "2"]


# Damaged or foreign folders.


def test_foreign_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InvalidInput, match=r"holds 'thesis.tex' but no run: give a new or an empty folder"):
        Run.open(tmp_path, SETTINGS)
    with pytest.raises(InvalidInput, match="is a file: give a folder"):
        Run.open(tmp_path / "thesis.tex", SETTINGS)
    with pytest.raises(InvalidInput, match="cannot be used as a run folder: Not a directory"):
        Run.open(tmp_path / "thesis.tex" / "run", SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    for folder in (tmp_path, tmp_path / "missing", tmp_path / "thesis.tex"):
        with pytest.raises(InvalidInput, match="holds no run: give the folder"):
            load_run(folder)


@pytest.mark.parametrize(
    ("manifest", "sentence"),
    [
        ('{"format": "rstar_fast run"', "is damaged .*: restore it from a copy, or give another run folder"),
        ('{"format": "rstar_fast run", "format_version": 1}', "is damaged .*'shards'.*: restore it"),
        ('["a list"]', "is no manifest of a run"),
        ('{"name": "a web app"}', "is no manifest of a run"),
        (
            '{"format": "rstar_fast run", "format_version": 2}',
            "format version 2, this rstar_fast reads up to 1: upgrade rstar_fast",
        ),
    ],
)
def test_unusable_manifests_are_told_apart(tmp_path: Path, manifest: str, sentence: str) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    for opening in (lambda: Run.open(tmp_path, SETTINGS), lambda: load_run(tmp_path)):
        with pytest.raises(InvalidInput, match=sentence):
            opening()
    assert (tmp_path / "manifest.json").read_text() == manifest


def test_the_manifest_says_what_the_run_is(tmp_path: Path) -> None:
    with Run.open(tmp_path, SETTINGS) as run:
        run.add(a_result(1))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["format"] == "rstar_fast run" and manifest["format_version"] == 1
    assert manifest["settings"] == SETTINGS and manifest["package_version"]
    assert [(shard["file"], shard["rows"]) for shard in manifest["shards"]] == [("shard-00000.parquet", 1)]


def test_missing_and_cut_shards_are_named(tmp_path: Path) -> None:
    with Run.open(tmp_path, SETTINGS) as run:
        run.add(a_result(1))
    shard = tmp_path / "shard-00000.parquet"
    os.truncate(shard, shard.stat().st_size - 1)
    with pytest.raises(
        InvalidInput, match=r"shard-00000.parquet with 1 results is damaged \(it has \d+ bytes, not \d+\): restore it"
    ):
        Run.open(tmp_path, SETTINGS)
    shard.unlink()
    with pytest.raises(InvalidInput, match=r"shard-00000.parquet with 1 results is damaged \(it is missing\): restore it"):
        load_run(tmp_path)


def test_a_tree_that_is_none_is_named_with_its_file_and_row(tmp_path: Path) -> None:
    with Run.open(tmp_path, SETTINGS) as run:
        for name in range(3):
            result = a_result(name)
            assert result.tree is not None
            if name == 1:  # another program's mistake: the file is whole, its content is not
                result.tree._columns["first_child"] = np.array([1, 7, -1], np.int32)
            run.add(result)
    stored = load_run(tmp_path)
    assert exactly(stored[0]) == exactly(a_result(0)) and exactly(stored[2]) == exactly(a_result(2))
    said = (
        r"shard-00000.parquet with 3 results is damaged \(row 1: tree column 'first_child', row 1, is 7: expected a later row"
    )
    with pytest.raises(InvalidInput, match=said):
        stored[1]


def test_a_changed_byte_in_a_shard_is_noticed(tmp_path: Path) -> None:
    names = [str(name) for name in range(3)]
    with Run.open(tmp_path, SETTINGS) as run:
        for name in names:
            run.add(a_result(name))
    shard = tmp_path / "shard-00000.parquet"
    whole = shard.read_bytes()
    expected = [exactly(a_result(name)) for name in names]
    random = Random(3)
    noticed = 0
    for at in sorted(random.sample(range(4, len(whole)), 300)):
        shard.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << random.randrange(8))]) + whole[at + 1 :])
        try:
            found = [exactly(result) for result in load_run(tmp_path)]
        except InvalidInput as error:
            assert "shard-00000.parquet with 3 results is damaged" in str(error)
            noticed += 1
        else:
            assert found == expected  # e.g. the page's statistics, which nobody reads
    assert noticed > 250
