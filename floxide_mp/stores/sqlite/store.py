"""``SQLiteStore``: runs in a file, which survive the death of processes, or of the machine.

Here is who may write, and when: ownership, transactions, and what has gone wrong. What is written is in ``batch``, what
is read in ``reader``, the tables in ``schema``.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, closing, suppress
from typing import Final, Literal

from ... import failpoints, standard_streams
from ...core.records import Commit, Snapshot
from ...core.types import OrderKey
from ...errors import StoreError, StoreLockedError
from ...ports import Progress, RunRecord
from ...wire.log import say
from . import files, large_values, row_codec, schema, sqlite_errors
from .chunk_codec import ChunkIndex
from .clock_conversion import CLOCKS, Clocks
from .connection import connect
from .files import Guard
from .lock import Ownership
from .reader import Owner, Reader, key_of, read_index, read_living, read_owner, read_stand, read_steps
from .row_codec import Prepared
from .row_macs import KeyFile, RowMacs, RowSum, RunTotals, corrupt, make_key, read_key
from .sqlite_errors import trouble
from .writer import Batch

_LOG_BYTES: Final = 1 << 26  # what is kept of a log that a large commit has made larger
_SYNCHRONOUS: Final = {"process": "NORMAL", "full": "FULL"}


class SQLiteStore(Reader):
    """See ``ports.CheckpointStore``. Makes the file, and its key beside it, if they are not there.

    Args:
        path: of the database.
        durability: ``"process"``: what is committed survives the death of any process; ``"full"``: also of the machine.
        patience: seconds to wait for other programs' locks.
        clocks: what due times are counted by.

    Raises:
        StoreLockedError: another coordinator owns it.
        StoreCorruptError: it is not what was written.
        StoreVersionError: it is of another version of the schema.
        StoreError: it cannot be read or written, or is another program's.
        ValueError: ``durability`` is neither.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        durability: Literal["process", "full"] = "process",
        *,
        patience: float = 5.0,
        clocks: Clocks = CLOCKS,
    ) -> None:
        if durability not in _SYNCHRONOUS:
            raise ValueError(f'durability is "process" or "full", not {durability!r}')
        standard_streams.occupy()  # what is printed must not get into the lock's file
        with ExitStack() as undone:
            with trouble(os.fspath(path)):
                real = files.resolved(path)
                _check_ours(real, patience)
                self._ownership = Ownership(real, clocks.wall())
                undone.callback(self._ownership.release)
                self._writer = _opened(real, patience)
                undone.callback(self._writer.close)
            super().__init__(real, patience, clocks)
            self._key = KeyFile(real, key := key_of(real))
            self._seals = RowMacs(real, key)  # of the key that is kept, whatever was there a moment ago
            self.in_flight: Final = real + ".running"  # a coordinator notes there what is leased
            undone.callback(self._disconnect)
            self._writer.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[durability]}")
            self._writer.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
            self._writing = threading.Lock()
            self._stands: dict[
                str, tuple[int, RunTotals, dict[str, int], ChunkIndex, RowSum]
            ] = {}  # by run: what ``Batch`` takes
            self._epoch = self._take_over()
            with trouble(real):
                self._guard = Guard(real)
            undone.pop_all()

    takes_shared: Final = True  # an item that is done before it is written need never be copied

    @staticmethod
    def open_reader(path: str | os.PathLike[str], *, patience: float = 5.0, clocks: Clocks = CLOCKS) -> Reader:
        """Look into a store, whoever owns it, without disturbing them."""
        with trouble(os.fspath(path)):
            real = files.resolved(path)
        return Reader(real, patience, clocks)

    def close(self) -> None:
        """Let go of the file. Nothing is called afterwards."""
        if os.getpid() != self._pid:
            return  # the connections are the parent's
        try:
            with suppress(StoreError):  # it is closed already, full, or another's: then it says so when it is opened
                self._transact([], self._give_back)
        finally:
            self._let_go()

    def _give_back(self) -> dict[str, Batch]:
        owner = read_owner(self._writer, self._seals)
        self._set_owner(owner._replace(file=None))
        return {}

    def _let_go(self) -> None:
        with self._writing, ExitStack() as after:  # each of them whatever the others raise, the last one first
            after.callback(self._ownership.release)
            after.callback(self._guard.close)
            after.callback(self._writer.close)
            after.callback(super().close)
            self._guard.release()

    # -- writing -------------------------------------------------------------------------------------

    def create(self, run: RunRecord, commit: Commit, progress: Progress) -> None:
        prepared = self.prepare(run.run_id, commit, progress)
        self._transact([prepared], lambda: self._create(run, prepared))

    def commit(self, run_id: str, commit: Commit, progress: Progress) -> None:
        self.write([self.prepare(run_id, commit, progress)])

    def replace(self, run: RunRecord, snapshot: Snapshot | None = None, withdrawn: Collection[OrderKey] = ()) -> None:
        self._transact([], lambda: self._replace(run, snapshot, withdrawn))

    def prepare(self, run_id: str, commit: Commit, progress: Progress) -> Prepared:
        """A commit that can be written later, by another thread, while the core goes on: it does not change any more.

        What is prepared is to be written in the order in which it was.
        """
        return row_codec.prepare(run_id, commit, progress, self._clocks)

    def write(self, prepared: Sequence[Prepared]) -> None:
        """Any number of prepared commits, of any runs: all of them or none.

        After an error the same may be given again, also when it is not known whether they were written: what was
        is not written twice.

        Raises:
            NotStartedError: there is no such run.
            StoreLockedError: another coordinator has taken over; nothing was written.
            StoreCorruptError: the file was deleted or replaced, or is not what was written.
            StoreError: no space, an I/O error, locked by another program: ``transient``, may be tried again.
        """
        self._transact(prepared, lambda: self._write(prepared))

    # -- inside --------------------------------------------------------------------------------------

    def _transact(self, prepared: Sequence[Prepared], work: Callable[[], dict[str, Batch]]) -> None:
        """``work`` in one transaction of the owner, on the file that it has always been."""
        self._check_open()
        said: list[str] = []
        try:
            with self._writing:
                self._transact_alone(prepared, work, said)
        finally:
            for text in said:
                say(logging.WARNING, "%s", text)  # handlers of the log are the user's: not under the lock

    def _transact_alone(
        self, prepared: Sequence[Prepared], work: Callable[[], dict[str, Batch]], said: list[str]
    ) -> None:
        try:
            self._guard.check()
            said += self._key.keep()  # or nobody could read what is written now
            self._writer.execute("BEGIN IMMEDIATE")
            self._check_epoch()
            done = work()
            self._guard.check_writing()
            self._writer.execute("COMMIT")
            self._guard.check()  # or it may be in a file that has no name any more
        except sqlite_errors.TROUBLE as error:
            self._roll_back()
            run_id = prepared[0].run_id if prepared else None
            raise sqlite_errors.translated(self.path, error, run_id, _size(prepared)) from error
        except BaseException:
            self._roll_back()
            raise
        for name, batch in done.items():
            self._stands[name] = batch.run, batch.tally, batch.done, batch.index, batch.living

    def _create(self, run: RunRecord, prepared: Prepared) -> dict[str, Batch]:
        known = self._writer.execute("SELECT 1 FROM runs WHERE run_id = ?", (row_codec.text(run.run_id),)).fetchone()
        if known is not None:
            raise StoreError(f"run {run.run_id!r} exists", run_id=run.run_id, path=self.path)
        (number,) = self._writer.execute("SELECT coalesce(max(run), 0) + 1 FROM runs").fetchone()
        batch = Batch(run.run_id, number, RunTotals(), {}, ChunkIndex(), RowSum())
        batch.add(prepared)
        batch.create(self._writer, self._seals, run, self._epoch, self._clocks.wall())
        owner = read_owner(self._writer, self._seals)
        self._set_owner(owner._replace(runs=owner.runs + 1))
        return {run.run_id: batch}

    def _replace(self, run: RunRecord, snapshot: Snapshot | None, withdrawn: Collection[OrderKey]) -> dict[str, Batch]:
        _, progress, _ = read_stand(self._writer, self._seals, run.run_id)
        batch = Batch(run.run_id, *self._stood(run.run_id))
        batch.progress = progress
        batch.replace(self._writer, self._seals, run)
        if snapshot is not None:
            batch.renew(snapshot, progress, self._clocks)
        if withdrawn:
            self._withdraw(batch, withdrawn)
        batch.write(self._writer, self._seals, self._epoch, self._clocks.wall())
        return {run.run_id: batch}

    def _withdraw(self, batch: Batch, orders: Collection[OrderKey]) -> None:
        """Take events out. The seal of a row hangs on those before it, so all that are left are written anew."""
        batch.events = [event for event in self.events(batch.run_id) if event.order not in orders]
        large_values.delete(self._writer, schema.EVENTS, "run = ?", (batch.run,))
        self._writer.execute("DELETE FROM events WHERE run = ?", (batch.run,))
        batch.tally.events, batch.tally.event_seal = 0, b""

    def _write(self, prepared: Sequence[Prepared]) -> dict[str, Batch]:
        batches: dict[str, Batch] = {}
        for one in prepared:
            batch = batches.get(one.run_id)
            if batch is None:
                batch = batches[one.run_id] = Batch(one.run_id, *self._stood(one.run_id))
            if not one.turn:
                one.turn.append(batch.tally.revision + 1)
            if one.turn[0] > batch.tally.revision + 1:
                raise StoreError(f"{self.path}: a commit before this one was not written", run_id=one.run_id)
            if one.turn[0] > batch.tally.revision:
                batch.add(one)
        now = self._clocks.wall()
        for batch in batches.values():
            if batch.tally.revision > batch.before.revision:
                batch.write(self._writer, self._seals, self._epoch, now)
        return batches

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):  # some errors have ended the transaction already
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")

    def _check_epoch(self) -> None:
        found = self._writer.execute("SELECT epoch FROM store").fetchone()
        epoch = found[0] if found else None
        if epoch == self._epoch:
            return
        if epoch is None or epoch < self._epoch:
            raise corrupt(self.path, f"epoch {self._epoch} was written, {epoch} is there", row="store 1")
        owner = read_owner(self._writer, self._seals)
        text = f"{self.path} was taken over by the coordinator with pid {owner.pid}: this one writes nothing any more"
        raise StoreLockedError(text, path=self.path, pid=owner.pid, since=owner.since)

    def _stood(self, run_id: str) -> tuple[int, RunTotals, dict[str, int], ChunkIndex, RowSum]:
        # Taken out, and put back when it is known to be written: an interrupt may come in between.
        known = self._stands.pop(run_id, None)
        if known is None:
            run, _, tally = read_stand(self._writer, self._seals, run_id)
            steps = read_steps(self._writer, self._seals, run_id, run, tally)
            index = read_index(self._writer, self._seals, run_id, run)
            known = run, tally, steps, index, read_living(self._writer, self._seals, run_id, run, tally)
        return known

    def _take_over(self) -> int:
        """Raise the epoch: whoever had it before cannot write any more."""
        with trouble(self.path):
            self._writer.execute("BEGIN IMMEDIATE")
            owner = read_owner(self._writer, self._seals)
            mine = self._ownership
            file = files.described(files.identity(self.path))
            taken = owner._replace(epoch=owner.epoch + 1, pid=mine.pid, host=mine.host, since=mine.since, file=file)
            self._set_owner(taken)
            self._writer.execute("COMMIT")
            self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)")  # so that a copy of this file alone says so
        return owner.epoch + 1

    def _set_owner(self, owner: Owner) -> None:
        schema.set_owner(self._writer, self._seals, owner)


