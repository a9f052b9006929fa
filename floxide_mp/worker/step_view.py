"""What the context of one step talks to, in the process that runs the step. It keeps what the step writes, and ends
with the step: a thread that the step left behind still has the context, and must not write into another step.

The run's committed events, which the steps of a worker share, are in ``context_log``. Here is also what
``ctx.item.seed`` depends on for nodes with a ``seed_key``.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from ..api.context import Context, Item
from ..api.event_log import LoggedEvent
from ..api.merge import Merge
from ..api.node import Call
from ..clock import sleep
from ..core.types import OrderKey, Packed
from ..messages import Entry, Writes
from ..wire import oob_pickle
from .context_log import RunLog
from .fixed_values import FixedValues
from .forks import refuse_write


def keyed(call: Call, seed_key: Callable[[Any], Any]) -> Call:
    """The node as a function of context and value that first says what the item's seed hangs on: the value as it is
    before the node has it.
    """

    def call_with_key(ctx: Context, value: Any) -> Any:
        step = ctx.__dict__["_step"]
        step.touched, step.key = True, text_of(seed_key(value))
        return call(ctx, value)

    return call_with_key


def text_of(key: Any) -> str:
    """A key as a text, which is the same in each process and for equal keys.

    Raises:
        TypeError: it is of a kind of which that cannot be said.
    """
    if isinstance(key, tuple):
        return "(" + ",".join(map(text_of, key)) + ")"
    if isinstance(key, numbers.Integral):
        return repr(int(key))
    if isinstance(key, numbers.Real) and not isinstance(key, numbers.Rational):
        return repr(float(key))
    if isinstance(key, str):
        return repr(str(key))
    if isinstance(key, bytes):
        return repr(bytes(key))
    raise TypeError(f"seed_key must give a number, a text, bytes, or a tuple of such, not a {type(key).__name__}")


class StepView:
    """What one step sees and writes (``context.Step``). All threads that the step started may use it until it is over.

    A write is encoded at once: what the step does to the object afterwards is not part of it, and what cannot be
    pickled raises where it was written.

    Args:
        log: the committed events of the run.
        fixed: the values of its ``Fixed`` fields.
        identify: gives the id of the item that runs, where it came without one.

    Attributes:
        about: the name of the node, the item's id, the attempt, what it is to be rescued from, and its order key.
        cancels: whether the run is being cancelled, or is out of time.
        touched: the step may have left something here apart from writes.
        writes: of the step, as (field of the context, payload).
        looked: values of ``Fixed`` fields that the step has looked at, by number of field.
        over: the step is over.
        key: as of ``Item``.
        asked: whether the step has looked at the log, or wanted to know the id of its item.
        saw_cancelled: whether the step has learned that its run is being cancelled, or is out of time.
    """

    def __init__(self, log: RunLog, fixed: FixedValues, identify: Callable[[], int]) -> None:
        self._log = log
        self._fixed = fixed
        self._identify = identify
        self.about: tuple[str, int, int, BaseException | None, OrderKey]
        self.cancels: Callable[[], bool]
        self.looked: dict[int, Any] = {}
        self.writes: list[tuple[int, Packed]] = []
        self.key: str | None = None
        self._count = -1  # of the writes that were in time, once the step is over
        self.over = self.touched = self.asked = self.saw_cancelled = False

    def begin(
        self,
        node: str,
        item_id: int,
        attempt: int,
        error: BaseException | None,
        order: OrderKey,
        cancelled: Callable[[], bool],
    ) -> None:
        """A step of this item is run from now on."""
        self.about = node, item_id, attempt, error, order
        self.cancels = cancelled
        self.clean()

    def clean(self) -> None:
        """What the step before this one has left here is nothing of it."""
        self.touched = self.asked = self.saw_cancelled = False
        self.key = None
        self.looked = {}
        self.writes = []

    def end(self) -> None:
        """The step is over, or waits until it may give its next portion: from now on its threads cannot write."""
        # In this order, and without a lock, for which each write would take a fifth longer: a thread whose write is in
        # the list before it sees that the step is over finds out by the number whether the write was in time.
        self.over = True
        self._count = len(self.writes)

    def go_on(self) -> None:
        """It gives its next portion."""
        self._count = -1
        self.over = False

    @property
    def written(self) -> Writes:
        """What the step has written."""
        if not self.writes:
            return ()
        return tuple(self.writes[: self._count] if self.over else self.writes)

    def see_all(self, looks: bool) -> None:
        """Have here all that the step could ask for now. ``looks``: its context has fields."""
        _ = self.item
        if looks:
            self._look()
            self._log.see_all()

    def in_child(self) -> None:
        """The step has forked, and this is the child."""
        self.__class__ = ChildView

    @property
    def node(self) -> str:
        """The name of the step's node."""
        return self.about[0]

    # -- what the context asks for: in any thread of the step ----------------------------------------

    @property
    def item(self) -> Item:
        if self.over:
            self._refuse()
        node, item_id, attempt, error, order = self.about
        if not item_id:
            self.touched = self.asked = True
            item_id = self._identify()
            self.about = node, item_id, attempt, error, order
        return Item(self._log.run_id, node, item_id, attempt, error, order, self._log.seed, self.key)

    def cancelled(self) -> bool:
        """Whether what still runs of the step had better come to its end."""
        if self.over:
            return True
        if not self.cancels():
            return False
        self.touched = self.saw_cancelled = True
        return True

    def write(self, field: int, value: Any) -> None:
        if self.over:
            self._refuse()
        entry = field, oob_pickle.share(value, "event")
        self.writes.append(entry)
        if self.over and not self._counts(entry):
            self._refuse()

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
        looked = self.looked
        if field in looked:
            return looked[field]
        self.touched = True
        return looked.setdefault(field, self._fixed.open(field, value))

    # -- inside --------------------------------------------------------------------------------------

    def _counts(self, entry: tuple[int, Packed]) -> bool:
        """Whether a write is one of the step's, which was over soon after it, or before."""
        while self._count < 0:
            sleep(0)  # the thread that ends the step is about to say
        return any(entry is other for other in self.writes[: self._count])

    def _refuse(self) -> NoReturn:
        node, item_id, *_ = self.about
        raise RuntimeError(
            f"the step of {node} that this context belongs to is over (item {item_id}): a thread of a node can use "
            "its context only until the node returns; wait for the thread there (thread.join(), future.result())"
        )

    def _look(self) -> None:
        if self.over:
            self._refuse()
        self.touched = self.asked = True

    def _own(self, field: int) -> list[Entry]:
        """What the step has written to the field so far."""
        node, _, _, _, order = self.about
        return [
            (order, index, node, field, payload)
            for index, (written, payload) in enumerate(self.writes)
            if written == field
        ]


class ChildView(StepView):
    """What a child that the step forked sees of the context: what the step did then. Nobody sees what it writes."""

    def write(self, field: int, value: Any) -> None:
        refuse_write()
        super().write(field, value)
