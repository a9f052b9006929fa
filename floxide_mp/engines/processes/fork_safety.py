"""What is this process's own: descriptors that a fork of the user's must not keep open, and connections as sockets.

A process that the user forks, without exec, gets a copy of every descriptor. Ours mean something by being closed: the
end of a lifeline or of a connection says that somebody is dead. So they are closed in it.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from multiprocessing.connection import Connection  # 8 ms, which a first worker would be started later

_CREDENTIALS: Final = struct.Struct("3i")  # <sys/socket.h>: struct ucred
_TIMEVAL: Final = struct.Struct("ll")
INTRODUCTION: Final = 10  # seconds that either side of a new connection has for each part of showing who it is


class Closable(Protocol):
    """A file, a socket, a connection: closing it twice does no harm."""

    def close(self) -> None:
        """Close it."""


C = TypeVar("C", bound=Closable)

_own: weakref.WeakSet[Any] = weakref.WeakSet()
_forking = threading.RLock()


@contextmanager
def no_fork() -> Iterator[None]:
    """No fork comes between the making of a descriptor and its being noted by ``own``."""
    with _forking:
        yield


def own(made: C) -> C:
    """This is closed in processes that are forked from this one. Called, like what makes it, within ``no_fork``."""
    _own.add(made)
    return made


def close(made: Closable) -> None:
    """Close it, here and in processes that are forked meanwhile."""
    with _forking:
        made.close()


def _forked() -> None:
    global _forking
    _forking = threading.RLock()
    for made in list(_own):
        made.close()
    _own.clear()


os.register_at_fork(
    before=lambda: _forking.acquire(), after_in_parent=lambda: _forking.release(), after_in_child=_forked
)


# -- connections --------------------------------------------------------------------------------------------------


class Peer(NamedTuple):
    """Who is at the other end of a connection, as the kernel noted it when it was made."""

    pid: int
    uid: int
    gid: int


def blocking(line: socket.socket) -> socket.socket:
    """The socket, which waits for its other end without a time-out.

    Each socket object takes the program's ``socket.setdefaulttimeout``, by making its descriptor a non-blocking one: no
    worker could be started by a program that had set one. So each that is made here is made blocking again.
    """
    line.settimeout(None)
    return line


@contextmanager
def as_socket(connection: Connection) -> Iterator[socket.socket]:
    """The connection's socket, which stays the connection's."""
    line = blocking(socket.socket(fileno=connection.fileno()))
    try:
        yield line
    finally:
        line.detach()


def hang_up(connection: Connection, how: int = socket.SHUT_RDWR) -> None:
    """End the connection for all who hold an end of it, also for a thread that waits at ours.

    With ``SHUT_RD`` an answer that is under way is still sent.
    """
    with as_socket(connection) as line:
        try:
            line.shutdown(how)
        except OSError:
            pass  # the other end is closed already


def peer_of(line: socket.socket) -> Peer:
    """Who connected; or, asked by who did, who listens."""
    return Peer(*_CREDENTIALS.unpack(line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)))


def limit(line: socket.socket, seconds: int) -> None:
    """Have whoever waits for the other end give up after so long with a ``BlockingIOError``; 0: never."""
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        line.setsockopt(socket.SOL_SOCKET, option, _TIMEVAL.pack(seconds, 0))
