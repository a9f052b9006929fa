"""``Reader``: what a database holds, for the store that owns it and for whoever looks at it meanwhile.

Everything is read in one transaction with the run's progress, and checked against it, before any of it is used.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import NamedTuple

from ...core.records import EventRecord, OutputChunk, OutputRecord, Snapshot
from ...core.types import ErrorRecord
from ...errors import NotStartedError, StoreError
from ...ports import Progress, RunRecord
from . import chunk_codec as blocks
from . import large_values, row_codec, schema
from .chunk_codec import ChunkIndex
from .clock_conversion import Clocks
from .connection import connect_to_read
from .files import LOG, connected, described, disconnected, has_log, identity
from .lock import holder
from .packing import unpack_ranges
from .row_codec import Row
from .row_macs import RowMacs, RowSum, RunTotals, corrupt, differing, key_path, read_key, run_name
from .schema import Table
from .sqlite_errors import trouble

_order = attrgetter("order")
_PROGRESS_COLUMNS = 10  # of ``Progress``, behind the run's number; then when, in which epoch, and the tally


class Owner(NamedTuple):
    """Who owned the store last, in which epoch, since when (seconds since the epoch), and how many runs there are.
    ``file`` is the one that it was opened in, as ``files.described`` says it; None: it was closed since."""

    epoch: int
    runs: int
    pid: int | None
    host: str | None
    since: float | None
    file: str | None


class Written(NamedTuple):
    """When a run's last commit was written (seconds since the epoch), and in which epoch."""

    at: float
    epoch: int


class _Stand(NamedTuple):
    run: int
    progress: Progress
    tally: RunTotals


