"""Workers that are no processes: what ``worker.worker`` does to a lease, move by move, so that anything can come in
between. What its nodes do is the world's to say; what is told of it is the real ``Work``'s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

from floxide_mp.coordinator.external import SchedulerSession
from floxide_mp.coordinator.leases import KillRequest
from floxide_mp.core.types import OrderKey
from floxide_mp.errors import FloxideError
from floxide_mp.messages import ONE_BY_ONE, Entry, Grant, Grants, Lease, PartialResult, Reply, Report, failed
from floxide_mp.wire.status_page import SIZE, StatusPage
from floxide_mp.worker.context_log import pages
from floxide_mp.worker.lease_execution import LeaseExecution
from floxide_mp.worker.step import each
from floxide_mp.worker.worker import CEILING, FLOOR, IMPORTING, MOST_AHEAD

if TYPE_CHECKING:
    from .world import World

WANTS: Final = (ONE_BY_ONE, FLOOR, CEILING)
STEP: Final = 1_000_000  # nanoseconds that each is said to take


class Worker:
    """One life of a worker.

    Attributes:
        lease: what it has, until the report of it is on its way.
        grant: the item that it is at, or was at last before its report: the one to blame, should it die.
        at: the number of that, which its status page says; -1 without a lease.
        running: whether it is inside of that item's node.
        slow: ... which does not come back.
        told: its result was told, and nothing was begun since.
        stopped: it does nothing for the time being.
        dead: it does nothing any more, and is to be buried.
    """

    def __init__(self, world: World, worker_id: int) -> None:
        self.world = world
        self.worker_id = worker_id
        self.status_page = StatusPage(memoryview(bytearray(SIZE)))
        self._want = FLOOR
        self.started = self.spared = 0.0  # the item that it is at; and how long everything was stopped since
        self.running = self.slow = self.stopped = self.dead = self.told = False
        self.killed: KillRequest | None = None  # on purpose
        self._logs: dict[tuple[str, int], list[Entry]] = {}  # by run and life
        self._leases: deque[Lease] = deque()  # taken in advance
        self._unsent: list[Report] = []
        self._posted: Reply | None = None  # what comes when it is collected
        self._idle = -1  # how much had happened when there was nothing to do
        self._join()
        self._begin_again()

    def _join(self) -> None:
        self.session = self.world.scheduler.new_session_id()
        self.world.scheduler.register_session(self.session, self.worker_id, self.status_page, 0)

    def _begin_again(self) -> None:
        self.lease: Lease | None = None
        self.work: LeaseExecution | None = None
        self.grant: Grant | None = None
        self.at = -1
        self._coming: Iterator[Grant] = iter(())
        self._next: Grant | None = None
        self._done: list[OrderKey] = []  # steps of this lease whose writes count
        self._report: Report | None = None
        self.running = self.slow = self.told = False

    @property
    def unknown(self) -> bool:
        """Whether nobody knows of the item that it is at."""
        return self.grant is not None and not self.grant[0] and self.work is not None and not self.work.truncated

    @property
    def late(self) -> bool:
        """Whether what it has is not its own any more."""
        return self.lease is None or self._is_late(self.lease.id)

    def _is_late(self, lease_id: int) -> bool:
        scheduler = self.world.scheduler
        session = scheduler._sessions.get(self.session)
        leased = session and session.leases.get(lease_id)
        return leased is None or leased.run is not scheduler._runs[leased.run.record.run_id]  # that broke, say

    def look(self, lease: Lease) -> None:
        """Its step reads the context: what is new since the last time is fetched."""
        ahead = self.unknown
        if ahead and not self._tell():
            return  # its run has broken
        run_id = lease.run_id
        log = self._logs.setdefault((run_id, lease.generation), [])
        fetch = partial(self.world.scheduler.events, run_id)
        for page in pages(len(log), fetch):
            log += page
        right = log == [entry for page in pages(0, fetch) for entry in page]
        self.world.hold(right, f"{self} sees another log of {run_id} than one that looks for the first time")
        if ahead:
            seen = {entry[0] for entry in log}
            self.world.hold(seen.issuperset(self._done), f"{self} does not see what led to the step that it is at")

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
        assert self.work is not None
        if self.running:
            self._return()
        elif self._next is None and self._goes_on():
            pass  # it has not begun it yet
        elif self._next is None or self.work.truncated or self.status_page.revoked(self.lease.id):
            self._report = self.work.report()
        else:
            self._enter(self._next)
        return True

    def _goes_on(self) -> bool:
        """Whether there is one more item to begin."""
        self._next = next(self._coming, None)
        return self._next is not None

    def _wait(self) -> bool:
        self._idle = self.world.changes
        return False

    def _enter(self, grant: Grant) -> None:
        assert self.work is not None
        self.at, self.grant, self._next, self.running = self.work.done, grant, None, True
        self.status_page.enter(self.at, self.world.clock.monotonic_ns())
        self.started, self.spared = self.world.clock.now, 0.0
        self.world.began(self)

    def _return(self) -> None:
        """The node comes back."""
        assert self.lease is not None and self.grant is not None and self.work is not None
        given = self.lease.given.values if self.lease.given is not None and self.at == 0 else 0
        result = self.world.result(self.lease.run_id, self.grant, given, isinstance(self, External))
        self.running = False
        self._ended += STEP
        self.work.add(self.grant[1], result, self._ended)
        if not (isinstance(result, PartialResult) or failed(result)):
            self._done.append(self.grant[3])

    def _grants(self, lease: Lease, work: LeaseExecution) -> Iterator[Grant]:
        """The items of a lease, and then those that it may go on with."""
        yield from each(lease.items)
        if not lease.chain:
            return
        (part,) = lease.items
        stage = part if isinstance(part, Grants) else Grants(part[0], part[1], part[3], [part[4]])
        ahead = self.world.scheduler.describe(lease.run_id, (lease.key,)).chained
        while (came := work.next(len(stage.payloads))) is not None and work.done <= MOST_AHEAD:
            arm, payloads = came
            node = ahead[stage.node][arm]
            if node < 0 or self.world.chance.random() < 0.05:
                return
            work.go_on()
            depth, path = stage.order
            stage = Grants(0, node, (depth + 1, path), payloads)
            yield from each((stage,))

    def call(self) -> bool:
        """One round trip, in which messages may be lost, unless there is a lease that was taken in advance."""
        reports = [*self._unsent, *([] if self._report is None else [self._report])]
        self._collect()
        if self._leases:
            self._unsent = reports
            self._begin(self._more)
            return True
        fault = self.world.message_fault(self, bool(reports))
        if fault == "request lost":
            self.dead = True
            return True
        if fault == "request late":
            self.world.bury(self)
            self.exchange(reports, 0.0)
            return True
        self._want = self.world.chance.choice(WANTS)
        reply = self.exchange(reports, self._want)
        if fault == "repeated" and reports:
            self.repeat(reports)
        had = bool(reports)
        self._unsent = []
        self._begin_again()
        if fault == "reply lost":
            self.dead = True
            return True
        if reply.stop:
            self.world.ended(self)
            return True
        if reply.leases:
            self._leases += reply.leases
            self._begin(reply.more)
        return had or bool(reply.leases)

    def _collect(self) -> None:
        self._more = self._posted is not None and self._posted.more
        if self._posted is not None:
            self._leases += self._posted.leases
            self._posted = None

    def _begin(self, more: bool) -> None:
        """The next lease; if there is so much to do, the one after it is asked for."""
        self._begin_again()
        self._take(self._leases.popleft())
        if more or self._unsent:
            fault = self.world.message_fault(self, bool(self._unsent))
            if fault in ("request lost", "request late"):
                self.dead = True
                return
            reports, self._unsent = self._unsent, []
            self._posted = self.exchange(reports, self._want if more else 0.0, busy=True)

    def _unbegun(self) -> list[Report]:
        self._collect()
        leases, self._leases = self._leases, deque()
        return [Report(lease.id, (), ()) for lease in leases]

    def exchange(self, reports: list[Report], want: float, busy: bool = False) -> Reply:
        late = any(self._is_late(report.lease_id) for report in reports)
        self.world.changes += bool(reports)
        reply = self.world.scheduler.exchange(self.session, reports, want, busy=busy)
        self.world.hold(not (late and reports) or reply.refused, f"{self} reports what is not its own: not refused")
        return reply

    def repeat(self, reports: list[Report]) -> None:
        """The same message once more: the lease is over."""
        self.world.note(f"{self} repeats its report")
        reply = self.world.scheduler.exchange(self.session, reports, 0.0)
        self.world.hold(reply.refused, f"{self} reports twice, and the second time is not refused")

    def tell_early(self) -> bool:
        """While an item runs, report those before it and give back those behind it."""
        work, lease = self.work, self.lease
        if work is None or lease is None or work.truncated or self._report is not None or self.late:
            return False
        if len(list(each(lease.items))) == 1 and not work.chained and self._posted is None:
            return False
        self._tell()
        return True

    def _tell(self) -> bool:
        """Whether it counts."""
        assert self.work is not None and self.grant is not None
        self.told = not self.running
        reply = self.exchange([self.work.report(last=False), *self._unbegun()], 0.0)
        known = not self.running or reply.refused or reply.running == (self.grant[0] or reply.running)
        self.world.hold(known, f"{self} is told that it is at {reply.running}")
        if self.running and not reply.refused and not self.grant[0]:
            self.world.named(self, reply.running)
        return not reply.refused

    def _take(self, lease: Lease) -> None:
        now = self.world.clock.monotonic_ns()
        self.lease, self.at, self._done = lease, 0, []
        self.work = LeaseExecution(
            lease,
            partial(self.status_page.cancelled, lease.id),
            now,
            now,
            now + (int(self._want * 1e9) if lease.chain else 0),
        )
        self._ended = now
        self._coming = self._grants(lease, self.work)
        self.grant = next(each(lease.items))
        self.status_page.begin(lease.id)
        self.status_page.enter(0, now + IMPORTING)
        self.started, self.spared = self.world.clock.now + IMPORTING / 1e9, 0.0
        self.world.took(self, lease)

    # -- ends ------------------------------------------------------------------------------------------

    def laid_to_rest(self) -> bool:
        """The scheduler is told that it has died. Whether an item is to blame."""

        def describe(what: str) -> FloxideError:
            return FloxideError(f"worker {self.worker_id} died while it ran {what}")

        return self.world.scheduler.session_lost(self.session, describe, "", self.killed)

    def __repr__(self) -> str:
        lease = "" if self.lease is None else f" with lease {self.lease.id} at {self.at}"
        return f"{type(self).__name__.lower()} {self.worker_id} (session {self.session}){lease}"


class External(Worker):
    """A loop of the user's own: it has an external session, and one item at a time. Nobody may end it."""

    def _join(self) -> None:
        self._external_session = SchedulerSession(self.world.external_sessions, self.status_page, 0)
        self._external_session.join(self.worker_id)

    @property
    def session(self) -> int:  # type: ignore[override]
        return self._external_session._session

    def call(self) -> bool:
        report = self._report
        fault = self.world.message_fault(self, report is not None)
        if fault in ("request lost", "request late"):
            self.dead = True
            return True
        if report is None:
            lease = self._external_session.take("drawn", 0.0)
            if lease is not None:
                self._take(lease)
                self.dead = fault == "reply lost" and self.world.may_lose(self)
            return lease is not None
        late = self.late
        self.world.changes += 1
        counted = self._external_session.commit(report)
        self.world.hold(not late or not counted, f"{self} commits what is not its own: not refused")
        self.status_page.end()
        self._begin_again()
        self.dead = fault == "reply lost"
        return True

    def tell_early(self) -> bool:
        return False

    def laid_to_rest(self) -> bool:
        self._external_session.died(lambda: ("died", None))
        return True  # for all that can be seen
