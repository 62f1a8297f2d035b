"""What the command line shows: progress as it is counted, and results as text and as JSON."""

from __future__ import annotations

import io
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from rstar_fast.cli.progress import Meter, SearchProgress, duration
from rstar_fast.cli.rendering import headline, one_line, readable, result_json, result_lines, visible
from rstar_fast.types import (
    Expansion,
    Failure,
    FailureKind,
    Finished,
    Problem,
    SearchResult,
    SearchStats,
    Trajectory,
)


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def grown(question: str, tokens: int, steps_run: int = 0) -> Expansion:
    return Expansion(Problem(question), "0", (), tokens, steps_run)


def finished(question: str, tokens: int = 0, steps_run: int = 0, failed: bool = False, restored: bool = False) -> Finished:
    failure = Failure(FailureKind.POLICY, "no") if failed else None
    stats = SearchStats(policy_tokens=tokens, steps_run=steps_run)
    return Finished(SearchResult(Problem(question), stats=stats, failure=failure), restored)


# --- progress ---


def test_the_line_tells_problems_rates_and_the_time_left() -> None:
    clock = Clock()
    meter = Meter(10, clock)
    assert meter.line() == "0/10 problems"
    clock.seconds += 50  # loading the models is not searching
    meter.count(finished("old", restored=True))
    meter.count(finished("older", restored=True, failed=True))
    assert meter.line() == "2/10 problems (2 restored, 1 failed)"
    meter.count(grown("a", 100, 10))
    clock.seconds += 0.5
    assert meter.line() == "2/10 problems (2 restored, 1 failed)"  # what came of half a second says nothing
    clock.seconds += 9.5
    meter.count(grown("b", 50, 5))
    assert meter.line().endswith("  0.00 problems/s  15 tokens/s  2 steps run/s  left: unknown")
    meter.count(finished("a", tokens=120, steps_run=10))  # 20 of its tokens came to nothing
    assert meter.line() == "3/10 problems (2 restored, 1 failed)  0.10 problems/s  17 tokens/s  2 steps run/s  left: 1:10"
    for name in "bcdefgh":
        meter.count(finished(name, tokens=50, steps_run=5, failed=name == "h"))
    assert meter.line() == "10/10 problems (2 restored, 2 failed)  0.80 problems/s  47 tokens/s  4 steps run/s  in 10 s"


