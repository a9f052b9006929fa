"""Contenders that hand values to processes and results back, and remember nothing: ``steps``, ``metg``.

None is forked: all start as clean interpreters. Each value is a message, a future or a task of its own, but where
the title says ``chunked``: there many values travel as one, and an error or a death is that of them all.

- ``pipe``: what a pipe to each worker can do, with some values on their way to each. No errors, no deaths.
- ``naive``: what one writes first: a queue, a dict and a lock of ``multiprocessing.Manager()``, and two processes
  that take, lock, store, count, and push what comes next.
"""

from __future__ import annotations

import multiprocessing
import select
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.managers import SyncManager
from queue import Queue
from threading import Event, Lock
from typing import Any

from benchmarks.contender import WORKERS, Contender
from benchmarks.flows import noop
from benchmarks.tasks import Tasks

SPAWN = multiprocessing.get_context("spawn")
AHEAD = 32  # values on their way to each worker of a pipe
Function = Callable[[int], Any]


# -- by hand ----------------------------------------------------------------------------------------------------


@contextmanager
def pipe(directory: str) -> Iterator[Tasks]:
    ends = [SPAWN.Pipe() for _ in range(WORKERS)]
    processes = [SPAWN.Process(target=answering, args=(theirs,), daemon=True) for _, theirs in ends]
    for process in processes:
        process.start()
    workers = [ours for ours, _ in ends]
    yield Tasks(partial(piped, workers), partial(there_and_back, workers[0]))
    for worker, process in zip(workers, processes, strict=True):
        worker.send(None)
        process.join()


def answering(connection: Connection) -> None:
    while (task := connection.recv()) is not None:
        function, value = task
        connection.send(function(value))


def piped(workers: list[Connection], function: Function, values: Sequence[int]) -> Iterator[Any]:
    by_number = {worker.fileno(): worker for worker in workers}
    ready = select.poll()
    for number in by_number:
        ready.register(number, select.POLLIN)
    left = iter(values)
    for worker, value in zip(workers * AHEAD, left, strict=False):
        worker.send((function, value))
    waiting = len(values)
    while waiting:
        for number, _ in ready.poll():
            worker = by_number[number]
            yield worker.recv()
            waiting -= 1
            if (following := next(left, None)) is not None:
                worker.send((function, following))


def there_and_back(worker: Connection, steps: int) -> None:
    value = 0
    for _ in range(steps):
        worker.send((noop, value))
        value = worker.recv()


class Naive:
    """A shared queue, dict and lock, and two processes that loop."""

    def __init__(self, manager: SyncManager) -> None:
        self.queue: Queue[Any] = manager.Queue()
        self.results: Any = manager.dict()
        self.lock: Lock = manager.Lock()
        self.done: Event = manager.Event()
        shared = (self.queue, self.results, self.lock, self.done)
        self._processes = [SPAWN.Process(target=naive_worker, args=shared, daemon=True) for _ in range(WORKERS)]
        for process in self._processes:
            process.start()

    def run(self, items: list[tuple[int, Function, int, int]], total: int) -> list[Any]:
        """Put in the items, which are (number, function, value, how many follow it); wait until ``total`` are done."""
        self.results.clear()
        self.results["count"], self.results["total"] = 0, total
        self.done.clear()
        for item in items:
            self.queue.put(item)
        self.done.wait()
        return [value for number, value in self.results.copy().items() if not isinstance(number, str)]

    def close(self) -> None:
        for _ in self._processes:
            self.queue.put(None)
        for process in self._processes:
            process.join()


def naive_worker(queue: Queue[Any], results: Any, lock: Lock, done: Event) -> None:
    while (item := queue.get()) is not None:
        number, function, value, follow = item
        made = function(value)
        with lock:
            results[number] = made
            count = results["count"] = results["count"] + 1
            if follow:
                queue.put((number + 1, function, made, follow - 1))
            if count == results["total"]:
                done.set()


