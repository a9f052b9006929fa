"""Large values: pickled in pieces, with their buffers beside them (PEP 574), so that nothing is copied on the way into
memory that processes share. Where that is, is decided elsewhere; values that are not large are for ``codec``.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

from ..core.types import Packed, Shared
from ..errors import SerializationError
from . import codec

LARGE: Final = 1 << 18  # bytes from which on a value, or a buffer of one, is shared: up to half of that is sent sooner
MOST_READ_ONLY: Final = 1 << 25  # bytes of a pickle whose value is kept as it is: its buffers are made read-only
BUFFER: Final = pickle.PickleBuffer
_SMALL: Final = frozenset({int, float, bool, type(None)})
_ATOMS: Final = frozenset({str, bytes})


class Arena(Protocol):
    """Where large values are written for other processes to read."""

    def put(self, stream: Sequence[bytes], buffers: Sequence[memoryview]) -> Shared | None:
        """A pickle, in pieces, and the buffers that it was made without; None if there is no room."""


arena: Arena | None = None  # this process's, if it is a worker that has one
_large: Final = {"input", "ctx"}  # what was large the last time


def share(value: Any, what: str, whose: str = "", memory: Arena | None = None) -> Packed:
    """As ``codec.encode``, but in ``memory``, or in this process's arena, if there is one and the value is large."""
    memory = memory or arena
    if memory is None or type(value) in _SMALL:
        return codec.encode(value, what, whose)
    kind = whose or what
    if kind not in _large:
        try:
            whole = codec.encode(value, what, whose, _small)
        except codec.GivenUp:
            pass
        else:
            if len(whole) < LARGE:
                return whole
        _large.add(kind)
    aside = _Aside()
    stream = _in_pieces(value, what, whose, aside)
    if not aside and sum(map(len, stream)) < LARGE:
        _large.discard(kind)
        return b"".join(stream)
    return memory.put(stream, aside) or codec.encode(value, what, whose)


def in_one(stream: memoryview, buffers: Sequence[memoryview]) -> bytes:
    """One pickle of a pickle and the buffers that it was made without."""
    return pickle.dumps(_Joined((stream, *buffers)), 5) if buffers else bytes(stream)


def message(value: Any, reducers: Mapping[type, Callable[[Any], Any]]) -> memoryview:
    """Plain data as it is sent, with what is of these types as ``reducers`` (like ``copyreg``'s) have it."""
    stream = io.BytesIO()
    pickler = pickle.Pickler(stream, 5)
    pickler.dispatch_table = reducers
    pickler.dump(value)
    return stream.getbuffer()


class Apart(NamedTuple):
    """A value as a pickle, by which it can be compared with what it is later, and opened again."""

    stream: bytes
    small: list[bytes]  # buffers that are little in all
    large: list[memoryview]  # otherwise
    places: list[int]  # where these are in memory; empty: that does not matter
    atoms: list[Any]

    def same(self, other: Apart | None) -> bool:
        """Whether the two are of values that are alike. Large buffers are, if they are the same memory."""
        if other is None:
            return False
        places = other.places if self.places else []
        return self._replace(large=[]) == other._replace(large=[], places=places)

    def open(self) -> Any:
        """The value as it was, as an object of its own; but texts, ``bytes`` and large buffers, which are read-only,
        are not copied.
        """
        buffers = [memoryview(bytearray(raw)) for raw in self.small] or [raw.toreadonly() for raw in self.large]
        unpickler = _Restoring(io.BytesIO(self.stream), buffers=buffers)
        unpickler.atoms = self.atoms
        return unpickler.load()


def apart(value: Any, most: int, little: int) -> Apart | None:
    """The value as a pickle of at most so many bytes, without texts, ``bytes`` and buffers.

    Args:
        little: as many bytes of buffers, in all, are copied.

    Returns:
        None: it is more, or cannot be pickled.
    """
    stream = _Bounded(most)
    buffers: list[memoryview] = []
    pickler = _Sparing(stream, 5, buffer_callback=partial(_put_aside, buffers))
    pickler.atoms = []
    try:
        pickler.dump(value)
        data = stream.getvalue()
    except codec.GivenUp:
        return None
    except KeyboardInterrupt:
        raise
    except BaseException:
        buffers.clear()
        pickler.atoms = []
        try:  # there are functions in it that have no name
            data = codec.encode_by_value(value, "value", aside=partial(_put_aside, buffers))
        except (SerializationError, MemoryError):
            return None
        if len(data) > most:
            return None
    if sum(map(len, buffers)) <= little:
        return Apart(data, [bytes(raw) for raw in buffers], [], [], pickler.atoms)
    return Apart(data, [], buffers, [_place(raw) for raw in buffers], pickler.atoms)


