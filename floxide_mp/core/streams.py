"""What comes bit by bit, and how steps come to their end: a part of the core, in the coordinator's process.

``StreamingItems`` are items whose ``NextAll`` was given an iterator that has more values than were taken so far. Its
values are taken in portions, as fast as the run works them off. Between two of them the item is pending, but not among
those that are ready: it is here. ``Streaming`` handles the values of ``StreamingItems`` and of an input that is sent
value by value. ``Holding`` handles the ends of steps, and what is held until a step of its node passes something on.
"""

from __future__ import annotations

from bisect import bisect, insort
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from .leases import Leasing
from .plan import Place, Plan
from .progress import NOTHING, Value
from .records import EventRecord, ItemRecord, Scope
from .transitions import FINAL, ItemEvent, Phase
from .types import OrderKey, Packed, Payload, StreamOffset, total_size

MOST_ITEMS: Final = 16384  # of a run that are in work or about to be, from where on nothing more is taken
MOST_BYTES: Final = 64 << 20  # ... or of about that many bytes
LEAST: Final = 16  # ... but no fewer than these, however large they are


@dataclass(slots=True, eq=False)
class StreamingItem:
    """One of them.

    Attributes:
        given: what was taken of it.
        scope: that of its successors.
        home: the session of the worker that has the iterator; 0 if nobody has it, and it must be started again.
        size: bytes of a value, as of late.
    """

    item: ItemRecord
    scope: Scope
    given: StreamOffset
    home: int = 0
    size: int = 0

    def gave(self, payloads: Sequence[Payload]) -> None:
        """What will come is likely to be as large as this."""
        self.size = total_size(payloads) // len(payloads)

    @property
    def room(self) -> int:
        """More is taken only while fewer items than that are in work."""
        return max(LEAST, min(MOST_ITEMS, MOST_BYTES // (self.size + 1)))


class StreamingItems:
    """Those of one run. ``known``: by item; ``pending``: in order, those that nobody is at."""

    __slots__ = ("known", "pending")

    def __init__(self) -> None:
        self.known: dict[int, StreamingItem] = {}
        self.pending: list[ItemRecord] = []

    def add(self, source: StreamingItem) -> None:
        self.known[source.item.id] = source

    def get(self, item: int) -> StreamingItem | None:
        return self.known.get(item)

    def remove(self, item: int) -> StreamingItem | None:
        return self.known.pop(item, None)

    def push(self, item: ItemRecord) -> None:
        """Nobody is at it any more."""
        insort(self.pending, item)

    def first(self, busy: int, session: int | None) -> StreamingItem | None:
        """The one that this session, or any, may take more from, when ``busy`` items are in work.

        The last in order: what others gave may be sources as well, and they would never be done otherwise.
        """
        for item in reversed(self.pending):
            source = self.known[item.id]
            if busy < source.room and (session is None or source.home in (0, session)):
                return source
        return None

    def pop(self, source: StreamingItem) -> None:
        """Somebody is at it now."""
        del self.pending[bisect(self.pending, source.item) - 1]

    def release_affinity(self, session: int | None) -> None:
        """The iterators that this session had are gone; None: those of all."""
        for source in self.known.values():
            if session in (None, source.home):
                source.home = 0

    def __len__(self) -> int:
        return len(self.known)

    def __iter__(self) -> Iterator[StreamingItem]:
        """All of them, in no order."""
        return iter(self.known.values())


Write = tuple[int, Packed]  # (field of the context, payload)


class Alike(NamedTuple):
    """Values that all take one arm."""

    arm: int
    payloads: list[Payload]


class Streaming(Leasing):
    """A run whose steps may give what they have bit by bit.

    Args:
        plan: the graph, with its scopes.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._waiting = 0  # for their retry
        self._sources = StreamingItems()
        self._open = False  # more input may come
        self._fed = 0

    # -- facts ---------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Instead of one input there are many, ``feed`` by ``feed`` until ``close``: each an item of the start node."""
        self._open = True
        self.root.alive[self.root.plan.component_of[0]] += 1
        self._settle_all(self.root)

    def feed(self, payload: Packed) -> None:
        """One more input is here."""
        self._queue(self._add(0, (0, (self._fed,)), payload, self.root))
        self._fed += 1

    def close(self) -> None:
        """There is no more input."""
        if self._open:
            self._open = False
            component = self.root.plan.component_of[0]
            self.root.alive[component] -= 1
            self._settle(self.root, [component])
            self._check_end()

    def pull(self, lease: int, worker: int, session: int | None) -> ItemRecord | None:
        """A worker takes an item that has more to give, if there is one, and room for what it gives.

        Args:
            session: its own; None: it will take one that another one could go on with, and begin that anew.
        """
        source = self._source_for(session)
        if source is None:
            return None
        self._sources.pop(source)
        if session is None:
            source.home = 0
        self._serial_running |= self.plan.places[source.item.place].spec.serial
        self._lease(source.item, lease, worker)
        return source.item

    def portion(
        self,
        item: ItemRecord,
        values: Sequence[Value] | Alike,
        writes: tuple[Write, ...],
        home: int,
        sign: tuple[int, int] = (0, 0),
    ) -> None:
        """A step's ``NextAll`` gave some values and has more: these go on, and it is pending until there is room.

        Without values it has only gone over some that were given before.

        Args:
            home: the session of the worker that can go on with it.
            sign: ``digest`` and ``hash_probe`` of what it has given.
        """
        place = self.plan.places[item.place]
        source = self._sources.get(item.id)
        if source is None:
            source = self._open_source(item, item.scope, NOTHING)
        payloads = values.payloads if isinstance(values, Alike) else [payload for _, payload in values]
        if payloads:
            source.scope = scope = self._scope_within(item, place, source)
            scope.open_ended |= place.opens_scope
            before = source.given
            self._write(item.order, place, writes, before)
            if isinstance(values, Alike):
                targets = self._fan_out_alike(item, place, *values, scope, before)
            else:
                targets = self._fan_out(item, place, values, scope, before)
            source.gave(payloads)
            source.given = StreamOffset(before.values + len(payloads), targets, before.writes + len(writes), *sign)
            self._commit.given[item.id] = source.given
            if item.attempt > 1:  # it has come further, so its attempts count anew
                item.attempt = 1
                self._commit.changed.append(item)
        source.home = home
        self.could_open(item.id, place.node)
        self._unlease(item, ItemEvent.YIELDED)
        self._requeue(item)
        self._check_end()

    def release_affinity(self, session: int | None = None) -> None:
        """A worker's session is over, or all are to begin anew what they alone could go on with."""
        self._sources.release_affinity(session)

    # -- what there is to know -----------------------------------------------------------------------

    @property
    def takes_input(self) -> bool:
        """Whether one more input could be claimed now."""
        start = self.plan.places[0].spec
        free = self.phase is Phase.RUNNING and not (start.serial and self._serial_running)
        return self._open and free and not self._held_back(0)

    @property
    def open(self) -> bool:
        """Whether more input may come."""
        return self._open

    @property
    def giving(self) -> bool:
        """Whether some item has more to give, when there is room for it."""
        return len(self._sources) > 0

    def has_stream_for(self, session: int | None) -> bool:
        """Whether ``pull`` would give something."""
        return self._source_for(session) is not None

    def values_taken(self, item: int) -> StreamOffset | None:
        """What the ``NextAll`` of an unfinished item has given; None: nothing."""
        source = self._sources.get(item)
        return None if source is None or not source.given.values else source.given

    def holds_iterator_of(self, item: int, session: int) -> bool:
        """Whether that session is to go on with what the item gives."""
        source = self._sources.get(item)
        return source is not None and source.home == session and self.phase not in FINAL

    # -- inside --------------------------------------------------------------------------------------

    def _open_source(self, item: ItemRecord, scope: Scope, given: StreamOffset) -> StreamingItem:
        """From now on it is one of those that give bit by bit."""
        source = StreamingItem(item, scope, given)
        self._sources.add(source)
        if self.serial_order is not None:
            self.serial_order.exempt(item)
        return source

    def _source_for(self, session: int | None) -> StreamingItem | None:
        if not self._sources.pending or self.phase is not Phase.RUNNING:
            return None
        busy = len(self._ready) + len(self._serial_ready) + self.leased + self._waiting
        if busy > self._waiting and self._deepest:
            return None  # what it has given goes first
        source = self._sources.first(busy, session)
        serial = source is not None and self.plan.places[source.item.place].spec.serial
        return None if serial and self._serial_running else source

    def _requeue(self, item: ItemRecord) -> None:
        """It is pending again."""
        if self._sources.get(item.id) is None:
            self._enqueue(item)
        else:
            self._sources.push(item)

    def could_open(self, number: int, node: int) -> None:
        """A step of a node has opened this item's input."""
        self._opened[node] = min(number, self._opened.get(node, number))
        if self._unopened:
            unopened, self._unopened = self._unopened, []
            for item, error in unopened:
                if self._is_bad(item):
                    self._requeue(item)  # it is tried once more, and fails then
                else:
                    self._unopened.append((item, error))

    def _is_bad(self, item: ItemRecord) -> bool:
        """Whether it is an item's own fault that its input cannot be opened, since its node's steps could open others.
        Those that were made by the present code say nothing of what an earlier program left.
        """
        first = self._opened.get(self.plan.places[item.place].node)
        return first is not None and (first <= self.inherited or item.id > self.inherited)

    def _try_single(self) -> bool:
        """A new item that is the only one of its node whose input could be opened, or not, is taken to be bad itself:
        whether there is one. Two or more show that it is what is around them.
        """
        nodes = [self.plan.places[item.place].node for item, _ in self._unopened]
        count = Counter(nodes)
        found = [(item.id, node) for (item, _), node in zip(self._unopened, nodes, strict=True) if count[node] == 1]
        new = [(number, node) for number, node in found if number > self.inherited]
        for number, node in new:
            self.could_open(number, node)
        return bool(new)

    def _break_off(self, item: ItemRecord) -> None:
        """Its attempt came to nothing: should it have more to give, that begins anew."""
        source = self._sources.get(item.id)
        if source is not None:
            source.home = 0

    def _given_all(self, item: ItemRecord) -> StreamingItem | None:
        """It is over, and gives no more."""
        source = self._sources.remove(item.id)
        if source is not None:
            self._commit.given[item.id] = None
            if source.scope is not item.scope:
                source.scope.open_ended = False
        return source

    def _scope_within(self, item: ItemRecord, place: Place, source: StreamingItem | None) -> Scope:
        """The scope of its successors: opened before the first of them, or, in a changed graph, the next."""
        if source is not None and source.scope is not item.scope:
            return source.scope
        return self._open_scope(item, place) if place.opens_scope else item.scope

    def _write(self, order: OrderKey, place: Place, writes: tuple[Write, ...], given: StreamOffset = NOTHING) -> bool:
        """Whether the writes stand in the log under the item's own key."""
        own = order
        if writes and place.spec.serial and self.serial_order is not None:
            order = self.serial_order.place(order)
        for index, (field, payload) in enumerate(writes, given.writes):
            self._commit.events.append(EventRecord(order, index, place.spec.name, field, payload))
        return order is own

    def _check_end(self) -> None:
        raise NotImplementedError  # what ends a run is ``state``'s


class Kept(NamedTuple):
    """An item that is held, and alive for the joins behind it. Its value is not kept here."""

    id: int
    place: int
    scope: Scope


class Holding(Streaming):
    """A run whose steps may hold.

    Args:
        plan: the graph, with its scopes.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.held: dict[int, list[int]] = {}  # node -> items, while no step of it has passed anything on
        self.kept: dict[int, list[Kept]] = {}  # ... and those of them that joins wait for, and that may start over
        self._passed: set[int] = set()
        self._completed = 0

    def hold(self, item: ItemRecord, writes: tuple[Write, ...]) -> None:
        """A step ended its branch for now."""
        place = self.plan.places[item.place]
        source = self._given_all(item)  # of an attempt before
        given = source.given if source else NOTHING
        self.could_open(item.id, place.node)
        own = self._write(item.order, place, writes, given) and source is None  # then the writes can be withdrawn
        held = place.node not in self._passed and place.spec.window is None  # of a batch, it just adds nothing
        if held:
            self.held.setdefault(place.node, []).append(item.id)
        if held and own and self.plan.keeps_held[item.place]:
            self._keep(item, place)
        else:
            self._finish(item, ItemEvent.HELD)
            self._count(place, 1, passed=False)
            if held:
                self._commit.held.append((place.node, item.id))
            if source is not None and source.scope is not item.scope:
                self._settle_all(source.scope)
            self._leave(item)
        self._check_end()

    # -- inside --------------------------------------------------------------------------------------

    def _keep(self, item: ItemRecord, place: Place) -> None:
        """It is held, and what it was given stays in the store, where it is looked for if it is to start over."""
        self._unlease(item, ItemEvent.HELD)
        del self.items[item.id]
        self.bytes -= item.size
        self._commit.changed.append(item)
        self.kept.setdefault(place.node, []).append(Kept(item.id, item.place, item.scope))

    def _let_go(self, node: int) -> None:
        """What the node held is over."""
        self.held.pop(node, None)
        for number, place, scope in self.kept.pop(node, ()):
            self._commit.finished.append(number)
            self._count(self.plan.places[place], 1, passed=False)
            self._exit(place, scope, 1)

    def _finish(self, item: ItemRecord, fact: ItemEvent) -> Place:
        self._unlease(item, fact)
        del self.items[item.id]
        self.bytes -= item.size
        self._commit.finished.append(item.id)
        return self.plan.places[item.place]

    def _count(self, place: Place, steps: int, passed: bool = True) -> None:
        """So many steps are completed, and ``passed`` something on, or held."""
        self._completed += steps
        done, name = self._commit.done, place.spec.name
        done[name] = done.get(name, 0) + steps
        if passed and place.node not in self._passed:
            self._passed.add(place.node)
            self._commit.nodes_emitted.append(place.node)
            if self.held:
                self._let_go(place.node)
