"""``ExternalSessions``: the coordinator's side of worker loops that users write. Such a loop is an external worker
among its workers.

Here is which loop has which session, under which ``worker_id``. What an item's fate is, the scheduler decides; how a
external worker in another process is let in and connected is not decided here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final

from ..api.retry import RetryPolicy
from ..core.graph import Graph
from ..core.plan import Plan
from ..core.transitions import Phase
from ..errors import FloxideError, WorkerDiedError
from ..messages import ONE_BY_ONE, Description, EventPage, Lease, Report, Suspect
from ..ports import ExternalSession, RunRecord
from ..types import RunInfo
from ..wire.status_page import SIZE, StatusPage
from .active_run import ActiveRun, RunEntry
from .critical import Condition, Critical
from .leases import Ask, KillRequest
from .run_handle import info_of
from .scheduler import Scheduler

LONGEST: Final = 5.0  # seconds that an external worker waits in one call: its process may have died meanwhile


class ExternalSessions:
    """The external workers of one coordinator.

    Args:
        scheduler: what they work for.
        retry: the coordinator's policy for nodes that have none.
        processes: how many workers the engine has, numbered from 0 on: no loop may have the number of one of these.
    """

    def __init__(self, scheduler: Scheduler, retry: RetryPolicy | None, processes: int = 0) -> None:
        self.scheduler = scheduler
        self.retry = retry
        self._processes = processes
        self._pid = os.getpid()
        self._closed = False
        self._registered: dict[int, SchedulerSession] = {}  # the latest of each worker_id
        self._busy: set[SchedulerSession] = set()  # those with an item
        self._critical = Critical()  # its lock guards all this; taken before that of the scheduler
        self._became_idle = Condition(self._critical)  # one of the busy has come back

    def joined(self, worker_id: int) -> tuple[SchedulerSession, StatusPage]:
        """The external session and the page of a loop in this process that begins under this number."""
        self.check_open()
        status_page = StatusPage(memoryview(bytearray(SIZE)))
        external_session = SchedulerSession(self, status_page, self._pid)
        external_session.join(worker_id)
        return external_session, status_page

    @property
    def _lock(self) -> AbstractContextManager[object]:
        return self._critical.lock

    @property
    def ours(self) -> bool:
        """Whether this is the coordinator's process, and not one that was forked from it."""
        return os.getpid() == self._pid

    def check_open(self) -> None:
        if not self.ours:
            raise FloxideError("this process was forked from the coordinator's: it needs coordinator.proxy() instead")
        if self._closed:
            raise _closed()

    def has(self, external_session: SchedulerSession) -> bool:
        """Whether the external session's external worker is there, and nobody in its place."""
        with self._lock:
            return self._registered.get(external_session.worker_id) is external_session

    def register(self, external_session: SchedulerSession) -> None:
        """The external session's external worker begins, in the place of whoever had its ``worker_id``."""
        with self._lock:
            self.check_open()
            if external_session.worker_id < self._processes:
                what = f"worker_id {external_session.worker_id} is that of one of the coordinator's own workers"
                raise FloxideError(f"{what}; choose {self._processes} or more")
            before = self._registered.get(external_session.worker_id)
            self._registered[external_session.worker_id] = external_session
            external_session.register()
        if before is not None:
            before.leave()

    def register_again(self, external_session: SchedulerSession) -> None:
        """The external session's external worker took too long, so its session is over; it gets another if nobody is
        in its place.
        """
        with self._lock:
            self.check_open()
            if self._registered.get(external_session.worker_id) is not external_session:
                raise _displaced(external_session)
            external_session.register()

    def stop_reason(self, external_session: SchedulerSession) -> FloxideError:
        """Why the external session's external worker is told to stop."""
        return _closed() if self.has(external_session) else _displaced(external_session)

    def busy(self, external_session: SchedulerSession) -> None:
        with self._lock:
            self._busy.add(external_session)

    def idle(self, external_session: SchedulerSession, over: bool = False) -> None:
        """The external session's external worker has no item any more, and with ``over`` no place."""
        with self._lock:
            self._busy.discard(external_session)
            self._became_idle.notify_all()
            if over and self._registered.get(external_session.worker_id) is external_session:
                del self._registered[external_session.worker_id]

    def close(self, grace: float) -> None:
        """The scheduler is stopped. What external workers are at has ``grace`` seconds to be committed; then nothing
        counts.
        """
        with self._lock:
            self._became_idle.wait_for(lambda: not self._busy, max(0.0, grace))
            self._closed = True
            seated = list(self._registered.values())
        for external_session in seated:
            external_session.leave()


