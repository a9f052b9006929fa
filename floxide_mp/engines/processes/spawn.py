"""Starting one worker process, and what the coordinator holds of it. When and why is decided in ``engine``."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
from multiprocessing.connection import Connection, Pipe

from ...runtime.board import SIZE, Board

_MODULE = "floxide_mp.engines.processes.child"
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_TRACE_MOST = 20_000  # bytes of a worker's last words that are kept

# Open write ends of lifelines. A process that the user forks without exec would keep them open and its workers
# would outlive the coordinator, so they are closed in it.
_lifelines: set[int] = set()


def _close_lifelines() -> None:
    for fd in _lifelines:
        os.close(fd)


os.register_at_fork(after_in_child=_close_lifelines)


class WorkerProcess:
    """One worker process. Make it with ``spawn``; ``close`` it when it has ended."""

    def __init__(self, session: int, worker_id: int, board: Board, memory: mmap.mmap) -> None:
        self.session = session
        self.worker_id = worker_id
        self.board = board
        self.connection: Connection
        self.pid = -1
        self.pidfd = -1
        self._memory = memory
        self._popen: subprocess.Popen[bytes]
        self._lifeline = -1
        self._trace = -1

    def kill(self) -> None:
        """SIGKILL to the worker and all that its nodes started."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def reap(self) -> int:
        """Its exit code, as in ``subprocess``; the pidfd has said that it has ended."""
        # While it is a zombie its group's number cannot be given to others: end what its nodes left first.
        self.kill()
        return self._popen.wait()

    def last_words(self) -> str:
        """What faulthandler wrote, and what went to its error stream while it started."""
        size = os.fstat(self._trace).st_size
        return os.pread(self._trace, _TRACE_MOST, max(0, size - _TRACE_MOST)).decode(errors="replace")

    def close(self) -> None:
        """Close what the coordinator holds, except the connection, which its server thread closes."""
        _lifelines.discard(self._lifeline)
        for fd in (self._lifeline, self._trace, self.pidfd):
            if fd >= 0:
                os.close(fd)
        self.board.close()
        self._memory.close()


def spawn(worker_id: int, session: int) -> WorkerProcess:
    """Start a fresh interpreter that will work as that session, once its connection is served.

    Raises:
        OSError: out of descriptors, memory or processes; nothing is left open.
    """
    inherited: list[int] = []
    opened: list[int] = []
    connection: Connection | None = None
    try:
        board_fd = os.memfd_create("floxide-board")
        inherited.append(board_fd)
        os.ftruncate(board_fd, mmap.PAGESIZE)
        memory = mmap.mmap(board_fd, SIZE)
        trace = os.memfd_create("floxide-trace")
        opened.append(trace)
        lifeline, write_end = os.pipe()
        inherited.append(lifeline)
        opened.append(write_end)
        connection, theirs = Pipe()
        inherited.append(theirs.fileno())
        stderr = os.dup(2)
        inherited.append(stderr)
        made = WorkerProcess(session, worker_id, Board(memoryview(memory)), memory)
        arguments = f"{session}, {theirs.fileno()}, {lifeline}, {board_fd}, {trace}, {stderr}"
        made._popen = subprocess.Popen(
            [
                sys.executable,
                *subprocess._args_from_interpreter_flags(),  # type: ignore[attr-defined]  # as multiprocessing does
                "-c",
                f"import sys; sys.path[:] = {_path()!r}; from {_MODULE} import main; main({arguments})",
            ],
            stdin=subprocess.DEVNULL,
            stderr=trace,
            pass_fds=(*inherited, trace),
            process_group=0,  # a group of its own: Ctrl-C is the coordinator's, and its end is everybody's
            env={**dict.fromkeys(_ONE_THREAD, "1"), **os.environ},
        )
        made.pid = made._popen.pid
        made.pidfd = os.pidfd_open(made.pid)
        made.connection, made._lifeline, made._trace = connection, write_end, trace
        _lifelines.add(write_end)
        return made
    except BaseException:
        for fd in opened:
            os.close(fd)
        if connection is not None:
            connection.close()
        raise
    finally:
        for fd in inherited:
            if connection is None or fd != theirs.fileno():
                os.close(fd)
        if connection is not None:
            theirs.close()


def _path() -> list[str]:
    """This process's search path, good in any directory."""
    return [os.path.abspath(entry) for entry in sys.path]
