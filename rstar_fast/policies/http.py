"""A policy behind an OpenAI-compatible completions server: vLLM, SGLang, llama.cpp, a hosted one.

Which stop string ended a step decides what is done with it, so `Candidate.stop` must be exact; but the protocol drops the
stop string and says only "stop". What is done about it, from the cheapest to what works everywhere (`_Telling`):

1. vLLM adds `stop_reason` to a choice and SGLang `matched_stop`, which name the string. Nothing more is needed.
2. Where neither is there, the server is asked to keep the string in the text, in the words of vLLM and of SGLang.
3. Where it still is dropped, no stop strings are sent and the text is cut here. That is exact too, but the server then
   generates up to `max_step_tokens` for each step; it is logged once as a warning.

Optional fields a server rejects by name are left out from then on, and where it rejects n > 1 the n samples are requested
one by one.
"""

from __future__ import annotations

import asyncio
import enum
import hashlib
import logging
import math
import random
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Self

from rstar_fast import steps
from rstar_fast.policies.client import REJECTS_A_FIELD, TOO_LONG, Asking, Client, Refused, Session, rejected_fields, short
from rstar_fast.types import Candidate, InvalidInput, Partial, PartialTooLong, PolicyError, RstarError

# Markers may be special tokens, which servers drop from the text unless told otherwise. Servers know these two fields (vLLM,
# SGLang), ignore them, or say in their refusal that they do not know them.
_KEEP_MARKERS: Mapping[str, Any] = {"skip_special_tokens": False, "spaces_between_special_tokens": False}
_KEEP_STOP: Mapping[str, Any] = {"include_stop_str_in_output": True, "no_stop_trim": True}  # vLLM's word, SGLang's word
_DISPENSABLE = (*_KEEP_MARKERS, *_KEEP_STOP, "seed", "logprobs")

_STOP_FIELDS = ("stop_reason", "matched_stop")
_ENDED_BY_ITSELF = ("length", "eos", "eos_token")
_REJECTS_N = re.compile(r"\bn\b|\bbest_of\b|one completion", re.IGNORECASE)

_LEAST_STEP_TOKENS = 32  # a context with less room than this is full

_log = logging.getLogger(__name__)


class _Telling(enum.IntEnum):
    """How the server lets us know which stop string ended a completion."""

    NAMED = 0  # in a field beside the text; assumed until a reply shows otherwise
    KEPT = 1  # it was asked to keep the string in the text
    CUT_HERE = 2  # it is not told the stop strings


class LeafSeeds:
    """Seeds for sampling: a function of the policy's seed, the leaf and how often this leaf was asked for.

    So two leaves differ, two calls at one leaf differ, and what else is searched at the same time changes nothing.
    """

    def __init__(self, seed: int, remembered: int = 65_536) -> None:
        """Counts the calls of the `remembered` most recent leaves; a leaf forgotten since starts again at its first seed."""
        self._seed = seed
        self._remembered = remembered
        self._calls: OrderedDict[bytes, int] = OrderedDict()

    def next(self, partial: Partial) -> int:
        """The seed of the next call at this leaf, in [0, 2^31)."""
        leaf = hashlib.blake2b(digest_size=16)
        for text in (partial.problem.id, partial.solution):
            encoded = text.encode("utf-8", "surrogatepass")
            leaf.update(len(encoded).to_bytes(8, "little") + encoded)
        calls = self._calls.pop(leaf.digest(), 0)
        self._calls[leaf.digest()] = calls + 1
        if len(self._calls) > self._remembered:
            self._calls.popitem(last=False)
        return derived_seed(self._seed, leaf.hexdigest(), calls)


def derived_seed(*parts: object) -> int:
    """A seed in [0, 2^31) that depends on all parts."""
    digest = hashlib.blake2b(repr(parts).encode("utf-8", "backslashreplace"), digest_size=4).digest()
    return int.from_bytes(digest, "little") >> 1


