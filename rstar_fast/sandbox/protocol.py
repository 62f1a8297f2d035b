"""Messages between the pool and its worker processes: a 4-byte length and that much JSON, in both directions.

pool    settings; then, again and again, a program
worker  what holds programs in; then, of each program, what came of it
"""

from __future__ import annotations

import json
import os
import signal
import struct
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from rstar_fast.programs import Program
from rstar_fast.sandbox.layers import Layer
from rstar_fast.sandbox.results import Result

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


class Runner(Protocol):
    """What a worker process runs programs with.

    Attributes:
      missing: the layers that do not hold programs in, each with the reason.
    """

    missing: Mapping[Layer, str]

    def execute(self, program: Program) -> Result:
        """Runs code after its prefix. The meaning is that of the two written one after the other.

        Raises:
          Broken: no program can be run any more.
        """

    def close(self) -> None:
        """Ends all that it has started."""


def serve(start: Callable[[dict[str, Any]], Runner]) -> None:
    """The worker's side: runs what is asked for on standard input until that closes."""
    replies = os.dup(1)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the pool's to handle
    runner = None
    try:
        runner = start(receive(0))
        # Where nothing can be confined, no program is to blame for it.
        error = runner.execute(Program("")).error
        missing = {layer.name: why for layer, why in runner.missing.items()}
        send(replies, {"failure": None if error is None else error["message"], "missing": missing})
        while True:
            request = receive(0)
            started = time.monotonic()
            result = runner.execute(Program(request["code"], request["prefix"]))
            send(replies, {"output": result.output, "error": result.error, "seconds": time.monotonic() - started})
    except Broken:
        pass  # the pool has closed, or will start another worker
    finally:
        if runner is not None:
            runner.close()
