"""What SQLite and the kernel say of the files of a database, in our words: which error is meant, and what to do."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ...errors import StoreCorruptError, StoreError
from ...texts import size_limit

TROUBLE: Final = sqlite3.Error, UnicodeError, OSError  # what a medium, or text in it that is none, can raise
_READ_ONLY: Final = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}
_NO_SPACE: Final = {errno.ENOSPC, errno.EDQUOT}
_BUSY: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
# ``SQLITE_ERROR``: our statements do not fit the schema. ``SQLITE_CONSTRAINT``: a row is there that was never written.
_CORRUPT: Final = {
    *(sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT),
    *(sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_FORMAT),
}
_MOVED: Final = sqlite3.SQLITE_READONLY_DBMOVED


@contextmanager
def trouble(path: str, run_id: str | None = None, need: int = 0) -> Iterator[None]:
    """Errors of the medium become ours.

    Args:
        path: of the database.
        run_id: whose rows are at stake.
        need: about how many bytes are to be written.
    """
    try:
        yield
    except TROUBLE as error:
        raise translated(path, error, run_id, need) from error


def translated(path: str, error: Exception, run_id: str | None = None, need: int = 0) -> StoreError:
    """One of ``TROUBLE`` as one of our errors. ``transient`` ones may be tried again."""
    if isinstance(error, OSError):
        if error.errno in _NO_SPACE:
            return StoreError(
                f"{path}: {error.strerror}{_free(path)}", path=path, run_id=run_id, transient=True, full=True
            )
        named = error.filename or path
        new = error.errno in (errno.EACCES, errno.EPERM) and not os.path.exists(named)  # it was to be made
        what = f"{path} cannot be written" if new or error.errno == errno.EROFS else named
        limit = size_limit() if error.errno == errno.EFBIG else ""
        return StoreError(f"{what}: {error.strerror}{limit}", path=path, run_id=run_id)
    extended = getattr(error, "sqlite_errorcode", 0)
    code = extended & 0xFF
    if extended == _MOVED:
        return StoreCorruptError(f"{path} was deleted or replaced while it was in use", path=path, run_id=run_id)
    if code in _CORRUPT or isinstance(error, UnicodeError) or "decode" in str(error):  # text that is none
        whose = f": run {run_id!r}" if run_id is not None else ""
        return StoreCorruptError(f"{path}{whose}: {error}", path=path, run_id=run_id)
    if code in _BUSY:
        text, transient = f"{path} is locked by another program", True
    elif code == sqlite3.SQLITE_FULL:
        text, transient = f"{path}: no space left; about {need:,} bytes are needed{_free(path)}", True
    elif code == sqlite3.SQLITE_IOERR:
        name = getattr(error, "sqlite_errorname", "")
        what = f"{path}: {error} ({name}) while writing about {need:,} bytes"
        text, transient = f"{what}{_free(path)}{size_limit()}", True
    elif code in _READ_ONLY:
        text, transient = f"{path} can be read, but not written", False
    elif code == sqlite3.SQLITE_CANTOPEN:
        mine = os.access(path, os.R_OK)
        why = "may its directory be written to?" if mine else os.strerror(errno.EACCES)
        text, transient = f"{path} cannot be opened: {why}", False
    else:
        text, transient = f"{path}: {error}", False
    # The log's index is mapped, and cannot say what it lacks.
    full = code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and not _has_space(path, need))
    return StoreError(text, path=path, run_id=run_id, transient=transient, full=full)


def _has_space(path: str, need: int) -> bool:
    try:
        return shutil.disk_usage(os.path.dirname(path)).free >= need
    except OSError:
        return True


def _free(path: str) -> str:
    directory = os.path.dirname(path)
    try:
        return f", {shutil.disk_usage(directory).free:,} are free in {directory}"
    except OSError:
        return ""
