"""Who is to blame when a worker dies: the step that it is at, and if nobody knows of that, the same step next time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from floxide_mp.coordinator.active_run import ActiveRun
from floxide_mp.core.run_state import RunState
from floxide_mp.core.transitions import STOPPING, Phase
from floxide_mp.core.types import OrderKey
from floxide_mp.types import WorkItemStatus

from .worker import External, Worker

if TYPE_CHECKING:
    from .world import World


class Deaths:
    """Those of the workers of one coordinator."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._unblamed: dict[tuple[str, OrderKey], int] = {}  # deaths, ahead, at that step

    def forget(self) -> None:
        """Who died ahead is not stored."""
        self._unblamed.clear()

    def bury(self, worker: Worker) -> None:
        """The scheduler is told, and blames whom it must."""
        late, state = worker.late, self._state(worker)
        guilty = state is not None and self._guilty(worker, state)
        blamed = worker.laid_to_rest()
        hold = self.world.hold
        if guilty and state is not None and state.phase is not Phase.BROKEN:  # when the other leases went back
            hold(blamed, f"nobody is to blame for the end of {worker}")
            hold(self._blames(worker, state), f"another one is to blame for the end of {worker}")
        if worker.unknown and not late and not blamed and worker.lease is not None and worker.grant is not None:
            where = worker.lease.run_id, worker.grant[3]
            self._unblamed[where] = self._unblamed.get(where, 0) + 1
            hold(self._unblamed[where] < 2, f"{worker} is not the first to die of that, and nobody is to blame")

    def _state(self, worker: Worker) -> RunState | None:
        """Of the run that it is at, from before its end: with that the run may be over, and the scheduler keeps no
        state of those.
        """
        run = None if worker.lease is None else self.world.scheduler._runs[worker.lease.run_id]
        return run.state if isinstance(run, ActiveRun) else None

    def _guilty(self, worker: Worker, state: RunState) -> bool:
        """Whether the item that it is at must be to blame for its end."""
        if worker.late or worker.unknown or worker.told or worker.killed:
            return False
        return not (state.over or state.phase in STOPPING or self.world.scheduler._stopping)

    def _blames(self, worker: Worker, state: RunState) -> bool:
        """Whether it is the item that it was at that has an attempt less, if that can be told."""
        assert worker.grant is not None
        number, _, attempt, *_ = worker.grant
        if isinstance(worker, External):
            return True
        if number not in state.items:  # it has gone to its ``on_failure``
            return number not in {item.id for item in state._ready}
        item = state.items[number]
        return item.attempt > attempt or item.status is WorkItemStatus.FAILED
