"""How an older schema becomes the next one. Each step is part of one transaction (``schema.upgrade``).

Rows that are made anew are believed before: each is checked under the layout that it was written in, and then sealed
in the new one. What the others hold is not looked at; their seals stay.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Final

from . import rows, schema
from .batch import append, run_name
from .integrity import Seals, corrupt
from .packing import merged, pack_many, pack_ranges, total
from .reader import read_owner
from .rows import Row
from .schema import Migration, Table
from .tally import Tally


def to_version_2(connection: sqlite3.Connection, seals: Seals) -> None:
    """``runs.versions``, of which nothing is known; ``steps``, which begin to be counted; blocks: there are none.

    The columns of these tables are the same in version 3. Should a later one change them, what they are in ``schema``
    today is to be written out here.
    """
    changed = schema.RUNS, schema.ARRIVALS, schema.EVENTS, schema.OUTPUTS, schema.PROGRESS
    _set_aside(connection, changed)
    for table in (schema.STEPS, schema.BLOCKS):
        connection.execute(table.create())
    names: dict[int, str] = {}
    for row in connection.execute("SELECT * FROM old_runs ORDER BY run"):
        seals.check("runs", row, 3)
        names[row[0]] = rows.untext(row[1])
        head, body = (*row[:-2], "{}"), row[-2]
        schema.RUNS.insert(connection, [(*head, body, seals.of("runs", head, body))])
    for row in connection.execute("SELECT * FROM old_arrivals"):
        seals.check("arrivals", row, 4, run_id=names.get(row[0]))
        head, body = (*row[:4], 1, *row[4:-2]), row[-2]
        schema.ARRIVALS.insert(connection, [(*head, body, seals.of("arrivals", head, body))])
    stands = 0
    for row in connection.execute("SELECT * FROM old_progress ORDER BY run"):
        name = names.get(row[0], "")
        seals.check("progress", row, 1, run_name(name), name, body=False)
        events = _counted(connection, seals, schema.EVENTS, row[0], name, row[-4])
        outputs = _counted(connection, seals, schema.OUTPUTS, row[0], name, row[-3])
        head = (*row[:-4], events, outputs, row[-2], 0, 0, 0)
        schema.PROGRESS.insert(connection, [(*head, seals.of("progress", head, before=run_name(name)))])
        stands += 1
    owner = read_owner(connection, seals)
    if not owner.runs == len(names) == stands:
        raise corrupt(seals.path, f"{owner.runs} runs were written, {min(len(names), stands)} are there")
    for table in changed:
        connection.execute(f"DROP TABLE old_{table.name}")


def _counted(connection: sqlite3.Connection, seals: Seals, table: Table, run: int, name: str, last: bytes) -> bytes:
    """Rows of a log, each of one record; the new end of their chain. ``last`` is that of the old one."""
    before = now = b""
    for row in connection.execute(f"SELECT * FROM old_{table.name} WHERE run = ? ORDER BY row", (run,)):
        before = seals.check(table.name, row, 2, before, name)
        head, body = (*row[:2], 1, *row[2:-2]), row[-2]
        now = seals.of(table.name, head, body, now)
        table.insert(connection, [(*head, body, now)])
    if before != last:
        raise corrupt(seals.path, "rows are missing", name, table.name)
    return now


def to_version_3(connection: sqlite3.Connection, seals: Seals) -> None:
    """Numbers in rows of many records are packed otherwise; what is gone of a block is ``gone``, which was a mark."""
    _set_aside(connection, [*_MANY, schema.PROGRESS])
    connection.execute(schema.GONE.create())
    stands = 0
    sql = "SELECT run_id, old_progress.* FROM old_progress LEFT JOIN runs USING (run) ORDER BY run"
    for run_id, *row in connection.execute(sql):
        name = rows.untext(run_id or "")
        seals.check("progress", row, 1, run_name(name), name, body=False)
        run, tally = row[0], Tally(*row[_TALLY:-1])
        for table in (schema.BLOCKS, schema.ARRIVALS):
            for old in connection.execute(f"SELECT * FROM old_{table.name} WHERE run = ?", (run,)):
                seals.check(table.name, old, table.key, run_id=name)
                head, body = old[:-2], _repacked(table, old)
                table.insert(connection, [(*head, body, seals.of(table.name, head, body))])
        tally.marks -= _unmarked(connection, seals, run, name)
        tally.event_seal = _repacked_log(connection, seals, schema.EVENTS, run, name, tally.event_seal)
        tally.output_seal = _repacked_log(connection, seals, schema.OUTPUTS, run, name, tally.output_seal)
        head = (*row[:_TALLY], *tally.columns())
        schema.PROGRESS.insert(connection, [(*head, seals.of("progress", head, before=run_name(name)))])
        stands += 1
    connection.execute("DELETE FROM marks WHERE kind = 'done'")
    if read_owner(connection, seals).runs != stands:
        raise corrupt(seals.path, f"{read_owner(connection, seals).runs} runs were written, {stands} are there")
    for table in (*_MANY, schema.PROGRESS):
        connection.execute(f"DROP TABLE old_{table.name}")
    for view in schema.VIEWS:  # the last step makes them
        connection.execute(view)


def _unmarked(connection: sqlite3.Connection, seals: Seals, run: int, name: str) -> int:
    """Marks with a bit for each item of a block, as rows of ``gone``; how many there were."""
    sql = "SELECT marks.*, count FROM marks LEFT JOIN blocks ON blocks.run = marks.run AND block = a "
    found = connection.execute(sql + "WHERE marks.run = ? AND kind = 'done'", (run,)).fetchall()
    for *mark, count in found:
        seals.check("marks", mark, 4, run_id=name, body=False)
        first, bits = mark[2], mark[4]
        if count is None:
            raise corrupt(seals.path, "it is missing", name, f"blocks {first}")
        gone = merged((first + k, first + k + 1) for k in range(count) if bits >> k & 1)
        head = run, first, count - total(gone), pack_ranges(gone, first)
        schema.GONE.insert(connection, [(*head, seals.of("gone", head))], "REPLACE")
    return len(found)


def _repacked_log(
    connection: sqlite3.Connection, seals: Seals, table: Table, run: int, name: str, last: bytes
) -> bytes:
    """Rows of a log; the new end of their chain. ``last`` is that of the old one."""
    before = now = b""
    found: list[Row] = []
    for row in connection.execute(f"SELECT * FROM old_{table.name} WHERE run = ? ORDER BY row", (run,)):
        found.append(row)
        if row[-1] != b"" or len(found) == schema.CHUNK:
            before = seals.check_rows(table.name, found, before, name)
            now = append(connection, seals, table, [(row[:-2], _repacked(table, row)) for row in found], now)
            found = []
    if found or before != last:
        raise corrupt(seals.path, "rows are missing", name, table.name)
    return now


def _repacked(table: Table, row: Row) -> bytes:
    """The payload of a row of version 2: where it is one of many records, eight bytes for each number."""
    body: bytes = row[-2]
    count = row[table.names.index("count")]
    if count == 1:
        return body
    columns = _MANY[table]
    numbers = struct.unpack_from(f"<{(columns + 1) * count}q", body)
    *found, lengths = (numbers[at : at + count] for at in range(0, len(numbers), count))
    ends = accumulate(lengths, initial=8 * len(numbers))
    return pack_many(found, [body[start:end] for start, end in pairwise(ends)])


def _set_aside(connection: sqlite3.Connection, tables: Sequence[Table]) -> None:
    """Call them ``old_...``, and make them anew. The views go."""
    for view in ("overview", "queue"):
        connection.execute(f"DROP VIEW IF EXISTS {view}")
    for table in tables:
        connection.execute(f"ALTER TABLE {table.name} RENAME TO old_{table.name}")
        connection.execute(table.create())


_TALLY: Final = schema.PROGRESS.names.index("revision")
_MANY: Final = {schema.BLOCKS: 2, schema.ARRIVALS: 1, schema.EVENTS: 1, schema.OUTPUTS: 2}  # columns in the payload
MIGRATIONS: Final[Mapping[int, Migration]] = {1: to_version_2, 2: to_version_3}
