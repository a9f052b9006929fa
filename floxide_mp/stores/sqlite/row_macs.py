"""Seals: what makes a flipped byte, a swapped payload or a row that is missing show, before its contents are used. In
the process that owns a store, and in those that look into it.

Each row carries a keyed hash of all its columns. Where rows are only ever added, the hash covers that of the row
before, too. The key is in a file of its own: who can write to the database alone cannot make a row that is believed.
``RunTotals`` is what a run's rows in the other tables add up to. It is sealed with the run's progress, so a row that is
missing, or is back, shows.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from hmac import compare_digest
from typing import Any, Final, TypeAlias

from ... import failpoints
from ...errors import StoreCorruptError, StoreError
from .files import open_own, sync_directory, write_private

KEY_BYTES: Final = 32
SEAL_BYTES: Final = 16
Body: TypeAlias = "bytes | memoryview | int | None"
"""A row's payload; a number: it is in ``parts``."""
_BODIES: Final = bytes, int, type(None)  # what a payload can be that is read
_LARGE: Final = 1 << 16  # bytes that are not copied to be sealed


def corrupt(path: str, what: str, run_id: str | None = None, row: str | None = None) -> StoreCorruptError:
    """The error, naming file, run and row as far as they are known. ``row`` is the table and its key."""
    where = f"run {run_id!r}: " if run_id is not None else ""
    at = f"row {row}: " if row is not None else ""
    return StoreCorruptError(f"{path}: {where}{at}{what}", path=path, run_id=run_id, row=row)


def differing(written: int, found: int, noun: str) -> str:
    """That so many rows were written, and another number is there. ``noun`` is what one of them is."""
    verb = f"{noun} was" if written == 1 else f"{noun}s were"
    return f"{written} {verb} written, {'none is' if not found else '1 is' if found == 1 else f'{found} are'} there"


