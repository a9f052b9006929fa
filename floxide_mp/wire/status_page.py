"""``StatusPage``: a few numbers shared by a worker and its coordinator, written without asking and read at any time.

The worker says what it is at, so that the coordinator knows whom to blame for a death or a time-out without a
message per item; the coordinator says which lease is revoked. Every number is written by one side only, and an
aligned 8-byte store is whole on every machine that CPython runs on.
"""

from __future__ import annotations

from typing import Final, NamedTuple

SIZE: Final = 6 * 8  # bytes


class CurrentItem(NamedTuple):
    """What a worker is at: item number ``place`` of ``lease``, since ``started`` (``monotonic_ns``)."""

    lease: int
    position: int
    started: int


class StatusPage:
    """Args: memory: at least ``SIZE`` bytes, zeroed."""

    def __init__(self, memory: memoryview) -> None:
        self._numbers = memory[:SIZE].cast("q")

    # the worker's side

    def begin(self, lease: int) -> None:
        self._numbers[1] = -1
        self._numbers[0] = lease

    def enter(self, index: int, now: int, lease: int = 0) -> bool:
        """Begin an item, unless the rest of the lease must not be started; whether it may."""
        numbers = self._numbers
        if lease and numbers[3] >= lease:
            return False
        numbers[2] = now
        numbers[1] = index
        return True

    def end(self) -> None:
        self._numbers[0] = 0

    def revoked(self, lease: int) -> bool:
        """Whether the rest of the lease must not be started."""
        return self._numbers[3] >= lease

    def cancelled(self, lease: int) -> bool:
        """Whether the lease's run is being cancelled."""
        return lease in (self._numbers[4], self._numbers[5])

    # the coordinator's side

    def at(self) -> CurrentItem | None:
        """What the worker is at, or None between leases and before a lease's first item."""
        lease, index, started = self._numbers[0], self._numbers[1], self._numbers[2]
        return CurrentItem(lease, index, started) if lease and index >= 0 else None

    def revoke(self, lease: int) -> None:
        """Leases up to this one are revoked; their numbers only grow."""
        self._numbers[3] = max(lease, self._numbers[3])

    def cancel(self, lease: int) -> None:
        """The last two are known: a worker has no more than one lease beside that which it is at."""
        if lease not in (self._numbers[4], self._numbers[5]):  # (inline, ``cancelled`` does more than to look)
            self._numbers[5] = self._numbers[4]
            self._numbers[4] = lease

    def close(self) -> None:
        """Let go of the memory. Who still looks, as the coordinator may where it fails, finds nothing there."""
        numbers, self._numbers = self._numbers, memoryview(bytearray(SIZE)).cast("q")
        numbers.release()
