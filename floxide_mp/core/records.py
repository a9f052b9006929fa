"""The records that the core keeps, and hands out as commits; and how much of a run's errors is kept.

Payloads are bytes that nothing here looks into, or lie in memory that is shared. In the coordinator's process.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from types import MappingProxyType
from typing import Final, NamedTuple

from ..types import WorkItemStatus
from .plan import ScopePlan
from .types import ErrorRecord, OrderKey, Packed, Payload, StreamOffset, offset_key, size_of, total_size
from .window import Window


class EventRecord(NamedTuple):
    """One write to the context. ``(order, index)`` is unique in the run, and what replays are sorted by."""

    order: OrderKey
    index: int  # type: ignore[assignment]  # hides tuple.index
    node: str
    field: int
    payload: Packed


class OutputRecord(NamedTuple):
    """One output of the run, listed by ``(order, index)``. ``worker`` is who made it: the only part left to chance."""

    order: OrderKey
    index: int  # type: ignore[assignment]  # hides tuple.index
    node: str
    payload: Payload
    worker: int | None = None


class OutputChunk(NamedTuple):
    """Outputs made side by side by steps of one node: each its own one. ``order`` is that of the first."""

    order: OrderKey
    node: str
    payloads: list[Payload]
    worker: int | None = None

    def after(self, number: int) -> OutputChunk:
        """All but the first so many."""
        if not number:
            return self
        return self._replace(order=offset_key(self.order, number), payloads=self.payloads[number:])

    def records(self) -> Iterator[OutputRecord]:
        for number, payload in enumerate(self.payloads):
            yield OutputRecord(offset_key(self.order, number), 0, self.node, payload, self.worker)


def place(record: EventRecord | OutputRecord) -> tuple[OrderKey, int]:
    """Where a record stands in the run's order: the key to sort by."""
    return record.order, record.index


def one_by_one(outputs: Iterable[OutputRecord | OutputChunk]) -> Iterator[OutputRecord]:
    """The outputs, each as a record."""
    for output in outputs:
        if isinstance(output, OutputChunk):
            yield from output.records()
        else:
            yield output


class JoinInput(NamedTuple):
    """A value waiting at a join (``place``) of the scope with that id."""

    scope: int
    place: int
    order: OrderKey
    node: str
    payload: Payload


class JoinInputChunk(NamedTuple):
    """Values waiting at a join that were made side by side by steps of one node. ``order`` is that of the first."""

    scope: int
    place: int
    order: OrderKey
    node: str
    payloads: list[Payload]

    def records(self) -> Iterator[JoinInput]:
        for number, payload in enumerate(self.payloads):
            yield JoinInput(self.scope, self.place, offset_key(self.order, number), self.node, payload)


@dataclass(slots=True, eq=False)
class Scope:
    """Progress of one scope: the run, or one fan-out of a join's ``of=`` node. Lists are by component of ``plan``."""

    id: int  # the item that opened it; 0 for the run
    plan: ScopePlan
    parent: Scope | None
    level: int  # 0 for the run
    path: tuple[int, ...]  # of the item that opened it
    batch: Payload | None  # what is given to ``on_failure`` if it is a batch's scope and the batch fails
    window: Window[ItemRecord, ErrorRecord] | None  # of a batch's scope
    alive: list[int]
    waiting_for: list[int]
    depth: list[int]
    fired: set[int] = field(default_factory=set)
    closed: set[int] = field(default_factory=set)
    arrivals: dict[int, list[JoinInput | JoinInputChunk]] = field(default_factory=dict)
    open_ended: bool = False  # the step that opened it has more to give: nothing in it is closed

    @staticmethod
    def open(id: int, plan: ScopePlan, parent: Scope | None, order: OrderKey, batch: Payload | None = None) -> Scope:
        count = len(plan.predecessors)
        level = 0 if parent is None else parent.level + 1
        window: Window[ItemRecord, ErrorRecord] | None = Window(plan.window) if plan.window else None
        alive, waiting_for, depth = [0] * count, list(plan.predecessors), [order[0]] * count
        return Scope(id, plan, parent, level, order[1], batch, window, alive, waiting_for, depth)


class ScopeRecord(NamedTuple):
    """A scope that was opened: by which item, at which place, in which scope; and the input, if it is a batch's."""

    id: int
    parent: int
    place: int
    order: OrderKey
    batch: Payload | None