def split_at_stop(text: str) -> tuple[str, str | None, str]:
    """Splits a text at its earliest stop string: what stands before, the string (None without one), what stands behind."""
    found = [(position, stop) for stop in steps.STOPS if (position := text.find(stop)) >= 0]
    if not found:
        return text, None, ""
    position, stop = min(found)
    return text[:position], stop, text[position + len(stop) :]


class HttpPolicy:
    """Proposes steps by POST /v1/completions, one request for the n samples of each partial solution.

    It may be used in several event loops, one after the other or in several threads: each has its own connections, which
    are closed when `asyncio.run` ends, or by `aclose`.
    """

    merges_calls = True  # the server's batches are its own

    def __init__(
        self,
        url: str,
        *,
        seed: int = 0,
        model: str | None = None,
        api_key: str | None = None,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        max_step_tokens: int = 512,
        logprobs: bool = False,
        max_concurrency: int = 64,
        timeout_s: float = 300.0,
        retries: int = 6,
        extra_body: Mapping[str, Any] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Notes where the server is; nothing is sent before the first `propose`.

        Args:
          url: "http://host:8000/v1", the same with "/completions", or only the host, which means its "/v1". The model may
            follow as a fragment: "http://host:8000/v1#Qwen/Qwen2.5-Math-7B".
          seed: the samples are a function of it, where the server honours seeds.
          model: its name on the server; None for the fragment's, or else the only one the server lists.
          api_key: sent as a bearer token; None for the environment variable OPENAI_API_KEY, "" for none at all.
          temperature: >= 0; 0 is greedy.
          top_p: in (0, 1].
          top_k: >= 0; 0 leaves it to the server, whose default may come from the model's generation_config.json. More than
            0 is an extension of the protocol, which vLLM, SGLang and llama.cpp know.
          max_step_tokens: most tokens of a step, >= 1. Less is asked for where the context has less room.
          logprobs: ask for log-probabilities, and with them exact counts of tokens, at the cost of larger replies.
          max_concurrency: most requests under way in one event loop, >= 1.
          timeout_s: longest wait for one complete reply, seconds; asked for once more, then it is a failure.
          retries: most attempts after the first, >= 0, at what may pass: lost connections, replies cut off, 408, 409, 425,
            429 and 5xx. The wait doubles from 0.5 s to 30 s, or is what Retry-After says, up to timeout_s. A server that
            never answered is tried twice only.
          extra_body: fields added to each request, e.g. {"repetition_penalty": 1.0}.
          sleep: awaited between two attempts with the seconds to wait.

        Raises:
          InvalidInput: the URL or a setting is unusable.
        """
        self._client = Client(
            url,
            Asking("policy", "a completion", PolicyError),
            paths=["completions"],
            model=model,
            api_key=api_key,
            max_concurrency=max_concurrency,
            timeout_s=timeout_s,
            retries=retries,
            jitter=random.Random(seed),
            sleep=sleep,
        )
        self._server = self._client.server
        for name, value, valid, expected in (
            ("temperature", temperature, temperature >= 0, "a number >= 0"),
            ("top_p", top_p, 0 < top_p <= 1, "a number in (0, 1]"),
            ("top_k", top_k, top_k >= 0, "an integer >= 0"),
            ("max_step_tokens", max_step_tokens, max_step_tokens >= 1, "an integer >= 1"),
        ):
            if not valid:
                raise InvalidInput(f"{name} is {value!r}: give {expected}")
        self._sampling: dict[str, Any] = {"temperature": temperature, "top_p": top_p}
        if top_k:
            self._sampling["top_k"] = top_k
        if logprobs:
            self._sampling["logprobs"] = 1
        self._extra_body = dict(extra_body or {})
        self._max_step_tokens = max_step_tokens
        self._seeds = LeafSeeds(seed)
        # What has been learnt of the server. It only ever moves in one direction, so requests under way may all add to it.
        self._telling = _Telling.NAMED
        self._keeps_stop = False
        self._one_by_one = False
        self._rejected: set[str] = set()

    @classmethod
    def from_url(cls, url: str, *, seed: int = 0, **settings: Any) -> Self:
        """The policy behind a URL; the settings are those of the constructor."""
        return cls(url, seed=seed, **settings)

    async def propose(self, partials: Sequence[Partial], n: int) -> list[list[Candidate] | RstarError]:
        """Samples n or fewer next steps for each of B partial solutions.

        Args:
          partials: B partial solutions.
          n: samples of each, >= 1.

        Returns:
          B entries in the order given: the candidates, or the error (PolicyError, PartialTooLong) that befell this partial
          alone. `tokens` and `logprob` are set where the server tells them for a single sample.
        """
        if n < 1:
            raise InvalidInput(f"n is {n!r}: give an integer >= 1")
        if not partials:
            return []
        session = await self._client.session()
        try:
            await self._client.find_model(session)
        except PolicyError as error:
            return [error] * len(partials)
        async with asyncio.TaskGroup() as group:
            requests = [self._propose_one(session, partial, n, self._seeds.next(partial)) for partial in partials]
            tasks = [group.create_task(request) for request in requests]
        return [task.result() for task in tasks]

    async def aclose(self) -> None:
        """Closes the connections of the running event loop; `propose` opens new ones."""
        await self._client.aclose()

    async def _propose_one(self, session: Session, partial: Partial, n: int, seed: int) -> list[Candidate] | RstarError:
        try:
            return await self._sample(session, partial, n, seed)
        except RstarError as error:
            return error

    async def _sample(self, session: Session, partial: Partial, n: int, seed: int) -> list[Candidate]:
        max_tokens = self._max_step_tokens
        while True:
            async with session.slots:  # the request is made up in its slot, so that it knows what the ones before it learnt
                if n > 1 and self._one_by_one:
                    break
                telling = self._telling
                body = self._body(partial, n, seed, max_tokens, telling)
                try:
                    reply = await self._client.request(session, "POST", "completions", body)
                except Refused as refusal:
                    max_tokens = self._learn_from(refusal, body, partial)
                    continue
            candidates = self._candidates(reply, partial, n, telling)
            if candidates is not None:
                return candidates
            self._ask_otherwise(telling)
        return await self._sample_one_by_one(session, partial, n, seed)

    async def _sample_one_by_one(self, session: Session, partial: Partial, n: int, seed: int) -> list[Candidate]:
        """n requests for one sample each; those that fail are left out as long as one succeeds."""
        requests = [self._propose_one(session, partial, 1, derived_seed(seed, sample)) for sample in range(n)]
        results = await asyncio.gather(*requests)
        succeeded = [result for result in results if not isinstance(result, RstarError)]
        if not succeeded:
            raise next(result for result in results if isinstance(result, RstarError))
        return [candidate for candidates in succeeded for candidate in candidates]

    def _body(self, partial: Partial, n: int, seed: int, max_tokens: int, telling: _Telling) -> dict[str, Any]:
        body = {
            "model": self._client.model,
            "prompt": steps.without_surrogates(steps.prompt(partial)),
            "n": n,
            "max_tokens": max_tokens,
            "stop": list(steps.STOPS),
            "seed": seed,
            **self._sampling,
            **_KEEP_MARKERS,
        }
        if telling is _Telling.KEPT:
            body |= _KEEP_STOP
        elif telling is _Telling.CUT_HERE:
            del body["stop"]
        body |= self._extra_body
        return {name: value for name, value in body.items() if name not in self._rejected}

    def _learn_from(self, refusal: Refused, body: Mapping[str, Any], partial: Partial) -> int:
        """Notes what the server rejects and returns how many tokens to ask for next; raises where nothing can be changed."""
        max_tokens = body["max_tokens"]
        if TOO_LONG.search(str(refusal)):
            # Servers count the tokens asked for as part of the context, but a step rarely needs them all.
            if max_tokens // 4 >= _LEAST_STEP_TOKENS:
                return max_tokens // 4
            sentence = f"the partial solution of problem {partial.problem.id!r} does not fit the context of the model"
            raise PartialTooLong(f"{sentence} at {self._server}, which says: {refusal}") from None
        sent = [name for name in _DISPENSABLE if name in body]
        named = rejected_fields(refusal, sent)
        if not named and body["n"] > 1 and _REJECTS_N.search(str(refusal)):
            self._one_by_one = True
            return max_tokens
        if not named and REJECTS_A_FIELD.search(str(refusal)):
            named = [name for name in sent if name in _KEEP_MARKERS or name in _KEEP_STOP]
        if not named:
            raise PolicyError(f"{self._server} rejected the request: {refusal}") from None
        self._rejected.update(named)
        return max_tokens

    def _ask_otherwise(self, told: _Telling) -> None:
        """Goes on to the next way of telling stop strings, unless another request has done so already."""
        if self._telling is not told:
            return
        self._telling = _Telling(told + 1)
        if self._telling is _Telling.CUT_HERE:
            _log.warning(
                "%s does not tell which stop string ended a completion: steps are cut here, so up to max_step_tokens=%d are "
                "generated for each; vLLM and SGLang tell it",
                self._server,
                self._max_step_tokens,
            )

    def _candidates(self, reply: Mapping[str, Any], partial: Partial, n: int, telling: _Telling) -> list[Candidate] | None:
        """The candidates of a reply; None when it does not tell which stop string ended one of them."""
        choices = reply.get("choices")
        if not isinstance(choices, list) or not choices:
            raise PolicyError(f"{self._server} answered without 'choices', {short(str(reply))}: check the URL")
        if not all(isinstance(choice, dict) and isinstance(choice.get("text"), str) for choice in choices):
            raise PolicyError(f"{self._server} sent a choice without 'text', {short(str(choices))}: check the URL")
        choices = sorted(choices, key=lambda choice: index if isinstance(index := choice.get("index"), int) else 0)[:n]
        split = [split_at_stop(steps.without_surrogates(choice["text"])) for choice in choices]
        if telling is _Telling.KEPT and any(stop for _, stop, _ in split):
            self._keeps_stop = True
        usage = reply.get("usage")
        tokens = usage.get("completion_tokens") if isinstance(usage, dict) and n == 1 else None
        candidates = []
        for choice, (text, stop, behind) in zip(choices, split, strict=True):
            if stop is None:
                if self._tells(choice, telling):
                    stop = next((choice[name] for name in _STOP_FIELDS if choice.get(name) in steps.STOPS), None)
                elif _answer_is_open(partial.solution + text):
                    stop = steps.END_OF_ANSWER  # an answer ends in no other way
                else:
                    return None
            count, logprob = _token_logprobs(choice)
            count = tokens if count is None and isinstance(tokens, int) else count
            candidates.append(Candidate(text, stop, count, None if behind else logprob))
        return candidates

    def _tells(self, choice: Mapping[str, Any], telling: _Telling) -> bool:
        """Whether a choice whose text holds no stop string lets us know which one ended it, or that none did."""
        if choice.get("finish_reason") in _ENDED_BY_ITSELF or any(name in choice for name in _STOP_FIELDS):
            return True
        return telling is _Telling.CUT_HERE or (telling is _Telling.KEPT and self._keeps_stop)


def _answer_is_open(text: str) -> bool:
    opened = text.rfind(steps.ANSWER)
    return opened > text.rfind(steps.END_OF_ANSWER) and opened > text.rfind(steps.CODE)


def _token_logprobs(choice: Mapping[str, Any]) -> tuple[int | None, float | None]:
    """How many tokens a choice has and the sum of their log-probabilities; None each where the server does not say."""
    logprobs = choice.get("logprobs")
    values = logprobs.get("token_logprobs") if isinstance(logprobs, dict) else None
    if not isinstance(values, list):
        return None, None
    if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in values):
        return len(values), None
    return len(values), math.fsum(values)
