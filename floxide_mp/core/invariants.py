"""What must hold of a ``RunState`` between two facts. Slow: tests call it after every stimulus, the runtime never."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..facts import WorkItemStatus
from .records import Scope
from .state import RunState
from .table import FINAL, Phase


def check(state: RunState) -> None:
    """Assert all of it."""
    by_status = {status: [i for i in state.items.values() if i.status is status] for status in WorkItemStatus}
    pending, leased = by_status[WorkItemStatus.PENDING], by_status[WorkItemStatus.IN_PROGRESS]
    waiting, failed = by_status[WorkItemStatus.WAITING_RETRY], by_status[WorkItemStatus.FAILED]
    assert len(pending) + len(leased) + len(waiting) + len(failed) == len(state.items), (
        "an item in a final state is kept"
    )
    parked = [i for scope in _scopes(state) if scope.window for _, i in scope.window.parked]
    ready = (*state._ready, *state._serial_ready, *state._sources.pending, *parked)
    assert sorted(i.id for i in ready) == sorted(i.id for i in pending)
    assert sorted(state._sources.pending) == state._sources.pending
    assert all(state._sources.get(i.id) for i in state._sources.pending)
    assert all(state.items[s.item.id] is s.item for s in state._sources), "what is over has more to give"
    filling = {s.scope.id for s in state._sources if s.scope is not s.item.scope}
    assert filling == {s.id for s in _scopes(state) if s.filling}
    assert len(waiting) == state._waiting
    assert state.leased == len(leased)
    assert all(i.lease for i in leased) and not any(i.lease for i in pending + waiting)
    assert {i.id for i in waiting} <= {number for _, number in state._timers}
    assert len({i.order for i in state.items.values()}) == len(state.items), "two items with one order key"
    serial = [i for i in leased if state.plan.places[i.place].spec.serial]
    assert len(serial) == state._serial_running
    for scope in _scopes(state):
        _check_scope(state, scope)
    if state.phase is Phase.COMPLETED:
        assert not state.items and not state.held and not any(state.root.arrivals.values())
    if state.phase in FINAL:
        assert not state.leased


def _scopes(state: RunState) -> Iterable[Scope]:
    seen: dict[int, Scope] = {0: state.root}
    for of in (*(i.scope for i in state.items.values()), *(s.scope for s in state._sources)):
        scope: Scope | None = of
        while scope is not None:
            seen[scope.id] = scope
            scope = scope.parent
    return seen.values()


def _check_scope(state: RunState, scope: Scope) -> None:
    alive = [0] * len(scope.alive)
    if state.open and scope.parent is None:
        alive[scope.plan.component_of[0]] += 1
    if scope.window is not None:
        parked = {item.id for _, item in scope.window.parked}
        in_flight = [i for i in state.items.values() if i.scope is scope and i.id not in parked]
        assert len(in_flight) <= scope.window.size, "more of a batch is in flight than its size"
    for item in state.items.values():
        if scope in _chain(item.scope):
            alive[scope.plan.component_of[item.place]] += 1
    assert alive == scope.alive
    for component, before in enumerate(scope.plan.predecessors):
        ahead = [c for c, after in enumerate(scope.plan.successors) if component in after]
        assert len(ahead) == before
        still = sum(c not in scope.closed for c in ahead)
        assert scope.waiting_for[component] == still
        if scope.filling:
            assert component not in scope.closed
        elif component in scope.closed:
            assert not alive[component] and not still
        else:
            assert alive[component] or still, "nothing can reach it, and yet it is not closed"


def _chain(scope: Scope) -> Iterator[Scope]:
    within: Scope | None = scope
    while within is not None:
        yield within
        within = within.parent
