"""The process preference model: a sequence-classification model with one label that values partial solutions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rstar_fast._openmp  # noqa: F401  # before torch
from rstar_fast.types import InvalidInput, Scorer

_VLLM = "vllm:"


def load_scorer(name: str | Path, **settings: Any) -> Scorer:
    """Opens a PPM.

    Args:
      name: "nano"; "vllm:NAME"; "http://..." or "https://..." of a server that classifies; otherwise a checkpoint's folder or
        hub name.
      **settings: of the scorer's class, e.g. device="cpu"; see PpmScorer, ChannelScorer, VllmScorer and HttpScorer.

    Raises:
      InvalidInput: there is no such checkpoint, or it is no PPM, or a setting is unknown.
    """
    if str(name).startswith(("http://", "https://")):
        from rstar_fast.ppm.http import HttpScorer

        opened: Any = HttpScorer.from_url
    elif str(name).startswith(_VLLM):
        from rstar_fast.ppm.vllm import VllmScorer

        opened, name = VllmScorer.from_pretrained, str(name).removeprefix(_VLLM)
    else:
        from rstar_fast.ppm.channel import ChannelScorer
        from rstar_fast.ppm.model import reads_back
        from rstar_fast.ppm.scorer import PpmScorer

        if name == "nano":
            from rstar_fast.nano import PPM as name
        opened = ChannelScorer.from_pretrained if reads_back(str(name)) else PpmScorer.from_pretrained
    try:
        return opened(str(name), **settings)
    except TypeError as error:  # a keyword the class does not know
        sentence = f"the PPM {str(name)!r} does not take these settings ({error}): see {opened.__qualname__}"
        raise InvalidInput(sentence) from error
