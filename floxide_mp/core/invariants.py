"""What must hold of a ``RunState`` between two facts. Slow: tests call it after every stimulus, the runtime never."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import pairwise

from ..statuses import WorkItemStatus
from .by_depth import ByDepth
from .holding import Kept
from .rank import Ranked
from .ready import Ready
from .records import Block, ItemRecord, Scope
from .state import RunState
from .table import FINAL, Phase
from .terms import behind, size_of, total_size


def check(state: RunState, leased_blocks: Collection[Block] = ()) -> None:
    """Assert all of it.

    Args:
        leased_blocks: those that workers have, of which a state keeps only the numbers.
    """
    if state.phase is Phase.CANCELLED:
        assert not (state.items or state.in_blocks or state.leased or state.bytes or len(state._ready))
        return
    by_status = {status: [i for i in state.items.values() if i.status is status] for status in WorkItemStatus}
    pending, leased = by_status[WorkItemStatus.PENDING], by_status[WorkItemStatus.IN_PROGRESS]
    waiting, failed = by_status[WorkItemStatus.WAITING_RETRY], by_status[WorkItemStatus.FAILED]
    assert len(pending) + len(leased) + len(waiting) + len(failed) == len(state.items), (
        "an item in a final state is kept"
    )
    assert len(failed) == state.failed
    blocks = [*_ready_blocks(state), *leased_blocks]
    scopes = _scopes(state, blocks)
    parked = [i for scope in scopes if scope.window for _, i in scope.window.parked]
    in_ready = [i for ready in (state._ready, state._serial_ready) for i in _queued(ready) if not isinstance(i, Block)]
    waits = (*in_ready, *state._sources.pending, *parked)
    assert sorted(i.id for i in waits) == sorted(i.id for i in pending), "a pending item is not in one queue"
    _check_sources(state, scopes)
    assert not {kept.id for kept in _kept(state)} & {*state.items}
    assert not state._passed & {*state.held}
    assert all({kept.id for kept in found} <= {*state.held[node]} for node, found in state.kept.items())
    assert len(waiting) == state._waiting
    assert state.leased == len(leased) + sum(map(len, leased_blocks))
    assert all(i.lease for i in leased) and not any(i.lease for i in pending + waiting)
    assert {i.id for i in waiting} <= {number for _, number in state._timers}, "a retry has no timer"
    _check_blocks(state, blocks, leased_blocks)
    _check_memory(state, blocks)
    serial = [i for i in leased if state.plan.places[i.place].spec.serial]
    assert len(serial) == state._serial_running
    for scope in scopes:
        _check_scope(state, scope, blocks)
    if state.phase is Phase.COMPLETED:
        assert not state.items and not blocks and not state.held and not any(state.root.arrivals.values())
    if state.phase in FINAL:
        assert not state.leased


def _check_blocks(state: RunState, blocks: Collection[Block], leased: Collection[Block]) -> None:
    assert sum(map(len, blocks)) == state.in_blocks
    assert len(state._ready) == sum(len(i) if isinstance(i, Block) else 1 for i in _queued(state._ready))
    assert all(one < other for ready in _parts(state._ready) for one, other in pairwise(ready._queue))
    numbers = {number for block in leased for number in range(block.first, block.first + len(block))}
    ranges = sorted(state.leased_blocks.items())
    assert sorted(numbers) == [number for first, stop in ranges for number in range(first, stop)]
    everything = [*state.items.values(), *(item for block in blocks for item in block.items())]
    assert all(blocks), "an empty block"
    assert len({i.id for i in everything}) == len(everything), "two items with one id"
    assert len({i.order for i in everything}) == len(everything), "two items with one order key"
    assert all(0 < i.id <= state._last_id for i in everything)
    ends = [(i.order, i.order) for i in state.items.values()]
    ends += [(block.order, behind(block.order, len(block) - 1)) for block in blocks]
    for (_, end), (start, _) in pairwise(sorted(ends)):
        assert end < start, "something has its place inside of a block"
    for block in blocks:
        assert not state.plan.places[block.place].spec.serial and block.scope.window is None


def _check_memory(state: RunState, blocks: Collection[Block]) -> None:
    unfinished = [i.payload for i in state.items.values() if i.status is not WorkItemStatus.FAILED]
    assert state.bytes == sum(map(size_of, unfinished)) + sum(total_size(block.payloads) for block in blocks)
    assert state._making == sum(i.making for i in state.items.values())
    assert not any(i.making for i in state.items.values() if not i.lease)


def _check_sources(state: RunState, scopes: Collection[Scope]) -> None:
    pending = state._sources.pending
    assert sorted(pending) == pending
    assert all(state._sources.get(item.id) for item in pending)
    assert all(state.items[s.item.id] is s.item for s in state._sources), "what is over has more to give"
    filling = {s.scope.id for s in state._sources if s.scope is not s.item.scope}
    assert filling == {scope.id for scope in scopes if scope.filling}


def _parts(ready: Ready | Ranked | ByDepth) -> Collection[Ready]:
    return (ready,) if isinstance(ready, Ready) else ready._ready.values()


def _queued(ready: Ready | Ranked | ByDepth) -> list[ItemRecord | Block]:
    return [item for part in _parts(ready) for item in (*part._queue, *part._heap)]


def _ready_blocks(state: RunState) -> list[Block]:
    assert not any(isinstance(i, Block) for i in _queued(state._serial_ready))
    return [i for i in _queued(state._ready) if isinstance(i, Block)]


def _scopes(state: RunState, blocks: Iterable[Block]) -> Collection[Scope]:
    seen: dict[int, Scope] = {0: state.root}
    within = [item.scope for item in state.items.values()]
    within += [block.scope for block in blocks]
    within += [source.scope for source in state._sources]
    within += [kept.scope for kept in _kept(state)]
    for of in within:
        scope: Scope | None = of
        while scope is not None:
            seen[scope.id] = scope
            scope = scope.parent
    return seen.values()


def _check_scope(state: RunState, scope: Scope, blocks: Iterable[Block]) -> None:
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
    for kept in _kept(state):
        if scope in _chain(kept.scope):
            alive[scope.plan.component_of[kept.place]] += 1
    for block in blocks:
        if scope in _chain(block.scope):
            alive[scope.plan.component_of[block.place]] += len(block)
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


def _kept(state: RunState) -> list[Kept]:
    return [kept for of_node in state.kept.values() for kept in of_node]


def _chain(scope: Scope) -> Iterator[Scope]:
    within: Scope | None = scope
    while within is not None:
        yield within
        within = within.parent
