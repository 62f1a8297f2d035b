"""`rstar_fast.extract`: from stored runs to data sets that others read as they are."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from stored_trees import Step, result, right, stored, ungraded, wrong
from tiny_models import make_policy

import rstar_fast
from rstar_fast import Difficulty, ExtractionConfig, InvalidInput, Partial, RstarError, SearchResult, Terminal, Tree, steps
from rstar_fast.extraction import api, files
from rstar_fast.policies.checkpoint import load_tokenizer
from rstar_fast.storage import Run, export_reference_trees, import_reference_trees, load_run, read_reference_trees
from rstar_fast.training.datasets import read_table
from rstar_fast.training.reference import read_reference_pairs, read_reference_sft
from rstar_fast.types import Failure, FailureKind

GOLDEN = Path(__file__).parent / "golden"


def medium(name: str = "medium", **more: Any) -> SearchResult:
    """Two steps with siblings: the first step, and the answer."""
    good = Step("good\n", 0.5, 4, [right("\\boxed{1}", 1.0), wrong("\\boxed{2}", -1.0)])
    return result(name, [good, Step("bad\n", -0.5, 2, [wrong("\\boxed{3}", -0.75)])], **more)


def easy(name: str = "easy") -> SearchResult:
    return result(name, [right("a", 0.5), right("b", 1.0), right("c", 0.75)])


def hard(name: str = "hard") -> SearchResult:
    return result(name, [wrong("a"), Step("b", -1.0, terminal=Terminal.TOO_DEEP)])


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return pq.read_table(folder / f"{name}.parquet").to_pylist()


def prompt(found: SearchResult, solution: str = "") -> str:
    return steps.prompt(Partial(found.problem, solution))


def test_a_data_set_holds_solutions_pairs_and_problems(tmp_path: Path) -> None:
    run, one = stored(tmp_path / "run", medium(), easy(), hard()), medium()
    summary = rstar_fast.extract(run, tmp_path / "new" / "set")
    folder = tmp_path / "new" / "set"
    assert sorted(path.name for path in folder.iterdir()) == [
        "pairs.parquet",
        "problems.parquet",
        "sft.parquet",
        "summary.json",
    ]

    sft = rows(folder, "sft")
    assert [(row["problem"], row["completion"]) for row in sft] == [
        ("easy", "b"),
        ("easy", "c"),
        ("medium", "good\n\\boxed{1}"),
    ]
    assert sft[2] == {
        "prompt": prompt(one),
        "completion": "good\n\\boxed{1}",
        "problem": "medium",
        "difficulty": "medium",
        "q_mean": 0.75,
        "q_min": 0.5,
    }
    pairs = rows(folder, "pairs")
    assert [(row["prompt"], row["chosen"], row["rejected"], row["depth"], row["final"]) for row in pairs] == [
        (prompt(one), "good\n", "bad\n", 1, False),
        (prompt(one, "good\n"), "\\boxed{1}", "\\boxed{2}", 2, False),
        (prompt(one), "good\n\\boxed{1}", "bad\n\\boxed{3}", 2, True),
        (prompt(one), "good\n\\boxed{1}", "good\n\\boxed{2}", 2, True),
    ]
    assert [row["group"] for row in pairs] == [0, 1, 2, 2]
    assert [(row["q_chosen"], row["q_rejected"]) for row in pairs] == [(0.5, -0.5), (1.0, -1.0), (0.75, -0.625), (0.75, -0.25)]
    problems = {row["problem"]: (row["difficulty"], row["trajectories"], row["correct"]) for row in rows(folder, "problems")}
    assert problems == {"medium": ("medium", 3, 1), "easy": ("easy", 3, 3), "hard": ("hard", 2, 0)}

    assert summary.problems == dict.fromkeys(Difficulty, 1) == summary.kept
    assert (summary.solutions, summary.pairs, summary.final_pairs, summary.groups) == (3, 4, 2, 3)
    assert (summary.pairs_by_depth, summary.trajectories, summary.correct) == ({1: 1, 2: 1}, 8, 4)
    about = json.loads((folder / "summary.json").read_text())
    assert about["pairs"] == 4 and about["config"] == ExtractionConfig().to_mapping()
    assert about["runs"][0]["problems"] == 3 and len(about["runs"][0]["manifest"]) == 32


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_datasets_loads_it_as_it_is(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The columns that TRL's SFT, reward and DPO trainers read have their names, and are text."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    import datasets

    rstar_fast.extract(stored(tmp_path / "run", medium("größer ∑"), easy()), tmp_path / "set", format=kind)
    loader = "json" if kind == "jsonl" else kind
    for name, texts in (
        ("sft", ["prompt", "completion"]),
        ("pairs", ["prompt", "chosen", "rejected"]),
        ("problems", ["question"]),
    ):
        file = str(tmp_path / "set" / f"{name}.{kind}")
        data = datasets.load_dataset(loader, data_files=file, split="train", cache_dir=str(tmp_path / "cache"))
        assert all(data.features[text] == datasets.Value("string") for text in texts)
        if kind == "jsonl":
            rstar_fast.extract(tmp_path / "run", tmp_path / "parquet")
            assert [dict(row) for row in data] == rows(tmp_path / "parquet", name)
        assert len(data) and "größer ∑" in data["problem"]


@pytest.mark.filterwarnings("ignore")  # those of TRL with the transformers of the day
@pytest.mark.parametrize("trainer", ["SFT", "Reward", "DPO"])
def test_trl_trains_on_it_as_it_is(trainer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    import datasets
    import transformers
    import trl

    rstar_fast.extract(stored(tmp_path / "run", medium(), easy()), tmp_path / "set")
    policy = str(make_policy("qwen2", tmp_path / "qwen2"))
    kind = "sft" if trainer == "SFT" else "pairs"
    data = datasets.load_dataset("parquet", data_files=str(tmp_path / "set" / f"{kind}.parquet"), split="train")
    automatic = transformers.AutoModelForSequenceClassification if trainer == "Reward" else transformers.AutoModelForCausalLM
    model = automatic.from_pretrained(policy, **({"num_labels": 1} if trainer == "Reward" else {}))
    config = getattr(trl, f"{trainer}Config")(
        str(tmp_path / "out"), max_steps=2, use_cpu=True, report_to="none", save_strategy="no", logging_steps=1, disable_tqdm=True
    )
    made = getattr(trl, f"{trainer}Trainer")(model, args=config, train_dataset=data, processing_class=load_tokenizer(policy, "policy"))
    made.train()
    losses = [told["loss"] for told in made.state.log_history if "loss" in told]
    assert len(losses) == 2 and all(loss > 0.0 for loss in losses)


def test_trees_of_several_runs_are_one(tmp_path: Path) -> None:
    """Steps that no single run has as siblings are paired; equal solutions count once; Q is over all visits."""
    first = stored(tmp_path / "1", result("p", [Step("x", 1.0, 3, [right("!")])]), easy())
    second = stored(
        tmp_path / "2",
        hard(),
        result("p", [Step("y", -1.0, 1, [wrong("?")]), Step("x", 0.0, 1, [right("!"), right("more", 0.5)])]),
    )
    summary = rstar_fast.extract([first, second], tmp_path / "set", final_step=False)
    assert [(row["chosen"], row["rejected"], row["q_chosen"]) for row in rows(tmp_path / "set", "pairs")] == [("x", "y", 0.75)]
    sft = [(row["completion"], row["q_mean"]) for row in rows(tmp_path / "set", "sft") if row["problem"] == "p"]
    assert sft == [("x!", 0.875), ("xmore", 0.625)]
    assert summary.problems == {Difficulty.EASY: 1, Difficulty.MEDIUM: 1, Difficulty.HARD: 1}
    with pytest.raises(InvalidInput, match="an empty data set"):
        rstar_fast.extract(second, tmp_path / "alone", positives=1, trajectories=0, final_step=False, min_edit_distance=9)
    other = SearchResult(rstar_fast.Problem("Another question", "p"), tree=medium().tree)
    with pytest.raises(InvalidInput, match="problem 'p' stands for different questions in"):
        rstar_fast.extract([first, stored(tmp_path / "3", other)], tmp_path / "set")


def test_a_failed_search_is_left_out_where_no_other_run_has_the_problem(tmp_path: Path) -> None:
    failed = Failure(FailureKind.POLICY, "it died")
    first = stored(tmp_path / "1", medium("a", failure=failed), SearchResult(medium("b").problem, failure=failed), easy())
    second = stored(tmp_path / "2", medium("a"))
    assert rstar_fast.extract(first, tmp_path / "set").failed == 2
    summary = rstar_fast.extract([first, second], tmp_path / "set")
    assert (summary.failed, summary.problems[Difficulty.MEDIUM]) == (1, 1)
    no_answer = stored(tmp_path / "3", medium("c", failure=Failure(FailureKind.NO_ANSWER, "none")))
    assert rstar_fast.extract(no_answer, tmp_path / "set").failed == 0
    with Run.open(first, {}) as run:
        run.forget_failures()
        run.add(medium("b"))
        assert len(rows_of(run, first)) == 2  # also of a run that is being written
    assert rstar_fast.extract(first, tmp_path / "set").failed == 0


def rows_of(run: Run, folder: Path) -> list[str]:
    rstar_fast.extract(folder, folder.parent / "while written")
    return [row["problem"] for row in rows(folder.parent / "while written", "problems")]


def test_the_mix_draws_shares_by_problem(tmp_path: Path) -> None:
    found = [make(f"{make.__name__} {i}") for i in range(60) for make in (easy, medium, hard)]
    run = stored(tmp_path / "run", *found)
    summary = rstar_fast.extract(run, tmp_path / "set", mix={"easy": 0.5, "medium": 1, "hard": 0})
    kept = summary.kept
    assert (kept[Difficulty.MEDIUM], kept[Difficulty.HARD]) == (60, 0) and 15 < kept[Difficulty.EASY] < 45
    sft = {row["problem"] for row in rows(tmp_path / "set", "sft")}
    problems = rows(tmp_path / "set", "problems")
    assert len(problems) == 180
    assert sft == {row["problem"] for row in problems if row["kept"]}
    # The same problems whatever stands beside them; others under another seed; a larger share holds the smaller one.
    alone = stored(tmp_path / "alone", *(one for one in found if one.problem.id.startswith("easy")))
    rstar_fast.extract(alone, tmp_path / "set 2", mix={"easy": 0.5})
    easy_ones = {name for name in sft if name.startswith("easy")}
    assert {row["problem"] for row in rows(tmp_path / "set 2", "sft")} == easy_ones
    rstar_fast.extract(alone, tmp_path / "set 2", mix={"easy": 0.5}, seed=1)
    assert {row["problem"] for row in rows(tmp_path / "set 2", "sft")} != easy_ones
    rstar_fast.extract(alone, tmp_path / "set 2", mix={"easy": 0.8})
    assert {row["problem"] for row in rows(tmp_path / "set 2", "sft")} > easy_ones


def test_trees_searched_without_a_key_are_graded_with_one(tmp_path: Path) -> None:
    found = result("p", [ungraded("a", "0.5", 0.25), ungraded("b", "7", 0.5), ungraded("c", "\\frac{1}{2}", 0.125)])
    run = stored(tmp_path / "run", found)
    with pytest.raises(InvalidInput, match="problem 'p' was searched without a key and has none: give answers="):
        rstar_fast.extract(run, tmp_path / "set")
    with pytest.raises(InvalidInput, match="problem 'p' was searched without a key"):
        rstar_fast.extract(run, tmp_path / "set", answers={"q": "1"})
    assert not (tmp_path / "set").exists()
    summary = rstar_fast.extract(run, tmp_path / "set", answers={"p": "1/2"})
    assert (summary.trajectories, summary.correct) == (3, 2)
    assert [row["completion"] for row in rows(tmp_path / "set", "sft")] == ["a", "c"]
    assert not rows(tmp_path / "set", "pairs")  # the wrong answer has the highest Q


def test_the_search_itself_feeds_it(tmp_path: Path) -> None:
    """A search with a key, its terminals graded, some of them never visited."""

    def policy(partials: Any, n: int) -> Any:
        found = []
        for partial in partials:
            texts = [f"<answer>\\boxed{{{i}}}<end_of_answer>" if partial.solution else f"thought {i}\n" for i in range(n)]
            found.append([rstar_fast.Candidate(text) for text in texts])
        return found

    problem = rstar_fast.Problem("Which?", "which")
    found = rstar_fast.search(
        [problem],
        policy=policy,
        annotation="terminal",
        answers={"which": "1"},
        rollouts=4,
        candidates=3,
        run_dir=tmp_path / "run",
    )[0]
    summary = rstar_fast.extract(tmp_path / "run", tmp_path / "set")
    assert summary.trajectories == len(found.trajectories) and summary.correct == sum(
        bool(t.correct) for t in found.trajectories
    )
    wanted = {t.solution for t in found.trajectories if t.correct}
    assert summary.solutions == 2 and {row["completion"] for row in rows(tmp_path / "set", "sft")} <= wanted


def test_a_shard_is_read_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in memory does not grow with the run: batches are written before the next is read."""
    run = stored(tmp_path / "run", *(medium(str(i)) for i in range(300)))
    events: list[str] = []
    original, write = api.batches, api.DataFiles.write

    def seen(*arguments: Any) -> Any:
        for batch in original(*arguments):
            events.append("read")
            assert len(batch.ids) <= 64
            yield batch

    monkeypatch.setattr(api, "batches", seen)
    monkeypatch.setattr(api.DataFiles, "write", lambda self, name, batch: (events.append(name), write(self, name, batch))[1])
    assert rstar_fast.extract(run, tmp_path / "set").solutions == 300
    assert Counter(events) == {"read": 5, "problems": 5, "sft": 5, "pairs": 5} and events[:5] == [*events[:4], "read"]
    groups = [row["group"] for row in rows(tmp_path / "set", "pairs")]
    assert groups == sorted(groups) and len(set(groups)) == 900


