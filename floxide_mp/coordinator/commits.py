"""``Commits``: what was decided about runs is brought into the store, and what it means to them if it cannot be. What
is decided is ``RunRegistry``' and ``Scheduler``'s, how a commit comes into the store the commit queue's.

What begins with an underscore is called with the lock held, if it is no section itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from math import inf
from typing import Final

from .. import failpoints
from ..clock import monotonic
from ..core.leases import Memory
from ..core.transitions import Phase
from ..core.types import ErrorRecord
from ..errors import StoreError
from ..ports import CheckpointStore
from ..wire import hash_seed
from .active_run import ActiveRun, over_at, progress_of
from .commit_queue import Written
from .critical import Condition, section
from .fault import Fault, fault_of
from .group_commit import commit_queue_for
from .leases import Leased, Session
from .run_queries import RunQueries
from .run_queue import RunQueue
from .suspicion import Suspicion

GRACE: Final = 2.0  # seconds that running steps get when their run is cancelled, or longer than allowed


class Commits(RunQueries):
    """See the module. ``threaded``: as of ``GroupCommit``."""

    def __init__(self, store: CheckpointStore, threaded: bool = True) -> None:
        super().__init__(store)
        self.on_deadline: Callable[[], None] = lambda: None  # a time-out or a grace period began to run
        self.suspicion = Suspicion()
        self._warned_of: set[str] = set()  # by workers
        self.memory = Memory()  # what the unfinished values of all runs take
        self._work = Condition(self.critical)  # workers wait here for something to do
        self._idle = 0  # how many do
        self._active: dict[str, ActiveRun] = {}  # of these, the ones not over
        self._run_queue = RunQueue()  # of these
        self._timed: dict[str, ActiveRun] = {}  # of these, the ones with a deadline
        self._first_deadline = inf  # no deadline is before that
        self._sessions: dict[int, Session] = {}
        self._costs: dict[bytes, list[float | None]] = {}
        self._broken: ErrorRecord | None = None  # there are no workers any more, and why
        # Of the coordinator's workers, and of the runs that it starts: as the last run of this store has it, which may
        # be the one that it is to go on with.
        last = next((run.record.hash_seed for run in reversed(self._runs.values())), None)
        self.hash_seed = hash_seed.drawn() if last is None or hash_seed.given() is not None else last
        # Steps are run in this process, or nobody knows where, unless the engine says that it has workers of that seed.
        mine = hash_seed.probe()
        self.hash_probe = mine if mine != hash_seed.probe_of(self.hash_seed) else None
        self._mixed = False  # some run that was worked on has another one
        self._ends = 0  # runs whose phase has changed, in the store
        self.commit_queue = commit_queue_for(store, self, self.critical, threaded)

    def disown(self) -> None:
        super().disown()
        self._work = Condition(self.critical)
        self._sessions = {}
        self.on_deadline = lambda: None

    # -- writing -------------------------------------------------------------------------------------

    def _commit(self, run: ActiveRun) -> None:
        """Write what the core decided, and tell those who wait."""
        state = run.state
        self._run_queue.refresh(run)
        commit = state.take_commit()
        if not commit:
            return
        finished_at = run.decided.finished_at if state.over else None
        if commit.phase_changed:
            if state.phase not in (Phase.RUNNING, Phase.PAUSED):
                self._cut_off(run)
            if state.over:
                finished_at = over_at(run)
            else:
                for worker, lease in self._leases_of(run):
                    worker.status_page.revoke(lease.id)
        progress = progress_of(state, finished_at)
        urgent = commit.phase_changed or bool(self._streams and commit.output_count)
        try:
            if failpoints.armed:
                failpoints.hit("coordinator.commit")
            self.commit_queue.add(run, commit, progress, urgent)
        except BaseException as error:
            self._crash(run, fault_of(error))
            if not isinstance(error, Exception):
                raise  # whoever raised it in this thread: nobody knows how far what it interrupted has come
            return
        run.decided = progress
        if state.over:
            self._let_go(run)

    # -- of ``commit_queue.Owner`` ------------------------------------------------------------------------

    def written(self, run: ActiveRun, what: Written) -> None:
        if run.published.phase is Phase.BROKEN:
            return
        run.published = what.progress
        run.outputs += what.outputs
        if what.changed:
            self._ends += 1
            self._work.notify_all()  # who would work inline waits for the end, too
        if what.changed or (self._streams and what.outputs) or self._stopping:
            self._changed.notify_all()

    def unwritable(self, run: ActiveRun, fault: Fault) -> None:
        if run.published.phase is not Phase.BROKEN:
            self._crash(run, fault)

    def troubled(self, error: StoreError | None) -> None:
        for run in self._runs.values():
            run.write_error = error if isinstance(run, ActiveRun) else None
        if error is not None:
            names = ", ".join(self._active) or "what was last decided"
            text = "nothing new starts until this can be written, and nothing is lost: %s (%s)"
            self.critical.say(logging.ERROR, text, error, names)

    def caught_up(self) -> None:
        self._wake_others()

    def given_up(self) -> None:
        self._changed.notify_all()

    def died(self, error: BaseException) -> None:
        """A thread of the coordinator's own has ended by an error, and with it the coordinator: whoever waits hears so.

        Without the lock.
        """
        self._fatal = self._fatal or error
        try:
            self._fail_all(fault_of(error))
        except BaseException:  # no memory, say: ``news`` tells them all the same
            self._stopping = True
        finally:
            self._wake_all()

    @section
    def _fail_all(self, fault: Fault) -> None:
        self._broken = self._broken or fault.record
        for run in list(self._runs.values()):
            if isinstance(run, ActiveRun) and (not run.state.over or run.unwritten):
                self._crash(run, fault)

    @section
    def _wake_all(self) -> None:
        self._work.notify_all()
        self._changed.notify_all()

    # -- inside --------------------------------------------------------------------------------------

    def _let_go(self, run: ActiveRun) -> None:
        """It is over."""
        if failpoints.armed:
            failpoints.hit("coordinator.over")
        self._active.pop(run.record.run_id, None)
        self._no_deadline(run)
        run.time_left = None
        self._cut_off(run)

    def _cut_off(self, run: ActiveRun) -> None:
        """Nothing is taken from its feed any more, and who waits to send is told."""
        if run.feed is not None:
            run.feed.shut()
            run.feed = None

    def _crash(self, run: ActiveRun, fault: Fault) -> None:
        """A fault of ours, or of the store: the run fails, since a worker that is told of it would only try again.

        What of it still runs is ended, or a worker would be lost to the others that is at a step without an end.
        """
        error, what = fault.error, fault.record.message or fault.record.type_name
        told = isinstance(error, StoreError)  # its text says it all: where in this package it was raised helps nobody
        seen = None if told else error
        self.critical.say(logging.ERROR, "run %s cannot go on: %s", run.record.run_id, what, error=seen)
        run.state.crash(fault.record)
        run.state.take_commit()  # of what could not be finished, nothing is written
        # The state may have come to its end; as long as that is not written, the run has not.
        broken = run.published._replace(phase=Phase.BROKEN, finished_at=over_at(run), failure=fault.record)
        run.decided = run.published = broken
        run.write_error = None
        self._give_grace(run, GRACE)
        self._let_go(run)
        self._changed.notify_all()

    def _give_grace(self, run: ActiveRun, grace: float) -> None:
        until = self._now() + grace
        run.grace_until = until if run.grace_until is None else min(until, run.grace_until)
        for worker, lease in self._leases_of(run):
            worker.status_page.revoke(lease.id)
            worker.status_page.cancel(lease.id)
        self.on_deadline()

    def _no_deadline(self, run: ActiveRun) -> None:
        run.deadline = None
        self._timed.pop(run.record.run_id, None)

    def _leases_of(self, run: ActiveRun) -> Iterator[tuple[Session, Leased]]:
        for worker in self._sessions.values():
            for lease in worker.leases.values():
                if lease.run is run:
                    yield worker, lease

    def _wake_others(self) -> None:
        """Wake as many waiting workers as there are items to take."""
        idle = self._idle
        if not idle:
            return
        ready = self._run_queue.ready(idle)
        if self._run_queue.deadline_advanced:
            self._run_queue.deadline_advanced = False
            self._work.notify_all()  # who waits until something is due waits too long
        elif ready or self._run_queue.has_streams:
            choosy = any(worker.waiting and worker.only for worker in self._sessions.values())
            choosy = choosy or self._run_queue.has_streams or self._mixed
            self._work.notify(idle if choosy else min(idle, ready))

    def _now(self) -> float:
        """The monotonic clock, for a decision."""
        return monotonic()
