"""Partial solutions scored a second on the CPU, as a search asks for them: python benchmarks/bench_ppm.py [--problems N]

A search of nano with 32 candidates is run once, and what it asks the PPM to score is written down, call by call. Then each way scores
the same calls:

  padded        transformers' AutoModelForSequenceClassification over padded batches of like lengths, nothing kept
  token trees   rstar_fast.ppm.PpmScorer: each token of a problem's tree once, keys and values kept across calls
  read back     rstar_fast.ppm.ChannelScorer: the same with nano's own PPM, which reads the question anew behind each partial solution

The first two score with one model, nano's policy with a new head, and must give the same scores. Writes results/ppm_cpu.json.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np
import torch
from bench import write

import rstar_fast
from rstar_fast import nano, steps
from rstar_fast.nano import generate
from rstar_fast.policies.checkpoint import load_tokenizer
from rstar_fast.ppm import model as ppm_model
from rstar_fast.ppm.channel import ChannelScorer
from rstar_fast.ppm.scorer import PpmScorer
from rstar_fast.ppm.tree_scorer import TreeScorer
from rstar_fast.types import Partial

Calls = list[list[Partial]]
_BATCH_TOKENS = 16_384


def recorded(problems: int, candidates: int, rollouts: int) -> Calls:
    """What searches of some problems ask nano's PPM to score."""
    calls: Calls = []
    scorer = ChannelScorer.from_pretrained(str(nano.PPM), device="cpu")

    async def score(partials: Sequence[Partial]) -> np.ndarray:
        calls.append(list(partials))
        return await scorer.score(partials)

    questions = [record.problem for record in generate("heldout", problems, 77)]
    rstar_fast.search(questions, policy="nano", ppm=score, candidates=candidates, rollouts=rollouts)
    return calls


def padded(model: torch.nn.Module, tokenizer: object, scale: float) -> Callable[[list[Partial]], np.ndarray]:
    @torch.inference_mode()
    def score(partials: list[Partial]) -> np.ndarray:
        ids = tokenizer([steps.prompt(partial) for partial in partials])["input_ids"]  # type: ignore[operator]
        order = sorted(range(len(ids)), key=lambda at: len(ids[at]))
        scores = np.empty(len(ids), np.float32)
        while order:
            count = max(1, min(len(order), _BATCH_TOKENS // len(ids[order[-1]])))
            batch, order = order[-count:], order[:-count]
            longest = len(ids[batch[-1]])
            rows = torch.tensor([ids[at] + [0] * (longest - len(ids[at])) for at in batch])
            mask = torch.tensor([[1] * len(ids[at]) + [0] * (longest - len(ids[at])) for at in batch])
            hidden = model.base_model(input_ids=rows, attention_mask=mask, use_cache=False).last_hidden_state
            last = hidden[torch.arange(len(batch)), mask.sum(1) - 1]
            scores[batch] = torch.tanh(model.score(last)[:, 0] / scale).numpy()
        return scores

    return score


def timed(score: Callable[[list[Partial]], np.ndarray], calls: Calls) -> tuple[float, np.ndarray]:
    started = time.perf_counter()
    scores = [score(call) for call in calls]
    return time.perf_counter() - started, np.concatenate(scores)


def called(scorer: TreeScorer) -> Callable[[list[Partial]], np.ndarray]:
    """The scorer's calls, one after the other."""

    def score(partials: list[Partial]) -> np.ndarray:
        return asyncio.run(scorer.score(partials))

    return score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=8)
    parser.add_argument("--candidates", type=int, default=32)
    parser.add_argument("--rollouts", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    calls = recorded(given.problems, given.candidates, given.rollouts)
    partials = sum(map(len, calls))
    model = ppm_model.from_policy(str(nano.POLICY)).eval()
    tokenizer, scale = load_tokenizer(str(nano.POLICY), "policy"), ppm_model.scale_of(model)
    rates: dict[str, list[float]] = {"padded": [], "token trees": [], "read back": []}
    for _ in range(given.rounds):
        seconds, expected = timed(padded(model, tokenizer, scale), calls)
        rates["padded"].append(partials / seconds)
        trees = PpmScorer(model, tokenizer, batch_tokens=_BATCH_TOKENS)
        seconds, scores = timed(called(trees), calls)
        rates["token trees"].append(partials / seconds)
        assert np.abs(scores - expected).max() < 1e-5, "the ways do not give the same scores"
        back = ChannelScorer.from_pretrained(str(nano.PPM), device="cpu", batch_tokens=_BATCH_TOKENS)
        rates["read back"].append(partials / timed(called(back), calls)[0])
    stats = {"token trees": trees.stats, "read back": back.stats}
    print(f"{partials} partial solutions in {len(calls)} calls")
    for way, of in stats.items():
        print(f"{way:12} {of.tokens_given} tokens, {of.tokens_computed} of them computed in {of.passes} passes")
    for way, found in rates.items():
        print(f"{way:12} {statistics.median(found):8.1f} partials/s  ({min(found):.1f} to {max(found):.1f})")
    ratio = statistics.median(rates["token trees"]) / statistics.median(rates["padded"])
    print(f"token trees / padded: {ratio:.2f}")
    row = {"settings": vars(given), "partials": partials, "calls": len(calls), "stats": {way: asdict(of) for way, of in stats.items()}}
    print(write("ppm_cpu", row | {"partials_per_second": rates, "ratio": round(ratio, 2)}))


if __name__ == "__main__":
    main()
