"""``Loose``: the workers without a lifeline, who would outlive the coordinator's process, should it be killed now. It
is in that process, and its supervisor ends them while somebody can.

Mostly a node has closed all descriptors, its worker's connection too, and all was lost anyway.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Final

from ...clock import monotonic
from ...coordinator.leases import Overdue
from ...wire.status_page import At
from .process import WorkerProcess

LOOSE: Final = 0.1  # seconds that a worker may hold no end of its lifeline: one that is ending is gone by then
_EXITING: Final = 4  # <linux/sched.h>: PF_EXITING


class Loose:
    """Since when each is, and what it was at then, by session."""

    def __init__(self) -> None:
        self._since: dict[int, tuple[float, At | None]] = {}

    def note(self, process: WorkerProcess) -> None:
        """Nobody holds the worker's end any more: it is about to end, or one of its nodes has closed it."""
        patience = LOOSE if _exiting(process.pid) else 0.0  # this process may be killed at any moment
        self._since[process.session] = monotonic() - LOOSE + patience, process.board.at()

    def forget(self, session: int) -> bool:
        """Whether that one was loose. It is no more."""
        return self._since.pop(session, None) is not None

    def overdue(
        self, processes: Mapping[int, WorkerProcess], killed: Container[int], longest: float
    ) -> tuple[list[Overdue], float]:
        """Those to be ended, but for those that are ``killed``; in how many seconds to ask again, at the most."""
        found, again, now = [], longest, monotonic()
        for session, (since, before) in self._since.items():
            if session in killed:
                continue
            left = since + LOOSE - now
            if left > 0:
                again = min(again, left)
                continue
            at = processes[session].board.at()
            if before is None or at is None or before.lease != at.lease:
                at = before  # that was reported: who runs now has not done it
            found.append(Overdue(session, at, None, "closed the descriptors that it needs to work"))
        return found, again


def _exiting(pid: int) -> bool:
    """Whether the process is about to end; so it is, too, where nobody can tell."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            flags = int(file.read().rpartition(b")")[2].split()[6])
    except OSError:
        return True
    return bool(flags & _EXITING)
