"""The types in which everybody speaks of items: order keys, payloads, errors. The records of the core are in
``records``.

``Shared`` is a payload that lies in memory which processes share, as far as those need to know who only pass it on.
Where that memory is, and when it can be used again, is the affair of ``engines/processes/shm``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias, TypeGuard


class Shared(ABC):
    """A pickle and the buffers that it was made without (PEP 574), where several processes can read them.

    They stay as they are for as long as somebody holds this object. ``len`` is their size in bytes. Pickled, it becomes
    ``tobytes()``.
    """

    __slots__ = ("__weakref__",)

    @abstractmethod
    def __len__(self) -> int:
        """Bytes."""

    @abstractmethod
    def open(self) -> tuple[memoryview, list[memoryview]]:
        """The pickle, and its buffers. These may be written to: nobody else sees it."""

    @abstractmethod
    def tobytes(self) -> bytes:
        """The same as one pickle, which needs nothing of this process: for stores on disk."""

    def __reduce__(self) -> tuple[Any, ...]:
        return bytes, (self.tobytes(),)


OrderKey: TypeAlias = tuple[int, tuple[int, ...]]  # (depth, branch path): the order of the one-process run
Packed: TypeAlias = bytes | Shared  # one value
# A join's is (name of the node it came from, value) for each value, or for a list of them.
Payload: TypeAlias = "Packed | tuple[tuple[str, Payload | list[Payload]], ...]"


def offset_key(order: OrderKey, number: int) -> OrderKey:
    """The order key that stands ``number`` places further among those made side by side."""
    depth, path = order
    return depth, (*path[:-1], path[-1] + number)


class ErrorRecord(NamedTuple):
    """One failed attempt. ``payload`` is the exception, pickled, where it can be; ``at`` is seconds since the epoch.
    ``input`` says in a line what the item's input was, where that is known and no secret.
    """

    type_name: str
    message: str
    traceback: str
    payload: bytes | None
    number: int = 0
    node: str = ""
    item_id: int = 0
    attempt: int = 0
    worker: int | None = None
    at: float = 0.0
    input: str | None = None


class StreamOffset(NamedTuple):
    """How far the iterator of a ``NextAll`` has come: values, how many successors these have, writes to the context.

    ``digest`` is of the values, ``hash_probe`` of the process that gave the last of them: in one with another, what it
    passes over is compared. 0 to 2**32 - 1.
    """

    values: int = 0
    targets: int = 0
    writes: int = 0
    digest: int = 0
    hash_probe: int = 0


def size_of(payload: Payload) -> int:
    """Bytes of a payload, about."""
    if not isinstance(payload, tuple):
        return len(payload)
    return sum([total_size(part) if isinstance(part, list) else 64 + size_of(part) for _, part in payload])


def total_size(payloads: Sequence[Payload]) -> int:
    """Bytes of them all, about."""
    return sum(map(len if all_bytes(payloads) else size_of, payloads))


def all_bytes(payloads: Sequence[Payload]) -> TypeGuard[Sequence[bytes]]:
    """Whether they are, and there are any."""
    return set(map(type, payloads)) == {bytes}
