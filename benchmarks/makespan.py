"""How long irregular graphs take beside a list schedule that knows all: ``python -m benchmarks.makespan [--json]``.

Random layered graphs with heavy-tailed durations, on two workers. They are narrow enough for it to matter which node
goes first: where dozens of nodes are ready at any time, any order is good.

A run's time, from its start until its output is there, is divided by the makespan of a list schedule on two machines
(the node of the highest upward rank first, as in HEFT) that is computed afterwards from what the nodes took **in that
very run**. A node computes for a fixed number of turns: one that sleeps would let the coordinator have its CPU for
nothing. What it took is the CPU time of its thread: two busy workers and a coordinator share two CPUs, and what a
worker loses to the coordinator is a cost of ours, not a longer node. What it loses to other programs is neither, so a
ratio means something only if the machine was quiet: ``others`` is the part of the CPUs that these took, and above 5 %
nothing is judged. What the nodes took by the clock is shown, too; there, both kinds of loss are longer nodes.

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
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from queue import SimpleQueue
from typing import Any, NamedTuple

from benchmarks import flows, irregular
from benchmarks.irregular import MACHINES, STAMP, ByRank, Durations, Shape, Work
from benchmarks.measuring import Paper, cpu_times, ratio, spread, timed
from floxide_mp import Coordinator

FIRST, LATER = "floxide_mp, first run", "floxide_mp, later runs"
EXECUTOR, DASK = "ProcessPoolExecutor, by hand", "dask"
DURATIONS: dict[str, Durations] = {"log-normal": irregular.log_normal, "Pareto": irregular.pareto}
DASK_AT_MOST = 1000  # nodes
MOST = 1.05
QUIET = 0.05


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
    """A run. ``own`` and ``others`` are parts of the machine's CPU time: what our processes used beside the nodes, and
    what all others did.
    """

    seconds: float
    ratio: float  # in list schedules of what the nodes took in CPU time
    by_clock: float  # ... and by the clock
    mean: float  # seconds of CPU time a node
    own: float
    others: float


class Stage:
    """One graph, and who runs it.

    Args:
        turns_a_second: of ``irregular.spin``.
    """

    def __init__(self, case: Case, mean: float, turns_a_second: float, path: str) -> None:
        self.shape, self.nominal, self.path = case.shape(), case.seconds(mean), path
        self.works = [Work(path, number, int(s * turns_a_second)) for number, s in enumerate(self.nominal)]
        self.workflow = irregular.workflow(self.shape, self.works)
        self._fresh = itertools.count(1)
        with open(path, "wb") as file:
            file.truncate(STAMP.size * case.nodes)

    def sample(self, run: Callable[[], object]) -> Sample:
        all_before, ours_before = cpu_seconds(), tree_cpu()
        seconds = timed(run)
        everybody, ours = cpu_seconds() - all_before, tree_cpu() - ours_before
        with open(self.path, "rb") as file:
            cpu, clock = zip(*STAMP.iter_unpack(file.read()), strict=True)
        return Sample(
            seconds,
            seconds / irregular.list_schedule(self.shape, cpu),
            seconds / irregular.list_schedule(self.shape, clock),
            statistics.fmean(cpu),
            (ours - sum(cpu)) / seconds / MACHINES,
            (everybody - ours) / seconds / MACHINES,
        )

    def first(self, coordinator: Coordinator) -> Sample:
        """Nobody has seen these nodes: the first of them has some turns more."""
        works = [self.works[0]._replace(turns=self.works[0].turns + next(self._fresh)), *self.works[1:]]
        fresh = irregular.workflow(self.shape, works)
        return self.sample(lambda: coordinator.start(fresh, 0).wait())

    def later(self, coordinator: Coordinator) -> Sample:
        return self.sample(lambda: coordinator.start(self.workflow, 0).wait())

    def by_hand(self, executor: ProcessPoolExecutor) -> Sample:
        return self.sample(lambda: schedule_by_hand(executor, self.shape, self.works, self.nominal))

    def by_dask(self, client: Any) -> Sample:
        tasks = {str(w.number): (w, [str(p) for p in self.shape.parents[w.number]]) for w in self.works}
        sinks = [str(number) for number, after in enumerate(self.shape.children()) if not after]
        return self.sample(lambda: client.get(tasks, sinks))


def run(work: Work) -> int:
    return work(None)


def schedule_by_hand(executor: ProcessPoolExecutor, shape: Shape, works: list[Work], seconds: list[float]) -> None:
    """A list schedule as the nodes come to their ends."""
    todo, over, running = ByRank(shape, seconds), SimpleQueue[Future[Any]](), 0
    while todo.ready or running:
        while todo.ready and running < MACHINES:
            executor.submit(run, works[todo.take()]).add_done_callback(over.put)
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


def with_processes(paper: Paper, cases: list[Case], mean: float, until: float) -> dict[str, dict[str, list[Sample]]]:
    """Samples by case and contender. No round begins after ``until``."""
    found = {}
    with tempfile.TemporaryDirectory() as directory, contenders() as every:
        turns = max(1_000_000 / timed_in_cpu(lambda: irregular.spin(1_000_000)) for _ in range(5))
        for number, case in enumerate(cases):
            if time.monotonic() > until:
                paper.say(f"\n{case.title}: left out, time is up")
                continue
            stage = Stage(case, mean, turns, os.path.join(directory, str(number)))
            mine = {name: run for name, run in every.items() if name != DASK or case.nodes <= DASK_AT_MOST}
            every[LATER](stage)  # the first run of it
            found[case.title] = measured(mine, stage, case.rounds, until)
            report(paper, case, found[case.title])
    return found


def measured(
    runs: dict[str, Callable[[Stage], Sample]], stage: Stage, rounds: int, until: float
) -> dict[str, list[Sample]]:
    """As ``measuring.interleaved``, which knows neither samples nor an end of the time."""
    names = list(runs)
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    for number in range(rounds):
        if number and time.monotonic() > until:
            break
        at = number % len(names)
        for name in names[at:] + names[:at]:
            samples[name].append(runs[name](stage))
    return samples


def cpu_seconds() -> float:
    """Of all processes, on all CPUs."""
    return cpu_times()[0] / os.sysconf("SC_CLK_TCK")


def tree_cpu() -> float:
    """Seconds of CPU of this process, and of those that it started and that are there."""
    ticks: dict[int, tuple[int, int]] = {}  # process -> its parent, what it used
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with suppress(OSError), open(f"/proc/{entry}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
                ticks[int(entry)] = int(fields[1]), int(fields[11]) + int(fields[12])
    ours = {os.getpid()}
    for pid in sorted(ticks):  # few machines go round their process numbers while a benchmark runs
        if ticks[pid][0] in ours:
            ours.add(pid)
    return sum(ticks[pid][1] for pid in ours) / os.sysconf("SC_CLK_TCK")


def timed_in_cpu(work: Callable[[], object]) -> float:
    before = time.thread_time()
    work()
    return time.thread_time() - before


def report(paper: Paper, case: Case, samples: dict[str, list[Sample]]) -> None:
    rows = []
    for name, found in samples.items():
        middle = Sample(*(statistics.median(values) for values in zip(*found, strict=True)))
        rows.append(
            (
                name,
                f"{middle.seconds:.2f}",
                f"{middle.mean * 1e3:.1f}",
                spread([sample.ratio for sample in found]).text(3),
                f"{middle.by_clock:.3f}",
                f"{ratio([s.seconds for s in found], [s.seconds for s in samples[EXECUTOR]]).median:.2f}",
                f"{middle.own:.1%}",
                f"{middle.others:.1%}",
            )
        )
        for sample in found:
            facts = {key: round(value, 5) for key, value in sample._asdict().items()}
            paper.record("sample", case=case.title, contender=name, **facts)
    rounds = len(samples[LATER])
    paper.say(f"\n{case.title}: makespan in list schedules, median (quartiles) of {rounds} rounds")
    head = ("", "s", "node, ms", "makespan", "by the clock", "times by hand", "CPU beside nodes", "others' CPU")
    paper.table(head, rows)


def of_graphs(ratios: list[float], which: str) -> float:
    """Where the durations are known, every graph must do; where they are not, there is no more than a guess."""
    return max(ratios) if which == "worst" else statistics.median(ratios)


def judge(paper: Paper, found: dict[str, dict[str, list[Sample]]]) -> list[bool]:
    """What was promised, by the samples that were taken while the machine was quiet."""
    met = []
    paper.say()
    for name, which in ((LATER, "worst"), (FIRST, "median")):
        every = [samples[name] for samples in found.values()]
        quiet = [[s.ratio for s in samples if s.others <= QUIET] for samples in every]
        graphs = [statistics.median(ratios) for ratios in quiet if ratios]
        counts = sum(map(len, quiet)), sum(map(len, every))
        paper.record("quiet", contender=name, samples=counts[0], of=counts[1])
        if not graphs:
            paper.say(f"  not judged  {name}: other programs took more than {QUIET:.0%} of the CPUs in every run")
            met.append(False)
        else:
            what = f"{name}: {which} graph's makespan in list schedules ({counts[0]} of {counts[1]} runs were quiet)"
            met.append(paper.target(what, of_graphs(graphs, which), MOST, most=True))
    return met


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.makespan", description="irregular graphs beside a list schedule")
    parser.add_argument("--mean", type=float, default=0.005, help="seconds that a node takes on average")
    parser.add_argument("--nodes", type=int, help="of every graph, instead of 500 to 5,000")
    parser.add_argument("--rounds", type=int, help="of every graph, instead of 1 to 3")
    parser.add_argument("--seeds", type=int, default=4, help="graphs of each kind, for the core alone")
    parser.add_argument("--seconds", type=float, default=210.0, help="no round begins when it has taken so long")
    parser.add_argument("--core", action="store_true", help="the core alone, without a process")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of tables")
    options = parser.parse_args(arguments)
    until = time.monotonic() + options.seconds
    paper = Paper("makespan", options.json)
    cases = [case._replace(nodes=options.nodes or case.nodes, rounds=options.rounds or case.rounds) for case in CASES]
    cases = list({case.title: case for case in cases}.values())
    alone = core_alone(paper, cases, options.mean, options.seeds)
    met = []
    for name, which in (("later runs", "worst"), ("first run", "median")):
        what = f"the core alone, {name}: {which} graph's makespan in list schedules"
        met.append(paper.target(what, of_graphs(alone[name], which), MOST, most=True))
    if not options.core:
        met += judge(paper, with_processes(paper, cases, options.mean, until))
    return 0 if all(met) else 1


if __name__ == "__main__":
    raise SystemExit(main())
