"""A run folder: results go in as they come, survive a kill at any instant, and are read back lazily.

    manifest.json            settings, and the list of shards; replaced atomically
    shard-00000.parquet ...  immutable, up to 1000 results or 64 MB each (columns: columns.py)
    journal-00001.bin        results behind the last shard, one checksummed record each (journal.py)
    run.lock                 locked while a process writes the run

A journal becomes a shard in four steps, and a kill between any two of them loses and doubles nothing: the shard is written
under a temporary name; renamed, the manifest not yet naming it, so that the journal still counts; named by the manifest, which
makes the journal void, as the next one has a higher number; the journal is deleted.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, overload

from rstar_fast.storage.columns import to_row
from rstar_fast.storage.folder import lock, make_folder, remove_leftovers
from rstar_fast.storage.journal import Journal
from rstar_fast.storage.manifest import Manifest, Shard, differences, load_manifest, new_manifest, plain, save_manifest
from rstar_fast.storage.shards import footer_checksum, write_shard
from rstar_fast.storage.store import Store, journal_path, question_digest
from rstar_fast.types import InvalidInput, Problem, RstarError, SearchResult, SearchStats

_SHARD_RESULTS = 1000
_SHARD_BYTES = 64 << 20


class RunResults(Sequence[SearchResult]):
    """Results of a run, each read from disk when it is asked for. They stay readable when the run is closed."""

    def __init__(self, store: Store, ids: Sequence[str]) -> None:
        self._store, self._ids = store, ids

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, at: int) -> SearchResult: ...
    @overload
    def __getitem__(self, at: slice) -> RunResults: ...
    def __getitem__(self, at: int | slice) -> SearchResult | RunResults:
        if isinstance(at, slice):
            return RunResults(self._store, self._ids[at])
        return self._store.get(self._ids[at])

    def __iter__(self) -> Iterator[SearchResult]:
        return (self._store.get(problem_id) for problem_id in self._ids)

    @property
    def store(self) -> Store:
        """Where they lie, for those who read rows and not results."""
        return self._store

    def __repr__(self) -> str:
        return f"<{len(self)} results in {self._store.folder}>"


class Run:
    """A run folder open for writing, by this process alone. Use it as a context manager, or call `close`."""

    def __init__(self, folder: Path, lock_fd: int, manifest: Manifest, store: Store) -> None:
        """Use `Run.open`."""
        self._folder, self._lock_fd, self._manifest, self._store = folder, lock_fd, manifest, store
        self._journalled = sum(place.length > 0 for place in store.index.values())
        self._closed = False

    @classmethod
    def open(cls, path: str | Path, settings: Mapping[str, Any] | None) -> Self:
        """Begins a run, or continues one.

        Args:
          path: the run folder; made where missing, parents included.
          settings: plain values (text, numbers, lists, mappings). A run is continued with those it was begun with; None takes
            them as they are, of a run that must exist.

        Raises:
          InvalidInput: the run has other settings, another process writes it, or the folder holds something else or is damaged.
        """
        folder = Path(path)
        if settings is None and load_manifest(folder) is None:
            raise _no_run(folder)
        settings = None if settings is None else plain(settings)
        try:
            make_folder(folder)
            return cls._locked(folder, lock(folder), settings)
        except OSError as error:
            raise InvalidInput(f"{folder} cannot be used as a run folder: {error.strerror}; give another") from error

    @classmethod
    def _locked(cls, folder: Path, lock_fd: int, settings: Mapping[str, Any] | None) -> Self:
        try:
            manifest = load_manifest(folder)
            if manifest is None:
                manifest = new_manifest(settings or {})
                save_manifest(folder, manifest)
            changed = differences(manifest.settings, settings) if settings is not None else []
            if changed:
                raise InvalidInput(
                    f"{folder} was made with {'; '.join(changed)}: continue it with the same settings, or give another folder"
                )
            remove_leftovers(folder, manifest)
            store = Store(folder, manifest)
            store.index_journal()
            if journal_path(folder, len(manifest.shards)).exists():
                store.journal = Journal(journal_path(folder, len(manifest.shards)))
        except BaseException:
            os.close(lock_fd)
            raise
        return cls(folder, lock_fd, manifest, store)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def finished(self, problems: Iterable[Problem] | None = None) -> frozenset[str]:
        """The ids of finished problems, failed ones included.

        Args:
          problems: those of interest; all by default.

        Raises:
          InvalidInput: the run holds another question under the id of one of the problems.
        """
        if problems is None:
            return frozenset(self._store.index)
        return frozenset(problem.id for problem in problems if _holds(self._store, problem))

    def add(self, result: SearchResult) -> None:
        """Keeps a result: once this returns, it survives the death of this process.

        Raises:
          InvalidInput: the run is closed, or its problem is finished already.
          RstarError: it cannot be written, e.g. the disk is full; the run is as before.
        """
        self._check_open()
        problem_id = result.problem.id
        if problem_id in self._store.index:
            raise InvalidInput(f"problem {problem_id!r} is finished in {self._folder}: search only what `finished` does not name")
        payload = to_row(result).serialize().to_pybytes()
        try:
            if self._store.journal is None:
                self._store.journal = Journal(journal_path(self._folder, len(self._manifest.shards)))
            position = self._store.journal.append(payload)
        except OSError as error:
            raise RstarError(f"the result of problem {problem_id!r} could not be written to {self._folder}: {error}") from error
        self._store.add_journalled(result, position, len(payload))
        self._journalled += 1
        if self._journalled >= _SHARD_RESULTS or self._store.journal.size >= _SHARD_BYTES:
            self._roll()

    def read(self, problems: Iterable[Problem | str]) -> RunResults:
        """The results of problems, or of problem ids, in the order given.

        Raises:
          InvalidInput: one is not finished, or the run holds another question under its id.
        """
        return _read(self._store, problems)

    def stats(self) -> Iterator[tuple[str, SearchStats]]:
        """Problem id and stats of every finished problem."""
        return self._store.stats()

    def forget_failures(self) -> int:
        """Makes problems unfinished again that failed for another reason than "no answer" or were cut short by the run's budget.

        Returns:
          How many.
        """
        self._check_open()
        self._roll()
        forgotten = [problem_id for problem_id, place in self._store.index.items() if place.may_retry]
        if forgotten:
            self._save(replace(self._manifest, forgotten=len(self._manifest.shards)))
            for problem_id in forgotten:
                del self._store.index[problem_id]
        return len(forgotten)

    def close(self) -> None:
        """Rolls the journal into a shard and lets other processes write the run. Results stay readable."""
        if self._closed:
            return
        self._closed = True
        try:
            self._roll()
        finally:
            journal, self._store.journal = self._store.journal, None
            if journal is not None:
                journal.close()
            os.close(self._lock_fd)

    def _check_open(self) -> None:
        if self._closed:
            raise InvalidInput(f"the run {self._folder} is closed: open it again")

    def _roll(self) -> None:
        journal = self._store.journal
        if journal is None:
            return
        number = len(self._manifest.shards)
        name = f"shard-{number:05}.parquet"
        try:
            ids = write_shard(journal.path, self._folder / name)
            if ids:
                shard = Shard(name, len(ids), (self._folder / name).stat().st_size, footer_checksum(self._folder / name))
                self._save(replace(self._manifest, shards=(*self._manifest.shards, shard)))
                self._store.rolled(shard, ids)
                self._journalled = 0
        except OSError as error:
            raise RstarError(f"{self._folder / name} could not be written: {error}; the results wait in {journal.path}") from error
        journal.close()
        self._store.journal = None
        journal.path.unlink()

    def _save(self, manifest: Manifest) -> None:
        save_manifest(self._folder, manifest)
        self._manifest = manifest


def load_run(path: str | Path) -> RunResults:
    """All results of a run, in the order in which they were finished, for reading only; the run may be being written.

    Raises:
      InvalidInput: the folder holds no run, or it is damaged.
    """
    folder = Path(path)
    while True:
        manifest = load_manifest(folder)
        if manifest is None:
            raise _no_run(folder)
        store = Store(folder, manifest)
        store.index_journal()
        if load_manifest(folder) == manifest:  # else the journal became a shard meanwhile
            return RunResults(store, list(store.index))


def _no_run(folder: Path) -> InvalidInput:
    return InvalidInput(f"{folder} holds no run: give the folder that a search was given for its results")


def _read(store: Store, problems: Iterable[Problem | str]) -> RunResults:
    ids: list[str] = []
    for problem in problems:
        problem_id = problem.id if isinstance(problem, Problem) else problem
        if problem_id not in store.index or (isinstance(problem, Problem) and not _holds(store, problem)):
            raise InvalidInput(f"problem {problem_id!r} is not finished in {store.folder}: search it first")
        ids.append(problem_id)
    return RunResults(store, ids)


def _holds(store: Store, problem: Problem) -> bool:
    place = store.index.get(problem.id)
    if place is None:
        return False
    if place.question != question_digest(problem.question):
        raise InvalidInput(
            f"{store.folder} holds another question under the id {problem.id!r}: give another folder, or the problem another id"
        )
    return True
