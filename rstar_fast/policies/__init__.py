"""Policies by name: the embedded nano, transformers checkpoints, vLLM, and OpenAI-compatible servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rstar_fast._openmp  # noqa: F401  # before torch
from rstar_fast.types import InvalidInput, Policy

_VLLM = "vllm:"


def load_policy(name: str | Path, *, seed: int = 0, **settings: Any) -> Policy:
    """Opens a policy.

    Args:
      name: "nano"; "vllm:NAME"; "http://..." or "https://..." of an OpenAI-compatible server; otherwise a checkpoint's folder or
        hub name, for transformers.
      seed: of the sampling.
      **settings: of the policy's class, e.g. temperature=0.7; see TransformersPolicy, VllmPolicy and HttpPolicy.

    Raises:
      InvalidInput: there is no such checkpoint, or it is none, or a setting is unknown.
    """
    if str(name).startswith(("http://", "https://")):
        from rstar_fast.policies.http import HttpPolicy

        opened: Any = HttpPolicy.from_url
    elif str(name).startswith(_VLLM):
        from rstar_fast.policies.vllm import VllmPolicy

        opened, name = VllmPolicy.from_pretrained, str(name).removeprefix(_VLLM)
    else:
        from rstar_fast.policies.transformers import TransformersPolicy

        opened = TransformersPolicy.from_pretrained
        if name == "nano":
            from rstar_fast.nano import POLICY as name
    try:
        return opened(str(name), seed=seed, **settings)
    except TypeError as error:  # a keyword the class does not know
        raise InvalidInput(f"the policy {str(name)!r} does not take these settings ({error}): see {opened.__qualname__}") from error
