"""Workflows for the tests of sources, pauses, time-outs, retries and resuming."""

from __future__ import annotations

import itertools
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from floxide_mp import (
    BatchNode,
    Context,
    EventLog,
    Join,
    NextAll,
    Node,
    RetryError,
    RetryPolicy,
    Workflow,
    node,
    with_retry,
)
from tests.flows_faults import note
from tests.flows_run import echo, enter, split, until, wait_at


@dataclass
class Log(Context):
    log: EventLog[Any]


@node
def logged(ctx: Log, value: Any) -> Any:
    """A number below 0 fails."""
    ctx.log.append(value)
    if value < 0:
        raise ValueError(f"no {-value}")
    return value


class Summed(Workflow):
    """What a source sends, and the sum of it."""

    context = Log
    logged, total = logged, Join(sum)
    start = logged
    edges = {logged: [total]}


class Flow(Workflow):
    context = Log
    logged, after = logged, echo
    start = logged
    edges = {logged: [after]}


class Gates(Workflow):
    """Each value is a gate, or /dev/null."""

    gate, all = wait_at, Join()
    start = gate
    edges = {gate: [all]}


class SerialGate(Node):
    serial = True

    def process(self, gate: str) -> Any:
        return wait_at(gate)


class SerialGates(Workflow):
    gate = SerialGate()
    start = gate


# -- steps that say that they ran, and come to grief ------------------------------------------------------------------


class Step(Node):
    """Writes its name to the file ``ran`` and to the log; fails, hangs or is interrupted as files in the folder say."""

    def __init__(self, name: str) -> None:
        self.name = name

    def process(self, ctx: Log, folder: str) -> str:
        note(folder, "ran", self.name)
        ctx.log.append(self.name)
        trouble = Path(folder, self.name)
        what = trouble.read_text() if trouble.exists() else "nothing"
        if what == "fails":
            raise ValueError(f"{self.name} fails")
        if what == "interrupts":  # Ctrl-C is pressed; only inline
            trouble.unlink()
            signal.raise_signal(signal.SIGINT)
        if what == "hangs":
            trouble.rename(f"{trouble}-hangs")
            time.sleep(3600)
        return folder


def chain(*names: str) -> type[Workflow]:
    after = {name: [then] for name, then in itertools.pairwise(names)}
    return Workflow.build("Chain", {name: Step(name) for name in names}, names[0], after, context=Log)


Chain = chain("first", "second", "last")
Single = chain("only")


# -- pausing, cancelling and being too late ---------------------------------------------------------------------------


class Nap(Node):
    """Takes 0.4 s."""

    def process(self, folder: str) -> str:
        note(folder, "ran", "nap")
        time.sleep(0.4)
        return folder


def naps(count: int) -> type[Workflow]:
    after = {f"nap{n}": [f"nap{n + 1}"] for n in range(count - 1)}
    return Workflow.build("Naps", {f"nap{n}": Nap() for n in range(count)}, "nap0", after)


Five, Ten = naps(5), naps(10)


@node(timeout=0.2, retry=RetryPolicy(max_attempts=2, initial_backoff=0, retry_error=RetryError.TIMEOUT))
def slow_at_first(ctx: Context) -> int:
    if ctx.item.attempt == 1:
        time.sleep(0.4)
    return ctx.item.attempt


class SlowAtFirst(Workflow):
    slow = slow_at_first
    start = slow


@node
def ten_times(folder: str) -> NextAll[str]:
    return NextAll([folder] * 10)


class TenAtOnce(Workflow):
    ten_times, nap = ten_times, Nap()
    start = ten_times
    edges = {ten_times: [nap]}


class Stoppable(Node):
    """While the file ``slow`` is there, it stays: until it is to stop, and then raises, or for ever, as that says."""

    def process(self, ctx: Context, folder: str) -> str:
        note(folder, "ran", "work")
        how = Path(folder, "slow")
        if not how.exists():
            return "done"
        what = how.read_text()
        enter(Path(folder))
        while not (what == "raises" and ctx.cancelled):
            time.sleep(0.01)
        raise RuntimeError("told to stop")


@node
def rescued(folder: str) -> str:
    note(folder, "ran", "rescued")
    return "rescued"


class Rescued(Workflow):
    work, rescued, after = Stoppable(), rescued, echo
    start = work
    edges = {work: [after]}
    on_failure = {work: [rescued]}


class Branch(NamedTuple):
    """``deep`` steps; the last fails while the file ``fails`` is there, if the branch is ``bad``."""

    folder: str
    number: int
    deep: int
    bad: bool


@node
def branches(folder: str) -> NextAll[Branch]:
    return NextAll(Branch(folder, n, 3 + n % 2, n == 1) for n in range(6))


@node
def branch(ctx: Log, at: Branch) -> Branch | int:
    ctx.log.append((at.number, at.deep))
    if at.deep == 2 and at.bad and Path(at.folder, "fails").exists():
        raise ValueError(f"branch {at.number} fails")
    return at._replace(deep=at.deep - 1) if at.deep else at.number


class Branching(Workflow):
    context = Log
    branches, branch, end = branches, branch, echo
    start = branches
    edges = {branches: [branch], branch: {Branch: [branch], int: [end]}}


