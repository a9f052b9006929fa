"""``Shared``: a payload that lies in memory which processes share, as far as those need to know who only pass it on.

Where that memory is, and when it can be used again, is the affair of ``engines/processes``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any


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
