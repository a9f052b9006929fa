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
from .schema import Migration


def to_version_2(connection: sqlite3.Connection, seals: Seals) -> None:
    """``runs.versions``, of which nothing is known; ``steps``, which begin to be counted, and their tally.

    When there is a version 3, what ``schema.RUNS`` and ``schema.PROGRESS`` are today is to be written out here.
    """
    for name in ("overview", "queue"):
        connection.execute(f"DROP VIEW {name}")
    for table in (schema.RUNS, schema.PROGRESS):
        connection.execute(f"ALTER TABLE {table.name} RENAME TO old_{table.name}")
    for table in (schema.RUNS, schema.PROGRESS, schema.STEPS):
        connection.execute(table.create())
    names: dict[int, str] = {}
    for row in connection.execute("SELECT * FROM old_runs ORDER BY run"):
        seals.check("runs", row, 3)
        names[row[0]] = rows.untext(row[1])
        head, body = (*row[:-2], "{}"), row[-2]
        schema.RUNS.insert(connection, [(*head, body, seals.of("runs", head, body))])
    stands = 0
    for row in connection.execute("SELECT * FROM old_progress ORDER BY run"):
        name = names.get(row[0], "")
        seals.check("progress", row, 1, run_name(name), name, body=False)
        head = (*row[:-1], 0, 0)
        schema.PROGRESS.insert(connection, [(*head, seals.of("progress", head, before=run_name(name)))])
        stands += 1
    owner = read_owner(connection, seals)
    if not owner.runs == len(names) == stands:
        raise corrupt(seals.path, f"{owner.runs} runs were written, {min(len(names), stands)} are there")
    for table in (schema.RUNS, schema.PROGRESS):
        connection.execute(f"DROP TABLE old_{table.name}")
    for view in schema.VIEWS:
        connection.execute(view)


MIGRATIONS: Final[Mapping[int, Migration]] = {1: to_version_2}
