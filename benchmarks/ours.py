"""This package as a contender of ``steps`` and ``metg``: in memory, and on SQLite with durability "process".

In the time shown it gives each step an identity and an order key, leases it, so that it counts once whatever dies,
commits it with its output, keeps exact counts, watches every worker, and lists the outputs, decoded, in the order of
the one-process run. A graph is defined, and its nodes have come to the workers, before the clock starts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from benchmarks import flows, patterns
from benchmarks.contender import WORKERS, Contender
from benchmarks.peers import Runs
from benchmarks.tasks import Tasks
from floxide_mp import Coordinator, NextAll, Workflow, node


@node
def give(values: Sequence[int]) -> NextAll[int]:
    return NextAll(values)


@cache
def beside(function: Callable[[int], Any]) -> type[Workflow]:
    """Steps beside each other, one for each value."""
    nodes = {"give": give, "work": node(function)}
    return Workflow.build("Beside", nodes=nodes, start="give", edges={"give": ["work"]})


pattern = cache(patterns.workflow)


def of(coordinator: Coordinator) -> Tasks:
    def run(workflow: type[Workflow], value: Any) -> list[Any]:
        return coordinator.start(workflow, value).wait().outputs

    return Tasks(
        lambda function, values: run(beside(function), values),
        lambda steps: run(flows.chain(steps), 0),
        lambda name, width, rows, iterations: run(pattern(name, width, rows), iterations),
    )


@contextmanager
def memory(directory: str) -> Iterator[Tasks]:
    with Coordinator(workers=WORKERS) as coordinator:
        yield of(coordinator)


@contextmanager
def sqlite(directory: str) -> Iterator[Tasks]:
    with Coordinator(workers=WORKERS, store=os.path.join(directory, "runs.db")) as coordinator:
        yield of(coordinator)


@contextmanager
def otherwise(directory: str) -> Iterator[Runs]:
    with Coordinator(workers=WORKERS) as coordinator:
        yield Runs(
            lambda steps: coordinator.start(flows.NotingFanOut, steps).wait().outputs,
            lambda steps: coordinator.start(flows.Loop, steps).wait().output,
        )


OURS = {
    "memory": Contender("floxide_mp", memory, (), (100_000, 2_000), 2000),
    "otherwise": Contender("floxide_mp, an event each; a loop", otherwise, (), (100_000, 2_000), 2000),
    "sqlite": Contender("floxide_mp, SQLite", sqlite, (), (100_000, 2_000), 2000),
}
