"""A ``RunState`` made of what a store remembers of it. What can be computed from the rest is not stored: what is
alive where, which components are closed, what is in a batch's window.
"""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterable, Iterator, Sequence
from math import inf

from ..api.retry import RetryPolicy
from ..types import RunMetrics, WorkItemStatus
from .plan import Plan
from .progress import MOST
from .records import Chunk, ItemRecord, ItemRow, Scope, Snapshot
from .run_state import RunState
from .streams import Kept
from .transitions import Phase
from .types import ErrorRecord, StreamOffset, size_of


def restored(
    plan: Plan,
    snapshot: Snapshot,
    phase: Phase,
    metrics: RunMetrics,
    counts: tuple[int, int],
    failure: ErrorRecord | None,
    default_retry: RetryPolicy | None = None,
    finish: bool = False,
    now: float = inf,
) -> RunState:
    """The run as of its last commit, with nothing leased. What was running is pending again.

    Input that was given bit by bit is at its end: a join that waited only for more of it fires.

    Args:
        plan: of the same graph as before.
        counts: how many items and how many error rows there have been (``RunState.counts``).
        now: what due times are counted from. They were kept by the clock on the wall, which may have been set back
            since: nothing waits longer from now on than its policy ever lets it wait.
    """
    state = RunState(plan, default_retry, finish)
    state.phase, state.failure = phase, failure
    state._last_id, state._errors = counts
    state.inherited = state._last_id
    state._dropped = state._last_id - metrics.total_work_items
    state._completed, state._failed, state._retries = metrics.completed, metrics.failed, metrics.retries
    state.held = {node: list(items) for node, items in snapshot.held.items()}
    state._passed = set(snapshot.nodes_emitted)
    state.failed = sum([row.status is WorkItemStatus.FAILED for row in snapshot.items])
    scopes = _scopes(state, snapshot)
    batches: dict[int, list[tuple[int, ItemRecord]]] = {}
    for rows in side_by_side(plan, snapshot.items, snapshot.given):
        scope = scopes[rows[0].scope]
        if rows[0].status is WorkItemStatus.HELD:
            _put_held(state, rows[0], scope)
            continue
        if len(rows) > 1:
            _put_block(state, rows, scope)
            continue
        item = _put(state, rows[0], scope)
        if item.id in snapshot.given:
            _open_source(state, item, snapshot.given[item.id], scopes)
        if item.status is WorkItemStatus.WAITING_RETRY:
            item.due = min(item.due, now + _longest_wait(state, item))
        if scope.window is None:
            _queue(state, item)
        else:
            batches.setdefault(scope.id, []).append((item.order[1][-1], item))
    for arrival in snapshot.arrivals:
        scopes[arrival.scope].arrivals.setdefault(arrival.place, []).append(arrival)
    for scope in reversed(scopes.values()):  # inner ones first: joins of theirs may fire, if the graph is another one
        if scope.window is not None:
            batch = batches.get(scope.id, [])
            for item in scope.window.restore(batch, [number for number, item in batch if _has_begun(state, item)]):
                _queue(state, item)
        state._settle_all(scope)
    state._check_end()
    return state


def _scopes(state: RunState, snapshot: Snapshot) -> dict[int, Scope]:
    plan, scopes = state.plan, {0: state.root}
    for record in sorted(snapshot.scopes):  # by the item that opened it: outer ones first
        opener = plan.places[record.place]
        inner = plan.scopes[(*opener.scope_path, opener.node)]
        made = Scope.open(record.id, inner, scopes[record.parent], record.order, record.batch)
        if made.window is not None:
            made.window.failed = snapshot.failed_batches.get(record.id)
        scopes[record.id] = made
    for (number, component), depth in snapshot.depths.items():
        scopes[number].depth[component] = depth
    for number, place in snapshot.joined:
        scope = scopes[number]
        scope.fired.add(next(c for c, join in scope.plan.joins.items() if join == place))
    return scopes


def side_by_side(plan: Plan, rows: Iterable[ItemRow], apart: Container[int] = ()) -> Iterator[list[ItemRow]]:
    """The items, in order: those that can be a block together, the others, and those ``apart``, one by one."""
    found: list[ItemRow] = []
    for row in rows:
        alone = row.id in apart or (found and found[-1].id in apart)
        if found and (alone or len(found) == MOST or not _follows(plan, found[-1], row)):
            yield found
            found = []
        found.append(row)
    if found:
        yield found


def _follows(plan: Plan, before: ItemRow, row: ItemRow) -> bool:
    """Whether these two can be neighbours in a block."""
    if row.id != before.id + 1 or not (_fresh(before) and _fresh(row)):
        return False
    spec, (depth, path) = plan.places[row.place].spec, before.order
    alike = (row.place, row.scope) == (before.place, before.scope) and not spec.serial and spec.window is None
    return alike and bool(path) and row.order == (depth, (*path[:-1], path[-1] + 1))


def _fresh(row: ItemRow) -> bool:
    """Whether nothing has happened to it that counts."""
    started = row.status not in (WorkItemStatus.PENDING, WorkItemStatus.IN_PROGRESS)
    return row.attempt == 1 and not (started or row.due) and row.error is None and isinstance(row.payload, bytes)


def _put_block(state: RunState, rows: Sequence[ItemRow], scope: Scope) -> None:
    first, count = rows[0], len(rows)
    block = Chunk(first.id, first.place, first.order, [row.payload for row in rows], scope)
    state._ready.push(block)
    state.in_blocks += count
    if state.serial_order is not None:
        state.serial_order.add_block(block)
    state.bytes += block.size
    _alive(scope, first.place, count)


def _put(state: RunState, row: ItemRow, scope: Scope) -> ItemRecord:
    status = WorkItemStatus.PENDING if row.status is WorkItemStatus.IN_PROGRESS else row.status
    item = ItemRecord(row.id, row.place, row.order, row.payload, scope, row.error, row.attempt, status, due=row.due)
    state.items[item.id] = item
    item.size = size_of(item.payload)
    if status is not WorkItemStatus.FAILED:
        state.bytes += item.size
    _alive(scope, item.place, 1)
    return item


def _has_begun(state: RunState, item: ItemRecord) -> bool:
    return item.status is not WorkItemStatus.PENDING or state._sources.get(item.id) is not None


def _put_held(state: RunState, row: ItemRow, scope: Scope) -> None:
    node = state.plan.places[row.place].node
    state.held.setdefault(node, []).append(row.id)
    state.kept.setdefault(node, []).append(Kept(row.id, row.place, scope))
    _alive(scope, row.place, 1)


def _alive(scope: Scope, place: int, count: int) -> None:
    within: Scope | None = scope
    while within is not None:
        within.alive[within.plan.component_of[place]] += count
        within = within.parent


def _open_source(state: RunState, item: ItemRecord, given: StreamOffset, scopes: dict[int, Scope]) -> None:
    scope = scopes.get(item.id, item.scope)
    scope.open_ended |= scope is not item.scope
    state._open_source(item, scope, given)


def _longest_wait(state: RunState, item: ItemRecord) -> float:
    """Seconds that this item waits for its next attempt at the most."""
    policy = state._policy(item)
    return 0.0 if policy is None else policy.backoff(max(1, item.attempt - 1), 1.0)


def _queue(state: RunState, item: ItemRecord) -> None:
    state._enter_order(item)
    if item.status is WorkItemStatus.PENDING:
        state._requeue(item)
    elif item.status is WorkItemStatus.WAITING_RETRY:
        state._waiting += 1
        heapq.heappush(state._timers, (item.due, item.id))
