"""One owner for each store: a lock that the kernel drops when its process ends, however it ends. In the owner's
process, and in those that ask who it is.

It is on the first byte of a file beside the database, and is that of an open file description (``locks``). The second
byte has a record lock, of which the kernel says whose it is. Within one process a list of the held ones says so.
The lock's file stays when the store is closed: deleting it could split the ownership.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
from datetime import datetime
from typing import Any, Final

from ...errors import StoreLockedError
from .files import PRIVATE, Descriptor, open_own

_held: Final[dict[tuple[int, int], Ownership]] = {}  # by device and inode of the lock's file
_guard = threading.Lock()
_OWNED: Final = 0, 1
_NAMED: Final = 1, 1
_LATEST: Final = 1 << 37  # seconds since the epoch: dates have years of four digits


def lock_path(database: str) -> str:
    return database + ".lock"


class Ownership:
    """Taken when made, until ``release``.

    Args:
        database: whose.
        now: seconds since the epoch, told to those who come second.

    Raises:
        StoreLockedError: somebody else has it; the text says who and since when.
        StoreError: the lock's file is no regular file of this user.
    """

    def __init__(self, database: str, now: float) -> None:
        self.pid, self.host, self.since = os.getpid(), socket.gethostname(), now
        with _guard:
            # Another descriptor of the file must not be closed in the process that has the store: that drops the
            # record lock, and with it the owner's name.
            self._refuse_own(database)
            self._file = Descriptor(open_own(lock_path(database), os.O_RDWR | os.O_CREAT))
            try:
                self._lock(database)
            except BaseException:
                self._file.close()
                raise
            found = os.fstat(self._file.fd)
            self._key = found.st_dev, found.st_ino
            _held[self._key] = self

    def _lock(self, database: str) -> None:
        fd = self._file.fd
        if not self._file.lock(fcntl.F_WRLCK, *_OWNED):
            raise _refusal(database, self._file.other(*_NAMED), os.pread(fd, 4096, 0))
        os.fchmod(fd, PRIVATE)
        fcntl.lockf(fd, fcntl.LOCK_EX, _NAMED[1], _NAMED[0])
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps([self.pid, self.host, self.since]).encode(), 0)

    @staticmethod
    def _refuse_own(database: str) -> None:
        try:
            found = os.stat(lock_path(database))
        except OSError:
            return
        if (found.st_dev, found.st_ino) in _held:
            text = f"{database} is open in this process already (pid {os.getpid()}), by a coordinator or store that was"
            advice = "not closed: close() it first (in a notebook: before the cell is run again)"
            raise StoreLockedError(f"{text} {advice}", path=database, pid=os.getpid())

    def release(self) -> None:
        """Let others have it. Done twice, or in a forked process, it does nothing that the owner would notice."""
        with _guard:
            if _held.get(self._key) is self:
                del _held[self._key]
                self._file.close()


def holder(database: str) -> int | None:
    """The process that owns a database at this moment, by the kernel's word; 0 if it cannot be seen from here.

    Looking does not take the lock, so nobody is refused for it.

    Raises:
        StoreError: the lock's file is no regular file of this user.
    """
    with _guard:
        try:
            found = os.lstat(lock_path(database))
            if (found.st_dev, found.st_ino) in _held:
                return os.getpid()
            file = Descriptor(open_own(lock_path(database), os.O_RDONLY))
        except FileNotFoundError:
            return None
        try:
            return None if file.other(*_OWNED) is None else file.other(*_NAMED) or 0
        finally:
            file.close()


def _refusal(database: str, pid: int | None, contents: bytes) -> StoreLockedError:
    """``pid`` is what the kernel says. The contents are anybody's who may write there."""
    try:
        written, host, since = json.loads(contents)
    except (ValueError, TypeError, RecursionError):  # it is being written just now, or by another program
        written = host = since = None
    who = pid or (written if isinstance(written, int) and _plausible(written, 1 << 32) else None)
    if who is None:
        return StoreLockedError(f"{database} belongs to another coordinator", path=database)
    elsewhere = isinstance(host, str) and host.isprintable() and len(host) < 256 and host != socket.gethostname()
    text = f"{database} belongs to the coordinator with pid {who}{f' on {host}' if elsewhere else ''}"
    if not _plausible(since, _LATEST):
        return StoreLockedError(text, path=database, pid=who)
    date = datetime.fromtimestamp(since).astimezone().isoformat(" ", "seconds")
    return StoreLockedError(f"{text}, since {date}", path=database, pid=who, since=since)


def _plausible(value: Any, most: int) -> bool:
    """Whether it is a positive number, and not too large to be one of these."""
    return type(value) in (int, float) and 0 < value < most


def _forget() -> None:
    """This process was forked: the parent has its stores still, and ``locks`` has closed the descriptors."""
    global _guard
    _guard = threading.Lock()  # that of before may be held by a thread that is not in this process
    _held.clear()


os.register_at_fork(after_in_child=_forget)
