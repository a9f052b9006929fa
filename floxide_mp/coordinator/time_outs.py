"""When the time-out of a run is over: ``start(timeout=)``. It begins when the first worker can take work, and does not
count while the run is paused. In the coordinator's process, under the ledger's lock.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from math import inf
from typing import Final

from .active_run import Running
from .leases import Session

STARTING: Final = 60.0  # seconds for workers to start that no time-out counts; where they hang, there is an end, too


def begin(run: Running, limit: float, now: float, workers: Iterable[Session]) -> None:
    """The run has ``limit`` seconds, from now on or from when a worker asks for work for the first time."""
    run.deadline = now + limit
    if not any(worker.calls or worker.pid == os.getpid() for worker in workers):
        run.time_left = limit
        run.deadline += STARTING


def left(run: Running, now: float) -> float:
    """Seconds that it has left, if it has a deadline: when it goes on it gets as many again."""
    assert run.deadline is not None
    return max(0.0, run.deadline - now) if run.time_left is None else run.time_left


def first_call(runs: Iterable[Running], now: float) -> float:
    """A worker asks for work for the first time: time-outs that waited for that begin. Gives when the first is over."""
    first = inf
    for run in runs:
        if run.deadline is not None and run.time_left is not None:
            run.deadline, run.time_left = min(run.deadline, now + run.time_left), None
            first = min(first, run.deadline)
    return first