def golden_file(tmp_path: Path, mode: str, name: str = "rstar") -> tuple[Path, list[dict[str, Any]]]:
    """The golden trees as the reference writes them."""
    with gzip.open(GOLDEN / f"{mode}.jsonl.gz", "rt", encoding="utf-8") as lines:
        golden = [json.loads(line) for line in lines]
    path = tmp_path / f"{mode}.jsonl"
    path.write_text(
        "".join(json.dumps({"question": g["question"], "answer": g["answer"], name: g["tree"]}) + "\n" for g in golden)
    )
    return path, golden


@pytest.mark.parametrize("mode", ["terminal", "ppm"])
def test_the_references_files_go_in_and_out(mode: str, tmp_path: Path) -> None:
    path, golden = golden_file(tmp_path, mode)
    assert import_reference_trees(path, tmp_path / "run") == 24
    export_reference_trees(load_run(tmp_path / "run"), tmp_path / "again.jsonl")
    for text, line in zip((tmp_path / "again.jsonl").read_text().splitlines(), golden, strict=True):
        states = json.loads(text)["rstar"]
        assert states["0"]["extra_info"] == f"question: {line['question']}"
        assert {tag: {name: state[name] for name in line["tree"][tag]} for tag, state in states.items()} == line["tree"]

    config = ExtractionConfig.reference(format="reference")
    for source, out in ((path, "a"), (tmp_path / "run", "b"), (tmp_path / "again.jsonl", "c")):
        rstar_fast.extract(source, tmp_path / out, config=config)
    ids = [found.problem.id for found in read_reference_trees(path)]
    golden = [line for _, line in sorted(zip(ids, golden, strict=True), key=lambda pair: pair[0])]  # as data sets are
    frame = steps.prompt_of("{}").partition("{}")[2]
    sft = [{"query": g["question"] + frame, "response": text} for g in golden for text in g["extraction"]["sft"]]
    pairs = [
        {
            "prompt": steps.prompt_of(g["question"]) + pair["prefix"],
            "neg": pair["rejected"],
            "pos": pair["chosen"],
            "neg_count": pair["negatives"],
            "pos_count": pair["positives"],
        }
        for g in golden
        for pair in g["extraction"]["pairs"]
        if pair["kept"]
    ]
    for out in "abc":
        assert json.loads((tmp_path / out / "sft.json").read_text()) == sft
        assert json.loads((tmp_path / out / "pairs.json").read_text()) == pairs

    rstar_fast.extract(path, tmp_path / "ours", config=ExtractionConfig.reference())
    names = ("prompt", "chosen", "rejected", "positives", "negatives")
    ours = rows(tmp_path / "ours", "pairs")
    read = list(read_reference_pairs(tmp_path / "a" / "pairs.json"))
    assert [[row[name] for name in names] for row in read] == [[row[name] for name in names] for row in ours]
    read = list(read_reference_sft(tmp_path / "a" / "sft.json"))
    assert read == [{name: row[name] for name in ("prompt", "completion")} for row in rows(tmp_path / "ours", "sft")]
    assert read_table(tmp_path / "a" / "sft.json", ("prompt", "completion")).to_pylist() == read
    table = read_table(tmp_path / "a" / "pairs.json", ("prompt", "chosen", "rejected"), ("group",))
    assert table.select(["prompt", "chosen", "rejected"]).to_pylist() == [{name: row[name] for name in names[:3]} for row in ours]
    assert sorted(Counter(table["group"].to_pylist()).values()) == sorted(Counter(row["group"] for row in ours).values())


