"""``View``: what users see of the runs of one coordinator, and how they wait for more. It is what is in the store,
never what is only decided.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from ..checks import nearest
from ..errors import NotStartedError, StoreError
from ..ports import CheckpointStore
from .journal import Direct, GroupCommit
from .running import Known, Running

T = TypeVar("T")


class View:
    """See the module.

    Args:
        store: what remembers them. The runs that are in it already can be looked at, and taken up by ``resume``.
    """

    journal: Direct | GroupCommit

    def __init__(self, store: CheckpointStore) -> None:
        self.store = store
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)  # users wait here for their run
        self._runs: dict[str, Known] = {r.run_id: Known(r, store.progress(r.run_id)) for r in store.runs()}
        self._streams = 0  # how many of those who wait want to hear of outputs, too
        self._stopping = False

    def look(self, run_id: str, at: Callable[[Known, CheckpointStore], T]) -> T:
        """What ``at`` makes of the run, seen between two commits."""
        with self.journal.page, self._lock:
            return at(self._run(run_id), self.store)

    def known(self, run_id: str) -> Known:
        """The run, to look at what never changes.

        Raises:
            NotStartedError: there is none of that id.
        """
        with self._lock:
            return self._run(run_id)

    def runs(self) -> list[str]:
        """All runs, oldest first."""
        with self._lock:
            return list(self._runs)

    def news(self, run_id: str, seen: int | None) -> bool:
        """Whether the run is over, or has more than ``seen`` outputs, or nothing will come any more."""
        run = self._runs[run_id]
        if not isinstance(run, Running) or run.ended:
            return True
        return (self._stopping and not run.unwritten) or (seen is not None and run.outputs > seen)

    def wait(self, run_id: str, seen: int | None, timeout: float | None) -> bool:
        """Wait for ``news``; False if there are none after ``timeout`` seconds."""
        with self._lock:
            self._run(run_id)
            if timeout == 0:
                return self.news(run_id, seen)
            self._streams += seen is not None
            try:
                return self._changed.wait_for(lambda: self.news(run_id, seen), timeout)
            finally:
                self._streams -= seen is not None

    def settle(self, run_id: str) -> None:
        """Wait until what was decided about the run is in the store, unless that takes nothing at the moment."""
        with self._lock, suppress(StoreError):
            run = self._run(run_id)
            if isinstance(run, Running) and run.unwritten:
                self.journal.poke()
                self.journal.settle(run)

    def secure(self, run_id: str) -> bool:
        """Wait until what was decided about the run is in the store; False if it will not be, or is not at close."""
        with self._lock:
            run = self._run(run_id)
            return not isinstance(run, Running) or self.journal.secure(run, lambda: self._stopping)

    def disown(self) -> None:
        """This process was forked from the one that coordinates: it may look, and must not touch or wait."""
        self._lock = threading.Lock()  # that of before may be held by a thread that is not in this process
        self._changed = threading.Condition(self._lock)
        self.journal.disown(self._lock)
        for run in self._runs.values():
            if isinstance(run, Running):
                run.unwritten = 0  # here; there it will be written
        self._stopping = True

    def _run(self, run_id: str) -> Known:
        run = self._runs.get(run_id)
        if run is None:
            hint = nearest(run_id, self._runs) or "; coordinator.start(workflow, input, run_id=...) starts one"
            raise NotStartedError(f"there is no run {run_id!r}{hint}", run_id=run_id)
        return run
