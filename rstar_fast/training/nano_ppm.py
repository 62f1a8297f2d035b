"""Trains the nano PPM on rollouts: pairs of steps that share their prefix, and pairs of whole solutions.

    python -m rstar_fast.training.nano_ppm --policy DIR --rollouts train.jsonl --heldout heldout.jsonl --out DIR

The body starts as the policy's. A step's Q is the share of the samples through it that end right, from -1 to 1. Per prefix
the two best steps that lead to a right answer stand against the two worst that lead to a wrong one (rStar-Math, section 3.3).
Shapes: B solutions of a batch, L tokens of the longest, H hidden size, M steps, K pairs, G groups of pairs.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rstar_fast import kernels, steps
from rstar_fast.nano import POLICY
from rstar_fast.policies.checkpoint import load_tokenizer
from rstar_fast.ppm import model as ppm_model
from rstar_fast.training.muon import optimizers_for
from rstar_fast.training.nano_rollouts import Rollouts, Solution, read_rollouts
from rstar_fast.types import InvalidInput

_STEP_END = re.compile("|".join(map(re.escape, (steps.END_OF_STEP, steps.END_OF_OUTPUT, steps.END_OF_ANSWER))))


@dataclass(frozen=True, kw_only=True)
class PpmSettings:
    """How the PPM is trained.

    Attributes:
      epochs: passes over the problems.
      batch_tokens: tokens of a batch, padding included.
      muon_lr: learning rate of the weight matrices.
      adam_lr: learning rate of embeddings, norms, biases and the head.
      warm_up: part of the training in which the rate rises.
      per_side: most right and most wrong solutions of a problem that are used.
      margin: least difference of Q between the two steps of a pair, in (0, 2].
      answer_weight: weight of a problem's pairs of whole solutions; that of a prefix's pairs of steps is 1.
      value_weight: weight of the loss that makes (1 + score) / 2, at every token, the probability of a right answer; the
        pairwise loss has 1.
      language_weight: weight of the cross entropy of right solutions' code, which keeps the body a reader of questions.
      seed: of the order and the head's first weights.
    """

    epochs: int = 1
    batch_tokens: int = 9_000
    muon_lr: float = 0.004
    adam_lr: float = 0.0008
    weight_decay: float = 0.05
    warm_up: float = 0.03
    per_side: int = 4
    margin: float = 0.5
    answer_weight: float = 2.0
    value_weight: float = 1.0
    language_weight: float = 0.2
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """The pairs of steps behind one prefix; or of whole solutions, where `is_answer`. Steps are numbered in their problem."""

    better: tuple[int, ...]
    worse: tuple[int, ...]
    is_answer: bool
    depth: int


@dataclass(slots=True)
class Preferences:
    """A problem's solutions and preferences.

    Attributes:
      tokens: the token ids of each solution used, prompt included.
      code: for each solution the positions of its code, begin and end; (0, 0) where it is wrong.
      at: [M] (solution, position): where each step's last token stands.
      right: for each solution [L], at each of its tokens the share of right samples among those that begin with the same
        tokens; NaN in the prompt.
      groups: its pairs.
    """

    tokens: list[np.ndarray]
    code: list[tuple[int, int]] = field(default_factory=list)
    at: list[tuple[int, int]] = field(default_factory=list)
    right: list[np.ndarray] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)

    @property
    def longest(self) -> int:
        return max(map(len, self.tokens))


def step_ends(solution: str) -> list[int]:
    """Where each step of a solution ends, its output included: positions behind the markers."""
    return [match.end() for match in _STEP_END.finditer(solution)]


def chosen_solutions(rollouts: Rollouts, per_side: int) -> list[Solution]:
    """The most frequent right and wrong solutions, `per_side` of each at most."""
    by_count = sorted(rollouts.solutions, key=lambda solution: -solution.count)
    right = [solution for solution in by_count if solution.correct][:per_side]
    return right + [solution for solution in by_count if not solution.correct][:per_side]


def preferences(rollouts: Rollouts, tokenizer: PreTrainedTokenizerBase, per_side: int, margin: float) -> Preferences:
    """The pairs of a problem; without groups where its solutions are all right or all wrong."""
    chosen = chosen_solutions(rollouts, per_side)
    prompt = steps.prompt_of(rollouts.question)
    totals: dict[str, list[int]] = {}  # prefix -> samples through it: right, all
    for solution in rollouts.solutions:
        for end in step_ends(solution.text):
            counts = totals.setdefault(solution.text[:end], [0, 0])
            counts[0] += solution.count * solution.correct
            counts[1] += solution.count
    found = Preferences([])
    number: dict[str, int] = {}  # prefix -> step
    children: dict[str, list[str]] = {}
    marks = set(tokenizer.convert_tokens_to_ids([steps.END_OF_STEP, steps.END_OF_OUTPUT, steps.END_OF_ANSWER]))
    begins, ends_code = tokenizer.convert_tokens_to_ids([steps.CODE, steps.END_OF_CODE])
    tokens_of = {solution.text: tokenizer(prompt + solution.text)["input_ids"] for solution in rollouts.solutions}
    right_of = _right_by_prefix([(tokens_of[s.text], s.count, s.correct) for s in rollouts.solutions])
    for row, solution in enumerate(chosen):
        ids = tokens_of[solution.text]
        begin = ids.index(begins)
        found.tokens.append(np.array(ids, np.int64))
        found.code.append((begin, ids.index(ends_code) + 1) if solution.correct else (0, 0))
        found.right.append(np.array([math.nan] * begin + right_of(ids)[begin:], np.float32))
        ends = step_ends(solution.text)
        positions = [position for position, token in enumerate(ids) if token in marks][-len(ends) :]
        parent = ""
        for end, position in zip(ends, positions, strict=True):
            prefix = solution.text[:end]
            if prefix not in number:
                number[prefix] = len(found.at)
                found.at.append((row, position))
                children.setdefault(parent, []).append(prefix)
            parent = prefix
    for parent, siblings in children.items():
        group = _step_group(siblings, totals, number, margin, len(step_ends(parent)))
        if group is not None:
            found.groups.append(group)
    ends_of = {side: [number[s.text] for s in chosen if s.correct is side] for side in (True, False)}
    pairs = [(better, worse) for better in ends_of[True] for worse in ends_of[False]]
    if pairs:
        better, worse = zip(*pairs, strict=True)
        found.groups.append(Group(better, worse, True, -1))
    return found


def _right_by_prefix(samples: Sequence[tuple[list[int], int, bool]]) -> Callable[[list[int]], list[float]]:
    """From samples (tokens, how often, right) to the share of right ones among those that begin as `tokens` up to each token."""
    nodes: dict[tuple[int, int], int] = {}  # (node, token) -> node; the root is 0
    counts = [[0, 0]]  # of each node: right, all
    for tokens, count, correct in samples:
        node = 0
        for token in tokens:
            node = nodes.setdefault((node, token), len(counts))
            if node == len(counts):
                counts.append([0, 0])
            counts[node][0] += count * correct
            counts[node][1] += count

    def shares(tokens: list[int]) -> list[float]:
        node, found = 0, []
        for token in tokens:
            node = nodes[node, token]
            found.append(counts[node][0] / counts[node][1])
        return found

    return shares


def _step_group(
    siblings: Sequence[str], totals: dict[str, list[int]], number: dict[str, int], margin: float, depth: int
) -> Group | None:
    q = {prefix: 2.0 * totals[prefix][0] / totals[prefix][1] - 1.0 for prefix in siblings}
    ordered = sorted(siblings, key=lambda prefix: -q[prefix])
    positives = [prefix for prefix in ordered if totals[prefix][0] > 0][:2]
    negatives = [prefix for prefix in ordered[::-1] if totals[prefix][0] < totals[prefix][1]][:2]
    pairs = [(number[a], number[b]) for a in positives for b in negatives if q[a] - q[b] >= margin]
    if not pairs:
        return None
    better, worse = zip(*pairs, strict=True)
    return Group(better, worse, False, depth)


def read(model: PreTrainedModel, problems: Sequence[Preferences]) -> tuple[torch.Tensor, torch.Tensor]:
    """[B, L] the token ids of all solutions, and [B, L, H] what the body makes of them.

    Right padding is harmless under causal attention.
    """
    rows = [ids for problem in problems for ids in problem.tokens]
    tokens = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    for row, ids in enumerate(rows):
        tokens[row, : len(ids)] = torch.from_numpy(ids)
    with torch.autocast("cpu", torch.bfloat16):
        return tokens, model.base_model(input_ids=tokens, use_cache=False).last_hidden_state


def rewards_of(model: PreTrainedModel, hidden: torch.Tensor, problems: Sequence[Preferences]) -> torch.Tensor:
    """[M] the logits of the steps of all problems, before tanh."""
    rows, positions, first = [], [], 0
    for problem in problems:
        rows += [first + row for row, _ in problem.at]
        positions += [position for _, position in problem.at]
        first += len(problem.tokens)
    return hidden[rows, positions].float() @ model.score.weight[0].float()


def loss_of(model: PreTrainedModel, problems: Sequence[Preferences], settings: PpmSettings) -> torch.Tensor:
    """The pairwise loss of a batch, and with their weights those of the scores' calibration and of the language."""
    tokens, hidden = read(model, problems)
    rewards = rewards_of(model, hidden, problems)
    loss = _pairwise_loss(rewards, problems, settings.answer_weight)
    if settings.value_weight:
        loss = loss + settings.value_weight * _value_loss(model, hidden, problems)
    if settings.language_weight:
        loss = loss + settings.language_weight * _language_loss(model, tokens, hidden, problems)
    return loss


