"""The files of a store: which may be opened, how they are made, and whether they are still those that were opened; and
``Descriptor``, an open file whose locks last as long as it is open.

Used in the process that owns a store, and in those that look into it. SQLite itself follows links, and opens whatever
lies where it looks for its log: so nothing is opened before it was looked at.

POSIX record locks, which SQLite takes, belong to the process, and go when it closes *any* descriptor of the file: a
program that copies its own store (``open().read()`` is enough) gives them all away. Locks of an open file description
stay. Both kinds exclude each other, also within one process.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from collections import Counter
from contextlib import suppress
from typing import Final, NamedTuple

from ...errors import StoreCorruptError, StoreError

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

PRIVATE: Final = 0o600
LOG: Final = "-wal"
INDEX: Final = "-shm"
SIDES: Final = LOG, INDEX, "-journal"  # what SQLite makes beside a database
_KINDS: Final = {stat.S_IFDIR: "a directory", stat.S_IFLNK: "a symbolic link"}

# Of SQLite's file format: where its locks are in the database and in the log's index.
_SHARED: Final = 0x40000002, 510
_ALIVE: Final = 128, 1
_WRITING: Final = 120, 1


# -- which may be opened, and how they are made -------------------------------------------------------------------


def resolved(path: str | os.PathLike[str]) -> str:
    """The path of a database, whole and without links.

    Raises:
        StoreError: there can be none, or something that is in its place, or beside it, is not to be opened.
        OSError: its directory cannot be looked at.
    """
    real = os.path.realpath(path)
    if not os.fspath(path):
        raise StoreError("the path of a store is empty", path=real)
    os.stat(os.path.dirname(real))
    for end in ("", *SIDES):
        with suppress(FileNotFoundError):
            expect_own(real + end, os.lstat(real + end))
    return real


def expect_own(path: str, found: os.stat_result) -> None:
    """Refuse what is no regular file of this user, or has a second name.

    Raises:
        StoreError: which says what it is.
    """
    if not stat.S_ISREG(found.st_mode):
        what = _KINDS.get(stat.S_IFMT(found.st_mode), "no regular file")
        raise StoreError(f"{path} is {what}: a store is made of regular files", path=path)
    if found.st_uid != os.geteuid():
        whose = f"belongs to user {found.st_uid}, and this process is user {os.geteuid()}"
        advice = "take a store of your own, or have the files given to you (chown)"
        raise StoreError(f"{path} {whose}: whoever wrote it could make you run anything; {advice}", path=path)
    if found.st_nlink > 1:
        text = f"{path} has {found.st_nlink} names (hard links), and SQLite keeps a log for each of them"
        raise StoreError(f"{text}: remove the others, or make a copy and use that", path=path)


def open_own(path: str, flags: int) -> int:
    """A descriptor of a regular file of this user. It waits for nobody, and follows no link.

    Raises:
        StoreError: it is something else.
        OSError: it cannot be opened.
    """
    with suppress(FileNotFoundError):
        expect_own(path, os.lstat(path))  # or opening a device could do something
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, PRIVATE)
    try:
        expect_own(path, os.fstat(fd))
    except BaseException:
        os.close(fd)
        raise
    return fd


def write_private(path: str, contents: bytes) -> None:
    """A new file that only its owner may read, whatever the umask, safe on disk. What has that name goes.

    Raises:
        OSError: it cannot be made.
    """
    with suppress(FileNotFoundError):
        os.unlink(path)  # left over by one who was killed, or put there by somebody: it may be a link
    create_private(path, contents)


def create_private(path: str, contents: bytes) -> None:
    """As ``write_private``, where nothing may be.

    Raises:
        FileExistsError: something is.
        OSError: it cannot be made.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE)
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


# -- connections of this process ----------------------------------------------------------------------------------


class Identity(NamedTuple):
    """Which file it is."""

    device: int
    inode: int


def identity(path: str) -> Identity:
    found = os.stat(path)
    return Identity(found.st_dev, found.st_ino)


def described(file: Identity) -> str:
    """As the store's row has it while it is open."""
    return f"{file.device}:{file.inode}"


