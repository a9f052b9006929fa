"""Puts the rooms together: which engine a coordinator has, and what lets others in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..coordinator.coordinator import Coordinator, ExternalLoops
from ..coordinator.external import Desks
from ..coordinator.scheduler import Ledger
from ..ports import Door, Engine
from ..worker.external_loop import Guest, Guests

if TYPE_CHECKING:
    from ..engines.processes.preparation import Preparation
    from ..engines.processes.spawn import Hatchling


def engine_for(
    ledger: Ledger, workers: int, preparation: Preparation | None = None, hatchling: Hatchling | None = None
) -> Engine:
    """The engine for a number of workers, the first of which may have been started already, from ``preparation``."""
    if workers == 0:  # either engine is imported by those alone who use it
        from ..engines.inline import InlineEngine

        return InlineEngine(ledger)
    from ..engines.processes import ProcessEngine

    return ProcessEngine(ledger, workers, preparation=preparation, hatchling=hatchling)


def door_for(desks: Desks) -> Door:
    """What lets a user's own worker loops in other processes in."""
    from ..engines.processes.listener import Listener

    return Listener(desks)


def loops_for(desks: Desks) -> ExternalLoops:
    """The worker loops of the user's own that are in this process."""

    def begin(worker_id: int) -> Guest:
        desk, board = desks.joined(worker_id)
        return Guest(desk, board, desks.retry)

    return Guests(begin)


Coordinator.__engine__ = staticmethod(engine_for)
Coordinator.__door__ = staticmethod(door_for)
Coordinator.__loops__ = staticmethod(loops_for)

__all__ = ["Coordinator", "door_for", "engine_for", "loops_for"]
