"""``ByDepth``: items that may start, of a run whose values take much memory. A part of the core, in the coordinator's
process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .rank import Ranked
from .ready import Queues, Ready
from .records import Block, ItemRecord


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

    def push(self, item: ItemRecord | Block) -> None:
        at = item.order[0], item.place
        ready = self._ready.get(at)
        if ready is None:
            ready = self._ready[at] = Ready()
        ready.push(item)
        self._count += len(item) if type(item) is Block else 1

    def best(self, deepest: bool, held: Callable[[int], bool]) -> ItemRecord | Block | None:
        """The one that goes first, or the block that it is in; None if all wait at places that are ``held``."""
        found = [ready.first() for (_, place), ready in self._ready.items() if not held(place)]
        return min(found, key=lambda item: self.urgency(item, deepest), default=None)

    def urgency(self, item: ItemRecord | Block, deepest: bool) -> tuple[int, object]:
        """Items go in the order of this."""
        if deepest:
            return -item.order[0], item.order
        return (self.level[item.place] if self.level else 0), item.order

    def pop(self, item: ItemRecord | Block, most: int = 1) -> ItemRecord | Block:
        """Take the one that is the ``best``; of a block, up to ``most``."""
        at = item.order[0], item.place
        ready = self._ready[at]
        taken = ready.pop(most)
        if not ready:
            del self._ready[at]
        self._count -= len(taken) if type(taken) is Block else 1
        return taken

    def count(self, held: Callable[[int], bool]) -> int:
        """How many wait at places that are not ``held``."""
        return sum([len(ready) for (_, place), ready in self._ready.items() if not held(place)])
