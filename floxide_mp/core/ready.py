"""``Ready``: items that may start, first in order first out."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator

from .records import ItemRecord


class Ready:
    """Items come nearly in order, so most just queue up; a heap takes those that must go before the queue's last.

    So an item costs the same whether ten or a million wait.
    """

    __slots__ = ("_heap", "_queue")

    def __init__(self) -> None:
        self._queue: deque[ItemRecord] = deque()
        self._heap: list[ItemRecord] = []

    def push(self, item: ItemRecord) -> None:
        if not self._queue or self._queue[-1].order < item.order:
            self._queue.append(item)
        else:
            heapq.heappush(self._heap, item)

    def first(self) -> ItemRecord:
        """The next one. There must be one, as for ``pop``."""
        if not self._heap or (self._queue and self._queue[0] < self._heap[0]):
            return self._queue[0]
        return self._heap[0]

    def yields_to(self, item: ItemRecord) -> bool:
        """Whether that one goes before all of these. There must be one."""
        return item < self.first()

    def pop(self) -> ItemRecord:
        if not self._heap or (self._queue and self._queue[0] < self._heap[0]):
            return self._queue.popleft()
        return heapq.heappop(self._heap)

    def __len__(self) -> int:
        return len(self._queue) + len(self._heap)

    def __iter__(self) -> Iterator[ItemRecord]:
        """All of them, in no order."""
        yield from self._queue
        yield from self._heap
