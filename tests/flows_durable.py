"""Runs on disk whose program is killed: each step leaves a line outside of the run."""

from __future__ import annotations

import os
import sys

from floxide_mp import Coordinator, NextAll, Workflow, node

COUNT = 400


@node
def split(folder: str) -> NextAll[tuple[str, int]]:
    return NextAll((folder, number) for number in range(COUNT))


@node
def work(given: tuple[str, int]) -> int:
    folder, number = given
    with open(os.path.join(folder, "effects"), "a") as effects:
        effects.write(f"{number}\n")
    return number


class Durable(Workflow):
    split = split
    work = work
    start = split
    edges = {split: [work]}


if __name__ == "__main__":  # python -m tests.flows_durable FOLDER: prints each output once it is committed
    from tests.flows_durable import Durable as Flow

    with Coordinator(2, store=os.path.join(sys.argv[1], "runs.db")) as coordinator:
        for output in coordinator.start(Flow, sys.argv[1], run_id="durable").stream():
            print(output, flush=True)
