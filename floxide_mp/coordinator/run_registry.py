"""The runs of one coordinator: what users ask of them, what was decided about them, and when the time-out of one is
over. Lives in the coordinator's process.

How decisions come into the store is in ``commits``, what users see of runs in ``run_queries``, who works on them in
``scheduler``. The time-out of a run begins when the first worker can take work, and does not count while it is paused.

The lock is one for all; what is marked as a ``section`` takes it, and what begins with an underscore is called with it
held, if it is no section itself. A store that may be anybody's is called without the lock, in turn (``Critical.turn``).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from math import inf
from typing import Final

from .. import failpoints
from ..api.retry import RetryPolicy
from ..clock import monotonic, time
from ..core.plan import Plan
from ..core.records import Commit, dropped
from ..core.run_state import RunState
from ..core.transitions import STATUS, Phase
from ..errors import AlreadyCompletedError, FloxideError, StoreError
from ..ports import RunRecord
from ..sigint import defer_sigint
from ..types import RunStatus
from . import run_registry
from .active_run import ActiveRun, RunEntry, over_at, progress_of
from .channel import Feed
from .commits import Commits
from .cost_model import CostModel
from .critical import postponed, section
from .event_tail import Tail
from .leases import Session
from .resuming import start_over, taken_up
from .run_checks import check_not_ending, check_not_over, check_resumable, options_of, renewed, timed_out

STARTING: Final = 60.0  # seconds for workers to start that no time-out counts; where they hang, there is an end, too


def start_time_out(run: ActiveRun, limit: float, now: float, workers: Iterable[Session]) -> None:
    """The run has ``limit`` seconds, from now on or from when a worker asks for work for the first time."""
    run.deadline = now + limit
    if not any(worker.calls or worker.pid == os.getpid() for worker in workers):
        run.time_left = limit
        run.deadline += STARTING


def left(run: ActiveRun, now: float) -> float:
    """Seconds that it has left, if it has a deadline: when it goes on it gets as many again."""
    assert run.deadline is not None
    return max(0.0, run.deadline - now) if run.time_left is None else run.time_left


def first_call(runs: Iterable[ActiveRun], now: float) -> float:
    """A worker asks for work for the first time: time-outs that waited for that begin. Gives when the first is over."""
    first = inf
    for run in runs:
        if run.deadline is not None and run.time_left is not None:
            run.deadline, run.time_left = min(run.deadline, now + run.time_left), None
            first = min(first, run.deadline)
    return first


class RunRegistry(Commits):
    """See the module."""

    @defer_sigint
    def create(self, record: RunRecord, plan: Plan, retry: RetryPolicy | None = None, feed: Feed | None = None) -> bool:
        """Start a run; False if there is one of that id, which is left as it is."""
        self.critical.check_outside(f"starting run {record.run_id!r}")
        with self.critical.turn():
            if record.run_id in self._runs:
                return False
            self._check_going()
            record = record._replace(hash_seed=self.hash_seed, hash_probe=self.hash_probe)
            state = RunState(plan, retry, record.finish)
            if record.input is None:
                state.begin()
            else:
                state.start(record.input)
            if self._broken is not None:
                state.abandon(self._broken)
            progress = progress_of(state, time() if state.over else None)
            run = ActiveRun(record, progress, state, CostModel(self._cost(record, plan)), Tail(0), feed=feed)
            if failpoints.armed:
                failpoints.hit("coordinator.create")
            self.store.create(record, state.take_commit(), run.decided)
            if failpoints.armed:
                failpoints.hit("coordinator.created")
            self._created(run)
        return True

    @section
    def _created(self, run: ActiveRun) -> None:
        run.state.share(self.memory)
        self._runs[run.record.run_id] = run
        self._check_feed(run)  # it may have been closed before
        if self._broken is not None:  # since
            run.state.abandon(self._broken)
        self._commit(run)
        self._activate(run)

    @defer_sigint
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
            FloxideError: its workflow is needed, or it is about to fail.
        """
        self.critical.check_outside(f"resuming run {run_id!r}")
        self._settle_end(run_id)
        with self.critical.turn():
            run = self._run(run_id)
            self._check_going()
            if only is not None and STATUS[run.decided.phase] not in only:
                return
            if check_resumable(run, record):
                assert record is not None and plan is not None
                run = self._restore(record, plan, retry)
            assert isinstance(run, ActiveRun)
            if record is not None and options_of(record) != options_of(run.record):
                if renewed(run, record):
                    self._no_deadline(run)
                    if run_id in self._active:
                        self._activate(run)
                self.store.replace(run.record)
            self._go_on(run)
        self._tell(run)

    @section
    def _settle_end(self, run_id: str) -> None:
        """What is taken up of a run that is over is what is in the store."""
        self._check_going()
        while isinstance(run := self._run(run_id), ActiveRun):
            self.commit_queue.wake()
            if not run.state.over or not run.unwritten or not self.commit_queue.flush(run):
                return

    @section
    def _tell(self, run: ActiveRun) -> None:
        """What a user asked for is seen when the verb is over, unless the store takes nothing at the moment."""
        with suppress(StoreError):
            self.commit_queue.flush(run)

    @section
    def _go_on(self, run: ActiveRun) -> None:
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

    def _restore(self, record: RunRecord, plan: Plan, retry: RetryPolicy | None) -> ActiveRun:
        """In turn, without the lock: nobody but who has the turn changes a run that nobody works on."""
        run_id, old = record.run_id, self._runs[record.run_id].record
        if start_over(self.store, old, record, plan):
            known = self._runs[run_id]
            self._runs[run_id] = RunEntry(old, known.decided, generation=known.generation)
        suspects = self.suspicion.suspects(run_id)
        run, unfinished = taken_up(self.store, old, record, plan, retry, self._cost(record, plan), suspects)
        kept = run.decided
        if not (kept.metrics.completed or run.state.giving or run.state.held):
            record = run.record = record._replace(hash_probe=self.hash_probe)  # nothing hangs on where it began
        if unfinished is not None:
            self.store.replace(record, unfinished)
            # Should what follows fail, it is this that is in the store, and that it is taken up from the next time.
            self._runs[run_id] = RunEntry(record, kept, generation=self._runs[run_id].generation)
        elif _kept(old) != _kept(record):
            self.store.replace(record)
        run.generation = self._runs[run_id].generation + 1
        self._record_phase(run, kept.phase, kept.finished_at)  # who has it now is to be seen in the store
        self._restored(run)
        return run

    @section
    def _restored(self, run: ActiveRun) -> None:
        run.state.share(self.memory)
        self._runs[run.record.run_id] = run
        self._commit(run)  # it may have come to its end by this

    def _activate(self, run: ActiveRun) -> None:
        """It may be worked on, unless it is over."""
        if run.state.over:
            self._let_go(run)
            return
        self._active[run.record.run_id] = run
        self._mixed = self._mixed or run.record.hash_seed not in (None, self.hash_seed)
        self._run_queue.refresh(run)
        if run.deadline is None:  # else what it has left may still wait for the first worker
            limit = run.record.timeout if run.time_left is None else run.time_left
            run.time_left = None
            if limit is not None:
                run_registry.start_time_out(run, limit, self._now(), self._sessions.values())
                self._first_deadline = min(self._first_deadline, run.deadline or inf)
                self._timed[run.record.run_id] = run
                self.on_deadline()
        self._wake_others()

    def _cost(self, record: RunRecord, plan: Plan) -> list[float | None]:
        return self._costs.setdefault(record.key, [None] * len(plan.graph.nodes))

    @postponed
    @defer_sigint
    def pause(self, run_id: str) -> None:
        """Nothing of the run starts any more until it is resumed; what runs is finished.

        Raises:
            AlreadyCompletedError: the run is over, or is being cancelled.
            FloxideError: it is about to fail; or the coordinator is closed, and its commit queue with it.
        """
        with self.critical.turn():
            run = self._run(run_id)
            if not isinstance(run, ActiveRun):
                self._check_pausable(run)
                if run.decided.phase is Phase.RUNNING:
                    self._record_phase(run, Phase.PAUSED)
                return
        self._pause(run)
        self._tell(run)

    @section
    def _pause(self, run: ActiveRun) -> None:
        self._check_pausable(run)
        if run.state.phase is not Phase.PAUSED:
            check_not_ending(run, "paused")
            now = self._now()
            run.state.pause()
            if run.deadline is not None:
                run.time_left = run_registry.left(run, now)
                self._no_deadline(run)
            self._commit(run)

    def _check_pausable(self, run: RunEntry) -> None:
        if run.over:
            run_id, status = run.record.run_id, STATUS[run.decided.phase].value
            raise AlreadyCompletedError(f"run {run_id!r} is {status}; it cannot be paused", run_id=run_id)
        self.commit_queue.check_open()

    @postponed
    @defer_sigint
    def cancel(self, run_id: str, grace: float) -> None:
        """Nothing of the run starts any more; what runs has ``grace`` seconds. Nothing happens if it is over.

        Raises:
            FloxideError: the coordinator is closed, and its commit queue with it.
        """
        with self.critical.turn():
            run = self._run(run_id)
            if run.state.over if isinstance(run, ActiveRun) else run.over:
                return
            self.commit_queue.check_open()
            if not isinstance(run, ActiveRun):
                self._record_phase(run, Phase.CANCELLED, over_at(run), dropped(self.store.snapshot(run_id)))
                return
        self._cancel(run, grace)
        self._tell(run)

    @section
    def _cancel(self, run: ActiveRun, grace: float) -> None:
        if not run.state.over:
            run.state.cancel()
            self._give_grace(run, grace)
            self._commit(run)

    def _record_phase(
        self, run: RunEntry, phase: Phase, finished_at: float | None = None, commit: Commit | None = None
    ) -> None:
        """Where a run stands that nobody works on. In turn."""
        progress = run.decided._replace(phase=phase, finished_at=finished_at)
        self.store.commit(run.record.run_id, commit or Commit(phase_changed=True), progress)
        run.decided = run.published = progress

    def _expire(self, now: float, first_call: bool = False) -> None:
        """Runs that are longer than allowed are stopped. ``first_call``: of a worker that had to start."""
        if first_call:
            self._first_deadline = min(self._first_deadline, run_registry.first_call(self._timed.values(), now))
            self.on_deadline()
        if now < self._first_deadline:
            return
        for run in [run for run in self._timed.values() if run.deadline is not None and run.deadline <= now]:
            self._no_deadline(run)
            run.state.time_out(timed_out(run.record))
            if not run.state.over:
                self._give_grace(run, run.record.timeout_grace)
            self._commit(run)
        left = [run.deadline for run in self._timed.values() if run.deadline is not None]
        self._first_deadline = min(left, default=inf)

    @postponed
    @section
    def input_arrived(self, run_id: str) -> None:
        """Something has come into the run's feed, or it was closed."""
        run = self._active.get(run_id)
        if run is not None:
            self._check_feed(run)
            self._commit(run)
            self._wake_others()

    def _check_feed(self, run: ActiveRun) -> None:
        if run.feed is not None and run.feed.exhausted:
            run.state.close()

    def _check_going(self) -> None:
        self.check_alive()
        if self._stopping and self._broken is None:
            raise FloxideError("the coordinator is closed, or it belongs to the process that this was forked from")

    @section
    def _warn_once(self, text: str) -> None:
        """A warning of a worker's, which others have for the same run, too."""
        if text not in self._warned_of:
            self._warned_of.add(text)
            self.critical.say(logging.WARNING, "%s", text)


def _kept(record: RunRecord) -> tuple[object, ...]:
    """What the store is to be told of where a run goes on with another."""
    return record.versions, record.fields, record.hash_probe, options_of(record)
