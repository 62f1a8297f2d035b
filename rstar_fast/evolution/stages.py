"""The state machine on disk: stages that are done leave a record, and are not done again.

    evolution.json                 the settings; an evolution is continued with the same only
    problems/                      files that came with the evolution (nano.py)
    run.lock                       locked while a process works on it
    round-1/records/search.json    what a stage gave, written as a whole when it is done
    round-1/records/search.time    seconds that it has taken so far, kills included
    round-1/...                    what the stages make (rounds.py)
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rstar_fast.storage.atomic import write_whole
from rstar_fast.storage.folder import lock
from rstar_fast.storage.manifest import FILE as MANIFEST
from rstar_fast.storage.manifest import differences, plain
from rstar_fast.types import InvalidInput, RstarError

FILE = "evolution.json"
_FORMAT = "rstar_fast evolution"
_CLOCK_S = 5.0

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the work that is done, or not.

    Attributes:
      round: its round, counted from 1.
      name: unique in its round.
      says: what it does, for a reader.
      problems: most problems that it searches; 0 where it searches none.
      work: does it, or goes on with it; gives what is to be recorded, as plain values.
    """

    round: int
    name: str
    says: str
    problems: int
    work: Callable[[], Record]


class Records:
    """What the stages of an evolution gave.

    Args:
      folder: of the evolution.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def folder(self, round_: int) -> Path:
        """A round's folder."""
        return self._folder / f"round-{round_}"

    def get(self, round_: int, stage: str) -> Record | None:
        """What a stage gave, and the `seconds` it took; None where it is not done.

        Raises:
          InvalidInput: the record is damaged.
        """
        path = self._path(round_, stage)
        try:
            return json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise InvalidInput(f"{path} is damaged ({error}): delete it, and the same command does this stage again") from None

    def is_begun(self, round_: int, stage: str) -> bool:
        """Whether a stage is done, or is a search with a run folder, which goes on with its own settings only."""
        return self._path(round_, stage).exists() or (self.folder(round_) / stage / MANIFEST).exists()

    def is_searching(self) -> bool:
        """Whether a search has begun and is not done."""
        runs = [path.parent for path in self._folder.glob(f"round-*/*/{MANIFEST}")]
        return any(not (run.parent / "records" / f"{run.name}.json").exists() for run in runs)

    def do(self, stage: Stage) -> Record:
        """Does a stage that is not done, and records it.

        Raises:
          RstarError: it failed, or cannot be recorded; what has been done so far is kept.
        """
        path = self._path(stage.round, stage.name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _clock(path.with_suffix(".time")) as seconds:
                record = plain(stage.work())
                record["seconds"] = round(seconds(), 1)
            write_whole(path, json.dumps(record, indent=1) + "\n")
        except OSError as error:
            raise RstarError(
                f"round {stage.round}, {stage.name}: {error.strerror or error} ({error.filename or path}): mend that, and the same command goes on"
            ) from error
        return record

    def _path(self, round_: int, stage: str) -> Path:
        return self.folder(round_) / "records" / f"{stage}.json"


@contextmanager
def opened(folder: Path, settings: Mapping[str, Any], may_change: Callable[[str, Records], bool] = lambda name, records: False) -> Iterator[Records]:
    """Begins an evolution in a folder, or continues it; no other process can meanwhile.

    Args:
      settings: plain values.
      may_change: whether a setting, given by its dotted name, may be another than before, after what is recorded or begun.

    Raises:
      InvalidInput: it has other settings, another process works on it, or the folder holds something else.
    """
    settings, path, records = plain(settings), folder / FILE, Records(folder)
    try:
        if folder.exists() and not folder.is_dir():
            raise InvalidInput(f"{folder} is a file: give a folder for the evolution")
        known = {"run.lock", f"{FILE}.tmp", "problems"}
        others = sorted({entry.name for entry in folder.iterdir()} - known) if folder.exists() else []
        if others and not path.exists():
            raise InvalidInput(f"{folder} holds {others[0]!r} but no evolution: give a new or an empty folder")
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = lock(folder)
    except OSError as error:
        raise InvalidInput(f"{folder} cannot be used for an evolution: {error.strerror or error}; give another") from error
    try:
        before = load_settings(folder)
        if before is not None:
            changed = [told for name, told in _differing(before, settings) if not may_change(name, records)]
            if changed:
                raise InvalidInput(
                    f"{folder} was begun with {'; '.join(changed)}, and that is in what is done or begun: "
                    "continue it with the same, or give another folder"
                )
        if before != settings:
            try:
                write_whole(path, json.dumps({"format": _FORMAT, "settings": settings}, indent=1) + "\n")
            except OSError as error:
                raise RstarError(f"{path} could not be written: {error.strerror or error}; mend that, and the same command goes on") from error
        yield records
    finally:
        os.close(descriptor)


def _differing(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The dotted name of each setting that differs, of a whole round where there was or is none, with what `differences` says of it."""
    for key in dict.fromkeys((*before, *now)):
        name, old, new = f"{prefix}{key}", before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping) and old and new:
            yield from _differing(old, new, f"{name}.")
        elif told := differences({name: before[key]} if key in before else {}, {name: now[key]} if key in now else {}):
            yield name, "; ".join(told)


def load_settings(folder: Path) -> Mapping[str, Any] | None:
    """The settings of the evolution in a folder; None where there is none.

    Raises:
      InvalidInput: they are damaged.
    """
    path = folder / FILE
    try:
        data = json.loads(path.read_text("utf-8"))
        if data["format"] != _FORMAT:
            raise KeyError("format")
        return data["settings"]  # type: ignore[no-any-return]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{path} is damaged ({error}): restore it from a copy, or give another folder") from None


@contextmanager
def _clock(path: Path) -> Iterator[Callable[[], float]]:
    """Seconds that a stage has taken, those before a kill included: a thread writes them down now and then."""
    before = 0.0
    with suppress(OSError, ValueError):
        before = float(path.read_text("utf-8"))
    started, ended = time.monotonic(), threading.Event()

    def seconds() -> float:
        return before + time.monotonic() - started

    def tick() -> None:
        while not ended.wait(_CLOCK_S):
            with suppress(OSError):  # a full disk is the stage's own to tell
                path.with_suffix(".time.tmp").write_text(f"{seconds():.1f}", "utf-8")
                path.with_suffix(".time.tmp").replace(path)

    thread = threading.Thread(target=tick, name="rstar_fast.evolution.clock", daemon=True)
    thread.start()
    try:
        yield seconds
    finally:
        ended.set()
        thread.join()
