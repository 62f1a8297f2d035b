"""The file that tells workers which blocks of memory programs write: made at the first need, once for an installation."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import logging
import os
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

from rstar_fast.sandbox.child import start_worker

_LOG = logging.getLogger(__name__)
_LOADED = ("sympy", "mpmath", "gmpy2", "rstar_fast._sandbox")
_OBSERVE_S = 120.0
_OBSERVE_KIB = 2 << 20  # more than it takes, which is the most of it for two seconds
_making = threading.Lock()


def placement_file() -> str | None:
    """Where the blocks' names are. The file is made if it is not there; where it cannot be, workers do without it.

    None where memory is not laid out at all.
    """
    if find_spec("rstar_fast._sandbox") is None:
        return None
    file = _file()
    with _making:
        if not file.exists():
            _make(file)
    return str(file)


@functools.cache
def _file() -> Path:
    """One for all that guests load: where none of it changes, neither do the blocks."""
    loaded = [sys.executable, *map(str, sorted(Path(__file__).parent.glob("*.py")))]
    loaded += [spec.origin for spec in map(find_spec, _LOADED) if spec is not None and spec.origin is not None]
    versions = [(path, status.st_size, status.st_mtime_ns) for path in loaded for status in [os.stat(path)]]
    key = hashlib.sha256(repr((sys.version, versions)).encode()).hexdigest()[:16]
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache, "rstar_fast", f"blocks-{key}")


@functools.cache  # what failed is not tried again
def _make(file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(file.parent, os.W_OK):
            raise OSError(f"{file.parent} cannot be written")
        with open(file.with_name("lock"), "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # of the processes that start at the same time one observes, and the others wait
            if not file.exists():
                _observe(file)
    except (OSError, subprocess.TimeoutExpired) as error:
        _LOG.info("steps run slower by a fifth: which memory they write could not be found (%s)", error)


def _observe(file: Path) -> None:
    if _available_kib() < _OBSERVE_KIB:
        raise OSError(f"less than {_OBSERVE_KIB >> 20} GiB of memory is free")
    observer = start_worker("rstar_fast.sandbox", "--observe", str(file))
    try:
        observer.communicate(timeout=_OBSERVE_S)
    finally:
        observer.kill()
    if observer.returncode != 0:
        raise OSError(f"the observer ended with {observer.returncode}")


def _available_kib() -> int:
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("MemAvailable:"))
