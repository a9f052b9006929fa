"""One owner for each store: a lock that the kernel drops when its process ends, however it ends.

It is a record lock (``lockf``), which processes that the owner forks do not inherit: one of them that outlives it does
not keep the store. Within one process record locks do not exclude each other, so a list of the held ones does.
The lock's file stays when the store is closed: deleting it could split the ownership.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import threading
from datetime import datetime
from typing import Final

from ..errors import StoreLockedError
from .medium import PRIVATE

_held: Final[dict[tuple[int, int], Ownership]] = {}  # by device and inode of the lock's file
_guard = threading.Lock()
_FLOCK: Final = struct.Struct("hhqqi0q")  # <fcntl.h>: kind, whence, start, length, pid


def lock_path(database: str) -> str:
    return database + ".lock"


class Ownership:
    """Taken when made, until ``release``.

    Args:
        database: whose.
        now: seconds since the epoch, told to those who come second.

    Raises:
        StoreLockedError: somebody else has it; the text says who and since when.
    """

    def __init__(self, database: str, now: float) -> None:
        self.pid, self.host, self.since = os.getpid(), socket.gethostname(), now
        with _guard:
            # Another descriptor of a locked file must not be closed in the process that holds the lock: that drops it.
            self._refuse_own(database)
            self._fd = os.open(lock_path(database), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
            try:
                self._lock(database)
            except BaseException:
                os.close(self._fd)
                raise
            found = os.fstat(self._fd)
            self._key = found.st_dev, found.st_ino
            _held[self._key] = self

    def _lock(self, database: str) -> None:
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise _refusal(database, os.pread(self._fd, 4096, 0)) from None
        os.fchmod(self._fd, PRIVATE)
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, json.dumps([self.pid, self.host, self.since]).encode(), 0)

    @staticmethod
    def _refuse_own(database: str) -> None:
        try:
            found = os.stat(lock_path(database))
        except FileNotFoundError:
            return
        if (found.st_dev, found.st_ino) in _held:
            raise StoreLockedError(f"{database} is open in this process already (pid {os.getpid()})", pid=os.getpid())

    def release(self) -> None:
        """Let others have it. Done twice, or in a forked process, it does nothing that the owner would notice."""
        with _guard:
            if _held.get(self._key) is self:
                del _held[self._key]
                os.close(self._fd)


def holder(database: str) -> int | None:
    """The process that owns a database at this moment, by the kernel's word; 0 if it cannot be seen from here.

    Looking does not take the lock, so nobody is refused for it.
    """
    with _guard:
        try:
            found = os.stat(lock_path(database))
            if (found.st_dev, found.st_ino) in _held:
                return os.getpid()
            fd = os.open(lock_path(database), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            told = fcntl.fcntl(fd, fcntl.F_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        finally:
            os.close(fd)
    kind, _, _, _, pid = _FLOCK.unpack(told)
    return None if kind == fcntl.F_UNLCK else max(0, pid)


def _refusal(database: str, contents: bytes) -> StoreLockedError:
    try:
        pid, host, since = json.loads(contents)
    except ValueError:  # it is being written just now
        return StoreLockedError(f"{database} belongs to another coordinator, which has just taken it", path=database)
    where = "" if host == socket.gethostname() else f" on {host}"
    date = datetime.fromtimestamp(since).astimezone().isoformat(" ", "seconds")
    text = f"{database} belongs to the coordinator with pid {pid}{where}, since {date}"
    return StoreLockedError(text, path=database, pid=pid, since=since)


def _forget() -> None:
    """This process was forked: record locks stay with the parent."""
    global _guard
    _guard = threading.Lock()  # that of before may be held by a thread that is not in this process
    for held in _held.values():
        os.close(held._fd)
    _held.clear()


os.register_at_fork(after_in_child=_forget)
