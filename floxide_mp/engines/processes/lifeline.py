"""How a worker ends with its coordinator: the kernel kills it, and all that its nodes started, when a pipe closes.

The kernel does it, so it also happens while a node holds the interpreter lock in C for minutes, and to the processes
that a node started. A watching thread could do neither, and would make each node's fork unsafe.

There are two pipes, since each has one owner whom the kernel signals: the worker's process group, and the process
itself, for a node may take it into another group. The coordinator sets that when it has started the worker, so that it
holds while the interpreter starts; the worker sets it again, for the coordinator may have been killed in between.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Sequence

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
