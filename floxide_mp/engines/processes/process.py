"""One worker process as its coordinator has it: how it is started, which places are vacant, and which workers would
outlive the coordinator. Lives in the coordinator's process; when and why a worker is started is decided in ``engine``.

A shortage of descriptors, memory or processes may pass, and so may whoever kills workers as they start. So no place is
given up: the next start is only tried later and later, until one succeeds.

``Loose`` are the workers without a lifeline, who would outlive the coordinator's process, should it be killed now. The
supervisor ends them while somebody can. Mostly a node has closed all descriptors, its worker's connection too, and all
was lost anyway.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Container, Mapping
from multiprocessing.connection import Connection
from typing import Final

from ...clock import monotonic
from ...coordinator.leases import KillRequest
from ...wire.status_page import CurrentItem, StatusPage
from .exit_status import ExitStatus, code_of
from .fork_safety import hang_up
from .handshake import Assignment, give
from .preparation import Preparation
from .recycling import UNLIMITED, Limits
from .shm.payloads import CoordinatorEnd, Memory
from .spawn import UnassignedWorker, spawn_unassigned

_TRACE_MOST = 20_000  # bytes of a worker's last words that are kept
_GROUP = 1 << 2  # <linux/pidfd.h>: PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9


class WorkerProcess:
    """One worker process. Made by ``spawn``; ``close`` it when it has been reaped."""

    def __init__(
        self, orders: Assignment, status_page: StatusPage, connection: Connection, unassigned: UnassignedWorker
    ) -> None:
        self.session = orders.session
        self.worker_id = orders.part - 1
        self.status_page = status_page
        self.connection = connection
        self.pid = unassigned.popen.pid
        self.pidfd = unassigned.pidfd
        self.lifeline = unassigned.lifeline
        self.hash_seed = unassigned.hash_seed
        self._unassigned = unassigned

    @property
    def began(self) -> bool:
        """Whether it has run code of ours, not another program's. Not after ``close``."""
        return self._unassigned.began

    def kill(self) -> None:
        """SIGKILL to the worker and all that its nodes started. Not after ``reap``: the number may be another's."""
        self._unassigned.kill()

    def reap(self) -> ExitStatus:
        """How it ended; the pidfd has said that it has, or it was killed."""
        try:
            # While it is a zombie its group's number cannot be given to others: end what its nodes left first.
            os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOWAIT)
            self.kill()
            _, status, usage = os.wait4(self.pid, 0)
        except ChildProcessError:
            # The user's program waits for all children, or ignores SIGCHLD: it is no zombie any more.
            self._kill_what_is_left()
            self._unassigned.popen.wait()  # or it would say that the process still runs
            return ExitStatus(code_of(self.pidfd), 0, False)
        self._unassigned.popen.returncode = code = os.waitstatus_to_exitcode(status)
        return ExitStatus(code, usage.ru_maxrss * 1024, usage.ru_maxrss > self._unassigned.parent_peak)

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
        size = os.fstat(self._unassigned.trace).st_size
        return os.pread(self._unassigned.trace, _TRACE_MOST, max(0, size - _TRACE_MOST)).decode(errors="replace")

    def hang_up(self) -> None:
        """End the connection for whoever serves it, though a process that escaped its group may hold the other end."""
        hang_up(self.connection)

    def close(self) -> None:
        """Close what the coordinator holds of it."""
        self._unassigned.resources.close()


def spawn(
    worker_id: int,
    session: int,
    limits: Limits = UNLIMITED,
    memory: Memory | None = None,
    unassigned: UnassignedWorker | None = None,
    preparation: Preparation | None = None,
    hash_seed: int | None = None,
) -> WorkerProcess:
    """Start a worker process that works as that session, once its connection is served.

    Args:
        worker_id: whose place it takes.
        session: its number.
        limits: when it is to be replaced.
        memory: where large values are; None: they are sent.
        unassigned worker: one that is to be it; None: a new one, of the next two.
        preparation: what it starts from; None: from this process as it is now.
        hash_seed: its seed of ``hash(text)``; None: that of the preparation.

    Raises:
        OSError: out of descriptors, memory or processes; nothing is left open, and no process.
        FloxideError: there is no interpreter that could be a worker, or this process must not start any.
    """
    unassigned = spawn_unassigned(preparation, hash_seed) if unassigned is None else unassigned
    try:
        status_page = StatusPage(memoryview(unassigned.page))
        unassigned.resources.callback(status_page.close)
        orders = Assignment(session, worker_id + 1, limits)
        try:
            give(unassigned.line, orders, None if memory is None else memory.fd)
        except BrokenPipeError:
            pass  # it has died of what it imports: its end is found as any worker's is
        connection = CoordinatorEnd(unassigned.line.detach(), memory, orders.part)
        unassigned.resources.callback(connection.close)
    except BaseException:
        unassigned.discard()
        raise
    unassigned.taken = True
    return WorkerProcess(orders, status_page, connection, unassigned)


