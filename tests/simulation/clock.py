"""Time that passes when it is told to. Production code has no part in this: it imports clocks by their names from
``clock``, and here these names are given other functions, in every module that has them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from floxide_mp.stores.sqlite.clock_conversion import Clocks

BOOT = 1e7  # later than any real machine's, so that what is taken from a real clock is long ago
EPOCH = 1.7e9


class Clock:
    """The clock that nobody can set, and that of the wall, in seconds."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.now, self.skew = BOOT, EPOCH - BOOT

    def monotonic(self) -> float:
        return self.now

    def monotonic_ns(self) -> int:
        return int(self.now * 1e9)

    def wall(self) -> float:
        return self.now + self.skew

    def process_time(self) -> float:
        return 0.0  # nothing that is simulated takes any

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def set_wall(self, seconds: float) -> None:
        """Somebody sets the clock on the wall by so many seconds."""
        self.skew += seconds

    @property
    def clocks(self) -> Clocks:
        """For a store."""
        return Clocks(self.monotonic, self.wall)


@contextmanager
def installed(clock: Clock) -> Iterator[None]:
    """This is the time for all modules of the package that are there."""
    instead: dict[Callable[[], object], Callable[[], object]] = {
        time.monotonic: clock.monotonic,
        time.monotonic_ns: clock.monotonic_ns,
        time.time: clock.wall,
        time.process_time: clock.process_time,
    }
    changed = []
    for module, namespace in [(name, vars(module)) for name, module in sys.modules.items()]:
        if module.startswith("floxide_mp.") and module != "floxide_mp.clock":
            for name, value in list(namespace.items()):
                if callable(value) and getattr(value, "__module__", None) == "time" and value in instead:
                    changed.append((namespace, name, value))
                    namespace[name] = instead[value]
    try:
        yield
    finally:
        for namespace, name, value in changed:
            namespace[name] = value
