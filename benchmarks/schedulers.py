"""Contenders that schedule tasks or graphs, for ``steps`` and ``metg``: on this machine alone, two workers each.

Each is used as its documentation says, in memory where it can, without dashboards, statistics and logs:

- ``ray``: remote functions, and references as arguments for what depends on what.
- ``parsl``: ``HighThroughputExecutor`` and apps, futures as arguments.
- ``dask``: ``LocalCluster`` of processes with one thread each; ``Client.map``, and ``Client.get`` of a graph.
- ``redun``: the local executor's processes, its database in memory.
- ``prefect``: threads, its local server, no results persisted. (Its processes start anew for each flow: 24 s here.)
- ``langgraph``: a node that goes round, ``InMemorySaver``; ``pydantic-graph``: a step that leads to itself. Both work
  in the process that calls them.

``celery`` is not here: it needs a broker, and of those without a server kombu's files hung in most tries.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from benchmarks import patterns, peers
from benchmarks.contender import WORKERS, Contender
from benchmarks.flows import noop
from benchmarks.peers import Runs, langgraph_runs
from benchmarks.tasks import Tasks, busy

Function = Callable[[int], Any]


def after(iterations: int, *others: int) -> int:
    """A task of a graph: what the tasks before it gave is the number of iterations."""
    return busy(iterations)


def by_futures(submit: Callable[..., Any], pattern: str, width: int, rows: int, iterations: int) -> list[Any]:
    """A graph by futures that are arguments: ``submit(*arguments)``. All of them, the last row's at the end."""
    made: dict[tuple[int, int], Any] = {}
    for row, column, above in patterns.tasks(pattern, width, rows):
        made[row, column] = submit(*([made[row - 1, c] for c in above] or [iterations]))
    return list(made.values())


@contextmanager
def ray(directory: str) -> Iterator[Tasks]:
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_DEDUP_LOGS="0")
    import ray

    ray.init(
        num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
        object_store_memory=100 * 2**20, _node_ip_address="127.0.0.1",
    )  # fmt: skip
    remote = cache(lambda function: ray.remote(function))

    def each(function: Function, values: Sequence[int]) -> list[Any]:
        submit = remote(function).remote
        found: list[Any] = ray.get([submit(value) for value in values])
        return found

    def chain(steps: int) -> None:
        value = 0
        for _ in range(steps):
            value = ray.get(remote(noop).remote(value))

    def graph(pattern: str, width: int, rows: int, iterations: int) -> None:
        ray.get(by_futures(remote(after).remote, pattern, width, rows, iterations))

    yield Tasks(each, chain, graph)
    ray.shutdown()


@contextmanager
def parsl(directory: str) -> Iterator[Tasks]:
    import parsl
    from parsl import python_app
    from parsl.config import Config
    from parsl.executors import HighThroughputExecutor

    os.environ["PATH"] = f"{os.path.dirname(sys.executable)}:{os.environ.get('PATH', '')}"  # it starts its own programs
    pool = HighThroughputExecutor(
        address="127.0.0.1", max_workers_per_node=WORKERS, cores_per_worker=1e-6, encrypted=False
    )
    config = Config(executors=[pool], run_dir=directory, initialize_logging=False, strategy="none", exit_mode="skip")
    apps = cache(python_app)
    with parsl.load(config) as kernel:

        def each(function: Function, values: Sequence[int]) -> Iterator[Any]:
            app = apps(function)
            for future in [app(value) for value in values]:
                yield future.result()

        def chain(steps: int) -> None:
            value = 0
            for _ in range(steps):
                value = apps(noop)(value).result()

        def graph(pattern: str, width: int, rows: int, iterations: int) -> None:
            for future in by_futures(apps(after), pattern, width, rows, iterations):
                future.result()

        yield Tasks(each, chain, graph)
        kernel.cleanup()


@contextmanager
def dask(directory: str) -> Iterator[Tasks]:
    import dask
    from distributed import Client, LocalCluster

    dask.config.set({"temporary-directory": directory, "distributed.admin.low-level-log-length": 0})
    with (
        LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):  # fmt: skip

        def each(function: Function, values: Sequence[int]) -> list[Any]:
            found: list[Any] = client.gather(client.map(function, values, pure=False))
            return found

        def chain(steps: int) -> None:
            value = 0
            for _ in range(steps):
                value = client.submit(noop, value, pure=False).result()

        def graph(pattern: str, width: int, rows: int, iterations: int) -> None:
            all_of_it: dict[tuple[int, int], tuple[Any, ...]] = {}
            for row, column, above in patterns.tasks(pattern, width, rows):
                arguments: list[Any] = [(row - 1, c) for c in above] or [iterations]
                all_of_it[row, column] = after, *arguments
            within = {key for _, *above in all_of_it.values() for key in above}
            client.get(all_of_it, [key for key in all_of_it if key not in within])

        yield Tasks(each, chain, graph)


@contextmanager
def redun(directory: str) -> Iterator[Tasks]:
    logging.disable(logging.WARNING)
    from redun import Scheduler
    from redun.config import Config

    from benchmarks.redun_app import steps_of

    config = {"backend": {"db_uri": "sqlite://"}}
    config["executors.default"] = {"type": "local", "mode": "process", "max_workers": str(WORKERS)}
    scheduler = Scheduler(config=Config(config))
    scheduler.load(migrate=True)

    def each(function: Function, values: Sequence[int]) -> Any:
        return scheduler.run([steps_of[function](value) for value in values])

    def chain(steps: int) -> None:
        value: Any = 0
        for _ in range(steps):
            value = steps_of[noop](value)
        scheduler.run(value)

    yield Tasks(each, chain)


def prefect(directory: str) -> Any:
    return peers.prefect(directory, persist=False)


@contextmanager
def langgraph(directory: str) -> Iterator[Runs]:
    from langgraph.checkpoint.memory import InMemorySaver

    yield langgraph_runs(InMemorySaver())


@contextmanager
def pydantic_graph(directory: str) -> Iterator[Runs]:
    from pydantic_graph import GraphBuilder

    builder: Any = GraphBuilder(input_type=int, output_type=int)

    async def count_down(context: Any) -> int:
        return noop(context.inputs) - 1

    step = builder.step(count_down)
    more = builder.match(int, matches=lambda left: left > 0).to(step)
    over = builder.match(int, matches=lambda left: left == 0).to(builder.end_node)
    builder.add(
        builder.edge_from(builder.start_node).to(step),
        builder.edge_from(step).to(builder.decision().branch(more).branch(over)),
    )
    graph = builder.build()

    def chain(steps: int) -> None:
        asyncio.run(graph.run(inputs=steps))

    yield Runs(chain, chain)


SCHEDULERS = {
    "ray": Contender("ray", ray, (("ray", "ray"),), (3_000, 500), every=2),
    "parsl": Contender("parsl", parsl, (("parsl", "parsl"),), (2_000, 300), every=2),
    "dask": Contender("dask.distributed", dask, (("distributed", "distributed"),), (1_000, 100), every=2),
    "redun": Contender("redun", redun, (("redun", "redun"),), (100, 20), 4, every=2),
    "prefect": Contender("prefect", prefect, (("prefect", "prefect"),), (10, 10), 2, every=2),
    "langgraph": Contender("LangGraph, in memory", langgraph, (("langgraph", "langgraph.graph"),), (0, 500)),
    "pydantic-graph": Contender(
        "pydantic-graph, one process", pydantic_graph, (("pydantic-graph", "pydantic_graph"),), (0, 2_000)
    ),
}
