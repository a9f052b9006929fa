"""Workflows for the tests of what a user does with runs, and gates that their steps wait at."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from floxide_mp import (
    Abort,
    BackoffStrategy,
    Context,
    EventLog,
    Hold,
    Join,
    NextAll,
    Node,
    RetryError,
    RetryPolicy,
    Workflow,
    node,
)
from floxide_mp.testing.workflows import Gather

DEADLINE = 40.0


@dataclass
class Log(Context):
    log: EventLog[Any]


class Gate:
    """Steps that enter say so and wait until it is open. It is a directory, so it works across processes."""

    def __init__(self, where: Path) -> None:
        self.path = where / "gate"
        self.path.mkdir()

    def entered(self, count: int) -> None:
        """Wait until so many steps have entered."""
        until(lambda: len(list(self.path.glob("in-*"))) >= count)

    def open(self) -> None:
        (self.path / "open").touch()


def enter(gate: Path) -> None:
    (gate / f"in-{os.getpid()}-{time.monotonic_ns()}").touch()


def until(true: Any) -> None:
    """A bounded poll: there is nothing to wait on across processes that a killed one would not spoil."""
    end = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.002)


@node
def echo(value: Any) -> Any:
    return value


@node
def split(values: Any) -> Any:
    return NextAll(values)


@node
def spread(count: int) -> Any:
    return NextAll(range(count))


class Echo(Workflow):
    echo = echo
    start = echo


class LongEcho(Node):
    timeout = 1e300

    def process(self, value: Any) -> Any:
        return value


class Counted(Workflow):
    """As many items as the input says, and a join."""

    spread = spread
    join = Join()
    start = spread
    edges = {spread: [join]}


@node
def hold(value: Any) -> Any:
    return Hold()


class Held(Workflow):
    spread = spread
    hold = hold
    start = spread
    edges = {spread: [hold]}


@node
def fail(value: Any) -> Any:
    raise ValueError(f"no {value}")


class Failing(Workflow):
    fail = fail
    start = fail


@node
def note(ctx: Log, value: Any) -> Any:
    ctx.log.append(value)
    return value


class Logged(Workflow):
    context = Log
    note = note
    start = note


class Thousand(Workflow):
    """The input's many items, each with an event."""

    context = Log
    spread = spread
    note = note
    join = Join(lambda found: sum(found))
    start = spread
    edges = {spread: [note], note: [join]}


# -- steps that wait ------------------------------------------------------------------------------------------------


@node
def wait_at(gate: str) -> Any:
    if gate == "/dev/null":
        return None
    path = Path(gate)
    enter(path)
    until((path / "open").exists)
    return "through"


class Gated(Workflow):
    gate = wait_at
    after = echo
    start = gate
    edges = {gate: [after]}


class Gates(Workflow):
    split = split
    gate = wait_at
    start = split
    edges = {split: [gate]}


@node
def begin(ctx: Log, gate: str) -> Any:
    ctx.log.append("begun")
    return NextAll([gate, "/dev/null"])


class Blocked(Workflow):
    """An event, an output and a step at the gate, in this order."""

    context = Log
    begin = begin
    gate = wait_at
    end = echo
    start = begin
    edges = {begin: [gate], gate: [end]}


@node
def polite(ctx: Context, gate: str) -> Any:
    """Looks whether it is to stop, and says that it did."""
    path = Path(gate)
    enter(path)
    until(lambda: ctx.cancelled)
    (path / "polite").touch()
    return "early"


@node
def deaf(gate: str) -> Any:
    """Never looks up."""
    enter(Path(gate))
    while True:
        time.sleep(3600)


class Polite(Workflow):
    polite = polite
    after = echo
    start = polite
    edges = {polite: [after]}


class Deaf(Workflow):
    split = split
    deaf = deaf
    start = split
    edges = {split: [deaf]}


# -- failures -------------------------------------------------------------------------------------------------------


class Flaky(Node):
    """Fails until its attempt is the one that the item says."""

    retry = RetryPolicy(max_attempts=4, initial_backoff=0.002, strategy=BackoffStrategy.LINEAR)

    def process(self, ctx: Log, good: int) -> Any:
        ctx.log.append((good, ctx.item.attempt))
        if ctx.item.attempt < good:
            raise ConnectionError(f"attempt {ctx.item.attempt} of {good}")
        return good * 10


