"""Irregular graphs for ``benchmarks.makespan``: their shapes, durations and workflows, how long a list schedule of them
takes, and how long a run on workers that cost nothing, which needs no process.
"""

from __future__ import annotations

import heapq
import mmap
import random
import struct
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate
from typing import Any, NamedTuple, TypeAlias

from floxide_mp import Join, Workflow, node
from floxide_mp.coordinator.active_run import ActiveRun, progress_of
from floxide_mp.coordinator.cost_model import CostModel
from floxide_mp.coordinator.event_tail import Tail
from floxide_mp.coordinator.iterator_affinity import IteratorAffinity
from floxide_mp.core.plan import Plan
from floxide_mp.core.records import Chunk, ItemRecord
from floxide_mp.core.run_state import RunState
from floxide_mp.messages import NEXT, ONE_BY_ONE
from floxide_mp.ports import RunRecord

MACHINES = 2

Durations: TypeAlias = Callable[[int, float, int], list[float]]  # of so many nodes, with this mean and seed


class Shape(NamedTuple):
    """A layered graph. ``parents[n]`` are all less than ``n``, and only node 0 has none."""

    parents: tuple[tuple[int, ...], ...]

    def children(self) -> list[list[int]]:
        found: list[list[int]] = [[] for _ in self.parents]
        for number, parents in enumerate(self.parents):
            for parent in parents:
                found[parent].append(number)
        return found


def layered(nodes: int, width: int, seed: int) -> Shape:
    """Layers of 1 to ``2 * width`` nodes. A node has one to three parents, of which four in five are in the layer
    before, and the others at most four layers back.
    """
    chance = random.Random(f"{seed} layers")
    layers = [[0]]
    parents: list[tuple[int, ...]] = [()]
    while len(parents) < nodes:
        size = min(chance.randint(1, 2 * width), nodes - len(parents))
        layer = list(range(len(parents), len(parents) + size))
        for _ in layer:
            count = chance.choice((1, 1, 2, 2, 3))
            back = [1 if chance.random() < 0.8 else chance.randint(1, min(4, len(layers))) for _ in range(count)]
            parents.append(tuple(sorted({chance.choice(layers[-step]) for step in back})))
        layers.append(layer)
    return Shape(tuple(parents))


def log_normal(count: int, mean: float, seed: int) -> list[float]:
    """Seconds; one in a hundred is more than eight times the mean."""
    chance = random.Random(f"{seed} log-normal")
    return _scaled([chance.lognormvariate(0.0, 1.2) for _ in range(count)], mean)


def pareto(count: int, mean: float, seed: int) -> list[float]:
    """Seconds; the index is 1.5, so that there is no end to their variance."""
    chance = random.Random(f"{seed} Pareto")
    return _scaled([chance.paretovariate(1.5) for _ in range(count)], mean)


def _scaled(seconds: list[float], mean: float) -> list[float]:
    factor = mean * len(seconds) / sum(seconds)
    return [value * factor for value in seconds]


# -- off line ---------------------------------------------------------------------------------------------------


def upward(shape: Shape, seconds: Sequence[float]) -> list[float]:
    """The upward rank of each node. Not that of ``core.rank``: what we are compared with owes nothing to us."""
    rank = list(seconds)
    for number in range(len(rank) - 1, 0, -1):
        for parent in shape.parents[number]:
            rank[parent] = max(rank[parent], seconds[parent] + rank[number])
    return rank


class ByRank:
    """The nodes of a graph, whose ``ready`` ones are taken by their upward rank."""

    def __init__(self, shape: Shape, seconds: Sequence[float]) -> None:
        self._rank = upward(shape, seconds)
        self._children = shape.children()
        self._missing = [len(parents) for parents in shape.parents]
        self.ready = [(-self._rank[0], 0)]

    def take(self) -> int:
        return heapq.heappop(self.ready)[1]

    def done(self, number: int) -> None:
        for child in self._children[number]:
            self._missing[child] -= 1
            if not self._missing[child]:
                heapq.heappush(self.ready, (-self._rank[child], child))


def list_schedule(shape: Shape, seconds: Sequence[float]) -> float:
    """Its makespan when a machine that is free takes the node of the highest upward rank of those that may start.

    This is HEFT for machines that are alike and talk for nothing, but for the gaps, which it does not leave.
    """
    todo = ByRank(shape, seconds)
    running: list[tuple[float, int]] = []
    now = 0.0
    while todo.ready or running:
        while todo.ready and len(running) < MACHINES:
            first = todo.take()
            heapq.heappush(running, (now + seconds[first], first))
        now, over = heapq.heappop(running)
        todo.done(over)
    return now


