"""The confined process that does the mathematics: started when first needed, bounded for every pair, replaced when it fails."""

from __future__ import annotations

import atexit
import functools
import os
import select
import subprocess
import sys
import threading
import time

from rstar_fast.sandbox.protocol import Broken, receive, send
from rstar_fast.types import Verdict, VerdictReason

_PAIR_S = 5.0
_START_S = 120.0
_KEPT_VARIABLES = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")


def mathematics(key: str, answer: str) -> Verdict:
    """Whether two expressions in cleaned LaTeX are equal, by math-verify, within 5 seconds of wall-clock time."""
    # By process: a forked one must not share the pipes of its parent.
    return _mathematician(os.getpid()).compare(key, answer)


@functools.cache
def _mathematician(process_id: int) -> _Mathematician:
    return _Mathematician()


class _Mathematician:
    """The process, for one pair at a time; callers on other threads wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._known: dict[tuple[str, str], Verdict] = {}
        atexit.register(self.stop)

    def compare(self, key: str, answer: str) -> Verdict:
        with self._lock:
            if (key, answer) not in self._known:
                if len(self._known) > 10_000:
                    self._known.clear()
                self._known[key, answer] = self._ask(key, answer)
            return self._known[key, answer]

    def _ask(self, key: str, answer: str) -> Verdict:
        if self._process is None:
            self._start()
        assert self._process is not None and self._process.stdin is not None
        try:
            send(self._process.stdin.fileno(), {"key": key, "answer": answer})
            return Verdict(**self._verdict(_PAIR_S))
        except (Broken, KeyError, ValueError, TypeError):  # too long, out of memory, or dead: the next pair gets a new process
            self.stop()
            return Verdict(False, VerdictReason.TIMED_OUT)

    def _verdict(self, timeout_s: float) -> dict[str, object]:
        assert self._process is not None and self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        deadline = time.monotonic() + timeout_s
        if not poll.poll(1000 * max(0.0, deadline - time.monotonic())):
            raise Broken(f"no verdict within {timeout_s:g} s")
        said = receive(descriptor)
        return {"equal": bool(said["equal"]), "reason": VerdictReason(said["reason"])}

    def _start(self) -> None:
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ} | {"PYTHONHASHSEED": "0"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "rstar_fast.grading.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=environment,
            start_new_session=True,
        )
        self._verdict(_START_S)

    def stop(self) -> None:
        """Ends the process."""
        process, self._process = self._process, None
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            process.kill()
            process.wait()
