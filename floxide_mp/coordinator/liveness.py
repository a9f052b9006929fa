"""Whether a worker can be counted on, and whether its coordinator could look at all. Pure: what a look found and what
the clocks said is passed in; who looks, and when, is the engines'.

No worker sends heartbeats: a thread that did would make ``fork`` unsafe in nodes, and could not run while a node holds
the interpreter lock in C. The kernel knows better: a process that is neither stopped nor gone can run.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from ..types import LivenessStatus

STOPPED: Final = "T"  # states as in ``ps``: by a signal, until SIGCONT
TRACED: Final = "t"  # by a debugger
GONE: Final = "ZXx"
LATE: Final = 1.0  # seconds that a look may come too late; later, and this process could not run itself


class Look(NamedTuple):
    """What a look at a process found. Times are monotonic seconds.

    ``state`` is as in ``ps``, ``ticks`` the CPU time that it has used; ``since`` is the time of the first of those
    looks that have found the same of both up to this one.
    """

    at: float
    state: str
    ticks: int
    since: float

    @classmethod
    def after(cls, before: Look | None, at: float, state: str, ticks: int) -> Look:
        same = before is not None and (before.state, before.ticks) == (state, ticks)
        return cls(at, state, ticks, before.since if before is not None and same else at)


def liveness(age: float, threshold: float) -> LivenessStatus:
    """What to think of a worker whose last sign of life is ``age`` seconds old."""
    if age < threshold:
        return LivenessStatus.ALIVE
    return LivenessStatus.STALE if age < 3 * threshold else LivenessStatus.DEAD


def last_sign(seen: float, before: Look | None, found: Look) -> float:
    """The last moment at which a worker is known to have been able to run.

    Args:
        seen: as known so far.
        before: the look before this one.
        found: what is found now.
    """
    if found.state not in (STOPPED, TRACED, *GONE):
        return max(seen, found.at)
    if before is not None and found.ticks > before.ticks and found.state not in GONE:
        # It ran in between: somebody stops and continues it by turns, as ``cpulimit`` does.
        return max(seen, before.at)
    return seen


class SuspendDetector:
    """Notices that nobody could look, since this process was stopped itself, alone or with its workers.

    Whoever looks says by when it looks again. Where a look comes much later, this process was kept from running, but
    for the time that it has computed meanwhile: then a thread of the caller's held the interpreter lock, workers ran
    on, and their time with them.
    """

    def __init__(self) -> None:
        self._looked = self._used = 0.0
        self.until = math.inf  # a look after this moment is late

    def expect(self, now: float, used: float, within: float) -> None:
        """The next look comes ``within`` seconds. ``used``: CPU seconds of this process."""
        self._looked, self._used, self.until = now, used, now + within + LATE

    def missed(self, now: float, used: float) -> float:
        """Seconds since the last look that do not count against anybody. Asked again, there are none."""
        if now <= self.until:
            return 0.0
        self.until = math.inf
        return max(0.0, now - self._looked - (used - self._used))
