"""``RunLog``: a worker's copy of one run's event log, as far as its steps have looked; what bound contexts talk to."""

from __future__ import annotations

import copy
from bisect import bisect, insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from typing import Any, Final

from ..context import Item
from ..core.terms import Order, Packed
from ..event_log import LoggedEvent
from ..merge import Merge
from ..ports import Entry, EventPage
from . import codec, large

LAG: Final = 64  # events at the end that are folded anew at each look: where late ones of slower workers come in
FEW: Final = 16  # new events that are put in their places one by one

_number: Final = itemgetter(3)
_payload: Final = itemgetter(4)


def _logged(entry: Entry) -> LoggedEvent[Any]:
    order, index, node, _, payload = entry
    return LoggedEvent(codec.decode(payload), node, order, index)


def pages(since: int, fetch: Callable[[int], EventPage]) -> Iterator[Sequence[Entry]]:
    """A run's events from number ``since`` on."""
    more = True
    while more:
        entries, more = fetch(since)
        if not entries:
            return
        yield entries
        since += len(entries)


class _Fresh(Sequence[LoggedEvent[Any]]):
    """Events decoded anew at each look: what a step does to them is not seen by the worker's next step."""

    def __init__(self, committed: list[Entry], own: list[Entry]) -> None:
        self._committed = committed
        self._own = own

    def __len__(self) -> int:
        return len(self._committed) + len(self._own)

    def __getitem__(self, at: int) -> LoggedEvent[Any]:  # type: ignore[override]
        at = range(len(self))[at]
        before = len(self._committed)
        return _logged(self._committed[at] if at < before else self._own[at - before])

    def __iter__(self) -> Iterator[LoggedEvent[Any]]:
        return map(_logged, chain(self._committed, self._own))


@dataclass(slots=True)
class _Field:
    """One field's events in the run's order, and the fold of the first ``folded`` of them."""

    entries: list[Entry] = field(default_factory=list)
    folded: int = 0
    value: Merge | None = None

    def add(self, new: list[Entry]) -> None:
        """Put them in their places. No two entries have the same place, so what is behind it is never compared."""
        at = bisect(self.entries, min(new))
        if len(new) <= FEW:
            for entry in new:
                insort(self.entries, entry)
        else:
            self.entries[at:] = sorted(self.entries[at:] + new)  # which takes little: both are in order, or nearly
        if at < self.folded:
            self.folded, self.value = 0, None


class RunLog:
    """The log of one run and the step that is running (``context.Step``).

    A write is encoded at once: what the step does to the object afterwards is not part of it, and what cannot be
    pickled raises where it was written. A look fetches what is new, so it costs nothing per event already seen.

    Args:
        run_id, seed: of the run.
        fetch: gives the run's committed events from a number on, a page at a time.
        identify: gives the id of the item that runs, where it came without one.

    Attributes:
        writes: of the step that is running.
        asked: whether it has looked, or wanted to know its id.
    """

    cancelled: Callable[[], bool]

    def __init__(self, run_id: str, seed: int, fetch: Callable[[int], EventPage], identify: Callable[[], int]) -> None:
        self._run_id, self._seed = run_id, seed
        self._fetch = fetch
        self._identify = identify
        self._about: tuple[str, int, int, BaseException | None, Order]
        self.asked = False
        self._seen = 0
        self._fields: dict[int, _Field] = {}
        self.writes: list[tuple[int, Packed]] = []

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
        self.writes.append((field, large.share(value, "event")))

    def read(self, field: int) -> Sequence[LoggedEvent[Any]]:
        return _Fresh(self._look(field).entries, self._own(field))

    def values(self, field: int) -> Iterator[Any]:
        return codec.decode_each(list(map(_payload, chain(self._look(field).entries, self._own(field)))))

    def fold(self, field: int, initial: Merge) -> Merge:
        known = self._look(field)
        settled = len(known.entries) - LAG
        if settled > known.folded:
            known.value = copy.deepcopy(initial) if known.value is None else known.value
            known.value.fold(map(_logged, known.entries[known.folded : settled]))
            known.folded = settled
        value = copy.deepcopy(initial if known.value is None else known.value)
        value.fold(map(_logged, known.entries[known.folded :]))
        value.fold(map(_logged, self._own(field)))
        return value

    def _look(self, field: int) -> _Field:
        self.asked = True
        new: dict[int, list[Entry]] = {}
        seen = self._seen
        for entries in pages(seen, self._fetch):
            seen += len(entries)
            for number in set(map(_number, entries)):
                new.setdefault(number, []).extend([entry for entry in entries if entry[3] == number])
        self._seen = seen
        for number, found in new.items():
            self._fields.setdefault(number, _Field()).add(found)
        return self._fields.setdefault(field, _Field())

    def _own(self, field: int) -> list[Entry]:
        """What the running step has written to the field."""
        node, _, _, _, order = self._about
        return [
            (order, index, node, field, payload)
            for index, (written, payload) in enumerate(self.writes)
            if written == field
        ]
