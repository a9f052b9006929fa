"""What must hold of a ``RunState`` between two facts. Slow: tests call it after every stimulus, the runtime never."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import pairwise

from floxide_mp.core.ready import ByDepth, Ranked, Ready
from floxide_mp.core.records import Chunk, ItemRecord, Scope
from floxide_mp.core.run_state import RunState
from floxide_mp.core.serial_order import SerialOrder
from floxide_mp.core.streams import Kept
from floxide_mp.core.transitions import FINAL, Phase
from floxide_mp.core.types import offset_key, size_of, total_size
from floxide_mp.types import WorkItemStatus

UNFINISHED = WorkItemStatus.PENDING, WorkItemStatus.IN_PROGRESS, WorkItemStatus.WAITING_RETRY, WorkItemStatus.FAILED


def check(state: RunState, leased_blocks: Collection[Chunk] = ()) -> None:
    """Assert all of it.

    Args:
        leased_blocks: those that workers have, of which a state keeps only the numbers.
    """
    if state.phase is Phase.CANCELLED:
        assert not (state.items or state.in_blocks or state.leased or state.bytes or len(state._ready))
        return
    by_status: dict[WorkItemStatus, list[ItemRecord]] = {}
    for item in state.items.values():
        by_status.setdefault(item.status, []).append(item)
    pending, leased, waiting, failed = (by_status.pop(status, []) for status in UNFINISHED)
    assert not by_status, "an item in a final state is kept"
    assert len(failed) == state.failed
    queued = _queued(state._ready)
    ready_blocks = [i for i in queued if isinstance(i, Chunk)]
    blocks = [*ready_blocks, *leased_blocks]
    scopes = _scopes(state, blocks)
    parked = [i for scope in scopes if scope.window for _, i in scope.window.parked]
    serial = _queued(state._serial_ready)
    assert not any(isinstance(i, Chunk) for i in serial)
    waits = (*(i for i in (*queued, *serial) if isinstance(i, ItemRecord)), *state._sources.pending, *parked)
    waits += tuple(item for item, _ in state._unopened)
    assert sorted(i.id for i in waits) == sorted(i.id for i in pending), "a pending item is not in one queue"
    _check_sources(state, scopes)
    assert not {kept.id for kept in _kept(state)} & {*state.items}
    assert not state._passed & {*state.held}
    assert all({kept.id for kept in found} <= {*state.held[node]} for node, found in state.kept.items())
    assert len(waiting) == state._waiting
    assert state.leased == len(leased) + sum(map(len, leased_blocks))
    assert all(i.lease for i in leased) and not any(i.lease for i in pending + waiting)
    assert {i.id for i in waiting} <= {number for _, number in state._timers}, "a retry has no timer"
    assert len(state._ready) == len(queued) - len(ready_blocks) + sum(map(len, ready_blocks))
    _check_blocks(state, blocks, leased_blocks)
    _check_memory(state, blocks)
    running = [i for i in leased if state.plan.places[i.place].spec.serial]
    assert len(running) == state._serial_running
    if state.serial_order is not None:
        _check_serial_order(state, state.serial_order, blocks, {i.id for i in parked})
    if state.phase is Phase.RUNNING and not (state.leased or waiting or state.open):
        assert state.ready or state.has_stream_for(None), "nothing can go on, and yet the run is not over"
    alive = _alive(state, scopes, blocks)
    for scope in scopes:
        assert alive[scope.id] == scope.alive
        _check_scope(state, scope)
    if state.phase is Phase.COMPLETED:
        assert not state.items and not blocks and not state.held and not any(state.root.arrivals.values())
    if state.phase in FINAL:
        assert not state.leased


def _check_blocks(state: RunState, blocks: Collection[Chunk], leased: Collection[Chunk]) -> None:
    assert sum(map(len, blocks)) == state.in_blocks
    assert all(one < other for ready in _parts(state._ready) for one, other in pairwise(ready._queue))
    numbers = {number for block in leased for number in range(block.first, block.first + len(block))}
    ranges = sorted(state.leased_blocks.items())
    assert sorted(numbers) == [number for first, stop in ranges for number in range(first, stop)]
    assert all(blocks), "an empty block"
    ids = sorted([(i, i) for i in state.items] + [(block.first, block.first + len(block) - 1) for block in blocks])
    assert all(end < start for (_, end), (start, _) in pairwise(ids)), "two items with one id"
    assert not ids or (ids[0][0] > 0 and ids[-1][1] <= state._last_id)
    assert all(number == item.id for number, item in state.items.items())
    ends = [(i.order, i.order) for i in state.items.values()]
    ends += [(block.order, offset_key(block.order, len(block) - 1)) for block in blocks]
    for (_, end), (start, _) in pairwise(sorted(ends)):
        assert end < start, "two items with one order key, or something has its place inside of a block"
    for block in blocks:
        assert not state.plan.places[block.place].spec.serial and block.scope.window is None


def _check_memory(state: RunState, blocks: Collection[Chunk]) -> None:
    unfinished = [i.payload for i in state.items.values() if i.status is not WorkItemStatus.FAILED]
    assert state.bytes == sum(map(size_of, unfinished)) + sum(total_size(block.payloads) for block in blocks)
    assert state._making == sum(i.making for i in state.items.values())
    assert not any(i.making for i in state.items.values() if not i.lease)


def _check_serial_order(
    state: RunState, order: SerialOrder, blocks: Collection[Chunk], parked: Collection[int]
) -> None:
    """Serial steps wait for all that it says there, and for nothing else: see ``SerialOrder``."""
    waits = {what.id for *_, what in order._heap if isinstance(what, ItemRecord) and order._waits(what)}
    not_for = {*parked, *(source.item.id for source in state._sources)}
    items = [i for i in state.items.values() if i.status is not WorkItemStatus.FAILED and i.id not in not_for]
    waited_for = {i.id for i in items if order._steps[i.place] >= 0}
    assert waits == waited_for, "serial steps wait for other items than they should"
    spans = {id(what): what for *_, what in order._heap if not isinstance(what, ItemRecord)}
    left = {number for span in spans.values() for number in span.numbers()}
    waited_for = {i.id for block in blocks for i in block.items() if order._steps[block.place] >= 0}
    assert left == waited_for, "serial steps wait for other items of blocks than they should"


def _check_sources(state: RunState, scopes: Collection[Scope]) -> None:
    pending = state._sources.pending
    assert sorted(pending) == pending
    assert all(state._sources.get(item.id) for item in pending)
    assert all(state.items[s.item.id] is s.item for s in state._sources), "what is over has more to give"
    filling = {s.scope.id for s in state._sources if s.scope is not s.item.scope}
    assert filling == {scope.id for scope in scopes if scope.open_ended}


def _parts(ready: Ready | Ranked | ByDepth) -> Collection[Ready]:
    return (ready,) if isinstance(ready, Ready) else ready._ready.values()


def _queued(ready: Ready | Ranked | ByDepth) -> list[ItemRecord | Chunk]:
    return [item for part in _parts(ready) for item in (*part._queue, *part._heap)]


def _scopes(state: RunState, blocks: Iterable[Chunk]) -> Collection[Scope]:
    seen: dict[int, Scope] = {0: state.root}
    within = [item.scope for item in state.items.values()]
    within += [block.scope for block in blocks]
    within += [source.scope for source in state._sources]
    within += [kept.scope for kept in _kept(state)]
    for of in within:
        scope: Scope | None = of
        while scope is not None:
            assert seen.setdefault(scope.id, scope) is scope, "two scopes with one number"
            scope = scope.parent
    return seen.values()


def _alive(state: RunState, scopes: Iterable[Scope], blocks: Iterable[Chunk]) -> dict[int, list[int]]:
    """By number of scope and by component, how many items are alive there."""
    found = {scope.id: [0] * len(scope.alive) for scope in scopes}
    if state.open:
        found[0][state.root.plan.component_of[0]] += 1
    there = [(item.scope, item.place, 1) for item in state.items.values()]
    there += [(kept.scope, kept.place, 1) for kept in _kept(state)]
    there += [(block.scope, block.place, len(block)) for block in blocks]
    for within, place, count in there:
        for scope in _chain(within):
            found[scope.id][scope.plan.component_of[place]] += count
    return found


def _check_scope(state: RunState, scope: Scope) -> None:
    if scope.window is not None:
        parked = {item.id for _, item in scope.window.parked}
        in_flight = [i for i in state.items.values() if i.scope is scope and i.id not in parked]
        assert len(in_flight) <= scope.window.size, "more of a batch is in flight than its size"
    before, still = [0] * len(scope.alive), [0] * len(scope.alive)
    for component, after in enumerate(scope.plan.successors):
        for to in after:
            before[to] += 1
            still[to] += component not in scope.closed
    assert before == scope.plan.predecessors
    assert still == scope.waiting_for
    assert not (scope.open_ended and scope.closed)
    for component, alive in enumerate(scope.alive):
        if component in scope.closed:
            assert not alive and not still[component]
        else:
            assert scope.open_ended or alive or still[component], "nothing can reach it, and yet it is not closed"


def _kept(state: RunState) -> list[Kept]:
    return [kept for of_node in state.kept.values() for kept in of_node]


def _chain(scope: Scope) -> Iterator[Scope]:
    within: Scope | None = scope
    while within is not None:
        yield within
        within = within.parent
