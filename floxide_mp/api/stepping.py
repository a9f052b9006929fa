"""The words of people who write a worker loop of their own around ``Workflow.step_distributed``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from .context import Context

if TYPE_CHECKING:
    from ..types import RunInfo, WorkItem


class OutcomeKind(Enum):
    """What became of one attempt at one item."""

    OUTPUT = "output"  # a value left the graph
    PASSED_ON = "passed on"  # all values went to successors, or there were none
    HELD = "held"  # the node returned ``Hold``
    FAILED = "failed"  # the attempt raised or aborted; a retry is the coordinator's decision
    REFUSED = "refused"  # nothing of it is committed: it came too late, or what it needs to begin is not there


@dataclass(frozen=True, slots=True)
class ItemProcessedOutcome:
    """The outcome of one attempt at one item.

    ``kind`` names it. ``terminal`` says that a value left the graph, which is ``output``: the step's value, or the list
    of values where the step was a ``NextAll``. ``error`` is the exception of an attempt that failed or was refused.
    """

    terminal: bool = False
    output: Any = None
    error: BaseException | None = None
    kind: OutcomeKind = OutcomeKind.PASSED_ON


class StepCallbacks:
    """What a worker loop wants to be told. Derive and override; called in the loop's own thread.

    What a callback raises is logged as a warning, once for each loop, and harms neither the item nor the loop.
    """

    def on_started(self, run_id: str, item: WorkItem) -> bool | None:
        """An item was taken and is about to run. Returning False, or raising, is a veto: it goes back as it was.

        The attempt does not count, and whoever asks next gets the item. So that this is somebody else, a loop that
        vetoed pauses for some 20 ms.
        """

    def on_item_processed(self, run_id: str, item: WorkItem, outcome: ItemProcessedOutcome) -> None:
        """The item has run, and its outcome is committed; ``item`` is as it was when it was taken."""

    def on_idle(self) -> None:
        """No item was there to run for as long as the loop waited: ``step_distributed`` returns None."""


@runtime_checkable
class StepBackend(Protocol):
    """What such loops work for: a ``Coordinator``, or in another process what ``coordinator.proxy()`` gave."""

    def info(self, run_id: str) -> RunInfo:
        """How a run stands.

        Raises:
            NotStartedError: there is none of that id.
            FloxideError: the coordinator is closed, or gone.
        """

    def __start_distributed__(
        self, workflow: Any, input: Any, ctx: Context | None, run_id: str | None, **options: Any
    ) -> str:
        """See ``Workflow.start_distributed``."""

    def __step_distributed__(
        self, workflow: Any, worker_id: int, callbacks: StepCallbacks, wait: float
    ) -> tuple[str, Any] | None:
        """See ``Workflow.step_distributed``."""
