"""A policy in this process, on CPU or GPU, by transformers."""

from __future__ import annotations

import asyncio
import hashlib
import math
import queue
import traceback
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Self

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from rstar_fast import steps
from rstar_fast.policies.checkpoint import context_tokens, load_model, load_tokenizer, step_tokens
from rstar_fast.policies.prompt_cache import PromptCache
from rstar_fast.policies.sampler import Ask, Sampler
from rstar_fast.policies.tokenizing import PieceTokenizer
from rstar_fast.types import Candidate, InvalidInput, Partial, PartialTooLong


@dataclass(eq=False)
class _Request:
    """A call of `propose`.

    Attributes:
      asks: what the sampler is asked for each distinct partial.
      samples: of each ask; None: still to come.
      missing: how many are still to come.
      too_long: the partials that cannot be continued.
    """

    partials: list[Partial]
    n: int
    answer: Future[list[list[Candidate] | PartialTooLong]] = field(default_factory=Future)
    asks: dict[Partial, Ask] = field(default_factory=dict)
    samples: dict[Ask, list[Candidate | None]] = field(default_factory=dict)
    missing: int = 0
    too_long: dict[Partial, PartialTooLong] = field(default_factory=dict)

    def shares(self) -> list[list[Candidate] | PartialTooLong]:
        """For each partial its n candidates, or why there are none; none of them is given twice."""
        left = {partial: iter(self.samples[ask]) for partial, ask in self.asks.items()}
        answers: list[list[Candidate] | PartialTooLong] = []
        for partial in self.partials:
            if partial in self.too_long:
                answers.append(self.too_long[partial])
            else:
                answers.append([candidate for candidate in islice(left[partial], self.n) if candidate is not None])
        return answers


