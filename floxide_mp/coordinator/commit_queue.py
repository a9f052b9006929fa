"""``CommitQueue``: brings commits into the store, in the order in which they were decided, and says when they are
there.

``Direct`` writes each at once, under the scheduler's lock: it is for ``MemoryStore`` itself. ``Aside`` has whoever
decided call the store as soon as the lock is let go of: it is for stores of the user's own, which may do anything.
For stores for which a write is slow there is ``group_commit``. What is decided, and what it means to a run when it
cannot be written, is in ``commits``.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import NamedTuple, Protocol

from .. import failpoints
from ..core.records import Commit, EventRecord
from ..errors import StoreError
from ..ports import CheckpointStore, Progress
from ..sigint import uninterrupted
from .active_run import ActiveRun
from .critical import Critical, ours
from .fault import Fault, fault_of


class Written(NamedTuple):
    """What there is to tell of a commit. ``outputs``: how many; ``changed``: whether the run's phase did."""

    progress: Progress
    outputs: int
    changed: bool


class Owner(Protocol):
    """Whose commits they are. All is called with its lock held."""

    def written(self, run: ActiveRun, what: Written) -> None:
        """It is in the store."""

    def flushed(self, run: ActiveRun) -> None:
        """All that was decided about it is in the store."""

    def unwritable(self, run: ActiveRun, fault: Fault) -> None:
        """It is not, nor is anything of the run that was decided since, and nothing of that will be."""

    def troubled(self, error: StoreError | None) -> None:
        """Nothing can be written at the moment, but nothing is lost; or None: that is over."""

    def caught_up(self) -> None:
        """It is not ``backlogged``: if it was, more can be begun now."""

    def given_up(self) -> None:
        """Of what waited at the end, the rest will not be written."""

    def died(self, error: BaseException) -> None:
        """The thread that writes has ended by this error. (Alone, this is called without the lock.)"""


class Direct:
    """For a store that is as fast as what would wait for it, and ours.

    Attributes:
        still: within it nothing is written: for whoever has the ``page`` and reads.
        reading: within it a worker's read may go to the store: where one call may be made at a time, it is that.
        read_beside: whether a run that is over may be read while commits of others are being written.
    """

    backlogged = False
    read_beside = False
    reading: AbstractContextManager[object] = nullcontext()

    def __init__(self, store: CheckpointStore, owner: Owner, critical: Critical) -> None:
        self._store, self._owner = store, owner
        self.still: AbstractContextManager[object] = critical.lock

    def check_open(self) -> None:
        pass

    def add(self, run: ActiveRun, commit: Commit, progress: Progress, urgent: bool) -> None:
        self._store.commit(run.record.run_id, commit, progress)
        run.tail.skip(len(commit.events))
        if failpoints.armed:
            failpoints.hit("coordinator.committed")
        self._owner.written(run, Written(progress, commit.output_count, commit.phase_changed))
        self._owner.flushed(run)

    def events(self, run: ActiveRun, since: int, most: int) -> Sequence[EventRecord] | None:
        return self._store.events(run.record.run_id, since, most) if since < run.tail.total else ()

    def flush(self, run: ActiveRun | None = None, timeout: float | None = None) -> bool:
        return True

    def flush_durably(self, run: ActiveRun, leaving: Callable[[], bool]) -> bool:
        return True

    def wake(self) -> None:
        pass

    def close(self, timeout: float) -> None:
        pass

    def disown(self, critical: Critical) -> None:
        self.still = critical.lock


class Aside:
    """For a store of the user's own. Its verbs may take long, ask the coordinator, and raise anything: of what
    they raise, the run that it happens to breaks, and no other.

    Whoever decided writes, when it has let go of the lock; commits of several come in the order of their decisions.
    """

    backlogged = False
    read_beside = False
    still: AbstractContextManager[object] = nullcontext()  # the ``page`` is what writing takes

    def __init__(self, store: CheckpointStore, owner: Owner, critical: Critical) -> None:
        self._store, self._owner, self._critical = store, owner, critical
        self.reading: AbstractContextManager[object] = critical.publish_lock
        self._queue: deque[tuple[ActiveRun, Commit, Progress]] = deque()

    def check_open(self) -> None:
        pass

    def add(self, run: ActiveRun, commit: Commit, progress: Progress, urgent: bool) -> None:
        if commit.changed:  # the core goes on changing them
            commit = replace(commit, changed=[copy.copy(item) for item in commit.changed])
        self._queue.append((run, commit, progress))
        run.unwritten += 1
        run.tail.add(commit.events)
        self._critical.later(self._write_on)

    def events(self, run: ActiveRun, since: int, most: int) -> Sequence[EventRecord] | None:
        return run.tail.since(since, most)

    def flush(self, run: ActiveRun | None = None, timeout: float | None = None) -> bool:
        return True  # the verb that waits for it is not over before the lock is let go of

    def flush_durably(self, run: ActiveRun, leaving: Callable[[], bool]) -> bool:
        return True

    def wake(self) -> None:
        pass

    def close(self, timeout: float) -> None:
        self._write_on()

    def disown(self, critical: Critical) -> None:
        self._critical = critical
        self.reading = critical.publish_lock
        self._queue.clear()

    @uninterrupted
    def _write_on(self) -> None:
        if self._critical.inside:
            return  # the store itself asks for something: it is done when it comes back
        out: BaseException | None = None
        with self._critical.turn():
            while self._queue:
                run, commit, progress = self._queue.popleft()
                try:
                    self._store.commit(run.record.run_id, commit, progress)
                    if failpoints.armed:
                        failpoints.hit("coordinator.committed")
                except BaseException as error:
                    fault = fault_of(error)
                    if not isinstance(error, Exception):
                        out = error
                    with self._critical.lock:
                        self._give_up(run, fault)
                else:
                    with self._critical.lock:
                        self._wrote(run, commit, progress)
        if out is not None and not ours():
            raise out  # what the user's own thread is to hear: Ctrl-C, an exit

    def _wrote(self, run: ActiveRun, commit: Commit, progress: Progress) -> None:
        run.written += 1
        run.unwritten -= 1
        run.tail.wrote(len(commit.events))
        if run.state.over:
            run.tail.leave()
        self._owner.written(run, Written(progress, commit.output_count, commit.phase_changed))
        if not run.unwritten:
            self._owner.flushed(run)

    def _give_up(self, run: ActiveRun, fault: Fault) -> None:
        others = [entry for entry in self._queue if entry[0] is not run]
        self._queue.clear()
        self._queue += others
        run.unwritten = 0
        self._owner.unwritable(run, fault)
