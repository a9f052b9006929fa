"""``RunState``: one run. It is told facts, moves along ``table``, and collects what must be committed.

Nothing here waits, reads a clock or looks into a payload: ``now`` is given, and what follows is handed out
by ``take_commit``. Between two of those, everything that was decided belongs into one atomic write.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Final

from ..api.retry import RetryPolicy
from ..types import RunMetrics, RunStatus, WorkItemStatus
from .leases import Leaseholder
from .plan import Place, Plan
from .progress import NOTHING, Value
from .ready import Ready
from .records import Chunk, Commit, ItemRecord, Scope, bounded, error_size
from .streams import Holding, StreamingItems, Write
from .transitions import FINAL, ITEM, RUN, STATUS, STOPPING, ItemEvent, Phase, RunEvent
from .types import ErrorRecord, Packed, Payload, StreamOffset, offset_key

MAX_DEATHS: Final = 3  # workers that an item may take with it where its node has no retry policy


# A global is found at once, a member of an enum is looked for.
_RUNNING: Final = Phase.RUNNING
_SUCCEEDED: Final = ItemEvent.SUCCEEDED


class RunState(Holding):
    """The state machine of one run.

    Args:
        plan: the graph, with its scopes.
        default_retry: the policy of nodes that have none.
        finish: whether an item that failed for good lets all others come to their end before the run fails.
    """

    def __init__(self, plan: Plan, default_retry: RetryPolicy | None = None, finish: bool = False) -> None:
        super().__init__(plan)
        self.default_retry = default_retry
        self.finish = finish
        self.failure: ErrorRecord | None = None  # of the first item that failed for good
        self._timers: list[tuple[float, int]] = []
        self._failed = self._retries = self._errors = 0
        self.failed = 0  # items that failed for good, and are there
        self._error_size = 0  # of the errors' texts and exceptions since the run was taken up

    # -- facts ---------------------------------------------------------------------------------------

    def start(self, payload: Packed) -> None:
        """The run's input is here."""
        self._queue(self._add(0, (0, ()), payload, self.root))
        self._settle_all(self.root)

    def succeed(
        self,
        item: ItemRecord,
        values: Sequence[Value],
        writes: tuple[Write, ...],
        spread: bool,
        on: Leaseholder | None = None,
    ) -> ItemRecord | None:
        """A step is over; ``spread`` says that it was a ``NextAll``, however many values it had.

        Args:
            on: who has run the one successor already, or is at it: it is leased to them, and returned.
        """
        before = self.bytes
        place, scope, given = self._succeeded(item, writes)
        after = None
        if not spread and not place.opens_scope and len(values) == 1 and len(place.arms[values[0][0]]) == 1:
            arm, payload = values[0]
            order = item.order[0] + 1, item.order[1]
            if on is None:
                self._create(place.arms[arm][0], order, payload, scope, place.spec.name, alone=item.unchained_steps - 1)
            else:
                after = self._add(place.arms[arm][0].place, order, payload, scope)
                if self.serial_order is not None:
                    self.serial_order.add(after)
                self._lease(after, *on)
        else:
            self._fan_out(item, place, values, scope, given)
        if self._grown or self.bytes - before > self.memory.growth:
            self._grew(item.place, self.bytes - before)
        if place.opens_scope:
            self._settle_all(scope)
        self._leave(item)
        self._check_end()
        return after

    def fan_out(self, item: ItemRecord, arm: int, payloads: list[Payload], writes: tuple[Write, ...]) -> None:
        """A step is over that was a ``NextAll`` of many values, which all take one arm."""
        before = self.bytes
        place, scope, given = self._succeeded(item, writes)
        self._fan_out_alike(item, place, arm, payloads, scope, given)
        if self._grown or self.bytes - before > self.memory.growth:
            self._grew(item.place, self.bytes - before)
        if place.opens_scope:
            self._settle_all(scope)
        self._leave(item)
        self._check_end()

    def succeed_all(
        self,
        block: Chunk,
        arm: int,
        payloads: list[Payload],
        writes: Sequence[tuple[Write, ...]],
        worker: int,
        ahead: bool = False,
    ) -> Chunk | None:
        """Steps side by side are over, each with one value; these take one arm.

        Args:
            writes: of each step, or nothing if none wrote.
            worker: who ran them.
            ahead: as ``on`` of ``succeed``, for the successors.
        """
        place = self.plan.places[block.place]
        if place.opens_scope or len(place.arms[arm]) > 1:
            items = self.split_off(block, worker=worker)
            for item, payload, written in zip(items, payloads, writes or ((),) * len(block), strict=True):
                self.succeed(item, ((arm, payload),), written, False)
            return None
        if block.first <= self.inherited or place.node not in self._opened:
            self.could_open(block.first, place.node)
        count, before = len(block), self.bytes
        self._unlease_block(block)
        self._left_block(block)
        self.bytes -= block.size
        for number, written in enumerate(writes):
            if written:
                self._write(offset_key(block.order, number), place, written)
        self._count(place, count)
        after = None
        if ahead:
            depth, path = block.order
            after = self._add_block(place.arms[arm][0].place, (depth + 1, path), payloads, block.scope)
            self._lease(after, 0, worker)
        else:
            self._pass_on(place, arm, block, payloads, worker)
        if self._grown or self.bytes - before > self.memory.growth * count:
            self._grew(block.place, (self.bytes - before) // count)
        self._exit(block.place, block.scope, count)
        self._check_end()
        return after

    def release_all(self, block: Chunk) -> None:
        """As ``release``, of the items of a block."""
        self._unlease_block(block)
        self._ready.push(block)
        self._check_end()

    def fail(self, item: ItemRecord, error: ErrorRecord, retryable: bool, now: float, unit: float = 0.0) -> None:
        """An attempt failed; ``unit`` in [0, 1) chooses the jitter of the back-off."""
        policy = self._policy(item)
        limit = policy.max_attempts if policy and retryable else 1
        error = self._record(item, error)
        self._break_off(item)
        if self.phase in STOPPING:
            self.release(item)
        elif policy is not None and item.attempt < limit:
            self._again(item, now + policy.backoff(item.attempt, unit), now)
        else:
            self._give_up(item, error)

    def undo(self, item: ItemRecord, error: ErrorRecord | None = None) -> None:
        """A step has not happened: it saw that its run is to stop, or it could not begin: then the run fails."""
        self._break_off(item)
        if error is not None:
            self.abandon(error)
        self.release(item)

    def set_aside(self, item: ItemRecord, error: ErrorRecord) -> bool:
        """An item's input could not be opened; whether it waits until another of its node could be. If none can, the
        run fails, and items are as they were: else what is broken around a program would hand all of them to
        ``on_failure``, for good. Without one, a failure of an item that is new can be resumed as well.
        """
        lost = item.id <= self.inherited or self.plan.places[item.place].on_failure is not None
        if self._open or not lost or self._is_bad(item):
            return False
        self._break_off(item)
        self._unlease(item, ItemEvent.RELEASED)
        self._unopened.append((item, error))
        self._check_end()
        return True

    def worker_died(self, item: ItemRecord, error: ErrorRecord, now: float) -> None:
        """The worker died while it ran this item; without a policy an item may do that ``MAX_DEATHS`` times."""
        policy = self._policy(item)
        error = self._record(item, error)
        self._break_off(item)
        if self.phase in STOPPING:
            self.release(item)
        elif item.attempt < (policy.max_attempts if policy else MAX_DEATHS):
            self._again(item, now, now)
        else:
            self._give_up(item, error)

    def release(self, item: ItemRecord) -> None:
        """The lease is over and the item was not started, or no harm came of it: it is as it was."""
        self._unlease(item, ItemEvent.RELEASED)
        self._requeue(item)
        self._check_end()

    def due(self, now: float) -> None:
        """It is ``now``: items whose back-off is over are ready."""
        while self._timers and self._timers[0][0] <= now:
            _, number = heapq.heappop(self._timers)
            item = self.items.get(number)
            if item is not None and item.status is WorkItemStatus.WAITING_RETRY and item.due <= now:
                item.status = ITEM[item.status, ItemEvent.DUE]
                self._waiting -= 1
                self._commit.changed.append(item)
                self._requeue(item)

    def pause(self) -> None:
        """Start nothing until resumed; what runs is finished. Only a run that is RUNNING can be paused."""
        if self.phase is Phase.RUNNING:
            self._move(RunEvent.PAUSE)

    def time_out(self, error: ErrorRecord) -> None:
        """The run was longer than allowed: start nothing any more, and end as failed."""
        if (self.phase, RunEvent.TIMED_OUT) in RUN:
            self.failure = self.failure or error
            self._move(RunEvent.TIMED_OUT)
            self._check_end()

    def cancel(self) -> None:
        """Start nothing any more, and end as cancelled. Without effect on a run that is over."""
        if self.phase not in FINAL:
            self._move(RunEvent.CANCEL)
            self._check_end()

    def resume(self, now: float) -> None:
        """Go on. From FAILED, what is unfinished is tried again as if for the first time."""
        failed = self.phase is Phase.FAILED
        self._move(RunEvent.RESUME)
        if failed:
            self.failure = None
            self._timers.clear()
            self._waiting = 0
            self.release_affinity()
            for item in self.items.values():
                self._start_over(item)
            self.inherited = self._last_id
            self._opened = {}
            self.close()  # nobody feeds it any more
        unopened, self._unopened = self._unopened, []
        for item, _ in unopened:
            self._requeue(item)
        self.due(now)
        self._check_end()

    def _start_over(self, item: ItemRecord) -> None:
        pending = item.status is WorkItemStatus.PENDING
        if pending and item.attempt == 1:
            return
        if item.status is WorkItemStatus.FAILED:
            self._failed -= 1
            self.failed -= 1
            self.bytes += item.size
            self._enter_order(item)
        item.attempt = 1
        self._commit.changed.append(item)
        if not pending:
            item.status = ITEM[item.status, ItemEvent.RESUMED]
            self._requeue(item)

    def abandon(self, error: ErrorRecord) -> None:
        """The run cannot go on for a reason that is no item's (workers cannot start): it fails."""
        if self.phase not in FINAL:
            self.failure = self.failure or error
            self._move(RunEvent.ITEM_FAILED)
            self._check_end()

    def crash(self, error: ErrorRecord) -> None:
        """The run cannot be trusted to go on, to be drained, or to have ended: it fails on the spot."""
        if self.phase is not Phase.BROKEN:
            self.failure = error
            self._move(RunEvent.BROKEN)

    # -- what there is to know -----------------------------------------------------------------------

    @property
    def status(self) -> RunStatus:
        return STATUS[self.phase]

    @property
    def over(self) -> bool:
        return self.phase in FINAL

    @property
    def next_due(self) -> float | None:
        """When ``due`` has something to do, or None."""
        return self._timers[0][0] if self._timers and self.phase is Phase.RUNNING else None

    @property
    def metrics(self) -> RunMetrics:
        return RunMetrics(self._last_id - self._dropped, self._completed, self._failed, self._retries)

    @property
    def counts(self) -> tuple[int, int]:
        """How many items and how many error rows there have been: the last numbers given."""
        return self._last_id, self._errors

    def take_commit(self) -> Commit:
        """What was decided since the last time."""
        commit, self._commit = self._commit, Commit()
        memory, told = self.memory, 0 if self.phase in FINAL else self.bytes + self._making
        memory.used += told - self._counted_bytes
        self._counted_bytes = told
        if memory.used > memory.deep:
            self._go_by_depth()
        return commit

    # -- inside --------------------------------------------------------------------------------------

    def _policy(self, item: ItemRecord) -> RetryPolicy | None:
        return self.plan.places[item.place].spec.retry or self.default_retry

    def _succeeded(self, item: ItemRecord, writes: tuple[Write, ...]) -> tuple[Place, Scope, StreamOffset]:
        """A step is over and passes something on: its place, the scope of its successors, and what it gave before."""
        place = self._finish(item, _SUCCEEDED)
        if item.id <= self.inherited or place.node not in self._opened:
            self.could_open(item.id, place.node)
        source = self._given_all(item) if self._sources.known else None
        given = source.given if source else NOTHING
        if writes:
            self._write(item.order, place, writes, given)
        self._count(place, 1)
        if source is None and not place.opens_scope:
            return place, item.scope, given
        return place, self._scope_within(item, place, source), given

    def _again(self, item: ItemRecord, due: float, now: float) -> None:
        self._unlease(item, ItemEvent.RETRIED)
        item.attempt += 1
        item.due = due
        self._retries += 1
        self._waiting += 1
        self._commit.changed.append(item)
        heapq.heappush(self._timers, (due, item.id))
        self.due(now)
        self._check_end()

    def _give_up(self, item: ItemRecord, error: ErrorRecord) -> None:
        self._failed += 1
        if self.plan.places[item.place].on_failure is None:
            # The item stays where it is: what waits for it must not go on as if it had been dealt with.
            self._unlease(item, ItemEvent.FAILED)
            self.bytes -= item.size
            self._commit.changed.append(item)
            self.failure = self.failure or error
            self.failed += 1
            if not self.finish:
                self._move(RunEvent.ITEM_FAILED)
            self._check_end()
            return
        place = self._finish(item, ItemEvent.FAILED)
        source = self._given_all(item)  # what it gave stays given
        given = source.given if source else NOTHING
        if place.spec.window is None:
            self._to_on_failure(place, item.order, item.payload, item.scope, error, given)
        elif item.scope.window is not None and item.scope.window.fail(item.order[1][-1], error):
            self._commit.failed_batches[item.scope.id] = item.order[1][-1], error
        if source is not None and source.scope is not item.scope:
            self._settle_all(source.scope)
        self._leave(item)
        self._check_end()

    def _record(self, item: ItemRecord, error: ErrorRecord) -> ErrorRecord:
        self._errors += 1
        name = self.plan.places[item.place].spec.name
        error = error._replace(number=self._errors, node=name, item_id=item.id, attempt=item.attempt)
        self._error_size += error_size(error)
        self._commit.errors.append(bounded(error, self._error_size))  # a fallback gets the whole of it
        return error

    # -- the end -------------------------------------------------------------------------------------

    @property
    def _stuck(self) -> bool:
        serial = self._serial_item if self._unopened else self._serial_ready  # those behind one that waits wait for it
        return not (self.leased or self._ready or serial or self._waiting or self._sources.pending)

    def _check_end(self) -> None:
        if self.phase is _RUNNING or self.phase is Phase.PAUSED:
            if self._open:
                return
            if not self.items and not self.in_blocks:
                self._move(RunEvent.STUCK if self.held else RunEvent.IDLE)
            elif (self.failure or self._unopened) and self._stuck and not self._try_single():
                self.failure = self.failure or self._unopened[0][1]
                self._move(RunEvent.LEFT)
        elif self.phase not in FINAL and not self.leased:
            self._move(RunEvent.IDLE)
            if self.phase is Phase.CANCELLED:
                self._drop_all()

    def _drop_all(self) -> None:
        """Nobody will do what is left: it is not kept, neither here nor in the store."""
        commit, scopes = self._commit, {0: self.root}
        blocks = [part for part in self._ready.entries() if isinstance(part, Chunk)]
        unfinished: list[ItemRecord | Chunk] = [*self.items.values(), *blocks]
        kept = [one for found in self.kept.values() for one in found]
        for item in (*unfinished, *kept):
            within: Scope | None = item.scope
            while within is not None and within.id not in scopes:
                scopes[within.id] = within
                within = within.parent
        commit.ranges += [(block.first, len(block)) for block in blocks]
        commit.finished += (*self.items, *(one.id for one in kept))
        commit.given |= dict.fromkeys([source.item.id for source in self._sources])
        commit.joined += [(scope.id, place) for scope in scopes.values() for place in scope.arrivals]
        commit.closed += [number for number in scopes if number]
        self.items, self.held, self.kept, self._timers, self.failed, self._unopened = {}, {}, {}, [], 0, []
        self._ready, self._serial_ready, self._sources = Ready(), Ready(), StreamingItems()
        self.in_blocks = self._waiting = self.bytes = 0
        self.root = Scope.open(0, self.plan.scopes[()], None, (0, ()))

    def _move(self, fact: RunEvent) -> None:
        self.phase = RUN[self.phase, fact]
        self._commit.phase_changed = True
