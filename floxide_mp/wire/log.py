"""``say``: how coordinators and workers log. Handlers of the log are the user's code."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Final

_log: Final = logging.getLogger("floxide_mp")


def say(level: int, text: str, *args: object, error: BaseException | None = None) -> None:
    """Log. What a handler of the log raises, be it ``SystemExit``, is its own affair: it ends no thread of ours, and
    comes into no verb or step."""
    try:
        _log.log(level, text, *args, exc_info=error)
    except BaseException:
        if logging.raiseExceptions:  # as ``logging`` itself does it
            import traceback  # which a worker can do without

            with suppress(BaseException):
                traceback.print_exc()
