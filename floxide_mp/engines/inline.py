"""The inline engine: the same worker, in the thread that waits. For debugging, and the reference of "same answer"."""

from __future__ import annotations

import os
import threading

from ..facts import LivenessStatus, WorkerHealth, WorkerStatus
from ..runtime.board import SIZE, Board
from ..runtime.clock import monotonic, time
from ..runtime.ledger import Ledger
from ..runtime.worker import ONE_BY_ONE, Worker

PATIENCE = 0.05  # seconds: how soon a wait notices that its own time is over while only retries are due


class InlineEngine:
    """See ``ports.Engine``. Steps run only while somebody waits, one at a time."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._turn = threading.RLock()  # two threads may wait; one of them works
        self._board = Board(memoryview(bytearray(SIZE)))

    def start(self) -> None:
        session = self._ledger.reserve()
        self._ledger.enlist(session, 0, self._board, os.getpid())
        self._worker = Worker(session, self._ledger, self._board, self._ledger.bundles, ONE_BY_ONE)

    def wait(self, run_id: str, seen: int | None, timeout: float | None) -> bool:
        end = None if timeout is None else monotonic() + timeout
        with self._turn:
            while not self._ledger.wait(run_id, seen, 0):
                if end is not None and monotonic() >= end:
                    return False
                self._worker.turn()
        return True

    def workers(self) -> list[WorkerHealth]:
        return self._ledger.look_at_workers(
            lambda s: WorkerHealth(
                0, os.getpid(), WorkerStatus.IDLE, LivenessStatus.ALIVE, time(), s.errors, None, None
            )
        )

    def stop(self, grace: float) -> None:
        self._ledger.stop()
