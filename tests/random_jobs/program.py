"""What a random job's script does when it runs: ``python job.py here`` or ``python job.py store PATH WORKERS``.

It prints a line of JSON for each way in which the job was run. Runs in a process of its own; its workers are the
package's.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from floxide_mp import Coordinator, RetryPolicy, Run, RunFailedError, RunStatus, Workflow

LIMIT = 120.0  # seconds that a run may take
PATIENT = RetryPolicy(max_attempts=60, initial_backoff=0.001)  # a worker that is killed is no fault of the item
KILLS = 6


def main(job: type[Workflow], token: Any) -> None:
    """Do as the arguments say with the job and its input."""
    match sys.argv[1:]:
        case ["here"]:
            for workers in (0, 2, 4):
                with Coordinator(workers, retry=PATIENT) as coordinator:
                    say(f"{workers} workers", answer(coordinator.start(job, token)))
            with Coordinator(2, retry=PATIENT) as coordinator, killing(coordinator):
                say("2 workers, killed", answer(coordinator.start(job, token)))
        case ["store", path, workers]:
            with Coordinator(int(workers), store=path, retry=PATIENT) as coordinator:
                print("begun", flush=True)
                known = {info.run_id for info in coordinator.runs(RunStatus.FAILED)}  # all of a node's items were held
                run = coordinator.run("job") if known else coordinator.start(job, token, run_id="job")
                say(f"store, {workers} workers", answer(run))
        case other:
            raise SystemExit(f"here, or store PATH WORKERS, not {other}")


def answer(run: Run) -> dict[str, Any]:
    """All of a run that must not hang on who did the work."""
    outputs = None
    try:
        outputs = [describe(value) for value in run.wait(LIMIT).outputs]
    except RunFailedError as error:
        if "held" not in str(error):
            raise
    context, metrics = run.context(), run.metrics()
    return {
        "status": run.status.name,
        "outputs": outputs,
        "log": [list(entry) for entry in context.log],
        "total": context.total.count,
        "last": context.last.get(),
        "items": [metrics.total_work_items, metrics.completed],
    }


def describe(token: Any) -> list[Any]:
    """A token, as JSON has it."""
    return [token.n, token.turn, len(token.body), token.body[:1].hex()]


def say(way: str, what: dict[str, Any]) -> None:
    print(json.dumps({"way": way, **what}), flush=True)


@contextmanager
def killing(coordinator: Coordinator) -> Iterator[None]:
    """Meanwhile a thread kills workers at random moments."""
    over = threading.Event()
    chance = random.Random()

    def kill() -> None:
        for _ in range(KILLS):
            if over.wait(chance.random() * 0.03):
                return
            pids = [worker.pid for worker in coordinator.workers() if worker.pid]
            if pids:
                with suppress(ProcessLookupError):
                    os.kill(chance.choice(pids), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
