"""Starting one worker process, and what the coordinator holds of it. When and why is decided in ``engine``."""

from __future__ import annotations

import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from multiprocessing.connection import Connection

from ...runtime.board import SIZE, Board
from .ends import End
from .lines import close, hang_up, no_fork, own
from .sharing import CoordinatorEnd, Memory
from .wear import UNLIMITED, Limits

_MODULE = "floxide_mp.engines.processes.child"
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_TRACE_MOST = 20_000  # bytes of a worker's last words that are kept


class WorkerProcess:
    """One worker process. Made by ``spawn``; ``close`` it when it has been reaped."""

    def __init__(
        self,
        session: int,
        worker_id: int,
        board: Board,
        connection: Connection,
        popen: subprocess.Popen[bytes],
        pidfd: int,
        trace: int,
        resources: ExitStack,
    ) -> None:
        self.session = session
        self.worker_id = worker_id
        self.board = board
        self.connection = connection
        self.pid = popen.pid
        self.pidfd = pidfd
        self._popen = popen
        self._trace = trace
        self._parent_peak = _peak()
        self._resources = resources

    def kill(self) -> None:
        """SIGKILL to the worker and all that its nodes started. Not after ``reap``: the number may be another's."""
        _kill_group(self.pid)

    def reap(self) -> End:
        """How it ended; the pidfd has said that it has, or it was killed."""
        try:
            # While it is a zombie its group's number cannot be given to others: end what its nodes left first.
            os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOWAIT)
            self.kill()
            _, status, usage = os.wait4(self.pid, 0)
        except ChildProcessError:
            # The user's program waits for all children, or ignores SIGCHLD: it is no zombie any more.
            return End(self._popen.wait(), 0, False)
        self._popen.returncode = code = os.waitstatus_to_exitcode(status)
        return End(code, usage.ru_maxrss * 1024, usage.ru_maxrss > self._parent_peak)

    def last_words(self) -> str:
        """What faulthandler wrote, and what went to its error stream while it started."""
        size = os.fstat(self._trace).st_size
        return os.pread(self._trace, _TRACE_MOST, max(0, size - _TRACE_MOST)).decode(errors="replace")

    def hang_up(self) -> None:
        """End the connection for whoever serves it, though a process that escaped its group may hold the other end."""
        hang_up(self.connection)

    def close(self) -> None:
        """Close what the coordinator holds of it."""
        self._resources.close()


def spawn(worker_id: int, session: int, limits: Limits = UNLIMITED, memory: Memory | None = None) -> WorkerProcess:
    """Start a fresh interpreter that will work as that session, once its connection is served.

    Args:
        worker_id: whose place it takes.
        session: its number.
        limits: when it is to be replaced.
        memory: where large values are; None: they are sent.

    Raises:
        OSError: out of descriptors, memory or processes; nothing is left open, and no process.
    """
    with ExitStack() as inherited, ExitStack() as kept:
        _plug(inherited)
        board_fd = os.memfd_create("floxide-board")
        inherited.callback(os.close, board_fd)
        os.ftruncate(board_fd, mmap.PAGESIZE)
        page = kept.enter_context(mmap.mmap(board_fd, SIZE))
        board = Board(memoryview(page))
        kept.callback(board.close)
        trace = os.memfd_create("floxide-trace")
        kept.callback(os.close, trace)
        with no_fork():  # a process that is forked must not hold the write end: its workers would outlive this one
            lifeline, write_end = os.pipe()
            kept.callback(close, own(os.fdopen(write_end, "wb", 0)))
        inherited.callback(os.close, lifeline)
        part = worker_id + 1
        ours, theirs = socket.socketpair()
        inherited.callback(theirs.close)
        connection = CoordinatorEnd(ours.detach(), memory, part)
        kept.callback(connection.close)
        stderr = os.dup(2)
        inherited.callback(os.close, stderr)
        shared = [] if memory is None else [memory.fd]
        fds = (theirs.fileno(), lifeline, board_fd, trace, stderr, *shared)
        arguments = ", ".join(map(str, (session, part, tuple(limits), *fds)))
        popen = subprocess.Popen(
            [
                *(sys.executable, *subprocess._args_from_interpreter_flags()),  # type: ignore[attr-defined]
                "-c",
                f"import sys; sys.path[:] = {_path()!r}; from {_MODULE} import main; main({arguments})",
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
            _kill_group(popen.pid)
            popen.wait()
            raise
        kept.callback(os.close, pidfd)
        return WorkerProcess(session, worker_id, board, connection, popen, pidfd, trace, kept.pop_all())


def _peak() -> int:
    """The most memory that this process has had, in KiB. What it starts begins with that: the kernel's way of vfork."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _kill_group(pid: int) -> None:
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
