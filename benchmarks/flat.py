"""The cost of a step must not grow with what has been done: ``python -m benchmarks.flat [--json]``.

Three runs of a million steps each, on two workers:

- ``wide``: one fan-out. At first a million items wait and none is over; at the end it is the other way round.
- ``laps``: a thousand items, each going round a loop a thousand times. What waits stays the same; what is over grows.
- ``laps, an event each``: the same, and the log of the run grows from nothing to a million events.

Each is cut into windows of equally many steps; the cost of a step in one of the last windows is compared with
that in one of the first (medians of three windows each, without the very first, where the split runs). All steps are
finished by one process, the coordinator's, so its CPU time per step is shown beside the wall clock: other work
on the machine disturbs it less. So are its memory, and its time in the garbage collector, which walks all that
lives and is the first suspect when something grows.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

from benchmarks import flows
from benchmarks.measuring import Paper, resident
from floxide_mp import Coordinator, RunStatus, Workflow

WORKERS = 2


class Sample(NamedTuple):
    """The coordinator at a moment."""

    steps: int
    wall: float
    cpu: float
    collecting: float
    resident: int


@contextmanager
def collector_watched() -> Iterator[Callable[[], float]]:
    """Gives a function that says how many seconds the garbage collector has taken in this process."""
    total, began = 0.0, 0.0

    def note(phase: str, info: dict[str, int]) -> None:
        nonlocal total, began
        if phase == "start":
            began = time.perf_counter()
        else:
            total += time.perf_counter() - began

    gc.callbacks.append(note)
    try:
        yield lambda: total
    finally:
        gc.callbacks.remove(note)


def observe(coordinator: Coordinator, workflow: type[Workflow], value: Any, every: float) -> list[Sample]:
    """Run it, and look at it now and then."""
    with collector_watched() as collecting:
        run = coordinator.start(workflow, value)
        samples = []
        while True:
            try:
                run.wait(every)
            except TimeoutError:
                pass
            info = run.info()
            cpu = time.process_time()
            samples.append(Sample(info.metrics.completed, time.perf_counter(), cpu, collecting(), resident()))
            if info.status is not RunStatus.RUNNING:
                return samples


class Window(NamedTuple):
    """What happened between two samples."""

    until: int
    wall: float  # seconds per step, as the two behind it
    cpu: float
    collecting: float
    resident: int


def windows(samples: list[Sample], count: int) -> list[Window]:
    """Samples at the borders of ``count`` windows of equally many steps, as nearly as there are samples."""
    total = samples[-1].steps
    borders = [samples[0]]
    for number in range(1, count + 1):
        border = next(s for s in samples if s.steps >= total * number / count)
        if border.steps > borders[-1].steps:
            borders.append(border)
    found = []
    for before, after in pairwise(borders):
        steps = after.steps - before.steps
        found.append(
            Window(
                after.steps,
                (after.wall - before.wall) / steps,
                (after.cpu - before.cpu) / steps,
                (after.collecting - before.collecting) / steps,
                after.resident,
            )
        )
    return found


def growth(found: list[Window], what: Callable[[Window], float]) -> float:
    """The last windows' cost of a step, in that of the first ones."""
    some = max(1, min(3, (len(found) - 1) // 2))
    first, last = found[1 : 1 + some] or found, found[-some:]
    return statistics.median(map(what, last)) / statistics.median(map(what, first))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.flat", description="whether the cost of a step grows")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--windows", type=int, default=10)
    parser.add_argument("--every", type=float, default=0.05, help="seconds between two looks at the run")
    parser.add_argument("--most", type=float, default=1.25, help="growth that is still called flat")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of tables")
    options = parser.parse_args(arguments)
    paper = Paper("flat", options.json)
    beside = max(1, round(options.steps**0.5))
    laps = (beside, max(1, options.steps // beside))
    runs: list[tuple[str, type[Workflow], Any]] = [
        ("wide", flows.FanOut, options.steps),
        ("laps", flows.Laps, laps),
        ("laps, an event each", flows.NotingLaps, laps),
    ]
    met = True
    for name, workflow, value in runs:
        # A coordinator each: what the run before has left in its store is not this run's.
        with Coordinator(workers=WORKERS) as coordinator:
            coordinator.start(flows.FanOut, 1000).wait()
            found = windows(observe(coordinator, workflow, value, options.every), options.windows)
        met &= report(paper, name, found, options.most)
        gc.collect()
    return 0 if met else 1


def report(paper: Paper, name: str, found: list[Window], most: float) -> bool:
    rows = []
    for window in found:
        rows.append(
            (
                f"{window.until:,}",
                f"{1 / window.wall:,.0f}",
                f"{window.wall * 1e6:.1f}",
                f"{window.cpu * 1e6:.1f}",
                f"{window.collecting * 1e6:.1f}",
                f"{window.resident / 2**20:,.0f}",
            )
        )
        facts = {f"{k}_us": round(getattr(window, k) * 1e6, 2) for k in ("wall", "cpu", "collecting")}
        paper.record("window", run=name, until=window.until, **facts, resident=window.resident)
    paper.say(f"\n{name}: {found[-1].until:,} steps, {WORKERS} workers; microseconds are of the coordinator, per step")
    paper.table(("steps until", "steps/s", "wall us", "CPU us", "of that gc us", "MiB"), rows)
    wall, cpu = growth(found, lambda w: w.wall), growth(found, lambda w: w.cpu)
    paper.record("growth", run=name, wall=round(wall, 3), cpu=round(cpu, 3), most=most, pid=os.getpid())
    flat = cpu <= most
    paper.say(
        f"  {'flat' if flat else 'GROWS'}: a late step costs {wall:.2f} times an early one; in CPU {cpu:.2f} times"
    )
    return flat


if __name__ == "__main__":
    raise SystemExit(main())
