"""The results of a run folder as they are found again: an index in memory, the results themselves on disk."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from rstar_fast.storage.columns import from_row, read_record, stats_of, top_level, unescape
from rstar_fast.storage.journal import Journal, scan
from rstar_fast.storage.manifest import Manifest, Shard
from rstar_fast.storage.shards import footer_checksum
from rstar_fast.types import FailureKind, InvalidInput, SearchResult, SearchStats, Stopped

_CACHED_GROUPS = 8  # row groups kept decoded, of some MB each: neighbours in a shard are mostly asked for one after another
_CACHED_FILES = 16
_JOURNAL = -1


class Place(NamedTuple):
    """Where a result lies.

    Attributes:
      shard: the shard's number; -1 in the journal.
      at: the row in the shard; the position in the journal.
      length: bytes in the journal; 0 in a shard.
      question: a digest of the question: the same id with another question is another problem.
      may_retry: it is a failure that another run may not meet again, any but "no answer", or the run's budget cut it short.
    """

    shard: int
    at: int
    length: int
    question: bytes
    may_retry: bool


def journal_path(folder: Path, shards: int) -> Path:
    """The journal that follows so many shards. A journal of a smaller number was rolled into a shard and is void."""
    return folder / f"journal-{shards:05}.bin"


def question_digest(question: str) -> bytes:
    """Tells questions apart in a few bytes."""
    return hashlib.blake2b(question.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def place_of(result: SearchResult, shard: int, at: int, length: int = 0) -> Place:
    """The index entry of a result."""
    kind = None if result.failure is None else result.failure.kind
    return Place(shard, at, length, question_digest(result.problem.question), _may_retry(kind, result.stats.stopped))


def _may_retry(kind: FailureKind | None, stopped: Stopped | None) -> bool:
    return stopped is Stopped.RUN_BUDGET or (kind is not None and kind is not FailureKind.NO_ANSWER)


def decode(payload: bytes) -> SearchResult:
    """The result in a journal's record."""
    return from_row(read_record(payload), 0)


