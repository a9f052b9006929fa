"""How much of a run's errors is kept. A part of the core, in the coordinator's process."""

from __future__ import annotations

from typing import Final

from .types import ErrorRecord

MOST_ERRORS: Final = 16 << 20  # characters of a run's errors, from where on the texts of others are cut short
SHORT: Final = 500  # ... to these


def error_size(error: ErrorRecord) -> int:
    """Characters and bytes of it, about."""
    return len(error.message) + len(error.traceback) + len(error.payload or b"") + len(error.input or "")


def bounded(error: ErrorRecord, size: int) -> ErrorRecord:
    """The error as it is kept when those of its run have ``size`` together with it: whole, or the beginning of its
    message."""
    if size <= MOST_ERRORS:
        return error
    cut = f"... (the first {MOST_ERRORS >> 20} MB of errors are kept whole)"
    short = error.message if len(error.message) <= SHORT else error.message[:SHORT] + cut
    return error._replace(message=short, traceback="", payload=None)
