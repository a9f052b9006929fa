"""Workflows for the tests of many runs, many items and many workers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from floxide_mp import Abort, Context, EventLog, NextAll, RetryPolicy, Workflow, node
from floxide_mp.testing.workflows import Gather
from tests.flows_run import echo, spread


@dataclass
class Log(Context):
    log: EventLog[Any]


@node
def parent(ctx: Log, n: int) -> int:
    ctx.log.append(n)
    return n


@node
def child(ctx: Log, n: int) -> bool:
    return n in ctx.log


class Families(Workflow):
    """Each child looks whether what its parent wrote is there."""

    context = Log
    spread, parent, child = spread, parent, child
    start = spread
    edges = {spread: [parent], parent: [child]}


@node(retry=RetryPolicy(max_attempts=3, initial_backoff=0.001))
def troubled(ctx: Log, n: int) -> Any:
    """Every tenth fails once, every fiftieth twice, every hundredth for good."""
    ctx.log.append(n)
    if ctx.item.attempt <= (n % 10 == 0) + (n % 50 == 0):
        raise ConnectionError(n)
    return Abort(f"never {n}") if n % 100 == 0 else n


@node
def rescued(ctx: Log, n: int) -> int:
    return -n


class Troubled(Workflow):
    context = Log
    spread, troubled, rescued = spread, troubled, rescued
    start = spread
    edges = {spread: [troubled]}
    on_failure = {troubled: [rescued]}


@node
def ever_on(stop: str) -> Any:
    """Its own successor, until it is told to stop."""
    return NextAll([] if Path(stop).exists() else [stop])


@node
def twenty(stop: str) -> NextAll[str]:
    return NextAll([stop] * 20)


class EverOn(Workflow):
    """Twenty items, each of which goes on until the file is there."""

    twenty, ever_on = twenty, ever_on
    start = twenty
    edges = {twenty: [ever_on], ever_on: {str: [ever_on], None: []}}


class Counting(Workflow):
    """Fan-in as it is written without a join: a serial node counts what has arrived, and holds until it is all."""

    context = Log
    spread, free, merge = spread, echo, Gather(300)
    start = spread
    edges = {spread: [free], free: [merge]}
