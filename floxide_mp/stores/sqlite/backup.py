"""``back_up``: a copy of a store, also while a program writes to it. In the process that makes the copy."""

from __future__ import annotations

import os
from contextlib import ExitStack, closing, suppress
from typing import Final

from ...errors import StoreError
from . import files, schema
from .clock_conversion import CLOCKS
from .connection import connect
from .reader import Reader, key_of, read_owner
from .row_macs import RowMacs
from .sqlite_errors import trouble

_PATIENCE: Final = 5.0  # seconds to wait for other programs' locks
_BESIDE: Final = ".key", ".new", ".running", *files.SIDES, *(f".new{end}" for end in files.SIDES)  # what lies there


def back_up(source: str, destination: str, *, without_log: bool = False) -> int:
    """Copy all runs, as they are at one moment, with the key, into a new store that is read as a whole before it has
    its name.

    Args:
        source, destination: paths of databases. Nothing may be there under the second one's names.
        without_log: also if the source is itself a copy that lacks its log.

    Returns:
        how many runs there are.

    Raises:
        StoreError: the source cannot be read, or the copy cannot be made.
        StoreCorruptError: the source is not what was written.
    """
    with trouble(source):
        real, new = files.resolved(source), files.resolved(destination)
    for end in ("", *_BESIDE):
        if os.path.lexists(new + end):
            raise StoreError(f"{new + end} is there: a copy of a store is made of new files", path=new)
    with closing(Reader(real, _PATIENCE, CLOCKS, without_log=without_log)) as reader, trouble(new):
        key = key_of(real)
        with ExitStack() as unfinished:
            for end, contents in ((".key", key), ("", b""), (".new", b"")):  # what lies there by now is somebody's
                files.create_private(new + end, contents)
                unfinished.callback(_remove, new + end)
            for end in files.SIDES:
                unfinished.callback(_remove, new + end)
                unfinished.callback(_remove, f"{new}.new{end}")
            _copy(reader, new, key)
            with closing(Reader(new, _PATIENCE, CLOCKS)) as made:
                made.check()
                count = len(made.runs())
            with closing(connect(new, _PATIENCE, "rw")) as last:  # who only reads leaves the log that it made
                last.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            unfinished.pop_all()
            return count


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _copy(reader: Reader, path: str, key: bytes) -> None:
    new = path + ".new"
    with closing(connect(new, _PATIENCE, "rw")) as connection:
        reader.copy(connection)
        connection.execute("PRAGMA journal_mode = MEMORY")
        seals = RowMacs(path, key)
        schema.set_owner(connection, seals, read_owner(connection, seals)._replace(file=None))
        schema.use_log(connection, path)
    os.rename(new, path)  # in place of the empty file, so of nobody's
    files.sync_directory(path)
