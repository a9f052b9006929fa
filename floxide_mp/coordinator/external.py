"""``Desks``: the coordinator's side of worker loops that users write. Such a loop is a guest among its workers.

Here is which loop has which session, under which ``worker_id``. What an item's fate is, the ledger decides; how a
guest in another process is let in and connected is not decided here.
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
from ..ports import Desk, RunRecord
from ..types import RunInfo
from ..wire.status_page import SIZE, Board
from .active_run import Known, Running
from .critical import Condition, Critical
from .leases import Ask, Overdue
from .run_handle import info_of
from .scheduler import Ledger

LONGEST: Final = 5.0  # seconds that a guest waits in one call: its process may have died meanwhile


class Desks:
    """The guests of one coordinator.

    Args:
        ledger: what they work for.
        retry: the coordinator's policy for nodes that have none.
        processes: how many workers the engine has, numbered from 0 on: no loop may have the number of one of these.
    """

    def __init__(self, ledger: Ledger, retry: RetryPolicy | None, processes: int = 0) -> None:
        self.ledger = ledger
        self.retry = retry
        self._processes = processes
        self._pid = os.getpid()
        self._closed = False
        self._seated: dict[int, LedgerDesk] = {}  # the latest of each worker_id
        self._busy: set[LedgerDesk] = set()  # those with an item
        self._critical = Critical()  # its lock guards all this; taken before that of the ledger
        self._settled = Condition(self._critical)  # one of the busy has come back

    def joined(self, worker_id: int) -> tuple[LedgerDesk, Board]:
        """The desk and the page of a loop in this process that begins under this number."""
        self.check_open()
        board = Board(memoryview(bytearray(SIZE)))
        desk = LedgerDesk(self, board, self._pid)
        desk.join(worker_id)
        return desk, board

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

    def has(self, desk: LedgerDesk) -> bool:
        """Whether the desk's guest is there, and nobody in its place."""
        with self._lock:
            return self._seated.get(desk.worker_id) is desk

    def seat(self, desk: LedgerDesk) -> None:
        """The desk's guest begins, in the place of whoever had its ``worker_id``."""
        with self._lock:
            self.check_open()
            if desk.worker_id < self._processes:
                what = f"worker_id {desk.worker_id} is that of one of the coordinator's own workers"
                raise FloxideError(f"{what}; choose {self._processes} or more")
            before = self._seated.get(desk.worker_id)
            self._seated[desk.worker_id] = desk
            desk.enlist()
        if before is not None:
            before.leave()

    def seat_again(self, desk: LedgerDesk) -> None:
        """The desk's guest took too long, so its session is over; it gets another if nobody is in its place."""
        with self._lock:
            self.check_open()
            if self._seated.get(desk.worker_id) is not desk:
                raise _displaced(desk)
            desk.enlist()

    def why(self, desk: LedgerDesk) -> FloxideError:
        """Why the desk's guest is told to stop."""
        return _closed() if self.has(desk) else _displaced(desk)

    def took(self, desk: LedgerDesk) -> None:
        with self._lock:
            self._busy.add(desk)

    def settled(self, desk: LedgerDesk, over: bool = False) -> None:
        """The desk's guest has no item any more, and with ``over`` no place."""
        with self._lock:
            self._busy.discard(desk)
            self._settled.notify_all()
            if over and self._seated.get(desk.worker_id) is desk:
                del self._seated[desk.worker_id]

    def close(self, grace: float) -> None:
        """The ledger is stopped. What guests are at has ``grace`` seconds to be committed; then nothing counts."""
        with self._lock:
            self._settled.wait_for(lambda: not self._busy, max(0.0, grace))
            self._closed = True
            seated = list(self._seated.values())
        for desk in seated:
            desk.leave()


