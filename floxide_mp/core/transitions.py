"""The state diagram, as data. ``state`` moves items and runs only along these arrows; docs are drawn from them."""

from __future__ import annotations

import enum
from typing import Final

from ..types import RunStatus, WorkItemStatus


class ItemEvent(enum.Enum):
    """What can happen to an item."""

    CLAIMED = "claimed"
    SUCCEEDED = "succeeded"
    HELD = "held"
    YIELDED = "gave a portion"
    RETRIED = "failed, to be tried again"
    FAILED = "failed for good"
    RELEASED = "lease lost"
    DUE = "back-off over"
    RESUMED = "run resumed"

    __hash__ = object.__hash__  # looked up twice a step; Enum's own is written in Python


class RunEvent(enum.Enum):
    """What can happen to a run."""

    ITEM_FAILED = "an item failed for good"
    CANCEL = "cancel asked"
    PAUSE = "pause asked"
    RESUME = "resume asked"
    TIMED_OUT = "time-out of the run"
    IDLE = "nothing is alive"  # with work left over, in a run that is ending: nothing is leased
    STUCK = "nothing is alive, but items are held"
    LEFT = "nothing can go on but what failed"
    BROKEN = "a fault of this package or of the store"


class Phase(enum.Enum):
    """A run's state. All but RUNNING start nothing; those that are ending, and PAUSED, still finish what is running."""

    RUNNING = "running"
    PAUSED = "paused"
    FAILING = "failing"
    CANCELLING = "cancelling"
    EXPIRING = "expiring"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    BROKEN = "broken"  # failed, with a state that cannot be relied on: only a store could take it up again


_PENDING, _LEASED, _WAITING = WorkItemStatus.PENDING, WorkItemStatus.IN_PROGRESS, WorkItemStatus.WAITING_RETRY

ITEM: Final[dict[tuple[WorkItemStatus, ItemEvent], WorkItemStatus]] = {
    (_PENDING, ItemEvent.CLAIMED): _LEASED,
    (_LEASED, ItemEvent.SUCCEEDED): WorkItemStatus.COMPLETED,
    (_LEASED, ItemEvent.HELD): WorkItemStatus.HELD,
    (_LEASED, ItemEvent.YIELDED): _PENDING,
    (_LEASED, ItemEvent.RETRIED): _WAITING,
    (_LEASED, ItemEvent.FAILED): WorkItemStatus.FAILED,
    (_LEASED, ItemEvent.RELEASED): _PENDING,
    (_WAITING, ItemEvent.DUE): _PENDING,
    (_WAITING, ItemEvent.RESUMED): _PENDING,
    (WorkItemStatus.FAILED, ItemEvent.RESUMED): _PENDING,
}

RUN: Final[dict[tuple[Phase, RunEvent], Phase]] = {
    (Phase.RUNNING, RunEvent.IDLE): Phase.COMPLETED,
    (Phase.RUNNING, RunEvent.STUCK): Phase.FAILED,
    (Phase.RUNNING, RunEvent.LEFT): Phase.FAILED,
    (Phase.RUNNING, RunEvent.PAUSE): Phase.PAUSED,
    (Phase.RUNNING, RunEvent.ITEM_FAILED): Phase.FAILING,
    (Phase.RUNNING, RunEvent.TIMED_OUT): Phase.EXPIRING,
    (Phase.RUNNING, RunEvent.CANCEL): Phase.CANCELLING,
    (Phase.PAUSED, RunEvent.IDLE): Phase.COMPLETED,
    (Phase.PAUSED, RunEvent.STUCK): Phase.FAILED,
    (Phase.PAUSED, RunEvent.LEFT): Phase.FAILED,
    (Phase.PAUSED, RunEvent.RESUME): Phase.RUNNING,
    (Phase.PAUSED, RunEvent.ITEM_FAILED): Phase.FAILING,
    (Phase.PAUSED, RunEvent.CANCEL): Phase.CANCELLING,
    (Phase.FAILING, RunEvent.ITEM_FAILED): Phase.FAILING,
    (Phase.FAILING, RunEvent.TIMED_OUT): Phase.EXPIRING,
    (Phase.FAILING, RunEvent.CANCEL): Phase.CANCELLING,
    (Phase.FAILING, RunEvent.IDLE): Phase.FAILED,
    (Phase.EXPIRING, RunEvent.ITEM_FAILED): Phase.EXPIRING,
    (Phase.EXPIRING, RunEvent.CANCEL): Phase.CANCELLING,
    (Phase.EXPIRING, RunEvent.IDLE): Phase.FAILED,
    (Phase.CANCELLING, RunEvent.ITEM_FAILED): Phase.CANCELLING,
    (Phase.CANCELLING, RunEvent.CANCEL): Phase.CANCELLING,
    (Phase.CANCELLING, RunEvent.IDLE): Phase.CANCELLED,
    (Phase.FAILED, RunEvent.RESUME): Phase.RUNNING,
    # Also from where a run ends: that it has may be what could not be written.
    **{(phase, RunEvent.BROKEN): Phase.BROKEN for phase in Phase if phase is not Phase.BROKEN},
}

STATUS: Final[dict[Phase, RunStatus]] = {
    Phase.RUNNING: RunStatus.RUNNING,
    Phase.PAUSED: RunStatus.PAUSED,
    Phase.FAILING: RunStatus.FAILING,
    Phase.EXPIRING: RunStatus.EXPIRING,
    Phase.CANCELLING: RunStatus.CANCELLING,
    Phase.COMPLETED: RunStatus.COMPLETED,
    Phase.FAILED: RunStatus.FAILED,
    Phase.CANCELLED: RunStatus.CANCELLED,
    Phase.BROKEN: RunStatus.FAILED,
}

STOPPING: Final = frozenset({Phase.CANCELLING, Phase.EXPIRING})  # what fails now may do so because it is to stop
ENDS: Final = {Phase.FAILING: Phase.FAILED, Phase.EXPIRING: Phase.FAILED, Phase.CANCELLING: Phase.CANCELLED}
"""Where a run that is ending comes to; as soon as nobody works on it, if its program is gone."""
FINAL: Final = frozenset({Phase.COMPLETED, Phase.FAILED, Phase.CANCELLED, Phase.BROKEN})


def diagrams() -> list[str]:
    """The two tables as Mermaid state diagrams: those in ``docs/states.md``."""
    drawn = []
    for table in (ITEM, RUN):
        arrows = [f"    {_word(a)} --> {_word(b)}: {fact.value}" for (a, fact), b in table.items()]
        drawn.append("\n".join(["stateDiagram-v2", *arrows]) + "\n")
    return drawn


def _word(state: enum.Enum) -> str:
    return str(state.name).capitalize()
