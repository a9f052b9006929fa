"""Whether this process has threads and sockets that wait for themselves only: the coordinator's needs them, beside the
caller's. Looked at in the process that would start workers.
"""

from __future__ import annotations

import _socket
import _thread
import socket
from types import BuiltinFunctionType

from ...errors import FloxideError


def check_unpatched() -> None:
    """Workers can be served here.

    Raises:
        FloxideError: a library has put its own in place of threads or sockets, as ``gevent.monkey.patch_all`` does: all
            of them are one thread then, and the one that waits for a worker would stop the one that it waits for.
    """
    threads = isinstance(_thread.start_new_thread, BuiltinFunctionType)
    if threads and issubclass(socket.socket, _socket.socket):
        return
    who = (socket.socket if threads else _thread.start_new_thread).__module__.partition(".")[0]
    raise FloxideError(
        f"{who} has replaced this program's {'sockets' if threads else 'threads'} by its own, with which worker "
        "processes cannot be served: use workers=0, or start the coordinator in a process where that is not done"
    )
