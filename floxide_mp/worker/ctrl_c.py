"""Whether an exception came out of a handler of a signal, Ctrl-C for one, and is the caller's, or was raised by a step,
whose failure it is then: ``KeyboardInterrupt`` by a prompt, say, or a library that limits times.

This is about each process in which steps run: workers, and the caller's, inline.
"""

from __future__ import annotations

import signal
import threading
from types import CodeType, TracebackType
from typing import Final

from ..sigint import call

_TRACEBACK: Final = vars(BaseException)["__traceback__"]


class Process:
    """This process."""

    is_worker = False  # nobody presses Ctrl-C in it: it is in a group of its own


def is_callers(failure: BaseException | None) -> bool:
    """Whether it is, or may be: where it cannot be known of a ``KeyboardInterrupt``, it is.

    Ctrl-C comes in the main thread only, and what it raises comes out of a handler of SIGINT. That is seen in the
    traceback, unless the handler is Python's own, in C. While somebody waits for an inline run, ours calls it; and
    those of other signals that were there before, ``sys.exit`` on SIGTERM for one. A handler that the step has set is
    the step's.
    """
    if Process.is_worker or failure is None or threading.get_ident() != threading.main_thread().ident:
        return False
    if not issubclass(type(failure), KeyboardInterrupt):
        return _came_out_of(failure, (call.__code__,))
    handler = signal.getsignal(signal.SIGINT)
    code = getattr(handler, "__code__", None)
    if code is None:
        return handler not in (signal.SIG_IGN, signal.SIG_DFL)
    seen: set[int] = set()
    while failure is not None and id(failure) not in seen:
        seen.add(id(failure))  # a chain of causes may be a ring
        if _came_out_of(failure, (code, call.__code__)):
            return True
        failure = failure.__context__
    return False


def _came_out_of(failure: BaseException, codes: tuple[CodeType, ...]) -> bool:
    step: TracebackType | None = _TRACEBACK.__get__(failure)  # by its attribute, a class of somebody's may raise
    while step is not None:
        if step.tb_frame.f_code in codes:
            return True
        step = step.tb_next
    return False
