"""``Flow``: how items come about in a run and leave it, and when joins fire. A run's state, less what may happen to an
item while it is there, which is ``state``'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Final

from .plan import Place, Plan, Target
from .ready import ByDepth, Ranked, Ready
from .records import Chunk, Commit, ItemRecord, JoinInput, JoinInputChunk, OutputChunk, OutputRecord, Scope, ScopeRecord
from .serial_order import SerialOrder
from .types import ErrorRecord, OrderKey, Payload, StreamOffset, offset_key, size_of
from .window import Window

JOINED_RUN: Final = 1 << 59  # branch numbers from here on are joins': they sort behind the branches they join
JOINED: Final = 1 << 60  # ... and from here on those of joins whose scope is one fan-out
MOST: Final = 4096  # items of one block: what is over of it is given free with it

_order: Final = attrgetter("order")
NOTHING: Final = StreamOffset()

Value = tuple[int, Payload]  # (arm, payload)


class Flow:
    """The unfinished items of one run, in their scopes.

    Args:
        plan: the graph, with its scopes.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.items: dict[int, ItemRecord] = {}  # the unfinished ones, but for those in blocks
        self.in_blocks = 0  # how many these are
        self.root = Scope.open(0, plan.scopes[()], None, (0, ()))
        self.bytes = 0  # of the unfinished items' payloads, but for those that have failed for good
        self._ready: Ready | Ranked | ByDepth = Ready()
        self._serial_ready = Ready()
        serial = any(place.spec.serial for place in plan.places)
        self.serial_order = SerialOrder(plan, self.items) if serial else None
        self._last_id = 0
        self._dropped = 0
        self._commit = Commit()

    # -- items come ----------------------------------------------------------------------------------

    def _add(
        self, place: int, order: OrderKey, payload: Payload, scope: Scope, error: ErrorRecord | None = None
    ) -> ItemRecord:
        self._last_id += 1
        item = ItemRecord(self._last_id, place, order, payload, scope, error)
        self.items[item.id] = item
        self._commit.created.append(item)
        item.size = size = len(payload) if type(payload) is bytes else size_of(payload)
        self.bytes += size
        self._enter(place, order[0], scope, 1)
        return item

    def _add_block(self, place: int, order: OrderKey, payloads: list[Payload], scope: Scope) -> Chunk:
        block = Chunk(self._last_id + 1, place, order, payloads, scope)
        count = len(payloads)
        self._last_id += count
        self.in_blocks += count
        self._commit.blocks.append(block)
        if self.serial_order is not None:
            self.serial_order.add_block(block)
        self.bytes += block.size
        self._enter(place, order[0], scope, count)
        return block

    def _enter(self, place: int, depth: int, scope: Scope, count: int) -> None:
        """So many more are alive there."""
        within: Scope | None = scope
        while within is not None:
            component = within.plan.component_of[place]
            within.alive[component] += count
            if within.depth[component] < depth:
                within.depth[component] = self._commit.depths[within.id, component] = depth
            within = within.parent

    def _queue(self, item: ItemRecord) -> None:
        """A new item may start, unless it is one of a batch whose turn has not come."""
        window, number = item.scope.window, item.order[1][-1] if item.order[1] else 0
        if window is None or window.admits(number):
            self._enter_order(item)
            self._enqueue(item)
        else:
            window.park(number, item)

    def _enter_order(self, item: ItemRecord) -> None:
        """Serial steps wait for what comes of an item before them, unless it is parked (or ``exempt``)."""
        if self.serial_order is not None:
            self.serial_order.add(item)

    def _enqueue(self, item: ItemRecord) -> None:
        (self._serial_ready if self.plan.places[item.place].spec.serial else self._ready).push(item)

    def _create(
        self,
        target: Target,
        order: OrderKey,
        payload: Payload,
        scope: Scope,
        origin: str,
        error: ErrorRecord | None = None,
        alone: int = 0,
    ) -> None:
        """A successor: an item of its own, or an arrival at a join."""
        if target.level < 0:
            item = self._add(target.place, order, payload, scope, error)
            if alone > 0:
                item.unchained_steps = alone
            self._queue(item)
            return
        scope = self._collecting(scope, target)
        arrival = JoinInput(scope.id, target.place, order, origin, payload)
        scope.arrivals.setdefault(target.place, []).append(arrival)
        self._commit.arrived.append(arrival)

    def _create_many(
        self, target: Target, order: OrderKey, payloads: list[Payload], scope: Scope, origin: str, alone: int = 0
    ) -> None:
        """Successors side by side, ``order`` that of the first."""
        if target.level >= 0:
            scope = self._collecting(scope, target)
            arrivals = JoinInputChunk(scope.id, target.place, order, origin, payloads)
            scope.arrivals.setdefault(target.place, []).append(arrivals)
            self._commit.arrived_blocks.append(arrivals)
        elif self.plan.places[target.place].spec.serial or scope.window is not None:
            for number, payload in enumerate(payloads):
                self._create(target, offset_key(order, number), payload, scope, origin)
        else:
            for at in range(0, len(payloads), MOST):
                part = payloads if len(payloads) <= MOST else payloads[at : at + MOST]
                block = self._add_block(target.place, offset_key(order, at), part, scope)
                block.unchained_steps = max(0, alone)
                self._ready.push(block)

    def _pass_on(self, place: Place, arm: int, block: Chunk, payloads: list[Payload], worker: int) -> None:
        """What a block's steps gave, one value each: outputs or successors."""
        depth, path = block.order
        if not place.arms[arm]:
            self._commit.output_blocks.append(OutputChunk(block.order, place.spec.name, payloads, worker))
        else:
            (target,) = place.arms[arm]
            name = place.spec.name
            self._create_many(target, (depth + 1, path), payloads, block.scope, name, block.unchained_steps - 1)

    @staticmethod
    def _collecting(scope: Scope, target: Target) -> Scope:
        """The scope that a join collects in."""
        while scope.parent is not None and scope.level > target.level:
            scope = scope.parent
        return scope

    def _fan_out(
        self, item: ItemRecord, place: Place, values: Sequence[Value], scope: Scope, given: StreamOffset = NOTHING
    ) -> int:
        """``given`` is what the step gave before; how many successors there are by now."""
        depth, path = item.order
        branch = given.targets
        for index, (arm, payload) in enumerate(values, given.values):
            targets = place.arms[arm]
            if not targets:
                self._commit.outputs.append(OutputRecord(item.order, index, place.spec.name, payload, item.worker))
            for target in targets:
                self._create(target, (depth + 1, (*path, branch)), payload, scope, place.spec.name)
                branch += 1
        return branch

    def _fan_out_alike(
        self,
        item: ItemRecord,
        place: Place,
        arm: int,
        payloads: list[Payload],
        scope: Scope,
        given: StreamOffset = NOTHING,
    ) -> int:
        """As ``_fan_out``, of values that all take one arm."""
        targets = place.arms[arm]
        if len(targets) != 1:
            return self._fan_out(item, place, [(arm, payload) for payload in payloads], scope, given)
        depth, path = item.order
        self._create_many(targets[0], (depth + 1, (*path, given.targets)), payloads, scope, place.spec.name)
        return given.targets + len(payloads)

    def _to_on_failure(
        self,
        place: Place,
        order: OrderKey,
        payload: Payload,
        scope: Scope,
        error: ErrorRecord,
        given: StreamOffset = NOTHING,
    ) -> None:
        targets = place.on_failure or ()
        depth, path = order
        several = len(targets) > 1 or given.values  # else the path has not been given to others
        for branch, target in enumerate(targets, given.targets):
            key = (depth + 1, (*path, branch) if several else path)
            self._create(target, key, payload, scope, place.spec.name, error)

    # -- and go --------------------------------------------------------------------------------------

    def _leave(self, item: ItemRecord) -> None:
        """The item is over, its successors are there."""
        if item.scope.window is not None:
            self._slide(item.scope, item.scope.window, item)
        self._exit(item.place, item.scope, 1)

    def _exit(self, place: int, scope: Scope, count: int) -> None:
        """So many are over there: close what is closed now, innermost scope first."""
        within: Scope | None = scope
        while within is not None:
            component = within.plan.component_of[place]
            within.alive[component] -= count
            if not within.alive[component]:
                self._settle(within, [component])
            within = within.parent

    def _slide(self, scope: Scope, window: Window[ItemRecord, ErrorRecord], item: ItemRecord) -> None:
        """An item of a batch is over: let others in, or end a batch that has failed."""
        number = item.order[1][-1]
        # One that failed was told to the window; if it was not the first, that one holds the window already.
        if window.failed is None or number < window.failed[0]:
            for admitted in window.done(number):
                self._enter_order(admitted)
                self._enqueue(admitted)
        at = scope.plan.component_of[item.place]
        if window.failed is None or scope.alive[at] - 1 > len(window.parked):
            return
        for _, parked in window.parked:
            self._drop(parked)
        window.parked.clear()
        assert scope.parent is not None and scope.batch is not None
        order = scope.depth[at], self._join_path(scope, next(iter(scope.plan.joins.values())))
        self._to_on_failure(self.plan.places[item.place], order, scope.batch, scope.parent, window.failed[1])

    def _drop(self, item: ItemRecord) -> None:
        """It will not be run. Another one of its place is alive, so nothing closes by this."""
        del self.items[item.id]
        self.bytes -= item.size
        self._commit.finished.append(item.id)
        self._dropped += 1
        scope: Scope | None = item.scope
        while scope is not None:
            scope.alive[scope.plan.component_of[item.place]] -= 1
            scope = scope.parent

    # -- scopes --------------------------------------------------------------------------------------

    def _open_scope(self, item: ItemRecord, place: Place) -> Scope:
        plan = self.plan.scopes[(*place.scope_path, place.node)]
        batch = item.payload if plan.window else None
        self._commit.opened.append(ScopeRecord(item.id, item.scope.id, item.place, item.order, batch))
        return Scope.open(item.id, plan, item.scope, item.order, batch)

    def _settle_all(self, scope: Scope) -> None:
        """A scope was opened: components with nothing before them and nothing in them are closed at once."""
        self._settle(scope, [c for c, before in enumerate(scope.plan.predecessors) if not before])

    def _settle(self, scope: Scope, components: list[int]) -> None:
        if scope.open_ended:
            return
        while components:
            at = components.pop()
            if at in scope.closed or scope.alive[at] or scope.waiting_for[at]:
                continue
            join = scope.plan.joins.get(at)
            if join is not None and at not in scope.fired:
                scope.fired.add(at)
                self._fire(scope, join, scope.depth[at] + 1)
                if scope.parent is None:
                    continue  # a join of the run is part of its own scope: closed when its step is over
            scope.closed.add(at)
            for after in scope.plan.successors[at]:
                if scope.depth[after] < scope.depth[at]:
                    scope.depth[after] = scope.depth[at]
                scope.waiting_for[after] -= 1
                if not scope.waiting_for[after]:
                    components.append(after)
        if scope.parent is not None and len(scope.closed) == len(scope.alive):
            self._commit.closed.append(scope.id)

    def _fire(self, scope: Scope, join: int, depth: int) -> None:
        arrivals = sorted(scope.arrivals.pop(join, ()), key=_order)
        self._commit.joined.append((scope.id, join))
        if scope.window is not None and scope.window.failed is not None:
            return  # the batch has gone to ``on_failure`` instead
        payload = tuple([(a.node, a.payloads if isinstance(a, JoinInputChunk) else a.payload) for a in arrivals])
        self._queue(self._add(join, (depth, self._join_path(scope, join)), payload, scope.parent or scope))

    def _join_path(self, scope: Scope, join: int) -> tuple[int, ...]:
        """The branch path behind a join: where the scope was opened, with a number that no other join gets there.

        A join of the run fires once, so its own number will do. For the others the number is the way from join to
        join on this path, in the base of how many joins a scope has at the most. So a loop through joins
        does not lengthen the path, and where each scope has one join, the number just counts.
        """
        rank = scope.plan.rank[join]
        if scope.parent is None:
            return (JOINED_RUN + rank,)
        opened, passed = scope.path, 0
        if opened and opened[-1] >= JOINED:
            opened, passed = opened[:-1], opened[-1] - JOINED
        return (*opened, JOINED + passed * self.plan.most_joins + rank + 1)
