"""``GroupCommit``: the commit queue for stores for which a write is slow: what comes in while one group is being
written is the next group. A thread of the coordinator's process writes it.

What is decided, and what it means to a run when it cannot be written, is in ``commits``.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, NamedTuple, TypeAlias

from .. import failpoints
from ..core.records import Commit, EventRecord
from ..errors import FloxideError, StoreError
from ..ports import CheckpointStore, GroupStore, Progress
from ..sigint import defer_sigint, pause
from ..stores.memory import MemoryStore
from .active_run import ActiveRun
from .commit_queue import Aside, Direct, Owner, Written
from .critical import Condition, Critical, Thread
from .fault import fault_of

LINGER: Final = 0.003  # seconds that a group waits for more, unless somebody waits for it
MOST_BYTES: Final = 1 << 26  # of payload that may wait to be written before nothing more is handed out
MOST_COMMITS: Final = 1 << 12  # ... and commits
MOST_EVENTS: Final = 1 << 16  # in one group, or who reads the log meanwhile waits for seconds until it is written
FULL: Final = 1.0  # seconds between two tries, when there is no space
TRIES: Final = 6  # what other trouble gets, before it is taken to be there for good
FIRST: Final = 0.1  # seconds between the first two of these; twice as many each time


class _Entry(NamedTuple):
    run: ActiveRun
    prepared: Any
    what: Written
    events: int
    size: int


class GroupCommit:
    """See the module.

    Args:
        store: where to.
        critical: the owner's locks. ``add``, ``flush`` and ``wake`` are called with the ``lock`` held. The ``page`` is
            held while a group is written and told: who reads the store under it sees no commit that is not told yet.
        threaded: whether a thread writes; else whoever calls ``pump``.
    """

    read_beside = True
    still: AbstractContextManager[object] = nullcontext()
    reading: AbstractContextManager[object] = nullcontext()

    def __init__(self, store: GroupStore[Any], owner: Owner, critical: Critical, threaded: bool = True) -> None:
        self._store, self._owner = store, owner
        self._threaded = threaded
        self._thread: Thread | None = None
        self._queue: deque[_Entry] = deque()
        self._size = 0
        self._hurry = self._closing = self._ended = False
        self._tries = 0
        self._write_error: StoreError | None = None
        self._finished = threading.Lock()  # let go of by the thread when it has ended
        self._finished.acquire()
        self._dead: BaseException | None = None  # what the thread has ended by
        self._begin(critical)

    def disown(self, critical: Critical) -> None:
        """Nothing waits, and nothing is written: this process is a fork of the one with the thread."""
        self._queue.clear()
        self._ended = True
        self._begin(critical)

    def _begin(self, critical: Critical) -> None:
        self._critical = critical
        self._lock = critical.lock
        self._wanted = Condition(critical)  # the thread waits here
        self._settled = Condition(critical)  # who waits until something is written

    @property
    def backlogged(self) -> bool:
        """Whether so much waits that no more should be begun."""
        return self._write_error is not None or self._size > MOST_BYTES or len(self._queue) > MOST_COMMITS

    def check_open(self) -> None:
        """Whether there is still somebody who writes.

        Raises:
            FloxideError: there is not.
        """
        if self._ended:
            text = (
                "the coordinator is closed, or it belongs to the process that this was forked from: nothing is written"
            )
            raise FloxideError(text)
        if self._dead is not None:
            raise FloxideError(f"the thread that writes to the store has died of {self._dead!r}") from self._dead

    def add(self, run: ActiveRun, commit: Commit, progress: Progress, urgent: bool) -> None:
        """One more commit. ``urgent``: somebody waits for it.

        Raises:
            FloxideError: it is closed.
        """
        self.check_open()
        if self._thread is None and self._threaded:
            thread = Thread(self._write_on, "floxide-journal", (), self._died)
            thread.start()  # or, where there can be no more, this run fails, and the next one tries again
            self._thread = thread
        prepared = self._store.prepare(run.record.run_id, commit, progress)
        what = Written(progress, commit.output_count, commit.phase_changed)
        self._queue.append(_Entry(run, prepared, what, len(commit.events), size := commit.size))
        self._size += size
        run.unwritten += 1
        if commit.events:
            run.tail.add(commit.events)
        if urgent and not self._hurry:
            self._hurry = True
            self._wanted.notify()
        elif len(self._queue) == 1:
            self._wanted.notify()

    def events(self, run: ActiveRun, since: int, most: int) -> Sequence[EventRecord] | None:
        """The run's events from a number on, also those that are not written yet; None: they are in the store, to be
        read without the lock."""
        return run.tail.since(since, most)

    def flush(self, run: ActiveRun | None = None, timeout: float | None = None) -> bool:
        """Wait until all (of the run) is written; False if it is not after ``timeout`` seconds.

        Raises:
            StoreError: it cannot be, at the moment.
        """

        def done() -> bool:
            waits = self._queue if run is None else run.unwritten
            return not waits or self._write_error is not None or self._dead is not None

        if not self._threaded and not done():
            self._pump_now()
        self._settled.wait_for(done, timeout)
        if done() and self._write_error is not None:
            raise self._write_error
        return done()

    def flush_durably(self, run: ActiveRun, leaving: Callable[[], bool]) -> bool:
        """Wait until what was decided of the run so far is written, however long nothing can be.

        Args:
            leaving: whether nobody is to wait for that any more. Looked at when a try has failed.

        Returns:
            whether it is.
        """
        count = run.written + run.unwritten

        def done() -> bool:
            left = self._dead is not None or (self._write_error is not None and leaving())
            return run.written >= count or not run.unwritten or left

        if not self._threaded:
            self._pump_now()
        elif not done():
            self.wake()
            self._settled.wait_for(done)
        return run.written >= count

    def _pump_now(self) -> None:
        """In the thread of a caller, who has the lock."""
        self._lock.release()
        try:
            self.pump()
        finally:
            self._lock.acquire()

    def wake(self) -> None:
        """Try again now."""
        self._hurry = True
        self._wanted.notify()

    @defer_sigint
    def close(self, timeout: float) -> None:
        """Write what waits, for ``timeout`` seconds at the most: what cannot be written then was told to nobody.

        Ctrl-C ends the wait, and so what still waits is given up.
        """
        with self._lock:
            self._closing = True
            self._wanted.notify()
            thread = self._thread
            self._ended = thread is None
        if thread is None:
            return
        try:
            if thread.is_alive():
                pause(self._finished, timeout)
        finally:
            self._end(thread)

    def _end(self, thread: Thread) -> None:
        with self._lock:
            if self._queue:
                why = self._write_error or self._dead or "no time is left"
                self._critical.say(logging.ERROR, "%d commits could not be written: %s", len(self._queue), why)
                self._drop(list(self._queue))
                self._owner.given_up()
            self._ended = True
            self._wanted.notify()
        self._critical.flush()
        thread.join()

    # -- the thread ----------------------------------------------------------------------------------

    def _write_on(self) -> None:
        try:
            while self._await_group():
                pause = self.pump()
                self._critical.flush()
                if pause:
                    with self._lock:
                        if not self._closing or self._queue:
                            self._wanted.wait(pause)
        finally:
            self._finished.release()

    def _died(self, error: BaseException) -> None:
        """Nothing is written any more: what was decided since is given up, and what is decided breaks its run."""
        self._dead = error
        with self._lock:
            self._settled.notify_all()
        self._owner.died(error)

    def _await_group(self) -> bool:
        with self._lock:
            while not self._queue:
                if self._closing:
                    return False
                self._wanted.wait()
            if not self._hurry and not self._closing:
                self._wanted.wait(LINGER)
            self._hurry = False
            return True

    def pump(self) -> float:
        """Write what waits, as one group; of very much, the first part.

        Returns:
            after how many seconds to try again, 0 if it is written, or given up.
        """
        with self._critical.publish_lock:
            with self._lock:
                group = self._group()
            if not group:
                return 0.0
            troubled = self._write_error is not None
            try:
                self._write(group)
            except StoreError as error:
                pause = self._patience(error)
                if pause:
                    with self._lock:
                        self._stand(error)
                    return pause
                self._write_apart(group, error)
            except BaseException as error:
                if not self._threaded and not isinstance(error, Exception):
                    raise
                self._write_apart(group, error)
            else:
                if troubled:
                    self._critical.say(logging.WARNING, "the store can be written to again: what waited goes on")
            return 0.0

    def _group(self) -> list[_Entry]:
        """What waits, up to so many events and the commit with which there are more."""
        group: list[_Entry] = []
        events = 0
        for entry in self._queue:
            if events > MOST_EVENTS:
                break
            group.append(entry)
            events += entry.events
        return group

    def _write(self, group: Sequence[_Entry]) -> None:
        self._store.write([entry.prepared for entry in group])
        if failpoints.armed:
            failpoints.hit("coordinator.committed")
        with self._lock:
            for entry in group:
                self._owner.written(entry.run, entry.what)
                entry.run.written += 1
                entry.run.tail.wrote(entry.events)
                if entry.run.state.over:
                    entry.run.tail.leave()
            self._drop(group)
            for entry in group:
                if not entry.run.unwritten:
                    self._owner.flushed(entry.run)
            self._go_on()

    def _patience(self, error: StoreError) -> float:
        """Seconds until it is worth trying again; 0 if it is not."""
        if not error.transient:
            return 0.0
        if error.full:
            return FULL
        self._tries += 1
        return FIRST * 2.0 ** (self._tries - 1) if self._tries < TRIES else 0.0

    def _write_apart(self, group: Sequence[_Entry], error: BaseException) -> None:
        """For each run by itself: what is wrong with one is no reason to lose another."""
        of_runs: dict[int, list[_Entry]] = {}
        for entry in group:
            of_runs.setdefault(id(entry.run), []).append(entry)
        for entries in of_runs.values():
            try:
                if len(of_runs) == 1:
                    raise error
                self._write(entries)
            except BaseException as trouble:
                if not self._threaded and not isinstance(trouble, Exception):
                    raise
                fault = fault_of(trouble)
                with self._lock:
                    run = entries[0].run
                    self._drop([entry for entry in self._queue if entry.run is run])
                    self._go_on()
                    self._owner.unwritable(run, fault)

    def _go_on(self) -> None:
        self._tries = 0
        if self._write_error is not None:
            self._write_error = None
            self._owner.troubled(None)
        if not self.backlogged:
            self._owner.caught_up()

    def _stand(self, error: StoreError) -> None:
        first, self._write_error = self._write_error is None, error
        if first:
            self._owner.troubled(error)
        self._settled.notify_all()

    def _drop(self, entries: Sequence[_Entry]) -> None:
        """They wait no longer."""
        gone = set(map(id, entries))
        waiting, self._queue = self._queue, deque()
        for entry in waiting:
            if id(entry) in gone:
                entry.run.unwritten -= 1
                self._size -= entry.size
            else:
                self._queue.append(entry)
        self._settled.notify_all()


CommitQueue: TypeAlias = Direct | Aside | GroupCommit


def commit_queue_for(store: CheckpointStore, owner: Owner, critical: Critical, threaded: bool) -> CommitQueue:
    """The commit queue of a store."""
    if isinstance(store, GroupStore):
        return GroupCommit(store, owner, critical, threaded)
    # What derives from it, or stands in its place, may do anything.
    mine = type(store) is MemoryStore and "commit" not in vars(store)
    return Direct(store, owner, critical) if mine else Aside(store, owner, critical)
