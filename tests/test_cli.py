"""`rstar-fast search` as its users meet it: files, folders, mistakes, Ctrl-C. The policy is a small local server."""

from __future__ import annotations

import csv
import functools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import rstar_fast
from rstar_fast.cli import app
from rstar_fast.cli.search_command import looks_like_file
from rstar_fast.storage import load_run

ESCAPE = "\x1b[2J\x1b]0;owned\x07"


class Server:
    """Completes each prompt with an answer: the number at the end of the question. Notes what it was asked."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.prompts: list[str] = []
        self.before_answer = "so "
        self.blocked, self.reached, self.released = "no question", threading.Event(), threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                try:
                    self.wfile.write(json.dumps(server.complete(body)).encode())
                except ConnectionError:
                    pass  # the client was interrupted

            def log_message(self, *arguments: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1#tiny"

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        self.prompts.append(body["prompt"])
        question = body["prompt"].split("\n")[1]
        self.asked[question] += 1
        if question == self.blocked:
            self.reached.set()
            self.released.wait()
        number = (re.findall(r"\d+", question) or ["0"])[-1]
        text = f"{self.before_answer}\\boxed{{{number}}}" if number != "13" else ""  # 13 has no answer
        choice = {"text": text, "finish_reason": "stop", "stop_reason": "<end_of_answer>"}
        return {"choices": [{"index": i, **choice} for i in range(body["n"])], "usage": {"completion_tokens": 4}}

    def __enter__(self) -> Server:
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.released.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with Server() as server:
        yield server


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def write(name: str, *records: Any) -> Path:
    """A JSONL file of records; text is written as it is."""
    path = Path(name)
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records), "utf-8")
    return path


def ten_problems(name: str = "problems.jsonl", **fields: Any) -> Path:
    """Questions 1 to 10 with their answers."""
    return write(name, *({"question": f"What is {i}", "answer": str(i), **fields} for i in range(1, 11)))


class Done:
    """What a command did."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def error(self) -> str:
        """The one line of a command that failed."""
        assert self.code == 1 and self.out == ""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1 and self.err.endswith(lines[0] + "\n")
        return lines[0].removeprefix("error: ")


def run(*arguments: str | Path, policy: str | None = None, terminal: bool = True) -> Done:
    """`rstar-fast search ...` in this process, by default without a PPM."""
    options = ["--policy", policy] if policy else []
    options += ["--annotation", "terminal"] if terminal else []
    result = CliRunner().invoke(app, ["search", *map(str, arguments), *options, "--rollouts", "2", "--candidates", "1"])
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return Done(result.exit_code, result.stdout, result.stderr)


# --- files ---


def test_a_file_of_problems(server: Server) -> None:
    done = run(ten_problems(), policy=server.url)
    assert done.code == 0
    assert [line.split()[1] for line in done.out.splitlines()[:10]] == [str(i) for i in range(1, 11)]
    assert done.out.splitlines()[10:] == ["solved    10 of 10", "correct   10 of 10, 100.0% (95% interval 72.2% to 100.0%)"]
    assert re.fullmatch(r"10/10 problems  .* problems/s  .* tokens/s  0 steps run/s  in \d+ s\n", done.err)
    assert server.asked == {f"What is {i}": 1 for i in range(1, 11)}


def test_a_run_folder_is_written_and_continued(server: Server) -> None:
    path, out = ten_problems("my problems.jsonl"), Path("my runs/first one")
    done = run(path, "--out", out, policy=server.url)
    assert done.code == 0
    assert done.out.splitlines() == [
        "solved    10 of 10",
        "correct   10 of 10, 100.0% (95% interval 72.2% to 100.0%)",
        "results   my runs/first one",
    ]
    assert {result.answer for result in load_run(out)} == {str(i) for i in range(1, 11)}
    again = run(path, "--out", out, policy=server.url)
    assert (again.code, again.out) == (0, done.out)
    assert again.err == "10/10 problems (10 restored)\n"
    assert set(server.asked.values()) == {1}


