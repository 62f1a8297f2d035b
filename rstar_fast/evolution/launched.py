"""Runs a command that ends when the process that asked for it does, however that ended:

    python -m rstar_fast.evolution.launched PARENT COMMAND ...

A killed evolution's trainings would go on otherwise, and hold the folder that the next start needs. PARENT is its process's number.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from types import FrameType

_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
_GRACE_S = 10.0  # for launchers to end processes that they put into sessions of their own


def run(parent: int, command: list[str]) -> int:
    """The command's exit status; it has a process group of its own, which is ended with this process's parent."""
    child: subprocess.Popen[bytes] | None = None

    def end(number: int, frame: FrameType | None) -> None:
        if child is not None:
            _end(child)
        os._exit(128 + number)

    signal.signal(signal.SIGTERM, end)
    if ctypes.CDLL(None, use_errno=True).prctl(_SET_DEATH_SIGNAL, signal.SIGTERM) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:  # it died before it could be watched
        return 128 + signal.SIGTERM
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # until the child can be found by `end`
    child = subprocess.Popen(command, process_group=0, stdout=sys.stderr.fileno(), preexec_fn=_unblock)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    try:
        return child.wait()
    except KeyboardInterrupt:  # from the terminal, which knows this group only
        _end(child)
        return 128 + signal.SIGINT


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _end(child: subprocess.Popen[bytes]) -> None:
    """Asks the group to end, and then sees to it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            return
        until = time.monotonic() + _GRACE_S
        while child.poll() is None and time.monotonic() < until:
            time.sleep(0.05)


if __name__ == "__main__":
    status = run(int(sys.argv[1]), sys.argv[2:])
    sys.exit(status if status >= 0 else 128 - status)  # ended by a signal: as shells say it
