"""FAULTS row 16: somebody kills a worker every 50 ms. Each run completes, with the right answer.

Where workers take long to start, since the machine has much else to do, all would be killed before they did anything:
after so many kills, in which no step was completed, the next one waits until one is.

Some seconds of it, or ``FLOXIDE_ATTRITION=60`` seconds; ``FLOXIDE_SEED=N`` chooses another series of victims.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from floxide_mp import Coordinator, RetryPolicy, WorkerStatus, Workflow

from .. import flows_faults as faults
from .. import flows_graphs as graphs

SECONDS = float(os.environ.get("FLOXIDE_ATTRITION", "4"))
SEED = int(os.environ.get("FLOXIDE_SEED", "16"))
PACE = 0.05
IN_VAIN = 20  # kills


class Killer(threading.Thread):
    """Kills one of the coordinator's workers every 50 ms. (One that has started: that workers which are killed as
    they come cannot be replaced without end is row 9.)"""

    def __init__(self, coordinator: Coordinator) -> None:
        super().__init__(name="killer")
        self.killed = 0
        self._coordinator = coordinator
        self._over = threading.Event()

    def run(self) -> None:
        chance = random.Random(SEED)
        completed = in_vain = 0
        while not self._over.wait(PACE):
            before, completed = completed, sum(info.metrics.completed for info in self._coordinator.runs())
            if completed != before:
                in_vain = 0
            elif in_vain == IN_VAIN:
                continue
            in_vain += 1
            started = [w.pid for w in self._coordinator.workers() if w.status is not WorkerStatus.STARTING]
            if started:
                os.kill(chance.choice(started), signal.SIGKILL)
                self.killed += 1

    def stop(self) -> None:
        self._over.set()
        self.join()


@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("disk", [False, True], ids=["in memory", "on disk"])
def test_row_16_attrition(disk: bool, tmp_path: Path) -> None:
    jobs: list[tuple[type[Workflow], object]] = [
        (graphs.Sums, 12),
        (graphs.Scoped, 8),
        (faults.Harm, faults.Plan(str(tmp_path), count=300)),
    ]
    expected = [workflow().run(value) for workflow, value in jobs]
    patient = RetryPolicy(max_attempts=1000, initial_backoff=0.001, max_backoff=0.001)
    runs, end = 0, time.monotonic() + SECONDS
    with Coordinator(4, store=tmp_path / "runs.db" if disk else None, retry=patient) as c:
        killer = Killer(c)
        killer.start()
        try:
            while time.monotonic() < end or not runs:
                begun = [c.start(workflow, value) for workflow, value in jobs]
                for run, right in zip(begun, expected, strict=True):
                    result = run.wait(SECONDS + 60)
                    assert result.outputs == right.outputs, f"FLOXIDE_SEED={SEED}"
                    assert vars(result.context) == vars(right.context), f"FLOXIDE_SEED={SEED}"
                    assert result.metrics.completed == right.metrics.completed
                    assert result.metrics.total_work_items == right.metrics.total_work_items
                    assert result.metrics.failed == 0
                runs += 1
        finally:
            killer.stop()
    print(f"{killer.killed} workers killed in {runs * len(jobs)} runs")
    assert killer.killed
