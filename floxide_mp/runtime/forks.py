"""Forks in nodes: how a process knows that it is a child of the one whose step it is in, and how it ends.

In a child there is a copy of all that the step has, but the connection to the coordinator is its parent's alone: what
the child asked there would be answered to the one or the other. So it asks nothing and runs no further step. What it
may see of the run's context is what its parent saw when it forked.

This is about each process in which steps run: workers, and the caller's, inline.
"""

from __future__ import annotations

import mmap
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from types import CodeType
from typing import Any, Final, NoReturn

from ..errors import FloxideError

_WIPEONFORK: Final = 18  # <sys/mman.h>, Linux 4.14; not in Python's mmap
_page: Final = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
# The process id, or 0 in a child that has not asked yet. To look there takes a tenth of what ``os.getpid()`` takes.
mark: Final = memoryview(_page)[:8].cast("q")


def here() -> int:
    """The process id: what is to be found in ``mark[0]`` for as long as this is no fork of that process."""
    mark[0] = os.getpid()
    return mark[0]


def refused(what: str) -> FloxideError:
    """For a child that would need the coordinator."""
    return FloxideError(f"a process that a node has forked cannot {what}: let it tell the node, which can")


def refuse_write() -> None:
    """A child writes to the context, which is seen by nobody else.

    Raises:
        FloxideError: it is one of ``multiprocessing``'s, and so does something for the node.
    """
    processes = sys.modules.get("multiprocessing.process")
    if processes is not None and processes.parent_process() is not None:
        raise refused("write to the context")
    # A bare fork may come back from the node, where it ends: then its parent has written the same.
    warnings.warn(str(refused("write to the context")), RuntimeWarning, stacklevel=5)


def end_child(failure: BaseException | None) -> NoReturn:
    """A node has forked, and this is the child, back from it: it must not go on as a second worker."""
    code = 0 if failure is None else 1
    if isinstance(failure, SystemExit):
        code = failure.code if isinstance(failure.code, int) else int(failure.code is not None)
    elif failure is not None:
        traceback.print_exception(failure)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code & 0xFF)


# -- around each fork ---------------------------------------------------------------------------------------------

_steps: Final[set[CodeType]] = set()  # methods that run a step


def runs_steps(method: Any) -> Any:
    """A method of a class with ``before_fork()``, ``after_fork()`` and ``in_child()``.

    They are called for an object of it where a fork happens while the method runs: in this thread or, if this thread
    runs no step, in any.
    """
    _steps.add(method.__code__)
    return method


def _running() -> Iterator[Any]:
    """The objects whose steps fork, or have a thread that does."""
    frames = sys._current_frames()
    own = list(_on_stack(frames[threading.get_ident()]))
    yield from own
    if not own:
        for frame in frames.values():
            yield from _on_stack(frame)


def _on_stack(frame: Any) -> Iterator[Any]:
    while frame is not None:
        if frame.f_code in _steps:
            yield frame.f_locals["self"]
        frame = frame.f_back


_forking = threading.local()  # ``steps``: whose steps, of the fork that this thread does


def _before() -> None:
    _forking.steps = list(_running())
    for steps in _forking.steps:
        steps.before_fork()


def _after() -> None:
    for steps in _forking.__dict__.pop("steps", ()):
        steps.after_fork()


def _in_child() -> None:
    mark[0] = 0
    for steps in _forking.__dict__.pop("steps", ()):
        steps.in_child()


try:
    _page.madvise(_WIPEONFORK)  # or a fork that a library in C does would be known to nobody
except OSError:
    pass
here()
os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_in_child)
