"""How an older schema becomes the next one. Each step is part of one transaction (``schema.upgrade``).

Rows that are made anew are believed before: each is checked under the layout that it was written in, and then sealed
in the new one. What the others hold is not looked at; their seals stay.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Final

from . import rows, schema
from .batch import run_name
from .integrity import Seals, corrupt
from .reader import read_owner
from .schema import Migration, Table


def to_version_2(connection: sqlite3.Connection, seals: Seals) -> None:
    """``runs.versions``, of which nothing is known; ``steps``, which begin to be counted; blocks: there are none.

    When there is a version 3, what these tables are in ``schema`` today is to be written out here.
    """
    for name in ("overview", "queue"):
        connection.execute(f"DROP VIEW {name}")
    for table in _CHANGED:
        connection.execute(f"ALTER TABLE {table.name} RENAME TO old_{table.name}")
    for table in (*_CHANGED, schema.STEPS, schema.BLOCKS):
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
    for table in _CHANGED:
        connection.execute(f"DROP TABLE old_{table.name}")
    for view in schema.VIEWS:
        connection.execute(view)


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


_CHANGED: Final = schema.RUNS, schema.ARRIVALS, schema.EVENTS, schema.OUTPUTS, schema.PROGRESS
MIGRATIONS: Final[Mapping[int, Migration]] = {1: to_version_2}