@dataclass(slots=True, eq=False)
class ItemRecord:
    """One work item, from its creation until it is done."""

    id: int
    place: int
    order: OrderKey
    payload: Payload
    scope: Scope
    error: ErrorRecord | None = None  # what an ``on_failure`` node is told
    attempt: int = 1
    status: WorkItemStatus = WorkItemStatus.PENDING
    lease: int = 0
    worker: int = -1
    due: float = 0.0
    unchained_steps: int = (
        0  # so many steps, from this one on, nobody is to go ahead of: one of those behind ended a worker
    )
    making: int = 0  # while it is leased: bytes by which it is likely to add to the unfinished values
    size: int = 0  # bytes of the payload, about

    def __lt__(self, other: ItemRecord | Chunk) -> bool:
        return self.order < other.order


@dataclass(slots=True, eq=False)
class Chunk:
    """Items made side by side, as one: number k has the id ``first + k``, and the order key k places behind ``order``.

    They are at one place, in one scope, at their first attempt; one with which anything else is the matter steps out.
    A block never changes. ``payloads`` has one for each.
    """

    first: int
    place: int
    order: OrderKey
    payloads: list[Payload]
    scope: Scope
    unchained_steps: int = 0  # as of ``ItemRecord``
    _size: int = field(default=-1, init=False)

    def __len__(self) -> int:
        return len(self.payloads)

    @property
    def size(self) -> int:
        """Bytes of its payloads, about. They are added up once."""
        if self._size < 0:
            self._size = sum(map(len, self.payloads))
        return self._size

    def __lt__(self, other: ItemRecord | Chunk) -> bool:
        return self.order < other.order

    def part(self, start: int, stop: int | None = None) -> Chunk:
        """Those from number ``start`` up to ``stop``."""
        order = offset_key(self.order, start) if start else self.order
        return Chunk(self.first + start, self.place, order, self.payloads[start:stop], self.scope, self.unchained_steps)

    def split(self, at: int) -> tuple[Chunk, Chunk]:
        """Those before number ``at``, and the others."""
        first, rest = self.part(0, at), self.part(at)
        rest._size = self.size - first.size  # so that each payload is looked at once, and not once a lease
        return first, rest

    def fitting(self, most: int, room: int) -> int:
        """How many of them, up to ``most``, have ``room`` bytes; at least one."""
        if self.size <= room:
            return most
        payloads = self.payloads[:most]
        if total_size(payloads) <= room:
            return most
        return max(1, bisect_right(list(accumulate(map(size_of, payloads))), room))

    def items(self) -> Iterator[ItemRecord]:
        """Each as an item of its own."""
        for number, payload in enumerate(self.payloads):
            order = offset_key(self.order, number)
            item = ItemRecord(
                self.first + number, self.place, order, payload, self.scope, unchained_steps=self.unchained_steps
            )
            item.size = len(payload)
            yield item


def id_of(item: ItemRecord | Chunk) -> int:
    """Of a block, the first one's."""
    return item.first if isinstance(item, Chunk) else item.id


class ItemRow(NamedTuple):
    """An unfinished item as a store gives it back. ``due`` is as in ``ItemRecord``."""

    id: int
    place: int
    order: OrderKey
    payload: Payload
    scope: int
    error: ErrorRecord | None
    attempt: int
    status: WorkItemStatus
    due: float