class Reader:
    """The reading half of ``ports.CheckpointStore``, and more for people. Needs no ownership, and changes nothing.

    Args:
        path: of the database.
        patience: seconds to wait for other programs' locks.
        clocks: what due times are counted by.
        without_log: also read a copy that was made while the store was open, and lacks what was written last.

    Raises:
        StoreError: there is no store, or it cannot be read.
        StoreCorruptError: it is not what was written.
        StoreVersionError: of another version of the schema.
    """

    def __init__(self, path: str, patience: float, clocks: Clocks, *, without_log: bool = False) -> None:
        self.path, self._patience, self._clocks = path, patience, clocks
        self._pid = os.getpid()
        self._closed = False
        self._reading = threading.RLock()  # see ``read_transaction``
        if not os.path.exists(path):
            raise StoreError(f"there is no store {path}", path=path)
        if not os.path.getsize(path):
            raise corrupt(path, "it is empty; what was in it is lost")
        with trouble(path):
            self._file = identity(path)
            complete = without_log or has_log(path)  # before a connection makes one
            self._reader = connect_to_read(path, patience)
            connected(self._file)
            try:
                schema.expect_version(self._reader, path)
                schema.expect_schema(self._reader, path)
                self._seals = RowMacs(path, key_of(path))
                self._expect_log(complete)
            except BaseException:
                self._disconnect()
                raise

    def _expect_log(self, complete: bool) -> None:
        """Refuse a copy of a database that was open, where it does not have its log.

        What was written last is in the log. Where the file is the one that was open, somebody has carried it over.
        """
        owner = self.owner()
        if complete or owner.file in (None, described(self._file)):
            return
        text = (
            f"it is a copy that was made while a program had it open, without {self.path}{LOG}: what was written last"
        )
        advice = (
            "copy both, or make copies by `floxide-mp db backup`, which also takes this one as it is (--without-log)"
        )
        raise corrupt(self.path, f"{text} may be missing; {advice}")

    def close(self) -> None:
        with self._reading:
            if not self._closed:
                self._closed = True
                self._disconnect()

    def _disconnect(self) -> None:
        self._reader.close()
        disconnected(self._file)

    # -- the port ------------------------------------------------------------------------------------

    def runs(self) -> Sequence[RunRecord]:
        with self._transaction():
            found = []
            for row in self._reader.execute("SELECT * FROM runs ORDER BY run"):  # of each only the header is kept
                self._seals.check("runs", row, 3)
                found.append(row_codec.run_record(row[:-1], whole=False))
            owner = self._owner()
        if len(found) != owner.runs:
            raise corrupt(self.path, differing(owner.runs, len(found), "run"))
        return found

    def record(self, run_id: str) -> RunRecord:
        with self._transaction(run_id):
            run = self._stand(run_id).run
            row = self._reader.execute("SELECT * FROM runs WHERE run = ?", (run,)).fetchone()
            self._seals.check("runs", row, 3)
            row = _whole(self._reader, self._seals, run_id, row)
        return row_codec.run_record(row[:-1])

    def progress(self, run_id: str) -> Progress:
        with self._transaction(run_id):
            return self._stand(run_id).progress

    def snapshot(self, run_id: str) -> Snapshot:
        with self._transaction(run_id):
            run, _, tally = self._stand(run_id)
            single = self._living(run_id, run, schema.ITEMS, None, "ord")
            together = self._living(run_id, run, schema.BLOCKS, tally.blocks, "block")
            ranges = self._living(run_id, run, schema.GONE, None, "block")
            arrivals = self._living(run_id, run, schema.ARRIVALS, tally.arrivals, "ord")
            scopes = self._living(run_id, run, schema.SCOPES, tally.scopes, "scope")
            spoilt = self._living(run_id, run, schema.SPOILT, tally.failed_batches, "scope")
            marks = self._living(run_id, run, schema.MARKS, tally.flags, "kind, a, value")
            read_living(self._reader, self._seals, run_id, run, tally)
        gone = {block: unpack_ranges(packed, block) for _, block, _, packed, _ in ranges}
        items = [row_codec.item(row[:-1], self._clocks) for row in single]
        for row in together:
            items += blocks.unpack_block(row[:-1], gone.get(row[1], ()))
        if len(items) != tally.items:
            raise corrupt(self.path, differing(tally.items, len(items), "row"), run_id, "items")
        held: dict[int, list[int]] = {}
        for _, kind, node, item, *_ in marks:
            if kind == "held":
                held.setdefault(node, []).append(item)
        return Snapshot(
            items=sorted(items, key=_order) if together else items,
            arrivals=sorted((a for row in arrivals for a in blocks.arrivals(row[:-1])), key=_order),
            scopes=[row_codec.scope(row[:-1]) for row in scopes],
            joined=[(scope, place) for _, kind, scope, place, *_ in marks if kind == "joined"],
            depths={(scope, at): depth for _, kind, scope, at, depth, _ in marks if kind == "depth"},
            nodes_emitted={node for _, kind, node, *_ in marks if kind == "passed"},
            held=held,
            failed_batches={
                s: (n, e) for _, s, n, packed, _ in spoilt if (e := row_codec.unpack_error(packed)) is not None
            },
            events=tally.events,
            outputs=tally.outputs,
            given=row_codec.given(marks),
        )

    def events(self, run_id: str, since: int = 0, most: int | None = None) -> Sequence[EventRecord]:
        with self._transaction(run_id):
            run, _, tally = self._stand(run_id)
            found = list(self._log(run_id, run, schema.EVENTS, since, tally.events, tally.event_seal, most))
            # Rows are numbered from 1, so these are the events from ``first - 1`` on.
            first = found[0][1] if found else 0
            return [event for row in found for event in blocks.events(row)][max(0, since + 1 - first) :]

    def outputs(self, run_id: str, since: int = 0, most: int | None = None) -> Sequence[OutputRecord | OutputChunk]:
        with self._transaction(run_id):
            run, _, tally = self._stand(run_id)
            found = self._log(run_id, run, schema.OUTPUTS, since, tally.outputs, tally.output_seal, most)
            return blocks.outputs_since(found, since)

    def errors(self, run_id: str) -> Sequence[ErrorRecord]:
        with self._transaction(run_id):
            run, _, tally = self._stand(run_id)
            return list(map(row_codec.error, self._log(run_id, run, schema.ERRORS, 0, tally.errors, tally.error_seal)))

    def finished(self, run_id: str) -> Mapping[str, int]:
        with self._transaction(run_id):
            run, _, tally = self._stand(run_id)
            return read_steps(self._reader, self._seals, run_id, run, tally)

    # -- for people ----------------------------------------------------------------------------------

    def owner(self) -> Owner:
        with self._transaction():
            return self._owner()

    def holder(self) -> int | None:
        """The process that owns the store now; None if nobody does, 0 if it cannot be seen from here."""
        with trouble(self.path):
            return holder(self.path)

    def written(self, run_id: str) -> Written:
        """When, and in which epoch, the run's last commit was written."""
        with self._transaction(run_id):
            run = self._stand(run_id).run  # which checks the row
            found = self._reader.execute("SELECT updated_at, epoch FROM progress WHERE run = ?", (run,)).fetchone()
        return Written(*found)

    @contextmanager
    def read_transaction(self) -> Iterator[None]:
        """All that this thread reads in it is of one moment; other threads wait."""
        with self._transaction():
            yield

    def copy(self, target: sqlite3.Connection) -> None:
        """Write all pages, as they are at one moment, into another database."""
        self._check_open()
        with self._reading, trouble(self.path):
            self._reader.backup(target)

    def check(self) -> None:
        """Read everything: pages, rows and what they add up to.

        Raises:
            StoreCorruptError: the first thing that is not as it was written.
        """
        with self._transaction():
            problems = [text for (text,) in self._reader.execute("PRAGMA integrity_check(10)")]
        if problems != ["ok"]:
            raise corrupt(self.path, "; ".join(problems))
        for record in self.runs():
            for read in (self.record, self.snapshot, self.events, self.outputs, self.errors, self.finished):
                read(record.run_id)

    # -- inside --------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self, run_id: str | None = None) -> Iterator[None]:
        """All that is read in it is of one moment."""
        self._check_open()
        with self._reading, trouble(self.path, run_id):
            if self._reader.in_transaction:  # that of a ``read_transaction``
                yield
                return
            self._reader.execute("BEGIN")
            try:
                yield
            finally:
                if self._reader.in_transaction:
                    self._reader.execute("ROLLBACK")

    def _check_open(self) -> None:
        if os.getpid() != self._pid:
            text = f"{self.path} was opened by process {self._pid}, from which this one was forked: open it again here"
            raise StoreError(text, path=self.path)
        if self._closed:
            raise StoreError(f"{self.path} is closed, by close() or with its coordinator", path=self.path)

    def _owner(self) -> Owner:
        return read_owner(self._reader, self._seals)

    def _stand(self, run_id: str) -> _Stand:
        return read_stand(self._reader, self._seals, run_id)

    def _living(self, run_id: str, run: int, table: Table, count: int | None, order: str) -> list[Row]:
        """Rows of a table whose rows come and go; ``count`` of them, as far as that is known."""
        return _all_of(self._reader, self._seals, run_id, run, table, count, order)

    def _log(
        self, run_id: str, run: int, table: Table, since: int, count: int, last: bytes, most: int | None = None
    ) -> Iterator[Row]:
        """Rows, without their seals, of a table that is only added to: those with number ``since`` and later, and some
        before them; some ``most`` if that is given, up to a seal.

        That some are missing shows at the end: what is made of them is to be given to nobody before. (Where only some
        are read, each of them is what was written, and whether more are missing shows when the others are.)
        """
        if since >= count:
            return
        name, counted = table.name, table.counted
        first, seal = self._sealed_before(run, table, since)
        end, found, size = first, list[Row](), 0
        for row in self._reader.execute(f"SELECT * FROM {name} WHERE run = ? AND row > ? ORDER BY row", (run, first)):
            if row[1] != end + 1:
                raise corrupt(self.path, "it is missing", run_id, f"{name} {end + 1}")
            end += row[2] if counted and isinstance(row[2], int) else 1
            found.append(row)
            size += schema.size_of(row[-2])
            if row[-1] == b"" and len(found) < schema.CHUNK:
                continue
            seal = self._seals.check_rows(name, found, seal, run_id)
            yield from (_whole(self._reader, self._seals, run_id, row)[:-1] for row in found)
            found = []
            if most is not None and end < count and (end >= since + most or size >= schema.CHUNK_BYTES):
                return
        if end != count or found or seal != last:
            raise corrupt(self.path, f"the rows end here; {count} were written", run_id, f"{name} {end + 1}")

    def _sealed_before(self, run: int, table: Table, since: int) -> tuple[int, bytes]:
        """Where the rows up to number ``since`` can be read on from: the last number of a sealed one, and its seal."""
        end = "row + count - 1" if table.counted else "row"
        sql = f"SELECT {end}, row, seal FROM {table.name} WHERE run = ? AND row <= ? AND {end} <= ? AND seal != x'' "
        row = self._reader.execute(sql + "ORDER BY row DESC LIMIT 1", (run, since, since)).fetchone()
        return (row[0], row[2]) if row is not None and isinstance(row[2], bytes) else (0, b"")


