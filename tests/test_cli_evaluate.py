"""`rstar-fast evaluate` and `compare` as their users meet them. The policy is a small local server."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from http_server import Reply, Request, Server
from typer.testing import CliRunner

from rstar_fast.cli import app, evaluate_command
from rstar_fast.cli.progress import SearchProgress
from rstar_fast.types import Finished, ProgressEvent

ASKED: Counter[str] = Counter()


async def answer(request: Request) -> Reply:
    """Completes with the number of the question; every second time, where that is odd, with 0."""
    question = request.body["prompt"].split("\n")[1]
    choices = []
    for index in range(request.body["n"]):
        ASKED[question] += 1
        number = int(re.findall(r"\d+", question)[-1])
        said = 0 if number % 2 and ASKED[question] % 2 == 0 else number
        choices.append({"index": index, "text": f"so \\boxed{{{said}}}", "finish_reason": "stop", "stop_reason": "<end_of_answer>"})
    return Reply(json.dumps({"choices": choices, "usage": {"completion_tokens": 4 * len(choices)}}).encode())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    ASKED.clear()
    records = [{"id": str(i), "question": f"What is {i}?", "answer": str(i), "level": 1 + i % 2, "type": "number"} for i in range(1, 7)]
    Path("six.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    with Server(answer).running() as server:
        yield server


class Done:
    """What a command did."""

    def __init__(self, *arguments: str, code: int = 0) -> None:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
        self.out, self.err = result.stdout, result.stderr
        assert result.exit_code == code, self.err


def evaluate(server: Server, out: str, *options: str, code: int = 0) -> Done:
    return Done("evaluate", "six.jsonl", "--out", out, "--policy", server.url, *options, code=code)


def test_an_evaluation_shows_its_numbers_and_leaves_its_files(server: Server) -> None:
    done = evaluate(server, "e", "--strategy", "self_consistency", "--rollouts", "3")
    text = " ".join(done.out.split())
    assert "six.jsonl: self_consistency with http://127.0.0.1" in text
    assert "accuracy 100.0% 61.0% to 100.0% 6" in text
    assert "By level level accuracy pass@1 pass@3 maj@3 problems tokens a problem 1 100.0% 100.0% 100.0% 100.0% 3 0.0 2 100.0% 66.7% 100.0% 100.0% 3 0.0" in text
    assert "steps run 0 0.0" in text
    assert done.out.endswith("results   e\n")
    assert re.match(r"self_consistency: 6/6 problems", done.err)
    assert json.loads(Path("e/evaluation.json").read_text())["metrics"]["pass@1"]["value"] == pytest.approx(5 / 6)
    assert len(Path("e/results.jsonl").read_text().splitlines()) == 6


@pytest.mark.parametrize("given", ["name=x", "out=y", "executor=3", "policy=/nowhere", "sample=1", "answers=z"])
def test_what_is_no_setting_of_a_search_cannot_be_set(server: Server, given: str) -> None:
    done = evaluate(server, "e", "--set", given, code=1)
    assert done.err.startswith(f"error: unknown search setting '{given.partition('=')[0]}': the settings are adaptive, ")
    assert not Path("e").exists()


def test_the_strategy_may_stand_in_the_file_of_settings(server: Server) -> None:
    Path("settings.yaml").write_text("strategy: self_consistency\nrollouts: 2\n")
    told = json.loads(evaluate(server, "e", "--config", "settings.yaml", "--sample", "4", "--json").out)["settings"]
    assert (told["strategy"], told["search"], told["sample"], told["ppm"]) == ("self_consistency", {"rollouts": 2}, 4, None)
    done = evaluate(server, "p", "--config", "settings.yaml", "--table", "paper", code=1)
    assert done.err == "error: the table names its strategies itself: leave strategy out of the settings\n"


def test_a_folder_is_of_one_set_of_problems(server: Server) -> None:
    options = ("--strategy", "self_consistency", "--rollouts", "1")
    evaluate(server, "e", *options)
    before = Path("e/results.jsonl").read_bytes()
    done = evaluate(server, "e", *options, "--sample", "4", code=1)
    assert done.err == "error: e holds an evaluation of other problems, or of others of them: give another folder\n"
    assert Path("e/results.jsonl").read_bytes() == before


def test_settings_come_from_options_set_and_a_file(server: Server) -> None:
    Path("settings.yaml").write_text("rollouts: 8\nmax_depth: 3\n")
    options = ("--strategy", "self_consistency", "--config", "settings.yaml", "--rollouts", "2", "--set", "open_problems=2", "--json")
    done = evaluate(server, "e", *options)
    assert json.loads(done.out)["settings"]["search"] == {"rollouts": 2, "max_depth": 3, "open_problems": 2}
    assert ASKED.total() == 12


def test_some_of_the_problems(server: Server) -> None:
    done = evaluate(server, "e", "--strategy", "greedy", "--sample", "4", "--seed", "3", "--json")
    summary = json.loads(done.out)
    assert summary["problems"]["count"] == 4 and len(ASKED) == 4
    assert {label: part["accuracy"]["problems"] for label, part in summary["by_level"].items()} == {"1": 2, "2": 2}


def test_an_interrupted_evaluation_says_how_to_go_on_and_does(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(SearchProgress):
        def __call__(self, event: ProgressEvent) -> None:
            super().__call__(event)
            if isinstance(event, Finished) and self.meter.done == 2:
                raise KeyboardInterrupt

    options = ("--strategy", "greedy", "--set", "open_problems=1", "--candidates", "1")
    with monkeypatch.context() as patched:
        patched.setattr(evaluate_command, "SearchProgress", Interrupted)
        done = evaluate(server, "e", *options, code=130)
    assert "interrupted: what is done is kept in e; to continue: rstar-fast " in done.err and done.out == ""
    assert not Path("e/evaluation.json").exists()
    assert "6/6 problems (2 restored)" in evaluate(server, "e", *options).err
    assert ASKED.total() == 6


def test_a_sweep(server: Server) -> None:
    done = evaluate(server, "s", "--sweep", "--strategy", "greedy,self_consistency", "--budgets", "1,3")
    rows = [line.split()[:3] for line in done.out.splitlines() if line.startswith(("greedy", "self"))]
    assert rows[:3] == [["greedy", "1", "100.0%"], ["self_consistency", "1", "50.0%"], ["self_consistency", "3", "100.0%"]]
    assert rows[3:] == [["greedy", "1", "100.0%"], ["self_consistency", "1", "100.0%"], ["self_consistency", "3", "100.0%"]]  # of level 1
    assert done.out.endswith("page      s/sweep.html\n")
    as_json = evaluate(server, "s", "--sweep", "--strategy", "greedy,self_consistency", "--budgets", "1,3", "--json")
    assert json.loads(as_json.out) == json.loads(Path("s/sweep.json").read_text())["cells"]
    assert json.loads(Path("s/sweep.json").read_text())["data"] == "six.jsonl"


def test_the_table_of_the_paper(server: Server) -> None:
    """With the PPM of nano, which is there."""
    done = evaluate(server, "t", "--table", "paper", "--trajectories", "1", "--candidates", "1")
    rows = [line for line in done.out.splitlines() if line.startswith(("policy alone", "best of 1", "MCTS, 1 trajectory"))]
    assert len(rows) == 3 and all("%" in row for row in rows)
    assert done.out.endswith("page      t/paper.html\n")


def test_several_benchmarks_stand_side_by_side(server: Server) -> None:
    shutil.copy("six.jsonl", "copy.jsonl")
    done = Done("evaluate", "six.jsonl", "copy.jsonl", "--out", "t", "--policy", server.url, "--table", "paper", "--trajectories", "1", "--candidates", "1")
    rows = done.out[done.out.index("Accuracy, with PPM") :].splitlines()
    assert rows[1].split() == ["six.jsonl", "copy.jsonl"] and [row.count("%") for row in rows[2:5]] == [6, 6, 6]
    assert done.out.endswith("page      t/paper.html\n")
    assert set(json.loads(Path("t/paper.json").read_text())) == {"six.jsonl", "copy.jsonl"} and Path("t/copy/paper.html").exists()
    options = ("--out", "e", "--policy", server.url, "--strategy", "greedy", "--json")
    each = [json.loads(line)["settings"]["data"] for line in Done("evaluate", "six.jsonl", "copy.jsonl", *options).out.splitlines()]
    assert each == ["six.jsonl", "copy.jsonl"] and Path("e/six/evaluation.json").exists()
    assert "two of six.jsonl, ./six.jsonl are called 'six'" in Done("evaluate", "six.jsonl", "./six.jsonl", *options, code=1).err
    assert "--file is a copy of one benchmark" in Done("evaluate", "gsm8k", "math", "--file", "six.jsonl", *options, code=1).err


def test_two_evaluations_are_compared(server: Server) -> None:
    evaluate(server, "a", "--strategy", "greedy")
    evaluate(server, "b", "--strategy", "greedy")  # the second time the odd ones are wrong
    done = Done("compare", "a", "b")
    text = " ".join(done.out.split())
    assert "a against b, 6 problems" in text and "accuracy 100.0% 50.0% -50.0" in text and "0, 3 0.2500" in text
    assert "only the first has right: 3 1, 3, 5" in text and "only the second has right: 0" in text
    assert json.loads(Done("compare", "a", "b", "--json").out)["lost"] == ["1", "3", "5"]
    evaluate(server, "c", "--strategy", "greedy", "--sample", "2")
    assert "left out: 4 only in the first" in Done("compare", "a", "c").out


def test_where_every_search_broke_it_fails(server: Server) -> None:
    done = evaluate(server, "e", "--strategy", "greedy", "--set", "max_depth=1", "--policy", "http://127.0.0.1:9/v1#none", code=1)
    assert "no search came to its end, the first:" in done.err and "policy" in done.out
    assert done.err.rstrip().endswith("; the same command with --retry-failed searches again")


def test_where_a_part_of_a_sweep_or_a_table_broke_it_fails(server: Server) -> None:
    """What broke is kept as finished: the exit code is all that a script sees of it."""
    shutil.copy("six.jsonl", "copy.jsonl")
    options = ("--policy", "http://127.0.0.1:9/v1#none", "--sample", "1", "--candidates", "1")
    done = Done("evaluate", "six.jsonl", "--out", "s", "--sweep", "--strategy", "greedy,self_consistency", "--budgets", "1", *options, code=1)
    assert [line for line in done.err.splitlines() if "--retry-failed" in line] == [line for line in done.err.splitlines() if line.startswith("no search")]
    assert "no search of six.jsonl, greedy, 1 came to its end" in done.err and "no search of six.jsonl, self_consistency, 1 came" in done.err
    assert Path("s/sweep.html").exists() and "page      s/sweep.html" in done.out  # what there is is shown all the same
    again = evaluate(server, "s2", "--sweep", "--strategy", "greedy", "--budgets", "1")
    assert "no search" not in again.err
    done = Done("evaluate", "six.jsonl", "copy.jsonl", "--out", "t", "--table", "paper", "--trajectories", "1", *options, code=1)
    assert "no search of six.jsonl, policy alone came to its end" in done.err and "no search of copy.jsonl, best of 1, PPM came" in done.err
    assert done.out.endswith("page      t/paper.html\n")


def test_the_flags_of_a_search(server: Server) -> None:
    Path("settings.yaml").write_text("budget: {tokens: 9, rollouts: 5}\nadaptive: true\n")
    options = ("--config", "settings.yaml", "--aggregate", "min", "--trees", "2", "--max-seconds", "60", "--no-adaptive", "--candidates", "1")
    done = evaluate(server, "e", *options, "--max-tokens", "8", "--rollouts", "2", "--sample", "1", "--json")
    told = json.loads(done.out)["settings"]["search"]
    assert told == {
        "rollouts": 2, "candidates": 1, "trees": 2, "aggregate": "min", "budget": {"tokens": 8, "rollouts": 5, "seconds": 60.0},
    }  # fmt: skip
    done = evaluate(server, "a", "--strategy", "self_consistency", "--adaptive", "--rollouts", "8", "--choice", "majority")
    assert "an adaptive search draws samples until their vote stands" in done.out and "pass@" not in done.out.replace("no pass@k", "")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sweep", "--table", "paper"], "--sweep and --table are two evaluations"),
        (["--budgets", "1,2"], "--budgets is of a sweep"),
        (["--orm", "nano"], "--orm is of a table"),
        (["--sweep", "--rollouts", "2"], "give them as --budgets"),
        (["--sweep", "--budgets", "1,x"], "--budgets is '1,x': give integers >= 1 with commas"),
        (["--sweep", "--strategy", "greedy,magic"], "strategy is 'magic'"),
        (["--table", "paper", "--strategy", "mcts"], "the table names its strategies"),
        (["--strategy", "magic"], "strategy is 'magic'"),
        (["--max-tokens", "0"], "tokens is 0"),
        (["--trees", "2", "--strategy", "greedy"], "trees is 2"),
        (["--set", "max_depth"], "--set is 'max_depth': give name=value"),
        (["--set", "max_depth={"], "has no value that can be read"),
        (["--set", "depth=3"], "unknown search setting 'depth'"),
        (["--set", "seed=3"], "given by --seed"),
        (["--sample", "9"], "sample is 9: give 1 to 6"),
        (["--file", "six.jsonl"], "is no benchmark, so its file cannot be another"),
    ],
)
def test_mistakes_are_one_line(server: Server, options: list[str], said: str) -> None:
    done = evaluate(server, "e", *options, code=1)
    assert said in done.err and done.err.startswith("error: ") and done.err.count("\n") == 1 and done.out == ""
    assert not Path("e").exists() and not server.requests


def test_a_name_that_is_nothing(server: Server) -> None:
    assert "'gsm9k' is no benchmark and no file" in Done("evaluate", "gsm9k", "--out", "e", code=1).err
    assert "holds no finished evaluation" in Done("compare", "x", "y", code=1).err


def test_a_benchmark_by_name_from_a_file(server: Server) -> None:
    done = Done("evaluate", "gsm8k", "--file", "six.jsonl", "--out", "e", "--policy", server.url, "--strategy", "greedy", "--json")
    assert json.loads(done.out)["settings"]["data"] == "GSM8K"
