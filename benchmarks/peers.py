"""The peers of ``benchmarks.durable``: what people use today to run steps and remember them, each in its own process.

Each is used as its documentation says, with its fastest settings that still remember a step before the run is over:

- ``pool``: written by hand. ``Pool.imap_unordered`` (``apply`` for the chain), and each result, pickled, in a SQLite
  transaction of its own as it comes, WAL, ``synchronous=NORMAL``.
- ``joblib``: ``Memory`` in a fresh directory, called in ``Parallel(n_jobs=2)``, whose processes are up; the chain calls
  it here.
- ``langgraph``: ``SqliteSaver``, durability ``async``; ``Send`` for the fan-out, a node that goes round for the chain.
  In threads, two at a time.
- ``dbos``: on SQLite, steps of one workflow, two of them awaited at a time; the chain one by one.
- ``prefect``: ``persist_result=True``, local storage and server, ``ThreadPoolTaskRunner(max_workers=2)``.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import operator
import os
import pickle
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NamedTuple, TypedDict

from benchmarks.contender import WORKERS, Contender
from benchmarks.flows import noop

Run = Callable[[int], object]  # does so many steps


class Runs(NamedTuple):
    """What a contender can do."""

    fan_out: Run
    chain: Run


@contextmanager
def pool(directory: str) -> Iterator[Runs]:
    connection = sqlite3.connect(os.path.join(directory, "pool.db"))
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE results (run INTEGER, item INTEGER, value BLOB, PRIMARY KEY (run, item))")
    numbers = itertools.count()

    def remember(run: int, item: int, value: int) -> None:
        with connection:
            connection.execute("INSERT INTO results VALUES (?, ?, ?)", (run, item, pickle.dumps(value)))

    with multiprocessing.get_context("spawn").Pool(WORKERS) as workers:

        def fan_out(steps: int) -> None:
            run = next(numbers)
            for value in workers.imap_unordered(noop, range(steps)):
                remember(run, value, value)

        def chain(steps: int) -> None:
            run, value = next(numbers), 0
            for step in range(steps):
                value = workers.apply(noop, (value,))
                remember(run, step, value)

        yield Runs(fan_out, chain)
    connection.close()


@contextmanager
def joblib(directory: str) -> Iterator[Runs]:
    from joblib import Memory, Parallel, delayed

    def fresh() -> Any:
        return Memory(tempfile.mkdtemp(dir=directory), verbose=0).cache(noop)

    with Parallel(n_jobs=WORKERS) as parallel:

        def fan_out(steps: int) -> None:
            cached = fresh()
            parallel(delayed(cached)(number) for number in range(steps))

        def chain(steps: int) -> None:
            cached = fresh()
            for number in range(steps):  # the same argument twice would be found, not run
                cached(number)

        yield Runs(fan_out, chain)


class State(TypedDict):
    count: int
    results: Annotated[list[int], operator.add]


@contextmanager
def langgraph(directory: str) -> Iterator[Runs]:
    from langgraph.checkpoint.sqlite import SqliteSaver

    with SqliteSaver.from_conn_string(os.path.join(directory, "langgraph.db")) as saver:
        yield langgraph_runs(saver)


def langgraph_runs(saver: Any) -> Runs:
    """Graphs that keep their checkpoints there."""
    from langgraph.graph import END, START, StateGraph
    from langgraph.types import Send

    wide: Any = StateGraph(State)
    wide.add_node("work", lambda value: {"results": [noop(value)]})
    wide.add_conditional_edges(START, lambda state: [Send("work", n) for n in range(state["count"])], ["work"])
    wide.add_edge("work", END)
    long: Any = StateGraph(State)
    long.add_node("work", lambda state: {"count": state["count"] - 1})
    long.add_edge(START, "work")
    long.add_conditional_edges("work", lambda state: "work" if state["count"] > 0 else END, ["work", END])
    numbers = itertools.count()

    def of(graph: Any) -> Run:
        compiled = graph.compile(checkpointer=saver)

        def run(steps: int) -> None:
            config: dict[str, Any] = {"configurable": {"thread_id": str(next(numbers))}}
            config |= {"max_concurrency": WORKERS, "recursion_limit": steps + 10}
            compiled.invoke({"count": steps, "results": []}, config, durability="async")

        return run

    return Runs(of(wide), of(long))


@contextmanager
def dbos(directory: str) -> Iterator[Runs]:
    from dbos import DBOS

    @DBOS.step()
    async def step(value: int) -> int:
        return noop(value)

    @DBOS.workflow()
    async def wide(steps: int) -> Any:
        gate = asyncio.Semaphore(WORKERS)

        async def one(value: int) -> Any:
            async with gate:
                return await step(value)

        return await asyncio.gather(*map(one, range(steps)))

    @DBOS.workflow()
    async def long(steps: int) -> int:
        value = 0
        for _ in range(steps):
            value = await step(value)
        return value

    url = f"sqlite:///{directory}/dbos.sqlite"
    DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR", "run_admin_server": False})
    DBOS.launch()
    yield Runs(lambda steps: asyncio.run(wide(steps)), lambda steps: asyncio.run(long(steps)))
    DBOS.destroy()


@contextmanager
def prefect(directory: str, persist: bool = True) -> Iterator[Runs]:
    os.environ.update(
        PREFECT_HOME=directory,
        PREFECT_LOCAL_STORAGE_PATH=os.path.join(directory, "results"),
        PREFECT_LOGGING_LEVEL="ERROR",
        PREFECT_LOGGING_TO_API_ENABLED="false",
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
    )
    from prefect import flow, task
    from prefect.task_runners import ThreadPoolTaskRunner

    step: Any = task(noop, persist_result=persist)

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=WORKERS))
    def wide(steps: int) -> Any:
        return step.map(range(steps)).result()

    @flow
    def long(steps: int) -> None:
        value = 0
        for _ in range(steps):
            value = step(value)

    yield Runs(wide, long)


PEERS = {
    "pool": Contender("Pool, a transaction a result", pool),
    "joblib": Contender("joblib.Memory", joblib, (("joblib", "joblib"),), (2_000, 1_000), 1000),
    "langgraph": Contender(
        "LangGraph, SqliteSaver",
        langgraph,
        (("langgraph", "langgraph.graph"), ("langgraph-checkpoint-sqlite", "langgraph.checkpoint.sqlite")),
        (1_000, 500),
    ),
    "dbos": Contender("DBOS on SQLite", dbos, (("dbos", "dbos"),), (200, 200)),
    "prefect": Contender("Prefect, persisted results", prefect, (("prefect", "prefect"),), (20, 20), 2),
}
