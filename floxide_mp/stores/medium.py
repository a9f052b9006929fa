"""The files of a database, and what SQLite says of them in our words: which error is meant, and what to do about it."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from ..errors import StoreCorruptError, StoreError

PRIVATE: Final = 0o600
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


class Identity(NamedTuple):
    """Which file it is, and its size in bytes when that was last looked at: it grows and never shrinks."""

    device: int
    inode: int
    size: int


def identity(path: str) -> Identity:
    found = os.stat(path)
    return Identity(found.st_dev, found.st_ino, found.st_size)


def check_same(path: str, was: Identity) -> Identity:
    """The file as it is now.

    Raises:
        StoreCorruptError: it is not there, is another one, or lost a part.
    """
    try:
        now = identity(path)
    except FileNotFoundError:
        raise StoreCorruptError(f"{path} was deleted while it was in use", path=path) from None
    if now[:2] != was[:2]:
        raise StoreCorruptError(f"{path} was replaced by another file while it was in use", path=path)
    if now.size < was.size:
        text = f"{path} was cut from {was.size} to {now.size} bytes while it was in use"
        raise StoreCorruptError(text, path=path)
    return now


def check_file(path: str) -> None:
    """It is a file, or not there: what has no size, a device say, would be taken for one that was never written.

    Raises:
        StoreError: it is something else.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise StoreError(f"{path} is no file, so it cannot be a store", path=path)


def check_no_log(path: str) -> None:
    """What is to be made anew has no log of an earlier one, which SQLite would take for its own.

    Raises:
        StoreCorruptError: it has.
    """
    log = path + "-wal"
    if os.path.exists(log) and os.path.getsize(log):
        text = (
            f"{path} is not there, but its log is: what was written last is in {log}; put the database back beside it, "
            "or delete it as well to begin anew"
        )
        raise StoreCorruptError(text, path=path)


def write_private(path: str, contents: bytes) -> None:
    """A new file that only its owner may read, whatever the umask, safe on disk."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE)
    try:
        os.fchmod(fd, PRIVATE)
        os.write(fd, contents)
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_directory(path: str) -> None:
    """That a file is there survives a power cut, too."""
    fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


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
        forbidden = error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)
        what = f"{path} cannot be written" if forbidden else error.filename or path
        return StoreError(f"{what}: {error.strerror}", path=path, run_id=run_id)
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
        text, transient = f"{path}: {error} ({name}) while writing about {need:,} bytes{_free(path)}", True
    elif code in _READ_ONLY:
        text, transient = f"{path} can be read, but not written", False
    elif code == sqlite3.SQLITE_CANTOPEN:
        text, transient = f"{path} cannot be opened: may its directory be written to?", False
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