def key_of(path: str) -> bytes:
    """The key of a database that is there.

    Raises:
        StoreCorruptError: its file is not.
    """
    key = read_key(path)
    if key is None:
        raise corrupt(path, f"its key, {key_path(path)}, is missing; without it nothing in there can be believed")
    return key


def read_owner(connection: sqlite3.Connection, seals: RowMacs) -> Owner:
    """Who owned it last."""
    row = connection.execute("SELECT * FROM store").fetchone()
    if row is None:
        raise corrupt(seals.path, "it is missing", row="store 1")
    try:
        seals.check("store", row, 1, body=False)
    except StoreError:
        text = f"it is not what was written, or {key_path(seals.path)} is the key of another store"
        raise corrupt(seals.path, text, row="store 1") from None
    return Owner(*row[1:-1])


def read_stand(connection: sqlite3.Connection, seals: RowMacs, run_id: str) -> _Stand:
    """A run's number, progress and tally.

    Raises:
        NotStartedError: there is no such run.
    """
    sql = "SELECT progress.* FROM runs LEFT JOIN progress USING (run) WHERE run_id = ?"
    row = connection.execute(sql, (row_codec.text(run_id),)).fetchone()
    if row is None:
        there = [name for (name,) in connection.execute("SELECT run_id FROM runs NOT INDEXED ORDER BY run")]
        if row_codec.text(run_id) in there or len(there) != read_owner(connection, seals).runs:
            raise corrupt(seals.path, "runs are missing, or cannot be found", run_id)
        raise NotStartedError(f"no run {run_id!r} in this store", run_id=run_id)
    if row[0] is None:
        raise corrupt(seals.path, "it is missing", run_id, "progress")
    seals.check("progress", row, 1, run_name(run_id), run_id, body=False)
    told = row[1 : 1 + _PROGRESS_COLUMNS]
    return _Stand(row[0], row_codec.progress(told), RunTotals(*row[3 + _PROGRESS_COLUMNS : -1]))


