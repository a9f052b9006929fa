"""Whether a ``KeyboardInterrupt`` is a Ctrl-C, which is the caller's, or was raised by a step, whose failure it is then
as any exception is: by a prompt, say, or a library that limits times.

This is about each process in which steps run: workers, and the caller's, inline.
"""

from __future__ import annotations

import signal
import threading


class Process:
    """This process."""

    is_worker = False  # nobody presses Ctrl-C in it: it is in a group of its own


def is_ctrl_c(failure: BaseException | None) -> bool:
    """Whether it is, or may be: where it cannot be known, it is.

    Ctrl-C comes in the main thread only, and what it raises comes out of a handler of SIGINT. That is seen in the
    traceback, unless the handler is Python's own, in C. While somebody waits for an inline run it is ours.
    """
    if not isinstance(failure, KeyboardInterrupt) or Process.is_worker:
        return False
    if threading.get_ident() != threading.main_thread().ident:
        return False
    handler = signal.getsignal(signal.SIGINT)
    code = getattr(handler, "__code__", None)
    if code is None:
        return handler not in (signal.SIG_IGN, signal.SIG_DFL)
    seen: set[int] = set()
    while failure is not None and id(failure) not in seen:
        seen.add(id(failure))  # a chain of causes may be a ring
        step = failure.__traceback__
        while step is not None:
            if step.tb_frame.f_code is code:
                return True
            step = step.tb_next
        failure = failure.__context__
    return False
