"""When a worker has done enough and a new one should go on: for nodes, or libraries, that leak.

A worker finds out itself, between two items; that it is replaced, and how, is the engine's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple, Self

from ...errors import FloxideError

LEAST: Final = 16 << 20  # bytes: an interpreter that has nothing to do needs more
_STATUS: Final = "/proc/self/status"
_RESIDENT: Final = re.compile(rb"\nRss(?:Anon|File):\s*(\d+) kB")


class Limits(NamedTuple):
    """The items that a worker runs at the most, and the bytes of memory above which it runs no more; None: any."""

    items: int | None = None
    size: int | None = None

    @classmethod
    def checked(cls, items: object, size: object) -> Self:
        """These limits.

        Raises:
            ValueError: they are none, or so low that workers would be replaced without end.
            FloxideError: nobody can tell how much memory a worker has.
        """
        for name, value, least in (("max_tasks_per_worker", items, 1), ("max_worker_rss", size, LEAST)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                unit = " of bytes" if least == LEAST else ""
                raise ValueError(f"{name} must be a whole number{unit} from {least:,} on, or None, not {value!r}")
        if size is not None and not resident():
            raise FloxideError(f"max_worker_rss cannot be kept here: {_STATUS} cannot be read, so mount /proc")
        return cls(items, size)  # type: ignore[arg-type]


UNLIMITED: Final = Limits()


def worn_by(limits: Limits) -> Callable[[int], bool] | None:
    """What says of this process, told how many items it has run, whether that is enough; None: nothing ever is."""
    items, size = limits
    if items is None and size is None:
        return None

    def worn(count: int) -> bool:
        return count > 0 and ((items is not None and count >= items) or (size is not None and resident() > size))

    return worn


def resident() -> int:
    """Bytes of memory that this process has now, without what it shares: large values, which others have, too.

    0: where there is no ``/proc``.
    """
    try:
        with open(_STATUS, "rb") as file:
            found = _RESIDENT.findall(file.read())
    except OSError:
        return 0
    return sum(int(size) << 10 for size in found)
