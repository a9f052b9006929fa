"""``RunLog``: a worker's copy of one run's event log, as far as its steps have looked; what bound contexts talk to."""

from __future__ import annotations

import copy
from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..context import Item
from ..core.records import EventRecord, Order, place
from ..event_log import LoggedEvent
from ..merge import Merge
from . import codec

LAG: Final = 64  # events at the end that are folded anew at each look: where late ones of slower workers come in


_PLAIN: Final = frozenset({str, bytes, int, float, bool, type(None)})


def _logged(record: EventRecord) -> LoggedEvent[Any]:
    return LoggedEvent(codec.decode(record.payload), record.node, record.order, record.index)


class _Fresh(Sequence[LoggedEvent[Any]]):
    """Events decoded anew at each look: what a step does to them is not seen by the worker's next step."""

    def __init__(self, committed: list[EventRecord], own: list[EventRecord]) -> None:
        self._committed = committed
        self._own = own

    def __len__(self) -> int:
        return len(self._committed) + len(self._own)

    def __getitem__(self, at: int) -> LoggedEvent[Any]:  # type: ignore[override]
        at = range(len(self))[at]
        before = len(self._committed)
        return _logged(self._committed[at] if at < before else self._own[at - before])


@dataclass(slots=True)
class _Field:
    """One field's events in the run's order, and the fold of the first ``folded`` of them."""

    places: list[tuple[Order, int]] = field(default_factory=list)
    records: list[EventRecord] = field(default_factory=list)
    events: list[LoggedEvent[Any]] = field(default_factory=list)
    changeable: bool = False  # some event is an object that a step could change
    folded: int = 0
    value: Merge | None = None

    def add(self, record: EventRecord) -> None:
        logged = _logged(record)
        at = bisect(self.places, place(record))
        self.places.insert(at, place(record))
        self.records.insert(at, record)
        self.events.insert(at, logged)
        if type(logged.event) not in _PLAIN:
            self.changeable = True
        if at < self.folded:
            self.folded, self.value = 0, None


class RunLog:
    """The log of one run and the step that is running (``context.Step``).

    A write is encoded at once: what the step does to the object afterwards is not part of it, and what cannot be
    pickled raises where it was written. A look fetches what is new, so it costs nothing per event already seen.

    Args:
        run_id, seed: of the run.
        fetch: gives the run's committed events from a number on.
        identify: gives the id of the item that runs, where it came without one.

    Attributes:
        writes: of the step that is running.
        asked: whether it has looked, or wanted to know its id.
    """

    cancelled: Callable[[], bool]

    def __init__(
        self, run_id: str, seed: int, fetch: Callable[[int], Sequence[EventRecord]], identify: Callable[[], int]
    ) -> None:
        self._run_id, self._seed = run_id, seed
        self._fetch = fetch
        self._identify = identify
        self._about: tuple[str, int, int, BaseException | None, Order]
        self.asked = False
        self._seen = 0
        self._fields: dict[int, _Field] = {}
        self.writes: list[tuple[int, bytes]] = []

    def begin(self, node: str, item_id: int, attempt: int, error: BaseException | None, order: Order) -> None:
        """A step of this item is run from now on."""
        self._about = node, item_id, attempt, error, order
        self.asked = False

    @property
    def item(self) -> Item:
        node, item_id, attempt, error, order = self._about
        if not item_id:
            self.asked = True
            item_id = self._identify()
            self._about = node, item_id, attempt, error, order
        return Item(self._run_id, node, item_id, attempt, error, order, self._seed)

    def write(self, field: int, value: Any) -> None:
        self.writes.append((field, codec.encode(value, "event")))

    def read(self, field: int) -> Sequence[LoggedEvent[Any]]:
        known, own = self._look(field), self._own(field)
        if known.changeable:
            return _Fresh(known.records, own)
        return [*known.events, *map(_logged, own)] if own else known.events

    def fold(self, field: int, initial: Merge) -> Merge:
        known = self._look(field)
        settled = len(known.events) - LAG
        if settled > known.folded:
            known.value = copy.deepcopy(initial) if known.value is None else known.value
            known.value.fold(known.events[known.folded : settled])
            known.folded = settled
        value = copy.deepcopy(initial if known.value is None else known.value)
        value.fold(known.events[known.folded :])
        value.fold(map(_logged, self._own(field)))
        return value

    def _look(self, field: int) -> _Field:
        self.asked = True
        new = self._fetch(self._seen)
        self._seen += len(new)
        for record in new:
            self._fields.setdefault(record.field, _Field()).add(record)
        return self._fields.setdefault(field, _Field())

    def _own(self, field: int) -> list[EventRecord]:
        """What the running step has written to the field."""
        node, _, _, _, order = self._about
        return [
            EventRecord(order, index, node, field, payload)
            for index, (written, payload) in enumerate(self.writes)
            if written == field
        ]
