"""What a killed evolution's launcher leaves: nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

# Says its number and that of a child of its own, and waits. The second way it does not heed SIGTERM.
_COMMAND = """if True:
    import os, signal, subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    if "deaf" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(os.getpid(), child.pid, file=sys.stderr, flush=True)
    time.sleep(600)"""
_PARENT = """if True:
    import os, subprocess, sys
    subprocess.run([sys.executable, "-P", "-m", "rstar_fast.evolution.launched", str(os.getpid()), *sys.argv[1:]])"""


def is_there(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"  # a zombie has ended
    except FileNotFoundError:
        return False


@pytest.mark.timeout(120)
@pytest.mark.parametrize("way", ["heeds", "deaf"])
def test_a_command_ends_when_its_parent_is_killed(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-c", _PARENT, sys.executable, "-c", _COMMAND, way]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as parent:
        assert parent.stderr is not None
        processes = [int(number) for number in parent.stderr.readline().split()]
        assert len(processes) == 2 and all(map(is_there, processes))
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    while any(map(is_there, processes)):
        time.sleep(0.05)


def test_a_command_ends_as_it_ends() -> None:
    def status(*command: str, parent: int = 0) -> int:
        own = [sys.executable, "-P", "-m", "rstar_fast.evolution.launched", str(parent or os.getpid())]
        return subprocess.run([*own, *command], check=False).returncode

    assert status("true") == 0
    assert status(sys.executable, "-c", "raise SystemExit(7)") == 7
    assert status("sh", "-c", "kill -9 $$") == 128 + 9
    assert status(sys.executable, "-c", "import os, sys; sys.exit(os.getpgrp() != os.getpid())") == 0  # a group of its own
    assert status("true", parent=1) == 128 + signal.SIGTERM  # not its parent: that one has died
