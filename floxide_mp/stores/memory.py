"""``MemoryStore``: remembers for as long as it lives, which may be longer than a coordinator. The executable
specification of the port.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from ..core.records import (
    Chunk,
    Commit,
    EventRecord,
    ItemRecord,
    ItemRow,
    JoinInput,
    JoinInputChunk,
    OutputChunk,
    OutputRecord,
    ScopeRecord,
    Snapshot,
)
from ..core.types import ErrorRecord, OrderKey, StreamOffset
from ..errors import NotStartedError, StoreError
from ..ports import Progress, RunRecord
from ..types import WorkItemStatus

_NEW: Final = 1, WorkItemStatus.PENDING, 0.0


def header(record: RunRecord) -> RunRecord:
    """The record without workflow, context and input: what ``runs`` gives."""
    return record._replace(workflow=b"", context=b"", input=None)


class _Blocks:
    """What is left of blocks, as blocks that have no item in common."""

    def __init__(self) -> None:
        self._firsts: list[int] = []  # ascending
        self._blocks: dict[int, Chunk] = {}

    def add(self, block: Chunk) -> None:
        insort(self._firsts, block.first)
        self._blocks[block.first] = block

    def take_out(self, first: int, stop: int) -> int:
        """The items from ``first`` on, up to ``stop`` or the end of its block, which is returned."""
        at = bisect_right(self._firsts, first) - 1
        block = self._blocks.get(self._firsts[at]) if at >= 0 else None
        if block is None or first >= block.first + len(block):
            raise KeyError(first)  # else who takes out many would go on for ever
        del self._firsts[at], self._blocks[block.first]
        start, end = first - block.first, min(stop - block.first, len(block))
        if start:
            self.add(block.part(0, start))
        if end < len(block):
            self.add(block.part(end))
        return block.first + end

    def items(self) -> Iterator[ItemRecord]:
        for block in self._blocks.values():
            yield from block.items()


class _Outputs:
    """Outputs in the order of commits; ``count`` of them."""

    def __init__(self) -> None:
        self.count = 0
        self._records: list[OutputRecord | OutputChunk] = []
        self._ends: list[int] = []  # how many there are up to the end of each record

    def add(self, commit: Commit) -> None:
        for output in commit.outputs:
            self._add(output, 1)
        for block in commit.output_blocks:
            self._add(block, len(block.payloads))

    def _add(self, record: OutputRecord | OutputChunk, count: int) -> None:
        self.count += count
        self._records.append(record)
        self._ends.append(self.count)

    def since(self, number: int, most: int | None) -> list[OutputRecord | OutputChunk]:
        at = bisect_right(self._ends, number)
        stop = None if most is None else bisect_left(self._ends, number + most) + 1
        found = self._records[at:stop]
        if found and isinstance(found[0], OutputChunk):
            found[0] = found[0].after(number - (self._ends[at - 1] if at else 0))
        return found


def _single(arrivals: Iterable[JoinInput | JoinInputChunk]) -> Iterator[JoinInput]:
    for arrival in arrivals:
        if isinstance(arrival, JoinInputChunk):
            yield from arrival.records()
        else:
            yield arrival


class _Run:
    """One run: what is finished is forgotten, but for its events, outputs and errors."""

    def __init__(self, record: RunRecord) -> None:
        self.record = record
        self.progress: Progress
        # Of an item that the core goes on changing, only what never changes is used; the rest is noted here.
        self.items: dict[int, ItemRecord | ItemRow] = {}
        self.blocks = _Blocks()
        self.changed: dict[int, tuple[int, WorkItemStatus, float]] = {}
        self.arrived: dict[tuple[int, int], list[JoinInput | JoinInputChunk]] = {}
        self.scopes: dict[int, ScopeRecord] = {}
        self.joined: dict[int, list[int]] = {}  # by scope
        self.depths: dict[int, dict[int, int]] = {}  # by scope, then component
        self.nodes_emitted: set[int] = set()
        self.held: dict[int, list[int]] = {}
        self.failed_batches: dict[int, tuple[int, ErrorRecord]] = {}
        self.given: dict[int, StreamOffset] = {}
        self.events: list[EventRecord] = []
        self.outputs = _Outputs()
        self.errors: list[ErrorRecord] = []
        self.done: dict[str, int] = {}

    def apply(self, commit: Commit, progress: Progress) -> None:
        for block in commit.blocks:
            self.blocks.add(block)
        for first, count in commit.ranges:
            at, stop = first, first + count
            while at < stop:
                at = at + 1 if self.items.pop(at, None) is not None else self.blocks.take_out(at, stop)
        for item in commit.created:
            self.items[item.id] = item
        for item in commit.changed:
            self.changed[item.id] = item.attempt, item.status, item.due
        for number in commit.finished:
            if self.items.pop(number, None) is None:
                self.blocks.take_out(number, number + 1)
            if self.changed:
                self.changed.pop(number, None)
        arrived: list[JoinInput | JoinInputChunk] = [*commit.arrived, *commit.arrived_blocks]
        for arrival in arrived:
            self.arrived.setdefault((arrival.scope, arrival.place), []).append(arrival)
        for scope, place in commit.joined:
            self.joined.setdefault(scope, []).append(place)
            self.arrived.pop((scope, place), None)
        for (scope, component), depth in commit.depths.items():
            self.depths.setdefault(scope, {})[component] = depth
        for number, item_id in commit.held:
            self.held.setdefault(number, []).append(item_id)
        for number in commit.nodes_emitted:
            self.nodes_emitted.add(number)
            self.held.pop(number, None)
        self.scopes.update((opened.id, opened) for opened in commit.opened)
        self.failed_batches.update(commit.failed_batches)
        for item_id, given in commit.given.items():
            if given is None:
                self.given.pop(item_id, None)
            else:
                self.given[item_id] = given
        for number in commit.closed:
            del self.scopes[number]
            for table in (self.joined, self.depths, self.failed_batches):
                table.pop(number, None)
        self.events += commit.events
        self.outputs.add(commit)
        self.errors += commit.errors
        for node, count in commit.done.items():
            self.done[node] = self.done.get(node, 0) + count
        self.progress = progress

    def snapshot(self) -> Snapshot:
        return Snapshot(
            items=sorted(map(self._row, (*self.items.values(), *self.blocks.items())), key=lambda row: row.order),
            arrivals=sorted(_single(a for found in self.arrived.values() for a in found), key=lambda a: a.order),
            scopes=list(self.scopes.values()),
            joined=[(scope, place) for scope, places in self.joined.items() for place in places],
            depths={(s, c): depth for s, components in self.depths.items() for c, depth in components.items()},
            nodes_emitted=set(self.nodes_emitted),
            held={node: list(items) for node, items in self.held.items()},
            failed_batches=dict(self.failed_batches),
            events=len(self.events),
            outputs=self.outputs.count,
            given=dict(self.given),
        )

    def _row(self, item: ItemRecord | ItemRow) -> ItemRow:
        if isinstance(item, ItemRow):
            return ItemRow(*item[:6], *self.changed.get(item.id, item[6:]))
        fixed = item.id, item.place, item.order, item.payload, item.scope.id, item.error
        return ItemRow(*fixed, *self.changed.get(item.id, _NEW))

    def replace(self, snapshot: Snapshot) -> None:
        self.items, self.blocks = {row.id: row for row in snapshot.items}, _Blocks()
        self.changed = {}
        self.arrived, self.joined, self.depths = {}, {}, {}
        for arrival in snapshot.arrivals:
            self.arrived.setdefault((arrival.scope, arrival.place), []).append(arrival)
        for scope, place in snapshot.joined:
            self.joined.setdefault(scope, []).append(place)
        for (scope, component), depth in snapshot.depths.items():
            self.depths.setdefault(scope, {})[component] = depth
        self.scopes = {scope.id: scope for scope in snapshot.scopes}
        self.nodes_emitted, self.failed_batches, self.given = (
            set(snapshot.nodes_emitted),
            dict(snapshot.failed_batches),
            dict(snapshot.given),
        )
        self.held = {node: list(items) for node, items in snapshot.held.items()}


class MemoryStore:
    """See ``ports.CheckpointStore``. Lives as long as the object: another coordinator may go on with what is in it."""

    takes_shared: Final = True

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}
        self._workflows: dict[bytes, bytes] = {}  # by key: of a service's runs, all have the same

    def create(self, run: RunRecord, commit: Commit, progress: Progress) -> None:
        if run.run_id in self._runs:
            raise StoreError(f"run {run.run_id!r} exists", run_id=run.run_id)
        made = _Run(run._replace(workflow=self._workflows.setdefault(run.key, run.workflow)))
        made.apply(commit, progress)
        self._runs[run.run_id] = made

    def commit(self, run_id: str, commit: Commit, progress: Progress) -> None:
        self._run(run_id).apply(commit, progress)

    def replace(self, run: RunRecord, snapshot: Snapshot | None = None, withdrawn: Collection[OrderKey] = ()) -> None:
        known = self._run(run.run_id)
        known.record = run
        if withdrawn:
            known.events = [event for event in known.events if event.order not in withdrawn]
        if snapshot is not None:
            known.replace(snapshot)

    def runs(self) -> Sequence[RunRecord]:
        return [header(run.record) for run in self._runs.values()]

    def record(self, run_id: str) -> RunRecord:
        return self._run(run_id).record

    def progress(self, run_id: str) -> Progress:
        return self._run(run_id).progress

    def snapshot(self, run_id: str) -> Snapshot:
        return self._run(run_id).snapshot()

    def events(self, run_id: str, since: int = 0, most: int | None = None) -> Sequence[EventRecord]:
        return self._run(run_id).events[since : None if most is None else since + most]

    def outputs(self, run_id: str, since: int = 0, most: int | None = None) -> Sequence[OutputRecord | OutputChunk]:
        return self._run(run_id).outputs.since(since, most)

    def errors(self, run_id: str) -> Sequence[ErrorRecord]:
        return list(self._run(run_id).errors)

    def finished(self, run_id: str) -> Mapping[str, int]:
        return dict(self._run(run_id).done)

    def close(self) -> None:
        pass  # another coordinator may go on with what is in it

    def _run(self, run_id: str) -> _Run:
        try:
            return self._runs[run_id]
        except KeyError:
            raise NotStartedError(f"no run {run_id!r} in this store", run_id=run_id) from None
