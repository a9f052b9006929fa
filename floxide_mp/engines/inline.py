"""The inline engine: the same worker, in the thread that waits. For debugging, and the reference of "same answer"."""

from __future__ import annotations

import math
import os
import threading

from ..clock import monotonic
from ..coordinator.critical import owned
from ..coordinator.scheduler import Scheduler
from ..errors import FloxideError
from ..messages import ONE_BY_ONE
from ..sigint import defer_sigint, interruptibly, uninterrupted
from ..types import WorkerHealth
from ..wire.status_page import SIZE, StatusPage
from ..worker.worker import Worker
from .health import healths

PATIENCE = 0.05  # seconds: how soon a wait that another thread is in the way of looks whether its run is over


class InlineEngine:
    """See ``ports.Engine``. Steps run only while somebody waits, one at a time."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._turn = threading.RLock()  # two threads may wait; one of them works
        self._working: int | None = None  # which of them
        self._status_page = _StatusPage(scheduler)
        self._session: int | None = None

    def start(self) -> None:
        self._session = session = self._scheduler.new_session_id()
        self._scheduler.register_session(session, 0, self._status_page, os.getpid())
        self._worker = Worker(session, self._scheduler, self._status_page, self._scheduler.bundles, ONE_BY_ONE)

    @defer_sigint
    def wait(self, run_id: str, seen: int | None, timeout: float | None) -> bool:
        end = math.inf if timeout is None else monotonic() + timeout
        while not self._scheduler.wait(run_id, seen, 0):
            left = end - monotonic()
            if left <= 0:
                return False
            self._scheduler.critical.check_outside(f"waiting for run {run_id!r}")
            if self._working == threading.get_ident():
                raise FloxideError("an inline step cannot wait for a run of its own coordinator: nobody would run it")
            if self._take_turn(min(left, PATIENCE)):
                try:
                    self._step(run_id, seen, end)
                finally:
                    self._turn.release()
        return True

    def _take_turn(self, timeout: float) -> bool:
        try:
            return interruptibly(self._turn.acquire, True, timeout)
        except BaseException:
            if owned(self._turn):
                self._turn.release()
            raise

    def _step(self, run_id: str, seen: int | None, end: float) -> None:
        self._working = threading.get_ident()
        try:
            while not self._scheduler.wait(run_id, seen, 0) and monotonic() < end:
                # Ctrl-C comes in the step, or while there is nothing to do, and in nothing that is around it.
                if not interruptibly(self._worker.run_once).leases:
                    self._scheduler.overdue()  # loops of the user's own may be at what everybody waits for
                if seen is not None:
                    self._worker.hand_in()  # who streams has each output before the next step is begun
                    self._scheduler.flush(run_id)
            self._worker.hand_in()  # or what is done would not count when this was the last wait
        except BaseException:
            # Ctrl-C in a notebook, or what a handler of a signal raises: the step has not happened, and whoever waits
            # next runs it again.
            self._begin_again()
            raise
        finally:
            self._working = None

    @uninterrupted
    def _begin_again(self) -> None:
        self._status_page.end()
        self._give_up()
        try:
            self._worker.close()
        finally:
            self.start()

    def _give_up(self) -> None:
        """The step that runs, if one does, has not happened: what it still brings is refused."""
        session, self._session = self._session, None
        if session is not None:
            self._scheduler.session_lost(session, FloxideError, "")

    def workers(self, threshold: float) -> list[WorkerHealth]:
        return healths(self._scheduler, threshold)

    @uninterrupted
    def stop(self, grace: float) -> None:
        self._scheduler.stop()
        mine = False
        try:
            if self._working != threading.get_ident():
                mine = self._take_turn(grace)  # another thread's step is over, and handed in
        finally:
            self._give_up()
            if mine:
                self._worker.close()
                self._turn.release()


class _StatusPage(StatusPage):
    """Of a worker that no supervisor looks after: asked whether to stop, it looks whether its run is too long."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__(memoryview(bytearray(SIZE)))
        self._scheduler = scheduler
        self._pid = os.getpid()

    def cancelled(self, lease: int) -> bool:
        if self._pid == os.getpid():  # else a node has forked, and some lock of the scheduler's may be held for ever
            self._scheduler.overdue()
        return super().cancelled(lease)
