"""Results as text for a terminal, and as JSON."""

from __future__ import annotations

import dataclasses
import math
import re
import shlex
import sys
from typing import Any

from rstar_fast import steps
from rstar_fast.types import SearchResult, Trajectory

# Models write anything, also what a terminal would obey: control characters, and marks that turn the direction of writing.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_OUTPUT = re.compile(f"{re.escape(steps.OUTPUT)}(.*?){re.escape(steps.END_OF_OUTPUT)}", re.DOTALL)
_MARKERS = re.compile("|".join(map(re.escape, steps.MARKERS)))
_BREAKS = re.compile(r"[ \t\r]*\n[ \t\r\n]*")
_BLANK_LINES = re.compile(r"\n\s*\n")


def this_command() -> str:
    """The command that runs, as a shell takes it."""
    return f"rstar-fast {shlex.join(sys.argv[1:])}"


def visible(text: str) -> str:
    """Text that is safe to print: control characters (but newline and tab) and lone surrogates as escapes like \\x1b."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def one_line(text: str) -> str:
    """`visible`, in one line: a line break, and the white space around it, becomes a space."""
    return visible(_BREAKS.sub(" ", text))


def readable(text: str) -> str:
    """A step or solution without its markers; what its code printed stands behind "output:"."""
    text = _OUTPUT.sub(lambda match: f"output: {match[1].strip()}\n", text)
    return visible(_BLANK_LINES.sub("\n", _MARKERS.sub("", text)).strip("\n"))


def headline(text: str, width: int = 60) -> str:
    """A step in one line: its first line that says something, comment signs dropped."""
    lines = [line.strip().lstrip("# ").strip() for line in readable(text).splitlines()]
    line = next((line for line in lines if line), "(empty)")
    return line if len(line) <= width else f"{line[: width - 1]}…"


def solution_lines(result: SearchResult, trajectory: Trajectory) -> list[str]:
    """A trajectory, step by step with the Q-value of each."""
    texts = [trajectory.solution]
    if result.tree is not None and trajectory.tag:
        texts = [node.text for node in result.tree[trajectory.tag].path]
    lines = []
    for number, text in enumerate(texts, 1):
        q = f"  Q {trajectory.q_values[number - 1]:+.2f}" if len(trajectory.q_values) == len(texts) else ""
        lines.append(f"step {number}{q}" if len(texts) > 1 else "solution")
        lines += [f"  {line}" for line in readable(text).splitlines()]
    return lines


def best_trajectory(result: SearchResult) -> Trajectory | None:
    """The best trajectory that gives the chosen answer; the best of all where none is written so."""
    of_answer = [trajectory for trajectory in result.trajectories if trajectory.answer == result.answer]
    return next(iter(of_answer or result.trajectories), None)


def result_lines(result: SearchResult) -> list[str]:
    """A result for a reader: answer, score, votes, what it cost, the best solution."""
    lines = []
    if result.failure is not None:
        lines.append(f"failed    {one_line(str(result.failure))}")
    else:
        score = "" if result.score is None else f"    score {result.score:.3f}"
        lines.append(f"answer    {one_line(result.answer or '')}{score}")
        votes = [f"{one_line(answer)}: {weight:.2f}" for answer, weight in result.votes.items()]
        lines.append(f"votes     {'    '.join(votes)}")
    stats = result.stats
    lines.append(
        f"search    {stats.rollouts} rollouts, {len(result.trajectories)} solutions, {stats.candidates} steps proposed, "
        f"{stats.steps_run} run, {stats.policy_tokens} tokens, {stats.seconds:.1f} s"
    )
    if stats.stopped is not None:
        lines.append(f"stopped   early: {stats.stopped.value}")
    best = best_trajectory(result)
    if best is not None:
        lines += ["", *solution_lines(result, best)]
    return lines


def result_json(result: SearchResult, correct: bool | None = None) -> dict[str, Any]:
    """A result as plain JSON values, its tree left out; numbers that are not finite become null."""
    failure = result.failure
    return {
        "id": result.problem.id,
        "question": result.problem.question,
        "answer": result.answer,
        "score": _finite(result.score),
        "correct": correct,
        "failure": None if failure is None else {"kind": failure.kind.value, "message": failure.message},
        "votes": {answer: _finite(weight) for answer, weight in result.votes.items()},
        "trajectories": [_trajectory_json(trajectory) for trajectory in result.trajectories],
        "stats": {**dataclasses.asdict(result.stats), "stopped": None if result.stats.stopped is None else result.stats.stopped.value},
    }


def _trajectory_json(trajectory: Trajectory) -> dict[str, Any]:
    return {
        **dataclasses.asdict(trajectory),
        "score": _finite(trajectory.score),
        "q_values": [_finite(q) for q in trajectory.q_values],
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
