"""A real HTTP server on a local port, whose answers each test scripts; for the policies and scorers that ask one."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Reply:
    """An answer; with `cut` the connection closes when that many bytes of the body are sent."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None


Handler = Callable[[Request], Awaitable[Reply]]


class Server:
    """A keep-alive HTTP/1.1 server in a thread of its own; remembers what it was asked."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.requests: list[Request] = []
        self.connections = 0  # opened so far
        self._open = 0
        self._changed = threading.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1#tiny"

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [request.body for request in self.requests]

    def wait_until_all_are_closed(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._open)

    async def _serve(self, started: threading.Event) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self._stop.wait()
        server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with self._changed:
            self.connections += 1
            self._open += 1
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            writer.close()
            with self._changed:
                self._open -= 1
                self._changed.notify_all()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:] if line)}
        content = await reader.readexactly(int(headers.get("content-length", 0)))
        request = Request(method, path, headers, json.loads(content) if content else None)
        self.requests.append(request)
        reply = await self._handler(request)
        fields = {"Content-Length": str(len(reply.body)), **reply.headers}
        lines = [f"HTTP/1.1 {reply.status} Scripted", *(f"{name}: {value}" for name, value in fields.items())]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + reply.body[: reply.cut])
        await writer.drain()
        return reply.cut is None

    @contextmanager
    def running(self) -> Iterator[Server]:
        started = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)))
        thread.start()
        started.wait()
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join()


def serve(*replies: Reply) -> Any:
    """A server that gives these answers, the last again and again."""
    script = iter(replies)
    last = replies[-1]

    async def handler(request: Request) -> Reply:
        return next(script, last)

    return Server(handler).running()


def as_json(content: Any, status: int = 200, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(json.dumps(content).encode(), status, {"Content-Type": "application/json", **named})


def refusal(message: str, status: int = 400) -> Reply:
    return as_json({"error": {"message": message, "type": "BadRequestError"}}, status)


class Crowd:
    """A handler that lets no request leave before `bound` of them have come together.

    Attributes:
      peak: most requests that were under way at a time.
    """

    def __init__(self, bound: int, answer: Handler) -> None:
        self._bound, self._answer = bound, answer
        self._full = asyncio.Event()
        self._now = self.peak = 0

    async def __call__(self, request: Request) -> Reply:
        self._now += 1
        self.peak = max(self.peak, self._now)
        if self._now == self._bound:
            self._full.set()
        await self._full.wait()
        self._now -= 1
        return await self._answer(request)


class Waits:
    """Stands for asyncio.sleep: notes the waits and returns at once."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
