"""One client for the servers that policies and scorers ask: a model at a URL, connections of each event loop, retries."""

from __future__ import annotations

import asyncio
import email.utils
import json
import math
import os
import random
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import httpx

from rstar_fast.types import InvalidInput, RstarError

API_KEY_VARIABLE = "OPENAI_API_KEY"

TOO_LONG = re.compile(r"context.{0,20}(length|size|window)|too long|max_model_len|maximum.{0,20}length", re.IGNORECASE)
REJECTS_A_FIELD = re.compile(r"un(known|recogni[sz]ed|expected|supported)|not (permitted|supported)|extra", re.IGNORECASE)

_PASSING_STATUSES = frozenset({408, 409, 425, 429})  # and 5xx; 501 will not pass
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0
_CONNECT_TIMEOUT_S = 10.0


class Refused(Exception):
    """The server finds the request itself wrong (400, 413, 422); the text is the server's own."""


class _Passing(Exception):
    """A failure that may pass: worth another attempt.

    Attributes:
      most_retries: where waiting is unlikely to help, fewer than the client's.
      wait_s: what the server asked to wait, seconds; None when it did not say.
    """

    def __init__(self, sentence: str, *, most_retries: float = math.inf, wait_s: float | None = None) -> None:
        super().__init__(sentence)
        self.most_retries = most_retries
        self.wait_s = wait_s


class _Absent(Exception):
    """The server does not know the path, or the model."""


