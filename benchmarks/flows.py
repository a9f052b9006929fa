"""The workflows of the benchmarks, in a module that worker processes import by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

from floxide_mp import Context, EventLog, NextAll, Node, Workflow, node, when


def noop(value: int) -> int:
    """What every contender runs in a step."""
    return value


@node
def spread_out(count: int) -> NextAll[int]:
    return NextAll(range(count))


class FanOut(Workflow):
    """``n`` steps beside each other."""

    split = spread_out
    work = node(noop)

    start = split
    edges = {split: [work]}


@dataclass
class Journal(Context):
    log: EventLog[int] = field(default_factory=EventLog)


@node
def noting(ctx: Journal, value: int) -> int:
    ctx.log.append(value)
    return value


class NotingFanOut(Workflow):
    """The same, and each step writes one event."""

    context = Journal
    split = node(spread_out.function)
    work = noting

    start = split
    edges = {split: [work]}


@node
def count_down(left: int) -> int:
    return left - 1


class Loop(Workflow):
    """``n`` steps one after the other, by a node that routes back to itself."""

    count = count_down

    start = count
    edges = {count: {when(int, bool): [count], int: []}}


@cache
def chain(length: int) -> type[Workflow]:
    """``length`` steps one after the other, each of a node of its own."""
    names = [f"n{number}" for number in range(length)]
    return Workflow.build(
        "Chain",
        nodes={name: Step() for name in names},
        start=names[0],
        edges={name: [after] for name, after in pairwise(names)},
    )


class Step(Node):
    def process(self, value: int) -> int:
        return value


@node
def turn(laps: int) -> int:
    return laps - 1


class Laps(Workflow):
    """So many items side by side, each going round so often: what is pending stays the same, what is over grows."""

    split = node(lambda size: NextAll([size[1]] * size[0]))
    work = turn

    start = split
    edges = {split: [work], work: {when(int, bool): [work], int: []}}


@node
def noting_turn(ctx: Journal, laps: int) -> int:
    ctx.log.append(laps)
    return laps - 1


class NotingLaps(Workflow):
    """The same, and each step writes one event."""

    context = Journal
    split = node(lambda size: NextAll([size[1]] * size[0]))
    work = noting_turn

    start = split
    edges = {split: [work], work: {when(int, bool): [work], int: []}}
