"""``StepView``: what the context of one step talks to, in the process that runs the step. It keeps what the step
writes, and ends with the step: a thread that the step left behind still has the context, and must not write into
another step.

The run's committed events, which the steps of a worker share, are in ``run_log``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..context import Item
from ..core.terms import Order, Packed
from ..event_log import LoggedEvent
from ..merge import Merge
from ..ports import Entry, Writes
from . import large
from .fixed import FixedValues
from .run_log import RunLog


class StepView:
    """What one step sees and writes (``context.Step``). All threads that the step started may use it until it is over.

    A write is encoded at once: what the step does to the object afterwards is not part of it, and what cannot be
    pickled raises where it was written.

    Args:
        log: the committed events of the run.
        fixed: the values of its ``Fixed`` fields.
        identify: gives the id of the item that runs, where it came without one.

    Attributes:
        writes: of the step, as (field of the context, payload).
        over: the step is over.
        asked: whether the step has looked at the log, or wanted to know the id of its item.
        saw_cancelled: whether the step has learned that its run is being cancelled, or is out of time.
    """

    def __init__(self, log: RunLog, fixed: FixedValues, identify: Callable[[], int]) -> None:
        self._log = log
        self._fixed = fixed
        self._identify = identify
        self._lock = threading.Lock()  # a write is either before the end of the step, or an error
        self._about: tuple[str, int, int, BaseException | None, Order]
        self._cancelled: Callable[[], bool]
        self._opened: dict[int, Any] = {}  # values of ``Fixed`` fields that the step has looked at
        self.writes: list[tuple[int, Packed]] = []
        self.over = self.asked = self.saw_cancelled = False

    def begin(
        self,
        node: str,
        item_id: int,
        attempt: int,
        error: BaseException | None,
        order: Order,
        cancelled: Callable[[], bool],
    ) -> None:
        """A step of this item is run from now on, or gives its next portion."""
        self._about = node, item_id, attempt, error, order
        self._cancelled = cancelled
        self.over = self.asked = self.saw_cancelled = False
        if self.writes:
            self.writes = []
        if self._opened:
            self._opened = {}

    def end(self) -> None:
        """The step is over: from now on its threads cannot write."""
        with self._lock:
            self.over = True

    @property
    def written(self) -> Writes:
        """What the step has written."""
        return tuple(self.writes) if self.writes else ()

    # -- what the context asks for: in any thread of the step ----------------------------------------

    @property
    def item(self) -> Item:
        self._check()
        node, item_id, attempt, error, order = self._about
        if not item_id:
            self.asked = True
            item_id = self._identify()
            self._about = node, item_id, attempt, error, order
        return Item(self._log.run_id, node, item_id, attempt, error, order, self._log.seed)

    def cancelled(self) -> bool:
        """Whether what still runs of the step had better come to its end."""
        if self.over:
            return True
        if not self._cancelled():
            return False
        self.saw_cancelled = True
        return True

    def write(self, field: int, value: Any) -> None:
        self._check()
        payload = large.share(value, "event")
        with self._lock:
            self._check()
            self.writes.append((field, payload))

    def read(self, field: int) -> Sequence[LoggedEvent[Any]]:
        self._look()
        return self._log.read(field, self._own(field))

    def values(self, field: int) -> Iterator[Any]:
        self._look()
        return self._log.values(field, self._own(field))

    def fold(self, field: int, initial: Merge) -> Merge:
        self._look()
        return self._log.fold(field, initial, self._own(field))

    def fixed(self, field: int, value: Any) -> Any:
        opened = self._opened
        if field in opened:
            return opened[field]
        return opened.setdefault(field, self._fixed.open(field, value))

    # -- inside --------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self.over:
            node, item_id, *_ = self._about
            raise RuntimeError(
                f"the step of {node} that this context belongs to is over (item {item_id}): a thread of a node can use "
                "its context only until the node returns; wait for the thread there (thread.join(), future.result())"
            )

    def _look(self) -> None:
        self._check()
        self.asked = True

    def _own(self, field: int) -> list[Entry]:
        """What the step has written to the field so far."""
        node, _, _, _, order = self._about
        return [
            (order, index, node, field, payload)
            for index, (written, payload) in enumerate(self.writes)
            if written == field
        ]