class SlowToOpen(Node):
    """Its workflow takes a worker until the file ``open`` is there to be read; then a step of it never ends."""

    timeout = 0.1

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __setstate__(self, state: dict[str, Any]) -> None:
        enter(Path(state["folder"]))
        until(Path(state["folder"], "open").exists)
        vars(self).update(state)

    def process(self) -> None:
        time.sleep(3600)


class FailsAtGate(Node):
    """Fails once its gate is open, if it is there still."""

    def process(self, gate: str) -> str:
        wait_at(gate)
        if Path(gate, "fails").exists():
            raise ValueError("fails at the gate")
        return gate


class TwoGates(Workflow):
    split, first, second = split, FailsAtGate(), Nap()
    start = split
    edges = {split: [first], first: [second]}


class GatedStep(Node):
    """Says that it runs and waits at the gate, if it is the first or second of the chain."""

    def __init__(self, name: str) -> None:
        self.name = name

    def process(self, ctx: Log, gate: str) -> str:
        note(gate, "ran", self.name)
        ctx.log.append(self.name)
        wait_at(gate)
        return gate


GatedChain = Workflow.build(
    "GatedChain",
    {name: GatedStep(name) for name in ("first", "second", "third")},
    "first",
    {"first": ["second"], "second": ["third"]},
    context=Log,
)


class ManyGates(Workflow):
    split, gate, after = split, wait_at, echo
    start = split
    edges = {split: [gate], gate: [after]}


@node
def no_luck(folder: str) -> None:
    """Fails once the other one is there."""
    until(lambda: list(Path(folder).glob("in-*")))
    raise ValueError("no luck")


class FailingAndDeaf(Workflow):
    both, deaf, bad = echo, Stoppable(), no_luck
    start = both
    edges = {both: [deaf, bad]}


# -- retries ----------------------------------------------------------------------------------------------------------


@node(timeout=30.0)
def fails_twice(ctx: Context, value: Any) -> Any:
    """Of a module: it travels by its name, and with other options by the name of the node it came from."""
    if ctx.item.attempt < 3:
        raise ConnectionError(f"attempt {ctx.item.attempt}")
    return value, ctx.item.attempt


class FailsTwice(Node):
    def __init__(self, word: str) -> None:
        self.word = word

    def process(self, ctx: Context, value: Any) -> Any:
        if ctx.item.attempt < 3:
            raise ConnectionError(f"attempt {ctx.item.attempt}")
        return self.word, value, ctx.item.attempt


@dataclass(frozen=True)
class Frozen(Node):
    word: str

    def process(self, ctx: Context, value: Any) -> Any:
        return FailsTwice(self.word).process(ctx, value)


class Slotted(Node):
    __slots__ = ("word",)

    def __init__(self, word: str) -> None:
        self.word = word

    def process(self, ctx: Context, value: Any) -> Any:
        return FailsTwice(self.word).process(ctx, value)


class Forgetful(FailsTwice):
    """Does not take everything along to the workers, its options neither."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.here = "only"

    def __getstate__(self) -> dict[str, Any]:
        return {"word": self.word}


def at_third(ctx: Context, values: Any) -> list[Any]:
    if ctx.item.attempt < 3:
        raise ConnectionError(f"attempt {ctx.item.attempt}")
    return list(values)


@node
def fails_if_bad(ctx: Context, value: int) -> Any:
    if value < 0 and ctx.item.attempt == 1:
        raise ConnectionError("try me again")
    return value, ctx.item.attempt


def one_waits(seconds: float) -> type[Workflow]:
    """A negative number waits for its retry so long, the others are done at once."""
    work = with_retry(fails_if_bad, RetryPolicy(max_attempts=2, initial_backoff=seconds, max_backoff=seconds))
    return Workflow.build("OneWaits", {"split": split, "work": work}, "split", {"split": "work"})


class Anything(Node):
    def process(self, value: Any) -> Any:
        return value


class Noted(Node):
    """Says which attempt of what it is; every 17th fails at first."""

    retry = RetryPolicy(max_attempts=2, initial_backoff=0.001)

    def process(self, ctx: Context, at: tuple[str, int]) -> tuple[str, int]:
        folder, number = at
        note(folder, "ran", f"{ctx.item.node}-{number}-{ctx.item.attempt}")
        if number % 17 == 0 and ctx.item.attempt == 1:
            raise ConnectionError("at first")
        return at


@node
def two_hundred(folder: str) -> NextAll[tuple[str, int]]:
    return NextAll((folder, n) for n in range(200))


class Stormy(Workflow):
    """Items side by side, and then the same in a batch."""

    many, one, all, batch = two_hundred, Noted(), Join(list), BatchNode(Noted(), 7)
    start = many
    edges = {many: [one], one: [all], all: [batch]}


FEED: list[Any] = []  # a sender, inline


@node
def crawl(depth: int) -> int:
    """Finds more to do for its own run."""
    for _ in range(depth):
        FEED[0].send(depth - 1)
    if not depth:
        FEED[0].close()
    return depth


class Crawl(Workflow):
    crawl = crawl
    start = crawl
