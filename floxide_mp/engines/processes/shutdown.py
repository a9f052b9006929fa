"""The end of a worker that is not killed, in its process: what an interpreter does at its own end, but in bounded time.

An interpreter takes its modules apart as well, which takes some 50 ms with NumPy and a second with pandas, waits for
threads for ever, and calls the exit handlers of libraries in C. None of that is done here: ``os._exit``.
"""

from __future__ import annotations

import _io  # ``io.IOBase`` asks objects what they pretend to be
import atexit
import faulthandler
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, Final, NoReturn

from ...clock import monotonic

THREADS: Final = 0.5  # seconds that threads have to end which are no daemons
REPLACED: Final = 10.0  # seconds that all this may take in a worker that is replaced: its place is empty meanwhile


def shut_down(code: int, trace: int, limit: float | None) -> NoReturn:
    """End this process: wait for threads, run exit handlers, and write what is in the buffers of files.

    Args:
        code: the exit code, negative for a signal, as in ``subprocess``.
        trace: the descriptor that says where it hung, if it takes longer than the limit. The exit code is 1 then.
        limit: seconds; None: somebody else sees to it.
    """
    if limit is not None:
        faulthandler.dump_traceback_later(limit, exit=True, file=trace)  # needs no interpreter lock
    _quietly(_end_in_order)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _end_in_order() -> None:
    _wait_for_threads(THREADS)
    made = gc.get_objects()  # but for what this package imported
    files, others = sorted(_those(made, _is_file), key=_depth), _those(made, _has_finalizer)
    del made
    _write_buffers(files)  # an exit handler may take all the time that there is
    _quietly(atexit._run_exitfuncs)  # no public name; as old as Python 2.0
    _finalize(files, others)
    _write_buffers(files)
    tracker = sys.modules.get("multiprocessing.resource_tracker")
    if tracker is not None:  # a process of its group, which would be killed with it before it has cleaned up
        _quietly(tracker._resource_tracker._stop)


def _wait_for_threads(seconds: float) -> None:
    """Those of nodes that are no daemons, and those of their executors, which end when they hear of it."""
    end = monotonic() + seconds
    exits = getattr(threading, "_threading_atexits", ())  # no public name; since Python 3.9

    def tell() -> None:
        for call in reversed(exits):
            _quietly(call)

    if exits:  # each waits for its threads, maybe for ever
        teller = threading.Thread(target=tell, daemon=True)
        try:
            teller.start()
        except RuntimeError:  # no thread can be started
            return
        teller.join(seconds)
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.main_thread():
            thread.join(max(0.0, end - monotonic()))


def _write_buffers(files: list[Any]) -> None:
    for file in files:
        _quietly(file.flush)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            _quietly(stream.flush)
    if "ctypes" in sys.modules:  # as with all who load libraries in C by themselves, and with NumPy
        _quietly(lambda: sys.modules["ctypes"].pythonapi.fflush(None))


def _finalize(files: list[Any], others: list[Any]) -> None:
    """What has a finalizer is told that it goes: archives and compressed files end in a part that is written then."""
    for one in reversed(others):  # what was made later may need what was made before
        _quietly(one.__del__)
    for file in files:
        if type(file).__module__ != "_io":
            _quietly(file.close)


def _those(made: list[Any], wanted: Callable[[type], bool]) -> list[Any]:
    kinds = set(filter(wanted, set(map(type, made))))
    return [one for one in made if type(one) in kinds]


def _is_file(kind: type) -> bool:
    return issubclass(kind, _io._IOBase)


def _has_finalizer(kind: type) -> bool:
    """But for files, generators and the like, and what is ours."""
    ends_by_itself = _is_file(kind) or str(kind.__module__).partition(".")[0] in ("builtins", "floxide_mp")
    return hasattr(kind, "__del__") and not ends_by_itself


def _depth(file: Any) -> int:
    """Texts are written to buffers, which may be those of compressed files, which have files below them."""
    if isinstance(file, _io.TextIOWrapper):
        return 0
    if type(file).__module__ != "_io":
        return 1 if issubclass(type(file), _io._BufferedIOBase) else 2
    return 3


def _quietly(call: Callable[[], object]) -> None:
    try:
        call()
    except BaseException:  # nobody is left to be told
        pass
