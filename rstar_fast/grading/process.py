"""The confined process that evaluates expressions: started when needed, bounded for every text, replaced when it fails."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import time

from rstar_fast.grading.evaluation import Evaluation, from_message
from rstar_fast.sandbox.child import is_heard, start_worker
from rstar_fast.sandbox.protocol import Broken, receive, send
from rstar_fast.types import RstarError, VerdictReason

_START_S = 120.0
_MOST_KNOWN = 20_000
_NO_TIME = Evaluation(VerdictReason.TIMED_OUT)
_NOT_UNDERSTOOD = Evaluation(VerdictReason.NOT_UNDERSTOOD)


class GraderUnavailable(RstarError):
    """The process that evaluates expressions does not start on this machine."""


def evaluate(text: str, timeout_s: float) -> tuple[Evaluation, float]:
    """Evaluates one expression in cleaned LaTeX, in the process; what it found for a text, failures included, is kept.

    Args:
      timeout_s: wall-clock seconds for this text, without waiting for other threads or the start of a process. A text that
        has timed out is tried again only if it is given half as much again.

    Returns:
      The evaluation, and the seconds that it took now, 0 where it was known. Its failure is TIMED_OUT where time or memory
      did not suffice, NOT_UNDERSTOOD where the text is no expression or the process crashed on it.

    Raises:
      GraderUnavailable: no process can be started.
    """
    # By process: a forked one must not share the pipes of its parent.
    return _EVALUATORS.setdefault(os.getpid(), _Evaluator()).evaluate(text, timeout_s)


class _Evaluator:
    """The process, for one text at a time; callers on other threads wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self._known: dict[str, tuple[Evaluation, float]] = {}  # with the seconds that it was given
        self._registered = False

    def evaluate(self, text: str, timeout_s: float) -> tuple[Evaluation, float]:
        known = self._kept(text, timeout_s)
        if known is not None:
            return known, 0.0
        if timeout_s <= 0:
            return _NO_TIME, 0.0
        with self._lock:
            known = self._kept(text, timeout_s)
            if known is not None:
                return known, 0.0
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            evaluation, seconds = self._ask(text, timeout_s)
            self._known[text] = evaluation, timeout_s
            return evaluation, seconds

    def _kept(self, text: str, timeout_s: float) -> Evaluation | None:
        known = self._known.get(text)
        if known is None or known[0].failure is VerdictReason.TIMED_OUT and timeout_s >= 1.5 * known[1]:
            return None
        return known[0]

    def _ask(self, text: str, timeout_s: float) -> tuple[Evaluation, float]:
        """Has a text evaluated; the process is stopped whenever its next reply might not be to the next text."""
        try:
            process = self._sent(text)
            begin = time.monotonic()
            evaluation = self._reply(process, timeout_s)
        except (Broken, KeyError, ValueError, TypeError, ZeroDivisionError):
            # Killed from outside, as a machine out of memory does it, or crashed on this text.
            status = self.stop()
            evaluation = _NO_TIME if status == -signal.SIGKILL else _NOT_UNDERSTOOD
        except BaseException:
            self.stop()
            raise
        if evaluation.failure is VerdictReason.TIMED_OUT:
            self.stop()  # it is busy, or its memory is in pieces
        return evaluation, time.monotonic() - begin

    def _sent(self, text: str) -> subprocess.Popen[bytes]:
        """The process, which has got the text."""
        for _ in range(2):  # one may have been killed since it was last used: that says nothing about this text
            process = self._process or self._start()
            try:
                send(process.stdin.fileno(), {"text": text})  # type: ignore[union-attr]
                return process
            except Broken:
                self.stop()
        raise GraderUnavailable("the process that evaluates expressions ends by itself: is the machine out of memory?")

    def _reply(self, process: subprocess.Popen[bytes], timeout_s: float) -> Evaluation:
        descriptor = process.stdout.fileno()  # type: ignore[union-attr]
        if not is_heard(descriptor, timeout_s):
            return _NO_TIME
        return from_message(receive(descriptor))

    def _start(self) -> subprocess.Popen[bytes]:
        if not self._registered:
            self._registered = True
            atexit.register(self.stop)
            os.register_at_fork(after_in_child=self.forget)
        self._process = start_worker("rstar_fast.grading.worker")
        try:
            ready = self._reply(self._process, _START_S)
        except Broken:
            ready = _NO_TIME
        if ready.failure is not VerdictReason.EMPTY:
            status = self.stop()
            raise GraderUnavailable(
                f"the process that evaluates expressions did not start (status {status}): "
                f"does `{sys.executable} -c 'import math_verify, sympy'` work?"
            )
        return self._process

    def stop(self) -> int | None:
        """Ends the process and returns the status with which it had ended by itself; None where it had not."""
        process, self._process = self._process, None
        if process is None or os.getpid() != self._owner:
            return None
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            status = process.wait(0.05)  # what it died of, if it did
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            status = None
        return status

    def forget(self) -> None:
        """Closes, in a forked process, the parent's pipes: held open, they would keep its process from ending with it."""
        process, self._process = self._process, None
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            process.returncode = 0  # not this process's child: nothing to wait for, nothing to warn of


# One for each process: the only state of the module, empty until an expression is evaluated.
_EVALUATORS: dict[int, _Evaluator] = {}
