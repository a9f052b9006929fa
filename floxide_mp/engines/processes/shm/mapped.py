"""``MappedPayloads``: how a worker sees payloads in the memory file: as if each was its own, without a copy.

The file is mapped once, privately: what a node writes to its value becomes a page of the worker's own (copy on write),
and nobody else sees it. The mapping stays, since to map 8 MB anew takes longer than to copy them. So when the last view
of a payload is gone, pages that were written to are dropped, or they would hide what is written there next.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Callable
from typing import Any, Final

from .arena import SPAN, mapped

_NORESERVE: Final = 0x4000  # <sys/mman.h>, Linux; not in Python's mmap
_POPULATE_WRITE: Final = 23  # Linux 5.14
# The last byte of a page's entry in /proc/self/pagemap: 0x80 it is in memory, 0x40 in swap, 0x20 it is the file's.
_AS_IT_WAS: Final = bytes(byte for byte in range(256) if byte & 0x20 or not byte & 0xC0)


class _Pin(weakref.ref[Any]):
    """Of a buffer that a payload is seen through. ``of`` is what has to live as long as that."""

    __slots__ = ("address", "of", "offset", "part", "size", "start")

    address: int
    of: object
    offset: int
    part: mmap.mmap
    size: int
    start: int


class MappedPayloads:
    """Args:
    fd: of the memory file.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._pid = os.getpid()
        self._parts: dict[int, mmap.mmap | None] = {}  # None: it cannot be mapped
        self._pagemap = -1
        self._types: dict[int, Any] = {}
        self._seen: dict[int, _Pin] = {}  # by offset; who opens it a second time gets a copy
        os.register_at_fork(before=self._before_fork)

    def open(self, offset: int, size: int, of: object) -> memoryview:
        """A payload's bytes. ``of`` lives as long as somebody sees them, through whatever was made of them."""
        part = self._part(offset // SPAN)
        start = offset % SPAN
        if part is None or start + size > len(part) or offset in self._seen:
            return memoryview(copied(self._fd, offset, size))
        made = self._type(size).from_buffer(part, start)
        sight = _Pin(made, self._gone)
        sight.part, sight.start, sight.size, sight.of = part, start, size, of
        sight.address = self._address(made)
        sight.offset = offset
        self._seen[offset] = sight
        return memoryview(made).cast("B")

    def _part(self, number: int) -> mmap.mmap | None:
        if number not in self._parts:
            self._parts[number] = mapped(self._fd, number * SPAN, mmap.MAP_PRIVATE | _NORESERVE)
        return self._parts[number]

    def _type(self, size: int) -> Any:
        import ctypes  # only those who have large values need it

        found = self._types.get(size)
        if found is None:
            if len(self._types) > 64:
                self._types.clear()
            self._address: Callable[[Any], int] = ctypes.addressof
            found = self._types[size] = ctypes.c_char * size
        return found

    def _gone(self, sight: weakref.ref[Any]) -> None:
        """Nobody sees it any more."""
        assert isinstance(sight, _Pin)
        if os.getpid() == self._pid and not self._as_it_was(sight):
            sight.part.madvise(mmap.MADV_DONTNEED, *_pages(sight))
        del self._seen[sight.offset]  # only now: another thread may be about to open it
        del sight.of

    def _as_it_was(self, sight: _Pin) -> bool:
        """Whether none of it was written to."""
        start, length = _pages(sight)
        entries = bytearray(length // mmap.PAGESIZE * 8)
        try:
            if self._pagemap < 0:
                self._pagemap = os.open("/proc/self/pagemap", os.O_RDONLY)
            first = (sight.address - sight.start + start) // mmap.PAGESIZE
            if os.preadv(self._pagemap, [entries], first * 8) < len(entries):
                return False
        except OSError:
            return False
        return not entries[7::8].translate(None, _AS_IT_WAS)

    def _before_fork(self) -> None:
        """What the child sees must not change when nobody here sees it any more: it gets pages of its own."""
        for sight in list(self._seen.values()):
            seen = sight()  # and is for as long as this is done
            if seen is None or sight.offset < SPAN:
                # A thread is about to let go of it, and has looked at its pages. Or it is one of the inputs and
                # contexts, which the coordinator keeps: a large model is not to be copied.
                continue
            start, length = _pages(sight)
            try:
                sight.part.madvise(_POPULATE_WRITE, start, length)
            except OSError:  # an older kernel
                for at in range(start, start + length, mmap.PAGESIZE):
                    sight.part[at] = sight.part[at]


def _pages(sight: _Pin) -> tuple[int, int]:
    """Where the pages of it begin in its mapping, and how many bytes they have."""
    end = -(-(sight.start + sight.size) // mmap.PAGESIZE) * mmap.PAGESIZE
    start = sight.start // mmap.PAGESIZE * mmap.PAGESIZE
    return start, end - start


def copied(fd: int, offset: int, size: int) -> bytearray:
    """These bytes of a file."""
    whole = bytearray(size)
    read_into(memoryview(whole), fd, offset)
    return whole


def read_into(rest: memoryview, fd: int, offset: int) -> None:
    """Fill it with what is there in a file."""
    while rest:  # the system gives 2 GiB at a time
        done = os.preadv(fd, [rest], offset)
        rest, offset = rest[done:], offset + done