def _pairwise_loss(rewards: torch.Tensor, problems: Sequence[Preferences], answer_weight: float) -> torch.Tensor:
    better, worse, group, weights = [], [], [], []
    first = 0
    for problem in problems:
        for pairs in problem.groups:
            better += [first + step for step in pairs.better]
            worse += [first + step for step in pairs.worse]
            group += [len(weights)] * len(pairs.better)
            weights.append(answer_weight if pairs.is_answer else 1.0)
        first += len(problem.at)
    return kernels.pairwise_loss(
        rewards, torch.tensor(better), torch.tensor(worse), torch.tensor(group), torch.tensor(weights)
    )


def _value_loss(model: PreTrainedModel, hidden: torch.Tensor, problems: Sequence[Preferences]) -> torch.Tensor:
    """Mean cross entropy of (1 + score) / 2, at every token of the solutions, against the share of right ones behind it.

    At every token, and not only where steps end: that shows which token went wrong (Cobbe et al. 2021, arXiv 2110.14168).
    """
    right = torch.full(hidden.shape[:2], math.nan)
    for row, shares in enumerate(shares for problem in problems for shares in problem.right):
        right[row, : len(shares)] = torch.from_numpy(shares)
    known = ~torch.isnan(right)
    # (1 + tanh(x)) / 2 = sigmoid(2 x): the score as a probability.
    logits = 2.0 / ppm_model.scale_of(model) * (hidden[known].float() @ model.score.weight[0].float())
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, right[known])


