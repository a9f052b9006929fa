"""How long irregular graphs take beside a list schedule that knows all: ``python -m benchmarks.makespan [--json]``.

Random layered graphs with heavy-tailed durations, on two workers. They are narrow enough for it to matter which node
goes first: where dozens of nodes are ready at any time, any order is good.

A run's time, from its start until its output is there, is divided by the makespan of a list schedule on two machines
(the node of the highest upward rank first, as in HEFT) that is computed afterwards from what the nodes took **in that
very run**. A node computes for a fixed number of turns, because one that sleeps would let the coordinator have its CPU
for nothing. What it took is the CPU time of its thread: two busy workers and a coordinator share two CPUs, and what a
worker loses to the coordinator is a cost of ours, not a longer node. So are, alas, CPUs that other programs take, which
is why it is also shown by the clock (where neither counts), and how much CPU went elsewhere.

- ``first run``: nobody knows how long its nodes take.
- ``later runs``: of the same workflow on the same coordinator.
- ``ProcessPoolExecutor``: a list scheduler written by hand on top of it, which is told the durations beforehand.
- ``dask``: ``distributed``, two processes, where it is installed; the small graphs only.

Before, ``the core alone``: the same graphs at workers and messages that cost nothing, so what is left is the order in
which the core hands items out.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from queue import SimpleQueue
from typing import Any, NamedTuple

from benchmarks import flows, irregular
from benchmarks.irregular import MACHINES, STAMP, ByRank, Shape, Work
from benchmarks.measuring import Paper, cpu_times, interleaved, spread, timed
from floxide_mp import Coordinator

FIRST, LATER = "floxide_mp, first run", "floxide_mp, later runs"
EXECUTOR, DASK = "ProcessPoolExecutor, by hand", "dask"
DURATIONS = {"log-normal": irregular.log_normal, "Pareto": irregular.pareto}
DASK_AT_MOST = 1000  # nodes


class Case(NamedTuple):
    """A graph, and how many rounds it is run."""

    nodes: int
    width: int
    durations: str
    seed: int
    rounds: int

    @property
    def title(self) -> str:
        return f"{self.nodes:,} nodes, {self.width} wide, {self.durations}"

    def shape(self) -> Shape:
        return irregular.layered(self.nodes, self.width, self.seed)

    def seconds(self, mean: float) -> list[float]:
        return DURATIONS[self.durations](self.nodes, mean, self.seed)


CASES = (
    *(Case(500, width, name, width, 3) for width in (2, 3, 6) for name in DURATIONS),
    Case(2000, 3, "Pareto", 1, 2),
    Case(5000, 4, "log-normal", 1, 1),
)


# -- the core alone ---------------------------------------------------------------------------------------------


def core_alone(paper: Paper, cases: list[Case], mean: float, seeds: int) -> dict[str, list[float]]:
    """Makespans in list schedules, of several graphs of each kind: in order, of first runs and of later ones."""
    every: dict[str, list[float]] = {"in order": [], "first run": [], "later runs": []}
    rows = []
    for case in cases:
        found: dict[str, list[float]] = {name: [] for name in every}
        for seed in range(seeds):
            drawn = case._replace(seed=seed)
            shape, seconds = drawn.shape(), drawn.seconds(mean)
            plan = irregular.workflow(shape, [Work("", k, 0) for k in range(case.nodes)]).__compiled__.plan
            best = irregular.list_schedule(shape, seconds)
            cost: list[float | None] = [None] * case.nodes
            for name, workers in (("first run", MACHINES), ("later runs", MACHINES), ("in order", 1)):
                found[name].append(irregular.simulated(plan, seconds, cost, 0.004, workers) / best)
        rows.append((case.title, *(f"{statistics.median(found[n]):.3f} ({max(found[n]):.3f})" for n in every)))
        for name, ratios in found.items():
            every[name] += ratios
            paper.record("core alone", case=case.title, order=name, ratios=[round(r, 4) for r in ratios])
    paper.say(f"\nthe core alone, {seeds} graphs of each kind: makespan in list schedules, median (worst)")
    paper.table(("", *every), rows)
    return every


# -- with processes ---------------------------------------------------------------------------------------------


class Sample(NamedTuple):
    """A run. ``elsewhere`` is the part of the machine's CPU time that was used, but not by the nodes."""

    seconds: float
    ratio: float  # in list schedules of what the nodes took in CPU time
    by_clock: float  # ... and by the clock
    mean: float  # seconds of CPU time a node
    elsewhere: float


