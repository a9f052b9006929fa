"""``InFlight``: which items are leased, in a small mapped file beside the store, so that it is known when the program
that leased them is gone; and how often each of them was there when a program went.

A step that ends its whole program (it kills the coordinator, or has the machine run out of memory) leaves no other
trace: a lease is nothing that a store is told. The file is written once a lease, without a call to the kernel, and read
once, when the next coordinator opens the store. One that is closed in order removes it. Lives in the coordinator's
process. What a power cut leaves of the file may be too little: then nobody is blamed.
"""

from __future__ import annotations

import ast
import mmap
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias

from ..core.records import Chunk, ItemRecord
from ..core.types import OrderKey
from ..stores.sqlite.files import open_own

TABLE: Final = 1 << 16  # bytes for the items that earlier programs left
SLOT: Final = 1 << 11  # ... and for a lease
SLOTS: Final = 256
MOST_TOLD: Final = 64  # items, or blocks of them, of one lease that are told
HEAD: Final = 4  # bytes of the length of what follows

Span: TypeAlias = tuple[OrderKey, int]  # the first one's order key, how many
Lives: TypeAlias = dict[str, dict[Span, int]]  # run -> items -> how many programs they were leased in when these ended


class InFlight:
    """See the module.

    Args:
        path: of the file, which is made if it is not there.

    Raises:
        OSError: it cannot be had.
        StoreError: it is no regular file of this user.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        fd = open_own(path, os.O_RDWR | os.O_CREAT)
        try:
            os.ftruncate(fd, TABLE + SLOTS * SLOT)
            self._map = mmap.mmap(fd, TABLE + SLOTS * SLOT)
        finally:
            os.close(fd)
        self._slots: dict[int, int] = {}  # lease -> where
        self._free = list(range(TABLE, TABLE + SLOTS * SLOT, SLOT))
        self.lives = self._counted()
        self._write(0, TABLE, [(run, n, span) for run, spans in self.lives.items() for span, n in spans.items()])
        for at in self._free:
            self._map[at : at + HEAD] = bytes(HEAD)

    def suspects(self, run_id: str) -> Suspects | None:
        """The items of a run that were leased when a program ended; None: there are none."""
        spans = self.lives.get(run_id)
        return None if spans is None else Suspects(spans)

    def began(self, lease: int, run_id: str, items: Sequence[ItemRecord | Chunk]) -> None:
        """A worker has these from now on."""
        if not self._free:
            return
        spans = [(i.order, len(i) if isinstance(i, Chunk) else 1) for i in items[:MOST_TOLD]]
        alone = len(items) == 1 and spans[0][1] == 1
        at = self._slots[lease] = self._free.pop()
        self._write(at, SLOT, [(run_id, alone, span) for span in spans])

    def ended(self, lease: int) -> None:
        """Nobody has them any more."""
        at = self._slots.pop(lease, None)
        if at is not None:
            self._map[at : at + HEAD] = bytes(HEAD)
            self._free.append(at)

    def close(self) -> None:
        """The program ends in order: nothing that was leased did it any harm."""
        self._slots, self._free = {}, []
        self._map.close()
        with suppress(FileNotFoundError):
            os.unlink(self._path)

    def _counted(self) -> Lives:
        """What the programs before have left: one more for what was leased by itself, one for what was not."""
        lives: Lives = {}
        for run, count, span in self._read(0, TABLE):
            lives.setdefault(run, {})[span] = count
        for at in self._free:
            for run, alone, span in self._read(at, SLOT):
                known = lives.setdefault(run, {})
                known[span] = known.get(span, 0) + 1 if alone else max(1, known.get(span, 0))
        return lives

    def _write(self, at: int, most: int, entries: list[Any]) -> None:
        """What does not fit is left out. The length comes last: till then, there is nothing."""
        while (size := len(told := repr(entries).encode())) > most - HEAD:
            entries = entries[: len(entries) // 2]
        self._map[at : at + HEAD] = bytes(HEAD)
        self._map[at + HEAD : at + HEAD + size] = told
        self._map[at : at + HEAD] = size.to_bytes(HEAD, "little")

    def _read(self, at: int, most: int) -> list[Any]:
        size = int.from_bytes(self._map[at : at + HEAD], "little")
        if not 0 < size <= most - HEAD:
            return []
        try:
            return list(ast.literal_eval(self._map[at + HEAD : at + HEAD + size].decode()))
        except (ValueError, SyntaxError):
            return []  # a power cut left a part of it


class Suspects:
    """How often items of one run were leased when a program ended."""

    def __init__(self, spans: dict[Span, int]) -> None:
        self._single = {order: lives for (order, count), lives in spans.items() if count == 1}
        self._side_by_side: dict[
            OrderKey, list[tuple[int, int, int]]
        ] = {}  # all but the last branch -> first, end, lives
        for ((depth, path), count), lives in spans.items():
            if count > 1 and path:
                beside = self._side_by_side.setdefault((depth, path[:-1]), [])
                beside.append((path[-1], path[-1] + count, lives))

    def lives(self, order: OrderKey) -> int:
        """Of the item with that key: in how many programs, one after the other."""
        depth, path = order
        beside = self._side_by_side.get((depth, path[:-1]), ()) if path else ()
        among = [lives for first, end, lives in beside if first <= path[-1] < end]
        return max([self._single.get(order, 0), *among])

    def innocent(self, order: OrderKey, most: int) -> int:
        """How many of the items side by side from that one on, up to ``most``, are none of them; 1 if it is."""
        depth, path = order
        for number in range(most):
            if self.lives((depth, (*path[:-1], path[-1] + number))):
                return max(1, number)
        return most
