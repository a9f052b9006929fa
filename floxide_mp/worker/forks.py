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
from typing import Final, NoReturn, Protocol

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


class Forking(Protocol):
    """The steps of a run, in a process that may fork."""

    def before_fork(self) -> None:
        """One of them forks."""

    def after_fork(self) -> None:
        """It is done; this is the parent."""

    def in_child(self) -> None:
        """It is done; this is the child."""


class Working:
    """While this is entered, the thread runs steps of the run: a fork is theirs, in it or in a thread of a node.

    (To look for them on the stacks of all threads when there is a fork kills CPython 3.12.1.)
    """

    __slots__ = ("_before", "_steps", "_thread")

    def __init__(self, steps: Forking) -> None:
        self._steps = steps

    def __enter__(self) -> None:
        self._thread = threading.get_ident()
        self._before = _working.get(self._thread)
        _working[self._thread] = self._steps

    def __exit__(self, *_: object) -> None:
        if self._before is None:
            _working.pop(self._thread, None)
        else:
            _working[self._thread] = self._before


_working: Final[dict[int, Forking]] = {}  # by thread


def _running() -> list[Forking]:
    own = _working.get(threading.get_ident())
    return list(_working.values()) if own is None else [own]


_forking = threading.local()  # ``steps``: whose steps, of the fork that this thread does


def _before() -> None:
    _forking.steps = _running()
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