def _language_loss(
    model: PreTrainedModel, tokens: torch.Tensor, hidden: torch.Tensor, problems: Sequence[Preferences]
) -> torch.Tensor:
    """Mean cross entropy of the tokens of the right solutions' code; the embedding serves as the language head, as the policy's does."""
    begins, ends = torch.tensor([span for problem in problems for span in problem.code]).T[..., None]
    position = torch.arange(1, tokens.shape[1])
    wanted = (begins < position) & (position < ends)
    embedding = model.get_input_embeddings().weight
    with torch.autocast("cpu", torch.bfloat16):
        logits = torch.nn.functional.linear(hidden[:, :-1][wanted], embedding)
    return torch.nn.functional.cross_entropy(logits.float(), tokens[:, 1:][wanted])


def batches(problems: Sequence[Preferences], batch_tokens: int, random: Random) -> list[list[Preferences]]:
    """Batches of problems of like length, in random order."""
    order = sorted(problems, key=lambda problem: problem.longest + random.random())
    grouped: list[list[Preferences]] = [[]]
    for problem in order:
        rows = sum(len(other.tokens) for other in grouped[-1]) + len(problem.tokens)
        if grouped[-1] and rows * problem.longest > batch_tokens:
            grouped.append([])
        grouped[-1].append(problem)
    random.shuffle(grouped)
    return grouped


