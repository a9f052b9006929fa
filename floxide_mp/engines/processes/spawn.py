"""Starting the interpreter of one worker process, which imports what it needs and waits to be told which worker it is.
Lives in the process that starts workers.

What this module imports is little, so that a program can start its first worker before it has imported what a
coordinator needs, and both do so at the same time. A process whose threads and sockets wait for themselves only
(patched by gevent or eventlet) is refused: the coordinator needs real ones, beside the caller's.
"""

from __future__ import annotations

import _socket
import _thread
import errno
import mmap
import os
import resource
import signal
import socket
import subprocess
from contextlib import ExitStack
from types import BuiltinFunctionType
from typing import Any, Final

from ... import standard_streams
from ...errors import FloxideError
from ...wire.hash_seed import NAME
from ...worker.importing import MARK, check_may_start
from .fork_safety import blocking, close, no_fork, own
from .handshake import watch
from .preparation import Preparation, not_python


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


_MODULE: Final = "floxide_mp.engines.processes.child"
BEGAN: Final = mmap.PAGESIZE - 1  # where the page says that the worker has run code of ours


class UnassignedWorker:
    """A worker process without orders. Made by ``spawn_unassigned``; whoever has it must ``discard`` it.

    Attributes:
        line: the connection to it.
        lifeline: our end of the pipe whose closing ends it; an error is seen there when nothing holds the other end.
        page: what it shares with the coordinator, for a ``StatusPage``.
        trace: the descriptor of what it writes as it starts, or crashes.
        resources: closes all that this process holds of it.
        preparation: what it was started from.
        hash_seed: its seed of ``hash(text)``.
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
        preparation: Preparation,
        hash_seed: int,
    ) -> None:
        self.popen = popen
        self.pidfd = pidfd
        self.line = line
        self.lifeline = lifeline
        self.page = page
        self.trace = trace
        self.resources = resources
        self.preparation = preparation
        self.hash_seed = hash_seed
        self.parent_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.taken = False

    @property
    def began(self) -> bool:
        """Whether it has run code of ours."""
        return self.page[BEGAN] != 0

    def kill(self) -> None:
        """SIGKILL to it and all that its nodes started. Not after it has been reaped: the number may be another's."""
        kill_group(self.popen.pid)
        try:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)  # it may have gone into another group
        except ProcessLookupError:
            pass

    def discard(self) -> None:
        """End it, unless a worker was made of it."""
        if not self.taken and self.popen.returncode is None:
            self.kill()
            self.popen.wait()
            self.resources.close()


def spawn_unassigned(preparation: Preparation | None = None, hash_seed: int | None = None) -> UnassignedWorker:
    """Start a fresh interpreter that will work when it has been told as whom.

    Args:
        preparation: what it starts from; None: from this process as it is now.
        hash_seed: its seed of ``hash(text)``; None: that of the preparation.

    Raises:
        OSError: out of descriptors, memory or processes; nothing is left open, and no process.
        FloxideError: there is no interpreter that could be a worker, or this process must not start any.
    """
    check_may_start()
    check_unpatched()
    standard_streams.occupy()
    with ExitStack() as inherited, ExitStack() as kept:
        if preparation is None:
            preparation = inherited.enter_context(Preparation())
        seed = preparation.hash_seed if hash_seed is None else hash_seed
        status_page = os.memfd_create("floxide-board")
        inherited.callback(os.close, status_page)
        os.ftruncate(status_page, mmap.PAGESIZE)
        page = kept.enter_context(mmap.mmap(status_page, mmap.PAGESIZE))
        trace = os.memfd_create("floxide-trace")
        kept.callback(os.close, trace)
        lifelines, write_ends = zip(*(_lifeline(inherited, kept) for _ in range(2)), strict=True)
        ours, theirs = map(blocking, socket.socketpair())
        kept.callback(ours.close)
        inherited.callback(theirs.close)
        stderr = os.dup(2) if standard_streams.is_the_programs(2) else os.open(os.devnull, os.O_WRONLY)
        inherited.callback(os.close, stderr)
        program = os.memfd_create("floxide-program")  # no argument: of those, the kernel takes 128 KiB
        inherited.callback(os.close, program)
        fds = (theirs.fileno(), *lifelines, status_page, trace, stderr)
        began = f"import os\nos.pwrite({status_page}, b'1', {BEGAN})\nos.close({program})\n"
        text = began.encode() + preparation.program(_MODULE, f"main{fds}")
        with os.fdopen(os.dup(program), "wb") as file:
            file.write(text)
        popen = _started(
            # The comment is for who looks at a list of processes: ``show`` knows workers by it.
            [*preparation.python, "-c", f"exec(__import__('os').pread({program}, {len(text)}, 0), {{}})  # {_MODULE}"],
            stdin=subprocess.DEVNULL,
            stdout=None if standard_streams.is_the_programs(1) else subprocess.DEVNULL,
            stderr=trace,
            pass_fds=(*fds, program, *preparation.inherited),
            process_group=0,  # a group of its own: Ctrl-C is the coordinator's, and its end is everybody's
            env={**preparation.environment, NAME: str(seed), MARK: str(os.getpid())},
        )
        try:
            # At once: before the worker has run any code of ours it may be long at its user's sitecustomize.
            watch(lifelines, popen.pid)
            pidfd = os.pidfd_open(popen.pid)
        except BaseException:
            kill_group(popen.pid)
            popen.wait()
            raise
        kept.callback(os.close, pidfd)
        return UnassignedWorker(popen, pidfd, ours, write_ends[0], page, trace, kept.pop_all(), preparation, seed)


def _started(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(command, **options)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR):  # which no patience mends
            raise FloxideError(f"workers cannot be started: {not_python(command[0], error)}") from error
        raise


def _lifeline(inherited: ExitStack, kept: ExitStack) -> tuple[int, int]:
    """A pipe's read end for the worker, and its write end, which only this process has."""
    with no_fork():  # a process that is forked must not hold the write end: its workers would outlive this one
        read_end, write_end = os.pipe()
        kept.callback(close, own(os.fdopen(write_end, "wb", 0)))
    inherited.callback(os.close, read_end)
    return read_end, write_end


def kill_group(pid: int) -> None:
    """SIGKILL to all processes of the group, if there are any."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
