"""The workflows of the benchmarks, in a module that worker processes import by name."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

from floxide_mp import Context, EventLog, Join, NextAll, Node, Workflow, node, when


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
class CommitQueue(Context):
    log: EventLog[int] = field(default_factory=EventLog)


@node
def noting(ctx: CommitQueue, value: int) -> int:
    ctx.log.append(value)
    return value


class NotingFanOut(Workflow):
    """The same, and each step writes one event."""

    context = CommitQueue
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
def noting_turn(ctx: CommitQueue, laps: int) -> int:
    ctx.log.append(laps)
    return laps - 1


class NotingLaps(Workflow):
    """The same, and each step writes one event."""

    context = CommitQueue
    split = node(lambda size: NextAll([size[1]] * size[0]))
    work = noting_turn

    start = split
    edges = {split: [work], work: {when(int, bool): [work], int: []}}


def spend(seconds: float) -> None:
    """Use so much CPU time: on a machine that others use, too, it is then the same work for all contenders."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


class Spend(Node):
    """Takes so many seconds and passes a number on."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def process(self, value: int) -> int:
        spend(self.seconds)
        return value

    def join(self, arrived: list[int]) -> int:
        return self.process(len(arrived))


def acyclic(nodes: int, edges: int, seconds: float, seed: int = 1) -> type[Workflow]:
    """A random graph without loops: edges lead at most 200 nodes on; nodes with several before them are joins."""
    chance = random.Random(seed)
    pairs = {(chance.randrange(max(0, to - 200), to), to) for to in range(1, nodes)}
    while len(pairs) < edges:
        to = chance.randrange(1, nodes)
        pairs.add((chance.randrange(max(0, to - 200), to), to))
    before = Counter(to for _, to in pairs)
    after: dict[str, list[str]] = {}
    for origin, to in sorted(pairs):
        after.setdefault(f"n{origin}", []).append(f"n{to}")
    spends = Spend(seconds)
    made = {f"n{number}": Join(spends.join) if before[number] > 1 else Spend(seconds) for number in range(nodes)}
    return Workflow.build("Acyclic", nodes=made, start="n0", edges=after)


@node
def noting_many(ctx: CommitQueue, count: int) -> int:
    for number in range(count):
        ctx.log.append(number)
    return count


def reading_all(ctx: CommitQueue, arrived: list[int]) -> tuple[int, int, float]:
    """How many events there are, their sum, and how many seconds it took to read them."""
    before = time.perf_counter()
    total = count = 0
    for number in ctx.log:
        total += number
        count += 1
    return count, total, time.perf_counter() - before


class LateReader(Workflow):
    """So many steps that write so many events each, and one at the end that reads the log once."""

    context = CommitQueue
    split = node(lambda size: NextAll([size[1]] * size[0]))
    write = noting_many
    read = Join(reading_all)

    start = split
    edges = {split: [write], write: [read]}


@node
def generated(count: int) -> NextAll[int]:
    return NextAll(number for number in range(count))


class Generated(Workflow):
    """So many items out of a generator, a step for each, and a join that counts them."""

    split = generated
    work = node(noop)
    count = Join(len)

    start = split
    edges = {split: [work], work: [count]}