@torch.inference_mode()
def measure(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, held_out: Sequence[Rollouts], settings: PpmSettings) -> dict[str, object]:
    """Accuracy on pairs, and of the answer chosen among the samples, against what needs no PPM.

    Returns:
      pairs: share of pairs ordered right: of steps (all, and by depth), of whole solutions; and by length alone (the shorter
        solution, the better of the two directions).
      answers: share of problems whose chosen answer is right, over problems with any solution, for each way of choosing.
    """
    model.eval()
    problems = [preferences(rollouts, tokenizer, settings.per_side, settings.margin) for rollouts in held_out]
    step_pairs: dict[int, list[bool]] = {}
    answer_pairs, shorter = [], []
    for problem in problems:
        if not problem.groups:
            continue
        rewards = rewards_of(model, read(model, [problem])[1], [problem])
        for group in problem.groups:
            right = [bool(rewards[a] > rewards[b]) for a, b in zip(group.better, group.worse, strict=True)]
            if group.is_answer:
                answer_pairs += right
                lengths = [len(problem.tokens[problem.at[step][0]]) for step in group.better + group.worse]
                half = len(group.better)
                shorter += [a < b for a, b in zip(lengths[:half], lengths[half:], strict=True) if a != b]
            else:
                step_pairs.setdefault(group.depth, []).extend(right)
    by_length = np.mean(shorter) if shorter else 0.5
    return {
        "pairs": {
            "steps": _share([right for rights in step_pairs.values() for right in rights]),
            "steps_by_depth": {str(depth): _share(rights) for depth, rights in sorted(step_pairs.items())},
            "solutions": _share(answer_pairs),
            "solutions_by_length_alone": round(float(max(by_length, 1 - by_length)), 4),
        },
        "answers": _answers(model, tokenizer, held_out),
    }


def _share(rights: Sequence[bool]) -> list[float | int]:
    """[share, of how many]."""
    return [round(sum(rights) / len(rights), 4) if rights else math.nan, len(rights)]


def _answers(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, held_out: Sequence[Rollouts]) -> dict[str, dict[str, float]]:
    """way of choosing -> level, or "all" -> share of problems whose chosen answer is right."""
    scale = ppm_model.scale_of(model)
    chosen: dict[str, dict[str, list[bool]]] = {}
    for rollouts in held_out:
        solutions = rollouts.solutions
        scores: list[float] = []
        if solutions:
            prompt = steps.prompt_of(rollouts.question)
            tokens = [np.array(tokenizer(prompt + solution.text)["input_ids"], np.int64) for solution in solutions]
            ends = Preferences(tokens, at=[(row, len(ids) - 1) for row, ids in enumerate(tokens)])
            scores = torch.tanh(rewards_of(model, read(model, [ends])[1], [ends]) / scale).tolist()
        correct_of = {solution.answer: solution.correct for solution in solutions}

        def vote(weight: Callable[[int, Solution], float], correct_of=correct_of, solutions=solutions) -> bool:
            votes: dict[str, float] = {}
            for at, solution in enumerate(solutions):
                votes[solution.answer] = votes.get(solution.answer, 0.0) + weight(at, solution)
            return bool(votes) and correct_of[max(votes, key=votes.__getitem__)]

        def best(key: Callable[[int], float], solutions=solutions) -> bool:
            return bool(solutions) and solutions[max(range(len(solutions)), key=key)].correct

        total = rollouts.failed + sum(solution.count for solution in solutions)
        ways: dict[str, float] = {
            "one sample": sum(s.count for s in solutions if s.correct) / total,
            "any sample": any(s.correct for s in solutions),
            "majority": vote(lambda at, s: s.count),
            "mean log-probability": best(lambda at, solutions=solutions: solutions[at].logprob),
            "best PPM score": best(lambda at, scores=scores: scores[at]),
            "PPM-weighted vote": vote(lambda at, s, scores=scores: s.count * (1 + scores[at]) / 2),
            "PPM-weighted vote of distinct": vote(lambda at, s, scores=scores: (1 + scores[at]) / 2),
        }
        for way, right in ways.items():
            for level in (str(rollouts.level), "all"):
                chosen.setdefault(way, {}).setdefault(level, []).append(float(right))
    return {way: {level: round(float(np.mean(r)), 4) for level, r in sorted(levels.items())} for way, levels in chosen.items()}


