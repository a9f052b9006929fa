"""``Suspicion``: what to do about items that were leased when earlier programs ended. Lives in the coordinator's
process, and is called with the scheduler's lock held.

Which item ended a program, nobody is left to say. So an item that was leased when one ended is leased by itself the
next time; if that program ends as well it is known that it was being run. From ``ALONE`` such ends on it is run while
nothing else is, so that the innocent are found: they come to their end. After ``MOST_LIVES`` it fails.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Final

from ..core.records import Chunk, ItemRecord
from ..ports import CheckpointStore
from ..wire.log import say
from .active_run import ActiveRun
from .in_flight import InFlight, Suspects
from .leases import Session

ALONE: Final = 3
MOST_LIVES: Final = 5


class Suspicion:
    """See the module. ``in_flight`` is None for a store that ends with its program: then there is nothing to know."""

    def __init__(self) -> None:
        self.in_flight: InFlight | None = None
        self._next: ActiveRun | None = None  # everybody waits for its first item
        self._alone = 0  # the lease of the item that is run alone

    def watch(self, store: CheckpointStore, opened: ExitStack) -> None:
        """From now on it is noted beside the store what is leased, if that is on disk; until ``opened`` is closed."""
        path: str | None = getattr(store, "in_flight", None)
        if path is not None:
            try:
                self.in_flight = InFlight(path)
            except (OSError, ValueError) as error:  # no space, or no memory to map
                say(logging.WARNING, "what a step that ends the whole program leaves behind cannot be noted: %s", error)
            else:
                opened.callback(self.in_flight.close)

    def suspects(self, run_id: str) -> Suspects | None:
        """The items of a run that were leased when an earlier program ended; None: there are none."""
        return None if self.in_flight is None else self.in_flight.suspects(run_id)

    def waiting(self, worker: Session) -> ActiveRun | None:
        """The run whose first item is the next one of all, if there is one and it may be this worker's."""
        run = self._next
        if run is not None and not (_dangerous(run) and worker.only in (None, run.record.name)):
            run = self._next = None
        return run

    def holds(self, run: ActiveRun, sessions: Iterable[Session]) -> bool:
        """Whether nothing of the run may be leased now: an item is run alone, or is about to be."""
        if not self._alone and run.suspects is None:
            return False
        leases = {number for session in sessions for number in session.leases}
        if self._alone in leases:
            return True
        self._alone = 0
        if not _dangerous(run) or not leases:
            return False
        self._next = run
        return True

    def began(self, lease: int, run: ActiveRun, items: Sequence[ItemRecord | Chunk]) -> None:
        """They are leased."""
        if self.in_flight is not None:
            self.in_flight.began(lease, run.record.run_id, items)
            if run.lives(items[0]) >= ALONE:
                self._alone, self._next = lease, None

    def ended(self, lease: int) -> None:
        """It is over."""
        if self.in_flight is not None:
            self.in_flight.ended(lease)


def _dangerous(run: ActiveRun) -> bool:
    first = run.state.first()
    return first is not None and run.lives(first) >= ALONE
