"""Every record that travels between a worker and its coordinator: the wire format, on one page.

Lives in both processes. User values are opaque in all of it: bytes, or ``Shared``.
"""

from __future__ import annotations

from typing import Final

from .ports import (
    FAIL,
    Result,
)


def failed(result: Result) -> bool:
    """Whether it is of a step that failed."""
    return type(result) is tuple and result[0] == FAIL


ONE_BY_ONE: Final = 1e-9  # as ``want``: every lease is one item