QUICK_DEATHS: Final = 3  # in a row, before being of any use (``Scheduler.started``): then workers cannot start
QUICK_KILLS: Final = 30  # the same for deaths by a signal that comes from outside: somebody kills them as they come
PATIENT_KILLS: Final = 10  # of these, those after which the next start does not come at once
FIRST_DELAY: Final = 0.1  # seconds before a start is tried again, twice as long after each failure
LONGEST_DELAY: Final = 5.0
LONGEST_KILL_DELAY: Final = 1.0


class Vacancies:
    """The places without a worker, by ``worker_id``, each with the hash seed that its worker is to have."""

    def __init__(self) -> None:
        self.places: dict[int, int] = {}
        self.deaths = 0  # in a row of workers that were of no use, by themselves
        self.kills = 0  # likewise, by somebody else
        self.failures = 0  # starts in a row that failed
        self._next = 0.0  # when the next one is tried

    @property
    def hopeless(self) -> bool:
        """Whether those that were started died one after the other: runs need not wait for the next."""
        return self.deaths >= QUICK_DEATHS or self.kills >= QUICK_KILLS

    @property
    def due(self) -> float | None:
        """When the next start is to be tried, on the clock of ``now``; None: no worker is missing."""
        return self._next if self.places else None

    def used(self) -> None:
        """A worker has been of use."""
        self.deaths = self.kills = 0

    def died(self, from_outside: bool, now: float) -> None:
        """A worker has ended before it was of any use."""
        if from_outside:
            self.kills += 1
        else:
            self.deaths += 1
        if self.hopeless:
            number = max(self.deaths - QUICK_DEATHS, self.kills - QUICK_KILLS)
            self._wait(number, LONGEST_DELAY, now)
        elif self.kills > PATIENT_KILLS:
            self._wait(self.kills - PATIENT_KILLS - 1, LONGEST_KILL_DELAY, now)

    def failed(self, now: float) -> None:
        """A worker could not be started."""
        self._wait(self.failures, LONGEST_DELAY, now)
        self.failures += 1

    def filled(self, worker_id: int) -> None:
        """A worker has been started."""
        self.places.pop(worker_id, None)
        self.failures = 0

    def _wait(self, number: int, longest: float, now: float) -> None:
        self._next = now + min(FIRST_DELAY * 2.0 ** min(number, 30), longest)


LOOSE: Final = 0.1  # seconds that a worker may hold no end of its lifeline: one that is ending is gone by then
_EXITING: Final = 4  # <linux/sched.h>: PF_EXITING


class Loose:
    """Since when each is, and what it was at then, by session."""

    def __init__(self) -> None:
        self._since: dict[int, tuple[float, CurrentItem | None]] = {}

    def note(self, process: WorkerProcess) -> None:
        """Nobody holds the worker's end any more: it is about to end, or one of its nodes has closed it."""
        patience = LOOSE if _exiting(process.pid) else 0.0  # this process may be killed at any moment
        self._since[process.session] = monotonic() - LOOSE + patience, process.status_page.at()

    def forget(self, session: int) -> bool:
        """Whether that one was loose. It is no more."""
        return self._since.pop(session, None) is not None

    def overdue(
        self, processes: Mapping[int, WorkerProcess], killed: Container[int], longest: float
    ) -> tuple[list[KillRequest], float]:
        """Those to be ended, but for those that are ``killed``; in how many seconds to ask again, at the most."""
        found, again, now = [], longest, monotonic()
        for session, (since, before) in self._since.items():
            if session in killed:
                continue
            left = since + LOOSE - now
            if left > 0:
                again = min(again, left)
                continue
            at = processes[session].status_page.at()
            if before is None or at is None or before.lease != at.lease:
                at = before  # that was reported: who runs now has not done it
            found.append(KillRequest(session, at, None, "closed the descriptors that it needs to work"))
        return found, again


def _exiting(pid: int) -> bool:
    """Whether the process is about to end; so it is, too, where nobody can tell."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            flags = int(file.read().rpartition(b")")[2].split()[6])
    except OSError:
        return True
    return bool(flags & _EXITING)
