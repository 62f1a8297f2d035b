"""What begins and ends every training: its settings, its libraries, its folder, its processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import rstar_fast._openmp  # noqa: F401  # before torch
from rstar_fast.config import PolicyTrainingConfig, PpmTrainingConfig
from rstar_fast.training.folder import TrainingFolder, told_of_a_full_disk
from rstar_fast.types import InvalidInput

if TYPE_CHECKING:
    from transformers import TrainingArguments

_Config = TypeVar("_Config", PolicyTrainingConfig, PpmTrainingConfig)
_LIBRARIES = ("accelerate", "datasets", "peft", "trl")


def settled(kind: type[_Config], config: _Config | None, settings: Mapping[str, Any]) -> _Config:
    """The config with single settings put in.

    Raises:
      InvalidInput: config is something else, or a setting is unknown or out of its range.
    """
    if config is None:
        return kind.from_mapping(settings)
    if not isinstance(config, kind):
        raise InvalidInput(f"config is a {type(config).__name__}: give a {kind.__name__}, or None for its defaults")
    return config.replace(**settings)


def require_libraries() -> None:
    """Whether the libraries of the extra `train` are there.

    Raises:
      InvalidInput: one is missing.
    """
    missing = [name for name in _LIBRARIES if find_spec(name) is None]
    if missing:
        raise InvalidInput(f"training needs {', '.join(missing)}: install with pip install 'rstar_fast[train]'")


@contextmanager
def session(
    kind: type[TrainingArguments],
    config: PolicyTrainingConfig | PpmTrainingConfig,
    out: str | Path,
    told: Mapping[str, Any],
    own: Mapping[str, Any],
) -> Iterator[tuple[TrainingFolder, TrainingArguments]]:
    """A training's folder, held by the main process while the training lasts, and its arguments in every process.

    Args:
      kind: of the arguments.
      told: what makes it another training when it changes; a folder holds one.
      own: arguments of the kind.

    Raises:
      InvalidInput: the folder is used by another training, or by another process.
      OutOfSpace: the disk was full.
    """
    from rstar_fast.training.trainer import arguments

    path = Path(out)
    made = arguments(kind, config, path / ".training", **own)
    with told_of_a_full_disk(path), ExitStack() as held:
        if made.process_index == 0:
            folder = TrainingFolder(path, told, config.changes_no_result)
            if folder.is_done:
                folder.remove_leftovers()
            else:
                held.enter_context(folder.opened())
        made.distributed_state.wait_for_everyone()
        if made.process_index > 0:
            folder = TrainingFolder(path, told, config.changes_no_result)
        yield folder, made