def read_key(database: str) -> bytes | None:
    """The key of a database, None if it has none.

    Raises:
        StoreCorruptError: its file does not hold a key.
        StoreError: it is no file of this user's.
    """
    try:
        fd = open_own(key_path(database), os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        key = os.read(fd, KEY_BYTES + 1)
    finally:
        os.close(fd)
    if len(key) != KEY_BYTES:
        raise corrupt(key_path(database), differing(KEY_BYTES, len(key), "byte"))
    return key


def make_key(database: str) -> bytes:
    """A new key, in its file: all of it or nothing. Called by the owner of the database, if it has none."""
    key = secrets.token_bytes(KEY_BYTES)
    write_key(database, key)
    return key


def write_key(database: str, key: bytes) -> None:
    """A key in its file: all of it or nothing."""
    path = key_path(database)
    write_private(path + ".new", key)
    if failpoints.armed:
        failpoints.hit("store.key")
    os.rename(path + ".new", path)


def key_path(database: str) -> str:
    return database + ".key"


class KeyFile:
    """The key of a store that is open, which is written again when its file is deleted, replaced or changed meanwhile:
    or what is written from then on could never be read.

    Args:
        database: whose it is.
        key: as it was read from its file.
    """

    def __init__(self, database: str, key: bytes) -> None:
        self._database, self._path, self._key = database, key_path(database), key
        self._found: tuple[int, ...] | None = None  # which is looked at once

    def keep(self) -> tuple[str, ...]:
        """Write it again if need be, and give what is in its place a name of its own.

        Returns:
            what to log of that.

        Raises:
            OSError: it cannot be written.
        """
        found = _version(self._path)
        if found == self._found and found is not None:
            return ()
        if found is not None and self._read() == self._key:
            self._found = found
            return ()
        what = "deleted" if found is None else f"replaced; what was there is {self._put_aside()} now"
        write_key(self._database, self._key)
        sync_directory(self._path)
        self._found = _version(self._path)
        return (f"{self._path}, the key of an open store, was written again, from memory: it was {what}",)

    def _read(self) -> bytes | None:
        try:
            return read_key(self._database)
        except (StoreError, OSError):  # a link, a directory, another user's, or not a key
            return None

    def _put_aside(self) -> str:
        number = 1
        while os.path.lexists(name := f"{self._path}.replaced-{number}"):
            number += 1
        os.rename(self._path, name)
        return name


def _version(path: str) -> tuple[int, ...] | None:
    """Which file it is, as of its last change; None: it is not there. A link is not followed."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def run_name(run_id: str) -> bytes:
    """What binds a run's progress to its name."""
    return run_id.encode("utf-8", "surrogatepass")


class RowMacs:
    """Makes and checks the seals of one database.

    Args:
        path: of the database, for errors.
        key: of it.
    """

    def __init__(self, path: str, key: bytes) -> None:
        self.path = path
        self._keyed = blake2b(digest_size=SEAL_BYTES, key=key)  # which nobody can read the key from

    def of(self, table: str, head: tuple[Any, ...], body: Body = None, before: bytes = b"") -> bytes:
        """The seal of a row.

        Args:
            table: which.
            head: its columns but for the last but one; ``ascii`` of them is the same in every Python.
            body: that one: the payload, which may be large; or the number by which it is found.
            before: the seal of the row before, in tables that are only added to.
        """
        mac = self._keyed.copy()
        if isinstance(body, int):
            mac.update(f"{table}{head!a}{body}".encode() + before)
        elif body is None or len(body) < _LARGE:
            mac.update(f"{table}{head!a}{body is None}".encode() + before + (body or b""))
        else:
            mac.update(f"{table}{head!a}False".encode() + before)
            mac.update(body)
        return mac.digest()

    def of_rows(self, table: str, found: Sequence[tuple[tuple[Any, ...], Body]], before: bytes) -> bytes:
        """The seal of rows that were added together: ``head`` and ``body`` of each."""
        if len(found) == 1:
            return self.of(table, *found[0], before)
        mac = self._keyed.copy()
        heads = [(head, -1 - body if isinstance(body, int) else body is None or len(body)) for head, body in found]
        mac.update(f"{len(found)} rows of {table}{heads!a}".encode() + before)
        mac.update(b"".join([body for _, body in found if body and not isinstance(body, int)]))
        return mac.digest()

    def hidden(self, seal: bytes) -> int:
        """What a row with that seal adds to a ``RowSum``. Nobody can tell it who does not have the key: else rows with
        the same sum could be looked for."""
        mac = self._keyed.copy()
        mac.update(b"hidden" + seal if isinstance(seal, bytes) else b"")
        return int.from_bytes(mac.digest())

    def check(
        self,
        table: str,
        row: Sequence[Any],
        key: int,
        before: bytes = b"",
        run_id: str | None = None,
        body: bool = True,
    ) -> bytes:
        """The seal of a row that was read.

        Args:
            row: all columns, the seal last.
            key: how many columns name the row, for the error; the first is the run's number and says nothing.
            body: whether the last but one is a payload.

        Raises:
            StoreCorruptError: it is not that of the row.
        """
        made: bytes = row[-1]
        split, found = (-2, row[-2]) if body else (-1, None)
        told = isinstance(made, bytes) and isinstance(found, _BODIES)
        if not told or not compare_digest(made, self.of(table, tuple(row[:split]), found, before)):
            name = " ".join(str(part) for part in (table, *row[1:key]))
            raise corrupt(self.path, "it is not what was written", run_id, name)
        return made

    def check_rows(self, table: str, found: Sequence[Sequence[Any]], before: bytes, run_id: str) -> bytes:
        """The seal of rows that were added together: all columns of each, the payload and the seal last.

        Raises:
            StoreCorruptError: it is not theirs.
        """
        made: bytes = found[-1][-1]
        told = isinstance(made, bytes) and all(isinstance(row[-2], _BODIES) for row in found)
        if not told or not compare_digest(made, self.of_rows(table, [(tuple(r[:-2]), r[-2]) for r in found], before)):
            which = str(found[0][1]) if len(found) == 1 else f"{found[0][1]} to {found[-1][1]}"
            raise corrupt(self.path, "it is not what was written", run_id, f"{table} {which}")
        return made


class RowSum:
    """What rows come to that are replaced and deleted: not one of them can be an older one, or one that is over.

    It is the sum of what their seals hide, and what is written of it is hidden again.

    Args:
        total: of the rows so far.
    """

    __slots__ = ("total",)

    def __init__(self, total: int = 0) -> None:
        self.total = total

    def add(self, seals: RowMacs, found: Iterable[bytes]) -> None:
        """Rows with these seals are there."""
        self.total += sum(map(seals.hidden, found))

    def take(self, seals: RowMacs, found: Iterable[bytes]) -> None:
        """They are gone."""
        self.total -= sum(map(seals.hidden, found))

    def seal(self, seals: RowMacs) -> bytes:
        """What is written of it."""
        return seals.of("living", (self.total % (1 << 8 * SEAL_BYTES),))


@dataclass(slots=True)
class RunTotals:
    """As of a run's last commit.

    Attributes:
        revision: how many commits there have been.
        items: unfinished items.
        blocks, arrivals, scopes, spoilt, marks: rows of these tables.
        arrived, held: how many arrivals and held items there have ever been: the last numbers given.
        events, outputs, errors: rows of these tables, and ``..._seal`` the seal of the last one.
        steps: rows of this table, and ``done`` the sum of what they say.
        large: how many values there have ever been that are too large for a row: the last number given.
        living: of the run's row and all rows that come and go (``integrity.RowSum``).
    """

    revision: int = 0
    items: int = 0
    arrivals: int = 0
    arrived: int = 0
    scopes: int = 0
    failed_batches: int = 0
    flags: int = 0
    held: int = 0
    events: int = 0
    outputs: int = 0
    errors: int = 0
    event_seal: bytes = b""
    output_seal: bytes = b""
    error_seal: bytes = b""
    steps: int = 0
    done: int = 0
    blocks: int = 0
    large: int = 0
    living: bytes = b""

    def columns(self) -> tuple[Any, ...]:
        """Its values, in order."""
        return (
            *(self.revision, self.items, self.arrivals, self.arrived, self.scopes, self.failed_batches),
            *(self.flags, self.held, self.events, self.outputs, self.errors),
            *(
                self.event_seal,
                self.output_seal,
                self.error_seal,
                self.steps,
                self.done,
                self.blocks,
                self.large,
                self.living,
            ),
        )