class Stage:
    """One graph, and who runs it.

    Args:
        turns_a_second: of ``irregular.spin``.
    """

    def __init__(self, case: Case, mean: float, turns_a_second: float, path: str) -> None:
        self.shape, self.nominal, self.path = case.shape(), case.seconds(mean), path
        self.works = [Work(path, number, int(s * turns_a_second)) for number, s in enumerate(self.nominal)]
        self.workflow = irregular.workflow(self.shape, self.works)
        self._names = itertools.count()
        with open(path, "wb") as file:
            file.truncate(STAMP.size * case.nodes)

    def sample(self, run: Callable[[], object]) -> Sample:
        busy, idle = cpu_times()
        seconds = timed(run)
        busy_after, idle_after = cpu_times()
        with open(self.path, "rb") as file:
            cpu, clock = zip(*STAMP.iter_unpack(file.read()), strict=True)
        ticks = busy_after - busy + idle_after - idle
        used = (busy_after - busy) / max(1, ticks) * seconds * (os.cpu_count() or 1)
        return Sample(
            seconds,
            seconds / irregular.list_schedule(self.shape, cpu),
            seconds / irregular.list_schedule(self.shape, clock),
            statistics.fmean(cpu),
            (used - sum(cpu)) / seconds / MACHINES,
        )

    def first(self, coordinator: Coordinator) -> Sample:
        """Nobody has seen a workflow of this name."""
        fresh = irregular.workflow(self.shape, self.works, f"Irregular{next(self._names)}")
        return self.sample(lambda: coordinator.start(fresh, 0).wait())

    def later(self, coordinator: Coordinator) -> Sample:
        return self.sample(lambda: coordinator.start(self.workflow, 0).wait())

    def by_hand(self, executor: ProcessPoolExecutor) -> Sample:
        return self.sample(lambda: schedule_by_hand(executor, self.shape, self.works, self.nominal))

    def by_dask(self, client: Any) -> Sample:
        tasks = {str(w.number): (w, [str(p) for p in self.shape.parents[w.number]]) for w in self.works}
        sinks = [str(number) for number, after in enumerate(self.shape.children()) if not after]
        return self.sample(lambda: client.get(tasks, sinks))


def schedule_by_hand(executor: ProcessPoolExecutor, shape: Shape, works: list[Work], seconds: list[float]) -> None:
    """A list schedule as the nodes come to their ends."""
    todo, over, running = ByRank(shape, seconds), SimpleQueue[Future[int]](), 0
    while todo.ready or running:
        while todo.ready and running < MACHINES:
            executor.submit(works[todo.take()], 0).add_done_callback(over.put)
            running += 1
        todo.done(over.get().result())
        running -= 1


@contextmanager
def contenders() -> Iterator[dict[str, Callable[[Stage], Sample]]]:
    """All of them warm."""
    with ExitStack() as stack:
        coordinator = stack.enter_context(Coordinator(workers=MACHINES))
        coordinator.start(flows.FanOut, 1000).wait()
        context = multiprocessing.get_context("spawn")
        executor = stack.enter_context(ProcessPoolExecutor(MACHINES, mp_context=context))
        list(executor.map(flows.noop, range(1000)))
        found: dict[str, Callable[[Stage], Sample]] = {
            FIRST: lambda stage: stage.first(coordinator),
            LATER: lambda stage: stage.later(coordinator),
            EXECUTOR: lambda stage: stage.by_hand(executor),
        }
        if importlib.util.find_spec("distributed") is not None:
            from distributed import Client, LocalCluster

            cluster = LocalCluster(n_workers=MACHINES, threads_per_worker=1, dashboard_address=None)
            client = stack.enter_context(Client(stack.enter_context(cluster)))
            client.gather(client.map(flows.noop, range(1000)))
            found[DASK] = lambda stage: stage.by_dask(client)
        yield found


