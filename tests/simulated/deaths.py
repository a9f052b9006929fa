"""Who is to blame when a worker dies: the step that it is at, and if nobody knows of that, the same step next time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from floxide_mp.core.table import STOPPING, Phase
from floxide_mp.core.terms import Order
from floxide_mp.statuses import WorkItemStatus

from .worker import Guest, Worker

if TYPE_CHECKING:
    from .world import World


class Deaths:
    """Those of the workers of one coordinator."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._unblamed: dict[tuple[str, Order], int] = {}  # deaths, ahead, at that step

    def forget(self) -> None:
        """Who died ahead is not stored."""
        self._unblamed.clear()

    def bury(self, worker: Worker) -> None:
        """The ledger is told, and blames whom it must."""
        late, guilty = worker.late, self._guilty(worker)
        blamed = worker.laid_to_rest()
        if guilty and worker.lease is not None:  # unless the run broke when the other leases went back
            guilty = self.world.ledger._runs[worker.lease.run_id].state.phase is not Phase.BROKEN
        hold = self.world.hold
        hold(not guilty or blamed, f"nobody is to blame for the end of {worker}")
        hold(not guilty or self._blames(worker), f"another one is to blame for the end of {worker}")
        if worker.unknown and not late and not blamed and worker.lease is not None and worker.grant is not None:
            where = worker.lease.run_id, worker.grant[3]
            self._unblamed[where] = self._unblamed.get(where, 0) + 1
            hold(self._unblamed[where] < 2, f"{worker} is not the first to die of that, and nobody is to blame")

    def _guilty(self, worker: Worker) -> bool:
        """Whether the item that it is at must be to blame for its end."""
        if worker.lease is None or worker.late or worker.unknown or worker.told or worker.killed:
            return False
        ledger = self.world.ledger
        state = ledger._runs[worker.lease.run_id].state
        return not (state.over or state.phase in STOPPING or ledger._stopping)

    def _blames(self, worker: Worker) -> bool:
        """Whether it is the item that it was at that has an attempt less, if that can be told."""
        assert worker.lease is not None and worker.grant is not None
        number, _, attempt, *_ = worker.grant
        state = self.world.ledger._runs[worker.lease.run_id].state
        if isinstance(worker, Guest):
            return True
        if number not in state.items:  # it has gone to its ``on_failure``
            return number not in {item.id for item in state._ready}
        item = state.items[number]
        return item.attempt > attempt or item.status is WorkItemStatus.FAILED
