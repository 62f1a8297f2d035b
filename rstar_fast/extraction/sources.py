"""Where trees come from: run folders, and files of microsoft/rStar's trees; read as Arrow tables, some problems at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from rstar_fast.storage.columns import to_row, top_level
from rstar_fast.storage.manifest import load_manifest
from rstar_fast.storage.reference_trees import lines_of, problem_of_line, result_of_line
from rstar_fast.storage.run import load_run
from rstar_fast.types import InvalidInput

_PROBLEMS = 64  # of a file in one table


class Source(Protocol):
    """Trees by problem id."""

    name: str

    def __contains__(self, problem_id: str) -> bool: ...
    def __len__(self) -> int: ...
    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Some of the columns of all problems (see `Store.tables`)."""

    def rows(self, problem_id: str, columns: Sequence[str]) -> pa.Table:
        """The same of one problem; columns of records are whole."""

    def identity(self) -> dict[str, Any]:
        """What it is, so that a data set can say what it was made from; plain values."""


def open_source(path: str | Path) -> Source:
    """Opens a run folder, or a .jsonl file of reference trees.

    Raises:
      InvalidInput: it is neither, or damaged.
    """
    if not isinstance(path, str | Path):
        raise InvalidInput(f"a run is {path!r}: give the folder of a run, or a file of microsoft/rStar's trees")
    return TreeFile(Path(path)) if Path(path).suffix == ".jsonl" else RunFolder(Path(path))


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


class RunFolder:
    """A run folder, as a search writes it."""

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self._manifest = load_manifest(folder)
        self._store = load_run(folder).store

    def __contains__(self, problem_id: str) -> bool:
        return problem_id in self._store.index

    def __len__(self) -> int:
        return len(self._store.index)

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        return self._store.tables(columns)

    def rows(self, problem_id: str, columns: Sequence[str]) -> pa.Table:
        return self._store.row(problem_id, columns)

    def identity(self) -> dict[str, Any]:
        manifest = self._manifest
        assert manifest is not None  # load_run found it as well
        return {
            "run": self.name,
            "manifest": _digest([manifest.to_json().encode()]),
            "problems": len(self),
            "rstar_fast": manifest.package_version,
            "settings": dict(manifest.settings),
        }


class TreeFile:
    """A file of microsoft/rStar's trees, of which places are kept. A problem may occur several times, with a tree each."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._places: dict[str, list[tuple[int, int, int]]] = {}  # line, offset, length
        for line, offset, text in lines_of(path):
            problem, _ = problem_of_line(text, f"{path}, line {line}")
            self._places.setdefault(problem.id, []).append((line, offset, len(text)))

    def __contains__(self, problem_id: str) -> bool:
        return problem_id in self._places

    def __len__(self) -> int:
        return len(self._places)

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        ids = list(self._places)
        for begin in range(0, len(ids), _PROBLEMS):
            yield pa.concat_tables([self.rows(problem_id, columns) for problem_id in ids[begin : begin + _PROBLEMS]])

    def rows(self, problem_id: str, columns: Sequence[str]) -> pa.Table:
        batches = []
        with self._path.open("rb") as file:
            for line, offset, length in self._places[problem_id]:
                file.seek(offset)
                batches.append(to_row(result_of_line(file.read(length), f"{self._path}, line {line}")))
        return pa.Table.from_batches(batches).select(top_level(columns))

    def identity(self) -> dict[str, Any]:
        return {"file": self.name, "digest": _digest(text for *_, text in lines_of(self._path)), "problems": len(self)}
