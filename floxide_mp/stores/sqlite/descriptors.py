"""``Descriptor``: an open file whose locks last as long as it is open. In every process that has a store open.

POSIX record locks, which SQLite takes, belong to the process, and go when it closes *any* descriptor of the file: a
program that copies its own store (``open().read()`` is enough) gives them all away. Locks of an open file description
stay. Both kinds exclude each other, also within one process.
"""

from __future__ import annotations

import fcntl
import os
import struct
from typing import Final

_FLOCK: Final = struct.Struct("hhqqi0q")  # <fcntl.h>: kind, whence, start, length, pid
_open: Final[set[Descriptor]] = set()


class Descriptor:
    """An open file, closed in processes that this one forks: or they would hold its locks when this one is gone.

    Args:
        fd: of the file; this object's from now on.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        _open.add(self)

    def lock(self, kind: int, start: int, length: int) -> bool:
        """Take (``fcntl.F_RDLCK``, ``F_WRLCK``) or give back (``F_UNLCK``) a stretch of bytes; False: it is another's.

        Raises:
            OSError: the file system has no locks.
        """
        try:
            fcntl.fcntl(self.fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, start, length, 0))
        except (BlockingIOError, PermissionError):
            return False
        return True

    def other(self, start: int, length: int) -> int | None:
        """Which process holds a lock there, but for this descriptor's: 0 where the kernel cannot say it, None: nobody.

        Locks of open file descriptions are no process's: they give 0, as do those of processes that cannot be seen
        from here.
        """
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(self.fd, fcntl.F_OFD_GETLK, asked))
        return None if kind == fcntl.F_UNLCK else max(0, pid)

    def close(self) -> None:
        """Its locks go. Done twice, or in a forked process, it does nothing."""
        if self in _open:
            _open.discard(self)
            os.close(self.fd)


def _forget() -> None:
    """This process was forked."""
    for one in list(_open):
        one.close()


os.register_at_fork(after_in_child=_forget)