def test_inference_trees_of_the_reference_have_no_verdicts(tmp_path: Path) -> None:
    path, golden = golden_file(tmp_path, "inference", "tree")
    assert all(t.correct is None for result in read_reference_trees(path) for t in result.trajectories)
    with pytest.raises(InvalidInput, match="without a key"):
        rstar_fast.extract(path, tmp_path / "set")
    answers = {result.problem.id: line["answer"] for result, line in zip(read_reference_trees(path), golden, strict=True)}
    assert rstar_fast.extract(path, tmp_path / "set", answers=answers).correct > 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "line 1: it is not valid JSON"),
        ('{"rstar": {}}', "line 1: it has no 'question'"),
        ('{"question": "q"}', "line 1: it has no tree under 'rstar'"),
        ('{"question": "q", "rstar": {"0": {"text": ""}}}', "its tree is damaged (KeyError: 'visit_count')"),
        (
            '{"question": "q", "rstar": {"0": {"text": "", "visit_count": 1, "q_value": 0}, "0.1.1": {}}}',
            "node '0.1.1' has no parent",
        ),
        ('{"question": "q", "rstar": {"0": {"text": "", "visit_count": -1, "q_value": 0}}}', "its tree is damaged"),
        ('{"question": "q", "rstar": {"0": {"text": "", "visit_count": 1, "q_value": NaN}}}', "a q_value is not finite"),
    ],
)
def test_a_line_that_is_no_tree_is_named(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "trees.jsonl").write_text(text)
    with pytest.raises(InvalidInput) as caught:
        rstar_fast.extract(tmp_path / "trees.jsonl", tmp_path / "set")
    assert said in str(caught.value) and "trees.jsonl" in str(caught.value)


