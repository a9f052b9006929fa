"""Starting one worker process, and what the coordinator holds of it. When and why is decided in ``engine``."""

from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection

from ...wire.status_page import Board
from .exit_status import End, code_of
from .fork_safety import hang_up
from .handshake import Orders, give
from .hatch import Hatchling, hatch
from .preparation import Preparation
from .recycling import UNLIMITED, Limits
from .shm.payloads import CoordinatorEnd, Memory

_TRACE_MOST = 20_000  # bytes of a worker's last words that are kept
_GROUP = 1 << 2  # <linux/pidfd.h>: PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9


class WorkerProcess:
    """One worker process. Made by ``spawn``; ``close`` it when it has been reaped."""

    def __init__(self, orders: Orders, board: Board, connection: Connection, hatchling: Hatchling) -> None:
        self.session = orders.session
        self.worker_id = orders.part - 1
        self.board = board
        self.connection = connection
        self.pid = hatchling.popen.pid
        self.pidfd = hatchling.pidfd
        self.lifeline = hatchling.lifeline
        self.hash_seed = hatchling.hash_seed
        self._hatchling = hatchling

    @property
    def began(self) -> bool:
        """Whether it has run code of ours, not another program's. Not after ``close``."""
        return self._hatchling.began

    def kill(self) -> None:
        """SIGKILL to the worker and all that its nodes started. Not after ``reap``: the number may be another's."""
        self._hatchling.kill()

    def reap(self) -> End:
        """How it ended; the pidfd has said that it has, or it was killed."""
        try:
            # While it is a zombie its group's number cannot be given to others: end what its nodes left first.
            os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOWAIT)
            self.kill()
            _, status, usage = os.wait4(self.pid, 0)
        except ChildProcessError:
            # The user's program waits for all children, or ignores SIGCHLD: it is no zombie any more.
            self._kill_what_is_left()
            self._hatchling.popen.wait()  # or it would say that the process still runs
            return End(code_of(self.pidfd), 0, False)
        self._hatchling.popen.returncode = code = os.waitstatus_to_exitcode(status)
        return End(code, usage.ru_maxrss * 1024, usage.ru_maxrss > self._hatchling.parent_peak)

    def _kill_what_is_left(self) -> None:
        """SIGKILL to what the worker's nodes started. The group's number is still its own while one of them lives."""
        try:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL, None, _GROUP)
        except ProcessLookupError:
            pass
        except OSError:  # an older kernel: to be another's, all numbers would have been used since the worker ended
            self.kill()

    def last_words(self) -> str:
        """What faulthandler wrote, and what went to its error stream while it started."""
        size = os.fstat(self._hatchling.trace).st_size
        return os.pread(self._hatchling.trace, _TRACE_MOST, max(0, size - _TRACE_MOST)).decode(errors="replace")

    def hang_up(self) -> None:
        """End the connection for whoever serves it, though a process that escaped its group may hold the other end."""
        hang_up(self.connection)

    def close(self) -> None:
        """Close what the coordinator holds of it."""
        self._hatchling.resources.close()


def spawn(
    worker_id: int,
    session: int,
    limits: Limits = UNLIMITED,
    memory: Memory | None = None,
    hatchling: Hatchling | None = None,
    preparation: Preparation | None = None,
    hash_seed: int | None = None,
) -> WorkerProcess:
    """Start a worker process that works as that session, once its connection is served.

    Args:
        worker_id: whose place it takes.
        session: its number.
        limits: when it is to be replaced.
        memory: where large values are; None: they are sent.
        hatchling: one that is to be it; None: a new one, of the next two.
        preparation: what it starts from; None: from this process as it is now.
        hash_seed: its seed of ``hash(text)``; None: that of the preparation.

    Raises:
        OSError: out of descriptors, memory or processes; nothing is left open, and no process.
        FloxideError: there is no interpreter that could be a worker, or this process must not start any.
    """
    hatchling = hatch(preparation, hash_seed) if hatchling is None else hatchling
    try:
        board = Board(memoryview(hatchling.page))
        hatchling.resources.callback(board.close)
        orders = Orders(session, worker_id + 1, limits)
        try:
            give(hatchling.line, orders, None if memory is None else memory.fd)
        except BrokenPipeError:
            pass  # it has died of what it imports: its end is found as any worker's is
        connection = CoordinatorEnd(hatchling.line.detach(), memory, orders.part)
        hatchling.resources.callback(connection.close)
    except BaseException:
        hatchling.discard()
        raise
    hatchling.taken = True
    return WorkerProcess(orders, board, connection, hatchling)
