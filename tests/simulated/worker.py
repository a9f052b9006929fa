"""Workers that are no processes: what ``runtime.worker`` does to a lease, move by move, so that anything can come in
between. What its nodes do is the world's to say.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from floxide_mp.errors import FloxideError
from floxide_mp.ports import Entry, Grant, Lease, Reply, Report, StepResult
from floxide_mp.runtime.board import SIZE, Board
from floxide_mp.runtime.desk import LedgerDesk
from floxide_mp.runtime.leases import Overdue
from floxide_mp.runtime.run_log import pages
from floxide_mp.runtime.running import ONE_BY_ONE
from floxide_mp.runtime.worker import CEILING, FLOOR, IMPORTING

if TYPE_CHECKING:
    from .world import World

WANTS: Final = (ONE_BY_ONE, FLOOR, CEILING)


class Worker:
    """One life of a worker.

    Attributes:
        lease: what it has, until the report of it is on its way.
        at: the item that its board names; -1 without a lease.
        running: whether it is inside of that item's node.
        slow: ... which does not come back.
        stopped: it does nothing for the time being.
        dead: it does nothing any more, and is to be buried.
    """

    def __init__(self, world: World, worker_id: int) -> None:
        self.world = world
        self.worker_id = worker_id
        self.board = Board(memoryview(bytearray(SIZE)))
        self.lease: Lease | None = None
        self.at = -1
        self.started = self.spared = 0.0  # the item that it is at; and how long everything was stopped since
        self.running = self.slow = self.stopped = self.dead = False
        self.killed: Overdue | None = None  # on purpose
        self._logs: dict[tuple[str, int], list[Entry]] = {}  # by run and life
        self._idle = -1  # how much had happened when there was nothing to do
        self._join()
        self._begin_again()

    def _join(self) -> None:
        self.session = self.world.ledger.reserve()
        self.world.ledger.enlist(self.session, self.worker_id, self.board, 0)

    def _begin_again(self) -> None:
        self.lease, self.at, self._next = None, -1, 0
        self._results: list[StepResult] = []
        self._report: Report | None = None
        self._cut = self.running = self.slow = False

    @property
    def grant(self) -> Grant | None:
        """The item that it is at, or was at last before its report: the one to blame, should it die."""
        return None if self.lease is None else self.lease.items[self.at]

    @property
    def late(self) -> bool:
        """Whether what it has is not its own any more."""
        session = self.world.ledger._sessions.get(self.session)
        if session is None or self.lease is None:
            return True
        leased = session.leases.get(self.lease.id)
        return leased is None or leased.run is not self.world.ledger._runs[self.lease.run_id]  # that broke, say

    def look(self, lease: Lease) -> None:
        """Its step reads the context: what is new since the last time is fetched."""
        run_id = lease.run_id
        log = self._logs.setdefault((run_id, lease.life), [])
        fetch = partial(self.world.ledger.events, run_id)
        for page in pages(len(log), fetch):
            log += page
        right = log == [entry for page in pages(0, fetch) for entry in page]
        self.world.hold(right, f"{self} sees another log of {run_id} than one that looks for the first time")

    # -- moves -----------------------------------------------------------------------------------------

    def step(self) -> bool:
        """The next move; False if there is nothing that it could do."""
        if self.slow and self.late:
            self.slow = False  # nobody waits for it any more, so now it comes back
        if self.stopped or self.dead or self.slow:
            return False
        if self._report is not None:
            return self.call()
        if self.lease is None:
            if self._idle == self.world.changes:
                return False  # nothing has happened since there was nothing
            return self.call() or self._wait()
        if self.running:
            assert self.grant is not None
            self._results.append(self.world.result(self.lease.run_id, self.grant))
            self.running = False
        elif self._cut or self._next == len(self.lease.items) or self.board.revoked(self.lease.id):
            self._report = Report(self.lease.id, tuple(self._results), self._spent())
        else:
            self._enter()
        return True

    def _wait(self) -> bool:
        self._idle = self.world.changes
        return False

    def _enter(self) -> None:
        assert self.lease is not None
        self.at, self._next, self.running = self._next, self._next + 1, True
        self.board.enter(self.at, self.world.clock.monotonic_ns())
        self.started, self.spared = self.world.clock.now, 0.0
        self.world.began(self)

    def call(self) -> bool:
        """One round trip, in which messages may be lost."""
        reports = [] if self._report is None else [self._report]
        fault = self.world.message_fault(self, bool(reports))
        if fault == "request lost":
            self.dead = True
            return True
        if fault == "request late":
            self.world.bury(self)
            self.exchange(reports, 0.0)
            return True
        reply = self.exchange(reports, self.world.chance.choice(WANTS))
        if fault == "repeated" and reports:
            self.repeat(reports)
        had = bool(reports)
        self._begin_again()
        if fault == "reply lost":
            self.dead = True
            return True
        if reply.stop:
            self.world.ended(self)
            return True
        for lease in reply.leases:
            self._take(lease)
        return had or bool(reply.leases)

    def exchange(self, reports: list[Report], want: float) -> Reply:
        late = self.late
        self.world.changes += bool(reports)
        reply = self.world.ledger.exchange(self.session, reports, want)
        self.world.hold(not (late and reports) or reply.refused, f"{self} reports what is not its own: not refused")
        return reply

    def repeat(self, reports: list[Report]) -> None:
        """The same message once more: the lease is over."""
        self.world.note(f"{self} repeats its report")
        reply = self.world.ledger.exchange(self.session, reports, 0.0)
        self.world.hold(reply.refused, f"{self} reports twice, and the second time is not refused")

    def tell_early(self) -> bool:
        """While an item runs, report those before it and give back those behind it."""
        if not self.running or self._cut or self.lease is None or len(self.lease.items) == 1 or self.late:
            return False
        report = Report(self.lease.id, tuple(self._results), (), last=False)
        self._cut, self._results = True, []
        self.exchange([report], 0.0)
        return True

    def _take(self, lease: Lease) -> None:
        self.lease, self.at = lease, 0
        self.board.begin(lease.id)
        self.board.enter(0, self.world.clock.monotonic_ns() + IMPORTING)
        self.started, self.spared = self.world.clock.now + IMPORTING / 1e9, 0.0
        self.world.took(self, lease)

    def _spent(self) -> tuple[tuple[int, int, float], ...]:
        assert self.lease is not None
        return tuple((grant[1], 1, 0.001) for grant in self.lease.items[: len(self._results)])

    # -- ends ------------------------------------------------------------------------------------------

    def laid_to_rest(self) -> None:
        """The ledger is told that it has died."""

        def describe(what: str) -> FloxideError:
            return FloxideError(f"worker {self.worker_id} died while it ran {what}")

        self.world.ledger.gone(self.session, describe, "", self.killed)

    def __repr__(self) -> str:
        lease = "" if self.lease is None else f" with lease {self.lease.id} at {self.at}"
        return f"{type(self).__name__.lower()} {self.worker_id} (session {self.session}){lease}"


class Guest(Worker):
    """A loop of the user's own: it has a desk, and one item at a time. Nobody may end it."""

    def _join(self) -> None:
        self._desk = LedgerDesk(self.world.desks, self.board, 0)
        self._desk.join(self.worker_id)

    @property
    def session(self) -> int:  # type: ignore[override]
        return self._desk._session

    def call(self) -> bool:
        report = self._report
        fault = self.world.message_fault(self, report is not None)
        if fault in ("request lost", "request late"):
            self.dead = True
            return True
        if report is None:
            lease = self._desk.take("drawn", 0.0)
            if lease is not None:
                self._take(lease)
                self.dead = fault == "reply lost" and self.world.may_lose(self)
            return lease is not None
        late = self.late
        self.world.changes += 1
        counted = self._desk.commit(report)
        self.world.hold(not late or not counted, f"{self} commits what is not its own: not refused")
        self.board.end()
        self._begin_again()
        self.dead = fault == "reply lost"
        return True

    def tell_early(self) -> bool:
        return False

    def laid_to_rest(self) -> None:
        self._desk.died(lambda: ("died", None))
