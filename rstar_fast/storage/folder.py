"""The run folder itself: made, locked against a second writer, and cleared of what a killed one left."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from rstar_fast.storage.manifest import FILE, Manifest
from rstar_fast.storage.store import journal_path
from rstar_fast.types import InvalidInput

LOCK = "run.lock"


def make_folder(folder: Path) -> None:
    """Makes the folder where it is missing.

    Raises:
      InvalidInput: it is a file, or holds something else than a run.
    """
    if folder.exists() and not folder.is_dir():
        raise InvalidInput(f"{folder} is a file: give a folder for the run")
    folder.mkdir(parents=True, exist_ok=True)
    # Listed before the manifest is looked for: a run that another process begins just now must not look foreign.
    others = sorted({entry.name for entry in folder.iterdir()} - {LOCK, FILE, f"{FILE}.tmp"})
    if others and not (folder / FILE).exists():
        raise InvalidInput(f"{folder} holds {others[0]!r} but no run: give a new or an empty folder")


def lock(folder: Path) -> int:
    """Locks the folder for this process, until the returned file descriptor is closed or the process dies.

    Raises:
      InvalidInput: another process holds the lock.
    """
    fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
    except BlockingIOError:
        holder = os.pread(fd, 20, 0).decode("ascii", "replace") or "another"
        os.close(fd)
        raise InvalidInput(f"{folder} is being written by process {holder}: wait for it to end, or give another folder") from None
    except BaseException:
        os.close(fd)
        raise
    return fd


def remove_leftovers(folder: Path, manifest: Manifest) -> None:
    """Removes what a killed writer left that does not count: half-written files and journals that became shards."""
    named = {shard.file for shard in manifest.shards}
    live = journal_path(folder, len(manifest.shards)).name
    for path in folder.iterdir():
        name = path.name
        half_written = name.endswith(".tmp") and name.startswith(("shard-", FILE))
        # A shard without a name in the manifest: its results are still in the journal.
        unnamed = name.startswith("shard-") and name.endswith(".parquet") and name not in named
        void = name.startswith("journal-") and name.endswith(".bin") and name != live
        if half_written or unnamed or void:
            path.unlink()
