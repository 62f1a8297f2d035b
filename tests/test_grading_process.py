"""The process that evaluates: blow-ups, recovery, what reaches the parser, and how it ends."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap

import pytest

from rstar_fast.grading import GraderUnavailable, classes, compare, grade, process, voting, worker
from rstar_fast.grading.evaluation import Evaluation, from_message
from rstar_fast.types import VerdictReason


def _running() -> subprocess.Popen[bytes]:
    assert grade(r"\sqrt{18}", r"3\sqrt{2}")
    process._EVALUATORS[os.getpid()]._known.clear()
    found = process._EVALUATORS[os.getpid()]._process
    if found is None:
        assert grade(r"\sqrt{50}", r"5\sqrt{2}")
        found = process._EVALUATORS[os.getpid()]._process
    assert found is not None
    return found


@pytest.mark.timeout(60)
def test_a_blow_up_times_out_and_the_next_pair_works() -> None:
    verdict = grade("5", "9^9^9^9")
    assert not verdict and verdict.reason is VerdictReason.TIMED_OUT
    assert grade(r"\sqrt{75}", r"5\sqrt{3}").reason is VerdictReason.SAME_MATHEMATICS
    assert grade("x", "9^9^9^9").reason is VerdictReason.TIMED_OUT  # known by now


@pytest.mark.parametrize("text", [r"10^{10^{10}}", r"\prod_{k=1}^{10^{7}} k", "(2, 9^{9^{9^{9}}})", "x=8^{9^{9^{9}}}"])
def test_blow_ups_of_all_kinds_end(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "PAIR_S", 0.5)
    key = "(2, 5)" if text.startswith("(") else "x=5" if text.startswith("x") else "5"
    assert grade(key, text).reason is VerdictReason.TIMED_OUT
    assert grade(text, key).reason is VerdictReason.TIMED_OUT
    assert grade(text, text)


def test_votes_of_blow_ups_are_bounded_in_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    ask = process._Evaluator._ask

    def counted(self: process._Evaluator, text: str, timeout_s: float) -> tuple[Evaluation, float]:
        asked.append(text)
        return ask(self, text, timeout_s)

    monkeypatch.setattr(process._Evaluator, "_ask", counted)
    monkeypatch.setattr(voting, "_ALL_S", 1.0)
    monkeypatch.setattr(voting, "_TEXT_S", 0.3)
    answers = [f"9^{{9^{{9^{{{i}}}}}}}" for i in range(20, 84)]
    assert classes([*answers, answers[3]]) == [*range(64), 3]
    assert len(asked) <= 5


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_killed_process_is_replaced(number: signal.Signals) -> None:
    killed = _running()
    killed.send_signal(number)
    killed.wait()
    assert grade(r"\sqrt{98}", r"7\sqrt{2}").reason is VerdictReason.SAME_MATHEMATICS
    assert process._EVALUATORS[os.getpid()]._process is not killed


@pytest.mark.parametrize(
    ("number", "reason"), [(signal.SIGKILL, VerdictReason.TIMED_OUT), (signal.SIGSEGV, VerdictReason.NOT_UNDERSTOOD)]
)
def test_a_crash_is_told_from_exhaustion(
    number: signal.Signals, reason: VerdictReason, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = _running()
    evaluator = process._EVALUATORS[os.getpid()]
    send = process.send

    def send_and_kill(descriptor: int, message: dict[str, object]) -> None:
        running.send_signal(signal.SIGSTOP)  # so that it dies with the text unanswered
        send(descriptor, message)
        running.send_signal(number)
        running.send_signal(signal.SIGCONT)

    monkeypatch.setattr(process, "send", send_and_kill)
    assert evaluator.evaluate(rf"\sqrt{{2}}+{int(number)}", 5.0)[0] == Evaluation(reason)
    monkeypatch.undo()
    assert grade(r"\sqrt{200}", r"10\sqrt{2}")


def test_a_text_gets_another_chance_with_more_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def asked(self: process._Evaluator, text: str, timeout_s: float) -> tuple[Evaluation, float]:
        given.append(timeout_s)
        return Evaluation(VerdictReason.TIMED_OUT), timeout_s

    monkeypatch.setattr(process._Evaluator, "_ask", asked)
    for timeout_s in (1.0, 1.0, 1.2, 0.0, 5.0, 5.0, 4.0):
        assert process.evaluate(r"\sqrt{2}+9001", timeout_s)[0].failure is VerdictReason.TIMED_OUT
    assert given == [1.0, 5.0]


def test_an_interrupted_evaluation_is_not_the_answer_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    reply = process._Evaluator._reply

    def interrupted(self: process._Evaluator, running: subprocess.Popen[bytes], timeout_s: float) -> Evaluation:
        raise KeyboardInterrupt

    _running()
    monkeypatch.setattr(process._Evaluator, "_reply", interrupted)
    with pytest.raises(KeyboardInterrupt):
        grade(r"3\sqrt{11}", r"\sqrt{99}")
    monkeypatch.setattr(process._Evaluator, "_reply", reply)
    assert not grade(r"4\sqrt{11}", r"5\sqrt{11}")
    assert grade(r"3\sqrt{11}", r"\sqrt{99}")


@pytest.mark.parametrize(
    ("raised", "failure"),
    [
        (MemoryError(), VerdictReason.TIMED_OUT),
        (RecursionError(), VerdictReason.NOT_UNDERSTOOD),
        (ValueError("sympy says no"), VerdictReason.NOT_UNDERSTOOD),
    ],
)
def test_failures_inside_the_process(raised: Exception, failure: VerdictReason, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(text: str) -> None:
        raise raised

    monkeypatch.setattr(worker, "_evaluate", fails)
    assert from_message(worker.evaluate("x")) == Evaluation(failure)


def test_a_process_that_does_not_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_EVALUATORS", {})
    monkeypatch.setattr(process.sys, "executable", "/bin/false")
    with pytest.raises(GraderUnavailable, match="math_verify"):
        grade(r"\sqrt{8}", r"2\sqrt{2}")
    assert grade("0.5", "1/2")  # needs none


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "().__class__",
        "x.func",
        'f"{x}"',
        "a;b",
        "a\nb",
        r"\input{/etc/passwd}",
        r"\write18{ls}",
        "x if 1 else 2",
        "lambda: 5",
        "print(5)",
        "5 = 5",
        "1, 2",
        "3 4",
        "7_x",
        "x'",
        r"\begin{align}8\end{align}",
        r"\begin{pmatrix}8\\[7\\]",
        "$5$",
        "1.2.3",
        "5^",
        "x" * 2000,
    ],
)
def test_what_does_not_reach_the_parser(text: str) -> None:
    assert worker.latex_of(text) is None


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("0.45a", r"{\frac{045}{100}}a"),
        ("9^9^9", "9^{9^9}"),
        ("2(3)x", r"2 \cdot (3)x"),
        ("R^2-r", "u_{9082}^2-r"),
        (r"\sin 30^\circ", r"\sin (\frac{30\pi}{180})"),
        (r"1\frac{1}{2}x", r"(1+\frac{1}{2})x"),
        (r"3\frac{x}{2}", r"3\frac{x}{2}"),
    ],
)
def test_what_the_parser_gets(text: str, latex: str) -> None:
    assert worker.latex_of(text) == latex


def _ended(pid: int) -> bool:
    descriptor = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(20_000))
    finally:
        os.close(descriptor)


PARENT = """
import os, signal, sys
from rstar_fast.grading import grade, process
assert grade(r"\\sqrt{8}", r"2\\sqrt{2}")
print(process._EVALUATORS[os.getpid()]._process.pid, flush=True)
sys.stdin.readline()
"""


def test_the_process_ends_when_its_parent_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdin is not None and parent.stdout is not None
    with parent.stdin, parent.stdout:
        pid = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        assert _ended(pid)


def test_a_forked_process_has_an_evaluator_of_its_own() -> None:
    code = textwrap.dedent(
        r"""
        import os
        from rstar_fast.grading import grade, process
        assert grade(r"\sqrt{8}", r"2\sqrt{2}")
        mine = process._EVALUATORS[os.getpid()]
        child = os.fork()
        if child == 0:
            assert mine._process is None
            assert grade(r"\sqrt{27}", r"3\sqrt{3}")
            os._exit(0 if len(process._EVALUATORS) == 2 else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert mine._process.poll() is None
        assert grade(r"\sqrt{32}", r"4\sqrt{2}")
        """
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