class TransformersPolicy:
    """Samples steps with a causal language model.

    Calls may overlap: where the model has a `Decoder`, samples join those under way, and each call returns as soon as its own
    have ended.

    A sample depends on the seed, its partial, its number among the partial's samples and how often the partial was asked for
    before: not on what shares its batch, up to rounding in the last bits, which may tip a near tie.

    Args:
      model: a causal language model, in evaluation mode.
      tokenizer: its tokenizer.
      seed: of the sampling.
      temperature: >= 0; 0 takes the most likely token.
      top_p: in (0, 1]: sample from the smallest set of tokens with this probability.
      top_k: sample from so many most likely tokens; 0: from all.
      max_step_tokens: most tokens of a step, >= 1; by default 512, or fewer where the model's generation config has fewer
        `max_new_tokens`.
      max_rows: most samples under way at a time, >= 1; bounds the memory of keys and values.
      prompt_cache_mb: most MB of keys and values of prompts that are kept, so that of a leaf's prompt only the last step is
        computed, where the model has a `Decoder`; 0: none.
      cuda_graphs: replay steps of the same shape as one operation, where the model has a `Decoder` and is on a GPU: for small models,
        whose steps are mostly the calling of operations. Not yet tried on a GPU.

    Raises:
      InvalidInput: a setting is out of its range.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        seed: int = 0,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        max_step_tokens: int | None = None,
        max_rows: int = 512,
        prompt_cache_mb: int = 512,
        cuda_graphs: bool = False,
    ) -> None:
        if not 0 <= temperature < math.inf or not 0 < top_p <= 1 or top_k < 0:
            raise InvalidInput(
                f"temperature={temperature}, top_p={top_p}, top_k={top_k}: give temperature >= 0, top_p in (0, 1], top_k >= 0"
            )
        if max_rows < 1:
            raise InvalidInput(f"max_rows={max_rows}: give an integer >= 1")
        if prompt_cache_mb < 0:
            raise InvalidInput(f"prompt_cache_mb={prompt_cache_mb}: give an integer >= 0")
        self._tokenizer, self._seed = PieceTokenizer(tokenizer), seed
        self._max_step_tokens = step_tokens(model.generation_config, max_step_tokens)
        self._context = context_tokens(model)
        known = PromptCache(prompt_cache_mb * 1_000_000) if prompt_cache_mb else None
        self._sampler = Sampler(model, tokenizer, steps.STOPS, temperature, top_p, top_k, known, max_rows, cuda_graphs)
        self._asked: Counter[bytes] = Counter()
        self._requests: queue.SimpleQueue[_Request] = queue.SimpleQueue()
        self._asked_by: dict[Ask, _Request] = {}  # what is under way
        self._thread = ThreadPoolExecutor(1, "rstar_fast.policy")

    @classmethod
    def from_pretrained(
        cls, name: str, *, seed: int = 0, device: str | None = None, dtype: torch.dtype | None = None, **settings: float
    ) -> Self:
        """Loads a checkpoint by folder or hub name; errors as `load_model`, settings as the class takes them."""
        model = load_model(AutoModelForCausalLM, name, "policy", device, dtype)
        return cls(model, load_tokenizer(name, "policy"), seed=seed, **settings)  # type: ignore[arg-type]

    @property
    def merges_calls(self) -> bool:
        """Whether calls that overlap are generated together; models without a `Decoder` generate one batch after the other."""
        return self._sampler.merges

    async def propose(self, partials: Sequence[Partial], n: int) -> list[list[Candidate] | PartialTooLong]:
        """Samples n candidates for each of the B partials; a partial beyond the model's context gets its error instead.

        May be called again before it has returned: what is asked for later joins what is under way.
        """
        if n < 0:
            raise InvalidInput(f"n is {n!r}: give an integer >= 0")
        request = _Request(list(partials), n)
        self._requests.put(request)
        # Whose turn comes first serves all that have come by then; the turns of the others find nothing left to do.
        self._thread.submit(self._serve)
        return await asyncio.wrap_future(request.answer)

    async def aclose(self) -> None:
        """Ends the thread."""
        await asyncio.to_thread(self._thread.shutdown)

    def _serve(self) -> None:
        """Generates until there is nothing left to be generated."""
        try:
            while self._failed():
                together = list(dict.fromkeys(self._asked_by.values()))
                self._sampler.clear()
                for request in together:  # the failure is only one's, or there were too many
                    self._serve_alone(request)
        except BaseException as error:  # whatever it is, nobody waits for ever
            for request in set(self._asked_by.values()):
                self._end(request, error)
            raise

    def _failed(self) -> bool:
        """Generates until there is nothing left, or something goes wrong: whether it did."""
        try:
            while True:
                self._take_requests()
                if not self._sampler.is_busy:
                    return False
                self._step()
        except Exception as error:  # out of memory, or the model's own
            traceback.clear_frames(error.__traceback__)  # they hold what memory did not do for
            return True

    def _serve_alone(self, request: _Request) -> None:
        """Begins a request anew."""
        for samples in request.samples.values():
            request.missing += len(samples) - samples.count(None)
            samples[:] = [None] * len(samples)
        self._sampler.add(request.samples)
        try:
            while self._sampler.is_busy:
                self._step()
        except Exception as error:
            traceback.clear_frames(error.__traceback__)
            self._sampler.clear()
            self._end(request, error)

    def _step(self) -> None:
        for ask, number, candidate in self._sampler.step():
            request = self._asked_by[ask]
            request.samples[ask][number] = candidate
            request.missing -= 1
            if not request.missing:
                self._end(request)

    def _take_requests(self) -> None:
        """Begins what was asked for, and forgets what is not wanted any more."""
        while True:
            try:
                request = self._requests.get_nowait()
            except queue.Empty:
                break
            try:
                self._begin(request)
            except Exception as error:
                self._end(request, error)
        for request in {request for request in self._asked_by.values() if request.answer.cancelled()}:
            self._sampler.drop(request.samples.keys())
            self._end(request)

    def _begin(self, request: _Request) -> None:
        times = Counter(request.partials)  # a partial asked for more than once is computed once
        prompts = self._tokenizer([steps.without_surrogates(steps.prompt(partial)) for partial in times])
        for (partial, count), prompt in zip(times.items(), prompts, strict=True):
            room = self._context - len(prompt)
            if room <= 0:
                request.too_long[partial] = self._too_long(partial, len(prompt))
                continue
            keys = self._keys(partial, request.n * count)
            ask = Ask(prompt, keys, min(room, self._max_step_tokens), partial.problem)
            request.asks[partial] = ask
            request.samples[ask] = [None] * len(keys)
            request.missing += len(keys)
        if request.missing:
            self._asked_by.update(dict.fromkeys(request.samples, request))
            self._sampler.add(sorted(request.samples, key=lambda ask: len(ask.prompt)))  # of like length: least padding
        else:
            self._end(request)

    def _end(self, request: _Request, error: BaseException | None = None) -> None:
        for ask in request.samples:
            self._asked_by.pop(ask, None)
        shares = request.shares() if error is None else []
        if not request.answer.set_running_or_notify_cancel():
            return
        if error is not None:
            request.answer.set_exception(error)
        else:
            request.answer.set_result(shares)

    def _too_long(self, partial: Partial, length: int) -> PartialTooLong:
        return PartialTooLong(
            f"a partial solution of problem {partial.problem.id!r} is {length} tokens long and the policy's context "
            f"{self._context}: lower max_depth, or use a policy with a longer context"
        )

    def _keys(self, partial: Partial, n: int) -> np.ndarray:
        """[n] uint64, the source of all randomness of a partial's samples; others each time it is asked for."""
        text = f"{self._seed}\0{partial.problem.id}\0{partial.solution}".encode("utf-8", "surrogatepass")
        leaf = hashlib.blake2b(text, digest_size=8).digest()
        first = self._asked[leaf]
        self._asked[leaf] += n
        digests = [hashlib.blake2b(leaf + i.to_bytes(8, "little"), digest_size=8).digest() for i in range(first, first + n)]
        return np.frombuffer(b"".join(digests), np.uint64)
