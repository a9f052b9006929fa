"""Connections to the database, in the process that owns a store and in those that look into it."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from ... import failpoints
from .failpoint_connection import TrippedConnection


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
        factory=TrippedConnection if failpoints.armed and mode == "rw" else sqlite3.Connection,
    )
    made.execute("PRAGMA trusted_schema = OFF")
    return made
