"""The inline engine: the same worker, in the thread that waits. For debugging, and the reference of "same answer"."""

from __future__ import annotations

import math
import os
import threading

from ..errors import FloxideError
from ..facts import LivenessStatus, WorkerHealth, WorkerStatus
from ..runtime.board import SIZE, Board
from ..runtime.clock import monotonic, time
from ..runtime.interrupts import watched, whole
from ..runtime.ledger import Ledger
from ..runtime.worker import ONE_BY_ONE, Worker

PATIENCE = 0.05  # seconds: how soon a wait that another thread is in the way of looks whether its run is over


class InlineEngine:
    """See ``ports.Engine``. Steps run only while somebody waits, one at a time."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._turn = threading.Lock()  # two threads may wait; one of them works
        self._working: int | None = None  # which of them
        self._board = _Board(ledger)

    def start(self) -> None:
        self._session = self._ledger.reserve()
        self._ledger.enlist(self._session, 0, self._board, os.getpid())
        self._worker = Worker(self._session, self._ledger, self._board, self._ledger.bundles, ONE_BY_ONE)

    def wait(self, run_id: str, seen: int | None, timeout: float | None) -> bool:
        end = math.inf if timeout is None else monotonic() + timeout
        with watched():
            while not self._ledger.wait(run_id, seen, 0):
                left = end - monotonic()
                if left <= 0:
                    return False
                if self._working == threading.get_ident():
                    raise FloxideError(
                        "an inline step cannot wait for a run of its own coordinator: nobody would run it"
                    )
                if self._turn.acquire(timeout=min(left, PATIENCE)):
                    try:
                        self._step(run_id, seen, end)
                    finally:
                        self._turn.release()
        return True

    def _step(self, run_id: str, seen: int | None, end: float) -> None:
        self._working = threading.get_ident()
        try:
            while not self._ledger.wait(run_id, seen, 0) and monotonic() < end:
                self._worker.turn()
            self._worker.hand_in()  # or what is done would not count when this was the last wait
        except Exception:
            raise
        except BaseException:
            # Ctrl-C in a notebook, say: the step has not happened, and whoever waits next runs it again.
            self._begin_again()
            raise
        finally:
            self._working = None

    @whole
    def _begin_again(self) -> None:
        self._board.end()
        self._ledger.gone(self._session, _nobody, "", None)
        self.start()

    def workers(self) -> list[WorkerHealth]:
        return self._ledger.look_at_workers(
            lambda s: WorkerHealth(
                0, os.getpid(), WorkerStatus.IDLE, LivenessStatus.ALIVE, time(), s.errors, None, None
            )
        )

    def stop(self, grace: float) -> None:
        self._ledger.stop()


class _Board(Board):
    """Of a worker that no supervisor looks after: asked whether to stop, it looks whether its run is too long."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(memoryview(bytearray(SIZE)))
        self._ledger = ledger

    def cancelled(self, lease: int) -> bool:
        self._ledger.overdue()
        return super().cancelled(lease)


def _nobody(what: str) -> FloxideError:
    return FloxideError(f"interrupted while it ran {what}")
