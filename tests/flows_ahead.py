"""Chains, loops and fan-outs whose steps do something unusual now and then, for ``test_ahead`` and ``test_blocks``."""

from __future__ import annotations

import ctypes
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from floxide_mp import Context, EventLog, Hold, Join, NextAll, Node, RetryPolicy, Workflow, node

from .flows_run import enter, until

FLAKY = RetryPolicy(max_attempts=4, initial_backoff=0.001)


@dataclass
class Log(Context):
    log: EventLog[Any]


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def note(folder: str, name: str) -> int:
    """A byte more in a file, whoever else writes and dies; gives how many there are."""
    fd = os.open(os.path.join(folder, name), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, b".")
        return os.fstat(fd).st_size
    finally:
        os.close(fd)


# -- chains -------------------------------------------------------------------------------------------------------


class Step(Node):
    """Step number ``number`` of a chain, which does ``how``. What it leaves elsewhere is in ``folder``."""

    def __init__(self, number: int, how: str = "", folder: str = "") -> None:
        self.number, self.how, self.folder = number, how, folder

    def process(self, ctx: Log, value: int) -> int:
        if self.how:
            getattr(self, self.how)(ctx)
        ctx.log.append(self.number)
        return value + 1

    def dies(self, ctx: Log) -> None:
        note(self.folder, f"step{self.number}")
        die()

    def notes(self, ctx: Log) -> None:
        note(self.folder, f"step{self.number}")

    def dies_once(self, ctx: Log) -> None:
        if note(self.folder, f"step{self.number}") == 1:
            die()

    def exits(self, ctx: Log) -> None:
        os._exit(3)

    def reads(self, ctx: Log) -> None:
        seen = list(ctx.log)
        assert [one for one in seen if isinstance(one, int)] == list(range(self.number)), seen

    def asks(self, ctx: Log) -> None:
        item = ctx.item
        note(self.folder, f"id{item.item_id}")
        ctx.log.append((item.node, item.attempt, item.seed, item.order))

    def raises(self, ctx: Log) -> None:
        if ctx.item.attempt < 3:
            raise ValueError(f"attempt {ctx.item.attempt}")

    def forks(self, ctx: Log) -> None:
        child = os.fork()
        if child:
            assert os.waitpid(child, 0) == (child, 0)

    def waits(self, ctx: Log) -> None:
        gate = Path(self.folder)
        enter(gate)
        until(lambda: (gate / "open").exists())

    def holds_everything(self, ctx: Log) -> None:
        """No other thread of the worker gets to run."""
        enter(Path(self.folder))
        ctypes.PyDLL(None).sleep(60)


def chain(count: int, unusual: dict[int, str] | None = None, folder: Path | str = "", **options: Any) -> type[Workflow]:
    """So many steps, of which some are unusual; ``options`` are these nodes'."""
    unusual = unusual or {}
    nodes: dict[str, Node] = {}
    for number in range(count):
        step = Step(number, unusual.get(number, ""), str(folder))
        nodes[f"s{number}"] = step
        if number in unusual:
            for name, value in options.items():
                setattr(step, name, value)
    edges = {f"s{number}": [f"s{number + 1}"] for number in range(count - 1)}
    return Workflow.build("Chain", nodes, "s0", edges, context=Log)


# -- a loop -------------------------------------------------------------------------------------------------------


class More(int):
    """Not there yet."""


@dataclass
class Round(Node):
    """Counts to ``count``; slowly enough for somebody to come in between."""

    count: int

    def process(self, ctx: Log, value: int) -> int:
        ctx.log.append(int(value))
        return More(value + 1) if value + 1 < self.count else int(value)


def loop(count: int) -> type[Workflow]:
    return Workflow.build(
        "Loop", {"round": Round(count)}, "round", {"round": {More: ["round"], object: []}}, context=Log
    )


# -- a fan-out ----------------------------------------------------------------------------------------------------


class Odd(int):
    """Goes another way."""


@dataclass(frozen=True)
class Many:
    """``deaths``: where those that end their worker, once, leave a note; "" if none does."""

    count: int
    deaths: str = ""


@node
def spread(many: Many) -> NextAll[tuple[int, str]]:
    return NextAll((number, many.deaths) for number in range(many.count))


@node(retry=FLAKY)
def work(ctx: Log, given: tuple[int, str]) -> Any:
    number, deaths = given
    if number % 997 == 5:
        raise ValueError(f"no {number}")
    if number % 499 == 3 and ctx.item.attempt == 1:
        raise OSError(f"not yet {number}")
    if number % 1009 == 7:
        return Hold()
    if deaths and number % 2503 == 100 and note(deaths, f"item{number}") == 1:
        die()
    if number % 101 == 11:
        ctx.log.append(number)
    return Odd(number) if number % 13 == 3 else number


@node
def double(number: int) -> int:
    return 2 * number


@node
def odd(ctx: Log, number: int) -> str:
    if number % 5 == 0:
        ctx.log.append(f"odd {number}")
    return f"odd {int(number)}"


@node
def mourn(ctx: Log, given: tuple[int, str]) -> str:
    return f"lost {given[0]}: {ctx.item.error}"


@node
def numbers(count: int) -> NextAll[int]:
    return NextAll(range(count))


class Doubled(Workflow):
    numbers, double = numbers, double
    start = numbers
    edges = {numbers: [double]}


class FanOut(Workflow):
    context = Log
    spread, work, double, odd, mourn = spread, work, double, odd, mourn
    start = spread
    edges = {spread: [work], work: {Odd: [odd], int: [double]}}
    on_failure = {work: [mourn]}


class Collected(Workflow):
    """... whose values meet again."""

    context = Log
    spread, work, double, odd, mourn = spread, work, double, odd, mourn
    all = Join()
    start = spread
    edges = {spread: [work], work: {Odd: [odd], int: [double]}, double: [all], odd: [all], mourn: [all]}
    on_failure = {work: [mourn]}
