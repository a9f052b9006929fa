"""``Index``: which blocks of unfinished items a run has on disk, for the owner of the store."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence

from .packing import Range, common, merged, pack_ranges, total
from .row_codec import Row


class Index:
    """The blocks, and which of their items are gone: finished, or in rows of their own since."""

    def __init__(self, found: Iterable[tuple[int, int, Sequence[Range]]] = ()) -> None:
        """``found``: first item, count and what is gone, of each."""
        self._starts: list[int] = []
        self._stops: dict[int, int] = {}
        self._gone: dict[int, Sequence[Range]] = {}
        for first, count, gone in found:
            self.add(first, count)
            if gone:
                self._gone[first] = gone

    def add(self, first: int, count: int) -> None:
        """One more. It has no number in common with another one, not even one that is gone."""
        insort(self._starts, first)
        self._stops[first] = first + count

    def spans(self, number: int) -> bool:
        """Whether a block has, or had, an item of that number."""
        place = bisect_right(self._starts, number) - 1
        return place >= 0 and number < self._stops[self._starts[place]]

    def take_out(self, ranges: Sequence[Range]) -> tuple[list[Range], list[int], list[int]]:
        """These items are gone from now on. ``ranges`` as ``merged`` gives them.

        Returns:
            those that are in no block; blocks of which something is left, by first items; those with nothing left.
        """
        outside: list[Range] = []
        taken: dict[int, list[Range]] = {}
        for start, stop in ranges:
            while start < stop:
                place = bisect_right(self._starts, start)
                first = self._starts[place - 1] if place else start
                if place and start < self._stops[first]:
                    end = min(stop, self._stops[first])
                    taken.setdefault(first, []).append((start, end))
                else:
                    end = min(stop, self._starts[place]) if place < len(self._starts) else stop
                    outside.append((start, end))
                start = end
        changed: list[int] = []
        empty: list[int] = []
        for first, found in taken.items():
            before = self._gone.get(first, ())
            outside += common(found, before)  # they have stepped out
            gone = merged((*before, *found))
            if gone == [(first, self._stops[first])]:
                empty.append(first)
                self._gone.pop(first, None)
                del self._stops[first], self._starts[bisect_left(self._starts, first)]
            elif gone != before:
                changed.append(first)
                self._gone[first] = gone
        return merged(outside), changed, empty

    def gone_row(self, run: int, first: int) -> Row:
        """What is gone of a block, as a row without its seal."""
        gone = self._gone[first]
        return run, first, self._stops[first] - first - total(gone), pack_ranges(gone, first)
