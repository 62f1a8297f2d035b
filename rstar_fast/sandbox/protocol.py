"""Messages between the pool and its worker processes: a 4-byte length and that much JSON, in both directions."""

from __future__ import annotations

import json
import os
import struct
from typing import Any

_LENGTH = struct.Struct("!I")
_LARGEST = 1 << 28
_CLOSED = "the other side has closed"


class Broken(Exception):
    """The other side is gone, or does not speak the protocol."""


def pack(message: dict[str, Any]) -> bytes:
    """The bytes of a message; lone surrogates survive as JSON escapes."""
    body = json.dumps(message).encode("ascii")
    return _LENGTH.pack(len(body)) + body


def send(descriptor: int, message: dict[str, Any]) -> None:
    """Writes a message.

    Raises:
      Broken: nobody reads any more.
    """
    data = memoryview(pack(message))
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BrokenPipeError:
            raise Broken(_CLOSED) from None
        except OSError as error:
            raise Broken(str(error)) from None


def receive(descriptor: int) -> dict[str, Any]:
    """Reads the next message.

    Raises:
      Broken: the other side has closed, or sent something else than a message.
    """
    (length,) = _LENGTH.unpack(_exactly(descriptor, _LENGTH.size))
    if length > _LARGEST:
        raise Broken(f"a message of {length} bytes was announced")
    try:
        message = json.loads(_exactly(descriptor, length))
    except ValueError as error:
        raise Broken(str(error)) from None
    if not isinstance(message, dict):
        raise Broken("the message is no object")
    return message


def _exactly(descriptor: int, count: int) -> bytes:
    parts = []
    while count:
        try:
            part = os.read(descriptor, count)
        except OSError as error:
            raise Broken(str(error)) from None
        if not part:
            raise Broken(_CLOSED)
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
