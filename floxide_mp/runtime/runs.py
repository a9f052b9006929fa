"""``Runs``: the runs of one coordinator: what users tell them to do, and what was decided about them. How that comes
into the store is the ``journal``'s, what users see of it ``View``'s, who works on them the ``Ledger``'s.

The lock is one for all; the verbs take it, and what begins with an underscore is called with it held.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from math import inf
from typing import Final

from .. import failpoints
from ..core.memory import Memory
from ..core.plan import Plan
from ..core.records import Commit
from ..core.state import RunState
from ..core.table import STATUS, Phase
from ..core.terms import ErrorRecord
from ..errors import AlreadyCompletedError, FloxideError, RunTimeoutError, StoreError
from ..ports import CheckpointStore, RunRecord
from ..retry import RetryPolicy
from ..statuses import RunStatus
from . import codec, hash_seed
from .clock import monotonic, time
from .interrupts import whole
from .journal import Written, journal_for
from .leases import Leased, Session
from .pace import Pace
from .running import Feed, Known, Running, check_not_over, over_at, progress_of
from .suspicion import Suspicion
from .tail import Tail
from .taking_up import taken_up
from .turns import Turns
from .view import View

log = logging.getLogger("floxide_mp")

GRACE: Final = 2.0  # seconds that running steps get when their run is cancelled, or longer than allowed


class Runs(View):
    """See the module. ``threaded``: as of ``GroupCommit``."""

    def __init__(self, store: CheckpointStore, threaded: bool = True) -> None:
        super().__init__(store)
        self.on_deadline: Callable[[], None] = lambda: None  # a time-out or a grace period began to run
        self.suspicion = Suspicion()
        self.memory = Memory()  # what the unfinished values of all runs take
        self._work = threading.Condition(self._lock)  # workers wait here for something to do
        self._active: dict[str, Running] = {}  # of these, the ones not over
        self._turns = Turns()  # of these
        self._timed: dict[str, Running] = {}  # of these, the ones with a deadline
        self._first_deadline = inf  # no deadline is before that
        self._sessions: dict[int, Session] = {}
        self._costs: dict[bytes, list[float | None]] = {}
        self._broken: ErrorRecord | None = None  # there are no workers any more, and why
        # Of the coordinator's workers, and of the runs that it starts: as the last run of this store has it, which may
        # be the one that it is to go on with.
        last = next((run.record.hash_seed for run in reversed(self._runs.values())), None)
        self.hash_seed = hash_seed.drawn() if last is None or hash_seed.given() is not None else last
        self._mixed = False  # some run that was worked on has another one
        self._ends = 0  # runs whose phase has changed, in the store
        self.journal = journal_for(store, self, self._lock, threaded)

    @whole
    def create(self, record: RunRecord, plan: Plan, retry: RetryPolicy | None = None, feed: Feed | None = None) -> bool:
        """Start a run; False if there is one of that id, which is left as it is."""
        with self._lock:
            if record.run_id in self._runs:
                return False
            self._check_going()
            record = record._replace(hash_seed=self.hash_seed)
            state = RunState(plan, retry, record.finish)
            if record.input is None:
                state.begin()
            else:
                state.start(record.input)
            if self._broken is not None:
                state.abandon(self._broken)
            progress = progress_of(state, time() if state.over else None)
            run = Running(record, progress, state, Pace(self._cost(record, plan)), Tail(0), feed=feed)
            if failpoints.armed:
                failpoints.hit("coordinator.create")
            self.store.create(record, state.take_commit(), run.progress)
            if failpoints.armed:
                failpoints.hit("coordinator.created")
            state.share(self.memory)
            self._runs[record.run_id] = run
            self._check_feed(run)  # it may have been closed before
            self._commit(run)
            self._activate(run)
            return True

    @whole
    def resume(
        self,
        run_id: str,
        record: RunRecord | None = None,
        plan: Plan | None = None,
        retry: RetryPolicy | None = None,
        only: Collection[RunStatus] | None = None,
    ) -> None:
        """Take up a run that failed, is paused, or was left by another coordinator; one that is going is left alone.

        Args:
            record: with the workflow to go on with, which a paused run of this coordinator does not need; None: the
                one that it has.
            plan: of that workflow.
            retry: the policy of nodes that have none.
            only: a run of another status is left alone, too.

        Raises:
            NotStartedError: there is no such run.
            AlreadyCompletedError: it is completed or cancelled.
            FloxideError: its workflow is needed.
        """
        with self._lock:
            run = self._run(run_id)
            self._check_going()
            if isinstance(run, Running):
                self.journal.poke()
                if run.state.over:
                    self.journal.settle(run)  # what is taken up is what is in the store
                    run = self._run(run_id)  # somebody else may have taken it up meanwhile
                    self._check_going()
            if only is not None and STATUS[run.progress.phase] not in only:
                return
            check_not_over(run)
            left = not isinstance(run, Running) or run.progress.phase is Phase.BROKEN
            if record is not None and plan is not None:
                if left or run.progress.phase is Phase.FAILED:
                    run = self._restore(record, plan, retry)
                elif run.record.shape != record.shape:
                    text = f"run {run_id!r} goes on in its own graph while the coordinator that paused it is there"
                    raise FloxideError(text, run_id=run_id)
            elif left:
                text = f"run {run_id!r} needs its workflow to go on: coordinator.resume(workflow, {run_id!r})"
                raise FloxideError(text, run_id=run_id)
            assert isinstance(run, Running)
            self._go_on(run)
            self._tell(run)

    def _tell(self, run: Running) -> None:
        """What a user asked for is seen when the verb is over, unless the store takes nothing at the moment."""
        with suppress(StoreError):
            self.journal.settle(run)

    def _go_on(self, run: Running) -> None:
        if run.state.phase in (Phase.FAILED, Phase.PAUSED):
            if run.state.phase is Phase.FAILED:
                run.suspects = None  # all that is unfinished starts over
            run.state.resume(monotonic())
            run.grace_until = None
        elif run.record.run_id in self._active or run.state.phase is Phase.COMPLETED:
            return
        check_not_over(run)
        if self._broken is not None:
            run.state.abandon(self._broken)
        self._activate(run)
        self._commit(run)

    def _restore(self, record: RunRecord, plan: Plan, retry: RetryPolicy | None) -> Running:
        run_id, old = record.run_id, self._runs[record.run_id].record
        suspects = self.suspicion.suspects(run_id)
        run, unfinished = taken_up(self.store, old, record, plan, retry, self._cost(record, plan), suspects)
        kept = run.progress
        run.state.share(self.memory)
        if unfinished is not None:
            self.store.replace(record, unfinished)
            # Should what follows fail, it is this that is in the store, and that it is taken up from the next time.
            self._runs[run_id] = Known(record, kept, life=self._runs[run_id].life)
        elif (old.versions, old.fields) != (record.versions, record.fields):
            self.store.replace(record)
        run.life = self._runs[run_id].life + 1
        self._note(run, kept.phase, kept.finished_at)  # who has it now is to be seen in the store
        self._runs[run_id] = run
        self._commit(run)  # it may have come to its end by this
        return run

    def _activate(self, run: Running) -> None:
        """It may be worked on, unless it is over."""
        if run.state.over:
            self._let_go(run)
            return
        self._active[run.record.run_id] = run
        self._mixed = self._mixed or run.record.hash_seed not in (None, self.hash_seed)
        self._turns.note(run)
        limit = run.record.timeout if run.time_left is None else run.time_left
        run.time_left = None
        if limit is not None and run.deadline is None:
            run.deadline = self._now() + limit
            self._first_deadline = min(self._first_deadline, run.deadline)
            self._timed[run.record.run_id] = run
            self.on_deadline()
        self._wake_others()

    def _cost(self, record: RunRecord, plan: Plan) -> list[float | None]:
        return self._costs.setdefault(record.key, [None] * len(plan.graph.nodes))

    @whole
    def pause(self, run_id: str) -> None:
        """Nothing of the run starts any more until it is resumed; what runs is finished.

        Raises:
            AlreadyCompletedError: the run is over.
            FloxideError: the coordinator is closed, and its journal with it.
        """
        with self._lock:
            run = self._run(run_id)
            if run.over:
                status = STATUS[run.progress.phase].value
                raise AlreadyCompletedError(f"run {run_id!r} is {status}; it cannot be paused", run_id=run_id)
            self.journal.check_open()
            if not isinstance(run, Running):
                if run.progress.phase is Phase.RUNNING:
                    self._note(run, Phase.PAUSED)
            elif run.state.phase is Phase.RUNNING:
                now = self._now()
                run.state.pause()
                if run.deadline is not None:
                    run.time_left = max(0.0, run.deadline - now)
                    self._no_deadline(run)
                self._commit(run)
                self._tell(run)

    @whole
    def cancel(self, run_id: str, grace: float) -> None:
        """Nothing of the run starts any more; what runs has ``grace`` seconds. Nothing happens if it is over.

        Raises:
            FloxideError: the coordinator is closed, and its journal with it.
        """
        with self._lock:
            run = self._run(run_id)
            if run.state.over if isinstance(run, Running) else run.over:
                return
            self.journal.check_open()
            if not isinstance(run, Running):
                self._note(run, Phase.CANCELLED, over_at(run))
            else:
                run.state.cancel()
                self._give_grace(run, grace)
                self._commit(run)
                self._tell(run)

    def _note(self, run: Known, phase: Phase, finished_at: float | None = None) -> None:
        """Where a run stands that nobody works on."""
        progress = run.progress._replace(phase=phase, finished_at=finished_at)
        self.store.commit(run.record.run_id, Commit(phase_changed=True), progress)
        run.progress = run.shown = progress

    def _give_grace(self, run: Running, grace: float) -> None:
        until = self._now() + grace
        run.grace_until = until if run.grace_until is None else min(until, run.grace_until)
        for worker, lease in self._leases_of(run):
            worker.board.revoke(lease.id)
            worker.board.cancel(lease.id)
        self.on_deadline()

    def _expire(self, now: float) -> None:
        """Runs that are longer than allowed are stopped."""
        if now < self._first_deadline:
            return
        for run in [run for run in self._timed.values() if run.deadline is not None and run.deadline <= now]:
            self._no_deadline(run)
            run_id, limit = run.record.run_id, run.record.timeout
            error = RunTimeoutError(f"run {run_id} ran longer than its time-out of {limit:g} s", run_id=run_id)
            run.state.time_out(codec.encode_error(error, ""))
            if not run.state.over:
                self._give_grace(run, GRACE)
            self._commit(run)
        left = [run.deadline for run in self._timed.values() if run.deadline is not None]
        self._first_deadline = min(left, default=inf)

    def _no_deadline(self, run: Running) -> None:
        run.deadline = None
        self._timed.pop(run.record.run_id, None)

    @whole
    def fed(self, run_id: str) -> None:
        """Something has come into the run's feed, or it was closed."""
        with self._lock:
            run = self._active.get(run_id)
            if run is not None:
                self._check_feed(run)
                self._commit(run)
                self._wake_others()

    def _check_feed(self, run: Running) -> None:
        if run.feed is not None and run.feed.exhausted:
            run.state.close()

    def disown(self) -> None:
        super().disown()
        self._work = threading.Condition(self._lock)
        self._sessions = {}
        self.on_deadline = lambda: None

    # -- writing -------------------------------------------------------------------------------------

    def _commit(self, run: Running) -> None:
        """Write what the core decided, and tell those who wait."""
        state = run.state
        self._turns.note(run)
        commit = state.take_commit()
        if not commit:
            return
        finished_at = run.progress.finished_at if state.over else None
        if commit.phase_changed:
            if state.phase not in (Phase.RUNNING, Phase.PAUSED):
                self._cut_off(run)
            if state.over:
                finished_at = over_at(run)
            else:
                for worker, lease in self._leases_of(run):
                    worker.board.revoke(lease.id)
        progress = progress_of(state, finished_at)
        urgent = commit.phase_changed or bool(self._streams and commit.output_count)
        try:
            if failpoints.armed:
                failpoints.hit("coordinator.commit")
            self.journal.add(run, commit, progress, urgent)
        except BaseException as error:
            self._crash(run, error)
            return
        run.progress = progress
        if state.over:
            self._let_go(run)

    # -- of ``journal.Owner`` ------------------------------------------------------------------------

    def written(self, run: Running, what: Written) -> None:
        if run.shown.phase is Phase.BROKEN:
            return
        run.shown = what.progress
        run.outputs += what.outputs
        if what.changed:
            self._ends += 1
            self._work.notify_all()  # who would work inline waits for the end, too
        if what.changed or (self._streams and what.outputs) or self._stopping:
            self._changed.notify_all()

    def unwritable(self, run: Running, error: BaseException) -> None:
        if run.shown.phase is not Phase.BROKEN:
            self._crash(run, error)

    def troubled(self, error: StoreError | None) -> None:
        for run in self._runs.values():
            run.trouble = error if isinstance(run, Running) else None
        if error is not None:
            names = ", ".join(self._active) or "what was last decided"
            log.error("nothing new starts until this can be written, and nothing is lost: %s (%s)", error, names)

    def caught_up(self) -> None:
        self._wake_others()

    def given_up(self) -> None:
        self._changed.notify_all()

    # -- inside --------------------------------------------------------------------------------------

    def _let_go(self, run: Running) -> None:
        """It is over."""
        if failpoints.armed:
            failpoints.hit("coordinator.over")
        self._active.pop(run.record.run_id, None)
        self._no_deadline(run)
        run.time_left = None
        self._cut_off(run)

    def _cut_off(self, run: Running) -> None:
        """Nothing is taken from its feed any more, and who waits to send is told."""
        if run.feed is not None:
            run.feed.shut()
            run.feed = None

    def _crash(self, run: Running, error: BaseException) -> None:
        """A fault of ours, or of the store: the run fails, since a worker that is told of it would only try again.

        What of it still runs is ended, or a worker would be lost to the others that is at a step without an end.
        """
        told = isinstance(error, StoreError)  # its text says it all: where in this package it was raised helps nobody
        log.error("run %s cannot go on: %s", run.record.run_id, error, exc_info=None if told else error)
        text = "" if told else "".join(traceback.format_exception(error))
        failure = codec.encode_error(error, text)
        run.state.crash(failure)
        run.state.take_commit()  # of what could not be finished, nothing is written
        # The state may have come to its end; as long as that is not written, the run has not.
        run.progress = run.shown = run.shown._replace(phase=Phase.BROKEN, finished_at=over_at(run), failure=failure)
        run.trouble = None
        self._give_grace(run, GRACE)
        self._let_go(run)
        self._changed.notify_all()
        if not isinstance(error, Exception):
            raise error  # Ctrl-C: nobody knows how far what it interrupted has come

    def _now(self) -> float:
        """The monotonic clock, for a decision."""
        return monotonic()

    def _leases_of(self, run: Running) -> Iterator[tuple[Session, Leased]]:
        for worker in self._sessions.values():
            for lease in worker.leases.values():
                if lease.run is run:
                    yield worker, lease

    def _wake_others(self) -> None:
        """Wake as many waiting workers as there are items to take."""
        idle = sum(worker.waiting for worker in self._sessions.values())
        if not idle:
            return
        ready = self._turns.ready(idle)
        if self._turns.sooner:
            self._turns.sooner = False
            self._work.notify_all()  # who waits until something is due waits too long
        elif ready or self._turns.gives:
            choosy = any(worker.waiting and worker.only for worker in self._sessions.values())
            choosy = choosy or self._turns.gives or self._mixed
            self._work.notify(idle if choosy else min(idle, ready))

    def _check_going(self) -> None:
        if self._stopping and self._broken is None:
            raise FloxideError("the coordinator is closed, or it belongs to the process that this was forked from")
