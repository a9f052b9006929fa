"""Starting the interpreter of one worker process, which imports what it needs and waits for its orders.

Who it is to be is told in ``spawn``, and may not be known yet. What this module imports is little, so that a program
can start its first worker before it has imported what a coordinator needs, and both do so at the same time.
"""

from __future__ import annotations

import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from typing import Final

from .lines import close, no_fork, own

_MODULE: Final = "floxide_mp.engines.processes.child"
_ONE_THREAD: Final = (  # what libraries take their number of threads from
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "TBB_NUM_THREADS",
)


class Hatchling:
    """A worker process without orders. Made by ``hatch``; whoever has it must ``discard`` it.

    Attributes:
        line: the connection to it.
        lifeline: our end of the pipe whose closing ends it; an error is seen there when nothing holds the other end.
        page: what it shares with the coordinator, for a ``Board``.
        trace: the descriptor of what it writes as it starts, or crashes.
        resources: closes all that this process holds of it.
        parent_peak: the most memory that this process had had, in KiB: the worker began with that, the kernel's way of
            vfork.
        taken: whether a worker was made of it, which owns all that now.
    """

    def __init__(
        self,
        popen: subprocess.Popen[bytes],
        pidfd: int,
        line: socket.socket,
        lifeline: int,
        page: mmap.mmap,
        trace: int,
        resources: ExitStack,
    ) -> None:
        self.popen = popen
        self.pidfd = pidfd
        self.line = line
        self.lifeline = lifeline
        self.page = page
        self.trace = trace
        self.resources = resources
        self.parent_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.taken = False

    def discard(self) -> None:
        """End it, unless a worker was made of it."""
        if not self.taken and self.popen.returncode is None:
            kill_group(self.popen.pid)
            self.popen.wait()
            self.resources.close()


def hatch() -> Hatchling:
    """Start a fresh interpreter that will work when it has been told as whom.

    Raises:
        OSError: out of descriptors, memory or processes; nothing is left open, and no process.
    """
    with ExitStack() as inherited, ExitStack() as kept:
        _plug(inherited)
        board = os.memfd_create("floxide-board")
        inherited.callback(os.close, board)
        os.ftruncate(board, mmap.PAGESIZE)
        page = kept.enter_context(mmap.mmap(board, mmap.PAGESIZE))
        trace = os.memfd_create("floxide-trace")
        kept.callback(os.close, trace)
        with no_fork():  # a process that is forked must not hold the write end: its workers would outlive this one
            lifeline, write_end = os.pipe()
            kept.callback(close, own(os.fdopen(write_end, "wb", 0)))
        inherited.callback(os.close, lifeline)
        ours, theirs = socket.socketpair()
        kept.callback(ours.close)
        inherited.callback(theirs.close)
        stderr = os.dup(2)
        inherited.callback(os.close, stderr)
        fds = (theirs.fileno(), lifeline, board, trace, stderr)
        popen = subprocess.Popen(
            [
                *(sys.executable, *subprocess._args_from_interpreter_flags()),  # type: ignore[attr-defined]
                "-c",
                f"import gc, sys; gc.disable(); sys.path[:] = {_path()!r}; from {_MODULE} import main; main{fds}",
            ],
            stdin=subprocess.DEVNULL,
            stderr=trace,
            pass_fds=fds,
            process_group=0,  # a group of its own: Ctrl-C is the coordinator's, and its end is everybody's
            env={**dict.fromkeys(_ONE_THREAD, "1"), **os.environ},
        )
        try:
            pidfd = os.pidfd_open(popen.pid)
        except BaseException:
            kill_group(popen.pid)
            popen.wait()
            raise
        kept.callback(os.close, pidfd)
        return Hatchling(popen, pidfd, ours, write_end, page, trace, kept.pop_all())


def kill_group(pid: int) -> None:
    """SIGKILL to all processes of the group, if there are any."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _plug(until: ExitStack) -> None:
    """Where the program has closed some of the standard streams, have the null device in their place meanwhile.

    Or what a worker is to inherit would get their numbers, and be overwritten when its own streams are made.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
        until.callback(os.close, fd)
    os.close(fd)


def _path() -> list[str]:
    """This process's search path, good in any directory."""
    return [os.path.abspath(entry) for entry in sys.path]
