"""Where Ctrl-C may come, in the main thread. A verb is done or it is not: ``whole``. What may be interrupted at any
moment, a node or somebody who waits, is called by ``interruptibly``.

Whether a frame may be interrupted is read off the stack, by the code objects that are marked here, and not kept in a
flag: so there is no place between two bytecodes where a flag is wrong. The innermost mark counts. While a whole verb
is under way, Python's own handler of SIGINT has ours in its place, which puts Ctrl-C off until the verb is done, or
comes to something that may be interrupted. Another handler than Python's own is not replaced: what it would do is not
ours to put off.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # no enums, which take longer than all the rest
import sys
import threading
from collections.abc import Callable
from functools import wraps
from types import CodeType, FrameType
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_WHOLE: Final[set[CodeType]] = set()
_OPEN: Final[set[CodeType]] = set()


class Main:
    """The main thread, which alone is interrupted."""

    came = False  # Ctrl-C, and was put off


def interruptibly(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function in which Ctrl-C may come at any moment, but for the whole verbs that it calls.

    What it returns may be lost: it is to be something that can be begun again.
    """
    if Main.came and _in_main():
        _interrupted(signal.SIGINT, sys._getframe())
    return function(*args, **kwargs)


_OPEN.add(interruptibly.__code__)


def pause(waiter: threading.Lock, timeout: float | None) -> bool:
    """Wait until somebody releases the lock, for so many seconds; whether that was done. Ctrl-C ends the wait."""
    return interruptibly(waiter.acquire, True, -1 if timeout is None else min(timeout, threading.TIMEOUT_MAX))


def uninterrupted(function: Callable[P, R]) -> Callable[P, R]:
    """In this function Ctrl-C is put off. For what is called within a verb: nothing is put around it."""
    _WHOLE.add(function.__code__)
    return function


def whole(verb: Callable[P, R]) -> Callable[P, R]:
    """A verb of the user's that Ctrl-C does not come into the middle of: its locks are let go of, what it began is
    begun or undone. ``KeyboardInterrupt`` is raised when it is over, if it has not been before."""
    uninterrupted(verb)

    @wraps(verb)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        if _in_main() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            return _watched(verb, args, kwargs)
        result = verb(*args, **kwargs)
        if Main.came:
            surface()
        return result

    return guarded


@uninterrupted
def _watched(verb: Callable[..., R], args: Any, kwargs: Any) -> R:
    """The outermost verb: changing the handler takes 5 us, so those within do not."""
    Main.came = False
    signal.signal(signal.SIGINT, _interrupted)
    try:
        return verb(*args, **kwargs)
    finally:
        if signal.getsignal(signal.SIGINT) is _interrupted:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if Main.came:
            Main.came = False
            raise KeyboardInterrupt


def interrupted() -> bool:
    """Whether Ctrl-C was put off, in the main thread."""
    return Main.came and _in_main()


def surface() -> None:
    """Raise what was put off, if whoever calls may be interrupted now."""
    if _in_main():
        _interrupted(signal.SIGINT, sys._getframe(1))


def _interrupted(number: int, frame: FrameType | None) -> None:
    """The handler. Also called for what was put off: so by its frame in a traceback, Ctrl-C is told from others."""
    if _may_interrupt(frame):
        Main.came = False
        raise KeyboardInterrupt
    Main.came = True


def _may_interrupt(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code in _OPEN:
            return True
        if frame.f_code in _WHOLE:
            return False
        frame = frame.f_back
    return True


def _in_main() -> bool:
    return threading.get_ident() == threading.main_thread().ident
