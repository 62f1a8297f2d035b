"""A worker process: loads the mathematics once, then forks a confined child for every program. The one place that runs code.

    pool -- request --> worker -- fork --> child: limits, filter, run
         <- result ---         <- output pipe, result pipe ---

The child has nothing of the pool's: of its open files only the two pipes remain. It proves its result with a number drawn
for this run, which stands before it in the result pipe. The worker counts the wall clock and keeps of the output what the
limit allows.
"""

from __future__ import annotations

import builtins
import gc
import io
import json
import os
import random
import secrets
import select
import signal
import sys
import time
import types
from typing import Any

from rstar_fast.sandbox import confine
from rstar_fast.sandbox.protocol import Broken, receive, send
from rstar_fast.types import ErrorKind

_MESSAGE_CHARACTERS = 500
_RESULT_BYTES = 1 << 16
_READ_BYTES = 1 << 16
_CUT = "\n... {} bytes left out ...\n"
_RESULT_FILE = 3  # in the child
# Given back when a program has run out of memory: saying so takes some.
_RESERVE_BYTES = 1 << 20


class _Kept:
    """Of a stream of bytes, its beginning and its end: what a limit allows, cut in the middle."""

    def __init__(self, limit: int) -> None:
        self._half = limit // 2  # of the end; the beginning has the rest
        self._begin = limit - self._half
        self._head, self._tail, self._total = bytearray(), bytearray(), 0

    def add(self, data: bytes) -> None:
        self._total += len(data)
        room = self._begin - len(self._head)
        self._head += data[:room] if room > 0 else b""
        self._tail += data[max(0, room) :]
        if len(self._tail) > 4 * self._half:
            del self._tail[: -self._half]

    def text(self) -> str:
        tail = bytes(self._tail[-self._half :])
        left_out = self._total - len(self._head) - len(tail)
        cut = _CUT.format(left_out).encode() if left_out else b""
        return (bytes(self._head) + cut + tail).decode("utf-8", "replace")


def _warm_up() -> None:
    """Loads what steps import, so that every child finds it loaded."""
    import collections  # noqa: F401
    import datetime  # noqa: F401
    import decimal  # noqa: F401
    import fractions  # noqa: F401
    import functools  # noqa: F401
    import itertools  # noqa: F401
    import math  # noqa: F401
    import re  # noqa: F401
    import statistics  # noqa: F401

    import numpy
    import sympy
    import sympy.core.random

    x = sympy.Symbol("x")
    sympy.solve(x**2 - 3 * x + 2, x)  # the solvers load parts of sympy on their first use
    sympy.simplify(sympy.sin(x) ** 2 + sympy.cos(x) ** 2)
    sympy.factorint(84)
    numpy.linalg.solve(numpy.eye(2), numpy.ones(2))
    numpy.random.seed(0)
    sympy.core.random.seed(0)  # of its own: sympy draws where it factors and where it tests for zero


def _text(value: object) -> str:
    """What an exception says, as far as it is told; its text may fail, being the program's code."""
    try:
        return str(value)[:_MESSAGE_CHARACTERS]
    except BaseException:  # hostile __str__; the type's name is all there is to tell
        return ""


def _describe(error: BaseException) -> tuple[ErrorKind, str, str]:
    kind = ErrorKind.OUT_OF_MEMORY if isinstance(error, MemoryError) else ErrorKind.RAISED
    return kind, type(error).__name__[:_MESSAGE_CHARACTERS], _text(error)


def _run_program(source: str) -> tuple[ErrorKind, str, str] | None:
    """Runs a program as the module `__main__`, which is new; None when it came to its end."""
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    reserve = bytearray(_RESERVE_BYTES)
    try:
        exec(compile(source, "<step>", "exec", dont_inherit=True), main.__dict__)
    except SystemExit as error:
        code = error.code
        if code is not None and not (type(code) in (int, bool) and code == 0):
            return ErrorKind.RAISED, "SystemExit", _text(code)
    except BaseException as error:  # whatever a program raises is its result
        del reserve
        return _describe(error)
    return None


def _flush() -> tuple[ErrorKind, str, str] | None:
    try:
        sys.stdout.flush()
    except BaseException as error:  # a program may have closed or replaced its output
        return _describe(error)
    return None


def _confine(request: dict[str, Any], output: int, result: int, worker: int) -> None:
    """Takes from the forked child all that a program shall not have."""
    confine.die_with_parent()
    if os.getppid() != worker:  # it ended before the line above
        os._exit(0)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(null, 2)
    if result != _RESULT_FILE:
        os.dup2(result, _RESULT_FILE)
    os.closerange(_RESULT_FILE + 1, 4096)
    os.environ.clear()
    os.chdir("/")
    random.seed(0)  # the module draws a new seed at every fork; NumPy's and sympy's stay as _warm_up left them
    sys.stdin = open(0, encoding="utf-8")
    # Line by line, so that what was printed before a crash or the time limit is there.
    sys.stdout = sys.__stdout__ = io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(1, "wb", closefd=False)), "utf-8", "backslashreplace", "\n", line_buffering=True
    )
    sys.stderr = sys.__stderr__ = open(2, "w", encoding="utf-8", errors="backslashreplace")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    confine.limit(request["cpu_s"], request["memory_mb"])
    confine.refuse_system_calls()


