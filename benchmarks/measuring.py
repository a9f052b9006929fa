"""What the benchmarks share: interleaved rounds, medians with quartiles, a table or JSON lines, the machine."""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple


class Spread(NamedTuple):
    """Median and quartiles of some samples."""

    low: float
    median: float
    high: float

    def text(self, digits: int = 0, scale: float = 1.0) -> str:
        low, median, high = (f"{value * scale:,.{digits}f}" for value in self)
        return f"{median} ({low} .. {high})"


def spread(samples: Sequence[float]) -> Spread:
    if len(samples) == 1:
        return Spread(samples[0], samples[0], samples[0])
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Spread(low, median, high)


def ratio(of: Sequence[float], to: Sequence[float]) -> Spread:
    """How many times larger ``of`` is, from samples taken in pairs: noise that hits a whole round cancels."""
    return spread([a / b for a, b in zip(of, to, strict=True)])


def interleaved(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Samples of each contender, A B C, B C A, ...: what drifts on the machine hits all of them alike.

    A contender times itself and returns seconds, so that what it has to prepare is not counted.
    """
    names = list(contenders)
    samples: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        at = number % len(names)
        for name in names[at:] + names[:at]:
            samples[name].append(contenders[name]())
    return samples


def timed(work: Callable[[], Any]) -> float:
    """Seconds that it takes."""
    before = time.perf_counter()
    work()
    return time.perf_counter() - before


def resident(pid: int | str = "self") -> int:
    """Bytes of memory that a process has now."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    """Bytes of memory that this process had at the most.

    That is the kernel's ``VmHWM``. ``ru_maxrss`` would be the same, but is inherited from the process that started it.
    """
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def cpu_times() -> tuple[int, int]:
    """Ticks that all CPUs were busy and idle since the machine was started."""
    with open("/proc/stat") as file:
        numbers = [int(field) for field in file.readline().split()[1:9]]
    idle = numbers[3] + numbers[4]
    return sum(numbers) - idle, idle


class Neighbours:
    """What others use of the CPUs from now on. Much above 3 % means to measure again."""

    def __init__(self) -> None:
        self._used, self._idle = cpu_times()

    def share(self) -> float:
        """Of all CPUs, without what this process and those of its children that have ended used."""
        used, idle = cpu_times()
        ticks = os.sysconf("SC_CLK_TCK")
        ours = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        busy, free = (used - self._used) / ticks, (idle - self._idle) / ticks
        return max(0.0, busy - ours) / (busy + free) if busy else 0.0


class Paper:
    """Where results go: rows of a table for people, or JSON lines for programs."""

    def __init__(self, benchmark: str, as_json: bool) -> None:
        self._benchmark = benchmark
        self._json = as_json
        self.record(
            "machine",
            python=platform.python_version(),
            cpus=len(os.sched_getaffinity(0)),
            load=round(os.getloadavg()[0], 2),
            processor=_processor(),
        )
        self.say(
            f"Python {platform.python_version()}, {len(os.sched_getaffinity(0))} CPUs ({_processor()}), "
            f"load {os.getloadavg()[0]:.2f}"
        )

    def say(self, text: str = "") -> None:
        """A line for people."""
        if not self._json:
            print(text, flush=True)

    def record(self, kind: str, **facts: Any) -> None:
        """A line for programs."""
        if self._json:
            print(json.dumps({"benchmark": self._benchmark, "kind": kind, **facts}), flush=True)

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        rows = [head, *rows]
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        for row in rows:
            cells = [row[0].ljust(widths[0])]
            cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            self.say("  " + "   ".join(cells))

    def target(self, what: str, reached: float, wanted: float, most: bool = False) -> bool:
        """One number that was promised: "at least", or "at most"."""
        met = reached <= wanted if most else reached >= wanted
        self.record("target", what=what, reached=round(reached, 3), wanted=wanted, most=most, met=met)
        bound = "most" if most else "least"
        self.say(f"  {'met   ' if met else 'MISSED'}  {what}: {reached:,.2f}, wanted at {bound} {wanted:,.2f}")
        return met


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine() or sys.platform
