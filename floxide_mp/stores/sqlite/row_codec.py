"""Records as columns, and back. What lies in columns is plain: numbers, text, and bytes that nothing here looks into.

Order keys become bytes that sort as the keys do. Values of joins and errors become bytes by a length-prefixed
encoding; nothing is ever unpickled.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeAlias

from ...core.records import Commit, ItemRecord, ItemRow, ScopeRecord
from ...core.transitions import Phase
from ...core.types import ErrorRecord, OrderKey, Packed, Payload, StreamOffset, all_bytes
from ...ports import Progress, RunRecord
from ...types import RunMetrics, WorkItemStatus
from .clock_conversion import Clocks
from .packing import pack_many, unpack_many

Row: TypeAlias = tuple[Any, ...]
ItemColumns: TypeAlias = tuple[int, int, OrderKey, Payload, int, "ErrorRecord | None"]
"""What never changes of an item: id, place, order, payload, scope, error."""
State: TypeAlias = tuple[int, str, "float | None"]
"""What changes: attempt, status, due time in seconds since the epoch."""

NEW: Final[State] = 1, WorkItemStatus.PENDING.value, None
fixed: Final[Callable[[ItemRecord], ItemColumns]] = attrgetter("id", "place", "order", "payload", "scope.id", "error")


class Prepared(NamedTuple):
    """A commit that later changes of the core's records do not reach. ``turn`` is filled in by the store."""

    run_id: str
    created: Sequence[ItemColumns]
    changed: Sequence[tuple[ItemColumns, State]]
    commit: Commit  # for the rest, which is immutable
    progress: Progress
    turn: list[int]


def prepare(run_id: str, commit: Commit, progress: Progress, clocks: Clocks) -> Prepared:
    """See ``SQLiteStore.prepare``."""
    changed = [(fixed(item), (item.attempt, item.status.value, clocks.to_wall(item.due))) for item in commit.changed]
    return Prepared(run_id, list(map(fixed, commit.created)), changed, commit, progress, [])


# -- order keys ---------------------------------------------------------------------------------------------------

_ONE: Final = 248  # smaller numbers are one byte; for others the first byte says how many follow
_HUGE: Final = b"\xff" * 9  # behind all of up to 8 bytes: how many follow, in two bytes, and then they


def pack_order(order: OrderKey) -> bytes:
    """Depth and branch numbers, one behind the other. They may be huge: see ``Flow._join_path``."""
    return b"".join(map(_pack_number, (order[0], *order[1])))


def _pack_number(number: int) -> bytes:
    if number < _ONE:
        return _SMALL[number]
    if 255 < number < 65536:
        return _pack_two(_ONE + 1, number)
    size = (number.bit_length() + 7) >> 3
    if size > 8 or number == (1 << 64) - 1:
        return _HUGE + size.to_bytes(2, "big") + number.to_bytes(size, "big")
    return (_ONE - 1 + size).to_bytes(1, "big") + number.to_bytes(size, "big")


_SMALL: Final = [bytes((number,)) for number in range(_ONE)]
_pack_two: Final = struct.Struct(">BH").pack


@lru_cache(1 << 10)  # the events of a step have one, and follow one another
def unpack_order(packed: bytes) -> OrderKey:
    numbers: list[int] = []
    at = 0
    while at < len(packed):
        first, at = packed[at], at + 1
        if first >= _ONE:
            size = first - _ONE + 1
            if packed[at - 1 : at + 8] == _HUGE:
                size, at = int.from_bytes(packed[at + 8 : at + 10], "big"), at + 10
            first, at = int.from_bytes(packed[at : at + size], "big"), at + size
        numbers.append(first)
    return numbers[0], tuple(numbers[1:])


# -- payloads and errors ------------------------------------------------------------------------------------------

_BYTES: Final = b"b"
_PARTS: Final = b"t"
_MANY: Final = b"l"  # values of one part, all of them bytes
_MIXED: Final = b"m"  # ... each as ``pack`` makes it
_sizes: Final = struct.Struct(">IQ")
_count: Final = struct.Struct(">Q")


def in_band(payload: Packed) -> bytes:
    """A value as bytes, wherever it is."""
    return payload if isinstance(payload, bytes) else payload.tobytes()


def pack(payload: Payload) -> bytes:
    """A kind, then the bytes; or for each part the lengths of name and value, and those."""
    if not isinstance(payload, tuple):
        return _BYTES + in_band(payload)
    found = [_PARTS]
    for name, part in payload:
        encoded = name.encode("utf-8", "surrogatepass")
        packed = _pack_list(part) if isinstance(part, list) else pack(part)
        found += (_sizes.pack(len(encoded), len(packed)), encoded, packed)
    return b"".join(found)


def unpack(packed: bytes) -> Payload:
    if packed[:1] == _BYTES:
        return packed[1:]
    parts: list[tuple[str, Payload | list[Payload]]] = []
    at = 1
    while at < len(packed):
        name, part = _sizes.unpack_from(packed, at)
        at += _sizes.size
        middle, end = at + name, at + name + part
        value = packed[middle:end]
        found = _unpack_list(value) if value[:1] in (_MANY, _MIXED) else unpack(value)
        parts.append((packed[at:middle].decode("utf-8", "surrogatepass"), found))
        at = end
    return tuple(parts)


def _pack_list(payloads: list[Payload]) -> bytes:
    """A kind, how many there are, and they."""
    if all_bytes(payloads):
        return _MANY + _count.pack(len(payloads)) + pack_many((), payloads)
    return _MIXED + _count.pack(len(payloads)) + (pack_many((), list(map(pack, payloads))) if payloads else b"")


