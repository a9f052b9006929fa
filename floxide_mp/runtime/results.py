"""What can be told of a result as it travels, on either side of the connection."""

from __future__ import annotations

from ..ports import FAIL, Result


def failed(result: Result) -> bool:
    """Whether it is of a step that failed."""
    return type(result) is tuple and result[0] == FAIL
