"""A policy in this process, on CPU or GPU, by transformers."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from rstar_fast import steps
from rstar_fast.policies.checkpoint import context_tokens, load_model, load_tokenizer
from rstar_fast.policies.prompt_cache import PromptCache
from rstar_fast.policies.sampler import Sampler
from rstar_fast.policies.tokenizing import PieceTokenizer
from rstar_fast.types import Candidate, InvalidInput, Partial, PartialTooLong


class TransformersPolicy:
    """Samples steps with a causal language model.

    A sample depends on the seed, its partial, its number among the partial's samples and how often the partial was asked for
    before: not on what shares its batch, up to rounding in the last bits, which may tip a near tie.

    Args:
      model: a causal language model, in evaluation mode.
      tokenizer: its tokenizer.
      seed: of the sampling.
      temperature: >= 0; 0 takes the most likely token.
      top_p: in (0, 1]: sample from the smallest set of tokens with this probability.
      top_k: sample from so many most likely tokens; 0: from all.
      max_step_tokens: most tokens of a step, >= 1.
      max_rows: most sequences generated at a time, >= 1; bounds the memory of keys and values.
      prompt_cache_mb: most MB of keys and values of prompts that are kept, so that of a leaf's prompt only the last step is computed;
        0: none.

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
        max_step_tokens: int = 512,
        max_rows: int = 512,
        prompt_cache_mb: int = 512,
    ) -> None:
        if not 0 <= temperature < math.inf or not 0 < top_p <= 1 or top_k < 0:
            raise InvalidInput(
                f"temperature={temperature}, top_p={top_p}, top_k={top_k}: give temperature >= 0, top_p in (0, 1], top_k >= 0"
            )
        if max_step_tokens < 1 or max_rows < 1:
            raise InvalidInput(f"max_step_tokens={max_step_tokens}, max_rows={max_rows}: give integers >= 1")
        if prompt_cache_mb < 0:
            raise InvalidInput(f"prompt_cache_mb={prompt_cache_mb}: give an integer >= 0")
        self._tokenizer, self._seed = PieceTokenizer(tokenizer), seed
        self._max_step_tokens, self._max_rows = max_step_tokens, max_rows
        self._context = context_tokens(model)
        known = PromptCache(prompt_cache_mb * 1_000_000) if prompt_cache_mb else None
        self._sampler = Sampler(model, tokenizer, steps.STOPS, temperature, top_p, top_k, known)
        self._asked: Counter[bytes] = Counter()
        # One thread: the model is not shared between batches.
        self._thread = ThreadPoolExecutor(1, "rstar_fast.policy")

    @classmethod
    def from_pretrained(
        cls, name: str, *, seed: int = 0, device: str | None = None, dtype: torch.dtype | None = None, **settings: float
    ) -> Self:
        """Loads a checkpoint by folder or hub name; errors as `load_model`, settings as the class takes them."""
        model = load_model(AutoModelForCausalLM, name, "policy", device, dtype)
        return cls(model, load_tokenizer(name, "policy"), seed=seed, **settings)  # type: ignore[arg-type]

    async def propose(self, partials: Sequence[Partial], n: int) -> list[list[Candidate] | PartialTooLong]:
        """Samples n candidates for each of the B partials; a partial beyond the model's context gets its error instead."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._propose, list(partials), n)

    async def aclose(self) -> None:
        """Ends the thread."""
        await asyncio.to_thread(self._thread.shutdown)

    def _propose(self, partials: list[Partial], n: int) -> list[list[Candidate] | PartialTooLong]:
        times = Counter(partials)  # a partial asked for more than once is computed once
        distinct = list(times)
        prompts = self._tokenizer([steps.without_surrogates(steps.prompt(partial)) for partial in distinct])
        keys = [self._keys(partial, n * times[partial]) for partial in distinct]
        answers: list[list[Candidate]] = [[] for _ in distinct]
        for batch in self._batches(prompts, keys):
            of_batch = [prompts[i] for i, _ in batch]
            room = [min(self._context - len(prompt), self._max_step_tokens) for prompt in of_batch]
            owners = [distinct[i].problem for i, _ in batch]
            samples = self._sampler.sample(of_batch, [part for _, part in batch], room, owners)
            for (i, _), of_prompt in zip(batch, samples, strict=True):
                answers[i] += of_prompt
        number = {partial: i for i, partial in enumerate(distinct)}
        shares: list[list[Candidate] | PartialTooLong] = []
        for partial in partials:
            i = number[partial]
            if len(prompts[i]) >= self._context:
                shares.append(self._too_long(partial, len(prompts[i])))
            else:
                shares.append(answers[i][:n])
                del answers[i][:n]
        return shares

    def _batches(self, prompts: list[np.ndarray], keys: list[np.ndarray]) -> Iterator[list[tuple[int, np.ndarray]]]:
        """Batches of at most max_rows samples, each (number of a prompt, keys of its samples); no prompts too long."""
        batch: list[tuple[int, np.ndarray]] = []
        rows = 0
        for i in sorted(range(len(prompts)), key=lambda i: len(prompts[i])):  # of like length: least padding
            if len(prompts[i]) >= self._context:
                continue
            for first in range(0, len(keys[i]), self._max_rows):
                part = keys[i][first : first + self._max_rows]
                if rows + len(part) > self._max_rows:
                    yield batch
                    batch, rows = [], 0
                batch.append((i, part))
                rows += len(part)
        if batch:
            yield batch

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
