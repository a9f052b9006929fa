"""Connections to the database, in the process that owns a store and in those that look into it.

``FailpointConnection`` has a failpoint before each statement that writes, and one after each commit. The points are
named after the statements, so that one which is new needs a name in the registry, and is swept then.
"""

from __future__ import annotations

import os
import re
import sqlite3
from pathlib import Path
from typing import Any, Final

from ... import failpoints

_ROWS: Final = re.compile(r"(INSERT|REPLACE|UPDATE|DELETE)(?: OR \w+)?(?: INTO| FROM)? (\w+)")
_OTHERS: Final = {
    "BEGIN": "begin",
    "CREATE": "schema",
    "PRAGMA user_version =": "version",
    "COMMIT": "commit",
}


class FailpointConnection(sqlite3.Connection):
    """See the module. No statement goes any other way than through ``execute``."""

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        name = _name(sql)
        if name is not None:
            self._hit(name)
        result = super().execute(sql, *parameters)
        if name == "commit":
            self._hit("committed")
        return result

    def _hit(self, name: str) -> None:
        try:
            failpoints.hit(f"store.{name}")
        except OSError as full:  # in SQLite's words
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_FULL, "SQLITE_FULL"
            raise error from full


def _name(sql: str) -> str | None:
    """What a statement is called; None if it does not write."""
    rows = _ROWS.match(sql)
    if rows:
        return f"{rows[2]}.{rows[1].lower()}"
    return next((name for start, name in _OTHERS.items() if sql.startswith(start)), None)


def connect_to_read(path: str, patience: float) -> sqlite3.Connection:
    """A connection that cannot write."""
    made = connect(path, patience, "ro")
    try:
        made.execute("SELECT 1 FROM sqlite_schema").fetchone()
    except sqlite3.OperationalError as error:
        made.close()
        log = path + "-wal"
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_CANTOPEN or (os.path.exists(log) and os.path.getsize(log)):
            raise
        # The directory cannot be written to, so there is no place for the log's index; but nothing is in the log.
        return connect(path, patience, "ro&immutable=1")
    except BaseException:
        made.close()
        raise
    return made


def connect(path: str, patience: float, mode: str) -> sqlite3.Connection:
    """A connection to a file that is there, in autocommit mode, that any thread may use, one at a time."""
    made = sqlite3.connect(
        f"{Path(path).as_uri()}?mode={mode}",
        timeout=patience,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
        uri=True,
        factory=FailpointConnection if failpoints.armed and mode == "rw" else sqlite3.Connection,
    )
    made.execute("PRAGMA trusted_schema = OFF")
    return made
