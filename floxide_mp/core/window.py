"""``Window``: which items of a batch may be in flight, and what becomes of the batch when one of them fails."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")  # an item
E = TypeVar("E")  # an error


class Window(Generic[T, E]):
    """The items of a batch by their number in it; ``size`` of them may be in flight.

    Number n is let in when all up to n - size are done. So which items run before a failure ends the batch is the
    same for any number of workers: those up to the first that fails, and ``size - 1`` behind it.

    Attributes:
        failed: the first item, by number, that failed for good, and its error.
        parked: those not let in yet, in order.
    """

    __slots__ = ("_done", "_low", "failed", "parked", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.failed: tuple[int, E] | None = None
        self.parked: deque[tuple[int, T]] = deque()
        self._low = 0  # all before it are done
        self._done: set[int] = set()  # those behind it that are, too

    def admits(self, number: int) -> bool:
        return number < self._low + self.size

    def park(self, number: int, item: T) -> None:
        self.parked.append((number, item))

    def done(self, number: int) -> Iterator[T]:
        """An item is done; gives those that are let in now."""
        self._done.add(number)
        while self._low in self._done:
            self._done.remove(self._low)
            self._low += 1
        while self.parked and self.admits(self.parked[0][0]):
            yield self.parked.popleft()[1]

    def fail(self, number: int, error: E) -> bool:
        """An item failed for good: nothing is let in on its account. Whether it is the first by number."""
        first = self.failed is None or number < self.failed[0]
        if first:
            self.failed = number, error
        return first

    def restore(self, items: Sequence[tuple[int, T]], begun: Collection[int] = ()) -> Iterator[T]:
        """Take over the unfinished items of a batch, in order; gives those that are let in.

        Args:
            begun: numbers of items that were let in and are not just pending. Where ``size`` was larger before, so many
                as reach up to the last of these stay in flight: they cannot wait for a second time.
        """
        unfinished = {number for number, _ in items}
        blocked = unfinished if self.failed is None else unfinished | {self.failed[0]}
        self._low = min(blocked, default=0)
        self._done = set(range(self._low, max(blocked, default=0))) - blocked
        self.size = max(self.size, max(begun, default=0) - self._low + 1)
        for number, item in items:
            if self.admits(number):
                yield item
            else:
                self.park(number, item)
