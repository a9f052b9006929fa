"""The schema of the database.

A run's rows carry its number (``run``), and end in the payload, where there is one, and a seal (``integrity``). Each
has its own, but for those that were added together to ``events``, ``outputs`` and ``errors``: the last one has it.
``ord`` is an order key, as bytes that sort like it. Times are seconds since the epoch. Payloads are not for
reading: they are pickles, in a frame (``rows.pack``), that only workers open.

    store      one row: who owns the store, in which epoch, how many runs there are, and while it is open in which
               ``file`` (device and inode): a copy that was made meanwhile is in another one
    runs       what each run began with; ``shape``, ``places``, ``main``, ``versions`` and ``fields`` are JSON
    progress   where each run stands as of its last commit, and what the other tables must hold of it
    items      work not finished yet; a finished item's row is deleted
    blocks     many such items in one row, numbered from ``block`` on; ``place`` is NULL if they differ in it
    gone       which items of a block are finished, or have rows of their own, as ranges; and how many are left
    arrivals   values that wait at a join, ``count`` of them in a row
    scopes     fan-outs that some join collects, while something of them is alive; ``batch`` is a batch's input
    spoilt     batches that have failed, until what runs of them is over: the number of the item and its error
    marks      small facts by ``kind``: 'depth' (scope a, component b): the deepest level so far;
               'joined' (scope a, place b): that join has fired; 'passed' (node a): it passed something on;
               'held' (node a, item b): held by it, in the order of ``value``;
               'given' (item a): what it gave so far, and it has more: 0 values, 1 successors, 2 writes to the context,
               3 a digest of the values, 4 a probe of the hashes of the process that gave the last
    events     writes to the context, in the order of commits; ``count`` of them in a row, numbered from ``row`` on
    outputs    outputs of the run, in the order of commits, likewise
    errors     failed attempts
    steps      how many steps of each node are completed
    parts      what is too large for a row (``parts``): the row has the number ``value`` in place of its payload

Two views are for reading: ``overview`` has a line for each run, ``queue`` one for each unfinished item or block.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import fields
from functools import cache
from typing import Any, Final, NamedTuple, TypeVar

from ...errors import StoreError, StoreVersionError
from .row_macs import Body, RowMacs, RunTotals, corrupt, read_key

T = TypeVar("T")

VERSION: Final = 1
CHUNK: Final = 256  # rows that may have one seal
CHUNK_BYTES: Final = 1 << 22  # of their payloads; with the row that comes to it a chunk ends: so much is read at a time
APPLICATION: Final = 0x666C6F78  # "flox": what ``file`` and we tell other databases from


def size_of(body: object) -> int:
    """How much a payload adds to a chunk. One that lies in ``parts``, and has its number here, is enough for one."""
    return len(body) if isinstance(body, bytes) else CHUNK_BYTES if isinstance(body, int) else 0


def chunks(made: Sequence[tuple[T, Body]]) -> Iterator[Sequence[tuple[T, Body]]]:
    """Rows that are added together, by what has one seal. They are read by that, too: so a chunk is bounded."""
    start = size = 0
    for at, (_, body) in enumerate(made, 1):
        size += size_of(body)
        if at - start == CHUNK or size >= CHUNK_BYTES or at == len(made):
            yield made[start:at]
            start, size = at, 0


class Table(NamedTuple):
    """A table of sealed rows: its columns but for payload and seal, and how many of them are the key."""

    name: str
    columns: str
    key: int
    payload: str = ""  # "payload BLOB", or "" where there is none

    @property
    def names(self) -> list[str]:
        """Of these columns."""
        return [column.split()[0] for column in self.columns.split(", ")]

    @property
    def counted(self) -> bool:
        """Whether a row may stand for many records."""
        return ", count INTEGER" in self.columns

    def create(self) -> str:
        key = ", ".join(self.names[: self.key])
        columns = ", ".join(filter(None, (self.columns, self.payload, "seal BLOB NOT NULL")))
        return f"CREATE TABLE {self.name} ({columns}, PRIMARY KEY ({key})) WITHOUT ROWID"

    def insert(self, connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]], verb: str = "INSERT") -> int:
        """Write rows, many with one statement: a thread that does so takes and gives the interpreter lock once.

        Args:
            rows: all columns of each.
            verb: what to do with those that are there.

        Returns:
            how many were written.
        """
        count = at = 0
        for size in _SIZES:
            while len(rows) - at >= size:
                sql = _statement(verb, self.name, len(rows[at]), size)
                count += connection.execute(sql, list(itertools.chain(*rows[at : at + size]))).rowcount
                at += size
        return count


@cache
def _statement(verb: str, table: str, width: int, size: int) -> str:
    one = "(" + ", ".join("?" * width) + ")"
    return f"{verb} INTO {table} VALUES {', '.join([one] * size)}"


_SIZES: Final = (256, 16, 1)  # few statements, which SQLite has ready; at 12 columns far below its 32,766 values

STORE: Final = Table(
    "store",
    "id INTEGER NOT NULL, epoch INTEGER NOT NULL, runs INTEGER NOT NULL, pid INTEGER, host TEXT, since REAL, file TEXT",
    1,
)
RUNS: Final = Table(
    "runs",
    "run INTEGER NOT NULL, run_id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, started_at REAL NOT NULL, timeout REAL, "
    "finish INTEGER NOT NULL, seed TEXT NOT NULL, key BLOB NOT NULL, shape TEXT NOT NULL, places TEXT NOT NULL, "
    "main TEXT NOT NULL, versions TEXT NOT NULL, hash_seed INTEGER, fields TEXT NOT NULL, "
    "timeout_grace REAL NOT NULL, hash_probe INTEGER",
    1,
    "payload BLOB NOT NULL",
)
PROGRESS: Final = Table(
    "progress",
    "run INTEGER NOT NULL, phase TEXT NOT NULL, total INTEGER NOT NULL, completed INTEGER NOT NULL, "
    "failed INTEGER NOT NULL, retries INTEGER NOT NULL, last_item INTEGER NOT NULL, last_error INTEGER NOT NULL, "
    "finished_at REAL, failure BLOB, failed_left INTEGER NOT NULL, updated_at REAL NOT NULL, epoch INTEGER NOT NULL, "
    + ", ".join(f"{f.name} {'BLOB' if f.type == 'bytes' else 'INTEGER'} NOT NULL" for f in fields(RunTotals)),
    1,
)
ITEMS: Final = Table(
    "items",
    "run INTEGER NOT NULL, item INTEGER NOT NULL, place INTEGER NOT NULL, ord BLOB NOT NULL, scope INTEGER NOT NULL, "
    "attempt INTEGER NOT NULL, status TEXT NOT NULL, due REAL, error BLOB",
    2,
    "payload BLOB NOT NULL",
)
BLOCKS: Final = Table(
    "blocks",
    "run INTEGER NOT NULL, block INTEGER NOT NULL, count INTEGER NOT NULL, place INTEGER, scope INTEGER NOT NULL, "
    "ord BLOB NOT NULL",
    2,
    "payload BLOB NOT NULL",
)
GONE: Final = Table(
    "gone", "run INTEGER NOT NULL, block INTEGER NOT NULL, rest INTEGER NOT NULL, ranges BLOB NOT NULL", 2
)
ARRIVALS: Final = Table(
    "arrivals",
    "run INTEGER NOT NULL, scope INTEGER NOT NULL, place INTEGER NOT NULL, number INTEGER NOT NULL, "
    "count INTEGER NOT NULL, ord BLOB NOT NULL, node TEXT NOT NULL",
    4,
    "payload BLOB NOT NULL",
)
SCOPES: Final = Table(
    "scopes",
    "run INTEGER NOT NULL, scope INTEGER NOT NULL, parent INTEGER NOT NULL, place INTEGER NOT NULL, ord BLOB NOT NULL",
    2,
    "batch BLOB",
)
SPOILT: Final = Table(
    "spoilt", "run INTEGER NOT NULL, scope INTEGER NOT NULL, number INTEGER NOT NULL", 2, "error BLOB NOT NULL"
)
MARKS: Final = Table(
    "marks",
    "run INTEGER NOT NULL, kind TEXT NOT NULL, a INTEGER NOT NULL, b INTEGER NOT NULL, value INTEGER NOT NULL",
    4,
)
EVENTS: Final = Table(
    "events",
    "run INTEGER NOT NULL, row INTEGER NOT NULL, count INTEGER NOT NULL, ord BLOB NOT NULL, idx INTEGER NOT NULL, "
    "node TEXT NOT NULL, field INTEGER NOT NULL",
    2,
    "payload BLOB NOT NULL",
)
OUTPUTS: Final = Table(
    "outputs",
    "run INTEGER NOT NULL, row INTEGER NOT NULL, count INTEGER NOT NULL, ord BLOB NOT NULL, idx INTEGER NOT NULL, "
    "node TEXT NOT NULL, worker INTEGER",
    2,
    "payload BLOB NOT NULL",
)
ERRORS: Final = Table(
    "errors",
    "run INTEGER NOT NULL, row INTEGER NOT NULL, number INTEGER NOT NULL, node TEXT NOT NULL, item INTEGER NOT NULL, "
    "attempt INTEGER NOT NULL, worker INTEGER, at REAL NOT NULL, type TEXT NOT NULL, message TEXT NOT NULL, "
    "traceback TEXT NOT NULL, input TEXT",
    2,
    "payload BLOB",
)
PARTS: Final = Table(
    "parts",
    "run INTEGER NOT NULL, value INTEGER NOT NULL, part INTEGER NOT NULL, parts INTEGER NOT NULL",
    3,
    "payload BLOB NOT NULL",
)
STEPS: Final = Table("steps", "run INTEGER NOT NULL, node TEXT NOT NULL, done INTEGER NOT NULL", 2)
LIVING: Final = ITEMS, BLOCKS, GONE, ARRIVALS, SCOPES, SPOILT, MARKS  # rows come and go
SUMMED: Final = RUNS, *LIVING  # rows are replaced: that none is an older one shows by their sum
LOGS: Final = EVENTS, OUTPUTS, ERRORS  # rows are only added
TABLES: Final = STORE, RUNS, PROGRESS, *LIVING, *LOGS, PARTS, STEPS

VIEWS: Final = (
    "CREATE VIEW overview AS SELECT run_id, name, phase, completed, total, failed, retries, events, outputs, errors, "
    "datetime(started_at, 'unixepoch') || 'Z' AS started, datetime(updated_at, 'unixepoch') || 'Z' AS updated "
    "FROM runs JOIN progress USING (run) ORDER BY run",
    "CREATE VIEW queue AS SELECT run_id, item, items, json_extract(places, '$[' || place || ']') AS node, attempt, "
    "status, datetime(due, 'unixepoch') || 'Z' AS due, hex(ord) AS ord FROM (SELECT run, item, 1 AS items, place, "
    "attempt, status, due, ord FROM items UNION ALL SELECT run, block, coalesce(rest, count), place, 1, 'pending', "
    "NULL, ord FROM blocks LEFT JOIN gone USING (run, block)) JOIN runs USING (run) ORDER BY run, ord",
)


def _object(statement: str) -> tuple[str, tuple[str, str]]:
    """Name, kind and text of what a statement makes, as SQLite remembers them."""
    _, kind, name, *_ = statement.split(maxsplit=3)
    return name, (kind.lower(), statement)


STATEMENTS: Final = (*(table.create() for table in TABLES), *VIEWS)
_OBJECTS: Final = dict(map(_object, STATEMENTS))


def create(connection: sqlite3.Connection, seals: RowMacs) -> None:
    """All of it, in an empty database, in one transaction, and in this one file."""
    # Not with a write-ahead log: closing carries it over, and is silent when it cannot, on a full disk say.
    connection.execute("PRAGMA journal_mode = MEMORY")
    connection.execute("BEGIN IMMEDIATE")
    for statement in STATEMENTS:
        connection.execute(statement)
    head = 1, 0, 0, None, None, None, None
    STORE.insert(connection, [(*head, seals.of("store", head))])
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")
    use_log(connection, seals.path)


def set_owner(connection: sqlite3.Connection, seals: RowMacs, columns: Sequence[object]) -> None:
    """Write the row of ``store``, of which these are the columns behind the first."""
    head = (1, *columns)
    STORE.insert(connection, [(*head, seals.of("store", head))], "REPLACE")


def use_log(connection: sqlite3.Connection, path: str) -> None:
    """From now on the database has a write-ahead log. Of a new file, before it has its name: whoever is killed
    meanwhile would leave a journal that nobody who only reads can roll back.

    Raises:
        StoreError: there can be none.
    """
    if connection.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
        raise StoreError(f"{path}: its file system does not allow a write-ahead log", path=path)


def expect_schema(connection: sqlite3.Connection, path: str) -> None:
    """Refuse tables, views and triggers that were not made here: before anything asks one of them.

    The schema has no seal. A view of a table's name may have a query without an end, and a trigger may write.

    Raises:
        StoreCorruptError: which names one of them.
    """
    found = connection.execute(f"SELECT type, name, sql FROM sqlite_schema LIMIT {2 * len(_OBJECTS)}").fetchall()
    strange = [name for kind, name, sql in found if not _known(kind, name, sql)]
    strange += sorted(_OBJECTS.keys() - {name for _, name, _ in found})
    if strange:
        raise corrupt(path, f"its schema is not what was written: {strange[0]!r:.100}")


def _known(kind: str, name: str, sql: str | None) -> bool:
    """Whether an object of the schema is one of ours, SQLite's own index of a key, or a table of its ANALYZE."""
    if isinstance(name, str) and name.startswith(("sqlite_stat", "sqlite_autoindex_")):
        return kind in ("table", "index")
    return _OBJECTS.get(name) == (kind, sql)


def expect_version(connection: sqlite3.Connection, path: str) -> None:
    """Refuse a database whose schema is not the one of this package.

    Raises:
        StoreCorruptError: it has a key, and yet it is none of ours.
        StoreError: it is another program's.
        StoreVersionError: it is of another version of the schema.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION:
        if read_key(path) is not None:
            raise corrupt(path, "it is not what was written")
        raise StoreError(f"{path} is a database of another program", path=path)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != VERSION:
        text = f"{path} has version {version} of the schema, and this floxide-mp knows version {VERSION} only"
        advice = "use the floxide-mp that wrote it, or name another file"
        raise StoreVersionError(f"{text}: {advice}", path=path, found=version, known=VERSION)
