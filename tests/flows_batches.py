"""Workflows with batches."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from floxide_mp import (
    Abort,
    BatchNode,
    CompositeNode,
    Context,
    EventLog,
    Hold,
    Join,
    Next,
    NextAll,
    Node,
    RetryError,
    RetryPolicy,
    SplitNode,
    Workflow,
    node,
    with_retry,
)
from tests.flows_faults import note
from tests.flows_run import until, wait_at

QUICK = RetryPolicy(max_attempts=3, initial_backoff=0.001)


@dataclass
class Log(Context):
    log: EventLog[Any]


@dataclass(frozen=True)
class Pair:
    """One of two that are in flight together: the even one waits until the odd one is done. Not inline."""

    number: int
    folder: str
    wait: bool = True


@node
def paired(pair: Pair) -> int:
    note(pair.folder, "log", f"+{pair.number}")
    if pair.wait and pair.number % 2 == 0:
        until(Path(pair.folder, f"done-{pair.number + 1}").exists)
    Path(pair.folder, f"done-{pair.number}").touch()
    note(pair.folder, "log", f"-{pair.number}")
    return pair.number * 10


def of_pairs(size: int) -> type[Workflow]:
    return Workflow.build("Pairs", {"batch": BatchNode(paired, size)}, "batch")


@node
def act(ctx: Log, what: Any) -> Any:
    """A number is doubled, a list is spliced, None adds nothing, a text fails, and what starts with ! aborts."""
    if isinstance(what, str):
        if what.startswith("!"):
            return Abort(what)
        raise ValueError(what)
    ctx.log.append(what)
    if what is None:
        return Hold()
    return NextAll([n * 2 for n in what]) if isinstance(what, list) else Next(what * 2)


@node
def caught(ctx: Context, value: Any) -> Any:
    error = ctx.item.error
    return "caught", value, type(error).__name__, str(error)


class Plain(Workflow):
    """A batch is all there is."""

    context = Log
    batch = BatchNode(act, 2)
    start = batch


class Caught(Workflow):
    context = Log
    split, batch, caught = SplitNode(lambda batches: batches), BatchNode(act, 2), caught
    start = split
    edges = {split: [batch]}
    on_failure = {batch: [caught]}


@node
def total(values: list[int]) -> int:
    return sum(values)


@node
def count(values: list[int]) -> int:
    return len(values)


class Around(Workflow):
    """Behind a batch two successors, and around it a join for each split and one for the run."""

    context = Log
    groups, group = SplitNode(lambda groups: groups), SplitNode(lambda group: group)
    batch, total, count = BatchNode(act, 2), total, count
    each, all = Join(of=group), Join()
    start = groups
    edges = {groups: [group], group: [batch], batch: [total, count], total: [each], count: [each], each: [all]}


class Routed(Workflow):
    """What a batch passes on is routed as a whole."""

    context = Log
    split, batch, total = SplitNode(lambda batches: batches), BatchNode(act, 3), total
    start = split
    edges = {split: [batch], batch: {(lambda values: len(values) > 1): [total], list: []}}


class TwoBatches(Workflow):
    context = Log
    first, second = BatchNode(act, 1), BatchNode(act, 3)
    start = first
    edges = {first: [second]}


class Inner(Workflow):
    """A batch is the first of it, and the last."""

    context = Log
    first, second = BatchNode(act, 2), BatchNode(act, 2)
    start = first
    edges = {first: [second]}


class Outer(Workflow):
    context = Log
    split, inner, caught, all = SplitNode(lambda batches: batches), CompositeNode(Inner), caught, Join()
    start = split
    edges = {split: [inner], inner: [all], caught: [all]}
    on_failure = {inner: [caught]}


class Flaky(Node):
    """Odd numbers fail at first."""

    def process(self, ctx: Log, number: int) -> int:
        ctx.log.append((number, ctx.item.attempt))
        if number % 2 and ctx.item.attempt < 3:
            raise ConnectionError(number)
        return number


class Retried(Workflow):
    context = Log
    batch = with_retry(BatchNode(Flaky(), 2), QUICK)
    start = batch


@node
def repaired(path: str) -> str:
    """Fails until its file is there; says that it ran."""
    note(os.path.dirname(path), "ran", os.path.basename(path))
    return Path(path).read_text()


class Repairable(Workflow):
    batch = BatchNode(repaired, 2)
    start = batch


class Harm(Node):
    """Does to its process what it is told."""

    def __init__(self, harm: Callable[[], Any]) -> None:
        self.harm = harm

    def process(self, bad: bool) -> str:
        if bad:
            self.harm()
        return "fine"


def of_harm(harm: Callable[[], Any], **options: Any) -> type[Workflow]:
    harmful = Harm(harm)
    vars(harmful).update(options)
    nodes = {"batch": BatchNode(harmful, 2), "caught": caught}
    return Workflow.build("Harmful", nodes, "batch", on_failure={"batch": "caught"})


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sleeps() -> None:
    signal.sigtimedwait([], 3600)


Killed = of_harm(killed)
Slow = of_harm(
    sleeps, timeout=0.2, retry=RetryPolicy(max_attempts=2, initial_backoff=0, retry_error=RetryError.TIMEOUT)
)


class Serial(Node):
    """Sees all that were before it: no two of it overlap."""

    serial = True

    def process(self, ctx: Log, number: int) -> int:
        before = len(ctx.log)
        ctx.log.append(number)
        return before


class Serially(Workflow):
    context = Log
    batch = BatchNode(Serial(), 4)
    start = batch


# -- to be gone on with -----------------------------------------------------------------------------------------------


@node
def double(value: int) -> int:
    if isinstance(value, str):
        raise ValueError(value)
    return value * 2


@node
def length(value: Any) -> int:
    return len(str(value))


class OneBatch(Workflow):
    batch = BatchNode(double, 2)
    start = batch


class Nested(Workflow):
    inner = CompositeNode(OneBatch)
    start = inner


@node
def gate_or_fail(what: str) -> Any:
    if what == "fails":
        raise ValueError(what)
    return wait_at(what)


class Spoilt(Workflow):
    batch, caught = BatchNode(gate_or_fail, 2), caught
    start = batch
    on_failure = {batch: [caught]}
