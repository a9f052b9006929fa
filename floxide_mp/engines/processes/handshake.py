"""What a worker process is told first, when it has imported what it needs: who it is to be. On its connection."""

from __future__ import annotations

import socket
import struct
from typing import Final, NamedTuple

from .recycling import UNLIMITED, Limits

_FORM: Final = struct.Struct("=4q")
_ANY: Final = -1  # where there is no limit


class Orders(NamedTuple):
    """The number of its session, whose part of the memory it has, and when it is to be replaced."""

    session: int
    part: int
    limits: Limits = UNLIMITED


def give(line: socket.socket, orders: Orders, memory: int | None) -> None:
    """Send it to the worker at the other end, with the descriptor of the memory file, if they share one.

    Raises:
        OSError: there is no worker any more, or no room for a descriptor in flight.
    """
    items, size = (_ANY if limit is None else limit for limit in orders.limits)
    ancillary = [] if memory is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", memory))]
    told = _FORM.pack(orders.session, orders.part, items, size)
    line.sendmsg([told], ancillary, socket.MSG_NOSIGNAL)  # the program may have SIGPIPE end it


def take(line: socket.socket) -> tuple[Orders, int] | None:
    """Wait for it: orders and the memory file's descriptor, or -1. None: nobody will ever send any."""
    told, fds, _, _ = socket.recv_fds(line, _FORM.size, 1)
    if not told:
        return None
    session, part, *limits = _FORM.unpack(told)
    items, size = (None if limit == _ANY else limit for limit in limits)
    return Orders(session, part, Limits(items, size)), fds[0] if fds else -1