def _child(request: dict[str, Any], output: int, result: int, nonce: bytes, worker: int) -> None:
    """Runs in the forked child and never returns."""
    finish, write, dumps = os._exit, os.write, json.dumps  # the program may replace what the modules hold
    try:
        try:
            _confine(request, output, result, worker)
        except BaseException as error:  # not confined, not run
            end: tuple[ErrorKind, str, str] | None = (ErrorKind.CRASHED, "Crash", f"it could not be confined: {_text(error)}")
        else:
            end = _run_program(request["source"])
            flushed = _flush()
            end = end or flushed
        message = None if end is None else {"kind": end[0].value, "type": end[1], "message": end[2]}
        write(_RESULT_FILE, nonce + dumps(message).encode("ascii"))
        finish(0)
    except BaseException:  # the result is missing, which says "crashed"
        finish(70)
    finish(70)


def _collect(pid: int, output: int, result: int, request: dict[str, Any], started: float) -> tuple[str, bytes, bool]:
    """Reads a child's pipes until it ends or its time is up; (output, result, timed out). The child is gone after."""
    deadline = started + request["timeout_s"]
    kept, answer, timed_out = _Kept(request["output_chars"]), bytearray(), False
    ended = os.pidfd_open(pid)
    poll = select.poll()
    for descriptor in (output, result, ended, 0):
        poll.register(descriptor, select.POLLIN)
    streams = {output, result}
    try:
        running = True
        while running:
            events = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if not events:
                timed_out = True
                break
            for descriptor, _ in events:
                if descriptor == 0:  # the pool is gone, or breaks the protocol: it never sends while a program runs
                    os.kill(pid, signal.SIGKILL)
                    os._exit(0)
                if descriptor == ended:
                    running = False
                elif descriptor in streams and not _take(descriptor, output, kept, answer):
                    poll.unregister(descriptor)
                    streams.discard(descriptor)
            if time.monotonic() > deadline:
                timed_out = running
                break
    finally:
        os.kill(pid, signal.SIGKILL)
        os.close(ended)
    for descriptor in streams:  # what was written before the end and not yet read
        os.set_blocking(descriptor, False)
        while _take(descriptor, output, kept, answer):
            pass
    return kept.text(), bytes(answer), timed_out


def _take(descriptor: int, output: int, kept: _Kept, answer: bytearray) -> bool:
    """Reads once from a pipe; False at its end, or when there is nothing to read."""
    try:
        data = os.read(descriptor, _READ_BYTES)
    except BlockingIOError:
        return False
    if descriptor == output:
        kept.add(data)
    elif len(answer) < _RESULT_BYTES:
        answer += data
    return bool(data)


def _verdict(
    answer: bytes, nonce: bytes, status: int, processor_s: float, timed_out: bool, request: dict[str, Any]
) -> dict[str, str] | None:
    """The error of a run, None where it came to its end."""
    if timed_out:
        return _timed_out(f"the program ran longer than {request['timeout_s']:g} s")
    signal_number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    # A program that does not heed the first signal of the limit gets the second.
    killed_at_limit = signal_number == signal.SIGKILL and processor_s >= confine.processor_seconds(request["cpu_s"])
    if signal_number == signal.SIGXCPU or killed_at_limit:
        return _timed_out(f"the program used more than {request['cpu_s']:g} s of processor time")
    try:
        if secrets.compare_digest(answer[: len(nonce)], nonce):
            error = json.loads(answer[len(nonce) :])
            return None if error is None else {name: _printable(error[name]) for name in ("kind", "type", "message")}
    except (ValueError, KeyError, TypeError, RecursionError):
        pass  # a child that got hold of its nonce may say anything: a crash, too
    end = f"signal {signal_number}" if signal_number is not None else f"exit code {os.WEXITSTATUS(status)}"
    return {"kind": ErrorKind.CRASHED.value, "type": "Crash", "message": f"the process ended without a result ({end})"}


def _timed_out(message: str) -> dict[str, str]:
    return {"kind": ErrorKind.TIMED_OUT.value, "type": "TimeoutError", "message": message}


def _printable(value: object) -> str:
    """Text that UTF-8 can hold, as the output is."""
    return str(value).encode("utf-8", "backslashreplace").decode()


def _execute(request: dict[str, Any]) -> dict[str, Any]:
    started = time.monotonic()
    nonce = secrets.token_hex(16).encode()
    worker = os.getpid()
    output_read, output_write = os.pipe()
    result_read, result_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(request, output_write, result_write, nonce, worker)
    os.close(output_write)
    os.close(result_write)
    try:
        output, answer, timed_out = _collect(pid, output_read, result_read, request, started)
    finally:
        os.close(output_read)
        os.close(result_read)
        _, status, usage = os.wait4(pid, 0)
    return {
        "output": output,
        "error": _verdict(answer, nonce, status, usage.ru_utime + usage.ru_stime, timed_out, request),
        "seconds": time.monotonic() - started,
    }


def main() -> None:
    """Serves requests from standard input until it closes."""
    replies = os.dup(1)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the pool's to handle
    _warm_up()
    gc.collect()
    gc.freeze()  # the collector would touch, and so copy, every page shared with the children
    try:
        # Where nothing can be confined, no program is to blame for it.
        error = _execute({"source": "", "timeout_s": 60.0, "cpu_s": 60.0, "memory_mb": 64, "output_chars": 2})["error"]
        send(replies, {"failure": None if error is None else error["message"]})
        while True:
            send(replies, _execute(receive(0)))
    except Broken:
        pass  # the pool has closed


if __name__ == "__main__":
    main()