class SchedulerSession(ExternalSession):
    """One external worker's: see ``ports.External session``.

    Args:
        external sessions: all of them.
        status page: what the external worker and its coordinator tell each other without asking.
        pid: the external worker's process.
    """

    def __init__(self, external_sessions: ExternalSessions, status_page: StatusPage, pid: int) -> None:
        self.worker_id = -1
        self._sessions = external_sessions
        self._scheduler = external_sessions.scheduler
        self._status_page = status_page
        self._pid = pid
        self._session = 0
        self._run_id = ""  # of the item that was taken last

    def join(self, worker_id: int) -> None:
        self.worker_id = worker_id
        self._sessions.register(self)

    def register(self) -> None:
        self._release()
        self._session = self._scheduler.new_session_id()
        self._scheduler.register_session(self._session, self.worker_id, self._status_page, self._pid, external=True)

    def take(self, workflow: str, wait: float) -> Lease | None:
        self._sessions.check_open()
        _, again = (
            self._scheduler.overdue()
        )  # for want of an engine that asks: others may be at what this one waits for
        wait = min(wait, LONGEST, wait if again is None else again)
        reply = self._scheduler.exchange(self._session, (), ONE_BY_ONE, Ask(workflow, wait))
        if not reply.leases:
            if reply.stop:
                raise self._sessions.stop_reason(self)
            return None
        self._sessions.busy(self)
        self._run_id = reply.leases[0].run_id
        return reply.leases[0]

    def commit(self, report: Report) -> bool:
        reply = self._scheduler.exchange(self._session, (report,), 0.0)
        self._sessions.idle(self)
        if reply.refused and reply.stop:
            self._sessions.register_again(self)
        if reply.refused or not report.results:
            return not reply.refused
        if isinstance(report.results[0], Suspect) and not self._cancelled():
            return False
        return self._scheduler.flush_durably(self._run_id)  # who is told that it counts finds it after a crash

    def _cancelled(self) -> bool:
        return self._scheduler.known(self._run_id).decided.phase in (Phase.CANCELLING, Phase.CANCELLED)

    def shape(self, run_id: str) -> dict[str, str]:
        run = self._scheduler.known(run_id)
        assert isinstance(run, ActiveRun)  # or nothing of it would have been taken
        return run.state.plan.graph.shape()

    def describe(self, run_id: str, known: Sequence[bytes], warnings: Sequence[str] = ()) -> Description:
        return self._scheduler.describe(run_id, known, warnings)

    def events(self, run_id: str, since: int) -> EventPage:
        return self._scheduler.events(run_id, since)

    def leave(self) -> None:
        self._release()
        self._sessions.idle(self, over=True)

    def died(self, how: Callable[[], tuple[str, int | None]]) -> None:
        """The external worker's process has ended, or broken its connection: what it was at, if anything, is to blame.

        Args:
            how: gives that in words, and the exit code if there is one that is known.
        """
        if self._status_page.at() is not None and self._sessions.has(self):
            words, code = how()

            def describe(what: str) -> FloxideError:
                text = f"worker {self.worker_id} (pid {self._pid}) {words} while it ran {what}"
                return WorkerDiedError(text, exit_code=code, pid=self._pid)

            self._scheduler.session_lost(self._session, describe, "")
        self.leave()

    # -- for its process, which may ask without having joined ------------------------------------------

    def info(self, run_id: str) -> RunInfo:
        """How a run stands."""
        self._sessions.check_open()
        return info_of(self._scheduler.known(run_id))

    def create(self, record: RunRecord, graph: Graph) -> tuple[RunRecord, RunInfo] | None:
        """Start a run; or, where there is one of that id, what it began with and how it stands."""
        self._sessions.check_open()
        if self._scheduler.create(record, Plan(graph), self._sessions.retry):
            return None
        return _there(self._scheduler.known(record.run_id), self._scheduler.record(record.run_id))

    # -- inside ----------------------------------------------------------------------------------------

    def _release(self) -> None:
        """The session is over, and what it has goes back as it was: nothing that it is at is to blame."""
        self._scheduler.session_lost(self._session, FloxideError, "", KillRequest(self._session, None, None))


def _there(run: RunEntry, record: RunRecord) -> tuple[RunRecord, RunInfo]:
    if not isinstance(run, ActiveRun) and not run.over:
        run_id = run.record.run_id
        how = f"where the coordinator is, coordinator.resume(workflow, {run_id!r}) goes on with it"
        raise FloxideError(f"run {run_id!r} was left by another coordinator; {how}", run_id=run_id)
    return record, info_of(run)


def _closed() -> FloxideError:
    return FloxideError("the coordinator is closed")


def _displaced(external_session: SchedulerSession) -> FloxideError:
    number = external_session.worker_id
    text = f"another loop works as worker {number} now; what this one was at went back, and does not count"
    return FloxideError(text)
