"""Solutions as the tokens a policy is trained on. R rows, L tokens of one."""

from __future__ import annotations

from itertools import pairwise

import datasets
import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerBase
from trl import pack_dataset

from rstar_fast import steps
from rstar_fast.types import InvalidInput

NO_LOSS = -100
_CHUNK = 1_000
_SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))])


def tokenized(
    table: pa.Table, tokenizer: PreTrainedTokenizerBase, longest: int, mask_output: bool
) -> tuple[datasets.Dataset, int]:
    """Tokenizes prompts and completions.

    The text is tokenized as a whole, and the completion begins where its tokens part from the prompt's. It ends in the end of
    text. A solution that is too long is left out: cut, it would teach to stop in the middle.

    Args:
      table: text columns `prompt` and `completion`.
      longest: most tokens of a sequence.
      mask_output: no loss on what the sandbox writes.

    Returns:
      R rows of `input_ids` [L] and `labels` [L], NO_LOSS where there is none; and how many solutions were left out.

    Raises:
      InvalidInput: nothing is left.
    """
    if tokenizer.eos_token_id is None:
        raise InvalidInput("the policy's tokenizer has no end of text: set its eos_token")
    chunks, left_out = [], 0
    for batch in table.to_batches(max_chunksize=_CHUNK):
        prompts, completions = (batch.column(name).to_pylist() for name in ("prompt", "completion"))
        rows = [
            _row(prompt, whole, tokenizer, mask_output)
            for prompt, whole in zip(
                _ids(tokenizer, prompts),
                _ids(tokenizer, [a + b for a, b in zip(prompts, completions, strict=True)]),
                strict=True,
            )
        ]
        kept = [row for row in rows if len(row[0]) <= longest and (row[1] != NO_LOSS).any()]
        left_out += len(rows) - len(kept)
        chunks.append(pa.record_batch([[ids for ids, _ in kept], [labels for _, labels in kept]], schema=_SCHEMA))
    dataset = datasets.Dataset(pa.Table.from_batches(chunks, _SCHEMA))
    if not len(dataset):
        raise InvalidInput(
            f"all {left_out} solutions are longer than {longest} tokens, or empty: raise max_tokens, or give others"
        )
    return dataset, left_out


def packed(dataset: datasets.Dataset, longest: int) -> datasets.Dataset:
    """Packs sequences into rows of at most so many tokens, best fit first; none is cut. `seq_lengths` tells them apart."""
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        return pack_dataset(dataset, longest, "bfd")
    finally:
        if shown:
            datasets.enable_progress_bars()


def _ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    return tokenizer([steps.without_surrogates(text) for text in texts], verbose=False)["input_ids"]


def _row(
    prompt: list[int], whole: list[int], tokenizer: PreTrainedTokenizerBase, mask_output: bool
) -> tuple[np.ndarray, np.ndarray]:
    if whole[-1:] != [tokenizer.eos_token_id]:
        whole = [*whole, tokenizer.eos_token_id]
    ids = np.array(whole, np.int32)
    labels = ids.copy()
    shared = min(len(prompt), len(ids))
    differs = np.flatnonzero(np.array(prompt[:shared], np.int32) != ids[:shared])
    labels[: differs[0] if len(differs) else shared] = NO_LOSS
    if mask_output:
        for begin, end in _outputs(ids, tokenizer):
            labels[begin:end] = NO_LOSS
    return ids, labels


def _outputs(ids: np.ndarray, tokenizer: PreTrainedTokenizerBase) -> list[tuple[int, int]]:
    """Where the sandbox writes: from behind `<end_of_code>` to `<end_of_output>`, which is included; as `steps.render` has it."""
    ends_code, output, ends_output = tokenizer.convert_tokens_to_ids([steps.END_OF_CODE, steps.OUTPUT, steps.END_OF_OUTPUT])
    marks = [(int(at), int(ids[at])) for at in np.flatnonzero(np.isin(ids, (ends_code, output, ends_output)))]
    found = []
    for (code, first), (begin, second) in pairwise(marks):
        if first == ends_code and second == output:
            end = next((at for at, mark in marks if at > begin and mark == ends_output), len(ids) - 1)
            found.append((code + 1, end + 1))
    return found
