"""An append-only file of checksummed records: what is finished but not yet in a shard.

    file    "rstarj1\\n" record*
    record  length u64 | crc32 u32 of the length's bytes and the payload | payload        (little-endian)

A record is whole or it is not there: what a killed process or a dead machine left half-written fails its checksum, and
everything from there on is dropped when the journal is next opened for writing.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

HEADER = b"rstarj1\n"
_FRAME = struct.Struct("<QI")
_SYNC_S = 1.0  # at most so much work is lost when the machine dies; when only the process does, none


class Journal:
    """A journal open for appending. Positions are byte offsets of payloads. Not safe for several writers.

    Args:
      path: created where missing; a torn tail is cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._end = len(HEADER)
            for offset, payload in scan(path):
                self._end = offset + len(payload)
            os.ftruncate(self._fd, self._end)  # also fills up a torn header
            self._write(HEADER, 0)
        except BaseException:
            os.close(self._fd)
            raise
        self._synced = time.monotonic()

    @property
    def size(self) -> int:
        """Bytes of whole records and the header."""
        return self._end

    def append(self, payload: bytes) -> int:
        """Appends a record; once this returns, it survives the death of the process. Returns its position.

        Raises:
          OSError: it could not be written; the journal is as before.
        """
        length = len(payload).to_bytes(8, "little")
        frame = _FRAME.pack(len(payload), zlib.crc32(payload, zlib.crc32(length)))
        self._write(frame + payload, self._end)
        position = self._end + _FRAME.size
        self._end = position + len(payload)
        if time.monotonic() - self._synced > _SYNC_S:
            os.fdatasync(self._fd)
            self._synced = time.monotonic()
        return position

    def read(self, position: int, length: int) -> bytes:
        """The payload at a position."""
        return os.pread(self._fd, length, position)

    def close(self) -> None:
        """Closes the file; its records stay on disk."""
        os.close(self._fd)

    def _write(self, data: bytes, offset: int) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._fd, view, offset)
            view, offset = view[written:], offset + written


def scan(path: Path) -> Iterator[tuple[int, bytes]]:
    """The whole records of a journal, as (position, payload), up to the first that is torn. Nothing where there is no file."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    if not data.startswith(HEADER):
        return
    at = len(HEADER)
    while at + _FRAME.size <= len(data):
        length, checksum = _FRAME.unpack_from(data, at)
        payload = data[at + _FRAME.size : at + _FRAME.size + length]
        if len(payload) != length or zlib.crc32(payload, zlib.crc32(data[at : at + 8])) != checksum:
            return
        yield at + _FRAME.size, payload
        at += _FRAME.size + length
