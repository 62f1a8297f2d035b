"""What a worker replies of a program, from what its process said and how it ended. Nothing here trusts what a process says."""

from __future__ import annotations

import json
import math
import os
import signal
from dataclasses import dataclass
from typing import Any

from rstar_fast.programs import ErrorKind

_CUT = "\n... {} bytes left out ...\n"


@dataclass(frozen=True, slots=True)
class Result:
    """What a program gave: its output, and its error, as the reply has it."""

    output: str
    error: dict[str, str] | None


def processor_seconds(cpu_s: float) -> int:
    """The limit on processor time: the kernel counts whole seconds."""
    return math.ceil(min(cpu_s, 1e9))


def read_report(report: bytes) -> dict[str, Any] | None:
    """What a guest reported, None where it is nothing that it would report of itself: a program may have spoken for it."""
    try:
        said = json.loads(report)
        if not isinstance(said, dict):
            return None
        if "kind" in said:
            ErrorKind(said["kind"])
            return {name: _printable(said[name]) for name in ("kind", "type", "message")}
        if "begin" in said and not all(type(said[name]) is int and 0 <= said[name] < 1 << 40 for name in ("begin", "left_out")):
            return None
        return said
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _printable(value: object) -> str:
    """Text that UTF-8 can hold, as the output is."""
    return str(value).encode("utf-8", "backslashreplace").decode()


def of_report(said: dict[str, Any], output: Any, value: bytes) -> Result:
    """The result of a program that reported; `output` (_sandbox.Output or alike) gets the value's text besides what was printed."""
    if "kind" in said:
        return Result(decoded(output), {name: said[name] for name in ("kind", "type", "message")})
    if "begin" in said:
        output.add(value[: said["begin"]])
        output.skip(said["left_out"])
        output.add(value[said["begin"] :])
    return Result(decoded(output), None)


def of_end(status: int, processor_s: float, cpu_s: float) -> dict[str, str]:
    """The error of a program whose process ended without a report; `status` is as os.wait has it."""
    signal_number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    # A program that does not heed the first signal of the limit gets the second.
    killed_at_limit = signal_number == signal.SIGKILL and processor_s >= processor_seconds(cpu_s)
    if signal_number == signal.SIGXCPU or killed_at_limit:
        return used_up(cpu_s)
    end = f"signal {signal_number}" if signal_number is not None else f"exit code {os.WEXITSTATUS(status)}"
    return crashed(f"the process ended without a result ({end})")


def too_long(timeout_s: float) -> dict[str, str]:
    """The error of a program that was ended by the wall clock."""
    return _timed_out(f"the program ran longer than {timeout_s:g} s")


def used_up(cpu_s: float) -> dict[str, str]:
    """The error of a program that was ended for the processor time it used."""
    return _timed_out(f"the program used more than {cpu_s:g} s of processor time")


def decoded(output: Any) -> str:
    """Output as text, with a line where the middle is left out."""
    head, left_out, tail = output.parts
    cut = _CUT.format(left_out).encode() if left_out else b""
    return (head + cut + tail).decode("utf-8", "replace")


def _timed_out(message: str) -> dict[str, str]:
    return {"kind": ErrorKind.TIMED_OUT.value, "type": "TimeoutError", "message": message}


def crashed(message: str) -> dict[str, str]:
    """The error of a program whose process is lost."""
    return {"kind": ErrorKind.CRASHED.value, "type": "Crash", "message": message}