@node
def rescue(ctx: Log, value: Any) -> Any:
    error = ctx.item.error
    return "rescued", value, type(error).__name__, str(error)


class Retried(Workflow):
    context = Log
    split = split
    flaky = Flaky()
    rescue = rescue
    start = split
    edges = {split: [flaky]}
    on_failure = {flaky: [rescue]}


@node
def abort_odd(value: int) -> Any:
    return Abort(f"{value} is odd") if value % 2 else value


class Aborting(Workflow):
    context = Log
    spread = spread
    work = abort_odd
    rescue = rescue
    join = Join()
    start = spread
    edges = {spread: [work], work: [join], rescue: [join]}
    on_failure = {work: [rescue]}


@node
def repaired(path: str) -> Any:
    """Fails until its file is there: what a person mends before they resume."""
    return Path(path).read_text()


class Repairable(Workflow):
    context = Log
    split = split
    note = note
    repaired = repaired
    join = Join()
    start = split
    edges = {split: [note], note: [repaired], repaired: [join]}


@node
def breaks_off(count: int) -> Any:
    def values() -> Any:
        for n in range(count):
            if n == count // 2:
                raise ValueError("half way")
            yield n

    return NextAll(values())


class BreaksOff(Workflow):
    context = Log
    breaks = breaks_off
    note = note
    rescue = rescue
    start = breaks
    edges = {breaks: [note]}
    on_failure = {breaks: [rescue]}


# -- shapes -----------------------------------------------------------------------------------------------------------


class Serial(Node):
    """Writes when it begins and ends; no two of it may overlap, whatever else goes on."""

    serial = True

    def process(self, ctx: Log, job: tuple[str, int]) -> Any:
        path, n = job
        with open(path, "ab", buffering=0) as file:
            file.write(b"begin\n")
            seen = len(ctx.log)
            ctx.log.append(n)
            file.write(b"end\n")
        return seen


class Serially(Workflow):
    context = Log
    split = split
    serial = Serial()
    start = split
    edges = {split: [serial]}


class Merged(Workflow):
    context = Log
    spread = spread
    free = echo
    merge = Gather(20)
    start = spread
    edges = {spread: [free], free: [merge]}


@node
def inner(n: int) -> Any:
    return NextAll([(n, k) for k in range(n)])


@node
def pair(value: tuple[int, int]) -> Any:
    return value[0] * 100 + value[1]


def make_nested() -> type[Workflow]:
    outer, each, leaf = spread, inner, pair
    return Workflow.build(
        "Nested",
        {"outer": outer, "each": each, "leaf": leaf, "within": Join(of="each"), "all": Join()},
        start="outer",
        edges={"outer": ["each"], "each": ["leaf"], "leaf": ["within"], "within": ["all"]},
    )


Nested = make_nested()


class Async(Node):
    async def process(self, ctx: Log, value: int) -> Any:
        await asyncio.sleep(0)
        ctx.log.append(value)
        return NextAll([value, value + 1])


class Asynchronous(Workflow):
    context = Log
    spread = spread
    work = Async()
    start = spread
    edges = {spread: [work]}


@node
def interrupted(path: str) -> Any:
    """Ctrl-C is pressed in its first execution."""
    if not os.path.exists(path):
        Path(path).touch()
        signal.raise_signal(signal.SIGINT)
    return "second"


class Interrupted(Workflow):
    interrupted = interrupted
    start = interrupted


class Spread(Workflow):
    spread = spread
    start = spread


@node
def more(count: int) -> Any:
    return NextAll([*range(count), -count])


@node
def not_negative(value: int) -> Any:
    if value < 0:
        raise ValueError(f"no {-value}")
    return value


class BreaksOffLater(Workflow):
    """Outputs first, and then the item that fails the run: one at a time, in order."""

    more = more
    one = not_negative
    start = more
    edges = {more: [one]}


class Gathered(Workflow):
    split = split
    gate = wait_at
    join = Join()
    start = split
    edges = {split: [gate], gate: [join]}


class Slow(Node):
    timeout = 0.2
    retry = RetryPolicy(max_attempts=2, initial_backoff=0, retry_error=RetryError.TIMEOUT)

    def process(self, gate: str) -> Any:
        return wait_at(gate)


class Timed(Workflow):
    context = Log
    split = split
    slow = Slow()
    rescue = rescue
    start = split
    edges = {split: [slow]}
    on_failure = {slow: [rescue]}
