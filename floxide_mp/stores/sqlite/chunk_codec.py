"""Blocks: records that came about side by side, many in one row; and ``Index``, which of those with unfinished items a
run has on disk. In the process that owns a store, and in those that look into it.

What the records have in common are the row's columns, where order keys differ in the last number only; that number and
the payloads are the row's payload. Most come as blocks from the core; records that came one by one are put together
where they stand side by side.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

from ...core.records import Chunk, EventRecord, ItemRow, JoinInput, JoinInputChunk, OutputChunk, OutputRecord
from ...core.types import OrderKey, Payload, all_bytes, offset_key
from ...types import WorkItemStatus
from .packing import Range, common, each, merged, pack_many, pack_ranges, total, unpack_many, without
from .row_codec import ItemColumns, Row, in_band, pack, pack_order, text, unpack, unpack_order, untext

T = TypeVar("T", EventRecord, OutputRecord, JoinInput)

LEAST: Final = 8  # fewer records than that have rows of their own
MOST: Final = 4096  # records of a row
MOST_LOGGED: Final = 256  # ... of such as came one by one, but for items
MOST_BYTES: Final = 1 << 20  # of payload: a row holds a gigabyte at the most, and is read as a whole
MOST_LAST: Final = 1 << 63  # branch numbers below that fit into a column


def whole(order: OrderKey, payloads: Sequence[Payload]) -> bool:
    """Whether records side by side, ``order`` that of the first, can be in rows together, and are enough for one."""
    path, count = order[1], len(payloads)
    return count >= LEAST and bool(path) and path[-1] + count <= MOST_LAST and all_bytes(payloads)


def cuts(payloads: Sequence[bytes]) -> Iterator[Range]:
    """Where to cut them, so that each part fits into a row."""
    if len(payloads) <= MOST and sum(map(len, payloads)) <= MOST_BYTES:
        yield 0, len(payloads)
        return
    start = size = 0
    for at, payload in enumerate(payloads):
        if at > start and (at - start == MOST or size + len(payload) > MOST_BYTES):
            yield start, at
            start, size = at, 0
        size += len(payload)
    yield start, len(payloads)


# -- unfinished items ---------------------------------------------------------------------------------------------


def blocks_of(items: Iterable[ItemColumns], alone: Callable[[int], bool]) -> Iterator[list[ItemColumns]]:
    """New items, cut into stretches that can be blocks, and the rest one by one.

    Args:
        alone: whether the item of that number must have a row of its own.
    """
    stretch: list[ItemColumns] = []
    number = scope = depth = -1
    size = 0
    prefix: tuple[int, ...] = ()
    for item in items:
        found, _, (deep, path), payload, of, error = item
        fit = error is None and type(payload) is bytes and path and path[-1] < MOST_LAST and not alone(found)
        if (
            fit
            and found == number
            and of == scope
            and deep == depth
            and path[:-1] == prefix
            and len(stretch) < MOST
            and size + len(payload) <= MOST_BYTES
        ):
            stretch.append(item)
            size += len(payload)
        else:
            if stretch:
                yield stretch
            stretch, scope, depth, prefix = [item], of if fit else -1, deep, path[:-1]
            size = len(payload)
        number = found + 1
    if stretch:
        yield stretch


def pack_block(run: int, items: Sequence[ItemColumns]) -> tuple[Row, bytes]:
    """The row of a block, of items that came one by one."""
    first, place, (depth, path), _, scope, _ = items[0]
    only = place if all(item[1] == place for item in items) else None  # for a person: places are in the payload
    columns = [i[1] for i in items], [i[2][1][-1] for i in items]
    found: list[bytes] = [i[3] for i in items]  # type: ignore[misc]  # ``blocks_of`` has looked
    return (run, first, len(items), only, scope, pack_order((depth, path[:-1]))), pack_many(columns, found)


def block_rows(run: int, block: Chunk) -> Iterator[tuple[Row, bytes]]:
    """The rows of one that came as such, and is ``whole``."""
    depth, path = block.order
    packed, payloads = pack_order((depth, path[:-1])), block.payloads
    assert all_bytes(payloads)
    for start, stop in cuts(payloads):
        part = payloads[start:stop]
        body = pack_many((block.place, range(path[-1] + start, path[-1] + stop)), part)
        yield (run, block.first + start, stop - start, block.place, block.scope.id, packed), body


def unpack_block(row: Row, gone: Sequence[Range]) -> Iterator[ItemRow]:
    """The items of a row that are not ``gone``."""
    _, first, count, _, scope, packed, body = row
    depth, prefix = unpack_order(packed)
    (places, lasts), payloads = unpack_many(body, count, 2)
    found = list(zip(each(places, count), each(lasts, count), payloads, strict=False))
    for start, stop in without([(first, first + count)], gone):
        for number, (place, last, payload) in enumerate(found[start - first : stop - first], start):
            yield ItemRow(number, place, (depth, (*prefix, last)), payload, scope, *_NEW)


_NEW: Final = None, 1, WorkItemStatus.PENDING, 0.0


# -- events, outputs, arrivals: (columns, payload) and back -------------------------------------------------------
# Of a row with several, ``ord`` is what their order keys have in common.


def event_rows(run: int, number: int, events: Iterable[EventRecord]) -> Iterator[tuple[Row, bytes]]:
    """``number``: that of the first."""
    for many in _stretches(events, lambda e: _alike(e.order, e.payload, e.index, e.node, e.field)):
        order, index, node, field, payload = many[0]
        if len(many) > 1:
            order, payload = _common(order), pack_many([_lasts(many)], [in_band(e.payload) for e in many])
        yield (run, number, len(many), pack_order(order), index, text(node), field), in_band(payload)
        number += len(many)


def events(row: Row) -> list[EventRecord]:
    _, _, count, packed, index, node, field, payload = row
    depth, path = unpack_order(packed)
    name = untext(node)
    if count == 1:
        return [EventRecord((depth, path), index, name, field, payload)]
    (lasts,), payloads = unpack_many(payload, count, 1)
    many = zip(each(lasts, count), payloads, strict=True)
    return [EventRecord((depth, (*path, last)), index, name, field, one) for last, one in many]


def output_rows(run: int, number: int, outputs: Iterable[OutputRecord | OutputChunk]) -> Iterator[tuple[Row, bytes]]:
    """``number``: that of the first."""
    for singles, block in _turns(outputs):
        for many in _stretches(singles, lambda o: _alike(o.order, o.payload, o.index, o.node)):
            order, index, node, payload, worker = many[0]
            if len(many) > 1:
                workers = [_who(o.worker) for o in many]
                body = pack_many((_lasts(many), workers), [o.payload for o in many])
                order, worker = _common(order), None
            else:
                body = pack(payload)
            yield (run, number, len(many), pack_order(order), index, text(node), worker), body
            number += len(many)
        if block is not None:
            count, head = len(block.payloads), (pack_order(_common(block.order)), 0, text(block.node), None)
            yield (run, number, count, *head), _body(block, _who(block.worker))
            number += count


def outputs(row: Row) -> list[OutputRecord | OutputChunk]:
    _, _, count, packed, index, node, worker, payload = row
    order, name = unpack_order(packed), untext(node)
    if count == 1:
        return [OutputRecord(order, index, name, unpack(payload), worker)]
    (lasts, workers), payloads = unpack_many(payload, count, 2)
    if isinstance(lasts, range) and isinstance(workers, int) and not index:
        return [OutputChunk(_with(order, lasts.start), name, list(payloads), None if workers < 0 else workers)]
    return [
        OutputRecord(_with(order, last), index, name, one, None if who < 0 else who)
        for last, who, one in zip(each(lasts, count), each(workers, count), payloads, strict=False)
    ]


def outputs_since(found: Iterable[Row], since: int) -> list[OutputRecord | OutputChunk]:
    """The outputs in these rows, but for those up to number ``since``."""
    made: list[OutputRecord | OutputChunk] = []
    for row in found:  # all of them, or that some are missing would not show
        before = max(0, since + 1 - row[1])
        if before < row[2]:
            these = outputs(row)
            made += [these[0].after(before)] if isinstance(these[0], OutputChunk) else these[before:]
    return made


def arrival_rows(run: int, number: int, arrivals: Iterable[JoinInput | JoinInputChunk]) -> Iterator[tuple[Row, bytes]]:
    """``number``: that of the first."""
    for singles, block in _turns(arrivals):
        for many in _stretches(singles, lambda a: _alike(a.order, a.payload, a.scope, a.place, a.node)):
            scope, place, order, node, payload = many[0]
            if len(many) > 1:
                body = pack_many([_lasts(many)], [a.payload for a in many])
                order = _common(order)
            else:
                body = pack(payload)
            yield (run, scope, place, number, len(many), pack_order(order), text(node)), body
            number += len(many)
        if block is not None:
            count, head = len(block.payloads), (pack_order(_common(block.order)), text(block.node))
            yield (run, block.scope, block.place, number, count, *head), _body(block)
            number += count


def arrivals(row: Row) -> Iterator[JoinInput]:
    _, scope, place, _, count, packed, node, payload = row
    order = unpack_order(packed)
    if count == 1:
        yield JoinInput(scope, place, order, untext(node), unpack(payload))
        return
    (lasts,), payloads = unpack_many(payload, count, 1)
    for last, one in zip(each(lasts, count), payloads, strict=True):
        yield JoinInput(scope, place, _with(order, last), untext(node), one)


def _turns(records: Iterable[Any]) -> Iterator[tuple[list[Any], Any]]:
    """The records, in order: some that are to be looked at one by one, and a block that is a row; None at the end."""
    singles: list[Any] = []
    for record in records:
        if not isinstance(record, OutputChunk | JoinInputChunk):
            singles.append(record)
        elif not whole(record.order, record.payloads):
            singles += record.records()
        else:
            for start, stop in cuts(record.payloads):  # type: ignore[arg-type]  # it is whole
                part = record._replace(order=offset_key(record.order, start), payloads=record.payloads[start:stop])
                if stop - start < LEAST:
                    singles += part.records()
                else:
                    yield singles, part
                    singles = []
    yield singles, None


def _body(block: OutputChunk | JoinInputChunk, *columns: int) -> bytes:
    first = block.order[1][-1]
    assert all_bytes(block.payloads)
    return pack_many((range(first, first + len(block.payloads)), *columns), block.payloads)


def _alike(order: OrderKey, payload: Payload, *same: object) -> tuple[object, ...] | None:
    """What records of one row have in common; None where a record has a row of its own."""
    depth, path = order
    return (depth, path[:-1], *same) if path and type(payload) is bytes and path[-1] < MOST_LAST else None


def _stretches(records: Iterable[T], key: Callable[[T], tuple[object, ...] | None]) -> Iterator[list[T]]:
    """The records, in order: those that are alike and enough for a block together, the others one by one."""
    stretch: list[T] = []
    common: tuple[object, ...] | None = None
    size = 0
    for record in records:
        found = key(record)
        size += len(record.payload)
        if found is None or found != common or len(stretch) == MOST_LOGGED or size > MOST_BYTES:
            yield from [stretch] if len(stretch) >= LEAST else [[one] for one in stretch]
            stretch, common, size = [], found, len(record.payload)
        stretch.append(record)
    yield from [stretch] if len(stretch) >= LEAST else [[one] for one in stretch]


def _who(worker: int | None) -> int:
    return -1 if worker is None else worker


def _lasts(records: Sequence[Any]) -> list[int]:
    return [record.order[1][-1] for record in records]


def _common(order: OrderKey) -> OrderKey:
    return order[0], order[1][:-1]


def _with(order: OrderKey, last: int) -> OrderKey:
    return order[0], (*order[1], last)


class ChunkIndex:
    """The blocks, and which of their items are gone: finished, or in rows of their own since."""

    def __init__(self, found: Iterable[tuple[int, int, Sequence[Range]]] = ()) -> None:
        """``found``: first item, count and what is gone, of each."""
        self._starts: list[int] = []
        self._stops: dict[int, int] = {}
        self._consumed: dict[int, Sequence[Range]] = {}
        for first, count, gone in found:
            self.add(first, count)
            if gone:
                self._consumed[first] = gone

    def add(self, first: int, count: int) -> None:
        """One more. It has no number in common with another one, not even one that is gone."""
        insort(self._starts, first)
        self._stops[first] = first + count

    def spans(self, number: int) -> bool:
        """Whether a block has, or had, an item of that number."""
        place = bisect_right(self._starts, number) - 1
        return place >= 0 and number < self._stops[self._starts[place]]

    def take_out(self, ranges: Sequence[Range]) -> tuple[list[Range], list[int], list[int]]:
        """These items are gone from now on. ``ranges`` as ``merged`` gives them.

        Returns:
            those that are in no block; blocks of which something is left, by first items; those with nothing left.
        """
        outside: list[Range] = []
        taken: dict[int, list[Range]] = {}
        for start, stop in ranges:
            while start < stop:
                place = bisect_right(self._starts, start)
                first = self._starts[place - 1] if place else start
                if place and start < self._stops[first]:
                    end = min(stop, self._stops[first])
                    taken.setdefault(first, []).append((start, end))
                else:
                    end = min(stop, self._starts[place]) if place < len(self._starts) else stop
                    outside.append((start, end))
                start = end
        changed: list[int] = []
        empty: list[int] = []
        for first, found in taken.items():
            before = self._consumed.get(first, ())
            outside += common(found, before)  # they have stepped out
            gone = merged((*before, *found))
            if gone == [(first, self._stops[first])]:
                empty.append(first)
                self._consumed.pop(first, None)
                del self._stops[first], self._starts[bisect_left(self._starts, first)]
            elif gone != before:
                changed.append(first)
                self._consumed[first] = gone
        return merged(outside), changed, empty

    def gone_row(self, run: int, first: int) -> Row:
        """What is gone of a block, as a row without its seal."""
        gone = self._consumed[first]
        return run, first, self._stops[first] - first - total(gone), pack_ranges(gone, first)