@contextmanager
def naive(directory: str) -> Iterator[Tasks]:
    with SPAWN.Manager() as manager:
        one = Naive(manager)

        def each(function: Function, values: Sequence[int]) -> list[Any]:
            return one.run([(n, function, value, 0) for n, value in enumerate(values)], len(values))

        yield Tasks(each, lambda steps: one.run([(0, noop, 0, steps - 1)], steps))
        one.close()


# -- pools ------------------------------------------------------------------------------------------------------


@contextmanager
def pool(directory: str) -> Iterator[Tasks]:
    with SPAWN.Pool(WORKERS) as workers:

        def chain(steps: int) -> None:
            value = 0
            for _ in range(steps):
                value = workers.apply(noop, (value,))

        yield Tasks(lambda function, values: workers.imap_unordered(function, values, chunksize=1), chain)


def of_executor(workers: Executor) -> Tasks:
    """A future for each value; a chain submits and waits."""

    def each(function: Function, values: Sequence[int]) -> Iterator[Any]:
        for future in [workers.submit(function, value) for value in values]:
            yield future.result()

    def chain(steps: int) -> None:
        value = 0
        for _ in range(steps):
            value = workers.submit(noop, value).result()

    return Tasks(each, chain)


@contextmanager
def executor(directory: str) -> Iterator[Tasks]:
    with ProcessPoolExecutor(WORKERS, mp_context=SPAWN) as workers:
        yield of_executor(workers)


@contextmanager
def loky(directory: str) -> Iterator[Tasks]:
    from loky import ProcessPoolExecutor as Loky

    with Loky(WORKERS) as workers:
        yield of_executor(workers)


@contextmanager
def pebble(directory: str) -> Iterator[Tasks]:
    from pebble import ProcessPool

    with ProcessPool(WORKERS, context=SPAWN) as workers:

        def each(function: Function, values: Sequence[int]) -> Iterator[Any]:
            for future in [workers.schedule(function, (value,)) for value in values]:
                yield future.result()

        yield Tasks(each)


@contextmanager
def mpire(directory: str, chunk: int | None = 1) -> Iterator[Tasks]:
    from mpire import WorkerPool

    with WorkerPool(WORKERS, start_method="spawn", keep_alive=True) as workers:
        yield Tasks(lambda function, values: workers.imap_unordered(function, values, chunk_size=chunk))


def mpire_chunked(directory: str) -> Any:
    return mpire(directory, chunk=None)


@contextmanager
def joblib(directory: str, batch: int | str = 1) -> Iterator[Tasks]:
    from joblib import Parallel, delayed

    with Parallel(WORKERS, batch_size=batch) as workers:

        def each(function: Function, values: Sequence[int]) -> Iterable[Any]:
            found: Iterable[Any] = workers(delayed(function)(value) for value in values)
            return found

        yield Tasks(each)


def joblib_chunked(directory: str) -> Any:
    return joblib(directory, batch="auto")


POOLS = {
    "pipe": Contender("a pipe to each worker", pipe, (), (50_000, 2_000), 2000),
    "pool": Contender("Pool", pool, (), (40_000, 2_000), 1000),
    "executor": Contender("ProcessPoolExecutor", executor, (), (10_000, 2_000)),
    "naive": Contender("naive Manager", naive, (), (2_000, 1_000)),
    "pebble": Contender("pebble", pebble, (("pebble", "pebble"),), (10_000, 0)),
    "mpire": Contender("mpire", mpire, (("mpire", "mpire"),), (10_000, 0)),
    "loky": Contender("loky", loky, (("loky", "loky"),), (5_000, 1_000)),
    "joblib": Contender("joblib, batches of 1", joblib, (("joblib", "joblib"),), (5_000, 0)),
    "mpire-chunked": Contender("mpire, chunked", mpire_chunked, (("mpire", "mpire"),), (100_000, 0), 1000),
    "joblib-chunked": Contender("joblib, chunked", joblib_chunked, (("joblib", "joblib"),), (100_000, 0), 1000),
}
