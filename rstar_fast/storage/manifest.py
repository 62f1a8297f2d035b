"""The manifest of a run folder: what the run is and which shards it consists of. Replaced atomically, never edited in place."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rstar_fast.storage.atomic import write_whole
from rstar_fast.types import InvalidInput

FILE = "manifest.json"
FORMAT = "rstar_fast run"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Shard:
    """An immutable Parquet file of results.

    Attributes:
      file: its name in the run folder.
      rows: results in it.
      size: its bytes; another size means that it was damaged.
      footer: checksum of its footer (`shards.footer_checksum`). The pages carry checksums of their own, the footer does not.
    """

    file: str
    rows: int
    size: int
    footer: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """A run's manifest.

    Attributes:
      settings: what the run was made with, as plain JSON values; it is continued with the same only.
      shards: in the order written. The journal that follows them has their number in its name.
      forgotten: in the first so many shards, failures other than "no answer" do not count: their problems run again.
      package_version: the rstar_fast that made the run.
    """

    settings: Mapping[str, Any]
    shards: tuple[Shard, ...] = ()
    forgotten: int = 0
    package_version: str = ""

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps({"format": FORMAT, "format_version": FORMAT_VERSION, **dataclasses.asdict(self)}, indent=1)


def new_manifest(settings: Mapping[str, Any]) -> Manifest:
    """The manifest of a run that begins."""
    try:
        package_version = version("rstar_fast")
    except PackageNotFoundError:  # imported from sources that are not installed
        package_version = "unknown"
    return Manifest(plain(settings), package_version=package_version)


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON reads them back.

    Raises:
      InvalidInput: a setting has no JSON form.
    """
    try:
        return json.loads(json.dumps(dict(settings)))
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"the settings of a run must be plain values, but {error}: give text, numbers, lists, mappings") from None


def load_manifest(folder: Path) -> Manifest | None:
    """Reads the manifest of a run folder; None where there is none.

    Raises:
      InvalidInput: it is damaged, no manifest of a run, or of a newer format.
    """
    path = folder / FILE
    try:
        text = path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidInput(f"{path} is damaged ({error}): restore it from a copy, or give another run folder") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InvalidInput(f"{path} is no manifest of a run: give another run folder")
    format_version = data.get("format_version")
    if isinstance(format_version, int) and format_version > FORMAT_VERSION:
        raise InvalidInput(
            f"{path} has format version {format_version}, this rstar_fast reads up to {FORMAT_VERSION}: upgrade rstar_fast"
        )
    try:
        shards = tuple(Shard(shard["file"], shard["rows"], shard["size"], shard["footer"]) for shard in data["shards"])
        return Manifest(data["settings"], shards, data["forgotten"], data["package_version"])
    except (KeyError, TypeError) as error:
        raise InvalidInput(f"{path} is damaged ({type(error).__name__}: {error}): restore it from a copy, or give another run folder") from None


def save_manifest(folder: Path, manifest: Manifest) -> None:
    """Replaces the manifest; after any crash the old one or the new one is there, whole."""
    write_whole(folder / FILE, manifest.to_json())


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The settings that differ, each as "name=old, not name=new"; nested ones by dotted name."""
    before, after = dict(_flat(old)), dict(_flat(new))
    names = [*before, *(name for name in after if name not in before)]
    return [
        f"{_said(before, name)}, not {_said(after, name)}"
        for name in names
        if name not in before or name not in after or before[name] != after[name]
    ]


def _said(settings: Mapping[str, Any], name: str) -> str:
    return f"{name}={settings[name]!r}" if name in settings else f"without {name}"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
