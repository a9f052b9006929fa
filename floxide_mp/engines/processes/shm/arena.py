"""``Arena``: a process's own part of the memory file, where it writes large payloads for others to read. ``FreeList``:
stretches of it that are free.

Here is where there is room, and how payloads lie in it. Who may still see one, and when its room is free again, is
decided in ``payloads``. Room that was used before is used again first: its pages are there, which makes a write ten
times as fast. What was not needed for some seconds is given back to the system.

The file is a memfd: it is in no file system, not bounded by /dev/shm, and gone with the last process that has it. Where
it has no pages it is written by ``pwrite``, not through the mapping: to be out of memory is an error then, and not a
SIGBUS.
"""

from __future__ import annotations

import mmap
import os
import threading
from bisect import bisect
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from ....clock import monotonic


class FreeList:
    """Free stretches in the order of their offsets; neighbours become one. ``total`` is how many bytes they have."""

    def __init__(self) -> None:
        self._found: list[tuple[int, int]] = []  # (offset, size)
        self.total = 0

    def add(self, offset: int, size: int) -> None:
        """One more, which overlaps none of them."""
        found = self._found
        at = bisect(found, (offset, 0))
        self.total += size
        if at < len(found) and found[at][0] == offset + size:
            size += found.pop(at)[1]
        if at and sum(found[at - 1]) == offset:
            offset, before = found.pop(at - 1)
            size, at = size + before, at - 1
        found.insert(at, (offset, size))

    def take(self, size: int) -> int | None:
        """The offset of so many bytes that were free, cut from the smallest stretch that has them; None: none has."""
        fits = [(length, at) for at, (_, length) in enumerate(self._found) if length >= size]
        if not fits:
            return None
        length, at = min(fits)
        offset = self._found[at][0]
        if length == size:
            del self._found[at]
        else:
            self._found[at] = offset + size, length - size
        self.total -= size
        return offset

    def trim(self, most: int) -> list[tuple[int, int]]:
        """Take out what is more than ``most`` bytes, of the smallest stretches first: what is left is of most use."""
        out = []
        for size, offset in sorted((size, offset) for offset, size in self._found) if self.total > most else ():
            spare = min(size, self.total - most)
            if spare <= 0:
                break
            at = bisect(self._found, (offset, 0))
            self._found[at : at + 1] = [(offset, size - spare)] if spare < size else []
            self.total -= spare
            out.append((offset + size - spare, spare))
        return out


SPAN: Final = 1 << 40  # bytes of the file (not of memory) that one process has: offset // SPAN says whose it is
ALIGNED: Final = 64  # where a buffer begins: what computes on it may want that
KEPT: Final = 1 << 22  # bytes of free room whose pages are kept in any case
REMEMBERED: Final = 10.0  # seconds, up to twice as many, for which pages are kept that were needed
_PAGE: Final = mmap.PAGESIZE
_DONTDUMP: Final = 16  # <sys/mman.h>, Linux; not in Python's mmap

Chunks: TypeAlias = "Sequence[bytes | memoryview]"


def spread(sizes: Sequence[int]) -> list[int]:
    """Where parts of these sizes lie, one behind the other, from the first on; and where the last one ends."""
    found = [0]
    for size in sizes[:-1]:
        found.append(_up(found[-1] + size, ALIGNED))
    return [*found, found[-1] + sizes[-1]]


def sizes_of(stream: Chunks, buffers: Chunks) -> tuple[int, ...]:
    """Bytes of the stream, and of each buffer."""
    return sum(map(len, stream)), *map(len, buffers)


