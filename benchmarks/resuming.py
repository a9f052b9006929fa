"""Resuming a large run, for ``benchmarks.durable``: a million items finished, a thousand pending.

``python -m benchmarks.resuming make DIRECTORY FINISHED PENDING`` runs it on two workers until only those are left that
wait, and is then killed, as it stands. ``python -m benchmarks.resuming go DIRECTORY`` resumes it and prints one line of
JSON: the seconds from before the store was opened until the first item was run, of which so many until ``resume``
returned, and by how many bytes the most memory that this process ever had has grown meanwhile.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

from benchmarks import flows
from benchmarks.measuring import peak
from floxide_mp import Coordinator, NextAll, Workflow, node, when
from floxide_mp.stores.sqlite.store import SQLiteStore

WORKERS = 2
RUN = "large"
HOLD = "FLOXIDE_MP_BENCHMARK_HOLD"  # while this is set, the pending items wait
FIRST = "FLOXIDE_MP_BENCHMARK_FIRST"  # a FIFO for the time at which they are run


@node
def spread_out(size: tuple[int, int]) -> NextAll[int]:
    """So many 0 that are done at once, then so many 1 that go on to ``late``."""
    finished, pending = size
    return NextAll(number >= finished for number in range(finished + pending))


@node(timeout=3600.0)  # so that no worker goes ahead to it from one ``work``, with others still to be done
def late(value: bool) -> float:
    if HOLD in os.environ:
        signal.pause()  # until the kernel ends this worker with its coordinator
    now = time.monotonic()
    with open(os.environ[FIRST], "w") as pipe:
        pipe.write(f"{now}\n")
    return now


class Large(Workflow):
    split = spread_out
    work = node(flows.noop)
    late = late

    start = split
    edges = {split: [work], work: {when(bool, bool): [late], bool: []}}


def make(directory: str, finished: int, pending: int) -> None:
    os.environ[HOLD] = "yes"
    with Coordinator(WORKERS, store=os.path.join(directory, "runs.db")) as coordinator:
        run = coordinator.start(Large, (finished, pending), run_id=RUN)
        while run.info().metrics.completed < 1 + finished + pending:  # the split, and each item's ``work``
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)


def go(directory: str) -> None:
    os.environ[FIRST] = fifo = os.path.join(directory, "first")
    os.mkfifo(fifo)
    with open(os.open(fifo, os.O_RDWR)) as pipe:
        memory, began = peak(), time.monotonic()
        with Coordinator(WORKERS, store=SQLiteStore(os.path.join(directory, "runs.db"))) as coordinator:
            coordinator.resume(Large, RUN)
            resumed = time.monotonic() - began
            first = float(pipe.readline()) - began
            grown = peak() - memory
    print(json.dumps({"seconds": first, "resumed": resumed, "grown": grown, "peak": memory + grown}))


def measure(directory: str, finished: int, pending: int) -> dict[str, Any]:
    """Both, each in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.resuming"]
    made = subprocess.run([*command, "make", directory, str(finished), str(pending)], timeout=600)
    assert made.returncode == -signal.SIGKILL, made
    done = subprocess.run([*command, "go", directory], check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        go(sys.argv[2])