class LedgerDesk(Desk):
    """One guest's: see ``ports.Desk``.

    Args:
        desks: all of them.
        board: what the guest and its coordinator tell each other without asking.
        pid: the guest's process.
    """

    def __init__(self, desks: Desks, board: Board, pid: int) -> None:
        self.worker_id = -1
        self._desks = desks
        self._ledger = desks.ledger
        self._board = board
        self._pid = pid
        self._session = 0
        self._run_id = ""  # of the item that was taken last

    def join(self, worker_id: int) -> None:
        self.worker_id = worker_id
        self._desks.seat(self)

    def enlist(self) -> None:
        self._release()
        self._session = self._ledger.reserve()
        self._ledger.enlist(self._session, self.worker_id, self._board, self._pid, guest=True)

    def take(self, workflow: str, wait: float) -> Lease | None:
        self._desks.check_open()
        _, again = self._ledger.overdue()  # for want of an engine that asks: others may be at what this one waits for
        wait = min(wait, LONGEST, wait if again is None else again)
        reply = self._ledger.exchange(self._session, (), ONE_BY_ONE, Ask(workflow, wait))
        if not reply.leases:
            if reply.stop:
                raise self._desks.why(self)
            return None
        self._desks.took(self)
        self._run_id = reply.leases[0].run_id
        return reply.leases[0]

    def commit(self, report: Report) -> bool:
        reply = self._ledger.exchange(self._session, (report,), 0.0)
        self._desks.settled(self)
        if reply.refused and reply.stop:
            self._desks.seat_again(self)
        if reply.refused or not report.results:
            return not reply.refused
        if isinstance(report.results[0], Suspect) and not self._cancelled():
            return False
        return self._ledger.secure(self._run_id)  # who is told that it counts finds it after a crash

    def _cancelled(self) -> bool:
        return self._ledger.known(self._run_id).progress.phase in (Phase.CANCELLING, Phase.CANCELLED)

    def shape(self, run_id: str) -> dict[str, str]:
        run = self._ledger.known(run_id)
        assert isinstance(run, Running)  # or nothing of it would have been taken
        return run.state.plan.graph.shape()

    def describe(self, run_id: str, known: Sequence[bytes], warnings: Sequence[str] = ()) -> Description:
        return self._ledger.describe(run_id, known, warnings)

    def events(self, run_id: str, since: int) -> EventPage:
        return self._ledger.events(run_id, since)

    def leave(self) -> None:
        self._release()
        self._desks.settled(self, over=True)

    def died(self, how: Callable[[], tuple[str, int | None]]) -> None:
        """The guest's process has ended, or broken its connection: what it was at, if anything, is to blame.

        Args:
            how: gives that in words, and the exit code if there is one that is known.
        """
        if self._board.at() is not None and self._desks.has(self):
            words, code = how()

            def describe(what: str) -> FloxideError:
                text = f"worker {self.worker_id} (pid {self._pid}) {words} while it ran {what}"
                return WorkerDiedError(text, exit_code=code, pid=self._pid)

            self._ledger.gone(self._session, describe, "")
        self.leave()

    # -- for its process, which may ask without having joined ------------------------------------------

    def info(self, run_id: str) -> RunInfo:
        """How a run stands."""
        self._desks.check_open()
        return info_of(self._ledger.known(run_id))

    def create(self, record: RunRecord, graph: Graph) -> tuple[RunRecord, RunInfo] | None:
        """Start a run; or, where there is one of that id, what it began with and how it stands."""
        self._desks.check_open()
        if self._ledger.create(record, Plan(graph), self._desks.retry):
            return None
        return _there(self._ledger.known(record.run_id), self._ledger.record(record.run_id))

    # -- inside ----------------------------------------------------------------------------------------

    def _release(self) -> None:
        """The session is over, and what it has goes back as it was: nothing that it is at is to blame."""
        self._ledger.gone(self._session, FloxideError, "", Overdue(self._session, None, None))


def _there(run: Known, record: RunRecord) -> tuple[RunRecord, RunInfo]:
    if not isinstance(run, Running) and not run.over:
        run_id = run.record.run_id
        how = f"where the coordinator is, coordinator.resume(workflow, {run_id!r}) goes on with it"
        raise FloxideError(f"run {run_id!r} was left by another coordinator; {how}", run_id=run_id)
    return record, info_of(run)


def _closed() -> FloxideError:
    return FloxideError("the coordinator is closed")


def _displaced(desk: LedgerDesk) -> FloxideError:
    text = f"another loop works as worker {desk.worker_id} now; what this one was at went back, and does not count"
    return FloxideError(text)
