"""``Critical``: the scheduler's locks, its conditions, and what never happens while they are held: code that is not
ours. It runs in the coordinator's process.

A handler of the log, a store of somebody's own and what it raises may ask the coordinator, block, or raise anything.
So what they are to do is noted by ``later``, and done when the thread has let go of the locks. Who asks while its own
thread has one, a finalizer that the collector runs or a handler of a signal, is not let wait for it: a question is
answered by what is there, and what it wants done is done later, too (``postponed``). A lock that lets its holder in
again would show them, and let them change, what is half changed.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from ..clock import monotonic
from ..errors import FloxideError
from ..sigint import Main, pause, surface, uninterrupted
from ..wire.log import say

P = ParamSpec("P")
R = TypeVar("R")


class Critical:
    """See the module.

    Attributes:
        lock: the one lock of a scheduler.
        page: the turn of those who call the store. Taken before ``lock``, never while that is held.
    """

    def __init__(self) -> None:
        # They know who has them, from the very moment on that they are taken.
        self.lock = threading.RLock()
        self.publish_lock = threading.RLock()
        self.noted: deque[Callable[[], object]] = deque()

    @property
    def inside(self) -> bool:
        """Whether this very thread has one of the locks."""
        return owned(self.lock) or owned(self.publish_lock)

    def later(self, act: Callable[[], object]) -> None:
        """Have it done when the thread that does it has let go of its locks; at once if it has none."""
        self.noted.append(act)
        if not self.inside:
            self.flush()

    def say(self, level: int, text: str, *args: object, error: BaseException | None = None) -> None:
        """Log, later."""
        self.later(partial(say, level, text, *args, error=error))

    @uninterrupted
    def flush(self) -> None:
        """Do what was noted. What is raised by it is raised when all is done."""
        trouble: BaseException | None = None
        while self.noted and not self.inside:
            try:
                act = self.noted.popleft()
            except IndexError:
                break  # another thread has done it
            try:
                act()
            except BaseException as error:
                trouble = error
        if trouble is not None:
            raise trouble

    @contextmanager
    def turn(self) -> Iterator[None]:
        """It is this thread's turn to call the store."""
        try:
            with self.publish_lock:
                yield
        finally:
            self.flush()

    def check_outside(self, what: str) -> None:
        """Whether what would wait may be asked for.

        Raises:
            FloxideError: this very thread has one of the locks.
        """
        if self.inside:
            raise FloxideError(
                f"{what}: asked for by a finalizer, a handler of a signal or a store, which came in the middle of a "
                "verb of this very coordinator and thread, and would wait for itself: ask from a thread of its own"
            )


class Held(Protocol):
    """What has such locks."""

    @property
    def critical(self) -> Critical:
        """They."""


H = TypeVar("H", bound=Held)


def section(verb: Callable[Concatenate[H, P], R]) -> Callable[Concatenate[H, P], R]:
    """The verb is one critical section: nobody else is in one meanwhile, and Ctrl-C does not come in the middle."""

    @wraps(verb)
    def guarded(self: H, /, *args: P.args, **kwargs: P.kwargs) -> R:
        critical = self.critical
        if owned(critical.lock):
            critical.check_outside(verb.__name__)
        try:
            return _locked(critical.lock, verb, self, args, kwargs)
        finally:
            if critical.noted:
                critical.flush()
            if Main.came:
                surface()

    return guarded


@uninterrupted
def _locked(lock: Any, verb: Callable[..., R], self: object, args: Any, kwargs: Any) -> R:
    with lock:
        return verb(self, *args, **kwargs)


def postponed(verb: Callable[Concatenate[H, P], None]) -> Callable[Concatenate[H, P], None]:
    """Asked from inside, the verb is done as soon as its thread has let go of the locks."""

    @wraps(verb)
    def guarded(self: H, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if not self.critical.inside:
            verb(self, *args, **kwargs)
            return

        def act() -> None:
            try:
                guarded(self, *args, **kwargs)
            except Exception as error:  # who asked is not there any more
                say(logging.WARNING, "%s was asked for by a finalizer or a handler: %s", verb.__name__, error)

        self.critical.later(act)

    return guarded


class Condition:
    """As in ``threading``, on the scheduler's lock, but that Ctrl-C comes only while nothing is held or changed."""

    def __init__(self, critical: Critical) -> None:
        self._critical = critical
        self._waiters: deque[threading.Lock] = deque()

    @uninterrupted
    def wait(self, timeout: float | None = None) -> bool:
        """Wait until woken; False after ``timeout`` seconds. The lock is held, but not meanwhile."""
        waiter = threading.Lock()
        waiter.acquire()
        self._waiters.append(waiter)
        woken = False
        self._critical.lock.release()
        try:
            if self._critical.noted:
                self._critical.flush()
            woken = pause(waiter, timeout)
        finally:
            self._critical.lock.acquire()
            if not woken:
                with suppress(ValueError):
                    self._waiters.remove(waiter)
        return woken

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until it is so; False if it is not after ``timeout`` seconds."""
        end = None if timeout is None else monotonic() + timeout
        while not predicate():
            left = None if end is None else end - monotonic()
            if left is not None and left <= 0:
                return False
            self.wait(left)
        return True

    def notify(self, count: int = 1) -> None:
        """Wake so many of those who wait."""
        for _ in range(min(count, len(self._waiters))):
            self._waiters.popleft().release()

    def notify_all(self) -> None:
        """Wake all who wait."""
        self.notify(len(self._waiters))


class Thread(threading.Thread):
    """A thread of ours. It is never ended by an error unseen.

    Args:
        target: what it does.
        name: for those who look at threads.
        args: of ``target``.
        died: is given what ``target`` raised.
    """

    def __init__(
        self, target: Callable[..., object], name: str, args: tuple[Any, ...], died: Callable[[BaseException], None]
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._work: Callable[[], object] | None = partial(target, *args)
        self._died = died

    def run(self) -> None:
        """Called in the thread."""
        assert self._work is not None
        try:
            self._work()
        except BaseException as error:
            self._died(error)
        finally:
            self._work = None  # nothing that it had is kept by whoever has the thread


def ours() -> bool:
    """Whether this thread is one of ours, and not of the user's."""
    return isinstance(threading.current_thread(), Thread)


def owned(lock: Any) -> bool:
    """Whether this thread has the lock."""
    return lock._is_owned()  # type: ignore[no-any-return]
