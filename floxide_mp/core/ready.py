"""``Ready``: items that may start, first in order first out; and ``Queues``: several of these."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from .records import Block, ItemRecord

K = TypeVar("K", bound=Hashable)


class Ready:
    """Items come nearly in order, so most just queue up; a heap takes those that must go before the queue's last.

    So an item costs the same whether ten or a million wait, and a block costs what an item does.
    """

    __slots__ = ("_count", "_heap", "_queue")

    def __init__(self) -> None:
        self._queue: deque[ItemRecord | Block] = deque()
        self._heap: list[ItemRecord | Block] = []
        self._count = 0

    def push(self, item: ItemRecord | Block) -> None:
        self._count += len(item) if type(item) is Block else 1
        if not self._queue or self._queue[-1].order < item.order:
            self._queue.append(item)
        else:
            heapq.heappush(self._heap, item)

    def first(self) -> ItemRecord | Block:
        """The next one, or the block that it is in. There must be one, as for ``pop``."""
        if not self._heap or (self._queue and self._queue[0] < self._heap[0]):
            return self._queue[0]
        return self._heap[0]

    def yields_to(self, item: ItemRecord | Block) -> bool:
        """Whether that one goes before all of these. There must be one."""
        return item.order < self.first().order

    def pop(self, most: int = 1) -> ItemRecord | Block:
        """The next one; of a block, up to ``most``."""
        queued = not self._heap or bool(self._queue and self._queue[0] < self._heap[0])
        item = self._queue.popleft() if queued else heapq.heappop(self._heap)
        if type(item) is not Block:
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

    def entries(self) -> Iterator[ItemRecord | Block]:
        """All of them, in no order, blocks whole."""
        yield from (*self._queue, *self._heap)

    def __iter__(self) -> Iterator[ItemRecord]:
        """All of them, in no order."""
        for item in (*self._queue, *self._heap):
            if isinstance(item, Block):
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

    def entries(self) -> Iterator[ItemRecord | Block]:
        """All of them, in no order, blocks whole."""
        for ready in self._ready.values():
            yield from ready.entries()

    def __iter__(self) -> Iterator[ItemRecord]:
        """All of them, in no order."""
        for ready in self._ready.values():
            yield from ready
