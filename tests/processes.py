"""Processes as the tests look at them, from /proc."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


def children(of: int | None = None) -> set[int]:
    """The processes a process has started, those included that have ended and were not collected."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text() if entry.name.isdigit() else ""
        except OSError:
            continue  # it ended
        if fields and int(fields.rpartition(")")[2].split()[1]) == (of or os.getpid()):
            found.add(int(entry.name))
    return found


def below(parent: int) -> Iterator[int]:
    """The processes that a process has started, and they in turn."""
    found = []
    with contextlib.suppress(OSError):  # it ended
        for task in Path(f"/proc/{parent}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    for child in found:
        yield child
        yield from below(child)


def own_pages(process: int) -> int:
    """How many pages of a process's memory are no other process's."""
    count = 0
    with open(f"/proc/{process}/pagemap", "rb") as pages, open(f"/proc/{process}/maps", encoding="utf-8") as mappings:
        for line in mappings:
            begin, end = (int(text, 16) for text in line.split()[0].split("-"))
            if end < 1 << 48:  # else the kernel's
                pages.seek(begin // _PAGE * 8)
                entries = pages.read((end - begin) // _PAGE * 8)
                # Bit 63: it is in memory; 56: nobody else has it.
                count += sum(entry >> 63 & entry >> 56 & 1 for (entry,) in struct.iter_unpack("Q", entries))
    return count
