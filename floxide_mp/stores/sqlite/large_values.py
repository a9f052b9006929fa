"""Values that are too large for a row of the database, in rows of their own. In the process that owns the store, and in
those that look into it.

SQLite takes 1,000,000,000 bytes a row. A value of more than a quarter of that is cut: where its bytes would be, its
row has the number by which they are found.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from . import schema
from .row_macs import RowMacs, corrupt
from .schema import Table

_SHARE: Final = 4  # a row has other columns, and the pages of one part are in memory while it is written


def most(connection: sqlite3.Connection) -> int:
    """Of how many bytes the largest value may be that is not cut."""
    return connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH) // _SHARE


def write(connection: sqlite3.Connection, seals: RowMacs, run: int, number: int, value: bytes) -> None:
    """Write a value under a number that the run has given to no other one."""
    size = most(connection)
    whole = memoryview(value)
    starts = range(0, len(value), size)
    for part, start in enumerate(starts):
        head, body = (run, number, part, len(starts)), whole[start : start + size]
        schema.PARTS.insert(connection, [(*head, body, seals.of("parts", head, body))])


def read(connection: sqlite3.Connection, seals: RowMacs, run_id: str | None, run: int, number: int) -> bytes:
    """The value of that number.

    Raises:
        StoreCorruptError: a part of it is missing, or not what was written.
    """
    sql = "SELECT * FROM parts WHERE run = ? AND value = ? ORDER BY part"
    found: list[bytes] = []
    for row in connection.execute(sql, (run, number)):
        seals.check("parts", row, 3, run_id=run_id)
        if row[2] != len(found):
            break
        parts = row[3]
        found.append(row[4])
    if not found or len(found) != parts:
        raise corrupt(seals.path, "it is missing", run_id, f"parts {number} {len(found)}")
    return b"".join(found)


def delete(connection: sqlite3.Connection, table: Table, where: str, values: Sequence[object]) -> None:
    """Delete what belongs to rows that are about to be deleted: those of ``table`` that ``where`` finds."""
    name = table.payload.split()[0]
    sql = f"SELECT {name} FROM {table.name} WHERE {where} AND typeof({name}) = 'integer'"
    numbers = [number for (number,) in connection.execute(sql, values)]
    if numbers:
        connection.execute(
            "DELETE FROM parts WHERE run = ? AND value IN (SELECT value FROM json_each(?))", (values[0], str(numbers))
        )
