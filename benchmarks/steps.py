"""What one step costs, next to what Python has already: ``python -m benchmarks.steps [--json]``.

A step here does nothing, so that all that is left is the cost of having it done elsewhere. Two worker processes
each; all pools are warm, their start-up is not counted; contenders take turns within one run, in rotating order.

What they do for it is not the same. In the time shown, ``floxide_mp`` gives each step an identity and an order key,
leases it, so that it counts once whatever dies, commits it together with its output (and its event, in that
row), keeps exact counts, watches every worker, and lists the outputs in the order of the one-process run. The
others hand a value over and a value back; ``ProcessPoolExecutor`` and ``Pool`` stop or hang when a worker dies.
The naive manager is what one writes first: a queue, a dict and a lock of ``multiprocessing.Manager()``, with two
processes that take, lock, store, count, and push what comes next; it too forgets what a dead worker had.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing.managers import SyncManager
from multiprocessing.pool import Pool
from queue import Queue
from threading import Event, Lock
from typing import Any

from benchmarks import flows
from benchmarks.flows import noop
from benchmarks.measuring import Paper, interleaved, ratio, spread, timed
from floxide_mp import Coordinator, Workflow

WORKERS = 2
OURS, EXECUTOR, POOL, NAIVE = "floxide_mp", "ProcessPoolExecutor", "Pool", "naive Manager"


class Naive:
    """A shared queue, dict and lock, and two processes that loop."""

    def __init__(self, manager: SyncManager, context: Any) -> None:
        self.queue: Queue[Any] = manager.Queue()
        self.results: Any = manager.dict()
        self.lock: Lock = manager.Lock()
        self.done: Event = manager.Event()
        shared = (self.queue, self.results, self.lock, self.done)
        self._processes = [context.Process(target=naive_worker, args=shared) for _ in range(WORKERS)]
        for process in self._processes:
            process.start()

    def run(self, items: list[tuple[int, int]], total: int) -> None:
        """Put in the items, which are (number, how many follow it); wait until ``total`` are done."""
        self.results.clear()
        self.results["count"], self.results["total"] = 0, total
        self.done.clear()
        for item in items:
            self.queue.put(item)
        self.done.wait()

    def close(self) -> None:
        for _ in self._processes:
            self.queue.put(None)
        for process in self._processes:
            process.join()


def naive_worker(queue: Queue[Any], results: Any, lock: Lock, done: Event) -> None:
    while (item := queue.get()) is not None:
        number, follow = item
        value = noop(number)
        with lock:
            results[number] = value
            count = results["count"] = results["count"] + 1
            if follow:
                queue.put((number + 1, follow - 1))
            if count == results["total"]:
                done.set()


@contextmanager
def pools() -> Iterator[tuple[Coordinator, ProcessPoolExecutor, Pool, Naive]]:
    """One of each, with workers that have worked. None is forked: all start as clean interpreters."""
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        coordinator = stack.enter_context(Coordinator(workers=WORKERS))
        executor = stack.enter_context(ProcessPoolExecutor(WORKERS, mp_context=context))
        pool = stack.enter_context(context.Pool(WORKERS))
        naive = Naive(stack.enter_context(context.Manager()), context)
        stack.callback(naive.close)
        coordinator.start(flows.FanOut, 1000).wait()
        list(executor.map(noop, range(1000)))
        pool.map(noop, range(1000))
        naive.run([(number, 0) for number in range(100)], 100)
        yield coordinator, executor, pool, naive


def run(coordinator: Coordinator, workflow: type[Workflow], value: int, outputs: int) -> Callable[[], float]:
    """Times a run from its start until its outputs are there, decoded and in order."""

    def once() -> float:
        def whole() -> None:
            got = coordinator.start(workflow, value).wait().outputs
            assert len(got) == outputs, len(got)

        return timed(whole)

    return once


def submit_and_wait(executor: ProcessPoolExecutor, count: int) -> None:
    for number in range(count):
        executor.submit(noop, number).result()


def submit_all(executor: ProcessPoolExecutor, count: int) -> None:
    for future in [executor.submit(noop, number) for number in range(count)]:
        future.result()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.steps", description="the cost of one step")
    parser.add_argument("--wide", type=int, default=20_000, help="steps of a fan-out")
    parser.add_argument("--long", type=int, default=2_000, help="steps of a chain")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    options = parser.parse_args(arguments)
    wide, long = options.wide, options.long
    paper = Paper("steps", options.json)
    with pools() as (coordinator, executor, pool, naive):
        fan_out = {
            OURS: run(coordinator, flows.FanOut, wide, wide),
            OURS + ", an event each": run(coordinator, flows.NotingFanOut, wide, wide),
            EXECUTOR: lambda: timed(lambda: submit_all(executor, wide)),
            POOL: lambda: timed(lambda: list(pool.imap_unordered(noop, range(wide), chunksize=1))),
            NAIVE: lambda: timed(lambda: naive.run([(number, 0) for number in range(wide)], wide)),
        }
        # What a workflow costs once is not the chain's: each worker imports it at its first run.
        run(coordinator, flows.chain(long), 0, 1)()
        one_by_one = {
            OURS + ", graph": run(coordinator, flows.chain(long), 0, 1),
            OURS + ", loop": run(coordinator, flows.Loop, long, 1),
            EXECUTOR: lambda: timed(lambda: submit_and_wait(executor, long)),
            POOL: lambda: timed(lambda: [pool.apply(noop, (number,)) for number in range(long)]),
            NAIVE: lambda: timed(lambda: naive.run([(0, long - 1)], long)),
        }
        wide_samples = interleaved(fan_out, options.rounds)
        report(paper, "fan-out", wide, wide_samples, OURS)
        long_samples = interleaved(one_by_one, options.rounds)
        report(paper, "chain", long, long_samples, OURS + ", graph")
    met = [
        paper.target("fan-out, steps a second", wide / spread(wide_samples[OURS]).median, 60_000),
        paper.target("fan-out, times ProcessPoolExecutor", ratio(wide_samples[EXECUTOR], wide_samples[OURS]).median, 5),
    ]
    for kind in (OURS + ", graph", OURS + ", loop"):
        what = f"chain ({kind}), times ProcessPoolExecutor's submit and wait"
        met.append(paper.target(what, ratio(long_samples[EXECUTOR], long_samples[kind]).median, 1))
    return 0 if all(met) else 1


def report(paper: Paper, scenario: str, steps: int, samples: dict[str, list[float]], ours: str) -> None:
    rows = []
    for name, seconds in samples.items():
        micros = [s / steps * 1e6 for s in seconds]
        rate = spread([steps / s for s in seconds])
        times = ratio(seconds, samples[ours])
        rows.append((name, f"{rate.median:,.0f}", spread(micros).text(1), times.text(2)))
        paper.record(
            "samples", scenario=scenario, contender=name, steps=steps, seconds=[round(s, 5) for s in seconds],
            steps_per_second=round(rate.median), us_per_step=[round(value, 2) for value in spread(micros)],
            times_ours=round(times.median, 3),
        )  # fmt: skip
    paper.say(f"\n{scenario} of {steps:,} no-op steps, {WORKERS} workers, median (quartiles) of {len(seconds)} rounds")
    paper.table(("", "steps/s", "us a step", f"time, in {ours}'s"), rows)


if __name__ == "__main__":
    raise SystemExit(main())
