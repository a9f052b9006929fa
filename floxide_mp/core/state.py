"""``RunState``: one run. It is told facts, moves along ``table``, and collects what must be committed.

Nothing here waits, reads a clock or looks into a payload: ``now`` is given, and what follows is handed out
by ``take_commit``. Between two of those, everything that was decided belongs into one atomic write.
"""

from __future__ import annotations

import heapq
from typing import Final

from ..facts import RunMetrics, RunStatus, WorkItemStatus
from ..retry import RetryPolicy
from .plan import Place, Plan, Target
from .ready import Ready
from .records import Arrival, Commit, ErrorRecord, EventRecord, ItemRecord, Order, OutputRecord, Payload, Scope
from .table import FINAL, ITEM, RUN, STATUS, ItemFact, Phase, RunFact

MAX_DEATHS: Final = 3  # workers that an item may take with it where its node has no retry policy
JOINED_RUN: Final = 1 << 59  # branch numbers from here on are joins': they sort behind the branches they join
JOINED: Final = 1 << 60  # ... and from here on those of joins whose scope is one fan-out

Value = tuple[int, bytes]  # (arm, payload)
Write = tuple[int, bytes]  # (field of the context, payload)


class RunState:
    """The state machine of one run.

    Args:
        plan: the graph, with its scopes.
        default_retry: the policy of nodes that have none.
    """

    def __init__(self, plan: Plan, default_retry: RetryPolicy | None = None) -> None:
        self.plan = plan
        self.default_retry = default_retry
        self.phase = Phase.RUNNING
        self.items: dict[int, ItemRecord] = {}  # the unfinished ones
        self.leased = 0
        self.failure: ErrorRecord | None = None  # of the first item that failed for good
        self.held: dict[int, list[int]] = {}  # node -> items, while no step of it has passed anything on
        self.root = Scope.open(0, plan.scopes[()], None, (0, ()))
        self._ready = Ready()
        self._serial_ready = Ready()
        self._serial_running = False
        self._timers: list[tuple[float, int]] = []
        self._passed: set[int] = set()
        self._last_id = 0
        self._completed = self._failed = self._retries = self._errors = 0
        self._commit = Commit()

    # -- facts ---------------------------------------------------------------------------------------

    def start(self, payload: bytes) -> None:
        """The run's input is here."""
        self._add(0, (0, ()), payload, self.root)
        self._settle_all(self.root)

    def claim(self, lease: int, worker: int) -> ItemRecord | None:
        """A worker takes the first item in order that may start now, if there is one."""
        if self.phase is not Phase.RUNNING:
            return None
        serial = bool(self._serial_ready) and not self._serial_running
        if serial and (not self._ready or self._serial_ready.first() < self._ready.first()):
            item = self._serial_ready.pop()
            self._serial_running = True
        elif self._ready:
            item = self._ready.pop()
        else:
            return None
        item.status = ITEM[item.status, ItemFact.CLAIMED]
        item.lease, item.worker = lease, worker
        self.leased += 1
        return item

    def succeed(self, item: ItemRecord, values: tuple[Value, ...], writes: tuple[Write, ...], spread: bool) -> None:
        """A step is over; ``spread`` says that it was a ``NextAll``, however many values it had."""
        place = self._finish(item, ItemFact.SUCCEEDED)
        self._write(item, place, writes)
        self._completed += 1
        if place.node in self.held:
            del self.held[place.node]
        self._passed.add(place.node)
        scope = self._open(item, place) if place.owner else item.scope
        if not spread and not place.owner and len(values) == 1 and len(place.arms[values[0][0]]) == 1:
            self._create(
                place.arms[values[0][0]][0], (item.order[0] + 1, item.order[1]), values[0][1], scope, place.spec.name
            )
        else:
            self._fan_out(item, place, values, scope)
        if place.owner:
            self._settle_all(scope)
        self._leave(item)

    def hold(self, item: ItemRecord, writes: tuple[Write, ...]) -> None:
        """A step ended its branch for now."""
        place = self._finish(item, ItemFact.HELD)
        self._write(item, place, writes)
        self._completed += 1
        if place.node not in self._passed:
            self.held.setdefault(place.node, []).append(item.id)
        self._leave(item)

    def fail(self, item: ItemRecord, error: ErrorRecord, retryable: bool, now: float, unit: float = 0.0) -> None:
        """An attempt failed; ``unit`` in [0, 1) chooses the jitter of the back-off."""
        policy = self._policy(item)
        limit = policy.max_attempts if policy and retryable else 1
        error = self._record(item, error)
        if policy is not None and item.attempt < limit:
            self._again(item, now + policy.backoff(item.attempt, unit), now)
        else:
            self._give_up(item, error)

    def die(self, item: ItemRecord, error: ErrorRecord, now: float) -> None:
        """The worker died while it ran this item; without a policy an item may do that ``MAX_DEATHS`` times."""
        policy = self._policy(item)
        error = self._record(item, error)
        if item.attempt < (policy.max_attempts if policy else MAX_DEATHS):
            self._again(item, now, now)
        else:
            self._give_up(item, error)

    def release(self, item: ItemRecord) -> None:
        """The lease is over and the item was not started, or no harm came of it: it is as it was."""
        self._unlease(item, ItemFact.RELEASED)
        self._enqueue(item)
        self._check_end()

    def due(self, now: float) -> None:
        """It is ``now``: items whose back-off is over are ready."""
        while self._timers and self._timers[0][0] <= now:
            _, number = heapq.heappop(self._timers)
            item = self.items.get(number)
            if item is not None and item.status is WorkItemStatus.WAITING_RETRY and item.due <= now:
                item.status = ITEM[item.status, ItemFact.DUE]
                self._commit.changed.append(item)
                self._enqueue(item)

    def cancel(self) -> None:
        """Start nothing any more, and end as cancelled. Without effect on a run that is over."""
        if self.phase not in FINAL:
            self._move(RunFact.CANCEL)
            self._check_end()

    def resume(self) -> None:
        """From FAILED: the items that failed the run are tried again, as if for the first time."""
        self._move(RunFact.RESUME)
        self.failure = None
        for item in self.items.values():
            if item.status is WorkItemStatus.FAILED:
                item.status = ITEM[item.status, ItemFact.RESUMED]
                item.attempt = 1
                self._failed -= 1
                self._commit.changed.append(item)
                self._enqueue(item)
        self._check_end()

    def abandon(self, error: ErrorRecord) -> None:
        """The run cannot go on for a reason that is no item's (workers cannot start): it fails."""
        if self.phase not in FINAL:
            self.failure = self.failure or error
            self._move(RunFact.ITEM_FAILED)
            self._check_end()

    def crash(self, error: ErrorRecord) -> None:
        """The run cannot be trusted to go on, or to be drained: it fails on the spot."""
        if self.phase not in FINAL:
            self.failure = error
            self._move(RunFact.BROKEN)

    # -- what there is to know -----------------------------------------------------------------------

    @property
    def status(self) -> RunStatus:
        return STATUS[self.phase]

    @property
    def over(self) -> bool:
        return self.phase in FINAL

    @property
    def ready(self) -> int:
        """How many items could be claimed now."""
        if self.phase is not Phase.RUNNING:
            return 0
        return len(self._ready) + (bool(self._serial_ready) and not self._serial_running)

    @property
    def next_due(self) -> float | None:
        """When ``due`` has something to do, or None."""
        return self._timers[0][0] if self._timers and self.phase is Phase.RUNNING else None

    @property
    def metrics(self) -> RunMetrics:
        return RunMetrics(self._last_id, self._completed, self._failed, self._retries)

    def take_commit(self) -> Commit:
        """What was decided since the last time."""
        commit, self._commit = self._commit, Commit()
        return commit

    # -- inside --------------------------------------------------------------------------------------

    def _policy(self, item: ItemRecord) -> RetryPolicy | None:
        return self.plan.places[item.place].spec.retry or self.default_retry

    def _unlease(self, item: ItemRecord, fact: ItemFact) -> None:
        item.status = ITEM[item.status, fact]
        item.lease = 0
        self.leased -= 1
        if self.plan.places[item.place].spec.serial:
            self._serial_running = False

    def _finish(self, item: ItemRecord, fact: ItemFact) -> Place:
        self._unlease(item, fact)
        del self.items[item.id]
        self._commit.finished.append(item.id)
        return self.plan.places[item.place]

    def _write(self, item: ItemRecord, place: Place, writes: tuple[Write, ...]) -> None:
        for index, (field, payload) in enumerate(writes):
            self._commit.events.append(EventRecord(item.order, index, place.spec.name, field, payload))

    def _fan_out(self, item: ItemRecord, place: Place, values: tuple[Value, ...], scope: Scope) -> None:
        depth, path = item.order
        branch = 0
        for index, (arm, payload) in enumerate(values):
            targets = place.arms[arm]
            if not targets:
                self._commit.outputs.append(OutputRecord(item.order, index, place.spec.name, payload, item.worker))
            for target in targets:
                self._create(target, (depth + 1, (*path, branch)), payload, scope, place.spec.name)
                branch += 1

    def _create(
        self,
        target: Target,
        order: Order,
        payload: Payload,
        scope: Scope,
        origin: str,
        error: ErrorRecord | None = None,
    ) -> None:
        """A successor: an item of its own, or an arrival at a join."""
        if target.level >= 0:
            while scope.parent is not None and scope.level > target.level:
                scope = scope.parent
            arrival = Arrival(scope.id, target.place, order, origin, payload)
            scope.arrivals.setdefault(target.place, []).append(arrival)
            self._commit.arrived.append(arrival)
            return
        self._add(target.place, order, payload, scope, error)

    def _add(self, place: int, order: Order, payload: Payload, scope: Scope, error: ErrorRecord | None = None) -> None:
        self._last_id += 1
        item = ItemRecord(self._last_id, place, order, payload, scope, error)
        self.items[item.id] = item
        self._commit.created.append(item)
        self._enqueue(item)
        within: Scope | None = scope
        while within is not None:
            component = within.plan.component_of[place]
            within.alive[component] += 1
            if within.depth[component] < order[0]:
                within.depth[component] = order[0]
            within = within.parent

    def _enqueue(self, item: ItemRecord) -> None:
        (self._serial_ready if self.plan.places[item.place].spec.serial else self._ready).push(item)

    def _again(self, item: ItemRecord, due: float, now: float) -> None:
        self._unlease(item, ItemFact.RETRIED)
        item.attempt += 1
        item.due = due
        self._retries += 1
        self._commit.changed.append(item)
        heapq.heappush(self._timers, (due, item.id))
        self.due(now)
        self._check_end()

    def _give_up(self, item: ItemRecord, error: ErrorRecord) -> None:
        self._failed += 1
        if self.plan.places[item.place].on_failure is None:
            # The item stays where it is: what waits for it must not go on as if it had been dealt with.
            self._unlease(item, ItemFact.FAILED)
            self._commit.changed.append(item)
            self.failure = self.failure or error
            self._move(RunFact.ITEM_FAILED)
            self._check_end()
            return
        place = self._finish(item, ItemFact.FAILED)
        targets = place.on_failure or ()
        depth, path = item.order
        for branch, target in enumerate(targets):
            order = (depth + 1, (*path, branch) if len(targets) > 1 else path)
            self._create(target, order, item.payload, item.scope, place.spec.name, error)
        self._leave(item)

    def _record(self, item: ItemRecord, error: ErrorRecord) -> ErrorRecord:
        self._errors += 1
        name = self.plan.places[item.place].spec.name
        error = error._replace(number=self._errors, node=name, item_id=item.id, attempt=item.attempt)
        self._commit.errors.append(error)
        return error

    # -- scopes --------------------------------------------------------------------------------------

    def _open(self, item: ItemRecord, place: Place) -> Scope:
        return Scope.open(item.id, self.plan.scopes[(*place.chain, place.node)], item.scope, item.order)

    def _leave(self, item: ItemRecord) -> None:
        """The item is over, its successors are there: close what is closed now, innermost scope first."""
        scope: Scope | None = item.scope
        while scope is not None:
            component = scope.plan.component_of[item.place]
            scope.alive[component] -= 1
            if not scope.alive[component]:
                self._settle(scope, [component])
            scope = scope.parent
        self._check_end()

    def _settle_all(self, scope: Scope) -> None:
        """A scope was opened: components with nothing before them and nothing in them are closed at once."""
        self._settle(scope, [c for c, before in enumerate(scope.plan.predecessors) if not before])

    def _settle(self, scope: Scope, components: list[int]) -> None:
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
                scope.waiting_for[after] -= 1
                scope.depth[after] = max(scope.depth[after], scope.depth[at])
                components.append(after)

    def _fire(self, scope: Scope, join: int, depth: int) -> None:
        arrivals = sorted(scope.arrivals.pop(join, ()), key=lambda a: a.order)
        payload = tuple((a.node, a.payload) for a in arrivals)
        self._commit.joined.append((scope.id, join))
        self._add(join, (depth, self._join_path(scope, join)), payload, scope.parent or scope)

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

    # -- the end -------------------------------------------------------------------------------------

    def _check_end(self) -> None:
        if self.phase is Phase.RUNNING:
            if not self.items:
                self._move(RunFact.STUCK if self.held else RunFact.IDLE)
        elif self.phase not in FINAL and not self.leased:
            self._move(RunFact.IDLE)

    def _move(self, fact: RunFact) -> None:
        self.phase = RUN[self.phase, fact]
        self._commit.phase_changed = True
