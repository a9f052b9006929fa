"""``TrippedConnection``: a connection with a failpoint before each statement that writes, and one after each commit.

The points are named after the statements, so that one which is new needs a name in the registry, and is swept then.
"""

from __future__ import annotations

import re
import sqlite3
from typing import Any, Final

from ... import failpoints

_ROWS: Final = re.compile(r"(INSERT|REPLACE|UPDATE|DELETE)(?: OR \w+)?(?: INTO| FROM)? (\w+)")
_OTHERS: Final = {
    "BEGIN": "begin",
    "CREATE": "schema",
    "PRAGMA user_version =": "version",
    "COMMIT": "commit",
}


class TrippedConnection(sqlite3.Connection):
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
