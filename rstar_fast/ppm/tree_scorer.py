"""What the scorers with a model of their own share: partial solutions as token trees, each token of which is computed once."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rstar_fast.policies.checkpoint import context_tokens, load_tokenizer
from rstar_fast.policies.decoder import Decoder
from rstar_fast.ppm.attention import KeyValuePool, attention_over, check_model, hidden_states, packed
from rstar_fast.ppm.prefixes import PAGE_TOKENS, Prefixes, Run
from rstar_fast.ppm.scores import check_length
from rstar_fast.types import InvalidInput, Partial, Problem

_LONGEST = 32_768  # tokens of a sequence for which there is room whatever `kept_tokens` is


@dataclass(slots=True)
class ScorerStats:
    """What a scorer has done so far.

    Attributes:
      tokens_given: of all partial solutions, repeated ones included.
      tokens_computed: that went through the model.
      passes: of the model.
    """

    tokens_given: int = 0
    tokens_computed: int = 0
    passes: int = 0


class Reading(Protocol):
    """What a kind of PPM makes of the tokens of a partial solution."""

    def tokens(self, partials: Sequence[Partial]) -> list[tuple[np.ndarray, int]]:
        """Of each partial solution the tokens, [n] int32, and how many of the last of them its score is made of."""

    def values(self, hidden: torch.Tensor, runs: Sequence[Run]) -> torch.Tensor:
        """The value of each token of a pass, [T] float32, of their last hidden states, [T, hidden size]."""

    def score(self, values: np.ndarray) -> float:
        """A partial solution's, in (-1, 1), of the values of the tokens that it is made of, [n] float32."""


