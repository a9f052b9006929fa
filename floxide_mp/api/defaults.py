"""Puts the rooms together: which engine a coordinator has, and what lets others in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..coordinator.coordinator import Coordinator, ExternalLoops
from ..coordinator.external import ExternalSessions
from ..coordinator.scheduler import Scheduler
from ..ports import Engine, ExternalListener
from ..worker.external_loop import ExternalWorker, ExternalWorkers

if TYPE_CHECKING:
    from ..engines.processes.preparation import Preparation
    from ..engines.processes.spawn import UnassignedWorker


def engine_for(
    scheduler: Scheduler,
    workers: int,
    preparation: Preparation | None = None,
    unassigned: UnassignedWorker | None = None,
) -> Engine:
    """The engine for a number of workers, the first of which may have been started already, from ``preparation``."""
    if workers == 0:  # either engine is imported by those alone who use it
        from ..engines.inline import InlineEngine

        return InlineEngine(scheduler)
    from ..engines.processes import ProcessEngine

    return ProcessEngine(scheduler, workers, preparation=preparation, unassigned=unassigned)


def listener_for(external_sessions: ExternalSessions) -> ExternalListener:
    """What lets a user's own worker loops in other processes in."""
    from ..engines.processes.listener import Listener

    return Listener(external_sessions)


def loops_for(external_sessions: ExternalSessions) -> ExternalLoops:
    """The worker loops of the user's own that are in this process."""

    def begin(worker_id: int) -> ExternalWorker:
        external_session, status_page = external_sessions.joined(worker_id)
        return ExternalWorker(external_session, status_page, external_sessions.retry)

    return ExternalWorkers(begin)


Coordinator.__engine__ = staticmethod(engine_for)
Coordinator.__listener__ = staticmethod(listener_for)
Coordinator.__loops__ = staticmethod(loops_for)

__all__ = ["Coordinator", "engine_for", "listener_for", "loops_for"]
