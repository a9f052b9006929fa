"""``RunQueue``: whose turn it is among the runs of a coordinator. What is handed out of a run is not decided here.

Nothing in it costs more the more runs there are that have nothing to start: paused, waiting for a retry, fed slowly.
"""

from __future__ import annotations

import heapq
from itertools import count
from math import inf

from .active_run import ActiveRun


class RunQueue:
    """The runs with something to start take turns: next is the one whose last turn is the longest ago.

    Whoever changes a run says so by ``note``.
    """

    def __init__(self) -> None:
        self._numbers = count(1)
        self._waiting: list[
            tuple[int, ActiveRun]
        ] = []  # a heap; each run that is ``ready`` is in it, and perhaps others
        self._dues: list[
            tuple[float, int, ActiveRun]
        ] = []  # a heap, of retries: all that are the next one of their run
        # Those of which some items have more to give, and perhaps others. Not by id: a run that broke and was resumed
        # is another one, and what comes late of the broken one must not stand in its place.
        self._giving: dict[ActiveRun, None] = {}
        self.deadline_advanced = False  # something is due sooner than anything was, and nobody has been told

    @property
    def next_due(self) -> float | None:
        """When ``next`` may have something, though nothing is noted until then."""
        return self._dues[0][0] if self._dues else None

    @property
    def has_streams(self) -> bool:
        """Whether some worker could get more of what some item gives: which one, only it knows."""
        return bool(self._giving)

    def first_streaming(self, session: int | None, only: str | None, hash_seed: int | None = None) -> ActiveRun | None:
        """A run with an item that is to give more to this session (``RunState.gives``); None: there is none."""
        for run in list(self._giving):
            if run.state.over or not run.state.giving:
                del self._giving[run]
            elif run.state.has_stream_for(session) and _wanted(run, only, hash_seed):
                return run
        return None

    def refresh(self, run: ActiveRun) -> None:
        """Something has happened to the run."""
        if run.state.giving:
            self._giving[run] = None
        if not run.queued and run.ready:
            run.queued = True
            run.turn = run.turn or next(self._numbers)  # a new one is the last
            heapq.heappush(self._waiting, (run.turn, run))
        due = run.state.next_due
        if due is not None and due < run.due:
            run.due = due
            self.deadline_advanced = self.deadline_advanced or not self._dues or due < self._dues[0][0]
            heapq.heappush(self._dues, (due, next(self._numbers), run))

    def next(self, now: float, only: str | None, hash_seed: int | None = None) -> ActiveRun | None:
        """The run whose turn it is, which is then the last; None if none has anything to start.

        Args:
            now: on the monotonic clock.
            only: the name of the workflow of which a run is wanted; None: of any.
            hash_seed: the one of the process that is to work on it; None: any will do.
        """
        self._come_due(now)
        others = []
        found = None
        while self._waiting and found is None:
            turn, run = heapq.heappop(self._waiting)
            if not run.ready:
                run.queued = False
            elif not _wanted(run, only, hash_seed):
                others.append((turn, run))
            else:
                found = run
                run.turn = next(self._numbers)
                others.append((run.turn, run))
        for one in others:
            heapq.heappush(self._waiting, one)
        return found

    def first(self, now: float, only: str | None, hash_seed: int | None = None) -> ActiveRun | None:
        """The same, and it still is its turn."""
        self._come_due(now)
        while self._waiting and not self._waiting[0][1].ready:
            heapq.heappop(self._waiting)[1].queued = False
        found = [run for _, run in self._waiting[:1] if _wanted(run, only, hash_seed)]
        return found[0] if found else None

    def ready(self, most: int) -> int:
        """How many items could be handed out; no further than to ``most`` is counted."""
        ready = 0
        for _, run in self._waiting:
            ready += run.ready
            if ready >= most:
                break
        return ready

    def nothing_beyond(self, woken: int) -> bool:
        """Whether all that could be handed out is what workers were idle for, and have been woken for: it is theirs.

        A worker that comes back from a short item would be quicker, and take their items one after the other: two
        branches would be run by one. It asks again before it waits, so what none of them takes waits no longer.
        """
        return self.ready(woken + 1) <= woken

    def by_hash_seed(self) -> dict[int, int]:
        """How many items could be handed out, by the hash seed that their run has; the run that waits longest first."""
        ready: dict[int, int] = {}
        others = (run for run in self._giving if run.state.has_stream_for(None))
        for run, items in (*((run, run.ready) for _, run in sorted(self._waiting)), *((run, 1) for run in others)):
            if items and (seed := run.record.hash_seed) is not None:
                ready[seed] = ready.get(seed, 0) + items
        return ready

    def _come_due(self, now: float) -> None:
        while self._dues and self._dues[0][0] <= now:
            _, _, run = heapq.heappop(self._dues)
            run.due = inf
            if run.state.next_due is not None:  # or it is paused or over, and nothing of it may change
                run.state.due(now)
            self.refresh(run)


def _wanted(run: ActiveRun, only: str | None, hash_seed: int | None) -> bool:
    """Whether it is a run of the workflow ``only``, for a worker with that hash seed; None: of any, for any."""
    return only in (None, run.record.name) and (hash_seed is None or run.record.hash_seed in (None, hash_seed))
