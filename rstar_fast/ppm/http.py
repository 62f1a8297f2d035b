"""A PPM behind a server that classifies: vLLM's `/classify`, or its `/pooling`; others that speak as it does.

The score is made of the logit, but servers apply an activation to it: a sigmoid where there is one label. vLLM leaves it out
where the request says `use_activation: false` (since 0.11.1; `activation` in 0.10.2 and 0.11.0), and ignores fields it does
not know. So the first call asks for a few texts in both ways:

1. The answers differ: the server does as it is asked, and these are logits.
2. They are the same and lie in [0, 1]: it always sends probabilities, and the logit is log(p / (1 - p)). A probability is a
   float32: logits above 16.6 cannot be told apart, and scores are exact to 1e-5 where |logit| <= 10 and to 3e-3 beyond, at
   a scale of 5. It is logged once as a warning.
3. They are the same and some lie outside [0, 1]: it never applies one (`"problem_type": "regression"` in config.json).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from rstar_fast.policies.client import REJECTS_A_FIELD, TOO_LONG, Asking, Client, Refused, Session, rejected_fields, short
from rstar_fast.ppm import model as ppm_model
from rstar_fast.ppm.scores import scores_of, text_of
from rstar_fast.types import InvalidInput, Partial, PartialTooLong, Problem, RstarError, ScorerError

# Where servers classify: vLLM; SGLang and Dynamo; vLLM again, whatever the model is for.
_PATHS = ("/classify", "classify", "/pooling")
_ACTIVATION = ("use_activation", "activation")  # vLLM's word, its word before 0.11.1
_PROBED = 8  # texts; logits that all lie in [0, 1] are rarer the more there are
_NOISE = 0.02  # a text's logit varies with what shares its batch: bfloat16 has 8 bits
_LEAST, _MOST = float(np.finfo(np.float32).tiny), 1 - 2.0**-24  # probabilities a float32 can hold, short of 0 and 1

_log = logging.getLogger(__name__)


class HttpScorer:
    """A `Scorer` that asks a server for the logits of a PPM: tanh(logit / scale).

    Texts that are equal are asked once; a call's texts go in requests of `batch_size`. It may be used in several event loops:
    each has its own connections, which are closed when `asyncio.run` ends, or by `aclose`.

    Written against vLLM's sources and documentation from 0.10.2 on. It has been tried with servers that answer as vLLM does,
    not with vLLM itself.
    """

    def __init__(
        self,
        url: str,
        *,
        scale: float = ppm_model.DEFAULT_SCALE,
        bias: float = 0.0,
        activated: bool | None = None,
        model: str | None = None,
        api_key: str | None = None,
        batch_size: int = 32,
        max_concurrency: int = 16,
        timeout_s: float = 300.0,
        retries: int = 6,
        extra_body: Mapping[str, Any] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Notes where the server is; nothing is sent before the first `score`.

        Args:
          url: "http://host:8000", the same with "/v1" or with the endpoint. The model may follow as a fragment:
            "http://host:8000/v1#my-ppm".
          scale: of the score, > 0: `ppm_scale` in the checkpoint's config.json, which no server tells.
          bias: added to the logit: `ppm_bias` there.
          activated: whether the server sends probabilities whatever it is asked; None to find out by asking.
          model, api_key, timeout_s, retries, sleep: as HttpPolicy takes them.
          batch_size: most texts of a request, >= 1.
          max_concurrency: most requests under way in one event loop, >= 1.
          extra_body: fields added to each request.

        Raises:
          InvalidInput: the URL or a setting is unusable.
        """
        self._client = Client(
            url,
            Asking("PPM", "scores", ScorerError),
            paths=["classify", "pooling"],
            model=model,
            api_key=api_key,
            max_concurrency=max_concurrency,
            timeout_s=timeout_s,
            retries=retries,
            jitter=random.Random(0),
            sleep=sleep,
        )
        if batch_size < 1:
            raise InvalidInput(f"batch_size is {batch_size!r}: give an integer >= 1")
        self._server, self._batch_size = self._client.server, batch_size
        self._scale, self._bias = ppm_model.check_scale(scale), ppm_model.check_bias(bias)
        self._extra_body = dict(extra_body or {})
        # What has been learnt of the server.
        self._activated = activated
        self._paths: Sequence[str] = _PATHS
        self._rejected: set[str] = set()
        self._read: Counter[str] = Counter()  # tokens, by problem

    @classmethod
    def from_url(cls, url: str, **settings: Any) -> Self:
        """The scorer behind a URL; the settings are those of the constructor."""
        return cls(url, **settings)

    async def score(self, partials: Sequence[Partial]) -> np.ndarray:
        """Scores partial solutions with the PPM (rStar-Math, section 3.3).

        Args:
          partials: B partial solutions, of any problems.

        Returns:
          [B] float32 in (-1, 1), in the order given.

        Raises:
          PartialTooLong: a partial exceeds the model's context; names the problem.
          ScorerError: the server failed, or answered with something else.
        """
        texts = {text_of(partial): partial for partial in partials}
        if not texts:
            return np.empty(0, np.float32)
        session = await self._client.session()
        await self._client.find_model(session)
        activated = await self._probe(session, texts) if self._activated is None else self._activated
        answers = await self._ask_all(session, texts)
        logits = self._logits(answers) if activated else answers
        scores = dict(zip(texts, scores_of(logits, self._scale, self._bias), strict=True))
        return np.array([scores[text_of(partial)] for partial in partials], np.float32)

    def release(self, problem: Problem) -> None:
        """Forgets how many tokens of a problem were read."""
        self._read.pop(problem.id, None)

    def tokens_of(self, problem: Problem) -> int:
        """How many tokens of a problem the server has read since it was last released, by its own account; 0 where it gives none.

        What it had in its cache counts too. The tokens of a request are parted among its problems by the characters of their texts.
        """
        return int(self._read[problem.id])

    async def aclose(self) -> None:
        """Closes the connections of the running event loop; `score` opens new ones."""
        await self._client.aclose()

    async def _probe(self, session: Session, texts: Mapping[str, Partial]) -> bool:
        """Whether the server always sends probabilities; remembered where the answers leave no doubt."""
        few = sorted(texts, key=len)[:_PROBED]
        chosen = {text: texts[text] for text in few}
        asked_not_to = await self._ask_batch(session, chosen, activation=False)
        asked_to = await self._ask_batch(session, chosen, activation=True)
        same = np.allclose(asked_not_to, asked_to, rtol=_NOISE, atol=_NOISE)
        if same and np.allclose(_sigmoid(asked_not_to), asked_to, rtol=_NOISE, atol=_NOISE):
            return False  # near 0.66, where a probability is its logit: a later call will tell
        activated = bool(same and np.all((asked_not_to >= 0) & (asked_not_to <= 1)))
        if activated and np.all(asked_not_to == 1):
            raise ScorerError(
                f"{self._server} answered 1 to each of {len(few)} texts, a softmax over one label: use a server that sends "
                "logits where use_activation is false, as vLLM does"
            )
        if activated and self._activated is None:
            _log.warning(
                "%s sends probabilities though it is asked for logits: scores near 1 are less exact; vLLM since 0.11.1 sends "
                "logits",
                self._server,
            )
        self._activated = activated
        return activated

    def _logits(self, answers: np.ndarray) -> np.ndarray:
        wrong = answers[(answers < 0) | (answers > 1)]
        if len(wrong):
            raise ScorerError(
                f"{self._server} answered {wrong[0]:g} where it had sent probabilities: if these are logits, pass "
                "activated=False"
            )
        probabilities = np.clip(answers, _LEAST, _MOST)
        return np.log(probabilities) - np.log1p(-probabilities)

    async def _ask_all(self, session: Session, texts: Mapping[str, Partial]) -> np.ndarray:
        """The server's answers, [B] float64 in the order of the texts; the first error there is, when all requests are done."""
        given = list(texts.items())
        batches = [dict(given[start : start + self._batch_size]) for start in range(0, len(given), self._batch_size)]

        async def answers(batch: Mapping[str, Partial]) -> np.ndarray | RstarError:
            try:
                return await self._ask_batch(session, batch, activation=False)
            except RstarError as error:
                return error

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(answers(batch)) for batch in batches]
        found: list[np.ndarray] = []
        for task in tasks:
            result = task.result()
            if isinstance(result, RstarError):
                raise result
            found.append(result)
        return np.concatenate(found)

    async def _ask_batch(self, session: Session, texts: Mapping[str, Partial], *, activation: bool) -> np.ndarray:
        """One request for [b] texts; where the server finds one of them too long, halves of it, until it is found."""
        while True:
            async with session.slots:  # the request is made up in its slot, so that it knows what the ones before it learnt
                body = self._body(list(texts), activation)
                try:
                    path, reply = await self._client.post_to_known(session, self._paths, body)
                except Refused as refusal:
                    refused = refusal
                else:
                    self._paths = (path,)
                    answers = self._answers(reply, len(texts))
                    self._count(reply, texts)
                    return answers
            if not TOO_LONG.search(str(refused)):
                self._learn_from(refused, body)
            elif len(texts) > 1:
                given = list(texts.items())
                halves = [dict(given[: len(given) // 2]), dict(given[len(given) // 2 :])]
                return np.concatenate([await self._ask_batch(session, half, activation=activation) for half in halves])
            else:
                (partial,) = texts.values()
                raise PartialTooLong(
                    f"a partial solution of problem {partial.problem.id!r} does not fit the context of the PPM at "
                    f"{self._server}, which says: {refused}"
                ) from None

    def _body(self, texts: list[str], activation: bool) -> dict[str, Any]:
        body = {
            "model": self._client.model,
            "input": texts,
            "task": "classify",  # for /pooling
            **dict.fromkeys(_ACTIVATION, activation),
            **self._extra_body,
        }
        return {name: value for name, value in body.items() if name not in self._rejected}

    def _learn_from(self, refusal: Refused, body: Mapping[str, Any]) -> None:
        """Notes which optional fields the server rejects; raises where it is something else."""
        sent = [name for name in ("task", *_ACTIVATION) if name in body]
        named = rejected_fields(refusal, sent) or (sent if REJECTS_A_FIELD.search(str(refusal)) else [])
        if not named:
            raise ScorerError(f"{self._server} rejected the request: {refusal}") from None
        self._rejected.update(named)

    def _count(self, reply: Mapping[str, Any], texts: Mapping[str, Partial]) -> None:
        """Notes the tokens of a request, where the reply says how many they were."""
        usage = reply.get("usage")
        tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        if type(tokens) is not int or tokens < 0:
            return
        characters: Counter[str] = Counter()
        for text, partial in texts.items():
            characters[partial.problem.id] += len(text)
        total, given, begun = characters.total(), 0, 0
        for problem_id, count in characters.items():
            begun += count
            self._read[problem_id] += tokens * begun // total - given  # whole numbers that add up to the tokens
            given = tokens * begun // total

    def _answers(self, reply: Mapping[str, Any], count: int) -> np.ndarray:
        """The number for each text of a reply, [count] float64, finite."""
        entries = reply.get("data")
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ScorerError(f"{self._server} answered without 'data', {short(str(reply))}: check the URL")
        places = [entry.get("index", place) for place, entry in enumerate(entries)]
        if len(entries) != count or {place for place in places if isinstance(place, int)} != set(range(count)):
            raise ScorerError(f"{self._server} answered with {len(entries)} scores for {count} texts: expected one for each")
        answers = np.empty(count)
        for place, entry in zip(places, entries, strict=True):
            answers[place] = self._number(entry)
        return answers

    def _number(self, entry: Mapping[str, Any]) -> float:
        """The one number of /classify ("probs") or of /pooling ("data"; a row a token where the model pools each)."""
        values = entry.get("probs", entry.get("data"))
        if isinstance(values, list) and values and all(isinstance(row, list) for row in values):
            values = values[-1]  # the last token's
        if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
            raise ScorerError(f"{self._server} sent no number for a text but {short(str(entry))}: check the URL")
        if len(values) != 1:
            raise ScorerError(
                f"{self._server} sent {len(values)} numbers for a text: serve a PPM, a sequence classifier with num_labels=1"
            )
        if not np.isfinite(value := float(values[0])):
            raise ScorerError(f"{self._server} sent {value} for a text: check the checkpoint and the server's dtype")
        return value


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * logits))
