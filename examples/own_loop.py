"""Worker loops of one's own: the workflow of examples.parallel, on two processes that this module starts itself.

    python -m floxide_mp examples.own_loop
    python -m floxide_mp examples.own_loop --input '{"fail": true}'

``start_distributed`` starts a run, and ``step_distributed`` takes one item of it, runs it and commits what came of it:
what happens in between is the loop's affair. These two go on until a branch has ended in them, so each has one. Their
callbacks say on standard error which item failed, and on which worker.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress

from examples.parallel import Job, Parallel
from floxide_mp import (
    Coordinator,
    FloxideError,
    ItemProcessedOutcome,
    OutcomeKind,
    RunStatus,
    StepBackend,
    StepCallbacks,
    WorkItem,
)


class OwnLoop(Parallel):
    cli_defaults = {"workers": 0}

    @staticmethod
    def cli_run(coordinator: Coordinator, job: Job) -> Iterator[str]:
        run_id = OwnLoop().start_distributed(None, job, coordinator, "run1")
        start = multiprocessing.get_context("spawn").Process
        first = sum(worker.pid != os.getpid() for worker in coordinator.workers())  # behind those of worker processes
        numbers = range(first, first + 2)
        processes = [start(target=work, args=(coordinator.proxy(), run_id, n), daemon=True) for n in numbers]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        yield from OwnLoop.cli_report(coordinator.run(run_id).wait())


def work(backend: StepBackend, run_id: str, worker_id: int) -> None:
    """One process: step until a branch has ended here, or the run is over."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the coordinator to deal with
    with suppress(FloxideError):  # it is closed
        while backend.info(run_id).status is RunStatus.RUNNING:
            if OwnLoop().step_distributed(backend, worker_id, Watch(worker_id)) is not None:
                break


class Watch(StepCallbacks):
    """Says which item failed. A veto, by returning False from ``on_started``, would leave an item to others."""

    def __init__(self, worker_id: int) -> None:
        self.worker_id = worker_id
        self.attempt = 0

    def on_started(self, run_id: str, item: WorkItem) -> None:
        self.attempt = item.attempt

    def on_item_processed(self, run_id: str, item: WorkItem, outcome: ItemProcessedOutcome) -> None:
        if outcome.kind is OutcomeKind.FAILED:
            where = f"{item.node} of run {run_id}, attempt {self.attempt}"
            print(f"worker {self.worker_id}: {where}: {outcome.error}", file=sys.stderr)
