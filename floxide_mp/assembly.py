"""Puts the rooms together: which engine a coordinator has, and what lets others in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .engines.inline import InlineEngine
from .ports import Door, Engine
from .runtime.coordinator import Coordinator
from .runtime.desk import Desks
from .runtime.ledger import Ledger

if TYPE_CHECKING:
    from .engines.processes.hatch import Hatchling


def engine_for(ledger: Ledger, workers: int, hatchling: Hatchling | None = None) -> Engine:
    """The engine for a number of workers, the first of which may have been started already."""
    if workers == 0:
        return InlineEngine(ledger)
    from .engines.processes import ProcessEngine  # not for an inline run: it costs 20 ms of imports

    return ProcessEngine(ledger, workers, hatchling=hatchling)


def door_for(desks: Desks) -> Door:
    """What lets a user's own worker loops in other processes in."""
    from .engines.processes.listener import Listener

    return Listener(desks)


Coordinator.__engine__ = staticmethod(engine_for)
Coordinator.__door__ = staticmethod(door_for)

__all__ = ["Coordinator", "door_for", "engine_for"]
