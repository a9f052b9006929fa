"""Workflows whose steps end the whole program, as a step does that has the machine run out of memory."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from floxide_mp import Context, Coordinator, Join, NextAll, Workflow, node

DEADLY = 7


def end_program() -> None:
    """The coordinator's process and this one: where steps run in processes of their own, they die with it."""
    os.kill(int(os.environ["DEADLY_PROGRAM"]), signal.SIGKILL)
    signal.pause()


@node
def spread(n: int) -> NextAll[int]:
    return NextAll(range(n))


@node
def chained(number: int) -> int:
    return number


@node
def work(number: int) -> int:
    if number == DEADLY:
        end_program()
    return number


@node
def rescued(ctx: Context, number: int) -> int:
    assert type(ctx.item.error).__name__ == "WorkerDiedError"
    return -number


class Deadly(Workflow):
    """One of many items ends the program."""

    spread, work = spread, work
    total = Join(sorted)
    start = spread
    edges = {spread: [work], work: [total]}


class Rescued(Workflow):
    """... and has a fallback; there is a step between, so that workers go ahead to it."""

    spread, chained, work, rescued = spread, chained, work, rescued
    total = Join(sorted)
    start = spread
    edges = {spread: [chained], chained: [work], work: [total], rescued: [total]}
    on_failure = {work: [rescued]}


def main(name: str, store: str, workers: int, count: int) -> None:
    os.environ["DEADLY_PROGRAM"] = str(os.getpid())
    flow: Any = globals()[name]
    with Coordinator(workers, store) as coordinator:
        run = coordinator.start(flow, count, run_id="r", resume=True)
        print(run.wait().output)


if __name__ == "__main__":
    from tests.faults import flows_deadly

    flows_deadly.main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
