"""Lays out the first guest's memory: blocks that programs write lie side by side, so that a fork of it copies few pages.

Which blocks these are is known from an observer (observer.py), and kept in a file (placement.py).
"""

from __future__ import annotations

import sys

from rstar_fast import _sandbox


class _Naming:
    """Stands first among what finds modules, and finds none: what is loaded goes by the module that was asked for last."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        name_loaded(name)


def name_loaded(text: str) -> None:
    """Says what is being loaded, or run: the blocks that are asked for from now on go by it."""
    _sandbox.name_blocks(hash(text) & 0xFFFFFFFF)  # hashes of text are the same in all workers


def place(file: str) -> None:
    """Has the blocks that the observer found lie side by side; without a file, or a whole one, forks are slower, nothing else."""
    if not _sandbox.can_place_blocks():
        return
    try:
        names = read(file)
    except (OSError, TypeError):
        return
    _sandbox.place_blocks(sorted(names))
    _begin()


def spread() -> None:
    """Has each block lie on a page of its own from now on."""
    _sandbox.spread_blocks()
    _begin()


def _begin() -> None:
    sys.meta_path.insert(0, _Naming())  # type: ignore[arg-type]


def leave() -> None:
    """Blocks lie where Python puts them from now on."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Naming)]
    _sandbox.leave_blocks()


def read(file: str) -> list[int]:
    """The names of blocks in a file.

    Raises:
      OSError: it cannot be read.
      TypeError: it is not whole.
    """
    with open(file, "rb") as opened:
        return memoryview(opened.read()).cast("Q").tolist()


def write(file: str, names: list[int]) -> None:
    with open(file, "wb") as opened:
        opened.write(b"".join(name.to_bytes(8, sys.byteorder) for name in names))
