"""A worker process as its parent sees it: how it is started, and how it is waited for. The sandbox's and the grader's alike."""

from __future__ import annotations

import os
import select
import subprocess
import sys

_KEPT_VARIABLES = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "TMPDIR")


def usable_cores() -> int:
    """How many cores this process may use, where the system tells; else how many there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def start_worker(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Starts a Python that runs a module, with its arguments, and has next to nothing of our environment.

    Raises:
      OSError: no process can be started.
    """
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    environment["PYTHONHASHSEED"] = "0"  # a set prints the same in every run
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env=environment,
        start_new_session=True,  # Ctrl-C in a terminal reaches the caller only
    )


def is_heard(descriptor: int, timeout_s: float) -> bool:
    """Whether the other side says something, or closes, within some seconds."""
    poll = select.poll()  # select() fails on descriptors over 1023
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(1000 * max(0.0, timeout_s)))
