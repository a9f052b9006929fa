"""How a worker process ended, in words: by which code or signal, and whether the machine ran out of memory.

Who waits for the end, and what follows from it, is in ``spawn`` and ``engine``.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
from typing import Final, NamedTuple

from ...texts import clipped

WORN: Final = 75  # exit code of a worker that asks to be replaced: see ``ProcessEngine``
_INFO: Final = struct.Struct("=Q52xi")  # <linux/pidfd.h>: struct pidfd_info, its mask and exit_code
_GET_INFO: Final = 0xC040FF0B  # PIDFD_GET_INFO
_EXIT: Final = 1 << 3  # PIDFD_INFO_EXIT, Linux 6.15
_LONGEST: Final = 500  # characters of a line that a worker wrote


class ExitStatus(NamedTuple):
    """A process's exit code, as in ``subprocess``, and the most memory that it had at a time, in bytes.

    ``code``: None where it is not known. ``exact``: not so where it had less than its parent when that started it; the
    kernel counts them as one then.
    """

    code: int | None
    peak: int
    exact: bool

    def text(self, shortage: bool) -> str:
        """For a person. ``shortage``: whether the kernel was killing for want of memory."""
        if self.code is None:
            return "ended (how is not known: the program ignores SIGCHLD, or waits for children that are not its own)"
        if self.code == -signal.SIGKILL and shortage:
            used = f"used {'about' if self.exact else 'at most'} {self.peak / 1e6:,.0f} MB"
            return f"was killed by SIGKILL, {used}, likely out of memory,"
        return ended(self.code)


def reason(code: int | None, words: str) -> str:
    """The line that says why a worker could not start, behind a colon; "": what it wrote does not say it.

    Args:
        code: its exit code. A signal's says it already.
        words: what it wrote as it started.
    """
    lines = words.strip().splitlines() if code is not None and code > 0 else []
    if lines and lines[-1].startswith((" ", "Python runtime state")):  # where it was, not why
        lines = [line for line in lines if line.startswith("Fatal Python error")]
    return "".join(f": {clipped(line, _LONGEST)}" for line in lines[-1:])


class OomDetector:
    """Whether the kernel has lately killed processes for want of memory.

    It counts them for the whole machine, those that were too much for a control group included. "Lately" is since the
    look before the last: the last one may have come between a kill and the news of it.
    """

    def __init__(self) -> None:
        self._before = self._last = _kills()

    def check(self) -> None:
        """To be called every few seconds."""
        self._before, self._last = self._last, _kills()

    def lately(self) -> bool:
        return _kills() > self._before


def code_of(pidfd: int) -> int | None:
    """The exit code of a process that has ended, though it was waited for elsewhere; None: this kernel forgets it."""
    asked = _INFO.pack(_EXIT, 0)
    try:
        mask, status = _INFO.unpack(fcntl.ioctl(pidfd, _GET_INFO, asked))
    except OSError:
        return None
    return os.waitstatus_to_exitcode(status) if mask & _EXIT else None


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