def test_what_cannot_be_extracted_from_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "thesis.tex").mkdir(parents=True)
    empty, full = stored(tmp_path / "empty"), stored(tmp_path / "full", medium())
    (tmp_path / "none.jsonl").touch()
    for runs, out, settings, said in (
        (tmp_path / "nowhere", "set", {}, "nowhere holds no run"),
        (tmp_path / "nowhere.jsonl", "set", {}, "there is no file"),
        ([], "set", {}, "no run was given"),
        (3, "set", {}, "runs is 3: give the folder of a run"),
        ([3], "set", {}, "a run is 3: give the folder of a run"),
        (empty, "set", {}, "empty hold no searched problem: search some first"),
        (tmp_path / "none.jsonl", "set", {}, "hold no searched problem"),
        (full, "file", {}, "is a file: give a folder for the data set"),
        (full, "folder", {}, "holds 'thesis.tex' but no data set"),
        (full, "set", {"min_margin": 3}, "min_margin is 3: give a number from 0 to 2"),
        (full, "set", {"mix": {"easy": 2}}, "the mix's share of easy problems is 2"),
        (full, "set", {"colour": 1}, "unknown extraction setting 'colour'"),
        (full, "set", {"config": {}}, "config is {}"),
        (full, "set", {"mix": {"medium": 0}}, "give an empty data set: 1 problems with 1 right of 3 trajectories, 0 kept"),
        (stored(tmp_path / "hard", hard()), "set", {}, "give an empty data set: 1 problems with 0 right of 2"),
    ):
        with pytest.raises(InvalidInput) as caught:
            rstar_fast.extract(runs, tmp_path / out, **settings)
        assert said in str(caught.value), str(caught.value)
    assert not (tmp_path / "set").exists() and (tmp_path / "folder" / "thesis.tex").exists()
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_data_set_is_replaced_whole_or_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = stored(tmp_path / "run", medium())
    rstar_fast.extract(run, tmp_path / "set")
    rstar_fast.extract(run, tmp_path / "set", format="jsonl")
    before = {path.name: path.read_bytes() for path in (tmp_path / "set").iterdir()}
    assert sorted(before) == ["pairs.jsonl", "problems.jsonl", "sft.jsonl", "summary.json"]

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(api.DataFiles, "write", full)
    with pytest.raises(RstarError, match=r"set could not be written \(No space left on device\): free some space"):
        rstar_fast.extract(run, tmp_path / "set")
    assert {path.name: path.read_bytes() for path in (tmp_path / "set").iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "set"]


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "reference"])
def test_a_disk_that_is_full_is_one_sentence(kind: str, tmp_path: Path) -> None:
    """No file may grow beyond some KB: the system's own error, from whatever layer writes."""
    stored(tmp_path / "run", *(medium(f"{i} {i**9:x}" * 9) for i in range(400)))
    code = (
        "import resource, rstar_fast; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        f"rstar_fast.extract('run', 'set', format={kind!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    last = done.stderr.strip().splitlines()[-1]
    assert "RstarError: the data set set could not be written (" in last and "free some space" in last
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_damaged_tree_is_told(tmp_path: Path) -> None:
    one = medium().tree
    assert one is not None
    columns = {name: column.copy() for name, column in one.columns().items()}
    broken = Tree(columns)
    columns["parent"].flags.writeable = True
    columns["parent"][2] = 3
    run = stored(tmp_path / "run", SearchResult(medium().problem, tree=broken), easy())
    with pytest.raises(InvalidInput) as caught:
        rstar_fast.extract(run, tmp_path / "set")
    assert "from 'medium' to 'easy', tree 0: column 'parent', row" in str(caught.value) and str(run) in str(caught.value)


def test_the_command_extracts(tmp_path: Path) -> None:
    stored(tmp_path / "run", medium(), easy(), hard(), result("p", [ungraded("a", "7"), ungraded("b", "8")]))
    (tmp_path / "key.jsonl").write_text('{"question": "What is p?", "id": "p", "answer": "7"}\n')
    (tmp_path / "settings.yaml").write_text("min_margin: 0.1\nmix: {hard: 0.0}\n")

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "rstar_fast.cli", "extract", "run", *arguments]
        return subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    done = command("--out", "set", "--answers", "key.jsonl", "--config", "settings.yaml", "--easy", "1", "--format", "jsonl")
    assert done.returncode == 0, done.stderr
    for said in (
        "medium         2     2",
        "hard           1     0",
        "solutions     4",
        "(depth 1: 1, depth 2: 1, whole trajectories: 2)",
    ):
        assert said in done.stdout, done.stdout
    about = json.loads((tmp_path / "set" / "summary.json").read_text())["config"]
    assert (about["min_margin"], about["mix"], about["format"]) == (0.1, {"easy": 1.0, "medium": 1.0, "hard": 0.0}, "jsonl")

    done = command("--out", "set 2", "--reference", "--answers", "key.jsonl")
    config = json.loads((tmp_path / "set 2" / "summary.json").read_text())["config"]
    assert done.returncode == 0 and ExtractionConfig.from_mapping(config) == ExtractionConfig.reference()

    done = command("--out", "set 3")
    assert done.returncode == 1 and done.stderr.startswith("error: problem 'p' was searched without a key")
    assert done.stderr.count("\n") == 1 and not (tmp_path / "set 3").exists()


@pytest.mark.parametrize("parts", [1, 3])
def test_files_do_not_depend_on_the_order_in_which_problems_were_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int) -> None:
    monkeypatch.setattr(files, "_PART_PROBLEMS", 40 // parts)
    results = [(medium, easy, hard)[number % 3](f"problem {number}") for number in range(39)]
    for name, order in (("a", results), ("b", results[::-1]), ("c", results[20:] + results[:20])):
        rstar_fast.extract(stored(tmp_path / name, *order), tmp_path / f"{name}-data")
    found = [[rows(tmp_path / f"{name}-data", kind) for kind in ("sft", "pairs", "problems")] for name in "abc"]
    assert found[0] == found[1] == found[2] and all(found[0])
    groups = [row["group"] for row in found[0][1]]
    assert sorted(set(groups)) == list(range(len(set(groups)))) and groups == sorted(groups)
    assert len({row["problem"] for row in found[0][1] if row["group"] == 0}) == 1
    assert not list((tmp_path / "a-data").glob(".*"))
