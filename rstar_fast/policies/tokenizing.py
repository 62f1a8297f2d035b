"""Tokens of partial solutions, each piece of a text tokenized once.

A text may be cut behind a marker where the tokenizer knows the marker as a token of its own: it then takes such tokens out of a text
before all else, so that what stands on one side has no say in the tokens of the other.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from rstar_fast import steps

_MOST_PIECES = 200_000  # kept, of all problems


class PieceTokenizer:
    """Tokenizes texts whose beginnings come again and again.

    Args:
      tokenizer: of any kind; where it does not allow cuts, texts are tokenized as a whole.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        markers = markers_to_cut_behind(tokenizer)
        self._piece = re.compile(rf".*?(?:{'|'.join(map(re.escape, markers))})|.+", re.DOTALL) if markers else None
        self._kept: OrderedDict[tuple[bool, str], np.ndarray] = OrderedDict()

    def __call__(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The tokens of each text as the tokenizer gives them, special ones included: [n] int32 each."""
        pieces = [
            [(at == 0, piece) for at, piece in enumerate(self._piece.findall(text))] if self._piece and text else [(True, text)]
            for text in texts
        ]
        asked = dict.fromkeys(piece for of_text in pieces for piece in of_text)
        tokens = {piece: self._kept[piece] for piece in asked if piece in self._kept}
        for first in (True, False):
            new = [piece for piece in asked if piece[0] == first and piece not in tokens]
            if new:
                # Not verbose: a text that is too long is its caller's error.
                found = self._tokenizer([text for _, text in new], add_special_tokens=first, verbose=False)["input_ids"]
                tokens.update(zip(new, (np.array(ids, np.int32) for ids in found), strict=True))
        if self._piece is not None:
            self._keep(tokens)
        return [np.concatenate([tokens[piece] for piece in of_text]) for of_text in pieces]

    def _keep(self, tokens: dict[tuple[bool, str], np.ndarray]) -> None:
        for piece, ids in tokens.items():
            self._kept[piece] = ids
            self._kept.move_to_end(piece)
        while len(self._kept) > _MOST_PIECES:
            self._kept.popitem(last=False)


def markers_to_cut_behind(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """The markers of steps behind which a text may be cut; none where one cannot be sure."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return ()
    form = json.loads(backend.to_str())
    # Metaspace can treat a text's beginning unlike that of what follows a marker; a post-processor can add to the end.
    if '"Metaspace"' in json.dumps(form["pre_tokenizer"]) or form["truncation"] or _added_to_the_end(tokenizer):
        return ()
    added = {token["content"]: token for token in form["added_tokens"]}
    return tuple(
        marker
        for marker in steps.MARKERS
        if marker in added
        and not any(added[marker][name] for name in ("normalized", "lstrip", "rstrip", "single_word"))
        and not any(_may_take_part_of(other, marker) for other in added if other != marker)
    )


def _added_to_the_end(tokenizer: PreTrainedTokenizerBase) -> bool:
    plain, whole = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    return whole[-1:] != plain[-1:]


def _may_take_part_of(other: str, marker: str) -> bool:
    """Whether a token could stand where a marker stands: it holds it, or ends with what the marker begins with."""
    return marker in other or any(other.endswith(marker[:length]) for length in range(1, len(marker)))