def test_json_is_one_line_a_problem_and_nothing_else(server: Server) -> None:
    path = write(
        "p.jsonl",
        {"question": "What is 1", "answer": "1", "id": "one"},
        {"question": "What is 13", "answer": "5", "id": "thirteen"},
    )
    done = run(path, "--json", policy=server.url)
    assert done.code == 0
    one, thirteen = map(json.loads, done.out.splitlines())
    assert (one["id"], one["answer"], one["correct"], one["failure"]) == ("one", "1", True, None)
    assert one["trajectories"][0]["solution"] == "so \\boxed{1}<end_of_answer>"
    assert (thirteen["answer"], thirteen["correct"], thirteen["failure"]["kind"]) == (None, False, "no answer")
    assert "solved    1 of 2" in done.err and "1 no answer" in done.err


def test_other_formats_are_files_too(server: Server) -> None:
    with Path("p.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["question", "answer"], ["What is 3", "3"]])
    Path("p.json").write_text(json.dumps([{"question": "What is 3", "answer": 3}]))
    for name in ("p.csv", "p.json"):
        assert run(name, policy=server.url).out.splitlines()[1:] == [
            "solved    1 of 1",
            "correct   1 of 1, 100.0% (95% interval 20.7% to 100.0%)",
        ]


def test_a_malformed_line_is_named_and_can_be_skipped(server: Server) -> None:
    path = ten_problems()
    lines = path.read_text().splitlines()
    lines[3] = '{"question": "What is 4", '
    lines[6] = '{"question": "", "answer": "7"}'
    path = write("problems.jsonl", *lines)
    done = run(path, policy=server.url)
    assert done.error.startswith("problems.jsonl, line 4: it is not valid JSON (")
    assert done.error.endswith("(and 1 more malformed line); mend the file, or search the rest of it with --skip-malformed")
    assert not server.asked

    done = run(path, "--skip-malformed", policy=server.url)
    assert (done.code, len(server.asked)) == (0, 8)
    assert "solved    8 of 8" in done.out
    skipped = done.err.splitlines()[:2]
    assert skipped[0].startswith("skipped problems.jsonl, line 4: it is not valid JSON")
    assert skipped[1] == "skipped problems.jsonl, line 7: its question is empty"


def test_a_malformed_record_of_a_format_without_lines(server: Server) -> None:
    Path("p.json").write_text(json.dumps([{"question": "What is 3", "answer": 3}, 5]))
    assert run("p.json", policy=server.url).error.startswith("p.json, record 2: it is a number, not an object; mend the file")
    assert "skipped p.json, record 2: " in run("p.json", "--skip-malformed", policy=server.url).err


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing file.jsonl", None, "there is no file missing file.jsonl: check its name, relative to "),
        ("missing.txt", None, "there is no file missing.txt"),
        ("empty.jsonl", "", "empty.jsonl is empty: give a file with at least one record"),
        ("blank.jsonl", "\n\n", "blank.jsonl holds no problems"),
        ("notes.txt", "What is 3", "notes.txt has the suffix '.txt': problem files are .jsonl, .json, .csv, .parquet"),
        ("all.jsonl", "x\ny\n", "all.jsonl holds no usable problem, all 2 records are malformed, the first at line 1"),
        ("table.csv", "a,b\n1,2\n", "table.csv has no column 'question': its first line names 'a', 'b'"),
        ("bad.json", "{", "bad.json is not valid JSON"),
        (
            "p.jsonl",
            '{"question": "What is 3"}\n',
            "--annotation terminal grades against a key, but 1 of 1 problems have no answer",
        ),
    ],
)
def test_files_that_cannot_be_searched(name: str, content: str | None, said: str, server: Server) -> None:
    if content is not None:
        Path(name).write_text(content)
    assert run(name, "--out", "run", policy=server.url).error.startswith(said)
    assert not server.asked and not Path("run").exists()


