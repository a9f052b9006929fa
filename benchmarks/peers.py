"""The peers of ``benchmarks.durable``: what people use today to run steps and remember them, each in its own process.

``Peer`` is that process, for the benchmark: a context manager that is asked for runs. ``python -m benchmarks.peers NAME
DIRECTORY`` is what runs in it: it warms up, says so, and then times a run for each line that it reads. Nothing but the
process that is asked works meanwhile.

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
import importlib.util
import itertools
import json
import multiprocessing
import operator
import os
import pickle
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self, TypedDict

from benchmarks.flows import noop
from benchmarks.measuring import timed

WORKERS = 2
Run = Callable[[int], object]  # does so many steps


class Runs(NamedTuple):
    """What a contender can do."""

    fan_out: Run
    chain: Run


# -- the benchmark's side ---------------------------------------------------------------------------------------


class Peer:
    """A contender's process, warm.

    Args:
        name: one of ``PEERS``.
        directory: where it keeps what it remembers.
    """

    def __init__(self, name: str, directory: str) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peers", name, directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def __enter__(self) -> Self:
        try:
            self._answer()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(30)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def time(self, scenario: str, steps: int) -> float:
        """Seconds that a run takes: a scenario is a field of ``Runs``."""
        assert self._process.stdin is not None
        print(json.dumps([scenario, steps]), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> float:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            raise RuntimeError(f"{self.name} ended: {self._errors.read().decode(errors='replace')[-4000:]}")
        return float(json.loads(line))


def missing(name: str) -> str | None:
    """What has to be installed for a contender, None if all of it is."""
    return next((package for package, module in PEERS[name].needs if not _found(module)), None)


def _found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


# -- the contenders ---------------------------------------------------------------------------------------------


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
    with SqliteSaver.from_conn_string(os.path.join(directory, "langgraph.db")) as saver:

        def of(graph: Any) -> Run:
            compiled = graph.compile(checkpointer=saver)

            def run(steps: int) -> None:
                config = {"configurable": {"thread_id": str(next(numbers))}}
                config |= {"max_concurrency": WORKERS, "recursion_limit": steps + 10}
                compiled.invoke({"count": steps, "results": []}, config, durability="async")

            return run

        yield Runs(of(wide), of(long))


@contextmanager
def dbos(directory: str) -> Iterator[Runs]:
    from dbos import DBOS

    @DBOS.step()
    async def step(value: int) -> int:
        return noop(value)

    @DBOS.workflow()
    async def wide(steps: int) -> list[int]:
        gate = asyncio.Semaphore(WORKERS)

        async def one(value: int) -> int:
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
def prefect(directory: str) -> Iterator[Runs]:
    os.environ.update(
        PREFECT_HOME=directory,
        PREFECT_LOCAL_STORAGE_PATH=os.path.join(directory, "results"),
        PREFECT_LOGGING_LEVEL="ERROR",
        PREFECT_LOGGING_TO_API_ENABLED="false",
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
    )
    from prefect import flow, task
    from prefect.task_runners import ThreadPoolTaskRunner

    step: Any = task(noop, persist_result=True)

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=WORKERS))
    def wide(steps: int) -> Any:
        return step.map(range(steps)).result()

    @flow
    def long(steps: int) -> None:
        value = 0
        for _ in range(steps):
            value = step(value)

    yield Runs(wide, long)


class Contender(NamedTuple):
    """``needs`` are (package, module); ``steps`` of a fan-out and of a chain are at the most so many."""

    title: str
    open: Callable[[str], Any]
    needs: tuple[tuple[str, str], ...] = ()
    steps: tuple[int, int] = (20_000, 2_000)
    warm: int = 100


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


def main(name: str, directory: str) -> None:
    """Answers on the standard output as it was; what contenders print goes to the error stream."""
    with ExitStack() as stack:
        answers = stack.enter_context(os.fdopen(os.dup(1), "w"))
        os.dup2(2, 1)
        contender = PEERS[name]
        runs = stack.enter_context(contender.open(str(Path(directory).resolve())))
        for run in runs:
            run(contender.warm)
        print(0, file=answers, flush=True)
        for line in sys.stdin:
            scenario, steps = json.loads(line)
            run = getattr(runs, scenario)
            print(timed(lambda run=run, steps=steps: run(steps)), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
