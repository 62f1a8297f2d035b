"""Trains the bootstrap pair of nano from nothing: worked programs of easy levels, and questions of all levels.

    python -m rstar_fast.training.nano policy --out DIR --tokens 14000000 --minutes 45 --seed 0
    python -m rstar_fast.training.nano bootstrap --policy DIR --out BOOTSTRAP
    python -m rstar_fast.training.nano bootstrap-ppm --policy BOOTSTRAP --out PPM

The second trains it on a few programs of the level above; the third makes a PPM of it that tells a question from the worked program of
an easy level. What they will know of harder levels comes from their own search (`evolve`), and from nothing else.

DIR then holds a checkpoint that transformers loads as it is, a log (log.jsonl), and the state from which `--resume` goes on.
Shapes: B sequences of a batch, L tokens of the longest of them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import yaml
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from rstar_fast import steps
from rstar_fast.nano import EVOLUTION, FAMILIES, FLUENT_LEVELS, Record, generate
from rstar_fast.nano.lessons import read_last, turned, worked
from rstar_fast.policies.checkpoint import load_tokenizer
from rstar_fast.ppm import model as ppm_model
from rstar_fast.storage.atomic import write_whole
from rstar_fast.training.muon import has_bfloat16, optimizers_for
from rstar_fast.training.policy import train_policy
from rstar_fast.types import InvalidInput

END_OF_TEXT = "<|endoftext|>"
CONTEXT_TOKENS = 1024
_VOCABULARY = 1280
_CHUNK_PROBLEMS = 4000
_STEP_TOKENS = 128  # one in a thousand steps that are of use has more than 73; what runs on never ends
_STATE_FILE = "training_state.pt"
_BOOTSTRAP_EPOCHS = 10
# Worked programs from which the PPM learns to tell their questions: of each level how many, and their seed.
_READ_BACK = {3: (14_000, 71), 2: (4_000, 72), 1: (1_000, 73)}
_READ_BACK_RATES = 5.0  # times those of a round: it has to unlearn the order in which the policy reads

# Copying the numbers of a question is what so small a model gets wrong: written-out expressions come four times as often.
_FAMILIES = (*(family.name for family in FAMILIES), *("expression",) * 3)
# How often each level occurs, by the part of the training that is done: short problems first, some of each always.
_CURRICULUM: tuple[tuple[float, tuple[int, ...]], ...] = (
    (0.12, (8, 4, 2, 1, 1)),
    (0.30, (5, 5, 4, 1, 1)),
    (1.00, (3, 5, 6, 1, 1)),
)


@dataclass(frozen=True, kw_only=True)
class PolicySettings:
    """How the policy is trained.

    Attributes:
      tokens: tokens read in all, padding apart; the schedule ends there.
      minutes: wall-clock limit, over all resumed parts; the schedule ends there if it comes first. 0: no limit.
      batch_tokens: tokens of a batch, padding included; a third of it at the start.
      muon_lr: learning rate of the weight matrices.
      adam_lr: learning rate of embeddings, norms and biases.
      warm_up: part of the training in which the rate rises.
      question_weight: weight of the question's tokens in the loss; the solution's is 1, the sandbox's output's is 0.
      checkpoint_minutes: time between checkpoints.
      compile: 1: compile the loss (needs a C++ compiler; a minute at the start, then 1.5 times the speed).
      width: hidden size, a multiple of 128.
      layers: number of layers.
      seed: of the problems and the initial weights.
    """

    tokens: int = 14_000_000
    minutes: float = 45.0
    batch_tokens: int = 9_000
    muon_lr: float = 0.02
    adam_lr: float = 0.004
    weight_decay: float = 0.02
    warm_up: float = 0.01
    question_weight: float = 0.1
    checkpoint_minutes: float = 4.0
    compile: int = 0
    width: int = 256
    layers: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.width < 128 or self.width % 128 or self.layers < 1:
            raise InvalidInput(f"width={self.width}, layers={self.layers}: give a multiple of 128, and layers >= 1")


def build_tokenizer(seed: int = 0) -> PreTrainedTokenizerFast:
    """Trains the tokenizer: byte-level BPE, digits and markers single tokens, decoding exact.

    The markers are ordinary added tokens, not special ones, so that no engine drops them from what it decodes.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY - len(steps.MARKERS),
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        min_frequency=10,
        show_progress=False,
    )
    records = generate("train", 20_000, seed)
    pieces = (piece for record in records for piece in _without_markers(lesson_of(record)))
    tokenizer.train_from_iterator(pieces, trainer)
    tokenizer.add_tokens([AddedToken(marker, normalized=False, special=False) for marker in steps.MARKERS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT_TOKENS,
    )


def lesson_of(record: Record) -> str:
    """What the bootstrap policy reads of a record: the prompt, and the worked solution where the level is an easy one."""
    prompt = steps.prompt_of(record.problem.question)
    return prompt + record.solution if record.level in FLUENT_LEVELS else prompt


def _without_markers(text: str) -> Iterator[str]:
    for marker in steps.MARKERS:
        text = text.replace(marker, "\0")
    yield from (piece for piece in text.split("\0") if piece)


def build_model(tokenizer: PreTrainedTokenizerFast, settings: PolicySettings) -> Qwen2ForCausalLM:
    """A new Qwen2, of 2.6 M parameters by default, 12 M with width 512 and 5 layers; heads of 64 (which vLLM needs), tied embeddings."""
    torch.manual_seed(settings.seed)
    config = Qwen2Config(
        vocab_size=_VOCABULARY,
        hidden_size=settings.width,
        intermediate_size=settings.width * 15 // 8,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.width // 64,
        num_key_value_heads=settings.width // 128,
        max_position_embeddings=CONTEXT_TOKENS,
        rms_norm_eps=1e-6,
        rope_theta=10_000.0,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="eager",  # plain matmul and softmax: its backward is faster than SDPA's on the CPU
    )
    return Qwen2ForCausalLM(config)


def encode(
    tokenizer: PreTrainedTokenizerFast, records: list[Record], question_weight: float
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Tokens and the loss weight of each, end of text included.

    Returns:
      For each record [L] uint16 token ids and [L] float32 weights: `question_weight` up to `<code>`, 0 from behind
      `<end_of_code>` to `<end_of_output>`, which the sandbox writes, 1 elsewhere. A question without a solution ends where its
      prompt does.
    """
    ids_of = {
        marker: tokenizer.convert_tokens_to_ids(marker) for marker in (steps.CODE, steps.END_OF_CODE, steps.END_OF_OUTPUT)
    }
    encoded = []
    for record, tokens in zip(records, tokenizer([lesson_of(record) for record in records])["input_ids"], strict=True):
        if record.level not in FLUENT_LEVELS:
            encoded.append((np.array(tokens, np.uint16), np.full(len(tokens), question_weight, np.float32)))
            continue
        ids = np.array([*tokens, tokenizer.eos_token_id], np.uint16)
        weights = np.ones(len(ids), np.float32)
        weights[: _first(ids, ids_of[steps.CODE])] = question_weight
        weights[_first(ids, ids_of[steps.END_OF_CODE]) + 1 : _first(ids, ids_of[steps.END_OF_OUTPUT]) + 1] = 0.0
        encoded.append((ids, weights))
    return encoded


def _first(ids: np.ndarray, token: int) -> int:
    return int(np.flatnonzero(ids == token)[0])


def batches(encoded: list[tuple[np.ndarray, np.ndarray]], batch_tokens: int, random: Random) -> list[list[int]]:
    """Batches of sequences of about the same length, in random order: indices into `encoded`."""
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i][0]) + random.random())
    grouped: list[list[int]] = [[]]
    for index in order:
        if (len(grouped[-1]) + 1) * len(encoded[index][0]) > batch_tokens:
            grouped.append([])
        grouped[-1].append(index)
    random.shuffle(grouped)
    return grouped


def collate(sequences: list[tuple[np.ndarray, np.ndarray]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """[B, L] int64 tokens, padded on the right, and [B, L] float32 weights, 0 on padding."""
    longest = max(len(ids) for ids, _ in sequences)
    tokens = torch.full((len(sequences), longest), pad)
    weights = torch.zeros(len(sequences), longest)
    for row, (ids, weight) in enumerate(sequences):
        tokens[row, : len(ids)] = torch.from_numpy(ids.astype(np.int64))
        weights[row, : len(ids)] = torch.from_numpy(weight)
    return tokens, weights


def loss_of(model: torch.nn.Module, tokens: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean cross entropy of each token given those before it. Causal attention makes the right padding harmless."""
    with _mixed(tokens.device):
        logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
    losses = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    wanted = weights[:, 1:].flatten()
    return (losses * wanted).sum() / wanted.sum()


def _mixed(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu" or has_bfloat16())


class PolicyTrainer:
    """The training of one policy; its state goes to disk as a whole and comes back as a whole."""

    def __init__(self, out: Path, settings: PolicySettings, resume: bool, device: str = "cpu") -> None:
        self.out, self.settings, self.device = out, settings, torch.device(device)
        out.mkdir(parents=True, exist_ok=True)
        state_path = out / _STATE_FILE
        if resume and not state_path.exists():
            raise InvalidInput(f"there is nothing to resume in {out}: start without --resume")
        if resume:
            self.tokenizer = PreTrainedTokenizerFast.from_pretrained(out)
        else:
            self.tokenizer = build_tokenizer(settings.seed)
            self.tokenizer.save_pretrained(out)
        self.model = build_model(self.tokenizer, settings).to(self.device)
        self.optimizers = optimizers_for(self.model, settings.muon_lr, settings.adam_lr, settings.weight_decay)
        self.loss_of = torch.compile(loss_of, dynamic=True) if settings.compile else loss_of
        self.tokens = self.step = self.chunk = self.batch = 0
        self.seconds = 0.0
        if resume:
            state = torch.load(state_path, map_location=self.device, weights_only=True)
            self.model.load_state_dict(state["model"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self.tokens, self.step, self.chunk, self.batch, self.seconds = state["position"]
            self.plan = state["plan"]
        else:
            self.plan = self._plan()
        held_out = encode(self.tokenizer, generate("heldout", 100, settings.seed, levels=FLUENT_LEVELS), settings.question_weight)
        self.held_out = self._collated(held_out)
        self.digits = torch.tensor(self.tokenizer.convert_tokens_to_ids(list("0123456789")), device=self.device)

    def _collated(self, sequences: list[tuple[np.ndarray, np.ndarray]]) -> tuple[torch.Tensor, torch.Tensor]:
        tokens, weights = collate(sequences, self.tokenizer.pad_token_id)
        return tokens.to(self.device), weights.to(self.device)

    def done(self) -> float:
        """The part of the training that is done, 0 to 1, by tokens or by time, whichever is further."""
        by_time = self.seconds / (60 * self.settings.minutes) if self.settings.minutes else 0.0
        return min(1.0, max(self.tokens / self.settings.tokens, by_time))

    def _plan(self) -> dict[str, Any]:
        """Level weights and batch size of the current chunk; fixed when it is begun, so that a resumed one is the same."""
        shares = next(shares for end, shares in _CURRICULUM if self.done() <= end)
        batch_tokens = self.settings.batch_tokens if self.done() > 0.3 else self.settings.batch_tokens // 2
        return {"shares": list(shares), "batch_tokens": batch_tokens}

    def run(self) -> None:
        """Trains until the schedule ends, then writes the checkpoint."""
        started, saved_at = time.monotonic() - self.seconds, time.monotonic()
        recent: list[float] = []
        mark = (self.seconds, self.tokens)
        while self.done() < 1.0:
            random = Random(f"{self.settings.seed} {self.chunk}")
            levels = [level for level, share in enumerate(self.plan["shares"], 1) for _ in range(share)]
            random.shuffle(levels)
            records = generate("train", _CHUNK_PROBLEMS, random.randrange(2**40), levels=levels, families=_FAMILIES)
            encoded = encode(self.tokenizer, records, self.settings.question_weight)
            grouped = batches(encoded, self.plan["batch_tokens"], random)
            while self.batch < len(grouped) and self.done() < 1.0:
                sequences = [encoded[i] for i in grouped[self.batch]]
                recent.append(self._train(sequences))
                self.batch += 1
                self.step += 1
                self.tokens += sum(len(ids) for ids, _ in sequences)
                self.seconds = time.monotonic() - started
                if self.step % 50 == 0:
                    rate = (self.tokens - mark[1]) / (self.seconds - mark[0])
                    mark = (self.seconds, self.tokens)
                    self._log(loss=round(sum(recent) / len(recent), 4), tokens_per_s=round(rate), lr=round(self._lr(), 4))
                    recent = []
                if time.monotonic() - saved_at > 60 * self.settings.checkpoint_minutes:
                    saved_at = time.monotonic()
                    self._check()
                    self.save()
            if self.batch >= len(grouped):
                self.chunk, self.batch = self.chunk + 1, 0
                self.plan = self._plan()
        self._check()
        self.save()

    def _lr(self) -> float:
        """The factor of the learning rates: a linear rise, then a cosine fall to zero."""
        done, warm_up = self.done(), self.settings.warm_up
        return done / warm_up + 0.02 if done < warm_up else 0.5 + 0.5 * math.cos(math.pi * (done - warm_up) / (1 - warm_up))

    def _train(self, sequences: list[tuple[np.ndarray, np.ndarray]]) -> float:
        loss = self.loss_of(self.model, *self._collated(sequences))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        factor = self._lr()
        for optimizer, lr in zip(self.optimizers, (self.settings.muon_lr, self.settings.adam_lr), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = lr * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss.item()

    @torch.no_grad()
    def _check(self) -> None:
        """Held-out loss, and how often every digit of a level's worked solution is foreseen, the text before it given."""
        tokens, weights = self.held_out
        with _mixed(self.device):
            logits = self.model(input_ids=tokens[:, :-1], use_cache=False).logits
        foreseen = logits.argmax(-1) == tokens[:, 1:]
        counts = (weights[:, 1:] == 1.0) & torch.isin(tokens[:, 1:], self.digits)
        all_right = (foreseen | ~counts).all(1).float()
        by_level = [round(float(all_right[at :: len(FLUENT_LEVELS)].mean()), 3) for at in range(len(FLUENT_LEVELS))]
        self._log(heldout_loss=round(float(loss_of(self.model, tokens, weights)), 4), digits_right_by_level=by_level)

    def _log(self, **values: Any) -> None:
        line = json.dumps({"step": self.step, "tokens": self.tokens, "minutes": round(self.seconds / 60, 2), **values})
        with open(self.out / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)

    def save(self) -> None:
        """Writes the checkpoint (bf16) and the state, each replaced as a whole."""
        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "position": [self.tokens, self.step, self.chunk, self.batch, self.seconds],
            "plan": self.plan,
            "settings": dataclasses.asdict(self.settings),
        }
        partial = self.out / f"{_STATE_FILE}.partial"
        torch.save(state, partial)
        os.replace(partial, self.out / _STATE_FILE)
        copy = build_model(self.tokenizer, self.settings).to(torch.bfloat16)
        copy.load_state_dict(self.model.state_dict())
        copy.generation_config = GenerationConfig(
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
            do_sample=True,
            temperature=1.0,
            max_new_tokens=_STEP_TOKENS,
        )
        copy.save_pretrained(self.out)


def train_bootstrap(policy: Path, out: Path) -> None:
    """Trains a policy on the programs that the bootstrap policy reads last, as a round of the evolution trains one, but until they
    teach it no more: what the rounds gain must not be what reading the same once more would give."""
    out.mkdir(parents=True, exist_ok=True)
    data = out.with_name(f"{out.name}.jsonl")
    write_whole(data, worked(read_last()))
    settings = yaml.safe_load(EVOLUTION.read_text("utf-8"))["policy_training"]
    train_policy(data, out, policy=str(policy), **{**settings, "epochs": _BOOTSTRAP_EPOCHS})


def train_bootstrap_ppm(policy: Path, out: Path) -> None:
    """Trains the PPM with which evolution starts, of the kind "channel": once through the worked programs of fluent levels."""
    out.parent.mkdir(parents=True, exist_ok=True)
    data, trained = (out.with_name(f"{out.name}{end}") for end in (".jsonl", ".training"))
    write_whole(data, turned([r for level, (n, seed) in _READ_BACK.items() for r in generate("train", n, seed, levels=(level,))], seed=4))
    rounds = yaml.safe_load(EVOLUTION.read_text("utf-8"))
    settings, of_ppm = rounds["policy_training"], rounds["ppm_training"]
    rates = {name: settings[name] * _READ_BACK_RATES for name in ("learning_rate", "muon_learning_rate")}
    train_policy(data, trained, policy=str(policy), **{**settings, **rates, "epochs": 1, "seed": 1})
    model = ppm_model.channel_from_policy(str(trained), scale=of_ppm["scale"], bias=of_ppm["bias"], dtype=torch.bfloat16)
    ppm_model.save(model, load_tokenizer(str(trained), "PPM"), out)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m rstar_fast.training.nano", description="Train the nano checkpoints.")
    commands = parser.add_subparsers(dest="command", required=True)
    policy = commands.add_parser("policy", help="pretrain the policy on generated problems")
    policy.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    policy.add_argument("--resume", action="store_true", help="go on from the state in --out")
    policy.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    policy.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    for field in dataclasses.fields(PolicySettings):
        kind = int if isinstance(field.default, int) else float
        policy.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    bootstrap = commands.add_parser("bootstrap", help="train the policy on a little of the level above")
    ppm = commands.add_parser("bootstrap-ppm", help="train a PPM from the bootstrap policy that tells questions from worked programs")
    for command, of in ((bootstrap, "the policy's checkpoint"), (ppm, "the bootstrap policy's checkpoint")):
        command.add_argument("--policy", type=Path, required=True, help=f"folder of {of}")
        command.add_argument("--out", type=Path, required=True, help="folder of the checkpoint; the data goes to a file beside it")
    given = vars(parser.parse_args(arguments))
    if given["command"] != "policy":
        {"bootstrap": train_bootstrap, "bootstrap-ppm": train_bootstrap_ppm}[given["command"]](given["policy"], given["out"])
        return
    torch.set_num_threads(given["threads"])
    settings = PolicySettings(**{field.name: given[field.name] for field in dataclasses.fields(PolicySettings)})
    PolicyTrainer(given["out"], settings, given["resume"], given["device"]).run()


if __name__ == "__main__":
    main()
