"""Workflows about what a step has beside its value: context, item, seed; and nodes and values of unusual kinds."""

from __future__ import annotations

import types
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from ..api.context import Context
from ..api.event_log import EventLog
from ..api.merge import Fixed, Merge, SharedState
from ..api.node import Node, node
from ..api.nodes import Join, SplitNode
from ..api.retry import RetryPolicy
from ..api.transition import NextAll
from ..api.workflow import Workflow
from .workflows import Log, whatever


@dataclass
class Total(Merge):
    sum: int = 0

    def merge(self, other: Total) -> None:
        self.sum += other.sum


@dataclass
class Book(Context):
    log: EventLog[Any]
    base: Fixed[int] = field(default_factory=lambda: Fixed(1000))
    last: SharedState[int] = field(default_factory=lambda: SharedState(-1))
    total: Total = field(default_factory=Total)


@node
def write(ctx: Book, n: int) -> int:
    for part in ("first", "second"):
        ctx.log.append((part, n + ctx.base.get()))
    ctx.last.set(n)
    ctx.total.merge(Total(n))
    return n


@node
def read(ctx: Book, n: int) -> bool:
    """Whether this step sees what its parent wrote."""
    return ("second", n + ctx.base.get()) in list(ctx.log) and ctx.last.get() >= 0 and ctx.total.sum >= n


@node
def read_all(ctx: Book, found: list[bool]) -> tuple[Any, ...]:
    return all(found), list(ctx.log), ctx.last.get(), ctx.total.sum


class Contexts(Workflow):
    context = Book
    spread, write, read, join, read_all = SplitNode(range), write, read, Join(list), read_all
    start = spread
    edges = {spread: [write], write: [read], read: [join], join: [read_all]}


class Told(Node):
    """What a step is told of its item; the second attempt has the same seed."""

    retry = RetryPolicy(max_attempts=2, initial_backoff=0)

    def process(self, ctx: Log, n: int) -> Any:
        item = ctx.item
        if n % 2 and item.attempt == 1:
            raise ValueError("once more")
        return item.run_id, item.node, item.attempt, item.error, item.order, item.seed, ctx.cancelled


class Items(Workflow):
    context = Log
    spread, told = SplitNode(range), Told()
    start = spread
    edges = {spread: [told]}


@types.coroutine
def _a_turn() -> Generator[None, None, None]:
    yield  # to the event loop, and back


class Async(Node):
    async def process(self, ctx: Log, n: int) -> Any:
        await _a_turn()
        ctx.log.append(n)
        return NextAll([n, n + 1])


class Asynchronous(Workflow):
    context = Log
    spread, work = SplitNode(range), Async()
    start = spread
    edges = {spread: [work]}


def by_value() -> type[Workflow]:
    """Nodes that no worker can import by a name."""
    by = 3
    return Workflow.build(
        "ByValue",
        {"spread": SplitNode(lambda n: range(n)), "times": node(lambda n: n * by), "join": Join(lambda ns: sum(ns))},
        start="spread",
        edges={"spread": ["times"], "times": ["join"]},
    )


class BothWays(Workflow):
    split, look = SplitNode(lambda value: [value, value[::-1]]), whatever
    start = split
    edges = {split: [look]}
