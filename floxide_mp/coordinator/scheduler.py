"""``Scheduler``: the one object that workers and users talk to. Every verb is one critical section under one lock, in
which no code runs that is not ours (``critical``).

Here is who works on what: it hands out leases, and tells the core's state machines what comes back. The runs
themselves, and the writing to the store, are in ``runs``. It starts no process and unpickles nothing.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from ..clock import monotonic, process_time
from ..core.records import EventRecord, ItemRecord, id_of
from ..core.transitions import STOPPING, Phase
from ..core.types import ErrorRecord
from ..errors import FloxideError
from ..messages import ONE_BY_ONE, Description, EventPage, Lease, Reply, Report
from ..ports import CheckpointStore
from ..wire import codec, oob_pickle
from ..wire.status_page import StatusPage
from .active_run import ActiveRun
from .critical import postponed, section
from .fault import fault_of
from .leases import Ask, KillRequest, Leased, Session, counted, head_of, next_seed, time_left
from .liveness import SuspendDetector
from .run_registry import RunRegistry
from .suspicion import MOST_LIVES

PLENTY: Final = 4  # leases for each worker that are to be left when one is handed out in advance

T = TypeVar("T")


class Scheduler(RunRegistry):
    """See the module. ``patience``: seconds that ``exchange`` waits for work at the most."""

    def __init__(self, store: CheckpointStore, patience: float, threaded: bool = True) -> None:
        super().__init__(store, threaded)
        self.event_page_size = 8192  # events that a worker is sent at a time
        # Opening a pickled class of ``__main__`` where it comes from resets that class, so workers in this very
        # process are given the workflow itself.
        self.bundles: dict[bytes, codec.Bundle] = {}
        self.arena: oob_pickle.Arena | None = None  # of the engine's, for what its workers are to be given
        self._patience = patience
        self._suspend_detector = SuspendDetector()
        self._numbers = 0

    # -- verbs of workers (ports.Backend) ------------------------------------------------------------

    @section
    def exchange(
        self, session: int, reports: Sequence[Report], want: float, ask: Ask | None = None, busy: bool = False
    ) -> Reply:
        worker = self._sessions.get(session)
        if worker is None:
            return Reply((), True, 0.0, bool(reports))
        worker.calls += 1
        worker.seen = now = self._now()
        worker.only = ask and ask.workflow
        if self._timed:
            self._expire(now, worker.calls == 1)
        woken = min(self._idle, self._run_queue.ready(self._idle)) if self._idle and reports else 0
        taken = [self._take(worker, report) for report in reports]
        touched = {id(run): run for run in taken if run}
        for run in touched.values():
            self._commit(run)
        left = woken and self._run_queue.nothing_beyond(woken)
        lease = None if left or (busy and not self._plenty(worker, want)) else self._grant(worker, want)
        waited, running = 0.0, 0
        if lease is None and not reports and want and not busy:
            waited = monotonic()
            lease = self._await_work(worker, want, self._patience if ask is None else ask.wait)
            waited = monotonic() - waited
        if touched:
            self._wake_others()
        reseeded = worker.next_seed is not None and not worker.leases
        stop = self._stopping or session not in self._sessions or reseeded
        refused = any(run is None or run.state.phase is Phase.BROKEN for run in taken)
        if reports and not reports[0].last and (held := worker.leases.get(reports[0].lease_id)) and held.items:
            running = id_of(held.items[0])
        more = lease is not None and self._plenty(worker, want)
        dropped = worker.affinity.unwanted()
        over = () if worker.ends_seen == self._ends else worker.hears_of_ends(self._ends, self._runs)
        return Reply(() if lease is None else (lease,), stop, waited, refused, running, more, dropped, over)

    def describe(self, run_id: str, known: Sequence[bytes], warnings: Sequence[str] = ()) -> Description:
        run = self._run(run_id)
        record = run.record if isinstance(run, ActiveRun) else self.record(run_id)
        workflow = None if record.key in known else record.workflow
        ahead = run.state.plan.chained if isinstance(run, ActiveRun) else ()
        for text in warnings:
            self._warn_once(text)
        hashes = record.hash_seed, record.hash_probe
        return Description(record.key, workflow, record.context, record.seed, ahead, record.fields, hashes)

    def events(self, run_id: str, since: int) -> EventPage:
        found, total = self._last_events(run_id, since)
        if found is None:
            with self.commit_queue.reading:
                found = self.store.events(run_id, since, None if total is None else self.event_page_size)
        return EventPage(found, total is not None and since + len(found) < total)

    @section
    def _last_events(self, run_id: str, since: int) -> tuple[Sequence[EventRecord] | None, int | None]:
        """A page of them, or None if the store has it; and how many there are, None for a run that nobody works on."""
        run = self._run(run_id)
        if not isinstance(run, ActiveRun):
            return None, None
        return self.commit_queue.events(run, since, self.event_page_size), run.tail.total

    # -- for engines ---------------------------------------------------------------------------------

    def unsent(self, session: int, leases: Sequence[Lease], error: Exception) -> None:
        """These were given to a worker, which could not be told of them: they go back.

        An item alone in its lease cannot be sent anywhere: that counts as an attempt. Several are leased one by one.
        """
        try:
            self._take_back(session, [lease.id for lease in leases], repr(error))
        except Exception as trouble:
            self.died(trouble)
            raise

    @section
    def _take_back(self, session: int, numbers: Sequence[int], why: str) -> None:
        worker = self._sessions.get(session)
        taken = [worker.leases.pop(number) for number in numbers if number in worker.leases] if worker else []
        for lease in taken:
            run, first = lease.run, lease.items[0]
            if worker is not None and not run.state.over and not run.one_by_one(lease.items):
                item = run.culprit(lease.items, (first, 0), (lease.id, worker.worker_id))
                text = f"{run.name(item)} cannot be sent to worker {worker.worker_id}: {why}"
                self._blame(worker, run, item, FloxideError(text), True, "")
            run.give_back(lease.items)
            self.suspicion.ended(lease.id)
            self._commit(run)
        self._wake_others()

    @section
    def new_session_id(self) -> int:
        """A number for the session of a worker that is about to be started."""
        self._numbers += 1
        return self._numbers

    @section
    def register_session(
        self,
        session: int,
        worker_id: int,
        status_page: StatusPage,
        pid: int,
        external: bool = False,
        hash_seed: int | None = None,
    ) -> None:
        """The worker is there; from now on its calls are answered. With a hash seed, by work of such runs only."""
        self._sessions[session] = Session(session, worker_id, status_page, pid, external=external, hash_seed=hash_seed)

    @section
    def next_hash_seed(self, session: int) -> int | None:
        """The hash seed that the worker in the place of this one is to have, if this one ends for that."""
        worker = self._sessions.get(session)
        return None if worker is None else worker.next_seed

    @section
    def started(self, session: int) -> bool:
        """Whether the worker got as far as it must to be of use: it waits, has begun an item, or came back.

        One that dies of what its first call brings, before any item could be blamed, is no better than one that
        dies at start-up: its successors would do the same without end.
        """
        worker = self._sessions[session]
        return worker.calls > 1 or worker.waiting or worker.status_page.at() is not None

    @section
    def never_called(self, session: int) -> bool:
        """Whether the worker, which has not called yet, would be told to end: it need not be waited for."""
        return self._stopping and not self._sessions[session].calls

    @section
    def session_lost(
        self, session: int, describe: Callable[[str], FloxideError], text: str, overdue: KillRequest | None = None
    ) -> bool:
        """A worker's life is over: its leases go back at once, and the item it was at may be to blame.

        Args:
            session: which.
            describe: makes the error of the item from a text that says what was being run.
            text: what the worker left on its error stream, for the error's traceback.
            overdue: given where the worker was ended for that.

        Returns:
            whether an item was to blame, which was logged.
        """
        return self._session_lost(session, describe, text, overdue)

    @section
    def overdue(self, within: float | None = None) -> tuple[list[KillRequest], float | None]:
        """Workers to be ended now, and in how many seconds to ask again (None: not before ``on_deadline``).

        Args:
            within: given by one who asks regularly: at the latest after so many seconds, while there are workers. When
                it comes much later, everything was stopped, and that counts against nobody: see ``SuspendDetector``.
        """
        found: list[KillRequest] = []
        externals: list[KillRequest] = []
        again = within if self._sessions else None
        now = self._now()
        self._expire(now)
        if self._timed:
            until = self._first_deadline - now
            again = until if again is None else min(again, until)
        for worker in self._sessions.values():
            for lease in worker.leases.values():
                left, error = time_left(worker, lease, now)
                if left is not None and left <= 0:
                    late = KillRequest(worker.number, worker.status_page.at(), error)
                    (externals if worker.external else found).append(late)
                elif left is not None:
                    again = left if again is None else min(again, left)
        for late in externals:  # not ours to end: what one is at goes on without it; what it says later is refused
            self._session_lost(late.session, FloxideError, "", late)
        if within is not None:
            self._suspend_detector.expect(now, process_time(), math.inf if again is None else again)
        return found, again

    def cannot_start(self, error: FloxideError, text: str) -> None:
        """Workers die before they work: every active run fails."""
        self._abandon(codec.encode_error(error, text))

    @section
    def _abandon(self, record: ErrorRecord) -> None:
        self._broken = record
        for run in list(self._active.values()):
            run.state.abandon(record)
            self._commit(run)

    @postponed
    @section
    def stop(self) -> None:
        """Workers that call are told to end, after handing in what they have; leases out are revoked."""
        self._stopping = True
        for worker in self._sessions.values():
            for lease in worker.leases.values():
                worker.status_page.revoke(lease.id)
        for run in self._active.values():
            self._cut_off(run)
        self._work.notify_all()
        self._changed.notify_all()

    def look_at_workers(self, at: Callable[[Session], T]) -> list[T]:
        """What ``at`` makes of each worker that lives; their status pages are closed when they have gone."""
        inside = self.critical.inside  # asked by one who must not wait
        return [at(worker) for worker in list(self._sessions.values())] if inside else self._look_at_workers(at)

    @section
    def _look_at_workers(self, at: Callable[[Session], T]) -> list[T]:
        self._now()
        return [at(worker) for worker in self._sessions.values()]

    @section
    def detach(self) -> None:
        """The engine has ended: ``on_deadline`` is not called any more."""
        self.on_deadline = lambda: None
        self.arena = None

    # -- inside; the lock is held --------------------------------------------------------------------

    def _now(self) -> float:
        """The monotonic clock, for a decision. Time in which nobody could look is granted to what runs."""
        now = monotonic()
        if now > self._suspend_detector.until:
            missed = self._suspend_detector.missed(now, process_time())
            for worker in self._sessions.values():
                worker.extend_deadlines(missed, now)
            for run in self._active.values():
                run.extend_deadlines(missed)
        return now

    def _take(self, worker: Session, report: Report) -> ActiveRun | None:
        """Results come in: tell the core. Under a lease that is over: nothing."""
        lease = worker.leases.get(report.lease_id)
        if lease is None:
            text = "worker %d reports under lease %d, which is over: refused"
            self.critical.say(logging.WARNING, text, worker.worker_id, report.lease_id)
            return None
        run, left = lease.run, lease.items
        steps, failed = counted(report.results)
        worker.errors += failed
        try:
            if not run.state.over:  # a run that broke while this was running takes nothing any more
                left = run.apply(left, report.results, (lease.id, worker.worker_id), report.chained, worker.affinity)
        except BaseException as error:
            self._crash(run, fault_of(error))
            if not isinstance(error, Exception):
                raise
        if report.last:
            del worker.leases[lease.id]
            self.suspicion.ended(lease.id)
        else:
            lease.reported += steps
            lease.items, left = head_of(left)
        run.give_back(left)
        run.cost_model.observe(report.spent)
        return run

    def _grant(self, worker: Session, want: float, any_home: bool = False) -> Lease | None:
        """A lease of some ``want`` seconds' work of one run; runs take turns.

        Args:
            any_home: also of what another worker should go on with.
        """
        if self._stopping or not want or self.commit_queue.backlogged or worker.number not in self._sessions:
            return None
        seed = worker.hash_seed if self._mixed else None
        if seed is not None and self._makes_room(worker, False):
            return None
        session = None if any_home else worker.number
        run = self.suspicion.waiting(worker) or self._run_queue.first_streaming(session, worker.only, seed)
        run = run or self._run_queue.next(monotonic(), worker.only, seed)
        if run is None or self.suspicion.holds(run, self._sessions.values()):
            return None
        number = self._numbers = self._numbers + 1
        try:
            return self._lease(worker, run, want, any_home)
        except Exception as error:  # of no memory, say: nobody knows what of it is claimed
            worker.leases.pop(number, None)
            self.suspicion.ended(number)
            self._crash(run, fault_of(error))
            return None

    def _lease(self, worker: Session, run: ActiveRun, want: float, any_home: bool) -> Lease | None:
        session = None if any_home else worker.number
        items = run.claim(self._numbers, worker.worker_id, want, len(self._sessions), session)
        if run.lives(items[0]) >= MOST_LIVES:
            (culprit, *_) = items
            assert isinstance(culprit, ItemRecord)
            self.critical.say(logging.WARNING, "%s", run.give_up(culprit, worker.worker_id))
            self._commit(run)
            return self._grant(worker, want, any_home)
        self.suspicion.began(self._numbers, run, items)
        worker.runs.add(run.record.run_id)
        if run.feed is not None:
            self._check_feed(run)
            self._commit(run)  # what was taken out of the feed is committed before anybody works on it
        places = run.state.plan.places
        timed = any(places[item.place].spec.timeout is not None for item in items)
        worker.began = worker.began or monotonic()
        worker.leases[self._numbers] = Leased(self._numbers, run, items, timed)
        if timed:
            self.on_deadline()
        given = run.state.values_taken(id_of(items[0]))
        ahead = want > ONE_BY_ONE and run.may_chain(items) and not given
        return Lease(self._numbers, run.record.run_id, run.record.key, run.grants(items), run.generation, ahead, given)

    def _makes_room(self, worker: Session, idle: bool) -> bool:
        """Whether the worker ends, for one with another hash seed. Asked only where runs have different ones."""
        if worker.next_seed is None and not self.commit_queue.backlogged:
            ready = self._run_queue.by_hash_seed()
            worker.next_seed = next_seed(worker, idle, monotonic(), ready, self._sessions.values())
        return worker.next_seed is not None

    def _plenty(self, worker: Session, want: float) -> bool:
        """Whether a worker may have a lease that it does not begin yet: the others have enough to do without it."""
        seed = worker.hash_seed if self._mixed else None
        run = None if want <= ONE_BY_ONE else self._run_queue.first(monotonic(), worker.only, seed)
        return run is not None and run.plenty(PLENTY * want * len(self._sessions))

    def _await_work(self, worker: Session, want: float, patience: float) -> Lease | None:
        end, ends = monotonic() + patience, self._ends
        lease = None
        worker.waiting = True
        self._idle += 1
        self._broken = None  # there is a worker
        try:
            while lease is None and not self._stopping and ends == self._ends and worker.number in self._sessions:
                now = monotonic()
                if self._mixed and self._makes_room(worker, True):
                    break
                due = (
                    None if self.commit_queue.backlogged else self._run_queue.next_due
                )  # nothing is begun, due or not, while it is
                until = end if due is None else due
                if now >= end:
                    # Who has the iterator that could give more is long at something else.
                    lease = None if worker.external else self._grant(worker, want, any_home=True)
                    break
                self._work.wait(max(0.0, min(until, end) - now))
                lease = self._grant(worker, want)
        finally:
            worker.waiting = False
            self._idle -= 1
        return lease

    def _session_lost(
        self, session: int, describe: Callable[[str], FloxideError], text: str, overdue: KillRequest | None
    ) -> bool:
        if (worker := self._sessions.pop(session, None)) is None:
            return False  # of an external worker, two may hear
        at = worker.status_page.at()
        if overdue is not None and at != overdue.at:
            at = None  # not ended for what it is at: in between it had gone on to something else
        worker.affinity.leave()
        blamed = False
        for lease in worker.leases.values():
            self.suspicion.ended(lease.id)
            found = lease.find(at)
            if found is None and (steps := lease.chained_from(at)):
                lease.items[
                    0
                ].unchained_steps = steps  # what ended the worker is so far behind: next time it is to be blamed
            elif found is not None and not lease.run.state.over:
                culprit = lease.run.culprit(lease.items, found, (lease.id, worker.worker_id))
                error = overdue and overdue.error
                named = error or describe(lease.run.name(culprit))
                blamed = self._blame(worker, lease.run, culprit, named, error is None, text)
            lease.run.give_back(lease.items)
            self._commit(lease.run)
        self._wake_others()
        self._work.notify_all()  # its own thread may be among those who wait
        return blamed

    def _blame(
        self, worker: Session, run: ActiveRun, item: ItemRecord, error: FloxideError, died: bool, text: str
    ) -> bool:
        if self._stopping or run.state.over or run.state.phase in STOPPING:
            # Its grace was over, or its run broke: it is not the item's doing.
            run.give_back([item])
            return False
        run.blame(item, error, died, text, worker.worker_id)
        self.critical.say(logging.WARNING, "%s", error)
        worker.errors += 1
        return True
