"""Files and folders that appear whole: a reader finds the old one or the new one, never half of one."""

from __future__ import annotations

import contextlib
import ctypes
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # <fcntl.h>, <linux/fs.h>


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Gives an empty folder beside `folder` to write into; it takes its place when the block ends, and goes where it fails.

    Args:
      folder: resolved, no file; what is there is replaced. Its parents are made where missing.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=_prefix(folder), dir=folder.parent))
    try:
        yield partial
        # As mkdir would: what mkdtemp makes is closed to others.
        mask = os.umask(0)
        os.umask(mask)
        partial.chmod(0o777 & ~mask)
        if folder.exists():
            _exchange(partial, folder)
        else:
            os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # after an exchange, the old one


def write_whole(path: Path, text: str) -> None:
    """Writes a file so that after any crash the old one or the new one is there, whole. What a crash leaves beside it ends in .tmp."""
    partial = path.with_name(f"{path.name}.tmp")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove_leftovers(folder: Path) -> None:
    """Removes what writers of a folder that were killed have left beside it; nobody may be writing it."""
    folder = folder.resolve()
    for partial in folder.parent.glob(f"{glob.escape(_prefix(folder))}*"):
        shutil.rmtree(partial)


def _prefix(folder: Path) -> str:
    return f".{folder.name}.partial-"


def _exchange(new: Path, folder: Path) -> None:
    """Swaps two folders: in one step, so that there is always one of either name, where the file system can."""
    swap = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if swap is not None and swap(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(folder), _RENAME_EXCHANGE) == 0:
        return
    old = Path(tempfile.mkdtemp(prefix=_prefix(folder), dir=folder.parent))
    os.replace(folder, old)
    try:
        os.replace(new, folder)
    except BaseException:
        os.replace(old, folder)
        raise
    os.replace(old, new)
