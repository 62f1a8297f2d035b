"""The sampling loop: many prompts at once, stop strings exact.

Shapes: B prompts, R rows under way (a sample each), V tokens in the vocabulary.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rstar_fast.policies.decoder import Decoder
from rstar_fast.policies.generation import PaddedRows, Rows, SharedRows
from rstar_fast.policies.graphs import CudaCapture, Graphs
from rstar_fast.policies.prompt_cache import PromptCache
from rstar_fast.types import Candidate

_BYTE_TOKEN = re.compile("<0x[0-9A-F]{2}>")


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """Samples that are asked for.

    Attributes:
      prompt: [tokens] int32, not empty.
      keys: [n] uint64, the randomness of each sample.
      max_tokens: most tokens of each, >= 1.
      owner: what the prompt belongs to, such as its problem: it is taken to begin like prompts of the same.
    """

    prompt: np.ndarray
    keys: np.ndarray
    max_tokens: int
    owner: Hashable = None


class Sampler:
    """Samples continuations up to a stop string.

    Args:
      model: a causal language model, in evaluation mode.
      tokenizer: its tokenizer.
      stops: strings that end a continuation.
      temperature, top_p, top_k: as TransformersPolicy.
      prompts: where the keys and values of prompts are kept; without it, and where the model has no `Decoder`, each prompt is
        computed anew.
      max_rows: most samples under way at a time, >= 1.
      cuda_graphs: replay steps of the same shape as one operation, where the model has a `Decoder` and is on a GPU.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        stops: Sequence[str],
        temperature: float,
        top_p: float,
        top_k: int,
        prompts: PromptCache | None = None,
        max_rows: int = 512,
        cuda_graphs: bool = False,
    ) -> None:
        self._model, self._tokenizer, self._stops = model, tokenizer, tuple(stops)
        self._temperature, self._top_p, self._top_k = temperature, top_p, top_k
        self._ends = self._end_tokens()
        self._may_stop = self._tokens_that_may_stop()
        self._max_rows = max_rows
        self._decoder, self._prompts = Decoder.of(model), prompts
        self._graphs = Graphs(CudaCapture(model.device)) if cuda_graphs and model.device.type == "cuda" else None
        self.clear()

    def clear(self) -> None:
        """Forgets all that was asked for."""
        self._rows = self._no_rows()
        self._waiting: deque[tuple[Ask, int]] = deque()  # with the first of its samples that has not begun
        # Of the samples under way, each under a name below max_rows:
        self._asks: dict[int, tuple[Ask, int]] = {}
        self._free = list(range(self._max_rows))
        self._keys = np.zeros(self._max_rows, np.uint64)
        self._lengths, self._counts = np.zeros(self._max_rows, np.int64), np.zeros(self._max_rows, np.int64)
        self._tokens = np.zeros((self._max_rows, 0), np.int64)
        self._logprobs = np.zeros(self._max_rows)

    def _no_rows(self) -> Rows:
        if self._decoder is None:
            return PaddedRows(self._model)
        if self._graphs is not None:
            self._graphs.forget()
        return SharedRows(self._decoder, self._model.get_output_embeddings(), self._prompts, self._graphs)

    def _end_tokens(self) -> np.ndarray:
        ids = {self._tokenizer.eos_token_id}
        configured = self._model.generation_config.eos_token_id if self._model.generation_config is not None else None
        ids |= set(configured) if isinstance(configured, list) else {configured}
        return np.array(sorted(ids - {None}), np.int64)

    def _tokens_that_may_stop(self) -> np.ndarray:
        """[V] bool: tokens whose text holds the last character of a stop string: only behind them one can be complete."""
        vocabulary = self._tokenizer.get_vocab()
        count = max([*vocabulary.values(), self._model.config.get_text_config().vocab_size - 1]) + 1
        last = {stop[-1] for stop in self._stops}
        if not all(character.isascii() and character.isprintable() and character != " " for character in last):
            return np.ones(count, bool)  # tokenizers write other characters in ways of their own
        may_stop = np.zeros(count, bool)
        for written, token in vocabulary.items():
            may_stop[token] = any(character in written for character in last) or _BYTE_TOKEN.fullmatch(written) is not None
        return may_stop

    @property
    def merges(self) -> bool:
        """Whether samples join those under way; else they wait until these have ended."""
        return self._decoder is not None

    @property
    def is_busy(self) -> bool:
        """Whether samples that were asked for are still to come."""
        return bool(self._waiting) or len(self._rows.names) > 0

    def add(self, asks: Iterable[Ask]) -> None:
        """Asks for samples, which come from `step`."""
        self._waiting.extend((ask, 0) for ask in asks)

    @torch.inference_mode()
    def drop(self, asks: Collection[Ask]) -> None:
        """Forgets what was asked for and is not wanted any more."""
        self._waiting = deque(waiting for waiting in self._waiting if waiting[0] not in asks)
        gone = [at for at, name in enumerate(self._rows.names.tolist()) if self._asks[name][0] in asks]
        if gone:
            self._leave(np.array(gone))

    @torch.inference_mode()
    def step(self) -> list[tuple[Ask, int, Candidate]]:
        """Generates a token of each row; what has come to an end by it, each with its number among its ask's samples."""
        self._let_join()
        names = self._rows.names
        if not len(names):
            return []
        at = self._counts[names]
        chosen, logprobs = self._choose(self._rows.logits, uniforms(self._keys[names], at))
        new = chosen.cpu().numpy()
        self._tokens[names, at] = new
        self._logprobs[names] += logprobs.cpu().numpy()
        self._counts[names] += 1
        ended, is_last = np.isin(new, self._ends), self._counts[names] == self._lengths[names]
        found, gone = [], []
        for row in np.flatnonzero(ended | is_last | self._may_stop[new]).tolist():
            name = names[row]
            ask, number = self._asks[name]
            written = self._tokens[name, : self._counts[name]]
            candidate = self._candidate(
                int(ask.prompt[-1]), written, bool(ended[row]), bool(is_last[row]), self._logprobs[name]
            )
            if candidate is not None:
                found.append((ask, number, candidate))
                gone.append(row)
        if gone:
            self._leave(np.array(gone))
        names = self._rows.names
        if len(names):
            self._rows.advance(self._tokens[names, self._counts[names] - 1])
        return found

    def _let_join(self) -> None:
        """Begins samples that wait, as far as there is room for rows."""
        room = self._max_rows - len(self._rows.names)
        if not self._waiting or not room or not self._rows.may_join:
            return
        begun: list[tuple[Ask, np.ndarray]] = []
        while self._waiting and room:
            ask, first = self._waiting.popleft()
            count = min(room, len(ask.keys) - first)
            if first + count < len(ask.keys):
                self._waiting.appendleft((ask, first + count))
            if count:
                begun.append((ask, self._named(ask, first, count)))
                room -= count
        if begun:
            asks, names = zip(*begun, strict=True)
            self._rows.join([ask.prompt for ask in asks], names, [ask.owner for ask in asks])

    def _named(self, ask: Ask, first: int, count: int) -> np.ndarray:
        """Names of samples of an ask, and a place for each where it is kept what becomes of it."""
        names = np.array([self._free.pop() for _ in range(count)])
        if ask.max_tokens > self._tokens.shape[1]:
            self._tokens = np.pad(self._tokens, ((0, 0), (0, ask.max_tokens - self._tokens.shape[1])))
        self._keys[names], self._lengths[names] = ask.keys[first : first + count], ask.max_tokens
        self._counts[names], self._logprobs[names] = 0, 0.0
        self._asks.update((name, (ask, first + i)) for i, name in enumerate(names.tolist()))
        return names

    def _leave(self, rows: np.ndarray) -> None:
        names = self._rows.names[rows].tolist()
        self._rows.leave(rows)
        self._free += names
        for name in names:
            del self._asks[name]

    def _choose(self, logits: torch.Tensor, uniform: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """The next token of each row, [R] int64, where the distribution function reaches `uniform` [R]; its log-probability."""
        logits = logits.float()
        logprobs = torch.log_softmax(logits, -1)
        if self._temperature == 0.0:
            chosen = logits.argmax(-1)
        else:
            probabilities = torch.softmax(logits / self._temperature, -1) if self._temperature != 1.0 else logprobs.exp()
            if self._top_k or self._top_p < 1.0:
                probabilities = self._truncated(probabilities)
            sums = probabilities.cumsum(-1)
            at = torch.from_numpy(uniform.astype(np.float32)).to(logits.device)[:, None] * sums[:, -1:]
            chosen = torch.searchsorted(sums, at, right=True)[:, 0].clamp_(max=logits.shape[-1] - 1)
        return chosen, logprobs.gather(-1, chosen[:, None])[:, 0]

    def _truncated(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Sets to 0 what top_k and top_p leave out; the rest is not renormalised."""
        ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
        if self._top_k:
            ordered[:, self._top_k :] = 0.0
        if self._top_p < 1.0:
            before = ordered.cumsum(-1) - ordered  # the token that crosses top_p stays
            ordered[before >= self._top_p * ordered.sum(-1, keepdim=True)] = 0.0
        return torch.zeros_like(probabilities).scatter_(-1, order, ordered)

    def _candidate(self, last_token: int, tokens: np.ndarray, ended: bool, is_last: bool, logprob: float) -> Candidate | None:
        """The candidate that ends behind these tokens; None when it goes on."""
        # Decoded behind the prompt's last token: some tokenizers drop a space at the beginning of a text.
        before = self._decode([last_token])
        text = self._decode([last_token, *(tokens[:-1] if ended else tokens).tolist()])[len(before) :]
        found = [(text.find(stop), stop) for stop in self._stops if stop in text]
        if found:
            at, stop = min(found)
            return Candidate(text[:at], stop, len(tokens), float(logprob))
        if ended or is_last:
            return Candidate(text, None, len(tokens), float(logprob))
        return None

    def _decode(self, ids: list[int]) -> str:
        # The spaces are the program's: "[1 , 2]" stays as it is.
        return self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def uniforms(keys: np.ndarray, steps: np.ndarray | int) -> np.ndarray:
    """[R] float64 in [0, 1): the random number of each row's step [R], by the finalizer of SplitMix64 (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        x = keys + np.asarray(steps + 1, np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(40)).astype(np.float64) * 2.0**-24  # 24 bits: exact in float32