def train(policy: str, rollouts: Sequence[Rollouts], held_out: Sequence[Rollouts], out: Path, settings: PpmSettings) -> Iterator[dict[str, object]]:
    """Trains a PPM and writes its checkpoint to `out`; yields log lines.

    Raises:
      InvalidInput: no problem of the rollouts has a preference.
    """
    tokenizer = load_tokenizer(policy, "policy")
    model = ppm_model.from_policy(policy, seed=settings.seed)
    model.set_attn_implementation("eager")  # its backward is faster than SDPA's on the CPU
    every = [preferences(of_problem, tokenizer, settings.per_side, settings.margin) for of_problem in rollouts]
    problems = [problem for problem in every if problem.groups]
    if not problems:
        raise InvalidInput(f"none of the {len(rollouts)} problems has both right and wrong solutions: sample more, or harder ones")
    optimizers = optimizers_for(model, settings.muon_lr, settings.adam_lr, settings.weight_decay)
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    random = Random(settings.seed)
    epochs = [batches(problems, settings.batch_tokens, random) for _ in range(settings.epochs)]
    total, step, started = sum(map(len, epochs)), 0, time.monotonic()
    yield {"problems": len(rollouts), "with_preferences": len(problems), "batches": total, **dataclasses.asdict(settings)}
    for epoch, batched in enumerate(epochs, 1):
        model.train()
        losses = []
        for batch in batched:
            done = step / total
            rate = min(1.0, (done + 1 / total) / settings.warm_up) * 0.5 * (1.0 + math.cos(math.pi * done))
            loss = loss_of(model, batch, settings)
            if not torch.isfinite(loss):
                raise InvalidInput(f"the loss became {loss.item()} in batch {step}: lower muon_lr={settings.muon_lr} and adam_lr")
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer, peak in zip(optimizers, peaks, strict=True):
                for group, lr in zip(optimizer.param_groups, peak, strict=True):
                    group["lr"] = lr * rate
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())
            step += 1
        minutes = round((time.monotonic() - started) / 60, 2)
        yield {"epoch": epoch, "minutes": minutes, "loss": round(float(np.mean(losses)), 4), **measure(model, tokenizer, held_out, settings)}
    ppm_model.save(model.to(torch.bfloat16), tokenizer, out)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m rstar_fast.training.nano_ppm", description="Train the nano PPM.")
    parser.add_argument("--policy", default=str(POLICY), help="folder of the policy it starts from")
    parser.add_argument("--rollouts", type=Path, nargs="+", required=True, help="files of nano_rollouts, of the train split")
    parser.add_argument("--heldout", type=Path, required=True, help="file of nano_rollouts, of the heldout split: measured on")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--log", type=Path, help="JSONL file of the log")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    for setting in dataclasses.fields(PpmSettings):
        parser.add_argument(f"--{setting.name.replace('_', '-')}", type=type(setting.default), default=setting.default)
    given = vars(parser.parse_args(arguments))
    torch.set_num_threads(given["threads"])
    torch.manual_seed(given["seed"])
    settings = PpmSettings(**{setting.name: given[setting.name] for setting in dataclasses.fields(PpmSettings)})
    rollouts = [of_problem for path in given["rollouts"] for of_problem in read_rollouts(path)]
    lines = []
    for line in train(given["policy"], rollouts, read_rollouts(given["heldout"]), given["out"], settings):
        print(json.dumps(line), flush=True)
        lines.append(json.dumps(line) + "\n")
        if given["log"] is not None:
            given["log"].write_text("".join(lines), "utf-8")


if __name__ == "__main__":
    main()