@dataclass(slots=True)
class Commit:
    """Everything that changed since the last commit; a store writes all of it or nothing.

    Blocks come first: items that step out of one are among ``ranges`` and, one by one, among ``created``. A restored
    run makes blocks anew: what is a range in one of these may have come one by one, or in several blocks.
    """

    blocks: list[Chunk] = field(default_factory=list)
    ranges: list[tuple[int, int]] = field(default_factory=list)  # (first, how many) of what is in blocks no more
    created: list[ItemRecord] = field(default_factory=list)
    changed: list[ItemRecord] = field(default_factory=list)  # attempt, status or due time
    finished: list[int] = field(default_factory=list)
    arrived: list[JoinInput] = field(default_factory=list)
    arrived_blocks: list[JoinInputChunk] = field(default_factory=list)
    joined: list[tuple[int, int]] = field(default_factory=list)  # (scope, place): it fired; what arrived is used up
    opened: list[ScopeRecord] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)  # scopes in which nothing is alive any more
    depths: dict[tuple[int, int], int] = field(default_factory=dict)  # (scope, component) -> deepest level so far
    nodes_emitted: list[int] = field(default_factory=list)  # nodes that passed something on: what they held is released
    held: list[tuple[int, int]] = field(default_factory=list)  # (node, item): held, and finished all the same
    failed_batches: dict[int, tuple[int, ErrorRecord]] = field(
        default_factory=dict
    )  # batch's scope -> its first failure
    given: dict[int, StreamOffset | None] = field(
        default_factory=dict
    )  # item -> what it gave, in all; None: it is over
    events: list[EventRecord] = field(default_factory=list)
    outputs: list[OutputRecord] = field(default_factory=list)
    output_blocks: list[OutputChunk] = field(default_factory=list)  # listed behind the others
    errors: list[ErrorRecord] = field(default_factory=list)
    done: dict[str, int] = field(default_factory=dict)  # node -> how many of its steps were completed
    phase_changed: bool = False

    def __bool__(self) -> bool:
        single = self.finished or self.created or self.changed
        return bool(single or self.ranges or self.blocks or self.errors or self.phase_changed or self.given)

    @property
    def output_count(self) -> int:
        """How many outputs there are in it."""
        return len(self.outputs) + sum([len(block.payloads) for block in self.output_blocks])

    @property
    def size(self) -> int:
        """Bytes of payload, about."""
        total = sum([item.size for item in self.created]) + sum([block.size for block in self.blocks])
        for records in (self.outputs, self.events):
            for record in records:
                total += size_of(record.payload)
        return total + sum([total_size(block.payloads) for block in self.output_blocks])


def dropped(snapshot: Snapshot) -> Commit:
    """The commit that takes out all that is unfinished: nobody will do it."""
    return Commit(
        finished=[row.id for row in snapshot.items],
        joined=sorted({(arrival.scope, arrival.place) for arrival in snapshot.arrivals}),
        closed=sorted(scope.id for scope in snapshot.scopes),
        given=dict.fromkeys(snapshot.given),
        phase_changed=True,
    )


def started_over(snapshot: Snapshot) -> Snapshot:
    """As if the items that are held had not been begun."""
    pending = WorkItemStatus.PENDING
    items = [
        row._replace(attempt=1, status=pending, due=0.0) if row.status is WorkItemStatus.HELD else row
        for row in snapshot.items
    ]
    return snapshot._replace(items=items)


class Snapshot(NamedTuple):
    """What the commits of a run add up to, but for its events, outputs and errors; ``restore`` makes a state of it.

    ``joined`` and ``depths`` are those of the run's scope (0) and of the open ones. ``items`` are in order. Those that
    are held are among them, or, by node, in ``held``, which has those that can not be started over.
    ``events`` and ``outputs``: how many there are. ``given`` is of the items that gave something and have more.
    """

    items: Sequence[ItemRow]
    arrivals: Sequence[JoinInput]
    scopes: Sequence[ScopeRecord]
    joined: Collection[tuple[int, int]]
    depths: Mapping[tuple[int, int], int]
    nodes_emitted: Collection[int]
    held: Mapping[int, Sequence[int]]
    failed_batches: Mapping[int, tuple[int, ErrorRecord]]
    events: int
    outputs: int
    given: Mapping[int, StreamOffset] = MappingProxyType({})


MOST_ERRORS: Final = 16 << 20  # characters of a run's errors, from where on the texts of others are cut short
SHORT: Final = 500  # ... to these


def error_size(error: ErrorRecord) -> int:
    """Characters and bytes of it, about."""
    return len(error.message) + len(error.traceback) + len(error.payload or b"") + len(error.input or "")


def bounded(error: ErrorRecord, size: int) -> ErrorRecord:
    """The error as it is kept when those of its run have ``size`` together with it: whole, or the beginning of its
    message."""
    if size <= MOST_ERRORS:
        return error
    cut = f"... (the first {MOST_ERRORS >> 20} MB of errors are kept whole)"
    short = error.message if len(error.message) <= SHORT else error.message[:SHORT] + cut
    return error._replace(message=short, traceback="", payload=None)
