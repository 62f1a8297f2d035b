"""Samples whole solutions of generated problems and grades them: what the nano PPM is trained and measured on.

    python -m rstar_fast.training.nano_rollouts --policy DIR --out rollouts.jsonl --split train --problems 4000

A line of the file is one problem with its distinct solutions (`Rollouts`). An interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from rstar_fast import steps
from rstar_fast.grading import grade_many
from rstar_fast.nano import POLICY, Record, generate
from rstar_fast.nano.program import completed
from rstar_fast.policies.checkpoint import load_model, load_tokenizer
from rstar_fast.policies.sampler import Sampler
from rstar_fast.sandbox import Sandbox
from rstar_fast.types import Program

_BATCH_PROBLEMS = 32
_LONGEST_OUTPUT = 64  # characters; no answer is longer
_MOST_TOKENS = 400


@dataclass(frozen=True, slots=True)
class Solution:
    """One distinct solution.

    Attributes:
      text: from `<code>` to `<end_of_answer>`.
      count: how many of the samples are this one.
      logprob: mean log-probability of a token of its code.
    """

    text: str
    answer: str
    correct: bool
    count: int
    logprob: float


@dataclass(frozen=True, slots=True)
class Rollouts:
    """A problem and its solutions; samples whose code failed or printed nothing are only counted."""

    question: str
    answer: str
    level: int
    family: str
    failed: int
    solutions: tuple[Solution, ...]


def read_rollouts(path: Path) -> list[Rollouts]:
    """The problems of a file; a last line that was cut off by a kill is left out."""
    if not path.exists():
        return []
    lines = path.read_text("utf-8").split("\n")[:-1]
    return [
        Rollouts(**{**fields, "solutions": tuple(Solution(**solution) for solution in fields["solutions"])})
        for fields in map(json.loads, lines)
    ]


class RolloutSampler:
    """Samples solutions up to the end of their code, runs each distinct program once, and grades what it prints.

    Args:
      policy: folder of the checkpoint.
      samples: solutions per problem.
      temperature: > 0.
      seed: of the sampling.
    """

    def __init__(self, policy: str, samples: int, temperature: float, seed: int) -> None:
        model = load_model(AutoModelForCausalLM, policy, "policy", None, None)
        self._tokenizer = load_tokenizer(policy, "policy")
        self._sampler = Sampler(model, self._tokenizer, (steps.END_OF_CODE,), temperature, 1.0, 0)
        self._samples, self._seed = samples, seed

    def candidates(self, records: Sequence[Record]) -> list[dict[str, tuple[int, float]]]:
        """For each problem: the code, markers included, of its samples -> (how many, mean log-probability of a token)."""
        prompts = [self._tokenizer(steps.prompt_of(record.problem.question))["input_ids"] for record in records]
        keys = [
            np.random.default_rng([self._seed, int(record.problem.id, 16)]).integers(2**64, size=self._samples, dtype=np.uint64)
            for record in records
        ]
        found = []
        for candidates in self._sampler.sample(prompts, keys, _MOST_TOKENS):
            ended = [candidate for candidate in candidates if candidate.stop is not None]
            counts = Counter(candidate.step for candidate in ended)
            logprobs = {candidate.step: (candidate.logprob or 0.0) / (candidate.tokens or 1) for candidate in ended}
            found.append({text: (count, logprobs[text]) for text, count in counts.items()})
        return found


async def graded(
    records: Sequence[Record], candidates: Sequence[dict[str, tuple[int, float]]], samples: int, sandbox: Sandbox
) -> list[Rollouts]:
    """Runs and grades the candidates of each problem."""
    parsed = [(i, text, steps.parse(text, "")) for i, texts in enumerate(candidates) for text in texts]
    runnable = [(i, text, step) for i, text, step in parsed if step.code is not None and step.ends_code]
    executions = await sandbox.run_batch([Program(step.code or "") for _, _, step in runnable])
    printed = [
        (i, text, execution.output.strip())
        for (i, text, _), execution in zip(runnable, executions, strict=True)
        if execution.error is None and 0 < len(execution.output.strip()) <= _LONGEST_OUTPUT
    ]
    verdicts = grade_many([(records[i].answer, output) for i, _, output in printed])
    solutions: list[list[Solution]] = [[] for _ in records]
    for (i, text, output), verdict in zip(printed, verdicts, strict=True):
        count, logprob = candidates[i][text]
        solutions[i].append(Solution(completed(text, output), output, verdict.equal, count, round(logprob, 5)))
    return [
        Rollouts(
            record.problem.question,
            record.answer,
            record.level,
            record.family,
            samples - sum(solution.count for solution in of_problem),
            tuple(of_problem),
        )
        for record, of_problem in zip(records, solutions, strict=True)
    ]


async def collect(sampler: RolloutSampler, records: Sequence[Record], samples: int, out: Path) -> None:
    """Appends the rollouts of the problems that the file lacks; one batch is sampled while another's programs run."""
    done = read_rollouts(out)
    text = "".join(json.dumps(dataclasses.asdict(rollouts)) + "\n" for rollouts in done)
    out.write_text(text, "utf-8")  # without a line that was cut off
    asked = {rollouts.question for rollouts in done}
    waiting = [record for record in records if record.problem.question not in asked]
    started = time.monotonic()
    with Sandbox() as sandbox, out.open("a", encoding="utf-8") as file:
        running: asyncio.Task[list[Rollouts]] | None = None
        for number, batch in enumerate([*_batches(waiting), []], 1):
            candidates = await asyncio.to_thread(sampler.candidates, batch) if batch else []
            if running is not None:
                file.writelines(json.dumps(dataclasses.asdict(rollouts)) + "\n" for rollouts in await running)
                file.flush()
            running = asyncio.create_task(graded(batch, candidates, samples, sandbox)) if batch else None
            if number % 10 == 0:
                rate = number * _BATCH_PROBLEMS / (time.monotonic() - started)
                print(f"{number * _BATCH_PROBLEMS} of {len(waiting)} problems, {rate:.1f} problems/s", flush=True)


def _batches(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    for begin in range(0, len(records), _BATCH_PROBLEMS):
        yield records[begin : begin + _BATCH_PROBLEMS]


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m rstar_fast.training.nano_rollouts", description="Sample and grade solutions.")
    parser.add_argument("--policy", default=str(POLICY), help="folder of the policy")
    parser.add_argument("--out", type=Path, required=True, help="JSONL file; one that is there is continued")
    parser.add_argument("--split", default="train", choices=("train", "heldout", "novel"))
    parser.add_argument("--problems", type=int, default=4000)
    parser.add_argument("--levels", type=int, nargs="+", default=[1, 2, 3, 4, 5], help="levels taking turns; repeat one for more of it")
    parser.add_argument("--families", nargs="+", help="families taking part; repeat one for more of it; each once by default")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    records = generate(given.split, given.problems, given.seed, levels=given.levels, families=given.families)
    sampler = RolloutSampler(given.policy, given.samples, given.temperature, given.seed)
    asyncio.run(collect(sampler, records, given.samples, given.out))


if __name__ == "__main__":
    main()