def _size(prepared: Sequence[Prepared]) -> int:
    """About how many bytes are to be written: payloads and pages."""
    return sum(one.commit.size for one in prepared) + 16384


def _check_ours(path: str, patience: float) -> None:
    """What has no key is not another program's: beside that nothing is made, not even a lock."""
    if read_key(path) is None and os.path.exists(path) and os.path.getsize(path):
        with closing(connect(path, patience, "ro")) as connection:
            schema.expect_version(connection, path)


def _opened(path: str, patience: float) -> sqlite3.Connection:
    """The owner's connection to a database of this version, made if there is none."""
    key = read_key(path)
    size = os.path.getsize(path) if os.path.exists(path) else None
    if size == 0 and key is not None:
        raise corrupt(path, "it is empty, and its key says that it was not: what was in it is lost")
    if not size:
        log = path + "-wal"
        if os.path.exists(log) and os.path.getsize(log):  # SQLite would read it into whatever is made there
            text = f"it is gone, but {log} is there, with what was written last; to begin anew, delete that, too"
            raise corrupt(path, text)
        _make(path, key or make_key(path), patience)
    if failpoints.armed:
        failpoints.hit("store.open")
    connection = connect(path, patience, "rw")
    try:
        schema.expect_version(connection, path)
        schema.expect_schema(connection, path)
        schema.use_log(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _make(path: str, key: bytes, patience: float) -> None:
    """An empty store is complete before it is there under its name."""
    if failpoints.armed:
        failpoints.hit("store.make")
    new = path + ".new"
    for end in files.SIDES:  # of one who was killed here
        with suppress(FileNotFoundError):
            os.unlink(new + end)
    files.write_private(new, b"")
    connection = connect(new, patience, "rw")
    try:
        schema.create(connection, RowMacs(path, key))
    finally:
        connection.close()
    if failpoints.armed:
        failpoints.hit("store.made")
    os.rename(new, path)
    files.sync_directory(path)
