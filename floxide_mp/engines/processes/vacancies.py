"""Which workers are missing, and when the next start is tried. In the coordinator's process, by its supervisor.

A shortage of descriptors, memory or processes may pass, and so may whoever kills workers as they start. So no place is
given up: the next start is only tried later and later, until one succeeds.
"""

from __future__ import annotations

from typing import Final

QUICK_DEATHS: Final = 3  # in a row, before being of any use (``Ledger.started``): then workers cannot start
QUICK_KILLS: Final = 30  # the same for deaths by a signal that comes from outside: somebody kills them as they come
PATIENT_KILLS: Final = 10  # of these, those after which the next start does not come at once
FIRST_DELAY: Final = 0.1  # seconds before a start is tried again, twice as long after each failure
LONGEST_DELAY: Final = 5.0
LONGEST_KILL_DELAY: Final = 1.0


class Vacancies:
    """The places without a worker, by ``worker_id``, each with the hash seed that its worker is to have."""

    def __init__(self) -> None:
        self.places: dict[int, int] = {}
        self.deaths = 0  # in a row of workers that were of no use, by themselves
        self.kills = 0  # likewise, by somebody else
        self.failures = 0  # starts in a row that failed
        self._next = 0.0  # when the next one is tried

    @property
    def hopeless(self) -> bool:
        """Whether those that were started died one after the other: runs need not wait for the next."""
        return self.deaths >= QUICK_DEATHS or self.kills >= QUICK_KILLS

    @property
    def due(self) -> float | None:
        """When the next start is to be tried, on the clock of ``now``; None: no worker is missing."""
        return self._next if self.places else None

    def used(self) -> None:
        """A worker has been of use."""
        self.deaths = self.kills = 0

    def died(self, from_outside: bool, now: float) -> None:
        """A worker has ended before it was of any use."""
        if from_outside:
            self.kills += 1
        else:
            self.deaths += 1
        if self.hopeless:
            number = max(self.deaths - QUICK_DEATHS, self.kills - QUICK_KILLS)
            self._wait(number, LONGEST_DELAY, now)
        elif self.kills > PATIENT_KILLS:
            self._wait(self.kills - PATIENT_KILLS - 1, LONGEST_KILL_DELAY, now)

    def failed(self, now: float) -> None:
        """A worker could not be started."""
        self._wait(self.failures, LONGEST_DELAY, now)
        self.failures += 1

    def filled(self, worker_id: int) -> None:
        """A worker has been started."""
        self.places.pop(worker_id, None)
        self.failures = 0

    def _wait(self, number: int, longest: float, now: float) -> None:
        self._next = now + min(FIRST_DELAY * 2.0 ** min(number, 30), longest)