def test_a_folder_is_no_file(server: Server) -> None:
    Path("folder").mkdir()
    assert run("folder", policy=server.url).error.startswith("folder is a folder: give a problem file")


@pytest.mark.parametrize(
    ("argument", "is_file"),
    [
        ("What is 2 + 3?", False),
        ("What is 2.5 * 2?", False),
        ("Is x.y a product?", False),
        ("2.5", False),
        ("3/4", False),
        ("", False),
        ("q" * 5000, False),
        ("a\0b", False),
        ("problems.txt", True),
        ("../data/problems.jsonl", True),
        ("my problems.csv", True),
        ("here", True),
        ("with a space", True),
    ],
)
def test_what_is_taken_for_a_file(argument: str, is_file: bool) -> None:
    Path("here").touch()
    Path("with a space").touch()
    assert looks_like_file(argument) is is_file


# --- questions ---


def function_ppm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for the embedded PPM."""

    class Ppm:
        def score(self, partials: Any) -> list[float]:
            return [0.5] * len(partials)

    monkeypatch.setattr("rstar_fast.search.models.load_scorer", lambda name: Ppm())


def test_a_question_reaches_the_policy_as_it_was_typed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    function_ppm(monkeypatch)
    question = "What is $\\frac{x}{2}$ for {x} = \"8\"; 100% of $4$ 'é'"
    done = run(question, policy=server.url, terminal=False)
    assert done.code == 0
    assert done.out.splitlines()[:2] == ["answer    4    score 1.000", "votes     4: 0.75"]
    assert "solution" in done.out and "  so \\boxed{4}" in done.out
    assert server.prompts == [
        f"<|user|>:\n{question}\n<|assistant|>: Let's think step by step and solve the problem with code."
    ]


def test_a_question_as_json(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    function_ppm(monkeypatch)
    result = json.loads(run("What is 8", "--json", policy=server.url, terminal=False).out)
    assert (result["question"], result["answer"], result["score"], result["correct"]) == ("What is 8", "8", 1.0, None)


def test_a_question_without_an_answer_fails(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    function_ppm(monkeypatch)
    done = run("What is 13", policy=server.url, terminal=False)
    assert done.code == 1
    assert done.out.startswith(
        "failed    no answer: no solution gave an answer: 1 ended where the policy proposed nothing usable\n"
    )


def test_what_a_model_writes_does_not_reach_the_terminal_s_ears(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    function_ppm(monkeypatch)
    server.before_answer = f"{ESCAPE}\u202e\ud800\r"
    done = run("What is 8", policy=server.url, terminal=False)
    assert "\\x1b[2J\\x1b]0;owned\\x07\\u202e" in done.out
    assert not set(ESCAPE + "\u202e\r") & set(done.out) - set("[2J]0;owned")
    path = write("p.jsonl", {"question": "What is 13", "id": f"id{ESCAPE}\nsecond", "answer": "1"})
    done = run(path, policy=server.url)
    assert "  id\\x1b[2J\\x1b]0;owned\\x07 second: no answer: " in done.out


# --- settings and models ---


def test_strategies_and_budgets_are_options(server: Server) -> None:
    options = ("--strategy", "self_consistency", "--aggregate", "min", "--adaptive", "--max-tokens", "90", "--max-seconds", "60", "--out", "run")
    done = run(ten_problems(), *options, policy=server.url, terminal=False)
    assert done.code == 0 and "solved    10 of 10" in done.out
    manifest = json.loads(Path("run/manifest.json").read_text())["settings"]
    expected = {"strategy": "self_consistency", "aggregate": "min", "adaptive": True}
    assert {name: manifest["search"][name] for name in expected} == expected and manifest["ppm"] is None
    assert manifest["search"]["budget"] == {"tokens": 90, "rollouts": None, "seconds": 60.0}
    said = run("q", "--trees", "3", policy=server.url).error
    assert said == "trees is 3 and rollouts is 2: give each tree a rollout at least"


def test_settings_come_from_a_file_and_options_override_them(server: Server) -> None:
    Path("my search.yaml").write_text("candidates: 5\nrollouts: 7\nopen_problems: 3\n")
    assert run(ten_problems(), "--config", "my search.yaml", "--max-depth", "4", "--out", "run", policy=server.url).code == 0
    search = json.loads(Path("run/manifest.json").read_text())["settings"]["search"]
    assert {name: search[name] for name in ("candidates", "rollouts", "open_problems", "max_depth", "annotation")} == {
        "candidates": 1,  # `run` gives it, and rollouts
        "rollouts": 2,
        "open_problems": 3,
        "max_depth": 4,
        "annotation": "terminal",
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no file c.yaml: give a YAML file of settings"),
        ("rollout: 3", "unknown search setting 'rollout': the settings are adaptive, "),
        ("max_depth: many", "max_depth is 'many': give an integer >= 1"),
        ("- rollouts", "c.yaml holds no settings: give lines like 'rollouts: 16'"),
        ("just text", "c.yaml holds no settings"),
        ("3: 4", "c.yaml holds no settings"),
        ("a: [", "c.yaml is not valid YAML at line 1: "),
        ("a: b\n\tc: d", "c.yaml is not valid YAML at line 2: "),
        ("seed: 2001-99-99", "c.yaml is not valid YAML: month must be in 1..12"),
        ("a: \x01", "c.yaml is not valid YAML"),
    ],
)
def test_config_files_that_cannot_be_used(content: str | None, said: str) -> None:
    if content is not None:
        Path("c.yaml").write_text(content)
    assert run("q", "--config", "c.yaml").error.startswith(said)


def test_an_empty_config_file_changes_nothing(server: Server) -> None:
    Path("c.yaml").write_text("# nothing\n")
    assert run(ten_problems(), "--config", "c.yaml", policy=server.url).code == 0


def test_other_settings_are_refused_for_a_run(server: Server) -> None:
    run(ten_problems(), "--out", "run", policy=server.url)
    done = run("problems.jsonl", "--out", "run", "--max-depth", "3", policy=server.url)
    said = "continue it with the same settings, or give another folder"
    assert done.error == f"run was made with search.max_depth=16, not search.max_depth=3: {said}"


def test_a_checkpoint_that_is_not_there() -> None:
    said = "there is no policy checkpoint at './my checkpoint': give its folder, or a name on the Hugging Face hub"
    assert run(ten_problems(), "--out", "run", policy="./my checkpoint").error == said
    assert not Path("run").exists()


def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rstar_fast.policies.client._FIRST_WAIT_S", 0.0)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
    done = run(ten_problems(), policy=url)
    assert done.code == 1
    lines = done.out.splitlines()
    assert lines[:2] == ["solved    0 of 10", "failed    10 policy"] and len(lines) == 12
    assert all(f"policy: cannot connect to {url} (" in line for line in lines[2:])


def test_failures_are_tried_again_when_asked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    complete = server.complete
    with monkeypatch.context() as context:
        context.setattr(server, "complete", lambda body: {"choices": []} if "What is 3\n" in body["prompt"] else complete(body))
        done = run(ten_problems(), "--out", "run", policy=server.url)
    assert done.code == 0
    assert done.out.splitlines()[:2] == ["solved    9 of 10", "failed    1 policy"]
    assert "answered without 'choices'" in done.out.splitlines()[2]
    assert done.out.splitlines()[3].startswith("correct   9 of 9, 100.0%")  # what failed says nothing of the search
    said = "--retry-failed needs the folder of the run: give --out FOLDER"
    assert run("problems.jsonl", "--retry-failed", policy=server.url).error == said
    done = run("problems.jsonl", "--out", "run", "--retry-failed", policy=server.url)
    assert done.out.splitlines()[0] == "solved    10 of 10"
    assert done.err.splitlines()[0] == "searching 1 failed problems again"
    assert server.asked["What is 4"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["search"], "Missing argument"),
        (["search", "q", "more"], "unexpected extra argument"),
        (["search", "q", "--rollouts", "x"], "Invalid value for '--rollouts'"),
        (["search", "q", "--annotation", "x"], "Invalid value for '--annotation'"),
        (["search", "q", "--no-such-option"], "No such option"),
        (["no-such-command"], "No such command"),
    ],
)
def test_a_wrong_command_line(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2 and said in result.stderr and "Traceback" not in result.stderr


def test_settings_out_of_range() -> None:
    result = CliRunner().invoke(app, ["search", "q", "--rollouts", "0"])
    assert (result.exit_code, result.stderr) == (1, "error: rollouts is 0: give an integer >= 1\n")
    assert run("  ").error.startswith("a problem needs a question, got '  '")


@pytest.mark.parametrize("arguments", [["--help"], ["search", "--help"], ["demo", "--help"], []])
def test_help(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == (0 if arguments else 2)
    assert "Usage: " in result.output
    if arguments[:1] == ["search"]:
        options = (
            "--out",
            "--policy",
            "--ppm",
            "--config",
            "--annotation",
            "--rollouts",
            "--candidates",
            "--skip-malformed",
            "--json",
        )
        assert all(option in result.output for option in options)


def test_the_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).output.strip() == rstar_fast.__version__


# --- as a process ---


def start(*arguments: str) -> subprocess.Popen[str]:
    """The command as a process of its own, by its console script."""
    command = [str(Path(sys.executable).with_name("rstar-fast")), *arguments]
    # Where the tests run in the background of a script, SIGINT is ignored, and would be by the command too.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed)


def interrupted(server: Server, process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a process printed that is interrupted while it waits for the server."""
    with process:
        while not server.reached.wait(0.1):
            assert process.poll() is None, process.communicate()
        process.send_signal(signal.SIGINT)
        said = process.communicate()
    assert process.returncode == 130
    return said