def read_only(value: Any, little: int) -> Any:
    """The value, with its buffers read-only if they are more than ``little`` bytes in all: itself, or, where they are
    not, opened again around the same memory. (An array whose ``writeable`` is just set to False can have it set back:
    a step that did so worked where the array was in its pickle, and not where it was in shared memory.) What is more
    than ``MOST_READ_ONLY`` without them stays as it is.
    """
    taken = apart(value, MOST_READ_ONLY, little)
    return value if taken is None or all(raw.readonly for raw in taken.large) else taken.open()


# -- inside -------------------------------------------------------------------------------------------------------


def _small(buffer: pickle.PickleBuffer) -> bool:
    """That a buffer is to stay in.

    Raises:
        codec.GivenUp: it is large.
    """
    if _raw(buffer) is not None:
        raise codec.GivenUp
    return True


def _raw(buffer: pickle.PickleBuffer) -> memoryview | None:
    """The buffer, if it is large and in one piece."""
    try:
        raw = buffer.raw()
    except BufferError:
        return None
    return raw if len(raw) >= LARGE else None


def _in_pieces(value: Any, what: str, whose: str, aside: _Aside) -> Sequence[bytes]:
    """The value as bytes. Each large ``bytes`` in it is a piece: to copy these together takes longer than all else."""
    pieces = _Pieces()
    try:
        pickle.Pickler(pieces, 5, buffer_callback=aside).dump(value)
    except KeyboardInterrupt:
        raise
    except BaseException:
        aside.clear()  # of what was taken before that: the other pickler gives it again
        return (codec.encode_by_value(value, what, whose, aside),)
    return pieces


class _Pieces(list[bytes]):
    """A file that is written to."""

    def write(self, data: bytes | memoryview) -> None:
        self.append(bytes(data))  # which copies none that are ``bytes``


class _Aside(list[memoryview]):
    """Takes the large buffers of a value."""

    def __call__(self, buffer: pickle.PickleBuffer) -> bool:
        raw = _raw(buffer)
        if raw is None:
            return True
        self.append(raw)
        return False


class _Bounded(io.BytesIO):
    """A file of so many bytes at the most."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def write(self, data: Any) -> int:
        count = super().write(data)
        if self.tell() > self._most:
            raise codec.GivenUp
        return count


class _Sparing(pickle.Pickler):
    """Leaves out large texts and ``bytes``, which nobody can change."""

    atoms: list[Any]

    def persistent_id(self, obj: Any) -> int | None:
        if type(obj) not in _ATOMS or len(obj) < 1024:
            return None
        self.atoms.append(obj)
        return len(self.atoms) - 1


class _Restoring(pickle.Unpickler):
    atoms: list[Any]

    def persistent_load(self, pid: int) -> Any:
        return self.atoms[pid]


def _put_aside(taken: list[memoryview], buffer: pickle.PickleBuffer) -> bool:
    try:
        taken.append(buffer.raw())
    except BufferError:  # not in one piece
        return True
    return False


def _place(raw: memoryview) -> int:
    """Where a buffer is in memory, as far as that can be found out; as long as somebody holds it, no other is there."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not raw:
        return id(raw.obj) if raw else 0
    place: int = numpy.frombuffer(raw, "u1").__array_interface__["data"][0]
    return place


class _Joined:
    """Is pickled as a pickle and its buffers, and unpickled as the value."""

    def __init__(self, parts: Sequence[memoryview]) -> None:
        self.parts = parts

    def __reduce__(self) -> Any:
        return _joined, tuple(map(pickle.PickleBuffer, self.parts))


def _joined(stream: bytearray, *buffers: bytearray) -> Any:
    return pickle.loads(stream, buffers=buffers)