def bound(shape: Shape, seconds: Sequence[float]) -> float:
    """No schedule is shorter."""
    return max(sum(seconds) / MACHINES, upward(shape, seconds)[0])


# -- the core alone ---------------------------------------------------------------------------------------------

RECORD = RunRecord("run", "Irregular", b"", b"", b"", b"", 0, 0.0, None, False, {}, (), ())


HELD = 0.005  # seconds, about, that a worker holds back results, beyond those that it asked for


def simulated(plan: Plan, seconds: Sequence[float], cost: list[float | None], want: float, workers: int) -> float:
    """The makespan of a run whose steps take so long and nothing else takes any time.

    Args:
        seconds: a step takes, by node.
        cost: what is known of that before; afterwards it is what has been learned.
        want: seconds of work that a machine asks for at a time.
        workers: how many the run believes there are: for one it takes items in their own order.
    """
    state = RunState(plan)
    run = ActiveRun(RECORD, progress_of(state, None), state, CostModel(cost), Tail(0))
    state.start(b"")
    coming: list[
        tuple[float, int, list[int], bool]
    ] = []  # reports: when, of which lease, which nodes, if it is its last
    leases: dict[int, list[ItemRecord | Chunk]] = {}
    now, number = 0.0, 0
    while not state.over:
        while len(leases) < MACHINES and (items := run.claim(number + 1, 0, want, workers)):
            number += 1
            leases[number] = items
            which = [plan.places[item.place].node for item in items]
            for when, nodes, last in _reports(plan, seconds, which, want):
                heapq.heappush(coming, (now + when, number, nodes, last))
        now, lease, nodes, last = heapq.heappop(coming)
        results = [(NEXT, ((0, b""),), (), None, False) for _ in nodes]
        leases[lease] = run.apply(leases[lease], results, (lease, 0), not last, IteratorAffinity(0))
        if last:
            del leases[lease]
        run.cost_model.observe([(which, 1, seconds[which]) for which in nodes])
        state.take_commit()
    return now


def _reports(
    plan: Plan, seconds: Sequence[float], nodes: list[int], want: float
) -> list[tuple[float, list[int], bool]]:
    """When a worker tells what. From a single item it goes on with successors as long as it has time."""
    goes_on = len(nodes) == 1 and want > ONE_BY_ONE
    ends = list(accumulate(seconds[which] for which in nodes))
    while goes_on and ends[-1] < want and (after := plan.chained[nodes[-1]][0]) >= 0:
        nodes.append(after)
        ends.append(ends[-1] + seconds[after])
    early = bisect_right(ends, want + HELD)
    if goes_on and 0 < early < len(nodes):
        return [(want + HELD, nodes[:early], False), (ends[-1], nodes[early:], True)]
    return [(ends[-1], nodes, True)]


# -- with processes ---------------------------------------------------------------------------------------------

STAMP = struct.Struct("dd")  # what a step took: seconds of CPU, seconds by the clock


def spin(turns: int) -> None:
    """Compute."""
    value = 1
    for _ in range(turns):
        value = value * 31 % 1009


@cache
def stamps(path: str) -> mmap.mmap:
    """Where the steps leave what they took, by node: their values do not carry it."""
    with open(path, "r+b") as file:
        return mmap.mmap(file.fileno(), 0)


class Work(NamedTuple):
    """One node's work: where it leaves its stamp, which node it is, and for how long it computes."""

    path: str
    number: int
    turns: int

    def __call__(self, value: object) -> int:
        clock, cpu = time.perf_counter(), time.thread_time()
        spin(self.turns)
        cpu, clock = time.thread_time() - cpu, time.perf_counter() - clock
        STAMP.pack_into(stamps(self.path), self.number * STAMP.size, cpu, clock)
        return self.number


def workflow(shape: Shape, works: Sequence[Work]) -> type[Workflow]:
    """The graph for workers, its nodes named by their numbers."""
    kinds: tuple[Any, Any] = node, Join
    nodes = {
        str(work.number): kinds[len(parents) > 1](work) for work, parents in zip(works, shape.parents, strict=True)
    }
    edges = {str(number): [str(child) for child in after] for number, after in enumerate(shape.children()) if after}
    return Workflow.build("Irregular", nodes=nodes, start="0", edges=edges)
