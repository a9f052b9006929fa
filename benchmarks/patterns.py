"""The dependency patterns of Task Bench (Slaughter et al., SC20), what depends on what, and how METG is read off.

A graph has ``width`` columns and ``rows`` steps in time; task (row, column) depends on tasks of the row before. The
definitions are Task Bench's; ``chain`` is its ``no_comm``. ``trivial``, in which nothing depends on anything, is no
graph but a fan-out (``tasks``).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from benchmarks.tasks import busy
from floxide_mp import Join, Node, Workflow

PATTERNS = "chain", "stencil_1d", "fft", "tree", "random_nearest"
RADIX, CONNECTED = 5, 0.25  # of random_nearest: how far its neighbours are, and the share of them that is taken


def breadth(pattern: str, width: int, row: int) -> int:
    """How many tasks a row has."""
    return min(width, 1 << min(row, 62)) if pattern == "tree" else width


def parents(pattern: str, width: int, row: int, column: int) -> list[int]:
    """The columns of the row before that a task depends on, in order; of the first row, none."""
    if row == 0:
        return []
    if pattern == "chain":
        return [column]
    if pattern == "tree":
        return [column // 2]
    if pattern == "stencil_1d":
        near: Iterable[int] = range(column - 1, column + 2)
    elif pattern == "fft":
        far = 1 << (row - 1) % max(1, math.ceil(math.log2(width)))
        near = (column - far, column, column + far)
    elif pattern == "random_nearest":
        drawn = random.Random(f"{row} {column}")
        around = range(column - RADIX // 2, column + (RADIX - 1) // 2 + 1)
        near = [c for c in around if drawn.random() < CONNECTED or c == column]
    else:
        raise ValueError(f"no pattern {pattern!r}")
    return [c for c in near if 0 <= c < width]


def tasks(pattern: str, width: int, rows: int) -> Iterator[tuple[int, int, list[int]]]:
    """Row, column and parents of each task, row by row."""
    for row in range(rows):
        for column in range(breadth(pattern, width, row)):
            yield row, column, parents(pattern, width, row, column)


def count(pattern: str, width: int, rows: int) -> int:
    return sum(breadth(pattern, width, row) for row in range(rows))


# -- in our words -----------------------------------------------------------------------------------------------


class Begin(Node):
    """Hands the number of iterations to the first row."""

    def process(self, iterations: int) -> int:
        return iterations


class Task(Node):
    def process(self, iterations: int) -> int:
        return busy(iterations)


def gathered(iterations: list[int]) -> int:
    return busy(iterations[0])


def workflow(pattern: str, width: int, rows: int) -> type[Workflow]:
    """The pattern as a graph of nodes: a ``Join`` where a task has several parents."""
    nodes: dict[str, Node] = {"begin": Begin()}
    edges: dict[str, list[str]] = {"begin": []}
    for row, column, above in tasks(pattern, width, rows):
        name = f"r{row}c{column}"
        nodes[name] = Join(gathered) if len(above) > 1 else Task()
        edges[name] = []
        for parent in [f"r{row - 1}c{c}" for c in above] or ["begin"]:
            edges[parent].append(name)
    return Workflow.build(pattern, nodes=nodes, start="begin", edges=edges)


# -- METG -------------------------------------------------------------------------------------------------------


class Point(NamedTuple):
    """Of a sweep: how long a task is, in seconds, and the efficiency that was reached with such tasks."""

    duration: float
    efficiency: float


def metg(points: Sequence[Point], least: float = 0.5) -> float:
    """The shortest task that keeps this efficiency: seconds, by the logarithm of durations between two points.

    Where even the shortest keeps it, that is the answer; where the longest does not, infinity.
    """
    below: Point | None = None
    for point in sorted(points):
        if point.efficiency < least:
            below = point
        elif below is None:
            return point.duration
        else:
            share = (least - below.efficiency) / (point.efficiency - below.efficiency)
            return below.duration * math.pow(point.duration / below.duration, share)
    return math.inf