class TreeScorer:
    """A `Scorer` over a model of transformers.

    Partial solutions of a problem share their prefixes: the model computes each token of their tree once, and keeps its keys and
    values for the partial solutions to come, as long as there is room.

    Args:
      model: the PPM, in evaluation mode.
      tokenizer: its tokenizer.
      batch_tokens: tokens of a forward pass, >= 1; bounds its memory. Where memory does not do all the same, it is halved.
      kept_tokens: whose keys and values are kept, >= 1; at least those of the longest sequence, up to 32,768 tokens.

    Attributes:
      stats: what has been done so far.
    """

    _load: Callable[..., PreTrainedModel]  # by folder or hub name, device and dtype
    _reads: Callable[[PreTrainedModel, PreTrainedTokenizerBase], Reading]

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        batch_tokens: int = 16_384,
        kept_tokens: int = 131_072,
    ) -> None:
        for name, number in (("batch_tokens", batch_tokens), ("kept_tokens", kept_tokens)):
            if not isinstance(number, int) or isinstance(number, bool) or number < 1:
                raise InvalidInput(f"{name} is {number!r}: give an integer >= 1")
        check_model(model)
        self._decoder = Decoder.of(model)
        self._model, self._reading, self._batch_tokens = model, type(self)._reads(model, tokenizer), batch_tokens
        self._context = context_tokens(model)
        pages = math.ceil(max(kept_tokens, min(self._context, _LONGEST)) / PAGE_TOKENS)
        self._context = min(self._context, pages * PAGE_TOKENS)
        self._prefixes, self._pool = Prefixes(pages), KeyValuePool(pages, PAGE_TOKENS)
        self._thread = ThreadPoolExecutor(1, "rstar_fast.ppm")
        self.stats = ScorerStats()
        self._computed: Counter[str] = Counter()  # tokens that went through the model, by problem

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        *,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        batch_tokens: int = 16_384,
        kept_tokens: int = 131_072,
    ) -> Self:
        """Loads a checkpoint by folder or hub name.

        Raises:
          InvalidInput: the checkpoint is missing or unreadable, or of another kind.
        """
        model, tokenizer = cls._load(name, device=device, dtype=dtype), load_tokenizer(name, "PPM")
        return cls(model, tokenizer, batch_tokens=batch_tokens, kept_tokens=kept_tokens)

    async def score(self, partials: Sequence[Partial]) -> np.ndarray:
        """Scores partial solutions with the PPM (rStar-Math, section 3.3).

        Args:
          partials: B partial solutions, of any problems; what they share is computed once.

        Returns:
          [B] float32 in (-1, 1), in the order given.

        Raises:
          PartialTooLong: a partial exceeds the model's context; names the problem and both lengths.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._score, list(partials))

    def release(self, problem: Problem) -> None:
        """Frees what is kept of a problem, when what has been asked for is done. Should more of it come, it is computed anew."""
        self._thread.submit(self._forget, problem.id)

    def tokens_of(self, problem: Problem) -> int:
        """How many tokens of a problem went through the model since it was last released."""
        return self._computed[problem.id]

    def _forget(self, problem_id: str) -> None:
        self._prefixes.forget(problem_id)
        self._computed.pop(problem_id, None)

    async def aclose(self) -> None:
        """Ends the thread, and frees what is kept."""
        await asyncio.to_thread(self._thread.shutdown)
        self._pool.free()

    @torch.inference_mode()
    def _score(self, partials: list[Partial]) -> np.ndarray:
        distinct = list(dict.fromkeys(partials))
        tokens = self._tokens(distinct)
        # Parents before children, and siblings side by side: a pass that is cut takes whole subtrees.
        order = sorted(range(len(distinct)), key=lambda at: (distinct[at].problem.id, distinct[at].solution))
        ends = {at: self._prefixes.insert(distinct[at].problem.id, *tokens[at]) for at in order}
        problem_of = {_root(ends[at]): distinct[at].problem.id for at in order}
        self.stats.tokens_given += sum(len(ids) for ids, _ in tokens)
        scores: dict[Partial, float] = {}
        waiting = list(order)
        try:
            while True:
                unscored = []
                for at in waiting:
                    values = self._prefixes.values(ends[at], tokens[at][1])
                    if values is None:
                        unscored.append(at)
                    else:
                        scores[distinct[at]] = self._reading.score(values)
                waiting = unscored
                if not waiting:
                    break
                self._compute(self._prefixes.plan([ends[at] for at in waiting], self._batch_tokens), problem_of)
        finally:
            self._prefixes.prune(list(ends.values()))
        return np.array([scores[partial] for partial in partials], np.float32)

    def _tokens(self, partials: list[Partial]) -> list[tuple[np.ndarray, int]]:
        tokens = self._reading.tokens(partials)
        for partial, (ids, _) in zip(partials, tokens, strict=True):
            check_length(partial, len(ids), self._context)
        return tokens

    def _compute(self, runs: list[Run], problem_of: Mapping[Run, str]) -> None:
        """One pass over planned runs; where memory does not do for it, nothing has happened but that passes are smaller now."""
        try:
            self._prefixes.commit(runs, self._forward(runs))
            for run in runs:
                self._computed[problem_of[_root(run)]] += len(run.tokens)
        except BaseException as error:
            self._prefixes.discard(runs)
            count = sum(len(run.tokens) for run in runs)
            if not isinstance(error, torch.OutOfMemoryError) or count == 1:
                raise
            self._batch_tokens = max(1, min(self._batch_tokens, count) // 2)
            torch.cuda.empty_cache()

    def _forward(self, runs: list[Run]) -> np.ndarray:
        """The values of all tokens of planned runs, [T] float32."""
        device = self._model.device
        tokens = torch.from_numpy(np.concatenate([run.tokens for run in runs])).to(device, torch.int64)
        tree = packed(runs).to(device)
        if self._decoder is not None:
            hidden = self._decoder(tokens, tree.positions(), attention_over(tree, self._pool))
        else:
            hidden = hidden_states(self._model, tokens, tree, self._pool)
        values = self._reading.values(hidden, runs)
        self.stats.passes += 1
        self.stats.tokens_computed += len(tokens)
        return values.cpu().numpy()


def _root(run: Run) -> Run:
    """Where the tree of a run's problem begins."""
    while run.parent is not None:
        run = run.parent
    return run
