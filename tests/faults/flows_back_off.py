"""A run whose program is killed while an item waits for its next attempt."""

from __future__ import annotations

import os
import sys
import time

from floxide_mp import Coordinator, NextAll, RetryPolicy, Workflow, node


@node
def split(folder: str) -> NextAll[tuple[str, int]]:
    return NextAll((folder, number) for number in range(3))


def fails_once(ctx, given: tuple[str, int]) -> tuple[int, int]:  # type: ignore[no-untyped-def]
    """Number 1 fails for the first time; when, is noted."""
    folder, number = given
    if number == 1:
        with open(os.path.join(folder, "attempts"), "a") as attempts:
            attempts.write(f"{ctx.item.attempt} {time.time()!r}\n")
        if ctx.item.attempt == 1:
            raise ConnectionError("try again later")
    return number, ctx.item.attempt


def waiting(seconds: float) -> type[Workflow]:
    policy = RetryPolicy(max_attempts=2, initial_backoff=seconds, max_backoff=seconds)
    nodes = {"split": split, "work": node(retry=policy)(fails_once)}
    return Workflow.build("Waiting", nodes=nodes, start="split", edges={"split": ["work"], "work": []})


if __name__ == "__main__":  # python -m tests.faults.flows_back_off FOLDER SECONDS
    from tests.faults.flows_back_off import waiting as made

    folder, seconds = sys.argv[1:]
    with Coordinator(2, store=os.path.join(folder, "runs.db")) as coordinator:
        coordinator.start(made(float(seconds)), folder, run_id="waiting").wait()