def has_log(path: str) -> bool:
    """Whether a database has a log with something in it."""
    try:
        return os.stat(path + LOG).st_size > 0
    except FileNotFoundError:
        return False


_connections: Final[Counter[Identity]] = Counter()
_waiting: Final[dict[Identity, list[Descriptor]]] = {}  # to be closed with the last connection


def connected(file: Identity) -> None:
    """This process has one more connection to a database."""
    _connections[file] += 1


def disconnected(file: Identity) -> None:
    """It has one less."""
    _connections[file] -= 1
    if not _connections[file]:
        del _connections[file]
        for one in _waiting.pop(file, ()):
            one.close()


# -- the files of an owner ----------------------------------------------------------------------------------------


class Guard:
    """Keeps other programs from taking away the log of a database that is open, and notices when it is gone.

    Whoever closes a database as the last one carries the log over and deletes it; whoever opens it as the first one
    makes the log's index anew. SQLite tells by its locks whether it is the last or first, and they may be lost
    (``locks``). So two of them are held here as well: that on the database which every connection shares, and that on
    the index which says that somebody is there.

    Args:
        path: of a database with a connection that has written to it, or the log would not be there.

    Raises:
        StoreError: a file of it is not to be opened, or cannot be locked.
        OSError: a file cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._files = {end: identity(path + end) for end in ("", LOG, INDEX)}
        self._size = os.stat(path).st_size
        self._database = Descriptor(open_own(path, os.O_RDONLY))
        try:
            self._index = Descriptor(open_own(path + INDEX, os.O_RDONLY))
            self._lock()
        except BaseException:
            self.close()
            raise

    def _lock(self) -> None:
        mine = self._database.lock(fcntl.F_RDLCK, *_SHARED) and self._index.lock(fcntl.F_RDLCK, *_ALIVE)
        if not mine:
            text = f"{self._path} is locked by another program, which has it for itself"
            raise StoreError(text, path=self._path, transient=True)

    def check(self) -> None:
        """All files are the ones that were opened.

        Raises:
            StoreCorruptError: one is not there, is another one, or lost a part.
        """
        for end, was in self._files.items():
            path = self._path + end
            try:
                found = os.stat(path)
            except FileNotFoundError:
                raise _lost(self._path, f"{path} was deleted while it was in use") from None
            if (found.st_dev, found.st_ino) != was:
                raise _lost(self._path, f"{path} was replaced by another file while it was in use")
            if not end:
                size = found.st_size
        if size < self._size and size < self._pages():
            text = f"{self._path} was cut from {self._size} to {size} bytes while it was in use"
            raise StoreCorruptError(text, path=self._path)
        self._size = size

    def _pages(self) -> int:
        """The bytes of all its pages, as its head says. It gets smaller when another program vacuums it."""
        head = os.pread(self._database.fd, 32, 0)
        size = int.from_bytes(head[16:18], "big")
        return (1 << 16 if size == 1 else size) * int.from_bytes(head[28:32], "big") if len(head) == 32 else 1 << 62

    def check_writing(self) -> None:
        """In a transaction that writes: SQLite's lock for that is still held.

        Raises:
            StoreError: ``transient``: it was dropped. Another program may be writing, too.
        """
        if self._index.other(*_WRITING) != os.getpid():
            text = f"{self._path}: this program has opened and closed a file of its store, which dropped SQLite's lock"
            raise StoreError(f"{text}: make copies by `db backup`", path=self._path, transient=True)

    def release(self) -> None:
        """Let the connections of this process do as they like: before they are closed."""
        with suppress(OSError):
            self._database.lock(fcntl.F_UNLCK, 0, 0)
            self._index.lock(fcntl.F_UNLCK, 0, 0)

    def close(self) -> None:
        """After the connections: closing a descriptor drops SQLite's locks of this process."""
        file = self._files[""]
        for one in (self._database, getattr(self, "_index", None)):
            if one is not None and _connections[file]:
                _waiting.setdefault(file, []).append(one)
            elif one is not None:
                one.close()


def _lost(path: str, text: str) -> StoreCorruptError:
    return StoreCorruptError(f"{text}; what was written last may be in no file any more", path=path)
