"""Where Ctrl-C may come, in the main thread, and what else a handler of a signal may raise: ``sys.exit`` on SIGTERM, a
library's limit of time. A verb is done or it is not: ``defer_sigint``. What may be interrupted at any moment, a node or
somebody who waits, is called by ``interruptibly``.

Whether a frame may be interrupted is read off the stack, by the code objects that are marked here, and not kept in a
flag: so there is no place between two bytecodes where a flag is wrong. The innermost mark counts. While a whole verb
is under way, each handler that is a function has ours in its place, which calls it when the verb is done, or comes to
something that may be interrupted. (A handler of SIGALRM that raised in the middle of ``close`` kept the store locked.)
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


Handler = Callable[[int, FrameType | None], Any]

# Those of faults are raised by the code that runs, and cannot be put off.
_FAULTS: Final = {signal.SIGSEGV, signal.SIGFPE, signal.SIGILL, signal.SIGBUS, signal.SIGABRT}
_WATCHED: Final = tuple(sorted(set(signal.valid_signals()) - _FAULTS))


class Main:
    """The main thread, which alone is interrupted."""

    came: Final[list[int]] = []  # signals that were put off
    handlers: Final[dict[int, Handler]] = {}  # those that ours stands, or stood, in for


def interruptibly(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function in which Ctrl-C may come at any moment, but for the whole verbs that it calls.

    What it returns may be lost: it is to be something that can be begun again.
    """
    if Main.came:
        surface()
    return function(*args, **kwargs)


_OPEN.add(interruptibly.__code__)


def pause(waiter: threading.Lock, timeout: float | None) -> bool:
    """Wait until somebody releases the lock, for so many seconds; whether that was done. Ctrl-C ends the wait."""
    return interruptibly(waiter.acquire, True, -1 if timeout is None else min(timeout, threading.TIMEOUT_MAX))


def uninterrupted(function: Callable[P, R]) -> Callable[P, R]:
    """In this function Ctrl-C is put off. For what is called within a verb: nothing is put around it."""
    _WHOLE.add(function.__code__)
    return function


def defer_sigint(verb: Callable[P, R]) -> Callable[P, R]:
    """A verb of the user's that no handler of a signal comes into the middle of: its locks are let go of, what it began
    is begun or undone. What the handlers raise, such as ``KeyboardInterrupt``, is raised when it is over, if it has not
    been before."""
    uninterrupted(verb)

    @wraps(verb)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        if _in_main() and signal.getsignal(signal.SIGINT) is not _interrupted:
            return _watched(verb, args, kwargs)
        result = verb(*args, **kwargs)
        if Main.came:
            surface()
        return result

    return guarded


@uninterrupted
def _watched(verb: Callable[..., R], args: Any, kwargs: Any) -> R:
    """The outermost verb: changing a handler takes 5 us, so those within do not."""
    Main.came.clear()
    replaced: list[int] = []
    try:
        for number in _WATCHED:
            handler = signal.getsignal(number)
            if handler is not _interrupted and callable(handler):
                Main.handlers[number] = handler
                replaced.insert(0, number)
                signal.signal(number, _interrupted)
        return verb(*args, **kwargs)
    finally:
        try:
            _restore(replaced)
        finally:
            _deliver(sys._getframe())


def _restore(numbers: list[int]) -> None:
    """The handlers of before, SIGINT's first, whatever one that is back raises meanwhile."""
    if numbers:
        number = numbers.pop()
        try:
            if signal.getsignal(number) is _interrupted:
                signal.signal(number, Main.handlers[number])
        finally:
            _restore(numbers)


def interrupted() -> bool:
    """Whether a signal was put off, in the main thread."""
    return bool(Main.came) and _in_main()


def surface() -> None:
    """Call the handlers of what was put off, if whoever calls may be interrupted now."""
    if not _in_main():
        return
    frame = sys._getframe(1)
    if not _within_verb(frame):
        Main.came.clear()  # noted in the last bytecodes of a verb, out of which its like was raised
    elif _may_interrupt(frame):
        _deliver(frame)


def _interrupted(number: int, frame: FrameType | None) -> None:
    """The handler of each signal, while a verb is under way."""
    if number not in Main.came:
        Main.came.append(number)
    if _may_interrupt(frame):
        _deliver(frame)


def _deliver(frame: FrameType | None) -> None:
    """Call the handlers, in the order in which the signals came, each of them whatever the others raise."""
    if Main.came:
        number = Main.came.pop(0)
        try:
            call(Main.handlers[number], number, frame)
        finally:
            _deliver(frame)


_OPEN.add(_deliver.__code__)  # what comes meanwhile is not noted for later


def call(handler: Handler, number: int, frame: FrameType | None) -> None:
    """Call a handler. By this frame in its traceback, what it raises is told from what others raise."""
    handler(number, frame)


def _may_interrupt(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code in _OPEN:
            return True
        if frame.f_code in _WHOLE:
            return False
        frame = frame.f_back
    return True


def _within_verb(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code is not _watched.__code__:
        frame = frame.f_back
    return frame is not None


def _in_main() -> bool:
    return threading.get_ident() == threading.main_thread().ident
