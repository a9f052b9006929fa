"""Large values: pickled in pieces, with their buffers beside them (PEP 574), so that nothing is copied on the way into
memory that processes share. Where that is, is decided elsewhere; values that are not large are for ``codec``.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

from ..core.shared import Shared
from ..core.terms import Packed
from ..errors import SerializationError
from . import codec

LARGE: Final = 1 << 18  # bytes from which on a value, or a buffer of one, is shared: up to half of that is sent sooner
MOST_REOPENED: Final = 1 << 23  # bytes of a pickle that is made to have its buffers read-only
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


def reopener(value: Any, most: int) -> Callable[[], Any]:
    """A function that gives the value as it is now, each time as an object of its own.

    Texts, ``bytes`` and, where they are more than ``most`` bytes in all, buffers (of arrays) are not copied; such
    buffers are read-only. What is more than ``most`` bytes without them, or cannot be pickled, is the same object each
    time, with read-only buffers if it is less than ``MOST_REOPENED``.
    """
    for bound in (most, MOST_REOPENED):
        atoms: list[Any] = []
        buffers: list[memoryview] = []
        stream = _Bounded(bound)
        pickler = _Sparing(stream, 5, buffer_callback=partial(_put_aside, buffers))
        pickler.atoms = atoms
        try:
            pickler.dump(value)
        except codec.GivenUp:
            continue
        except KeyboardInterrupt:
            raise
        except BaseException:
            try:
                payload = codec.encode_by_value(value, "value")  # there are functions in it that have no name
            except SerializationError:
                break
            return partial(codec.decode, payload) if len(payload) <= most else partial(_same, value)
        copied = sum(map(len, buffers)) <= most
        kept = [bytes(raw) if copied else raw.toreadonly() for raw in buffers]
        reopen = partial(_reopened, stream.getvalue(), kept, copied, atoms)
        return reopen if bound == most else partial(_same, reopen() if kept and not copied else value)
    return partial(_same, value)


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


def _reopened(stream: bytes, buffers: Sequence[bytes | memoryview], copied: bool, atoms: list[Any]) -> Any:
    unpickler = _Restoring(io.BytesIO(stream), buffers=map(bytearray, buffers) if copied else buffers)
    unpickler.atoms = atoms
    return unpickler.load()


def _same(value: Any) -> Any:
    return value


class _Joined:
    """Is pickled as a pickle and its buffers, and unpickled as the value."""

    def __init__(self, parts: Sequence[memoryview]) -> None:
        self.parts = parts

    def __reduce__(self) -> Any:
        return _joined, tuple(map(pickle.PickleBuffer, self.parts))


def _joined(stream: bytearray, *buffers: bytearray) -> Any:
    return pickle.loads(stream, buffers=buffers)
