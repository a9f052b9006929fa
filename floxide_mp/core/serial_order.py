"""``SerialOrder``: which serial step of a run may start, and where its writes stand in the run's log.

Serial steps read what was written, and write what follows from it: a counter, a balance. So that no such write is lost,
each must stand behind those that its step has read. It does where serial steps run in the run's order, as on one
process: so one waits while something is alive that may come to a serial step before it. Where that cannot be waited for
(see ``SerialOrder``), the writes of one that comes late and has read the context stand behind those that are there.
"""

from __future__ import annotations

import heapq
from bisect import bisect, insort
from collections.abc import Mapping
from itertools import count
from typing import Final

from ..types import WorkItemStatus
from .plan import Plan
from .records import Chunk, ItemRecord
from .types import OrderKey, offset_key

LATE: Final = 1 << 61  # branch numbers from here on are those of writes that came late; others are below 2 ** 61


class _Span:
    """The items of a block that are not over and have not stepped out of it: those from ``low`` on, but for gaps."""

    __slots__ = ("_gaps", "_order", "end", "first", "low")

    def __init__(self, block: Chunk) -> None:
        self.first = self.low = block.first
        self.end = block.first + len(block)
        self._order = block.order
        self._gaps: dict[int, int] = {}

    def leave(self, first: int, stop: int) -> None:
        self._gaps[first] = stop
        while self.low in self._gaps:
            self.low = self._gaps.pop(self.low)

    def numbers(self) -> set[int]:
        """Of all that are left."""
        left = set(range(self.low, self.end))
        return left.difference(*(range(first, stop) for first, stop in self._gaps.items()))

    @property
    def order(self) -> OrderKey:
        """That of the first that is left."""
        return offset_key(self._order, self.low - self.first)


class SerialOrder:
    """See the module.

    Not waited for: a join of the run (it may come behind all of this), what an iterator or a source of input has not
    given yet (it may never end), what a batch does not let in yet, what failed for good and may be tried again when the
    run is resumed.

    Args:
        plan: the graph, in which there is a serial node.
        items: the unfinished items of the run, but for those in blocks.

    Attributes:
        last: the last order key under which a serial step wrote.
        looked: whether the step whose writes come next has read the context.
    """

    def __init__(self, plan: Plan, items: Mapping[int, ItemRecord]) -> None:
        self.last: OrderKey | None = None
        self.looked = False
        self._steps = plan.steps_to_serial
        self._items = items
        self._exempt: set[int] = set()
        self._spans: dict[int, _Span] = {}  # by the first id of the block, as long as one of its items is there
        self._starts: list[int] = []  # these ids, in order
        # The first key that a serial step may have that comes of an item: (depth, path, number, item). Those of items
        # that are gone, and those of spans that have come further, are mended when they are at the top.
        self._heap: list[tuple[int, tuple[int, ...], int, ItemRecord | _Span]] = []
        self._numbers = count()

    # -- what is alive -------------------------------------------------------------------------------

    def add(self, item: ItemRecord) -> None:
        """An item may start, or is running."""
        steps = self._steps[item.place]
        if steps >= 0:
            depth, path = item.order
            heapq.heappush(self._heap, (depth + steps, path, next(self._numbers), item))

    def add_block(self, block: Chunk) -> None:
        """As ``add``, of the items of a block."""
        steps = self._steps[block.place]
        if steps >= 0:
            span = self._spans[block.first] = _Span(block)
            insort(self._starts, block.first)
            depth, path = block.order
            heapq.heappush(self._heap, (depth + steps, path, next(self._numbers), span))

    def leave_block(self, place: int, first: int, count: int) -> None:
        """Items of a block are over, or have stepped out of it: then they are added by themselves."""
        if self._steps[place] < 0:
            return
        at = bisect(self._starts, first) - 1  # they are of one block: what is leased is cut from one
        span = self._spans[self._starts[at]]
        span.leave(first, first + count)
        if span.low >= span.end:
            del self._spans[self._starts.pop(at)]

    def exempt(self, item: ItemRecord) -> None:
        """Nobody waits for it any more, though it is alive."""
        self._exempt.add(item.id)

    # -- who may start, and where it writes ----------------------------------------------------------

    def may_start(self, item: ItemRecord | Chunk) -> bool:
        """Whether nothing that is waited for may come to a serial step before this one."""
        heap = self._heap
        while heap:
            depth, path, number, what = heap[0]
            if isinstance(what, _Span):
                if what.low >= what.end:
                    heapq.heappop(heap)
                    continue
                if (now := what.order[1]) != path:
                    heapq.heapreplace(heap, (depth, now, number, what))
                    continue
            elif not self._waits(what):
                heapq.heappop(heap)
                continue
            return (depth, path) >= item.order
        return True

    def place(self, order: OrderKey) -> OrderKey:
        """The key under which a serial step of that key writes: its own, unless it has read what stands behind that."""
        if self.last is not None and order < self.last:
            if not self.looked:
                return order
            depth, path = self.last
            late = bool(path) and path[-1] >= LATE
            order = depth, (*path[:-1], path[-1] + 1) if late else (*path, LATE)
        self.last = order
        return order

    # -- inside --------------------------------------------------------------------------------------

    def _waits(self, item: ItemRecord) -> bool:
        alive = self._items.get(item.id) is item and item.status is not WorkItemStatus.FAILED
        return alive and item.id not in self._exempt
