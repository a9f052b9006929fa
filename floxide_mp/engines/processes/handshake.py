"""What a worker process is given as it begins: which worker it is to be, on its connection, when it has imported what
it needs; and its lifeline, the pipe whose closing ends it. Used in the coordinator's process and the worker's.

The kernel ends a worker when its coordinator ends, so it also happens while a node holds the interpreter lock in C for
minutes, and to the processes that a node started. A watching thread could do neither, and would make each node's fork
unsafe.

There are two pipes, since each has one owner whom the kernel signals: the worker's process group, and the process
itself, for a node may take it into another group. The coordinator sets that when it has started the worker, so that it
holds while the interpreter starts; the worker sets it again, for the coordinator may have been killed in between.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from .recycling import UNLIMITED, Limits

_F_SETSIG = 10  # <fcntl.h>, Linux; not in Python's fcntl


def watch(lifelines: Sequence[int], pid: int) -> None:
    """SIGKILL to the process, which leads a group, and to the group, when the write ends are closed.

    Args:
        lifelines: the read ends of two pipes.
        pid: of a child of this process that has not been reaped, or of this process.
    """
    for lifeline, owner in zip(lifelines, (-pid, pid), strict=True):
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, owner)
        fcntl.fcntl(lifeline, _F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)


def die_with(lifelines: Sequence[int]) -> None:
    """Have this process, which leads a group, watched; end it if the write ends have been closed before that."""
    watch(lifelines, os.getpid())
    for lifeline in lifelines:
        os.set_blocking(lifeline, False)
        try:
            if os.read(lifeline, 1) == b"":
                os._exit(1)
        except BlockingIOError:
            pass


_FORM: Final = struct.Struct("=4q")
_ANY: Final = -1  # where there is no limit


class Assignment(NamedTuple):
    """The number of its session, whose part of the memory it has, and when it is to be replaced."""

    session: int
    part: int
    limits: Limits = UNLIMITED


def give(line: socket.socket, orders: Assignment, memory: int | None) -> None:
    """Send it to the worker at the other end, with the descriptor of the memory file, if they share one.

    Raises:
        OSError: there is no worker any more, or no room for a descriptor in flight.
    """
    items, size = (_ANY if limit is None else limit for limit in orders.limits)
    ancillary = [] if memory is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", memory))]
    told = _FORM.pack(orders.session, orders.part, items, size)
    line.sendmsg([told], ancillary, socket.MSG_NOSIGNAL)  # the program may have SIGPIPE end it


def take(line: socket.socket) -> tuple[Assignment, int] | None:
    """Wait for it: orders and the memory file's descriptor, or -1. None: nobody will ever send any."""
    told, fds, _, _ = socket.recv_fds(line, _FORM.size, 1)
    if not told:
        return None
    session, part, *limits = _FORM.unpack(told)
    items, size = (None if limit == _ANY else limit for limit in limits)
    return Assignment(session, part, Limits(items, size)), fds[0] if fds else -1
