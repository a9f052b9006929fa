"""Workflows of ``test_critical`` and its kin: what looks at a coordinator from where it is not expected."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from floxide_mp import Coordinator, NextAll, RetryPolicy, Workflow, node


class Enriched(Exception):
    """An error that looks how the runs stand when it is opened."""

    seen: Any = None

    def __reduce__(self) -> Any:
        return Enriched, self.args, {"x": 1}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        coordinator = getattr(sys, "floxide_coordinator", None)  # in the coordinator's process only
        if coordinator is not None:
            self.seen = [info.status for info in coordinator.runs()]
            coordinator.workers()


@contextmanager
def registered(coordinator: Coordinator) -> Iterator[None]:
    """Where ``Enriched`` finds it."""
    sys.floxide_coordinator = coordinator  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del sys.floxide_coordinator  # type: ignore[attr-defined]


@node
def fails(value: int) -> int:
    raise Enriched("no")


class Fails(Workflow):
    fails = fails
    start = fails


@node(retry=RetryPolicy(max_attempts=3, initial_backoff=0.01))
def dies(ctx: Any, value: int) -> int:
    if ctx.item.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return value


class Dies(Workflow):
    dies = dies
    start = dies


@node
def echo(value: int) -> int:
    return value


class Echo(Workflow):
    echo = echo
    start = echo


@node
def split(count: int) -> NextAll[int]:
    return NextAll(range(count))


@node
def work(value: int) -> dict[str, list[int]]:
    return {"x": [value]}


class Fans(Workflow):
    split = split
    work = work
    start = split
    edges = {split: [work]}


@node
def slow(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


class Slow(Workflow):
    slow = slow
    start = slow