def test_ctrl_c_says_how_to_continue_and_the_same_command_does(server: Server) -> None:
    ten_problems("my problems.jsonl")
    Path("one by one.yaml").write_text("open_problems: 1\nrollouts: 2\ncandidates: 1\nannotation: terminal\n")
    command = ["search", "my problems.jsonl", "--out", "my run", "--policy", server.url, "--config", "one by one.yaml"]
    server.blocked = "What is 6"
    out, err = interrupted(server, start(*command))
    assert out == ""
    progress, said = err.splitlines()
    assert progress.startswith("5/10 problems")
    assert said == (
        "interrupted: 5 of 10 problems are finished and kept in my run; to continue: "
        f"rstar-fast search 'my problems.jsonl' --out 'my run' --policy '{server.url}' --config 'one by one.yaml'"
    )

    server.blocked = "no question"
    server.released.set()
    with start(*command) as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    assert out.splitlines()[0] == "solved    10 of 10"
    assert err.startswith("10/10 problems (5 restored)  ")
    assert server.asked == {f"What is {i}": 2 if i == 6 else 1 for i in range(1, 11)}


def test_ctrl_c_without_a_folder(server: Server) -> None:
    server.blocked = "What is 1"
    _, err = interrupted(server, start("search", str(ten_problems()), "--policy", server.url, "--annotation", "terminal"))
    assert err.splitlines()[-1] == "interrupted, nothing is kept: with --out FOLDER a run continues where it stopped"


def test_a_module_is_the_command_too_and_a_foreign_terminal_does_no_harm(server: Server) -> None:
    write("p.jsonl", {"question": "What is 3", "id": "é日\ud800", "answer": "3"})
    command = [sys.executable, "-m", "rstar_fast.cli", "search", "p.jsonl", "--policy", server.url, "--annotation", "terminal"]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "latin-1"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == b"\xe9\\u65e5\\ud800  3"
