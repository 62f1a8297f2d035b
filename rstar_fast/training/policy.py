"""Trains a policy on solutions (rStar-Math, section 3.4), by TRL's SFTTrainer."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rstar_fast.config import PolicyTrainingConfig
from rstar_fast.training.datasets import digest, read_table
from rstar_fast.training.session import require_libraries, session, settled
from rstar_fast.types import TrainingProgress

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import TrainingArguments

    from rstar_fast.training.folder import TrainingFolder


def train_policy(
    data: str | Path,
    out: str | Path,
    *,
    policy: str = "nano",
    config: PolicyTrainingConfig | None = None,
    progress: TrainingProgress | None = None,
    **settings: Any,
) -> Path:
    """Trains a policy on solutions: the loss is on what the policy writes, not on what it reads.

    A training that was killed, or whose disk was full, goes on from its last state when it is called again with the same
    arguments; one that is done is not done again. For several GPUs start it with `accelerate launch`.

    Args:
      data: a .parquet or .jsonl file with a text `prompt` and `completion` in each row, as `extract` writes it, or the sft.json of
        its format "reference".
      out: folder of the checkpoint. It holds the log (log.jsonl) from the beginning, and what transformers'
        AutoModelForCausalLM loads at the end.
      policy: "nano", or folder or hub name of a causal language model. Where its tokenizer lacks the markers of steps as single
        tokens, they are added.
      config: the settings; by default the paper's.
      progress: is told the updates done, the updates in all, and the loss of the last.
      **settings: single settings, which override config's; see PolicyTrainingConfig.

    Returns:
      The folder of the checkpoint.

    Raises:
      InvalidInput: the data, the policy or a setting is unusable, or `out` holds something else.
      TrainingDiverged: a loss or gradient became infinite or NaN.
      OutOfSpace: the disk is full.
    """
    config = settled(PolicyTrainingConfig, config, settings)
    table = read_table(data, ("prompt", "completion"))
    require_libraries()
    from trl import SFTConfig

    told = {"trained": "policy", "policy": str(policy), "data": digest(data), **config.to_mapping()}
    own = {"num_train_epochs": config.epochs, "max_steps": config.updates or -1, "padding_free": config.packing, "max_length": None}
    with session(SFTConfig, config, out, told, own) as (folder, arguments):
        if not folder.is_done:
            _train(table, folder, arguments, str(policy), config, progress)
    return Path(out)


def _train(
    table: pa.Table,
    folder: TrainingFolder,
    arguments: TrainingArguments,
    policy: str,
    config: PolicyTrainingConfig,
    progress: TrainingProgress | None,
) -> None:
    from trl import SFTTrainer

    from rstar_fast.nano import POLICY
    from rstar_fast.policies.checkpoint import context_tokens, load_tokenizer, quiet
    from rstar_fast.training import trainer as shared
    from rstar_fast.training.markers import add_markers
    from rstar_fast.training.models import check_packing, dtype_of, in_half, lora_of, make_policy, with_adapters
    from rstar_fast.training.solutions import packed, tokenized

    name = str(POLICY) if policy == "nano" else policy
    tokenizer = load_tokenizer(name, "policy")
    new = add_markers(tokenizer)
    make = partial(make_policy, name, new)
    model = make(in_half=in_half(arguments, config))
    lora = lora_of(model, config, new)
    if config.packing:
        check_packing(model)
    longest = min(config.max_tokens, context_tokens(model))
    dataset, left_out = tokenized(table, tokenizer, longest, config.mask_output)
    solutions = len(dataset)
    if config.packing:
        dataset = packed(dataset, longest)
    rows = config.batch * len(dataset) / solutions
    # Packed rows are one sequence to attention, whose cost without a kernel for it grows with the square: on a CPU 16 rows of 512
    # tokens at a time took 17 s an update where 2 took 4.5 (Zen 1, beside other work).
    at_once = 1 if arguments.use_cpu and config.packing else config.device_batch
    arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps, batch = shared.micro_steps(
        max(1, round(rows)), at_once, arguments.world_size
    )
    first = {"solutions": solutions, "left_out": left_out, "max_tokens": longest, "new_tokens": len(new)}
    first |= {"rows": len(dataset), "batch_rows": batch}

    class PolicyTrainer(shared.Watched, SFTTrainer):
        """See the two."""

    with quiet(), _quiet_trl():
        trainer = PolicyTrainer(
            with_adapters(model, lora, config.seed),
            arguments,
            train_dataset=dataset,
            processing_class=tokenizer,
            optimizers=(shared.optimizer_of(model, config), None),
        )
        shared.train(trainer, folder, config, first, progress)
        shared.finish(trainer, folder, tokenizer, partial(make, lora=lora), dtype_of(name))


@contextmanager
def _quiet_trl() -> Iterator[None]:
    """No advice against one row at a time, which `micro_steps` may have to choose."""
    logger = logging.getLogger("trl.trainer.sft_trainer")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
