"""The items that may start, in the order in which they do: a part of the core, in the coordinator's process.

``Ready`` is first in, first out. ``Rank`` puts those first whose places begin the longest way to the end of the run
(the upward rank of HEFT: Topcuoglu, Hariri, Wu, "Performance-Effective and Low-Complexity Task Scheduling for
Heterogeneous Computing", 2002). ``ByDepth`` is for a run whose values take much memory.

What comes of a run does not depend on any of it, only how long two workers or more take.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Generic, TypeVar

from .plan import Plan
from .records import Chunk, ItemRecord

K = TypeVar("K", bound=Hashable)


class Ready:
    """Items come nearly in order, so most just queue up; a heap takes those that must go before the queue's last.

    So an item costs the same whether ten or a million wait, and a block costs what an item does.
    """

    __slots__ = ("_count", "_heap", "_queue")

    def __init__(self) -> None:
        self._queue: deque[ItemRecord | Chunk] = deque()
        self._heap: list[ItemRecord | Chunk] = []
        self._count = 0

    def push(self, item: ItemRecord | Chunk) -> None:
        self._count += len(item) if type(item) is Chunk else 1
        if not self._queue or self._queue[-1].order < item.order:
            self._queue.append(item)
        else:
            heapq.heappush(self._heap, item)

    def first(self) -> ItemRecord | Chunk:
        """The next one, or the block that it is in. There must be one, as for ``pop``."""
        if not self._heap or (self._queue and self._queue[0] < self._heap[0]):
            return self._queue[0]
        return self._heap[0]

    def yields_to(self, item: ItemRecord | Chunk) -> bool:
        """Whether that one goes before all of these. There must be one."""
        return item.order < self.first().order

    def pop(self, most: int = 1) -> ItemRecord | Chunk:
        """The next one; of a block, up to ``most``."""
        queued = not self._heap or bool(self._queue and self._queue[0] < self._heap[0])
        item = self._queue.popleft() if queued else heapq.heappop(self._heap)
        if type(item) is not Chunk:
            self._count -= 1
            return item
        if len(item) > most:
            item, rest = item.split(most)
            if queued:
                self._queue.appendleft(rest)
            else:
                heapq.heappush(self._heap, rest)
        self._count -= len(item)
        return item

    def __len__(self) -> int:
        return self._count

    def entries(self) -> Iterator[ItemRecord | Chunk]:
        """All of them, in no order, blocks whole."""
        yield from (*self._queue, *self._heap)

    def __iter__(self) -> Iterator[ItemRecord]:
        """All of them, in no order."""
        for item in (*self._queue, *self._heap):
            if isinstance(item, Chunk):
                yield from item.items()
            else:
                yield item


class Queues(Generic[K]):
    """``Ready`` queues by some key, none of which is empty: what ``Ranked`` and ``ByDepth`` are made of."""

    __slots__ = ("_count", "_ready")

    def __init__(self) -> None:
        self._ready: dict[K, Ready] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def entries(self) -> Iterator[ItemRecord | Chunk]:
        """All of them, in no order, blocks whole."""
        for ready in self._ready.values():
            yield from ready.entries()

    def __iter__(self) -> Iterator[ItemRecord]:
        """All of them, in no order."""
        for ready in self._ready.values():
            yield from ready


def upward(plan: Plan, cost: Sequence[float]) -> list[float]:
    """Seconds by place, from the beginning of a step there to the end of all that comes of it, along the longest way.

    Any arm may be taken, and nothing fails. What is in a loop or behind one has 0: nobody knows how often it goes
    round, and if it never ended and went before other places, what is there would wait for ever.

    Args:
        cost: seconds per step by node.
    """
    rank = [0.0] * len(plan.places)
    for place, after in plan.ways:
        rank[place] = cost[plan.places[place].node] + max([rank[to] for to in after], default=0.0)
    return rank


def levels(plan: Plan, cost: Sequence[float | None]) -> list[int] | None:
    """By place, how many ranks go before its own. None: no step leads to several places, and the order of the items is
    as good.

    Args:
        cost: seconds per step by node, as far as known. Of the others the mean is assumed; if there is none, they are
            alike, and the rank is a number of steps.
    """
    if all(len(after) < 2 for _, after in plan.ways):
        return None
    known = [seconds for seconds in cost if seconds is not None]
    usual = sum(known) / len(known) if known else 1.0
    rank = upward(plan, [usual if seconds is None else seconds for seconds in cost])
    numbers = {seconds: number for number, seconds in enumerate(sorted(set(rank), reverse=True))}
    return [numbers[seconds] for seconds in rank]


class Ranked(Queues[int]):
    """As ``Ready``, but items of a lower level go first, and the order counts among those of one level.

    Every item gets its turn: of the places that are ranked above another's, none is in a loop, so only so many items
    can come there as there are ways from the run's input.

    Args:
        level: by place.
    """

    __slots__ = ("_levels", "level")

    def __init__(self, level: Sequence[int]) -> None:
        super().__init__()  # by level
        self.level = level
        self._levels: list[int] = []  # a heap of these levels

    def push(self, item: ItemRecord | Chunk) -> None:
        level = self.level[item.place]
        ready = self._ready.get(level)
        if ready is None:
            ready = self._ready[level] = Ready()
            heapq.heappush(self._levels, level)
        ready.push(item)
        self._count += len(item) if type(item) is Chunk else 1

    def first(self) -> ItemRecord | Chunk:
        """The next one, or the block that it is in. There must be one, as for ``pop``."""
        return self._ready[self._levels[0]].first()

    def yields_to(self, item: ItemRecord | Chunk) -> bool:
        """Whether that one goes before all of these. There must be one."""
        level, first = self.level[item.place], self._levels[0]
        return level < first or (level == first and item.order < self.first().order)

    def pop(self, most: int = 1) -> ItemRecord | Chunk:
        """The next one; of a block, up to ``most``."""
        level = self._levels[0]
        ready = self._ready[level]
        item = ready.pop(most)
        if not ready:
            del self._ready[heapq.heappop(self._levels)]
        self._count -= len(item) if type(item) is Chunk else 1
        return item


class ByDepth(Queues[tuple[int, int]]):
    """As ``Ready`` and ``Ranked``, but the deepest item can be had as well, and some places can be left out.

    Finding an item takes as long as there are depths and places at which some wait. So a run has this only from when
    its values took much memory, or a step made a large one (``Memory``); others pay nothing.

    Args:
        before: where the items have waited so far; it is emptied.
        level: by place, as of ``Ranked``; empty if items go by their order alone.
    """

    __slots__ = ("level",)

    def __init__(self, before: Ready | Ranked, level: Sequence[int] = ()) -> None:
        super().__init__()  # by depth and place
        self.level = level
        while before:
            self.push(before.pop(len(before)))

    def push(self, item: ItemRecord | Chunk) -> None:
        at = item.order[0], item.place
        ready = self._ready.get(at)
        if ready is None:
            ready = self._ready[at] = Ready()
        ready.push(item)
        self._count += len(item) if type(item) is Chunk else 1

    def best(self, deepest: bool, held: Callable[[int], bool]) -> ItemRecord | Chunk | None:
        """The one that goes first, or the block that it is in; None if all wait at places that are ``held``."""
        found = [ready.first() for (_, place), ready in self._ready.items() if not held(place)]
        return min(found, key=lambda item: self.urgency(item, deepest), default=None)

    def urgency(self, item: ItemRecord | Chunk, deepest: bool) -> tuple[int, object]:
        """Items go in the order of this."""
        if deepest:
            return -item.order[0], item.order
        return (self.level[item.place] if self.level else 0), item.order

    def pop(self, item: ItemRecord | Chunk, most: int = 1) -> ItemRecord | Chunk:
        """Take the one that is the ``best``; of a block, up to ``most``."""
        at = item.order[0], item.place
        ready = self._ready[at]
        taken = ready.pop(most)
        if not ready:
            del self._ready[at]
        self._count -= len(taken) if type(taken) is Chunk else 1
        return taken

    def count(self, held: Callable[[int], bool]) -> int:
        """How many wait at places that are not ``held``."""
        return sum([len(ready) for (_, place), ready in self._ready.items() if not held(place)])