@dataclass(frozen=True, slots=True)
class Session:
    """What belongs to one event loop. A request is sent in a slot: `async with session.slots`."""

    client: httpx.AsyncClient
    slots: asyncio.Semaphore


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks, as the messages have it.

    Attributes:
      noun: e.g. "policy".
      reply: what is expected of the server, e.g. "a completion".
      error: raised when the server fails.
    """

    noun: str
    reply: str
    error: type[RstarError]


class Client:
    """Asks one server, from any number of event loops: each has its own connections, closed when `asyncio.run` ends, or by
    `aclose`.

    Attributes:
      server: how messages name it, without credentials.
      model: its name on the server; None before `find_model` where none was given.
    """

    def __init__(
        self,
        url: str,
        asking: Asking,
        *,
        paths: Sequence[str],
        model: str | None,
        api_key: str | None,
        max_concurrency: int,
        timeout_s: float,
        retries: int,
        jitter: random.Random,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        """Notes where the server is; nothing is sent.

        Args:
          url: "http://host:8000/v1", the same with one of the `paths`, or only the host, which means its "/v1". The model may
            follow as a fragment.
          paths: of the endpoints, e.g. "completions".
          model, api_key, max_concurrency, timeout_s, retries, sleep: as HttpPolicy takes them.
          jitter: of the waits.

        Raises:
          InvalidInput: the URL or a setting is unusable.
        """
        self._url, self.server, fragment = _parse_url(url, asking.noun, paths)
        self.model = model or fragment
        self._headers = _headers(os.environ.get(API_KEY_VARIABLE, "") if api_key is None else api_key)
        for name, value, valid, expected in (
            ("max_concurrency", max_concurrency, max_concurrency >= 1, "an integer >= 1"),
            ("timeout_s", timeout_s, timeout_s > 0, "seconds > 0"),
            ("retries", retries, retries >= 0, "an integer >= 0"),
        ):
            if not valid:
                raise InvalidInput(f"{name} is {value!r}: give {expected}")
        self._asking, self._error = asking, asking.error
        self._max_concurrency, self._timeout_s, self._retries = max_concurrency, timeout_s, retries
        self._jitter, self._sleep = jitter, sleep
        self._sessions: dict[asyncio.AbstractEventLoop, tuple[Session, AsyncGenerator[Session, None]]] = {}
        self._answered = False

    async def session(self) -> Session:
        """That of the running event loop."""
        loop = asyncio.get_running_loop()
        for closed in [other for other in self._sessions if other.is_closed()]:
            self._sessions.pop(closed, None)
        if loop not in self._sessions:
            lifetime = self._live(loop)
            self._sessions[loop] = (await anext(lifetime), lifetime)  # reaches its yield without suspending: no race
        return self._sessions[loop][0]

    async def _live(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[Session, None]:
        # A generator, because asyncio.run closes those still open before it closes the loop, and their connections with them.
        limits = httpx.Limits(max_connections=self._max_concurrency, max_keepalive_connections=self._max_concurrency)
        timeout = httpx.Timeout(None, connect=min(_CONNECT_TIMEOUT_S, self._timeout_s))  # the whole reply's is in _attempt
        async with httpx.AsyncClient(headers=self._headers, limits=limits, timeout=timeout) as client:
            try:
                yield Session(client, asyncio.Semaphore(self._max_concurrency))
            finally:
                self._sessions.pop(loop, None)

    async def find_model(self, session: Session) -> None:
        """Sets `model` to the only one the server lists, unless it is set."""
        if self.model is not None:
            return
        try:
            listed = (await self.request(session, "GET", "models")).get("data")
        except Refused as refusal:
            raise self._error(f"{self.server} lists no models ({refusal}): name one, as {self.server}#name") from None
        entries = listed if isinstance(listed, list) else []
        names = [entry["id"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
        if len(names) != 1:
            found = f"{len(names)} models ({', '.join(names[:8])})" if names else "no models"
            raise self._error(f"{self.server} lists {found}, not one: name the model, as {self.server}#name")
        self.model = names[0]

    async def aclose(self) -> None:
        """Closes the connections of the running event loop; the next request opens new ones."""
        entry = self._sessions.get(asyncio.get_running_loop())
        if entry is not None:
            await entry[1].aclose()

    async def request(self, session: Session, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Sends one request until it succeeds or is given up. Waits keep their slot: a busy server is asked less.

        Args:
          session: of the running event loop, in one of whose slots this runs.
          path: "completions" is below the URL; "/classify", with its slash, is beside its "/v1".

        Raises:
          Refused: the server finds the request wrong.
          RstarError: `asking.error`, where it fails otherwise.
        """
        try:
            return await self._persist(session, method, path, body)
        except _Absent as absence:
            raise self._error(str(absence)) from None

    async def post_to_known(self, session: Session, paths: Sequence[str], body: object) -> tuple[str, dict[str, Any]]:
        """POSTs to the first of the paths that the server knows; which it was, and the reply. Otherwise as `request`."""
        absences = []
        for path in paths:
            try:
                return path, await self._persist(session, "POST", path, body)
            except _Absent as absence:
                absences.append(str(absence))
        others = f" (the same with {', '.join(self._shown(path) for path in paths[1:])})" if len(paths) > 1 else ""
        raise self._error(f"{absences[0]}{others}")

    async def _persist(self, session: Session, method: str, path: str, body: object) -> dict[str, Any]:
        attempts = 0
        while True:
            attempts += 1
            try:
                return await self._attempt(session, method, path, body)
            except _Passing as failure:
                if attempts > min(self._retries, failure.most_retries):
                    times = "once" if attempts == 1 else f"{attempts} times"
                    raise self._error(f"{failure} (tried {times})") from failure.__cause__
                wait_s = failure.wait_s
            if wait_s is None:
                wait_s = min(_FIRST_WAIT_S * 2 ** min(attempts - 1, 10), _LONGEST_WAIT_S) * self._jitter.uniform(0.5, 1.0)
            await self._sleep(wait_s)

    async def _attempt(self, session: Session, method: str, path: str, body: object) -> dict[str, Any]:
        base = self._url.path.removesuffix("/v1") if path.startswith("/") else self._url.path
        url = self._url.copy_with(path=f"{base}/{path.removeprefix('/')}")
        content = None if body is None else json.dumps(body).encode("ascii")
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await session.client.request(method, url, content=content, headers=headers)
        except TimeoutError as error:
            sentence = f"{self.server} did not answer within {self._timeout_s:g} s: give a larger timeout_s"
            raise _Passing(f"{sentence} or a smaller max_concurrency", most_retries=1) from error
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            sentence = f"cannot connect to {self.server} ({_reason(error)}): check the address, and that the server is running"
            raise _Passing(sentence, most_retries=math.inf if self._answered else 1) from error
        except httpx.RequestError as error:
            raise _Passing(f"{self.server} broke off before its answer was complete ({_reason(error)})") from error
        self._answered = True
        if response.status_code != httpx.codes.OK:
            raise self._failure(response, path)
        try:
            reply = json.loads(response.content)
        except ValueError as error:
            raise _Passing(f"{self.server} answered with what is not JSON: {short(response.text)}") from error
        if not isinstance(reply, dict):
            raise self._error(f"{self.server} answered {short(response.text)}: expected a JSON object, check the URL")
        return reply

    def _failure(self, response: httpx.Response, path: str) -> Exception:
        """What a status other than 200 means."""
        status = response.status_code
        said = f"{status} {response.reason_phrase}: {_message(response)}"
        if status in (401, 403):
            key = "the API key it was given" if "Authorization" in self._headers else "a request without an API key"
            return self._error(f"{self.server} refused {key} ({said}): pass api_key, or set {API_KEY_VARIABLE}")
        if status == 404:
            asked = f"{self._shown(path)} or the model {self.model!r}" if self.model else self._shown(path)
            return _Absent(f"{self.server} does not know {asked} ({said}): check the URL's path and the model's name")
        if status in (400, 413, 422):
            return Refused(said)
        if status == 429:
            said = f"{self.server} is asked too often ({said}): give a smaller max_concurrency"
            return _Passing(said, wait_s=self._retry_after(response))
        if status in _PASSING_STATUSES or (status >= 500 and status != 501):
            return _Passing(f"{self.server} failed ({said})", wait_s=self._retry_after(response))
        kind = _Absent if status == 501 else self._error
        return kind(f"{self.server} answered {said}: expected {self._asking.reply}, check the URL")

    def _shown(self, path: str) -> str:
        return path if path.startswith("/") else f"/{path}"

    def _retry_after(self, response: httpx.Response) -> float | None:
        """The wait the server asks for, seconds, at most `timeout_s`; None when it does not say or is not understood."""
        value = response.headers.get("Retry-After", "").strip()
        try:
            if value.replace(".", "", 1).isdecimal():
                wait_s = float(value)
            else:
                wait_s = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
        return min(max(wait_s, 0.0), self._timeout_s)


