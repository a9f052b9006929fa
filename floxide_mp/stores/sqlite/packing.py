"""Many records as one value: columns of numbers, payloads, and ranges. What they mean is not known here."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import accumulate, chain, islice, pairwise, repeat
from typing import Final, TypeAlias

Column: TypeAlias = "int | range | Sequence[int]"
"""Numbers between -2**63 and 2**63: the same for all, one more for each, or each its own."""

_SAME: Final = b"="
_NEXT: Final = b"+"
_one: Final = struct.Struct("<q")
_SIZES: Final = {"B": 1, "H": 2, "I": 4, "q": 8}


def pack_many(columns: Iterable[Column], payloads: Sequence[bytes]) -> bytes:
    """The columns, the lengths of the payloads as one more, and the payloads. There must be at least one."""
    return b"".join((*map(_pack_column, columns), _pack_column(list(map(len, payloads))), *payloads))


def unpack_many(body: bytes, count: int, columns: int) -> tuple[list[Column], list[bytes]]:
    """The way back: so many columns, and the payloads."""
    found: list[Column] = []
    at = 0
    for _ in range(columns + 1):
        column, at = _unpack_column(body, at, count)
        found.append(column)
    lengths = found.pop()
    ends = accumulate(each(lengths, count), initial=at)
    return found, [body[start:end] for start, end in pairwise(ends)]


def each(column: Column, count: int) -> Iterable[int]:
    """The numbers of a column."""
    return repeat(column, count) if isinstance(column, int) else column


def _pack_column(column: Column) -> bytes:
    if isinstance(column, int):
        return _SAME + _one.pack(column)
    if isinstance(column, range):
        return _NEXT + _one.pack(column.start)
    first, least, most, count = column[0], min(column), max(column), len(column)
    if least == most:
        return _SAME + _one.pack(first)
    if most - first == count - 1 and column == list(range(first, first + count)):
        return _NEXT + _one.pack(first)
    code = "q" if least < 0 or most >= 1 << 32 else "B" if most < 256 else "H" if most < 65536 else "I"
    return code.encode() + struct.pack(f"<{count}{code}", *column)


def _unpack_column(body: bytes, at: int, count: int) -> tuple[Column, int]:
    """The column that begins there, and where it ends."""
    code, at = body[at : at + 1], at + 1
    if code in (_SAME, _NEXT):
        (first,) = _one.unpack_from(body, at)
        return first if code == _SAME else range(first, first + count), at + _one.size
    kind = code.decode()
    return struct.unpack_from(f"<{count}{kind}", body, at), at + count * _SIZES[kind]


# -- ranges -------------------------------------------------------------------------------------------------------

Range: TypeAlias = tuple[int, int]
"""Numbers from the first one up to, and without, the second."""


def merged(ranges: Iterable[Range]) -> list[Range]:
    """The same numbers, ascending, in as few ranges as there can be."""
    found: list[Range] = []
    for start, stop in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(stop, found[-1][1])
        else:
            found.append((start, stop))
    return found


def without(one: Sequence[Range], other: Sequence[Range]) -> list[Range]:
    """The numbers of one that are not in the other; all three as ``merged`` gives them."""
    found: list[Range] = []
    at = 0
    for start, stop in one:
        while at < len(other) and other[at][1] <= start:
            at += 1
        for first, end in islice(other, at, None):
            if first >= stop:
                break
            if start < first:
                found.append((start, first))
            start = end
        if start < stop:
            found.append((start, stop))
    return found


def common(one: Sequence[Range], other: Sequence[Range]) -> list[Range]:
    """The numbers that are in both; all three as ``merged`` gives them."""
    return without(one, without(one, other))


def total(ranges: Iterable[Range]) -> int:
    """How many numbers there are in them, which have none in common."""
    return sum([stop - start for start, stop in ranges])


def pack_ranges(ranges: Sequence[Range], first: int) -> bytes:
    """As distances from ``first``, which are below 2**32."""
    flat = [number - first for number in chain.from_iterable(ranges)]
    return struct.pack(f"<{len(flat)}I", *flat)


def unpack_ranges(packed: bytes, first: int) -> list[Range]:
    flat = [number + first for number in struct.unpack(f"<{len(packed) // 4}I", packed)]
    return list(zip(flat[::2], flat[1::2], strict=True))