def _unpack_list(packed: bytes) -> list[Payload]:
    (count,) = _count.unpack_from(packed, 1)
    found = unpack_many(packed[1 + _count.size :], count, 0)[1] if count else []
    return list(found) if packed[:1] == _MANY else list(map(unpack, found))


def _parts(payload: Payload) -> tuple[tuple[str, Payload | list[Payload]], ...]:
    assert isinstance(payload, tuple)
    return payload


def pack_error(error: ErrorRecord | None) -> bytes | None:
    """The plain columns as JSON, and the exception's pickle behind them."""
    if error is None:
        return None
    facts = json.dumps([*error[:3], *error[4:]])
    return pack(((facts, () if error.payload is None else error.payload),))


def unpack_error(packed: bytes | None) -> ErrorRecord | None:
    if packed is None:
        return None
    ((facts, payload),) = _parts(unpack(packed))
    type_name, message, traceback, *rest = json.loads(facts)
    return ErrorRecord(type_name, message, traceback, payload if isinstance(payload, bytes) else None, *rest)


def text(value: str) -> str | bytes:
    """Text that SQLite takes: bytes, where it holds halves of surrogate pairs."""
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")
    return value


def untext(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "surrogatepass")


# -- records: (columns, payload) and back -------------------------------------------------------------------------
# What is read comes without its last column, the seal.


def run_row(run: int, record: RunRecord) -> tuple[Row, bytes]:
    values = [("workflow", record.workflow), ("context", record.context)]
    if record.input is not None:
        values.append(("input", record.input))
    head = (
        *(run, text(record.run_id), text(record.name), record.started_at, record.timeout, int(record.finish)),
        *(str(record.seed), record.key),
        *(json.dumps(plain) for plain in (dict(record.shape), record.places, record.main, dict(record.versions))),
        record.hash_seed,
        json.dumps(record.fields),
        record.timeout_grace,
        record.hash_probe,
    )
    return head, pack(tuple(values))


def run_record(row: Row, whole: bool = True) -> RunRecord:
    """The record, or its header (``memory.header``), for which the values are not opened."""
    _, run_id, name, started_at, timeout, finish, seed, key, shape, places, main, versions, *others = row
    hash_seed, fields, timeout_grace, hash_probe, packed = others
    values: dict[str, Any] = dict(_parts(unpack(packed))) if whole else {"workflow": b"", "context": b""}
    return RunRecord(
        untext(run_id),
        untext(name),
        key,
        values["workflow"],
        values["context"],
        values.get("input"),
        int(seed),
        started_at,
        timeout,
        bool(finish),
        json.loads(shape),
        tuple(json.loads(places)),
        tuple(json.loads(main)),
        json.loads(versions),
        hash_seed,
        tuple((name, kind) for name, kind in json.loads(fields)),
        timeout_grace,
        hash_probe,
    )


def item_row(run: int, of: ItemColumns, state: State) -> tuple[Row, bytes]:
    number, place, order, payload, scope, error = of
    return (run, number, place, pack_order(order), scope, *state, pack_error(error)), pack(payload)


def item(row: Row, clocks: Clocks) -> ItemRow:
    _, number, place, order, scope, attempt, status, due, error, payload = row
    return ItemRow(
        number,
        place,
        unpack_order(order),
        unpack(payload),
        scope,
        unpack_error(error),
        attempt,
        WorkItemStatus(status),
        clocks.to_monotonic(due),
    )


def scope_row(run: int, scope: ScopeRecord) -> tuple[Row, bytes | None]:
    head = run, scope.id, scope.parent, scope.place, pack_order(scope.order)
    return head, None if scope.batch is None else pack(scope.batch)


def scope(row: Row) -> ScopeRecord:
    _, number, parent, place, order, batch = row
    return ScopeRecord(number, parent, place, unpack_order(order), None if batch is None else unpack(batch))


def given_marks(given: StreamOffset) -> dict[tuple[str, int], int]:
    """The marks of an item that has more to give, by kind and number."""
    return {("given", number): count for number, count in enumerate(given)}


def given(marks: Sequence[Row]) -> dict[int, StreamOffset]:
    """What items that have more to give gave, by item. ``marks``: those of the run."""
    found = {(item, number): count for _, kind, item, number, count, *_ in marks if kind == "given"}
    return {
        item: StreamOffset(*(found[item, n] for n in range(len(StreamOffset._fields))))
        for item, number in found
        if not number
    }


def error_row(run: int, number: int, error: ErrorRecord) -> tuple[Row, bytes | None]:
    told = text(error.node), error.item_id, error.attempt, error.worker, error.at
    given = None if error.input is None else text(error.input)
    return (run, number, error.number, *told, *map(text, error[:3]), given), error.payload


def error(row: Row) -> ErrorRecord:
    _, _, number, node, item_id, attempt, worker, at, type_name, message, traceback, given, payload = row
    told = untext(type_name), untext(message), untext(traceback)
    shown = None if given is None else untext(given)
    return ErrorRecord(*told, payload, number, untext(node), item_id, attempt, worker, at, shown)


def progress_columns(progress: Progress) -> Row:
    metrics = progress.metrics
    return (
        progress.phase.value,
        *(metrics.total_work_items, metrics.completed, metrics.failed, metrics.retries, *progress.counts),
        *(progress.finished_at, pack_error(progress.failure), progress.failed),
    )


def progress(columns: Row) -> Progress:
    phase, total, completed, failed, retries, last_item, last_error, finished_at, failure, left = columns
    metrics = RunMetrics(total, completed, failed, retries)
    return Progress(Phase(phase), metrics, (last_item, last_error), finished_at, unpack_error(failure), left)
