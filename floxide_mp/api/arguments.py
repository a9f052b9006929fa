"""What callers give as numbers, checked. In the caller's process."""

from __future__ import annotations

from typing import Final

LONG: Final = 1e9  # seconds: a lifetime, and less than what locks take


def checked_seconds(what: str, seconds: object) -> float:
    """A number of seconds to wait, cut to what the system's clocks can take.

    Raises:
        ValueError: it is none.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
        raise ValueError(f"{what} must be seconds, 0 or more, not {seconds!r}")
    return min(float(seconds), LONG)