class Arena:
    """Args:
    fd: of the memory file.
    base: where this part of it begins, a multiple of ``SPAN``.
    clock: seconds.
    """

    def __init__(self, fd: int, base: int, clock: Callable[[], float] = monotonic) -> None:
        self._fd, self._base = fd, base
        self._clock = clock
        self._pid = os.getpid()
        self._file = _identity(fd)
        self._lock = threading.Lock()
        self._freed: deque[int] = deque()  # told by ``free``, which anybody may call at any time, a collector included
        self._taken: dict[int, int] = {}  # offset -> size
        self._warm, self._cold = FreeList(), FreeList()  # free, with pages and without
        self._cold.add(base, SPAN)
        self._used = 0  # bytes that are taken
        self._peak = self._peak_before = 0  # the most that were since the time that is next, and in that before
        self._since = clock()
        self._mapping: mmap.mmap | None = None
        self._mapped = False  # it was tried

    def begin(self, taken: Mapping[int, int]) -> None:
        """Go on where another process has written that is gone: what is not ``taken`` (offset -> bytes) is free."""
        with self._lock:
            self._taken = {offset: _up(size, _PAGE) for offset, size in taken.items()}
            self._used = sum(self._taken.values())
            self._cold = FreeList()
            at = self._base
            for offset in sorted(self._taken):
                self._cool(at, offset)
                at = offset + self._taken[offset]
            self._cool(at, self._base + SPAN)

    def write(self, stream: Chunks, buffers: Chunks, begun: Callable[[], object] = lambda: None) -> int | None:
        """Write a payload.

        Args:
            stream: of it, in pieces.
            buffers: of it; stream and buffers lie as ``spread`` says.
            begun: called when the first piece is written.

        Returns:
            its offset; None if there is no room, if this is a fork of the process whose arena it is, or if the user's
            code has closed the descriptor, which may be another file's now.
        """
        if os.getpid() != self._pid or _identity(self._fd) != self._file:
            return None
        starts = spread(sizes_of(stream, buffers))
        size = _up(starts[-1], _PAGE)
        with self._lock:
            self._settle()
            offset = warm = self._warm.take(size)
            if offset is None:
                offset = self._cold.take(size)
            if offset is None:
                return None
            self._taken[offset] = size
            self._used += size
            self._peak = max(self._peak, self._used)
        try:
            at = offset
            for chunk in stream:
                self._write(chunk, at, warm is not None)
                at += len(chunk)
                begun()
            for buffer, start in zip(buffers, starts[1:], strict=False):
                self._write(buffer, offset + start, warm is not None)
        except OSError:  # no memory, no swap, or more than this process may write (ulimit -f)
            with self._lock:
                self._used -= self._taken.pop(offset)
                self._cool(offset, offset + size)
            return None
        return offset

    def _write(self, part: bytes | memoryview, offset: int, warm: bool) -> None:
        if warm and not self._mapped:
            self._mapping, self._mapped = mapped(self._fd, self._base, mmap.MAP_SHARED), True
        at = offset - self._base
        if warm and self._mapping is not None and at + len(part) <= len(self._mapping):
            self._mapping[at : at + len(part)] = part
            return
        rest = memoryview(part)
        while rest:  # the system takes 2 GiB at a time
            done = os.pwrite(self._fd, rest, offset)
            rest, offset = rest[done:], offset + done

    def free(self, offset: int) -> None:
        """What was written there is seen by nobody any more."""
        self._freed.append(offset)

    def settle(self) -> None:
        """Give back what has become free and is not worth keeping. To be called now and then."""
        if self._freed or self._warm.total > KEPT:
            with self._lock:
                self._settle()

    def _settle(self) -> None:
        while self._freed:
            offset = self._freed.popleft()
            size = self._taken.pop(offset)
            self._used -= size
            self._warm.add(offset, size)
        if (now := self._clock()) - self._since > REMEMBERED:
            self._since, self._peak_before, self._peak = now, self._peak, self._used
        needed = max(self._peak, self._peak_before)
        for offset, size in self._warm.trim(max(KEPT, needed - self._used)):
            self._cool(offset, offset + size)

    def _cool(self, start: int, end: int) -> None:
        """These bytes are free, and need no pages."""
        if start < end:
            punch(self._fd, start, end)
            self._cold.add(start, end - start)


def punch(fd: int, start: int, end: int) -> None:
    """Give back the pages of these bytes of a memory file."""
    at = start
    try:
        while at < end:  # only where there are any: a mapping of all of it may be too large
            at = os.lseek(fd, at, os.SEEK_DATA)
            if at >= end:
                return
            until = min(os.lseek(fd, at, os.SEEK_HOLE), end)
            with mmap.mmap(fd, until - at, offset=at) as window:
                window.madvise(mmap.MADV_REMOVE)
            at = until
    except OSError:
        pass  # there are none from there on; or they cannot be mapped, and stay


def mapped(fd: int, base: int, flags: int) -> mmap.mmap | None:
    """A mapping of as much of a part of the file as the machine has memory; None if there can be none (ulimit -v).

    That is a number of addresses, no more; it is not copied into a dump of the process.
    """
    size = _up(os.sysconf("SC_PHYS_PAGES") * _PAGE, _PAGE)
    try:
        made = mmap.mmap(fd, min(size, SPAN), flags, mmap.PROT_READ | mmap.PROT_WRITE, offset=base)
        made.madvise(_DONTDUMP)
    except OSError:
        return None
    return made


def _identity(fd: int) -> tuple[int, int] | None:
    """Which file it is; None if it is closed."""
    try:
        stat = os.fstat(fd)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _up(size: int, unit: int) -> int:
    return -(-size // unit) * unit
