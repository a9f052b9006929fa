"""How a worker process ended, in words: by which code or signal, and whether the machine ran out of memory.

Who waits for the end, and what follows from it, is in ``spawn`` and ``engine``.
"""

from __future__ import annotations

import signal
from typing import Final, NamedTuple

WORN: Final = 75  # exit code of a worker that asks to be replaced: see ``ProcessEngine``


class End(NamedTuple):
    """A process's exit code, as in ``subprocess``, and the most memory that it had at a time, in bytes.

    ``exact``: not so where it had less than its parent when that started it; the kernel counts them as one then.
    """

    code: int
    peak: int
    exact: bool

    def told(self, shortage: bool) -> str:
        """For a person. ``shortage``: whether the kernel was killing for want of memory."""
        if self.code == -signal.SIGKILL and shortage:
            used = f"used {'about' if self.exact else 'at most'} {self.peak / 1e6:,.0f} MB"
            return f"was killed by SIGKILL, {used}, likely out of memory,"
        return ended(self.code)


class Shortage:
    """Whether the kernel has lately killed processes for want of memory.

    It counts them for the whole machine, those that were too much for a control group included. "Lately" is since the
    look before the last: the last one may have come between a kill and the news of it.
    """

    def __init__(self) -> None:
        self._before = self._last = _kills()

    def look(self) -> None:
        """To be called every few seconds."""
        self._before, self._last = self._last, _kills()

    def lately(self) -> bool:
        return _kills() > self._before


def ended(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was ended by {name}"


def _kills() -> int:
    """How many processes the kernel has killed for want of memory since it was started; 0 if it does not tell."""
    try:
        with open("/proc/vmstat", "rb") as file:
            _, _, rest = file.read().partition(b"\noom_kill ")
    except OSError:
        return 0
    return int(rest.split(None, 1)[0]) if rest else 0
