"""``Sources``: items whose ``NextAll`` was given an iterator that has more to give than was taken so far.

What it gives is taken in portions, as fast as the run works it off. Between two of them the item is pending, but not
among those that are ready: it is here.
"""

from __future__ import annotations

from bisect import bisect, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from .records import ItemRecord, Scope
from .types import Given, Payload, total_size

MOST_ITEMS: Final = 16384  # of a run that are in work or about to be, from where on nothing more is taken
MOST_BYTES: Final = 64 << 20  # ... or of about that many bytes
LEAST: Final = 16  # ... but no fewer than these, however large they are


@dataclass(slots=True, eq=False)
class Source:
    """One of them.

    Attributes:
        given: what was taken of it.
        scope: that of its successors.
        home: the session of the worker that has the iterator; 0 if nobody has it, and it must be started again.
        size: bytes of a value, as of late.
    """

    item: ItemRecord
    scope: Scope
    given: Given
    home: int = 0
    size: int = 0

    def gave(self, payloads: Sequence[Payload]) -> None:
        """What will come is likely to be as large as this."""
        self.size = total_size(payloads) // len(payloads)

    @property
    def room(self) -> int:
        """More is taken only while fewer items than that are in work."""
        return max(LEAST, min(MOST_ITEMS, MOST_BYTES // (self.size + 1)))


class Sources:
    """Those of one run. ``known``: by item; ``pending``: in order, those that nobody is at."""

    __slots__ = ("known", "pending")

    def __init__(self) -> None:
        self.known: dict[int, Source] = {}
        self.pending: list[ItemRecord] = []

    def add(self, source: Source) -> None:
        self.known[source.item.id] = source

    def get(self, item: int) -> Source | None:
        return self.known.get(item)

    def remove(self, item: int) -> Source | None:
        return self.known.pop(item, None)

    def push(self, item: ItemRecord) -> None:
        """Nobody is at it any more."""
        insort(self.pending, item)

    def first(self, busy: int, session: int | None) -> Source | None:
        """The one that this session, or any, may take more from, when ``busy`` items are in work.

        The last in order: what others gave may be sources as well, and they would never be done otherwise.
        """
        for item in reversed(self.pending):
            source = self.known[item.id]
            if busy < source.room and (session is None or source.home in (0, session)):
                return source
        return None

    def pop(self, source: Source) -> None:
        """Somebody is at it now."""
        del self.pending[bisect(self.pending, source.item) - 1]

    def forsake(self, session: int | None) -> None:
        """The iterators that this session had are gone; None: those of all."""
        for source in self.known.values():
            if session in (None, source.home):
                source.home = 0

    def __len__(self) -> int:
        return len(self.known)

    def __iter__(self) -> Iterator[Source]:
        """All of them, in no order."""
        return iter(self.known.values())