class Store:
    """Finds the results of a run folder by problem id. Safe to use from several threads.

    Memory: some 250 bytes a result for the index, and a few decoded row groups.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Indexes the shards; the journal is `index_journal`'s matter.

        Raises:
          InvalidInput: a shard is missing or damaged; names it.
        """
        self.folder = folder
        self.shards: list[Shard] = []
        self.index: dict[str, Place] = {}
        self.journal: Journal | None = None  # where records of the index's journal places are read; None: by path
        self._lock = threading.RLock()
        self._files: OrderedDict[int, pq.ParquetFile] = OrderedDict()
        self._groups: OrderedDict[tuple[int, int], pa.Table] = OrderedDict()
        for number, shard in enumerate(manifest.shards):
            self.shards.append(shard)
            for problem_id, place in self._places(number):
                if not (place.may_retry and number < manifest.forgotten):
                    self.index[problem_id] = place

    def index_journal(self) -> None:
        """Indexes what the journal on disk holds."""
        for position, payload in scan(journal_path(self.folder, len(self.shards))):
            result = decode(payload)
            self.index[result.problem.id] = place_of(result, _JOURNAL, position, len(payload))

    def add_journalled(self, result: SearchResult, position: int, length: int) -> None:
        """Indexes a record just appended to the journal."""
        with self._lock:
            self.index[result.problem.id] = place_of(result, _JOURNAL, position, length)

    def rolled(self, shard: Shard, ids: list[str]) -> None:
        """The journal's records, in order of `ids`, are now the rows of a new shard."""
        with self._lock:
            number = len(self.shards)
            self.shards.append(shard)
            self.journal = None
            for row, problem_id in enumerate(ids):
                place = self.index[problem_id]
                self.index[problem_id] = place._replace(shard=number, at=row, length=0)

    def get(self, problem_id: str) -> SearchResult:
        """Reads a result from disk.

        Raises:
          KeyError: the problem has none.
          InvalidInput: its file is damaged; names it.
        """
        with self._lock:
            place = self.index[problem_id]
            if place.shard == _JOURNAL:
                return decode(self._journalled(place))
            first, group = self._group_of(place)
            table = self._group(place.shard, group)
            try:
                return from_row(table, place.at - first)
            except InvalidInput as error:
                raise self._damaged(place.shard, InvalidInput(f"row {place.at}: {error}")) from error

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """All results as rows of SCHEMA, of which only some columns are read, a row group at a time.

        Args:
          columns: names of SCHEMA; "a.list.element.b" for a field of those that are lists of records.

        Raises:
          InvalidInput: a file is damaged; names it.
        """
        for number in range(len(self.shards)):
            with self._lock:
                groups = self._file(number).metadata.num_row_groups
            first = 0
            for group in range(groups):
                with self._lock:
                    try:
                        table = self._file(number).read_row_group(group, columns=list(columns), use_threads=False)
                    except (pa.ArrowException, OSError) as error:
                        raise self._damaged(number, error) from error
                ids = [unescape(problem_id) for problem_id in table.column("id").to_pylist()]
                # A failure that was forgotten stands in its shard still, its problem's later result elsewhere.
                count = [self._stands_at(problem_id, number, first + row) for row, problem_id in enumerate(ids)]
                yield table if all(count) else table.filter(pa.array(count))
                first += len(ids)
        journalled = [problem_id for problem_id, place in self.index.items() if place.shard == _JOURNAL]
        for problem_id in journalled:
            yield self.row(problem_id, columns)

    def stats(self) -> Iterator[tuple[str, SearchStats]]:
        """Problem id and stats of every result, without their trees."""
        for table in self.tables(["id", "stats", "stopped", "ppm_tokens"]):
            for row in table.to_pylist():
                yield unescape(row["id"]), stats_of(row["stats"], row.get("stopped"), row.get("ppm_tokens"))

    def row(self, problem_id: str, columns: Sequence[str]) -> pa.Table:
        """One problem's row, as `tables` gives it; columns of records are whole."""
        with self._lock:
            place = self.index[problem_id]
            if place.shard == _JOURNAL:
                table, at = pa.Table.from_batches([read_record(self._journalled(place))]), 0
            else:
                first, group = self._group_of(place)
                table, at = self._group(place.shard, group), place.at - first
        return table.select(top_level(columns)).slice(at, 1)

    def _stands_at(self, problem_id: str, shard: int, row: int) -> bool:
        place = self.index.get(problem_id)
        return place is not None and (place.shard, place.at) == (shard, row)

    def _journalled(self, place: Place) -> bytes:
        if self.journal is not None:
            return self.journal.read(place.at, place.length)
        path = journal_path(self.folder, len(self.shards))
        try:
            with path.open("rb") as file:
                file.seek(place.at)
                return file.read(place.length)
        except FileNotFoundError as error:
            raise InvalidInput(f"{path} is gone since the run was read, it is being written: load the run again") from error

    def _group_of(self, place: Place) -> tuple[int, int]:
        """The first row and the number of the row group that holds a place."""
        metadata = self._file(place.shard).metadata
        first = 0
        for group in range(metadata.num_row_groups):
            rows = metadata.row_group(group).num_rows
            if place.at < first + rows:
                return first, group
            first += rows
        raise AssertionError(f"row {place.at} lies behind the end of shard {place.shard}")

    def _group(self, shard: int, group: int) -> pa.Table:
        key = (shard, group)
        if key not in self._groups:
            try:
                table = self._file(shard).read_row_group(group, use_threads=False)
            except (pa.ArrowException, OSError) as error:
                raise self._damaged(shard, error) from error
            self._groups[key] = table
            if len(self._groups) > _CACHED_GROUPS:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        return self._groups[key]

    def _file(self, shard: int) -> pq.ParquetFile:
        if shard not in self._files:
            path = self.folder / self.shards[shard].file
            try:
                if path.stat().st_size != self.shards[shard].size:
                    raise OSError(f"it has {path.stat().st_size} bytes, not {self.shards[shard].size}")
                if footer_checksum(path) != self.shards[shard].footer:
                    raise OSError("its footer has another checksum")
                file = pq.ParquetFile(path, page_checksum_verification=True)
            except (pa.ArrowException, OSError) as error:
                raise self._damaged(shard, error) from error
            self._files[shard] = file
            if len(self._files) > _CACHED_FILES:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(shard)
        return self._files[shard]

    def _places(self, number: int) -> Iterator[tuple[str, Place]]:
        """The index entries of a shard, its rows read only as far as they say what was searched."""
        try:
            table = self._file(number).read(["id", "question", "failure_kind", "stopped"], use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(number, error) from error
        for at, row in enumerate(table.to_pylist()):
            kind, end = row["failure_kind"], row.get("stopped")  # runs of before there were budgets lack the column
            may_retry = _may_retry(None if kind is None else FailureKind(kind), None if end is None else Stopped(end))
            yield unescape(row["id"]), Place(number, at, 0, question_digest(unescape(row["question"])), may_retry)

    def _damaged(self, shard: int, error: Exception) -> InvalidInput:
        path, rows = self.folder / self.shards[shard].file, self.shards[shard].rows
        reason = "it is missing" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
        return InvalidInput(
            f"{path} with {rows} results is damaged ({reason}): restore it from a copy, or give another run folder"
        )
