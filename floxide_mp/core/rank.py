"""Who goes first of the items that may start: those of the places that the longest way to the end of the run begins at
(the upward rank of HEFT: Topcuoglu, Hariri, Wu, "Performance-Effective and Low-Complexity Task Scheduling for
Heterogeneous Computing", 2002).

What comes of a run does not depend on it, only how long two workers or more take.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from .plan import Plan
from .ready import Queues, Ready
from .records import Block, ItemRecord


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

    def push(self, item: ItemRecord | Block) -> None:
        level = self.level[item.place]
        ready = self._ready.get(level)
        if ready is None:
            ready = self._ready[level] = Ready()
            heapq.heappush(self._levels, level)
        ready.push(item)
        self._count += len(item) if type(item) is Block else 1

    def first(self) -> ItemRecord | Block:
        """The next one, or the block that it is in. There must be one, as for ``pop``."""
        return self._ready[self._levels[0]].first()

    def yields_to(self, item: ItemRecord | Block) -> bool:
        """Whether that one goes before all of these. There must be one."""
        level, first = self.level[item.place], self._levels[0]
        return level < first or (level == first and item.order < self.first().order)

    def pop(self, most: int = 1) -> ItemRecord | Block:
        """The next one; of a block, up to ``most``."""
        level = self._levels[0]
        ready = self._ready[level]
        item = ready.pop(most)
        if not ready:
            del self._ready[heapq.heappop(self._levels)]
        self._count -= len(item) if type(item) is Block else 1
        return item