def rejected_fields(refusal: Refused, sent: Collection[str]) -> list[str]:
    """Those of the fields sent that a refusal names."""
    return [name for name in sent if re.search(rf"\b{name}\b", str(refusal))]


def _parse_url(url: str, noun: str, paths: Sequence[str]) -> tuple[httpx.URL, str, str | None]:
    """The base URL without its last slash, how messages name it (no credentials), and the model in its fragment."""
    try:
        parsed = httpx.URL(url if "://" in url else f"http://{url}")
    except (httpx.InvalidURL, TypeError) as error:
        raise InvalidInput(f"the {noun}'s URL is {url!r} ({error}): give one as http://host:8000/v1#model") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidInput(f"the {noun}'s URL is {url!r}: give one as http://host:8000/v1#model")
    path = parsed.path.rstrip("/")
    for endpoint in paths:
        path = path.removesuffix(f"/{endpoint}").rstrip("/")
    path = path or "/v1"
    base = parsed.copy_with(path=path, fragment=None)
    return base, str(base.copy_with(userinfo=b"", query=None)), unquote(parsed.fragment) or None


def _headers(api_key: str) -> dict[str, str]:
    key = api_key.strip()
    if not key:
        return {}
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidInput("the API key holds characters that no key has: give it as it was issued, without spaces or quotes")
    return {"Authorization": f"Bearer {key}"}


def _message(response: httpx.Response) -> str:
    """The server's own words: the message of an OpenAI-style or FastAPI-style error body, or the body's beginning."""
    try:
        content = json.loads(response.content)
    except ValueError:
        content = None
    for name in ("error", "message", "detail") if isinstance(content, dict) else ():
        value = content.get(name)
        value = value.get("message", value) if isinstance(value, dict) else value
        if value:
            return short(str(value), most=500)
    return short(response.text)


def short(text: str, most: int = 200) -> str:
    """A text in one line, cut to so many characters."""
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[:most]}..."


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
