"""Ctrl-C waits until a verb of the ledger is done: ``whole``. What may be interrupted at any moment, a step or somebody
who waits, is not touched.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FrameType
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class _Main:
    """The main thread, which alone is interrupted."""

    watched = False  # the handler is ours
    inside = False  # of a verb
    came = False  # Ctrl-C, meanwhile


def whole(verb: Callable[P, R]) -> Callable[P, R]:
    """The verb, not to be interrupted in the middle: a commit is done or not, in memory as in the store."""

    @wraps(verb)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        if _Main.inside or threading.get_ident() != threading.main_thread().ident:
            return verb(*args, **kwargs)
        if not _Main.watched:
            with watched():
                return guarded(*args, **kwargs) if _Main.watched else verb(*args, **kwargs)
        _Main.inside = True
        try:
            return verb(*args, **kwargs)
        finally:
            _Main.inside = False
            if _Main.came:
                _Main.came = False
                raise KeyboardInterrupt

    return guarded


@contextmanager
def watched() -> Iterator[None]:
    """Have Ctrl-C watched for many verbs at once: changing its handler takes 5 us.

    Only Python's own handler is replaced: what another one would do is not ours to put off.
    """
    main = threading.get_ident() == threading.main_thread().ident
    if _Main.watched or not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _interrupted)
    _Main.watched = True
    try:
        yield
    finally:
        _Main.watched = False
        if signal.getsignal(signal.SIGINT) is _interrupted:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _interrupted(number: int, frame: FrameType | None) -> None:
    if not _Main.inside:
        raise KeyboardInterrupt
    _Main.came = True
