"""Large values: pickled in pieces, with their buffers beside them (PEP 574), so that nothing is copied on the way into
memory that processes share. Where that is, is decided elsewhere; values that are not large are for ``codec``.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from ..core.shared import Shared
from ..core.terms import Packed
from . import codec

LARGE: Final = 1 << 18  # bytes from which on a value, or a buffer of one, is shared: up to half of that is sent sooner
_SMALL: Final = frozenset({int, float, bool, type(None)})


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


class _Joined:
    """Is pickled as a pickle and its buffers, and unpickled as the value."""

    def __init__(self, parts: Sequence[memoryview]) -> None:
        self.parts = parts

    def __reduce__(self) -> Any:
        return _joined, tuple(map(pickle.PickleBuffer, self.parts))


def _joined(stream: bytearray, *buffers: bytearray) -> Any:
    return pickle.loads(stream, buffers=buffers)
