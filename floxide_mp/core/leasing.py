"""``Leasing``: which items may be claimed, and which are leased. What comes of those is ``state``'s."""

from __future__ import annotations

from collections.abc import Sequence

from ..statuses import WorkItemStatus
from .flow import Flow
from .plan import Plan
from .rank import Ranked
from .records import Block, ItemRecord
from .table import ITEM, ItemFact, Phase

Leaseholder = tuple[int, int]  # (lease, worker)


class Leasing(Flow):
    """The items of one run, and who has them.

    Args:
        plan: the graph, with its scopes.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.phase = Phase.RUNNING
        self.leased = 0
        self.leased_blocks: dict[int, int] = {}  # of these: first -> the first that is not
        self._serial_running = False

    @property
    def ready(self) -> int:
        """How many items could be claimed now."""
        if self.phase is not Phase.RUNNING:
            return 0
        return len(self._ready) + (bool(self._serial_ready) and not self._serial_running)

    def first(self) -> ItemRecord | Block | None:
        """What ``claim`` would give an item of."""
        if self.phase is not Phase.RUNNING:
            return None
        if self._serial_next:
            return self._serial_ready.first()
        return self._ready.first() if self._ready else None

    def claim(self, lease: int, worker: int, most: int = 1) -> ItemRecord | Block | None:
        """A worker takes the first item that may start now, if there is one; of a block, up to ``most``."""
        if self.phase is not Phase.RUNNING:
            return None
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
        before, self._ready = self._ready, Ranked(level)
        while before:
            self._ready.push(before.pop(len(before)))

    def single_out(self, block: Block, lease: int = 0, worker: int = -1) -> list[ItemRecord]:
        """The items of a leased block step out of it: from now on each is on its own, and leased as before."""
        self._unlease_block(block)
        self.in_blocks -= len(block)
        self._commit.ranges.append((block.first, len(block)))
        items = list(block.items())
        for item in items:
            self.items[item.id] = item
            self._lease(item, lease, worker)
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
    def _serial_next(self) -> bool:
        if not self._serial_ready or self._serial_running:
            return False
        return not self._ready or self._ready.yields_to(self._serial_ready.first())

    def _lease(self, item: ItemRecord | Block, lease: int, worker: int) -> None:
        if isinstance(item, Block):
            self.leased_blocks[item.first] = item.first + len(item)
            self.leased += len(item)
        else:
            item.status = ITEM[item.status, ItemFact.CLAIMED]
            item.lease, item.worker = lease, worker
            self.leased += 1

    def _unlease(self, item: ItemRecord, fact: ItemFact) -> None:
        item.status = ITEM[item.status, fact]
        item.lease = 0
        self.leased -= 1
        if self.plan.places[item.place].spec.serial:
            self._serial_running = False

    def _unlease_block(self, block: Block) -> None:
        """It, or a part of it, was leased as a whole."""
        first, stop = block.first, block.first + len(block)
        start = first if first in self.leased_blocks else max(n for n in self.leased_blocks if n < first)
        end = self.leased_blocks.pop(start)
        if start < first:
            self.leased_blocks[start] = first
        if stop < end:
            self.leased_blocks[stop] = end
        self.leased -= len(block)
