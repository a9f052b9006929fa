"""Large payloads in memory that a coordinator and its workers share: whose they are, and who may still see them.

    worker 1                        coordinator                         worker 2
    ┌──────────────────┐  report    ┌─────────────────┐  lease          ┌─────────────────────────────────┐
    │ codec ──▶ Made   │───────────▶│ Region          │────────────────▶│ Loan ──▶ codec ──▶ user's array │
    │  (its own arena) │◀ ─ ─ ─ ─ ─ │ (Python counts) │◀ ─ ─ ─ ─ ─ ─ ─ ─│  (a mapping of its own)         │
    └──────────────────┘ next reply └─────────────────┘ next request    └─────────────────────────────────┘
                         "is free"                     "not seen here"

What a worker makes becomes the coordinator's with the report. There it is a ``SharedPayload``, and when the last
reference to that is gone, the worker whose arena it is in hears so with its next reply. A region that was sent to a
worker is referred to until that worker says that nothing of its own sees it, or has ended: also where the user's code
has put an array away. So nothing is written to that anybody can see, whoever dies; and what a dead worker had made and
told nobody of is free when the next one takes over its arena.

A worker sees what is there through a mapping in which its writes are its own (``views``).
"""

from __future__ import annotations

import copyreg
import mmap
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Final

from .... import failpoints
from ....core.types import Shared
from ....errors import FloxideError
from ....wire import oob_pickle
from ..fork_safety import no_fork, own
from .arena import SPAN, Arena, Chunks, punch, sizes_of, spread
from .mapped import MappedPayloads, copied, read_into

PIECE: Final = 8 << 20  # bytes

_receiving = threading.local()  # ``end``: the end of a connection whose message this thread reads


def _found(*where: Any) -> Shared:
    """What is sent instead of a payload, as it is read."""
    return _receiving.end.found(*where)  # type: ignore[no-any-return]


# -- the coordinator's side ---------------------------------------------------------------------------------------


