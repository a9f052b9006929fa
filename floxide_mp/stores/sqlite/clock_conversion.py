"""When something is due, on a clock that outlives this boot.

The core counts on the monotonic clock, whose zero is the boot of the machine; stored are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, time
from typing import Final, NamedTuple


class Clocks(NamedTuple):
    """The two clocks, in seconds: one that nobody can set, and that of the wall."""

    monotonic: Callable[[], float]
    wall: Callable[[], float]

    def to_wall(self, due: float) -> float | None:
        """The time to store; None for what was never put off."""
        return due + (self.wall() - self.monotonic()) if due else None

    def to_monotonic(self, due: float | None) -> float:
        """The way back."""
        return 0.0 if due is None else due - (self.wall() - self.monotonic())


CLOCKS: Final = Clocks(monotonic, time)
