"""``Tail``: the end of a run's event log, in the coordinator's process, so that few looks of workers need the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..core.records import EventRecord
from ..core.run_state import RunState
from ..ports import CheckpointStore

KEPT: Final = 4096  # events of a run that are kept for workers, beyond those that are not written yet
LOOKED_AT: Final = 256  # events at the end of a log that are looked at for the last one of a serial step, at a time


class Tail:
    """What of a run's log is not written yet, and some more.

    Args:
        count: how many events there are in the store.
    """

    def __init__(self, count: int) -> None:
        self.start = count  # the number of events before the first one that is here
        self.records: list[EventRecord] = []
        self._written = count

    @property
    def total(self) -> int:
        """How many events there are."""
        return self.start + len(self.records)

    def skip(self, count: int) -> None:
        """So many more are in the store at once, and none is kept here."""
        self.start += count

    def add(self, records: Sequence[EventRecord]) -> None:
        self.records += records

    def since(self, number: int, most: int) -> Sequence[EventRecord] | None:
        """Events from that number on, ``most`` at the most; None: they are in the store."""
        at = number - self.start
        return None if at < 0 else self.records[at : at + most]

    def wrote(self, count: int) -> None:
        """So many more are in the store."""
        self._written += count
        if self._written - self.start > 2 * KEPT:
            self._forget(KEPT)

    def leave(self) -> None:
        """Few will ask any more: the store has it."""
        self._forget(0)

    def _forget(self, kept: int) -> None:
        spare = max(0, self._written - self.start - kept)
        del self.records[:spare]
        self.start += spare


def restore_serial_order(state: RunState, store: CheckpointStore, run_id: str, total: int) -> None:
    """A run goes on: where its serial steps wrote last (``SerialOrder.last``). That is among the last events that they
    wrote, for they write in order, but for the few that come late and have read nothing.

    Args:
        total: how many events there are in the store.
    """
    serial = {spec.name for spec in state.plan.graph.nodes if spec.serial}
    while serial and total:
        since = max(0, total - LOOKED_AT)
        found = [event.order for event in store.events(run_id, since, total - since) if event.node in serial]
        if found and state.serial_order is not None:
            state.serial_order.last = max(found)
            return
        total = since
