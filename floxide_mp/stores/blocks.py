"""Blocks: records that a fan-out makes side by side, many in one row. What they have in common are its columns, where
order keys differ in the last number only; that number and the payloads are the row's payload.

An unfinished item that is tried again steps out of its block and has a row of its own; what is over of a block is one
mark; a block in which nothing is left is deleted.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

from ..core.records import Arrival, EventRecord, ItemRow, Order, OutputRecord, Payload
from ..facts import WorkItemStatus
from .rows import Fixed, Row, in_band, pack, pack_order, text, unpack, unpack_order, untext

T = TypeVar("T", EventRecord, OutputRecord, Arrival)

LEAST: Final = 8  # fewer items than that have rows of their own
MOST: Final = 60  # items: a bit for each is a number that SQLite can keep
MOST_LOGGED: Final = 256  # of other records
MOST_BYTES: Final = 1 << 20  # of payload: a row holds a gigabyte at the most, and is read as a whole
MOST_LAST: Final = 1 << 63  # branch numbers below that fit into a column


def pack_many(columns: Sequence[Sequence[int]], payloads: Sequence[Payload]) -> bytes:
    """Columns of numbers below 2**63, lengths, payloads (which are bytes)."""
    found: list[bytes] = payloads  # type: ignore[assignment]  # whoever cuts blocks has looked
    numbers = (*columns, list(map(len, found)))
    return b"".join((*(struct.pack(f"<{len(found)}q", *column) for column in numbers), *found))


def unpack_many(body: bytes, count: int, columns: int) -> Iterator[tuple[Any, ...]]:
    """For each record its numbers and its payload."""
    numbers = struct.unpack_from(f"<{(columns + 1) * count}q", body)
    at = 8 * len(numbers)
    for k in range(count):
        end = at + numbers[columns * count + k]
        yield *numbers[k : columns * count : count], body[at:end]
        at = end


# -- unfinished items ---------------------------------------------------------------------------------------------


def blocks_of(items: Iterable[Fixed]) -> Iterator[list[Fixed]]:
    """New items, cut into stretches that can be blocks, and the rest one by one."""
    stretch: list[Fixed] = []
    number = scope = depth = -1
    size = 0
    prefix: tuple[int, ...] = ()
    for item in items:
        found, _, (deep, path), payload, of, error = item
        if (
            found == number
            and of == scope
            and deep == depth
            and path
            and path[:-1] == prefix
            and path[-1] < MOST_LAST
            and len(stretch) < MOST
            and error is None
            and type(payload) is bytes
            and size + len(payload) <= MOST_BYTES
        ):
            stretch.append(item)
            size += len(payload)
        else:
            if stretch:
                yield stretch
            fit = error is None and type(payload) is bytes and path and path[-1] < MOST_LAST
            stretch, scope, depth, prefix = [item], of if fit else -1, deep, path[:-1]
            size = len(payload)
        number = found + 1
    if stretch:
        yield stretch


def pack_block(run: int, items: Sequence[Fixed]) -> tuple[Row, bytes]:
    """The row of a block: for each item its place and last branch number."""
    first, place, (depth, path), _, scope, _ = items[0]
    only = place if all(item[1] == place for item in items) else None  # for a person: places are in the payload
    body = pack_many(([i[1] for i in items], [i[2][1][-1] for i in items]), [i[3] for i in items])
    return (run, first, len(items), only, scope, pack_order((depth, path[:-1]))), body


def unpack_block(row: Row, done: int) -> Iterator[ItemRow]:
    """The items of a row that are not ``done``."""
    _, first, count, _, scope, packed, body = row
    depth, prefix = unpack_order(packed)
    for k, (place, last, payload) in enumerate(unpack_many(body, count, 2)):
        if not done >> k & 1:
            order = depth, (*prefix, last)
            yield ItemRow(first + k, place, order, payload, scope, None, 1, WorkItemStatus.PENDING, 0.0)


class Blocks:
    """Which blocks a run has, and what is over of them, for the owner of the store."""

    def __init__(self, found: Iterable[tuple[int, int, int]] = ()) -> None:
        """``found``: first item, count and what is done, of each, in order."""
        self._starts: list[int] = []
        self._counts: dict[int, int] = {}
        self._done: dict[int, int] = {}
        for first, count, done in found:
            self.add(first, count)
            if done:
                self._done[first] = done

    def add(self, first: int, count: int) -> None:
        """One more, behind all others."""
        self._starts.append(first)
        self._counts[first] = count

    def take_out(self, items: Sequence[int]) -> tuple[list[int], dict[int, int], list[int]]:
        """These are over, or have rows of their own from now on.

        Args:
            items: numbers, ascending.

        Returns:
            those that are in no block; what is done now of the blocks that the others are in; blocks with nothing left.
        """
        starts, counts = self._starts, self._counts
        if not starts:
            return list(items), {}, []
        outside: list[int] = []
        changed: dict[int, int] = {}
        empty: list[int] = []
        at = 0
        while at < len(items):
            place = bisect_right(starts, items[at]) - 1
            first = starts[place] if place >= 0 else 0
            end = bisect_left(items, first + counts[first], at) if place >= 0 else at
            if end == at:
                outside.append(items[at])
                at += 1
                continue
            before = done = self._done.get(first, 0)
            for number in items[at:end]:
                if before >> number - first & 1:
                    outside.append(number)  # it has stepped out
                done |= 1 << number - first
            if done == (1 << counts[first]) - 1:
                empty.append(first)
            elif done != before:
                changed[first] = done
            at = end
        self._done.update(changed)
        for first in empty:
            self._done.pop(first, None)
            del counts[first], starts[bisect_left(starts, first)]
        return outside, changed, empty


# -- events, outputs, arrivals: (columns, payload) and back -------------------------------------------------------
# Of a row with several, ``ord`` is what their order keys have in common.


def event_rows(run: int, number: int, events: Iterable[EventRecord]) -> Iterator[tuple[Row, bytes]]:
    """``number``: that of the first."""
    for many in _stretches(events, lambda e: _alike(e.order, e.payload, e.index, e.node, e.field)):
        order, index, node, field, payload = many[0]
        if len(many) > 1:
            order, payload = _common(order), pack_many([_lasts(many)], [e.payload for e in many])
        yield (run, number, len(many), pack_order(order), index, text(node), field), in_band(payload)
        number += len(many)


def events(row: Row) -> Iterator[EventRecord]:
    _, _, count, packed, index, node, field, payload = row
    order = unpack_order(packed)
    if count == 1:
        yield EventRecord(order, index, untext(node), field, payload)
        return
    for last, one in unpack_many(payload, count, 1):
        yield EventRecord(_behind(order, last), index, untext(node), field, one)


def output_rows(run: int, number: int, outputs: Iterable[OutputRecord]) -> Iterator[tuple[Row, bytes]]:
    """``number``: that of the first."""
    for many in _stretches(outputs, lambda o: _alike(o.order, o.payload, o.index, o.node)):
        order, index, node, payload, worker = many[0]
        if len(many) > 1:
            workers = [-1 if o.worker is None else o.worker for o in many]
            order, worker, body = _common(order), None, pack_many((_lasts(many), workers), [o.payload for o in many])
        else:
            body = pack(payload)
        yield (run, number, len(many), pack_order(order), index, text(node), worker), body
        number += len(many)


def outputs(row: Row) -> Iterator[OutputRecord]:
    _, _, count, packed, index, node, worker, payload = row
    order = unpack_order(packed)
    if count == 1:
        yield OutputRecord(order, index, untext(node), unpack(payload), worker)
        return
    for last, who, one in unpack_many(payload, count, 2):
        yield OutputRecord(_behind(order, last), index, untext(node), one, None if who < 0 else who)


def arrival_rows(run: int, number: int, arrivals: Iterable[Arrival]) -> Iterator[tuple[Row, bytes]]:
    """``number``: that of the first."""
    for many in _stretches(arrivals, lambda a: _alike(a.order, a.payload, a.scope, a.place, a.node)):
        scope, place, order, node, payload = many[0]
        if len(many) > 1:
            order, body = _common(order), pack_many([_lasts(many)], [a.payload for a in many])
        else:
            body = pack(payload)
        yield (run, scope, place, number, len(many), pack_order(order), text(node)), body
        number += len(many)


def arrivals(row: Row) -> Iterator[Arrival]:
    _, scope, place, _, count, packed, node, payload = row
    order = unpack_order(packed)
    if count == 1:
        yield Arrival(scope, place, order, untext(node), unpack(payload))
        return
    for last, one in unpack_many(payload, count, 1):
        yield Arrival(scope, place, _behind(order, last), untext(node), one)


def _alike(order: Order, payload: Payload, *same: object) -> tuple[object, ...] | None:
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


def _lasts(records: Sequence[Any]) -> list[int]:
    return [record.order[1][-1] for record in records]


def _common(order: Order) -> Order:
    return order[0], order[1][:-1]


def _behind(order: Order, last: int) -> Order:
    return order[0], (*order[1], last)
