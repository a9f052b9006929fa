"""A ``RunState`` made of what a store remembers of it. What can be computed from the rest is not stored: what is
alive where, which components are closed, what is in a batch's window.
"""

from __future__ import annotations

import heapq

from ..facts import RunMetrics, WorkItemStatus
from ..retry import RetryPolicy
from .plan import Plan
from .records import ErrorRecord, Given, ItemRecord, ItemRow, Scope, Snapshot
from .sources import Source
from .state import RunState
from .table import Phase


def restored(
    plan: Plan,
    snapshot: Snapshot,
    phase: Phase,
    metrics: RunMetrics,
    counts: tuple[int, int],
    failure: ErrorRecord | None,
    default_retry: RetryPolicy | None = None,
    finish: bool = False,
) -> RunState:
    """The run as of its last commit, with nothing leased. What was running is pending again.

    Input that was given bit by bit is at its end: a join that waited only for more of it fires.

    Args:
        plan: of the same graph as before.
        counts: how many items and how many error rows there have been (``RunState.counts``).
    """
    state = RunState(plan, default_retry, finish)
    state.phase, state.failure = phase, failure
    state._last_id, state._errors = counts
    state._dropped = state._last_id - metrics.total_work_items
    state._completed, state._failed, state._retries = metrics.completed, metrics.failed, metrics.retries
    state.held = {node: list(items) for node, items in snapshot.held.items()}
    state._passed = set(snapshot.passed)
    scopes = _scopes(state, snapshot)
    batches: dict[int, list[tuple[int, ItemRecord]]] = {}
    for row in snapshot.items:
        item = _put(state, row, scopes[row.scope])
        if row.id in snapshot.given:
            _open_source(state, item, snapshot.given[row.id], scopes)
        if item.scope.window is None:
            _queue(state, item)
        else:
            batches.setdefault(row.scope, []).append((item.order[1][-1], item))
    for arrival in snapshot.arrivals:
        scopes[arrival.scope].arrivals.setdefault(arrival.place, []).append(arrival)
    for scope in reversed(scopes.values()):  # inner ones first: joins of theirs may fire, if the graph is another one
        if scope.window is not None:
            for item in scope.window.restore(batches.get(scope.id, [])):
                _queue(state, item)
        state._settle_all(scope)
    state._check_end()
    return state


def _scopes(state: RunState, snapshot: Snapshot) -> dict[int, Scope]:
    plan, scopes = state.plan, {0: state.root}
    for record in sorted(snapshot.scopes):  # by the item that opened it: outer ones first
        opener = plan.places[record.place]
        inner = plan.scopes[(*opener.chain, opener.node)]
        made = Scope.open(record.id, inner, scopes[record.parent], record.order, record.batch)
        if made.window is not None:
            made.window.failed = snapshot.spoilt.get(record.id)
        scopes[record.id] = made
    for (number, component), depth in snapshot.depths.items():
        scopes[number].depth[component] = depth
    for number, place in snapshot.joined:
        scope = scopes[number]
        scope.fired.add(next(c for c, join in scope.plan.joins.items() if join == place))
    return scopes


def _put(state: RunState, row: ItemRow, scope: Scope) -> ItemRecord:
    status = WorkItemStatus.PENDING if row.status is WorkItemStatus.IN_PROGRESS else row.status
    item = ItemRecord(row.id, row.place, row.order, row.payload, scope, row.error, row.attempt, status, due=row.due)
    state.items[item.id] = item
    within: Scope | None = scope
    while within is not None:
        within.alive[within.plan.component_of[item.place]] += 1
        within = within.parent
    return item


def _open_source(state: RunState, item: ItemRecord, given: Given, scopes: dict[int, Scope]) -> None:
    scope = scopes.get(item.id, item.scope)
    scope.filling |= scope is not item.scope
    state._sources.add(Source(item, scope, given))


def _queue(state: RunState, item: ItemRecord) -> None:
    if item.status is WorkItemStatus.PENDING:
        state._requeue(item)
    elif item.status is WorkItemStatus.WAITING_RETRY:
        state._waiting += 1
        heapq.heappush(state._timers, (item.due, item.id))
