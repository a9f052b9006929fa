"""``Work``: a lease in work: what was run of it, and what of that is to be told. How steps are run, and what is asked
of the coordinator and when, is the ``Worker``'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..clock import monotonic_ns
from ..core.types import Payload
from ..messages import NEXT, Lease, Outcome, Report, Result, Results, StepResult, Writes

HELD: Final = 3_000_000  # nanoseconds that results of which nobody knows are held back for, behind the time for more


class LeaseExecution:
    """See the module. Results of the usual kind, one value and all by one arm, are kept as one.

    Args:
        lease: what was asked for.
        cancelled: whether its run is being cancelled.
        now: when it was begun (``monotonic_ns``).
        limit: when it is much slower than thought.
        until: up to when its successors may be begun.

    Attributes:
        index: how many items were begun and are done, those of successors included.
        cut: nothing is begun any more.
        ahead: what is run are successors of the lease's items, which nobody knows of yet.
        running: the id of the item that was running when it was told of early; 0 if none was.
    """

    def __init__(self, lease: Lease, cancelled: Callable[[], bool], now: int, limit: int, until: int) -> None:
        self.lease = lease
        self.cancelled = cancelled
        self.limit = limit
        self.until = until
        self.done = 0
        self.truncated = self.chained = False
        self.running = 0
        self._results: list[Result] = []
        self._large = False  # what came of a step is in shared memory: that can be used again when it is told of
        self._stage = 0  # how many of these are of earlier stages
        self._branch = -1
        self._payloads: list[Payload] = []  # those after these: a stretch of the usual kind
        self._writes: list[Writes] = []
        self._spent: list[tuple[int, int, float]] = []
        self._node, self._steps, self._since, self._now = -1, 0, now, now  # of the node of the last step

    def add(self, node: int, result: Outcome, now: int) -> None:
        """One more step is done."""
        self.done += 1
        if node != self._node:
            self._spend()
            self._node = node
        self._steps += 1
        self._now = now
        if type(result) is not tuple or result[0] != NEXT:  # (``isinstance`` of the others takes twenty times as long)
            self._close()
            self._results.append(result)
            return
        usual: StepResult = result  # type: ignore[assignment]
        ((arm, payload),), writes = usual[1], usual[2]
        if arm != self._branch or bool(writes) != bool(self._writes):
            self._close()
            self._branch = arm
        if writes:
            self._writes.append(writes)
        self._payloads.append(payload)
        if type(payload) is not bytes:
            self._large = True

    def next(self, count: int) -> tuple[int, list[Payload]] | None:
        """What a stage of so many items came to: arm and values, if all are of the usual kind and more can begin."""
        whole = len(self._results) == self._stage and len(self._payloads) == count and not self._large
        return (self._branch, self._payloads) if whole and not self.truncated and monotonic_ns() < self.until else None

    def go_on(self) -> None:
        """The next stage begins: the successors."""
        self._close()
        self._stage = len(self._results)
        self.chained = True
        self.limit = self.until + HELD

    def report(self, last: bool = True) -> Report:
        """What is to be told now; nothing is begun after one that is not the ``last``."""
        ahead = not last and self.chained and len(self._results) == self._stage and not self._payloads
        self._close()
        results, self._results, self._stage = tuple(self._results), [], 0
        self._spend()
        spent, self._spent = tuple(self._spent), []
        self.truncated = self.truncated or not last
        return Report(self.lease.id, results, spent, last, ahead)

    def _spend(self) -> None:
        if self._steps:
            self._spent.append((self._node, self._steps, (self._now - self._since) / 1e9))
        self._steps, self._since = 0, self._now

    def _close(self) -> None:
        """The stretch is over."""
        if len(self._payloads) == 1:
            writes = self._writes[0] if self._writes else ()
            self._results.append((NEXT, ((self._branch, self._payloads[0]),), writes, None, False))
        elif self._payloads:
            self._results.append(Results(self._branch, self._payloads, self._writes))
        self._branch, self._payloads, self._writes = -1, [], []
