"""Puts the rooms together: which engine a coordinator has, and what lets others in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .ports import Door, Engine
from .runtime.coordinator import Coordinator
from .runtime.desk import Desks
from .runtime.ledger import Ledger

if TYPE_CHECKING:
    from .engines.processes.hatch import Hatchling
    from .engines.processes.preparation import Preparation


def engine_for(
    ledger: Ledger, workers: int, preparation: Preparation | None = None, hatchling: Hatchling | None = None
) -> Engine:
    """The engine for a number of workers, the first of which may have been started already, from ``preparation``."""
    if workers == 0:  # either engine is imported by those alone who use it
        from .engines.inline import InlineEngine

        return InlineEngine(ledger)
    from .engines.processes import ProcessEngine

    return ProcessEngine(ledger, workers, preparation=preparation, hatchling=hatchling)


def door_for(desks: Desks) -> Door:
    """What lets a user's own worker loops in other processes in."""
    from .engines.processes.listener import Listener

    return Listener(desks)


Coordinator.__engine__ = staticmethod(engine_for)
Coordinator.__door__ = staticmethod(door_for)

__all__ = ["Coordinator", "door_for", "engine_for"]