def read_index(connection: sqlite3.Connection, seals: RowMacs, run_id: str, run: int) -> ChunkIndex:
    """A run's blocks, and which of their items are gone."""
    found = _all_of(connection, seals, run_id, run, schema.GONE, None, "block")
    gone = {block: unpack_ranges(packed, block) for _, block, _, packed, _ in found}
    blocks = connection.execute("SELECT block, count FROM blocks WHERE run = ? ORDER BY block", (run,))
    return ChunkIndex((first, count, gone.get(first, ())) for first, count in blocks)


def read_living(connection: sqlite3.Connection, seals: RowMacs, run_id: str, run: int, tally: RunTotals) -> RowSum:
    """What the run's rows come to that are replaced and deleted: it has to be what was written."""
    living = RowSum()
    for table in schema.SUMMED:
        found = connection.execute(f"SELECT seal FROM {table.name} WHERE run = ?", (run,))
        living.add(seals, (seal for (seal,) in found))
    if living.seal(seals) != tally.living:
        raise corrupt(seals.path, "a row of it is missing, or is one of before", run_id)
    return living


def read_steps(
    connection: sqlite3.Connection, seals: RowMacs, run_id: str, run: int, tally: RunTotals
) -> dict[str, int]:
    """A run's completed steps by node."""
    found = _all_of(connection, seals, run_id, run, schema.STEPS, tally.steps, "node")
    if sum(row[2] for row in found) != tally.done:
        raise corrupt(seals.path, f"{tally.done} steps were counted, not so many are", run_id, "steps")
    return {row_codec.untext(row[1]): row[2] for row in found}


def _all_of(
    connection: sqlite3.Connection, seals: RowMacs, run_id: str, run: int, table: Table, count: int | None, order: str
) -> list[Row]:
    """The run's rows of a table, of which there are to be so many, as far as that is known."""
    found = connection.execute(f"SELECT * FROM {table.name} WHERE run = ? ORDER BY {order}", (run,)).fetchall()
    for row in found:
        seals.check(table.name, row, table.key, run_id=run_id, body=bool(table.payload))
    if count not in (None, len(found)):
        raise corrupt(seals.path, differing(count or 0, len(found), "row"), run_id, table.name)
    return [_whole(connection, seals, run_id, row) for row in found] if table.payload else found


def _whole(connection: sqlite3.Connection, seals: RowMacs, run_id: str | None, row: Row) -> Row:
    """A row with its payload, wherever that is."""
    if not isinstance(row[-2], int):
        return row
    return (*row[:-2], large_values.read(connection, seals, run_id, row[0], row[-2]), row[-1])
