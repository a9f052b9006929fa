"""Workflows whose fan-outs are iterators that give more than one portion. What they do outside of the run goes to a
folder: a line for each start of an iterator, how far it has come, and how far the work on its values has.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from floxide_mp import (
    BatchNode,
    CompositeNode,
    Context,
    EventLog,
    Join,
    NextAll,
    RetryPolicy,
    SplitNode,
    Workflow,
    node,
)
from floxide_mp.core.streams import LEAST
from floxide_mp.worker.iterator_cache import MOST_ITEMS
from tests.flows_faults import note
from tests.flows_run import until

MANY: Final = 5 * MOST_ITEMS // 2  # values: three portions
ENDLESS: Final = 1 << 60


class Ask(NamedTuple):
    """``count`` values; at number ``stop`` it waits for the file ``go``, if there is none."""

    folder: str
    count: int = MANY
    stop: int = -1


@dataclass
class Log(Context):
    log: EventLog[Any] = field(default_factory=EventLog)


def numbers(ask: Ask) -> Iterator[int]:
    """The values, in order. Leaves ``started PID``, and ``closed`` when it is not gone on with."""
    note(ask.folder, "started", os.getpid())
    progress = os.open(os.path.join(ask.folder, "pulled"), os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for number in range(ask.count):
            if number == ask.stop:
                note(ask.folder, "stopped", number)
                until(lambda: os.path.exists(os.path.join(ask.folder, "go")))
            os.pwrite(progress, number.to_bytes(8, "big"), 0)
            yield number
    except GeneratorExit:
        note(ask.folder, "closed", os.getpid())
        raise
    finally:
        os.close(progress)


def pulled(folder: str) -> int:
    """The number of the last value."""
    with open(os.path.join(folder, "pulled"), "rb") as progress:
        return int.from_bytes(progress.read(8), "big")


@node
def count(ask: Ask) -> NextAll[int]:
    return NextAll(numbers(ask))


@node
def same(number: int) -> int:
    return number


class Counted(Workflow):
    """What arrives at the join is every value once, in order."""

    count, same, all = count, same, Join()
    start = count
    edges = {count: [same], same: [all]}


class Outputs(Workflow):
    count, same = count, same
    start = count
    edges = {count: [same]}


@node
def pairs(ask: Ask) -> NextAll[tuple[str, int]]:
    return NextAll((ask.folder, number) for number in numbers(ask))


@node
def ahead(pair: tuple[str, int]) -> int:
    """How many values further than this one have been taken."""
    folder, number = pair
    return pulled(folder) - number


class Ahead(Workflow):
    pairs, ahead, most = pairs, ahead, Join(max)
    start = pairs
    edges = {pairs: [ahead], ahead: [most]}


@node
def lots(ask: Ask) -> NextAll[tuple[str, int, bytes]]:
    return NextAll((ask.folder, number, bytes(5_000_000)) for number in numbers(ask))


@node
def waits(lot: tuple[str, int, bytes]) -> int:
    """The first one that is where the iterator is waits for a value that is far away, and the others for that one."""
    folder, number, _ = lot
    if number == LEAST + 9:
        Path(folder, "go").touch()
    elif os.getpid() == int(Path(folder, "started").read_text().split()[0]):
        Path(folder, "here").touch()
        until(lambda: os.path.exists(os.path.join(folder, "go")))
    else:
        until(lambda: os.path.exists(os.path.join(folder, "here")))
    return number


class Waits(Workflow):
    lots, waits, all = lots, waits, Join()
    start = lots
    edges = {lots: [waits], waits: [all]}


# -- with a context -----------------------------------------------------------------------------------------------


@node
def told(ctx: Log, ask: Ask) -> NextAll[int]:
    """Writes to the context before each value."""

    def values() -> Iterator[int]:
        for number in numbers(ask):
            ctx.log.append(number)
            yield number

    return NextAll(values())


@node
def seen(ctx: Log, number: int) -> bool:
    """Whether what was written before its value was given is there."""
    return number % 997 != 0 or number in set(ctx.log)


class Told(Workflow):
    context = Log
    told, seen, all = told, seen, Join(all)
    start = told
    edges = {told: [seen], seen: [all]}


@node(serial=True)
def serially(ctx: Log, ask: Ask) -> NextAll[int]:
    def values() -> Iterator[int]:
        yield from numbers(ask)
        ctx.log.append(len(ctx.log))

    return NextAll(values())


class Serially(Workflow):
    """Two serial steps that give many values: the second one sees what the first one wrote at its end."""

    context = Log
    both, serially, same, all = SplitNode(lambda ask: [ask, ask]), serially, same, Join(len)
    start = both
    edges = {both: [serially], serially: [same], same: [all]}


# -- that fail ----------------------------------------------------------------------------------------------------


@node(retry=RetryPolicy(max_attempts=2, initial_backoff=0.01))
def breaks(ctx: Log, ask: Ask) -> NextAll[int]:
    """Raises at number ``stop``, as long as there is no file ``go``."""

    def values() -> Iterator[int]:
        for number in numbers(ask._replace(stop=-1)):
            if number == ask.stop and not os.path.exists(os.path.join(ask.folder, "go")):
                if os.path.exists(os.path.join(ask.folder, "once")):
                    Path(ask.folder, "go").touch()
                raise ValueError(f"no {number}")
            ctx.log.append(number)
            yield number

    return NextAll(values())


@node
def rescue(ctx: Log, ask: Ask) -> int:
    ctx.log.append(f"rescued from {type(ctx.item.error).__name__}")
    return -1


class Breaks(Workflow):
    context = Log
    breaks, same, rescue, part, all = breaks, same, rescue, Join(of=breaks), Join()
    start = breaks
    edges = {breaks: [same], same: [part], part: [all], rescue: [all]}
    on_failure = {breaks: [rescue]}


class Unrescued(Workflow):
    context = Log
    breaks, same, all = breaks, same, Join()
    start = breaks
    edges = {breaks: [same], same: [all]}


@node
def shrinks(ask: Ask) -> NextAll[int] | int:
    """The second time it is another one: it gives less, or nothing at all."""
    begun = os.path.join(ask.folder, "begun")
    if not os.path.exists(begun):
        Path(begun).touch()
        return NextAll(numbers(ask))
    return NextAll(range(10)) if ask.count == MANY else 5


class Shrinks(Workflow):
    shrinks, same = shrinks, same
    start = shrinks
    edges = {shrinks: [same]}


# -- within other things ------------------------------------------------------------------------------------------


class Inner(Workflow):
    count, same, inner = count, same, Join(sum)
    start = count
    edges = {count: [same], same: [inner]}


def asks(folder: str) -> Iterator[Ask]:
    for number in range(MOST_ITEMS + 3):
        yield Ask(folder, 1 if number else MOST_ITEMS + 2)


class Nested(Workflow):
    """Iterators that give what gives iterators, each collected by itself."""

    asks, inner, all = SplitNode(asks), CompositeNode(Inner), Join()
    start = asks
    edges = {asks: [inner], inner: [all]}


@node
def iterator(ask: Ask) -> Iterator[int]:
    return iter(list(numbers(ask)))


class Batches(Workflow):
    """The input of a batch is an iterator, and so is what one of its steps gives."""

    iterator, batch, all = iterator, BatchNode(same, 3), Join()
    start = iterator
    edges = {iterator: [batch], batch: [all]}


@node
def upto(number: int) -> NextAll[int]:
    return NextAll(n for n in range(number))


class BatchOfMany(Workflow):
    batch = BatchNode(upto, 2)
    start = batch


@node(timeout=2.0)
def slow(count: int) -> NextAll[int]:
    """Takes longer than its time-out, but each portion does not."""

    def values() -> Iterator[int]:
        for number in range(count):
            time.sleep(0.05)
            yield number

    return NextAll(values())


class Slow(Workflow):
    slow, same, all = slow, same, Join()
    start = slow
    edges = {slow: [same], same: [all]}


def leaving(ask: Ask) -> Iterator[int]:
    """As ``numbers``, but ends the process that does not go on with it, if it can."""
    try:
        yield from numbers(ask)
    except GeneratorExit:
        raise SystemExit(f"{ask.folder} is not gone on with") from None