def test_a_run_that_was_finished_has_no_rates() -> None:
    meter = Meter(1, Clock())
    meter.count(finished("a", restored=True))
    assert (meter.line(), meter.seconds, meter.seconds_left) == ("1/1 problems (1 restored)", 0.0, None)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1:00"),
        (185, "3:05"),
        (3599.7, "1:00:00"),
        (7385, "2:03:05"),
        (360_000, "100:00:00"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_off_a_terminal_there_is_a_line_now_and_then_and_one_at_the_end() -> None:
    clock, file = Clock(), io.StringIO()
    with SearchProgress(3, Console(file=file, width=40), "[red]x[/red]", clock) as progress:
        progress(grown("a", 10))
        assert file.getvalue() == ""
        clock.seconds += 11
        progress(finished("a", tokens=10))
        assert len(file.getvalue().splitlines()) == 1
        progress(finished("b"))
        assert len(file.getvalue().splitlines()) == 1
        progress(finished("c"))
    lines = file.getvalue().splitlines()  # not wrapped at the width, and no markup
    assert lines == [
        "[red]x[/red]: 1/3 problems  0.09 problems/s  1 tokens/s  0 steps run/s  left: 22 s",
        "[red]x[/red]: 3/3 problems  0.27 problems/s  1 tokens/s  0 steps run/s  in 11 s",
    ]


@pytest.mark.parametrize(("error", "lines"), [(KeyboardInterrupt, 1), (ValueError, 0)])
def test_an_interrupt_shows_how_far_it_came(error: type[BaseException], lines: int) -> None:
    file = io.StringIO()
    with pytest.raises(error), SearchProgress(3, Console(file=file), clock=Clock()) as progress:
        progress(finished("a"))
        raise error
    assert len(file.getvalue().splitlines()) == lines


def test_on_a_terminal_there_is_a_bar_that_goes_away() -> None:
    file = io.StringIO()
    with SearchProgress(2, Console(file=file, force_terminal=True, width=120), clock=Clock()) as progress:
        progress(finished("a"))
        progress(finished("b"))
    shown = file.getvalue()
    assert "━" in shown and shown.endswith("2/2 problems  0.00 problems/s  0 tokens/s  0 steps run/s  in 0 s\n")


# --- text ---


@given(text=st.text(st.characters() | st.sampled_from("\x1b\x07\r\x7f\x9b\u202e\ud800\t\n")))
def test_nothing_reaches_the_terminal_that_it_would_obey(text: str) -> None:
    shown = visible(text)
    shown.encode("utf-8")
    assert all(
        character in "\t\n" or not (character < " " or "\x7f" <= character <= "\x9f" or "\u202a" <= character <= "\u202e")
        for character in shown
    )
    assert visible(shown) == shown
    assert "\n" not in one_line(text) and "\n" not in headline(text) and len(headline(text, 20)) <= 20
    if text.isprintable() and text.isascii():
        assert shown == one_line(text) == text


def test_a_step_is_shown_without_its_markers() -> None:
    text = "<code>\n# Add \x1b[31mthem\n\nprint(2 + 3)\n<end_of_code>\n<output>5\n<end_of_output>\n"
    text += "<answer>It is \\boxed{5}<end_of_answer>"
    assert readable(text) == "# Add \\x1b[31mthem\nprint(2 + 3)\noutput: 5\nIt is \\boxed{5}"
    assert headline(text) == "Add \\x1b[31mthem"
    assert headline("<code>\n" + "long " * 30, 12) == "long long l…"
    assert headline("<code>\n#\n") == "(empty)"


RESULT = SearchResult(
    Problem("q", "id"),
    "5\x1b[1m\n6",
    0.75,
    (
        Trajectory("other", "7", 0.9, (0.9,)),
        Trajectory("<code>\nprint(5)\n<end_of_code>", "5\x1b[1m\n6", 0.5, (0.5,), None, ""),
    ),
    {"5\x1b[1m\n6": 1.5, "7": 0.5},
    None,
    SearchStats(rollouts=2, candidates=3, steps_run=1, policy_tokens=40, seconds=1.25),
)


def test_a_result_as_text() -> None:
    assert result_lines(RESULT) == [
        "answer    5\\x1b[1m 6    score 0.750",
        "votes     5\\x1b[1m 6: 1.50    7: 0.50",
        "search    2 rollouts, 2 solutions, 3 steps proposed, 1 run, 40 tokens, 1.2 s",
        "",
        "solution",  # the best that gives the chosen answer
        "  print(5)",
    ]


def test_a_failure_as_text() -> None:
    failed = SearchResult(Problem("q"), failure=Failure(FailureKind.POLICY, "the policy\n said \x07"))
    assert result_lines(failed) == [
        "failed    policy: the policy said \\x07",
        "search    0 rollouts, 0 solutions, 0 steps proposed, 0 run, 0 tokens, 0.0 s",
    ]


def test_a_result_as_json() -> None:
    plain = result_json(RESULT, correct=True)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert (plain["id"], plain["answer"], plain["correct"], plain["failure"]) == ("id", "5\x1b[1m\n6", True, None)
    assert plain["votes"] == RESULT.votes and plain["stats"]["policy_tokens"] == 40


def test_json_has_no_numbers_that_json_does_not_know() -> None:
    odd = Trajectory("s", "5", math.inf, (math.nan, 0.5))
    plain = result_json(
        SearchResult(Problem("q"), "5", math.nan, (odd,), {"5": -math.inf}, failure=Failure(FailureKind.SCORER, "x"))
    )
    json.dumps(plain, allow_nan=False)
    assert (plain["score"], plain["votes"]) == (None, {"5": None})
    assert (plain["trajectories"][0]["score"], plain["trajectories"][0]["q_values"]) == (None, [None, 0.5])
    assert plain["failure"] == {"kind": "scorer", "message": "x"}
