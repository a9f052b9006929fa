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
from ..sigint import whole
from ..stores.memory import header
from .active_run import Known, Running
from .critical import Condition, Critical, section
from .group_commit import Journal
from .run_checks import left

T = TypeVar("T")

OVER: Final = Phase.COMPLETED, Phase.CANCELLED


def whole_record(run: Known, store: CheckpointStore) -> RunRecord:
    """What the run began with. Of one that nobody works on, workflow, context and input are not kept in memory."""
    return run.record if isinstance(run, Running) else store.record(run.record.run_id)


class View:
    """See the module.

    Args:
        store: what remembers them. The runs that are in it already can be looked at, and taken up by ``resume``.
    """

    journal: Journal

    def __init__(self, store: CheckpointStore) -> None:
        self.store = store
        self.critical = Critical()
        self._changed = Condition(self.critical)  # users wait here for their run
        self._runs: dict[str, Known] = {}
        for record in map(header, store.runs()):
            self._runs[record.run_id] = Known(record, left(store.progress(record.run_id)))
        self._streams = 0  # how many of those who wait want to hear of outputs, too
        self._stopping = False
        self._fatal: BaseException | None = None  # what a thread of ours died of

    @whole
    def look(self, run_id: str, at: Callable[[Known, CheckpointStore], T]) -> T:
        """What ``at`` reads of the run, seen between two commits. It opens nothing that it reads."""
        run = self._run(run_id)
        over = not isinstance(run, Running) and run.shown.phase in OVER  # nothing of it is written any more
        if self.critical.inside or (over and self.journal.read_beside):
            return at(run, self.store)  # by one who must not wait, or need not
        with self.critical.turn(), self.journal.still:
            return at(run, self.store)

    def known(self, run_id: str) -> Known:
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
        return self.look(run_id, whole_record)

    def runs(self) -> list[str]:
        """All runs, oldest first."""
        return list(self._runs)

    def news(self, run_id: str, seen: int | None) -> bool:
        """Whether the run is over, or has more than ``seen`` outputs, or nothing will come any more."""
        run = self._runs[run_id]
        if not isinstance(run, Running) or run.ended or self._fatal is not None:
            return True
        return (self._stopping and not run.unwritten) or (seen is not None and run.outputs > seen)

    def wait(self, run_id: str, seen: int | None, timeout: float | None) -> bool:
        """Wait for ``news``; False if there are none after ``timeout`` seconds."""
        self._run(run_id)
        if timeout == 0 or self.news(run_id, seen):
            return self.news(run_id, seen)
        self.critical.check_outside(f"waiting for run {run_id!r}")
        return self._wait(run_id, seen, timeout)

    @section
    def _wait(self, run_id: str, seen: int | None, timeout: float | None) -> bool:
        self._streams += seen is not None
        try:
            return self._changed.wait_for(lambda: self.news(run_id, seen), timeout)
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
            over.update([run_id for run_id in run_ids if self.news(run_id, None)])
            return bool(over) or more()

        self._changed.wait_for(look, None)
        return over

    @section
    def wake_waiting(self) -> None:
        """There are more runs to wait for (``wait_any``)."""
        self._changed.notify_all()

    @section
    def settle(self, run_id: str) -> None:
        """Wait until what was decided about the run is in the store, unless that takes nothing at the moment."""
        run = self._run(run_id)
        if isinstance(run, Running) and run.unwritten:
            with suppress(StoreError):
                self.journal.poke()
                self.journal.settle(run)

    @section
    def secure(self, run_id: str) -> bool:
        """Wait until what was decided about the run is in the store; False if it will not be, or is not at close."""
        run = self._run(run_id)
        if not isinstance(run, Running):
            return True
        return self.journal.secure(run, lambda: self._stopping) and run.shown.phase is not Phase.BROKEN

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
        self.journal.disown(self.critical)
        for run in self._runs.values():
            if isinstance(run, Running):
                run.unwritten = 0  # here; there it will be written
        self._stopping = True

    def settled(self, run: Running) -> None:
        """Of a run that is over for good, no more is kept in memory than what is told of it; the store has the rest."""
        run_id = run.record.run_id
        if run.shown.phase in OVER and run.ended and self._runs.get(run_id) is run:
            self._runs[run_id] = Known(header(run.record), run.shown, life=run.life)

    def _run(self, run_id: str) -> Known:
        run = self._runs.get(run_id)
        if run is None:
            hint = nearest(run_id, list(self._runs)) or "; coordinator.start(workflow, input, run_id=...) starts one"
            raise NotStartedError(f"there is no run {run_id!r}{hint}", run_id=run_id)
        return run
