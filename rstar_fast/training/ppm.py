"""Trains a PPM on preference pairs (rStar-Math, section 3.3), by transformers' Trainer."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rstar_fast.config import PpmKind, PpmTrainingConfig
from rstar_fast.training.datasets import digest
from rstar_fast.training.folder import TrainingFolder, write_json
from rstar_fast.training.session import require_libraries, session, settled
from rstar_fast.types import InvalidInput, TrainingProgress

if TYPE_CHECKING:
    from transformers import TrainingArguments

EVALUATION = "evaluation.json"


def train_ppm(
    data: str | Path,
    out: str | Path,
    *,
    policy: str = "nano",
    heldout: str | Path | None = None,
    solutions: str | Path | None = None,
    config: PpmTrainingConfig | None = None,
    progress: TrainingProgress | None = None,
    **settings: Any,
) -> dict[str, Any] | None:
    """Trains a PPM from a policy's checkpoint on pairs of steps that share their prefix.

    The loss is -(1 / (P * N)) * sum log sigmoid(r(x, y+) - r(x, y-)) over the pairs of a group, and its mean over groups
    (kernels.pairwise_loss), where r is what `kind` says. A group's shared tokens are computed once. What was killed goes on as `train_policy` does.

    Args:
      data: a .parquet or .jsonl file with a text `prompt`, `chosen` and `rejected` in each row, as `extract` writes it, or the
        pairs.json of its format "reference"; rows with one `group`, or where there is no such column with one prompt, are of one group.
      out: folder of the checkpoint. It holds the log (log.jsonl) from the beginning, and what transformers'
        AutoModelForSequenceClassification and `load_scorer` load at the end.
      policy: "nano", or folder or hub name of the causal language model whose body the PPM gets.
      heldout: pairs of problems that `data` does not have; the PPM is measured on them, and `out` gets evaluation.json.
      solutions: right solutions, as `train_policy` takes them; only for the kind "channel", which learns to read questions back from
        them, from whole ones and from their first steps.
      config: the settings; by default the reference's.
      progress: is told the updates done, the updates in all, and the loss of the last.
      **settings: single settings, which override config's; see PpmTrainingConfig.

    Returns:
      The evaluation, see `ppm_evaluation.evaluate`; None without `heldout`, and in all processes but the main one.

    Raises:
      InvalidInput: the data, the policy or a setting is unusable, `heldout` shares problems with `data`, or `out` holds something
        else.
      TrainingDiverged: a loss or gradient became infinite or NaN.
      OutOfSpace: the disk is full.
    """
    config = settled(PpmTrainingConfig, config, settings)
    require_libraries()
    from transformers import TrainingArguments

    out = Path(out)
    if solutions is not None and config.kind is not PpmKind.CHANNEL:
        raise InvalidInput(f"solutions are for a PPM of kind 'channel', and this is to be a {config.kind.value!r}: leave them out, or set kind")
    told = {"trained": "ppm", "policy": str(policy), "data": _digest(data), **config.to_mapping()}
    if solutions is not None:
        told["solutions"] = _digest(solutions)
    own = {
        "num_train_epochs": 1,
        "per_device_train_batch_size": 1,
        "train_sampling_strategy": "sequential",
        "remove_unused_columns": False,
    }
    with session(TrainingArguments, config, out, told, own) as (folder, arguments):
        if not folder.is_done:
            _train(data, heldout, solutions, folder, arguments, str(policy), config, progress)
        if heldout is None or arguments.process_index > 0:
            return None
        return _evaluated(out, heldout, config)


def _train(
    data: str | Path,
    heldout: str | Path | None,
    solutions: str | Path | None,
    folder: TrainingFolder,
    arguments: TrainingArguments,
    policy: str,
    config: PpmTrainingConfig,
    progress: TrainingProgress | None,
) -> None:
    from rstar_fast.nano import POLICY
    from rstar_fast.policies.checkpoint import context_tokens, load_tokenizer, quiet
    from rstar_fast.ppm.attention import attending, check_model
    from rstar_fast.training import trainer as shared
    from rstar_fast.training.models import dtype_of, in_half, lora_of, make_ppm
    from rstar_fast.training.ppm_trainer import PpmTrainer
    from rstar_fast.training.preferences import plan, read_groups, read_solutions

    name = str(POLICY) if policy == "nano" else policy
    tokenizer = load_tokenizer(name, "policy")
    make = partial(make_ppm, name, config)
    model = make(in_half=in_half(arguments, config))
    check_model(model)
    longest = min(config.max_tokens, context_tokens(model))
    groups, left_out = read_groups(data, tokenizer, longest, config.kind)
    if solutions is not None:
        more, too_long = read_solutions(solutions, tokenizer, longest, config.seed)
        groups, left_out = groups + more, left_out + too_long
    if heldout is not None:  # before the hours
        both = {group.problem for group in groups} & {group.problem for group in read_groups(heldout, tokenizer, longest, config.kind)[0]}
        if both:
            raise InvalidInput(
                f"{heldout} shares {len(both)} problems with {data}, e.g. {min(both)[:80]!r}: hold out whole problems"
            )
    arguments.gradient_accumulation_steps, packs = plan(
        [group.tokens for group in groups],
        batch=config.batch,
        batch_tokens=config.batch_tokens,
        devices=arguments.world_size,
        epochs=config.epochs,
        seed=config.seed,
    )
    pairs = sum(len(group.better) for group in groups)
    first = {"groups": len(groups), "pairs": pairs, "left_out": left_out, "max_tokens": longest}
    first |= {"tokens": sum(group.tokens for group in groups)}
    first |= {"tokens_of_all_texts": sum(len(group.prefix) + len(group.tails[at]) for group in groups for at in (*group.better, *group.worse))}
    lora = lora_of(model, config)
    trainer = PpmTrainer(model, lora, groups, packs, config, arguments)
    with quiet(), attending(model):
        shared.train(trainer, folder, config, first, progress)
    shared.finish(trainer, folder, tokenizer, partial(make, lora=lora), dtype_of(name))


def _evaluated(out: Path, heldout: str | Path, config: PpmTrainingConfig) -> dict[str, Any]:
    """The evaluation on these pairs; that of an earlier call, if there is one."""
    from rstar_fast.training.ppm_evaluation import evaluate

    path, told = out / EVALUATION, _digest(heldout)
    try:
        before = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        before = {}
    if before.get("heldout") == told:
        return before
    found = {
        "heldout": told,
        **evaluate(str(out), heldout, max_tokens=config.max_tokens, batch_tokens=config.batch_tokens, seed=config.seed),
    }
    write_json(path, found)
    return found


def _digest(path: str | Path) -> str:
    try:
        return digest(path)
    except OSError as error:
        raise InvalidInput(
            f"{path} cannot be read ({error.strerror}): give a dataset, as `rstar-fast extract` writes"
        ) from None
