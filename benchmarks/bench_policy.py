"""Tokens that the policy in this process generates a second in searches: python benchmarks/bench_policy.py [--problems N]

The same problems are searched in several ways, in turn, with the embedded bootstrap policy and no PPM:

  own pass       transformers' forward pass, as for models that have no decoder of ours: rows padded, a batch after the other
  rows           rows of all calls together, each prompt computed once for its rows, and anew in every call
  rows, prompts  the same, and keys and values of prompts kept: the default
  graphs         the same, and steps replayed as CUDA graphs; with --device cuda, in the place of the first two

Writes results/policy_cpu.json, policy_cuda.json.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time

import torch
from bench import write
from torch import nn
from transformers import AutoModelForCausalLM

import rstar_fast
from rstar_fast import nano
from rstar_fast.nano import Record, generate
from rstar_fast.policies.checkpoint import load_model, load_tokenizer
from rstar_fast.policies.transformers import TransformersPolicy

_WAYS = {"cpu": ("own pass", "rows", "rows, prompts"), "cuda": ("rows, prompts", "graphs")}


def policy_of(way: str, device: str) -> TransformersPolicy:
    """The bootstrap policy, to be computed in one of the ways."""
    model = load_model(AutoModelForCausalLM, str(nano.BOOTSTRAP), "policy", device, None)
    if way == "own pass":  # as one with an adapter is
        mlp = model.model.layers[0].mlp
        mlp.down_proj = nn.Sequential(mlp.down_proj)
    kept_mb = 512 if way in ("rows, prompts", "graphs") else 0
    tokenizer = load_tokenizer(str(nano.BOOTSTRAP), "policy")
    return TransformersPolicy(model, tokenizer, seed=1, prompt_cache_mb=kept_mb, cuda_graphs=way == "graphs")


def searched(way: str, records: list[Record], given: argparse.Namespace) -> tuple[float, int, int]:
    """Seconds, tokens generated, problems solved."""
    policy = policy_of(way, given.device)
    answers = {record.problem.id: record.answer for record in records}
    started = time.perf_counter()
    results = rstar_fast.search(
        [record.problem for record in records],
        policy=policy,
        annotation="terminal",
        first_play_urgency=float("inf"),
        answers=answers,
        candidates=given.candidates,
        rollouts=given.rollouts,
        open_problems=given.open_problems,
        max_depth=14,
    )
    seconds = time.perf_counter() - started
    asyncio.run(policy.aclose())
    solved = sum(any(trajectory.correct for trajectory in result.trajectories) for result in results)
    return seconds, sum(result.stats.policy_tokens for result in results), solved


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=96)
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--rollouts", type=int, default=8)
    parser.add_argument("--open-problems", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=tuple(_WAYS), default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    records = generate("heldout", given.problems, 21, levels=(1, 2, 3, 4, 4))
    found: dict[str, list[tuple[float, int, int]]] = {way: [] for way in _WAYS[given.device]}
    for _ in range(given.rounds):
        for way in found:
            found[way].append(searched(way, records, given))
            seconds, tokens, solved = found[way][-1]
            print(f"{way:14} {seconds:6.1f} s  {tokens} tokens  {solved} problems solved", flush=True)
    counts = [tokens for measured in found.values() for _, tokens, _ in measured]
    # Rounding may tip a near tie between two tokens, and what follows from it.
    assert max(counts) <= 1.05 * min(counts), f"the ways do not generate the same: {counts} tokens"
    medians = {way: statistics.median(measured[0] for measured in of_way) for way, of_way in found.items()}
    first, *_ = medians
    for way, took in medians.items():
        print(f"{way:14} {counts[0] / took:7.0f} tokens/s, {medians[first] / took:.2f} times {first}")
    row = {"settings": vars(given), "seconds": {way: [round(m[0], 2) for m in of_way] for way, of_way in found.items()}}
    row |= {"tokens": counts, "solved": [solved for of_way in found.values() for *_, solved in of_way]}
    row |= {"ratios": {way: round(medians[first] / took, 2) for way, took in medians.items()}}
    print(write(f"policy_{given.device}", row))


if __name__ == "__main__":
    main()