class Memory:
    """The memory file of one coordinator, which has a part for itself and one for each of ``count`` workers.

    Raises:
        OSError: there can be none.
    """

    def __init__(self, count: int) -> None:
        self._regions: weakref.WeakSet[SharedPayload] = weakref.WeakSet()
        self._looks: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()  # by which threads of this process read regions
        self._pid = os.getpid()
        self._lock = threading.Lock()  # around each use of the descriptor by which regions are read
        with no_fork():
            self.fd = os.memfd_create("floxide-memory")
            own(self)
        try:
            os.ftruncate(self.fd, (count + 1) * SPAN)
        except OSError:
            self.close()
            raise
        self._arena = Arena(self.fd, 0)
        self._taken: list[dict[int, int]] = [{} for _ in range(count + 1)]  # by part: offset -> bytes
        self._freed: list[deque[int]] = [deque() for _ in range(count + 1)]

    def put(self, stream: Chunks, buffers: Chunks) -> Shared | None:
        """See ``large.Arena``. From any thread."""
        offset = self._arena.write(stream, buffers)
        return None if offset is None else SharedPayload(self, offset, sizes_of(stream, buffers))

    def arrived(self, offset: int, sizes: tuple[int, ...]) -> SharedPayload:
        """A worker has reported it."""
        self._taken[offset // SPAN][offset] = spread(sizes)[-1]
        return SharedPayload(self, offset, sizes)

    def free(self, offset: int) -> None:
        """Nobody refers to it. Called by collectors: nothing is waited for."""
        part = offset // SPAN
        if part:
            self._freed[part].append(offset)
        else:
            self._arena.free(offset)

    def freed(self, part: int) -> list[int]:
        """What has become free since the last time in the part of a worker."""
        freed, taken = self._freed[part], self._taken[part]
        told = [freed.popleft() for _ in range(len(freed))]
        for offset in told:
            del taken[offset]
        return told

    def taken(self, part: int) -> dict[int, int]:
        """What is there, for the worker that takes over that part: offsets and bytes."""
        self.freed(part)
        return dict(self._taken[part])

    def read(self, region: SharedPayload) -> memoryview:
        """What is there, as it is: not to be looked at when nobody refers to the region.

        Raises:
            FloxideError: this is a fork of the process that it belongs to, which may have written something else there.
        """
        if self._pid != os.getpid() and region.kept is None:
            raise FloxideError("a large value belongs to the process that this one was forked from: open it there")
        with self._lock:
            if region.kept is not None:
                return memoryview(region.kept)
            try:
                look = mmap.mmap(self.fd, region.size, mmap.MAP_PRIVATE, offset=region.offset)
                self._looks.add(look)
                return memoryview(look)
            except OSError:  # there can be no more mappings, or descriptors
                return memoryview(copied(self.fd, region.offset, region.size))

    def release(self) -> None:
        """The workers have ended: what is still referred to becomes memory of this process, and the file is closed."""
        if self._pid != os.getpid():
            return  # it is closed here, and the regions are the other process's
        with self._lock:
            for region in list(self._regions):
                region.kept = self._taken_out(region)
            self.close()

    def _taken_out(self, region: SharedPayload) -> bytearray | mmap.mmap:
        """What is there, copied piece by piece: a model of many GB is not to be there twice at the end."""
        try:
            whole: bytearray | mmap.mmap = mmap.mmap(-1, region.size)  # pages that are there when they are written to
        except OSError:
            whole = bytearray(region.size)
        for start in range(0, region.size, PIECE):
            piece = memoryview(whole)[start : start + PIECE]
            at = region.offset + start
            read_into(piece, self.fd, at)
            if not self._looks:  # else some thread may still read what is there
                punch(self.fd, at, at + len(piece))
        return whole

    def close(self) -> None:
        """Also in processes that are forked from this one, which must not keep it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def note(self, region: SharedPayload) -> None:
        self._regions.add(region)


class SharedPayload(Shared):
    """A payload that is the coordinator's."""

    __slots__ = ("kept", "memory", "offset", "size", "sizes")

    def __init__(self, memory: Memory, offset: int, sizes: tuple[int, ...]) -> None:
        self.kept: bytearray | mmap.mmap | None = None  # what was there, when it is in the file no more
        self.memory = memory
        self.offset, self.sizes, self.size = offset, sizes, spread(sizes)[-1]
        memory.note(self)

    def __len__(self) -> int:
        return sum(self.sizes)

    def open(self) -> tuple[memoryview, list[memoryview]]:
        stream, buffers = _cut(self.memory.read(self), self.sizes)
        return stream, [memoryview(bytearray(buffer)) for buffer in buffers]

    def tobytes(self) -> bytes:
        return oob_pickle.in_one(*_cut(self.memory.read(self), self.sizes))

    def __del__(self) -> None:
        if self.kept is None:
            self.memory.free(self.offset)


class CoordinatorEnd(Connection):
    """The coordinator's end of a connection to a worker. Used by one thread at a time.

    Args:
        handle: a descriptor, which becomes its own.
        memory: what the two share, if they do.
        part: whose of it the worker is.
    """

    def __init__(self, handle: int, memory: Memory | None, part: int) -> None:
        super().__init__(handle)
        self._memory, self._part = memory, part
        self._first = True
        self._lent: dict[int, list[SharedPayload]] = {}  # by offset, as often as it was sent and not given back
        self._lending: list[SharedPayload] = []  # by the message that is being made
        self._freed: list[int] = []  # what could not be told with an earlier reply
        self._reducers: dict[type, Callable[[Any], Any]] = {**copyreg.dispatch_table, SharedPayload: self._lend}

    def send(self, reply: Any) -> None:
        news: Any = None
        if self._memory is not None:
            news = self._memory.taken(self._part) if self._first else [*self._freed, *self._memory.freed(self._part)]
        self._lending = []
        try:
            message = oob_pickle.message((reply, news), self._reducers)
        except BaseException:  # no memory for it: it is as if it had not been tried
            if not self._first:
                self._freed = news or []
            for region in self._lending:
                self._give_back(region.offset)
            raise
        self._first, self._freed = False, []
        self.send_bytes(message)

    def recv(self) -> Any:
        _receiving.end = self
        request, back = super().recv()
        for offset in back:
            self._give_back(offset)
        return request

    def _give_back(self, offset: int) -> None:
        lent = self._lent[offset]
        lent.pop()
        if not lent:
            del self._lent[offset]

    def close(self) -> None:
        super().close()
        self._lent.clear()

    def found(self, offset: int, sizes: tuple[int, ...]) -> Shared:
        assert self._memory is not None
        return self._memory.arrived(offset, sizes)

    def _lend(self, region: SharedPayload) -> tuple[Any, ...]:
        if region.memory is not self._memory or region.kept is not None:
            return bytes, (region.tobytes(),)
        self._lent.setdefault(region.offset, []).append(region)
        self._lending.append(region)
        return _found, (region.offset, region.sizes)


# -- a worker's side ----------------------------------------------------------------------------------------------


class WorkerEnd(Connection):
    """A worker's end of its connection. Used by one thread at a time.

    Args:
        handle: a descriptor, which becomes its own.
        memory: the descriptor of the memory file; -1 if nothing is shared.
        part: whose of it this worker is.
    """

    def __init__(self, handle: int, memory: int, part: int) -> None:
        super().__init__(handle)
        self._arena = Arena(memory, part * SPAN)
        self._views = MappedPayloads(memory)
        self._begun = False
        self._made: weakref.WeakValueDictionary[int, OwnedPayload] = weakref.WeakValueDictionary()
        self._returned: deque[int] = deque()
        self._reducers: dict[type, Callable[[Any], Any]] = {**copyreg.dispatch_table, OwnedPayload: OwnedPayload.give}
        if memory >= 0:
            oob_pickle.arena = self

    def put(self, stream: Chunks, buffers: Chunks) -> Shared | None:
        """See ``large.Arena``."""
        begun = partial(failpoints.hit, "worker.shared.write") if failpoints.armed else _nothing
        offset = self._arena.write(stream, buffers, begun)
        if offset is None:
            return None
        made = self._made[offset] = OwnedPayload(self._arena, self._views, offset, sizes_of(stream, buffers))
        if failpoints.armed:
            failpoints.hit("worker.shared.written")
        return made

    def send(self, request: Any) -> None:
        back = [self._returned.popleft() for _ in range(len(self._returned))]
        self.send_bytes(oob_pickle.message((request, back), self._reducers))

    def recv(self) -> Any:
        _receiving.end = self
        reply, news = super().recv()
        if news is not None and not self._begun:
            self._begun = True
            self._arena.begin(news)
        elif news is not None:
            for offset in news:
                made = self._made.get(offset)
                if made is None:
                    self._arena.free(offset)
                else:
                    made.returned = True
            self._arena.settle()
        return reply

    def found(self, offset: int, sizes: tuple[int, ...]) -> Shared:
        return BorrowedPayload(self._returned, self._views, offset, sizes)


class _Lying(Shared):
    """A payload as a worker sees it."""

    __slots__ = ("_offset", "_sizes", "_views")

    def __init__(self, views: MappedPayloads, offset: int, sizes: tuple[int, ...]) -> None:
        self._views, self._offset, self._sizes = views, offset, sizes

    def __len__(self) -> int:
        return sum(self._sizes)

    def open(self) -> tuple[memoryview, list[memoryview]]:
        if failpoints.armed:
            failpoints.hit("worker.shared.open")
        return _cut(self._views.open(self._offset, spread(self._sizes)[-1], self), self._sizes)

    def tobytes(self) -> bytes:
        return oob_pickle.in_one(*self.open())


class OwnedPayload(_Lying):
    """One that this worker has made. As long as it is not told of, it is this worker's to free."""

    __slots__ = ("_arena", "_given", "returned")

    def __init__(self, arena: Arena, views: MappedPayloads, offset: int, sizes: tuple[int, ...]) -> None:
        super().__init__(views, offset, sizes)
        self._arena = arena
        self._given = False
        self.returned = False  # the coordinator refers to it no more

    def give(self) -> tuple[Any, ...]:
        self._given = True
        return _found, (self._offset, self._sizes)

    def __del__(self) -> None:
        if self.returned or not self._given:
            self._arena.free(self._offset)


class BorrowedPayload(_Lying):
    """One that the coordinator has sent. When nothing here sees it any more, it is told so."""

    __slots__ = ("_returned",)

    def __init__(self, back: deque[int], views: MappedPayloads, offset: int, sizes: tuple[int, ...]) -> None:
        super().__init__(views, offset, sizes)
        self._returned = back

    def __del__(self) -> None:
        self._returned.append(self._offset)


def _cut(whole: memoryview, sizes: Sequence[int]) -> tuple[memoryview, list[memoryview]]:
    stream, *buffers = (whole[at : at + size] for at, size in zip(spread(sizes), sizes, strict=False))
    return stream, buffers


def _nothing() -> None:
    pass
