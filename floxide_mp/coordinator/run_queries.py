"""``View``: what users see of the runs of one coordinator, and how they wait for more. It is what is in the store,
never what is only decided.

How a run stands is told without any lock: each answer is one look at a record that is replaced as a whole, so it can be
asked for by whoever comes in the middle of anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from ..core.transitions import Phase
from ..errors import FloxideError, NotStartedError, StoreError
from ..graph.validate import nearest
from ..ports import CheckpointStore, RunRecord
from ..sigint import defer_sigint
from ..stores.memory import header
from .active_run import ActiveRun, RunEntry
from .critical import Condition, Critical, section
from .group_commit import CommitQueue
from .run_checks import left

T = TypeVar("T")

OVER: Final = Phase.COMPLETED, Phase.CANCELLED


def whole_record(run: RunEntry, store: CheckpointStore) -> RunRecord:
    """What the run began with. Of one that nobody works on, workflow, context and input are not kept in memory."""
    return run.record if isinstance(run, ActiveRun) else store.record(run.record.run_id)


class RunQueries:
    """See the module.

    Args:
        store: what remembers them. The runs that are in it already can be looked at, and taken up by ``resume``.
    """

    commit_queue: CommitQueue

    def __init__(self, store: CheckpointStore) -> None:
        self.store = store
        self.critical = Critical()
        self._changed = Condition(self.critical)  # users wait here for their run
        self._runs: dict[str, RunEntry] = {}
        for record in map(header, store.runs()):
            self._runs[record.run_id] = RunEntry(record, left(store.progress(record.run_id)))
        self._streams = 0  # how many of those who wait want to hear of outputs, too
        self._stopping = False
        self._fatal: BaseException | None = None  # what a thread of ours died of

    @defer_sigint
    def read(self, run_id: str, at: Callable[[RunEntry, CheckpointStore], T]) -> T:
        """What ``at`` reads of the run, seen between two commits. It opens nothing that it reads."""
        run = self._run(run_id)
        over = not isinstance(run, ActiveRun) and run.published.phase in OVER  # nothing of it is written any more
        if self.critical.inside or (over and self.commit_queue.read_beside):
            return at(run, self.store)  # by one who must not wait, or need not
        with self.critical.turn(), self.commit_queue.still:
            return at(run, self.store)

    def known(self, run_id: str) -> RunEntry:
        """The run; of its record, workflow, context and input may not be there (``record``).

        Raises:
            NotStartedError: there is none of that id.
        """
        return self._run(run_id)

    def record(self, run_id: str) -> RunRecord:
        """What the run began with, whole.

        Raises:
            NotStartedError: there is none of that id.
        """
        return self.read(run_id, whole_record)

    def runs(self) -> list[str]:
        """All runs, oldest first."""
        return list(self._runs)

    def has_news(self, run_id: str, seen: int | None) -> bool:
        """Whether the run is over, or has more than ``seen`` outputs, or nothing will come any more."""
        run = self._runs[run_id]
        if not isinstance(run, ActiveRun) or run.ended or self._fatal is not None:
            return True
        return (self._stopping and not run.unwritten) or (seen is not None and run.outputs > seen)

    def wait(self, run_id: str, seen: int | None, timeout: float | None) -> bool:
        """Wait for ``has_news``; False if there are none after ``timeout`` seconds."""
        self._run(run_id)
        if timeout == 0 or self.has_news(run_id, seen):
            return self.has_news(run_id, seen)
        self.critical.check_outside(f"waiting for run {run_id!r}")
        return self._wait(run_id, seen, timeout)

    @section
    def _wait(self, run_id: str, seen: int | None, timeout: float | None) -> bool:
        self._streams += seen is not None
        try:
            return self._changed.wait_for(lambda: self.has_news(run_id, seen), timeout)
        finally:
            self._streams -= seen is not None

    @section
    def wait_any(self, run_ids: Sequence[str], more: Callable[[], bool]) -> set[str]:
        """Wait until one of these runs is over, or nothing will come of it any more, or there are ``more`` to wait for.

        Returns:
            Which are over.
        """
        over: set[str] = set()

        def look() -> bool:
            over.update([run_id for run_id in run_ids if self.has_news(run_id, None)])
            return bool(over) or more()

        self._changed.wait_for(look, None)
        return over

    @section
    def wake_waiting(self) -> None:
        """There are more runs to wait for (``wait_any``)."""
        self._changed.notify_all()

    @section
    def flush(self, run_id: str) -> None:
        """Wait until what was decided about the run is in the store, unless that takes nothing at the moment."""
        run = self._run(run_id)
        if isinstance(run, ActiveRun) and run.unwritten:
            with suppress(StoreError):
                self.commit_queue.wake()
                self.commit_queue.flush(run)

    @section
    def flush_durably(self, run_id: str) -> bool:
        """Wait until what was decided about the run is in the store; False if it will not be, or is not at close."""
        run = self._run(run_id)
        if not isinstance(run, ActiveRun):
            return True
        return self.commit_queue.flush_durably(run, lambda: self._stopping) and run.published.phase is not Phase.BROKEN

    def check_alive(self) -> None:
        """Whether all threads of the coordinator are as they should be.

        Raises:
            FloxideError: one of them has died.
        """
        if self._fatal is not None:
            text = f"the coordinator has ended: a thread of its own died of {self._fatal!r}"
            raise FloxideError(text) from self._fatal

    def disown(self) -> None:
        """This process was forked from the one that coordinates: it may look, and must not touch or wait."""
        # The locks of before may be held by a thread that is not in this process.
        self.critical = Critical()
        self._changed = Condition(self.critical)
        self.commit_queue.disown(self.critical)
        for run in self._runs.values():
            if isinstance(run, ActiveRun):
                run.unwritten = 0  # here; there it will be written
        self._stopping = True

    def flushed(self, run: ActiveRun) -> None:
        """Of a run that is over for good, no more is kept in memory than what is told of it; the store has the rest."""
        run_id = run.record.run_id
        if run.published.phase in OVER and run.ended and self._runs.get(run_id) is run:
            self._runs[run_id] = RunEntry(header(run.record), run.published, generation=run.generation)

    def _run(self, run_id: str) -> RunEntry:
        run = self._runs.get(run_id)
        if run is None:
            hint = nearest(run_id, list(self._runs)) or "; coordinator.start(workflow, input, run_id=...) starts one"
            raise NotStartedError(f"there is no run {run_id!r}{hint}", run_id=run_id)
        return run
