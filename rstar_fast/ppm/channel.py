"""Scores partial solutions with a PPM that reads the question back: by how likely the question is, given the solution.

A noisy channel: of two solutions of a question x the better one is that from which x can be told, by Bayes' rule with p(y | x) ~ p(x | y) p(y);
a step that copies a number wrong or leaves out a condition makes x less likely. Min et al. 2022 (arXiv 2108.04106) classify in this
direction. The logit is log p(x | y) of a causal language model, the sum over the question's tokens, so that a pair of solutions
has the reward difference log p(x | y+) - log p(x | y-), and the score tanh((log p(x | y) + bias) / scale).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rstar_fast import steps
from rstar_fast.policies.tokenizing import PieceTokenizer
from rstar_fast.ppm import model as ppm_model
from rstar_fast.ppm.prefixes import Run
from rstar_fast.ppm.scores import scores_of
from rstar_fast.ppm.tree_scorer import TreeScorer
from rstar_fast.types import Partial

_LOGITS = 2**26  # at a time: a quarter of a GiB


class _Question:
    """The `Reading` of the question behind a partial solution."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self._head, self._tokenizer = model.get_output_embeddings(), PieceTokenizer(tokenizer)
        self._scale, self._bias = ppm_model.scale_of(model), ppm_model.bias_in(model.config)

    def tokens(self, partials: Sequence[Partial]) -> list[tuple[np.ndarray, int]]:
        texts = [tuple(map(steps.without_surrogates, steps.read_back(partial))) for partial in partials]
        return with_questions(texts, self._tokenizer)

    def values(self, hidden: torch.Tensor, runs: Sequence[Run]) -> torch.Tensor:
        """log p of each token of a question; NaN elsewhere."""
        places: list[np.ndarray] = []  # of the questions' tokens in the pass
        ids: list[np.ndarray] = []
        firsts: dict[int, torch.Tensor] = {}  # what stands before tokens whose run begins with them, by their number among `ids`
        begin = count = 0
        for run in runs:
            end = begin + len(run.tokens)
            if any(child.asked == len(child.tokens) for child in run.children.values()):
                run.last = hidden[end - 1].clone()
            if run.asked:
                if run.asked == len(run.tokens):
                    assert run.parent is not None and run.parent.last is not None  # the user's line stands before a question
                    firsts[count] = run.parent.last
                places.append(np.arange(end - run.asked, end))
                ids.append(run.tokens[-run.asked :])
                count += run.asked
            begin = end
        found = torch.full((len(hidden),), torch.nan, device=hidden.device)
        if not places:
            return found
        at = torch.from_numpy(np.concatenate(places)).to(hidden.device)
        before = hidden[at - 1]
        for number, state in firsts.items():
            before[number] = state
        tokens = torch.from_numpy(np.concatenate(ids).astype(np.int64)).to(hidden.device)
        rows = max(1, _LOGITS // self._head.weight.shape[0])
        parts = [log_p(self._head(before[first : first + rows]), tokens[first : first + rows]) for first in range(0, count, rows)]
        found[at] = torch.cat(parts)
        return found

    def score(self, values: np.ndarray) -> float:
        return float(scores_of([values.sum(dtype=np.float64)], self._scale, self._bias)[0])


class ChannelScorer(TreeScorer):
    """A `Scorer` over a causal language model: tanh((log p(question | partial solution) + bias) / scale). Arguments as `TreeScorer`."""

    _load = staticmethod(ppm_model.load_channel)
    _reads = staticmethod(_Question)


def log_p(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of tokens [Q], [Q] float32, by logits [Q, V]."""
    logits = logits.float()
    return logits.gather(-1, tokens[:, None])[:, 0] - logits.logsumexp(-1)


def with_questions(
    texts: Sequence[tuple[str, str]], tokenize: Callable[[Sequence[str]], Sequence[np.ndarray]]
) -> list[tuple[np.ndarray, int]]:
    """Of what stands before a question, and the question: the tokens of both, [n] int32, and how many of the last are the question's."""
    whole, before = tokenize([first + question for first, question in texts]), tokenize([first for first, _ in texts])
    return [(ids, len(ids) - shared_tokens(ids, first)) for ids, first in zip(whole, before, strict=True)]


def shared_tokens(a: np.ndarray, b: np.ndarray) -> int:
    """How many tokens two texts begin with alike."""
    n = min(len(a), len(b))
    differs = np.flatnonzero(a[:n] != b[:n])
    return int(differs[0]) if len(differs) else n
