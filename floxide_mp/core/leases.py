"""Which items may be claimed, and which are leased: a part of the core, in the coordinator's process.

``Memory`` counts how many bytes the values have that are made and not used yet: from some number on, what uses them
goes first. What becomes of the items that are leased is decided in ``run_state``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Final

from ..types import WorkItemStatus
from .plan import Plan
from .progress import Flow
from .ready import ByDepth, Ranked
from .records import Chunk, ItemRecord
from .transitions import ITEM, ItemEvent, Phase
from .types import ErrorRecord

DEEP: Final = 128 << 20  # bytes from where on deeper items go first: of arrays of 50 MB, two workers have some five
GROWTH: Final = 1 << 20  # bytes that a step leaves more than it took, from where on it is one that makes more


class Memory:
    """The bytes of the unfinished items of all runs of a coordinator.

    Args:
        most: from where on steps that make more wait, as long as others of their run are on their way.
        deep: from where on the items of a run go deepest first; at the most half of ``most``.
        growth: by how much a step must add to them to be one of those that make more.

    Attributes:
        used: bytes, as of the last commit of each run.
    """

    __slots__ = ("deep", "growth", "most", "used")

    def __init__(self, most: float = inf, deep: float = DEEP, growth: float = GROWTH) -> None:
        self.most = most
        self.deep = min(deep, most / 2)
        self.growth = min(growth, most / 64)
        self.used = 0


Leaseholder = tuple[int, int]  # (lease, worker)

_CLAIMED: Final = ItemEvent.CLAIMED  # a global is found at once, a member of an enum is looked for


class Leasing(Flow):
    """The items of one run, and who has them.

    Args:
        plan: the graph, with its scopes.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.phase = Phase.RUNNING
        self.leased = 0
        self.inherited = 0  # items up to this number are there since before the run was taken up
        self._opened: dict[int, int] = {}  # nodes whose steps could open an input since then -> the first such item
        self._unopened: list[tuple[ItemRecord, ErrorRecord]] = []  # items whose steps could not
        self.leased_blocks: dict[int, int] = {}  # of these: first -> the first that is not
        self._serial_running = False
        self.memory = Memory()
        self._counted_bytes = 0  # bytes that the memory has of this run
        self._making = 0  # bytes by which the items that are leased are likely to add to it
        self._grown: dict[int, int] = {}  # place -> by how many bytes a step there adds to it, where that is much

    def share(self, memory: Memory) -> None:
        """The memory that counts the bytes of this run and of others; until then the run is alone."""
        self.memory, self._counted_bytes = memory, 0

    @property
    def ready(self) -> int:
        """How many items could be claimed now."""
        if self.phase is not Phase.RUNNING:
            return 0
        if isinstance(self._ready, ByDepth):
            serial = self._serial_item
            count = self._ready.count(self._held_back)
            return count + (serial is not None and not self._held_back(serial.place))
        return len(self._ready) + (self.serial_order is not None and self._serial_item is not None)

    def first(self) -> ItemRecord | Chunk | None:
        """What ``claim`` would give an item of."""
        if self.phase is not Phase.RUNNING:
            return None
        if isinstance(self._ready, ByDepth):
            return self._most_urgent(self._ready)
        if self._serial_next:
            return self._serial_ready.first()
        return self._ready.first() if self._ready else None

    def claim(self, lease: int, worker: int, most: int = 1) -> ItemRecord | Chunk | None:
        """A worker takes the first item that may start now, if there is one; of a block, up to ``most``."""
        if self.phase is not Phase.RUNNING:
            return None
        if isinstance(self._ready, ByDepth):
            return self._claim_by_depth(self._ready, lease, worker, most)
        if self._serial_next:
            item = self._serial_ready.pop()
            self._serial_running = True
        elif self._ready:
            item = self._ready.pop(most)
        else:
            return None
        self._lease(item, lease, worker)
        return item

    def rank(self, level: Sequence[int]) -> None:
        """From now on items go first by the level of their place, and then by order; see ``Ranked``.

        Serial ones keep their order among themselves, for they may read what those before them wrote.
        """
        if isinstance(self._ready, ByDepth):
            self._ready.level = level
            return
        before, self._ready = self._ready, Ranked(level)
        while before:
            self._ready.push(before.pop(len(before)))

    def split_off(self, block: Chunk, lease: int = 0, worker: int = -1) -> list[ItemRecord]:
        """The items of a leased block step out of it: from now on each is on its own, and leased as before."""
        self._unlease_block(block)
        self._left_block(block)
        items = list(block.items())
        for item in items:
            self.items[item.id] = item
            self._lease(item, lease, worker)
            self._enter_order(item)
        self._commit.created += items
        return items

    def status_of(self, number: int, remembered: WorkItemStatus) -> WorkItemStatus:
        """How an item stands; as it is ``remembered`` if it is not here."""
        if number in self.items:
            return self.items[number].status
        leased = any(first <= number < stop for first, stop in self.leased_blocks.items())
        return WorkItemStatus.IN_PROGRESS if leased else remembered

    # -- inside --------------------------------------------------------------------------------------

    @property
    def _deepest(self) -> bool:
        """Whether so many bytes are unfinished that what uses them goes first."""
        return self._used > self.memory.deep

    @property
    def _used(self) -> int:
        """Bytes that are unfinished, and those that the items which are leased are likely to add."""
        return self.memory.used - self._counted_bytes + self.bytes + self._making

    def _held_back(self, place: int) -> bool:
        """Whether a step there would make more while there is too much, and something else may make it less: what is
        leased. If nothing is, there is nothing to wait for.
        """
        grown = self._grown.get(place)
        return grown is not None and self.leased > 0 and self._used + grown > self.memory.most

    def _most_urgent(self, ready: ByDepth) -> ItemRecord | Chunk | None:
        """The item that may start first, or the block that it is in, where the values take much memory."""
        deepest = self._deepest
        best = ready.best(deepest, self._held_back)
        serial = self._serial_item
        if serial is None or self._held_back(serial.place):
            return best
        if best is None or ready.urgency(serial, deepest) < ready.urgency(best, deepest):
            return serial
        return best

    def _claim_by_depth(self, ready: ByDepth, lease: int, worker: int, most: int) -> ItemRecord | Chunk | None:
        item = self._most_urgent(ready)
        if item is None:
            return None
        if self.plan.places[item.place].spec.serial:
            self._serial_ready.pop()
            self._serial_running = True
        else:
            item = ready.pop(item, 1 if item.place in self._grown else most)
        self._lease(item, lease, worker)
        if type(item) is Chunk and item.place in self._grown:
            (item,) = self.split_off(item, lease, worker)  # one by one, for each may add much
        return item

    def _go_by_depth(self) -> None:
        if not isinstance(self._ready, ByDepth):
            self._ready = ByDepth(self._ready, self._ready.level if isinstance(self._ready, Ranked) else ())

    def _grew(self, place: int, grown: int) -> None:
        """A step at a place has left so many bytes more than it took."""
        before = self._grown.get(place)
        grown = grown if before is None else max(grown, (before + grown) // 2)
        if grown > self.memory.growth:
            self._grown[place] = grown
            self._go_by_depth()
        elif before is not None:
            del self._grown[place]

    @property
    def _serial_item(self) -> ItemRecord | Chunk | None:
        """The serial item that may start now, if there is one."""
        if self.serial_order is None or self._serial_running or not self._serial_ready:
            return None
        first = self._serial_ready.first()
        return first if self.serial_order.may_start(first) else None

    def _left_block(self, block: Chunk) -> None:
        """These are among the items of blocks no more."""
        self.in_blocks -= len(block)
        self._commit.ranges.append((block.first, len(block)))
        if self.serial_order is not None:
            self.serial_order.leave_block(block.place, block.first, len(block))

    @property
    def _serial_next(self) -> bool:
        if self.serial_order is None or isinstance(self._ready, ByDepth):
            return False
        serial = self._serial_item
        return serial is not None and (not self._ready or self._ready.yields_to(serial))

    def _lease(self, item: ItemRecord | Chunk, lease: int, worker: int) -> None:
        if isinstance(item, Chunk):
            self.leased_blocks[item.first] = item.first + len(item)
            self.leased += len(item)
        else:
            item.status = ITEM[item.status, _CLAIMED]
            item.lease, item.worker = lease, worker
            self.leased += 1
            if self._grown:
                item.making = self._grown.get(item.place, 0)
                self._making += item.making

    def _unlease(self, item: ItemRecord, fact: ItemEvent) -> None:
        item.status = ITEM[item.status, fact]
        item.lease = 0
        self.leased -= 1
        if item.making:
            self._making -= item.making
            item.making = 0
        if self._serial_running and self.plan.places[item.place].spec.serial:
            self._serial_running = False

    def _unlease_block(self, block: Chunk) -> None:
        """It, or a part of it, was leased as a whole."""
        first, stop = block.first, block.first + len(block)
        start = first if first in self.leased_blocks else max(n for n in self.leased_blocks if n < first)
        end = self.leased_blocks.pop(start)
        if start < first:
            self.leased_blocks[start] = first
        if stop < end:
            self.leased_blocks[stop] = end
        self.leased -= len(block)
