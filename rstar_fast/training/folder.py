"""The folder of a training: what it was told, its log, the states it goes on from, and in the end the checkpoint.

out/training.json         what it was told; a training goes on only if it is told the same
out/log.jsonl             a line for each update
out/.training/            while it lasts: the Trainer's checkpoints; `complete` in one says that it was written to its end
out/config.json, ...      when it is done: the checkpoint, which takes the whole folder's place in one step
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rstar_fast.policies.saving import replaced
from rstar_fast.storage.atomic import remove_leftovers, write_whole
from rstar_fast.storage.folder import lock
from rstar_fast.types import InvalidInput, OutOfSpace

_TOLD, _LOG, _STATE, _COMPLETE = "training.json", "log.jsonl", ".training", "complete"
_LITTLE_BYTES = 1 << 20


class TrainingFolder:
    """See the module.

    Args:
      path: new, empty, or of a training that was told the same, or has not come to a state yet.
      told: what the training is told: plain values. Those of `free` may change when it goes on.

    Raises:
      InvalidInput: the folder is a file, holds something else, or a training that was told otherwise.
    """

    def __init__(self, path: str | Path, told: Mapping[str, Any], free: tuple[str, ...] = ()) -> None:
        self.path, self._told = Path(path), json.loads(json.dumps(told))
        if self.path.exists() and not self.path.is_dir():
            raise InvalidInput(f"{self.path} is a file: give a folder for the checkpoint")
        if not self.path.is_dir() or not any(self.path.iterdir()):
            return
        try:
            before = json.loads((self.path / _TOLD).read_text("utf-8"))
        except (OSError, ValueError):
            if {entry.name for entry in self.path.iterdir()} <= {_STATE, f"{_TOLD}.tmp"}:  # killed at its very beginning
                return
            raise InvalidInput(f"{self.path} holds files but no training: give a new or an empty folder") from None
        if not self.is_done and self.last_state() is None:  # nothing is lost: a mistake may be mended
            return
        for name in sorted({*before, *self._told} - set(free)):
            old, new = before.get(name), self._told.get(name)
            if old != new:
                raise InvalidInput(
                    f"{self.path} holds a training with {name}={old!r}, and now {name} is {new!r}: "
                    "give the same to go on, or another folder"
                )

    @property
    def state(self) -> Path:
        """Where the Trainer writes its checkpoints."""
        return self.path / _STATE

    @property
    def is_done(self) -> bool:
        """The checkpoint is there."""
        return (self.path / "config.json").is_file()

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Makes the folder, and keeps others from training into it.

        Raises:
          InvalidInput: another process trains into it.
        """
        self.state.mkdir(parents=True, exist_ok=True)
        held = lock(self.state)
        try:
            write_json(self.path / _TOLD, self._told)
            remove_leftovers(self.path)
            for checkpoint in self.state.glob("checkpoint-*"):
                if not (checkpoint / _COMPLETE).exists():
                    shutil.rmtree(checkpoint)
            yield
        finally:
            os.close(held)

    def remove_leftovers(self) -> None:
        """Removes what a kill has left beside a training that is done: states, if it came between the checkpoint and their removal."""
        with suppress(FileNotFoundError):  # the process that has just finished removes them too
            remove_leftovers(self.path)

    def last_state(self) -> Path | None:
        """The Trainer's last whole checkpoint."""
        found = [path.parent for path in self.state.glob(f"checkpoint-*/{_COMPLETE}")]
        return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)

    def state_is_whole(self, step: int) -> None:
        """Notes that the checkpoint of an update was written to its end, which is on the disk then."""
        folder = self.state / f"checkpoint-{step}"
        for path in folder.rglob("*"):
            if path.is_file():
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
        (folder / _COMPLETE).touch()

    def log(self, line: Mapping[str, Any]) -> None:
        """Adds a line to the log."""
        with open(self.path / _LOG, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def begin_log(self, first: Mapping[str, Any], step: int) -> None:
        """Writes the log's first line, and drops the lines of updates after a step, which will be done again."""
        lines = [json.dumps(first)]
        if (self.path / _LOG).exists():
            for line in (self.path / _LOG).read_text("utf-8").splitlines()[1:]:
                try:
                    if json.loads(line)["step"] <= step:
                        lines.append(line)
                except ValueError:  # cut by a kill
                    continue
        write_whole(self.path / _LOG, "\n".join(lines) + "\n")

    def finish(self, save: Callable[[Path], None]) -> None:
        """Lets `save` write the checkpoint into a new folder, which then takes this one's place; the states are gone."""
        with replaced(self.path) as folder:
            save(folder)
            for name in (_TOLD, _LOG):
                if (self.path / name).exists():
                    shutil.copyfile(self.path / name, folder / name)


def write_json(path: Path, value: Any) -> None:
    """Writes a file as a whole."""
    write_whole(path, json.dumps(value, indent=1) + "\n")


@contextmanager
def told_of_a_full_disk(path: Path) -> Iterator[None]:
    """Turns what each library makes of a full disk into one sentence.

    Raises:
      OutOfSpace: the disk was full.
    """
    try:
        yield
    except Exception as error:
        if not _is_of_a_full_disk(error, path):
            raise
        raise OutOfSpace(
            f"the disk of {path} is full ({' '.join(str(error).split())[:200]}): "
            "make room, and the same call goes on from the last state that was written"
        ) from error


def _is_of_a_full_disk(error: BaseException, path: Path) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    text = str(error)
    if "os error 28" in text or "No space left" in text or "StorageFull" in text:  # safetensors, tokenizers
        return True
    # torch only says that it could not write.
    return isinstance(error, RuntimeError | OSError) and shutil.disk_usage(_existing(path)).free < _LITTLE_BYTES


def _existing(path: Path) -> Path:
    path = path.resolve()
    return path if path.exists() else _existing(path.parent)
