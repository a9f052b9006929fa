"""What a task of ``benchmarks.metg`` does, and the scenarios made of such tasks that each contender plays.

A task is a loop of so many iterations and never looks at a clock. What an iteration costs is measured in the very
process that runs the tasks, right before they are timed, in CPU time: processes of one program differ by some percent.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from benchmarks.flows import noop

_NUMBERS = (1, 2, 3, 4, 5, 6, 7, 8)


def busy(iterations: int) -> int:
    """Keep a CPU busy, some 50 ns an iteration, nearly all in one C function; gives the number back."""
    for _ in repeat(None, iterations):
        sum(_NUMBERS)
    return iterations


def clocked(iterations: int) -> float:
    """Seconds of CPU time that an iteration takes here and now."""
    before = time.thread_time()
    busy(iterations)
    return (time.thread_time() - before) / iterations


@dataclass(frozen=True)
class Tasks:
    """A contender of ``steps`` and ``metg``.

    Attributes:
        each: ``each(function, values)`` has every value worked on by itself, and gives what came out, in any order.
        chain: does so many steps, one after the other, each with what the one before it gave.
        graph: ``graph(pattern, width, rows, iterations)`` runs one of ``benchmarks.patterns``.
    """

    each: Callable[[Callable[[int], Any], Sequence[int]], Iterable[Any]]
    chain: Callable[[int], object] | None = None
    graph: Callable[[str, int, int, int], object] | None = None

    def fan_out(self, steps: int) -> None:
        """So many that do nothing."""
        self._done(noop, range(steps))

    def clock(self, count: int, iterations: int) -> float:
        """What an iteration costs in its workers: the median of what ``count`` tasks found."""
        found: float = statistics.median(self.each(clocked, [iterations] * count))
        return found

    def alike(self, count: int, iterations: int) -> None:
        """So many independent tasks of one length."""
        self._done(busy, [iterations] * count)

    def skewed(self, name: str, count: int, iterations: int) -> None:
        """Independent tasks of different lengths; see ``lengths``."""
        self._done(busy, lengths(name, count, iterations))

    def _done(self, function: Callable[[int], int], values: Sequence[int]) -> None:
        given = sum(1 for _ in self.each(function, values))
        assert given == len(values), f"{given} results of {len(values)}"


def lengths(name: str, count: int, mean: int) -> list[int]:
    """Iterations of ``count`` tasks.

    - ``one long``: all alike but one, which takes as long as a quarter of all and comes after three quarters of them.
      So any schedule without an idle worker is the best one, unless short tasks wait behind the long one.
    - ``heavy tail``: Pareto, shape 1.5, the longest some hundred times the shortest, in an order that looks random.
    """
    if name == "one long":
        values = [mean] * count
        values[count * 3 // 4] = mean * count // 4
        return values
    assert name == "heavy tail", name
    randomly = random.Random(1)
    drawn = [min(randomly.paretovariate(1.5), 100.0) for _ in range(count)]
    return [max(1, round(value * mean * count / math.fsum(drawn))) for value in drawn]


def ideal(values: Sequence[float], workers: int) -> float:
    """What no schedule can beat: all of it, evenly shared, or the longest."""
    return max(math.fsum(values) / workers, max(values))
