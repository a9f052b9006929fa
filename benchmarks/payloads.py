"""Large values in and out of steps, next to what Python has already: ``python -m benchmarks.payloads [--json]``.

A chain: 8 MB go into each of 200 steps, which looks at both ends of them, and 8 MB come out, on two workers. And a
fan-out: as many values as a quarter of that, each made by one step, taken in and given back by another, and collected
by a third. MB/s counts what goes in and what comes out. Values are NumPy arrays, ``bytes``, pandas frames and Arrow
tables, each where it is installed. A step gives back what it got; that of ``numpy-new`` a new array made of it, and
that of ``numpy-in-place`` the one it got, after writing to all of it, which joblib and Ray do not allow. joblib is
there if it is installed, Ray only when asked for (``--ray``), since it takes long to start. All are warm, and take
turns within one run, in rotating order.

The raw pipe is one process at the other end of a ``multiprocessing.Pipe``: what is sent is pickled, and nothing else is
done for it. In the chain, what comes out of a step of ours is what goes into the next one, in whatever process that is,
and the whole run is remembered in memory; ``ProcessPoolExecutor``, joblib and the pipe have each value back in the
program in between; Ray hands on references.

Then the most memory that all processes together had during a chain of ours, above what they had before: private memory,
and the pages of memory files, each counted once. Coordinator and workers are new for that.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Final

from benchmarks.measuring import Paper, interleaved, ratio, spread, timed
from benchmarks.values import KINDS, Laps, Wide, turn
from floxide_mp import Coordinator

WORKERS: Final = 2
OURS, EXECUTOR, PIPE, JOBLIB, RAY = "floxide_mp", "ProcessPoolExecutor", "raw pipe", "joblib", "ray"
LEAST: Final = {EXECUTOR: 10, PIPE: 4}  # times as fast
READ_ONLY: Final = {JOBLIB, RAY}  # who gives steps what they must not write to
MOST_ARRAYS: Final = 3  # per worker, at a time


# -- contenders ---------------------------------------------------------------------------------------------------


def laps(coordinator: Coordinator, kind: str, steps: int, value: Any) -> None:
    _, left, out = coordinator.start(Laps, (kind, steps, value)).wait().output
    assert left == 0
    turn(kind, out)


def wide(coordinator: Coordinator, kind: str, count: int, size: int) -> None:
    assert coordinator.start(Wide, (kind, count, size)).wait().output == count


def answer(line: Connection) -> None:
    """The process at the other end of the raw pipe."""
    while (task := line.recv()) is not None:
        line.send(turn(*task))


class Pipe:
    """A process, and a pipe to it."""

    def __init__(self, context: Any) -> None:
        self._line, theirs = context.Pipe()
        self._process = context.Process(target=answer, args=(theirs,))
        self._process.start()
        theirs.close()

    def turn(self, kind: str, value: Any) -> Any:
        self._line.send((kind, value))
        return self._line.recv()

    def close(self) -> None:
        self._line.send(None)
        self._process.join()
        self._line.close()


def one_by_one(call: Callable[[str, Any], Any], kind: str, steps: int, value: Any) -> None:
    for _ in range(steps):
        value = call(kind, value)


def all_at_once(executor: ProcessPoolExecutor, kind: str, count: int, size: int) -> None:
    futures = [executor.submit(turn, kind, KINDS[kind].make(size)) for _ in range(count)]
    assert len([future.result() for future in futures]) == count


def there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


Chain = Callable[[str, int, Any], None]


@contextmanager
def opened(with_ray: bool) -> Iterator[tuple[dict[str, Chain], dict[str, Chain]]]:
    """The contenders of the chain and of the fan-out, by name."""
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        coordinator = stack.enter_context(Coordinator(workers=WORKERS))
        executor = stack.enter_context(ProcessPoolExecutor(WORKERS, mp_context=context))
        pipe = Pipe(context)
        stack.callback(pipe.close)
        chain: dict[str, Chain] = {
            OURS: partial(laps, coordinator),
            EXECUTOR: partial(one_by_one, lambda kind, value: executor.submit(turn, kind, value).result()),
            PIPE: partial(one_by_one, pipe.turn),
        }
        if there("joblib"):
            import joblib

            pool = stack.enter_context(joblib.Parallel(n_jobs=WORKERS))
            chain[JOBLIB] = partial(one_by_one, lambda kind, value: pool([joblib.delayed(turn)(kind, value)])[0])
        if with_ray:
            chain[RAY] = rays(stack)
        yield chain, {OURS: partial(wide, coordinator), EXECUTOR: partial(all_at_once, executor)}


def rays(stack: ExitStack) -> Chain:
    import ray

    ray.init(num_cpus=WORKERS, include_dashboard=False, logging_level="ERROR")
    stack.callback(ray.shutdown)
    remote = ray.remote(turn)

    def run(kind: str, steps: int, value: Any) -> None:
        at = ray.put(value)
        for _ in range(steps):
            at = remote.remote(kind, at)
        turn(kind, ray.get(at))

    return run


# -- memory -------------------------------------------------------------------------------------------------------


def family() -> list[int]:
    """This process and those below it."""
    found, at = [os.getpid()], 0
    while at < len(found):
        try:
            with open(f"/proc/{found[at]}/task/{found[at]}/children") as file:
                found += map(int, file.read().split())
        except OSError:
            pass  # it has ended
        at += 1
    return found


def used(pids: list[int]) -> int:
    """Bytes of private memory and of memory files that these processes have."""
    total, files = 0, {}
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                total += sum(int(line.split()[1]) << 10 for line in file if line.startswith("Pss_Anon:"))
            names = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue  # it has ended
        for name in names:
            path = f"/proc/{pid}/fd/{name}"
            try:
                if os.readlink(path).startswith("/memfd:"):
                    stat = os.stat(path)
                    files[stat.st_ino] = stat.st_blocks * 512
            except OSError:
                pass  # it is closed
    return total + sum(files.values())


def peak(work: Callable[[], None]) -> int:
    """Bytes, above what was used before. Processes that are started meanwhile count, too."""
    before = used(family())
    found, over = [before], threading.Event()

    def look() -> None:
        while not over.wait(0.0005):
            found.append(used(family()))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        work()
    finally:
        over.set()
        watcher.join()
    return max(found) - before


# -- the whole ----------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.payloads", description="large values in and out of steps")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--size", type=int, default=8 << 20, help="bytes of a value")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS), help="of these only")
    parser.add_argument("--ray", action="store_true", help="Ray, too, if it is installed")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of tables")
    options = parser.parse_args(arguments)
    steps, size = options.steps, options.size
    paper = Paper("payloads", options.json)
    met = []
    with opened(options.ray and there("ray")) as (chain, fan_out):
        for kind in options.kinds:
            if not there(KINDS[kind].module):
                paper.say(f"\n{kind}: not installed")
                paper.record("absent", scenario=kind)
                continue
            value = KINDS[kind].make(size)
            takers = {n: one for n, one in chain.items() if n not in READ_ONLY or not KINDS[kind].writes}
            for one in takers.values():
                one(kind, min(steps, 4), value)
            samples = interleaved({n: clocked(one, kind, steps, value) for n, one in takers.items()}, options.rounds)
            report(paper, f"{kind}, chain", steps, size, samples)
            for name, least in LEAST.items():
                times = ratio(samples[name], samples[OURS]).median
                met.append(paper.target(f"{kind}, chain, times {name}", times, least))
            with Coordinator(workers=WORKERS) as fresh:  # one that has kept nothing of earlier runs
                for _ in range(10):  # until both workers have imported what there is to import
                    wide(fresh, kind, 64, 1 << 12)
                most = peak(partial(laps, fresh, kind, steps, value)) / size / WORKERS
            met.append(paper.target(f"{kind}, values per worker at a time", most, MOST_ARRAYS, most=True))
            count = max(1, steps // 4)
            samples = interleaved({n: clocked(one, kind, count, size) for n, one in fan_out.items()}, options.rounds)
            report(paper, f"{kind}, fan-out", count, size, samples)
    return 0 if all(met) else 1


def clocked(one: Chain, *arguments: Any) -> Callable[[], float]:
    return lambda: timed(lambda: one(*arguments))


def report(paper: Paper, scenario: str, steps: int, size: int, samples: dict[str, list[float]]) -> None:
    rows = []
    for name, seconds in samples.items():
        rate = spread([2 * size * steps / s / 1e6 for s in seconds])
        times = ratio(seconds, samples[OURS])
        rows.append((name, rate.text(), spread([s / steps * 1e3 for s in seconds]).text(2), times.text(2)))
        paper.record(
            "samples", scenario=scenario, contender=name, steps=steps, size=size,
            seconds=[round(s, 5) for s in seconds], mb_per_second=[round(r, 1) for r in rate],
            times_ours=round(times.median, 3),
        )  # fmt: skip
    rounds = len(samples[OURS])
    paper.say(f"\n{scenario}: {steps:,} x {size / 1e6:.1f} MB in and out; median (quartiles) of {rounds} rounds")
    paper.table(("", "MB/s", "ms a step", "time, in floxide_mp's"), rows)


if __name__ == "__main__":
    raise SystemExit(main())