def with_processes(paper: Paper, cases: list[Case], mean: float) -> dict[str, dict[str, list[Sample]]]:
    """Samples by case and contender."""
    found = {}
    with tempfile.TemporaryDirectory() as directory, contenders() as every:
        turns = max(1_000_000 / timed_in_cpu(lambda: irregular.spin(1_000_000)) for _ in range(5))
        for number, case in enumerate(cases):
            stage = Stage(case, mean, turns, os.path.join(directory, str(number)))
            mine = {name: run for name, run in every.items() if name != DASK or case.nodes <= DASK_AT_MOST}
            every[LATER](stage)  # the first run of it
            found[case.title] = measured(mine, stage, case.rounds)
            report(paper, case, found[case.title])
    return found


def measured(runs: Mapping[str, Callable[[Stage], Sample]], stage: Stage, rounds: int) -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = {name: [] for name in runs}

    def once(name: str) -> float:
        samples[name].append(runs[name](stage))
        return samples[name][-1].seconds

    interleaved({name: partial(once, name) for name in runs}, rounds)
    return samples


def timed_in_cpu(work: Callable[[], object]) -> float:
    before = time.thread_time()
    work()
    return time.thread_time() - before


def report(paper: Paper, case: Case, samples: dict[str, list[Sample]]) -> None:
    rows = []
    for name, found in samples.items():
        ratio, clock = spread([s.ratio for s in found]), spread([s.by_clock for s in found])
        seconds, elsewhere = (statistics.median(getattr(s, f) for s in found) for f in ("seconds", "elsewhere"))
        mean = statistics.median(s.mean for s in found)
        rows.append(
            (name, f"{seconds:.2f}", f"{mean * 1e3:.1f}", ratio.text(3), f"{clock.median:.3f}", f"{elsewhere:.0%}")
        )
        for sample in found:
            paper.record(
                "sample", case=case.title, contender=name, **{k: round(v, 5) for k, v in sample._asdict().items()}
            )
    paper.say(f"\n{case.title}: in list schedules, median (quartiles) of {case.rounds} rounds")
    paper.table(("", "s", "node, ms", "makespan", "by the clock", "CPU elsewhere"), rows)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.makespan", description="irregular graphs beside a list schedule")
    parser.add_argument("--mean", type=float, default=0.005, help="seconds that a node takes on average")
    parser.add_argument("--nodes", type=int, help="of every graph, instead of 500 to 5,000")
    parser.add_argument("--rounds", type=int, help="of every graph, instead of 1 to 3")
    parser.add_argument("--seeds", type=int, default=4, help="graphs of each kind, for the core alone")
    parser.add_argument("--core", action="store_true", help="the core alone, without a process")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of tables")
    options = parser.parse_args(arguments)
    paper = Paper("makespan", options.json)
    cases = [case._replace(nodes=options.nodes or case.nodes, rounds=options.rounds or case.rounds) for case in CASES]
    alone = core_alone(paper, cases, options.mean, options.seeds)
    met = [
        paper.target(f"the core alone, {n}, worst", max(alone[n]), 1.05, most=True) for n in ("first run", "later runs")
    ]
    if not options.core:
        found = with_processes(paper, cases, options.mean)
        paper.say()
        for name in (LATER, FIRST):
            worst = max(statistics.median(s.ratio for s in samples[name]) for samples in found.values())
            met.append(paper.target(f"{name}: worst graph's makespan in list schedules", worst, 1.05, most=True))
    return 0 if all(met) else 1


if __name__ == "__main__":
    raise SystemExit(main())
