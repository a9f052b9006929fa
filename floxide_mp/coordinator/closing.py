"""``Closing``: how a coordinator ends, in its own process: closed by its user, or forgotten and collected.

It knows all that is to be ended, and not the coordinator: whatever lives as long as the workers do, their threads for
one, refers to this at the most, so a coordinator that nobody has is collected, and that ends it.
"""

from __future__ import annotations

import _thread
import errno
import logging
import os
import threading
import warnings
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from ..clock import monotonic
from ..errors import FloxideError, StoreLockedError
from ..ports import CheckpointStore, Engine, ExternalListener
from ..sigint import pause, uninterrupted
from ..wire.log import say
from .critical import Thread, owned
from .external import ExternalSessions

SETTLE: Final = 10.0  # seconds for what is done to be written when the coordinator is closed, if that is slow
AWAIT: Final = 15.0  # ... and for one that was forgotten to end, before its store is said to be had

_CLOSED: Final = (
    "this program has closed descriptors that its coordinator needs (os.closerange, or a library that makes daemons): "
    "close the coordinator before that, or open it afterwards. Its workers end by themselves; its runs are in the "
    "store as far as they were reported as done"
)

_having: Final[dict[int, int]] = {}  # which process has a coordinator of a store, by that one's identity
_guard: Final = threading.RLock()
_forgotten: Final[set[threading.Lock]] = set()  # held while a coordinator ends that nobody closed


class Closing:
    """See the module.

    Args:
        external sessions: those of the coordinator.
        engine: of its workers.
        opened: what it has opened.
        grace: seconds that steps have, if it is not said otherwise.
    """

    def __init__(self, external_sessions: ExternalSessions, engine: Engine, opened: ExitStack, grace: float) -> None:
        self.begun = False
        self._external, self._engine, self._opened, self._grace = external_sessions, engine, opened, grace
        self._listener: ExternalListener | None = None
        self._guard = threading.RLock()  # held while it is closed
        self._pid = os.getpid()

    def watch(self, coordinator: object) -> None:
        """Close when it is collected."""
        # Not at the program's end: what is still there then goes with it, as after a crash.
        weakref.finalize(coordinator, self._forget).atexit = False

    def listener(self, make: Callable[[ExternalSessions], ExternalListener]) -> ExternalListener:
        """The coordinator's door, made if there is none.

        Raises:
            FloxideError: it is closed.
        """
        with self._guard:
            if self._listener is None:
                self._external.check_open()
                if self.begun:
                    raise FloxideError("the coordinator is closed")
                self._listener = make(self._external)
            return self._listener

    @uninterrupted
    def close(self, grace: float) -> None:
        """End everything. A second caller waits until the first is done; one in the same thread must not."""
        if owned(self._guard) and self.begun:
            return  # a handler of a signal, while this thread is closing
        with self._guard:
            if self.begun:
                return
            self.begun = True
            try:
                self._end_all(grace)
            except OSError as error:
                if error.errno != errno.EBADF:
                    raise
                raise FloxideError(_CLOSED) from error

    def _end_all(self, grace: float) -> None:
        end = monotonic() + grace
        with ExitStack() as after:  # the last one first; each of them whatever the others raise
            if self._external.ours:
                after.callback(self._opened.close)
                after.callback(self._external.scheduler.commit_queue.close, SETTLE)
                if self._listener is not None:
                    after.callback(self._listener.close)
                after.callback(lambda: self._external.close(end - monotonic()))
            self._engine.stop(grace)

    def _forget(self) -> None:
        """Called by the collector, in the middle of anything: it must take no lock."""
        if self.begun or self._pid != os.getpid():
            return
        done = threading.Lock()
        done.acquire()
        _forgotten.add(done)
        try:
            # Not by ``threading``, in whose locks this may have come; whoever it starts takes locks in order.
            _thread.start_new_thread(Thread(self._end, "floxide-closer", (done,), _unseen).start, ())
        except RuntimeError:  # no thread can be had
            _forgotten.discard(done)
        text = "a Coordinator was not closed: use it in a with statement, or close it; its workers are ended"
        warnings.warn(text, ResourceWarning, stacklevel=2, source=self)

    def _end(self, done: threading.Lock) -> None:
        try:
            self.close(0.0)
        finally:
            _forgotten.discard(done)
            done.release()


def _unseen(error: BaseException) -> None:
    say(logging.ERROR, "a coordinator that nobody has cannot be closed in order: %r", error, error=error)


def have(store: CheckpointStore, opened: ExitStack) -> None:
    """A store that was opened by the caller has one coordinator at a time.

    Raises:
        StoreLockedError: it has one already.
    """
    with _guard:
        if _having.get(id(store)) == os.getpid():
            text = "this store has a coordinator already, in this process: close that one first"
            raise StoreLockedError(text, pid=os.getpid())
        _having[id(store)] = os.getpid()
    opened.callback(_having.pop, id(store), None)


def await_forgotten() -> None:
    """Coordinators that were collected have ended: what they had can be had again."""
    for done in list(_forgotten):
        if pause(done, AWAIT):
            done.release()
