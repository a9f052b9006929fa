"""``Bench``: what a check of an engine works with: coordinators on that engine, threads that wait, gates, answers.

And ``Promises``, the tables that checks of engines are entered in. What is checked is in ``engine_runs`` and
``engine_workers``.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from inspect import cleandoc
from pathlib import Path
from typing import Any, NamedTuple, Self

from ..coordinator.coordinator import Coordinator, EngineFactory
from ..coordinator.run_handle import Run, RunResult
from ..coordinator.scheduler import Scheduler
from ..engines.inline import InlineEngine
from ..ports import Engine
from .answers import Answer, Case, answer, equal, same, start
from .gates import Gate, until
from .workflows import Wide


class Bench:
    """A context manager: when it ends, all gates are opened, all coordinators closed, and its threads have ended.

    Whatever the engine does, it ends: what hangs is left behind in daemon threads, and raised as ``TimeoutError``.

    Args:
        engine: makes the engines that are checked.
        workers: how many of them, as of ``Coordinator``.
        limit: seconds until what should happen counts as hung.
    """

    def __init__(self, engine: EngineFactory, workers: int, limit: float) -> None:
        self.workers = workers
        self.limit = limit
        self.engines: list[Engine] = []  # those made so far
        self._engine = engine
        self._gates: list[Gate] = []
        self._coordinators: list[Coordinator] = []
        self._threads: list[threading.Thread] = []
        # What is given up may still write there.
        self._folder = tempfile.TemporaryDirectory(prefix="floxide-check-", ignore_cleanup_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for gate in self._gates:
            gate.open()
        with self._folder:
            for closing in [self.calls(coordinator.close) for coordinator in self._coordinators]:
                closing.result(self.limit)
            for thread in self._threads:
                thread.join(self.limit)

    def run(self, body: Callable[[Bench], None]) -> None:
        """Run a check."""
        self.calls(body, self).result(self.limit * 2)

    def coordinator(self, **options: Any) -> Coordinator:
        """A coordinator on the engine that is checked; ``options`` are those of ``Coordinator``."""
        made = Coordinator(self.workers, engine=self._noted, **options)
        self._coordinators.append(made)
        return made

    def _noted(self, scheduler: Scheduler, workers: int) -> Engine:
        self.engines.append(self._engine(scheduler, workers))
        return self.engines[-1]

    def gate(self, *, opened: bool = False) -> Gate:
        """A new gate, closed or open."""
        path = Path(self._folder.name, f"gate{len(self._gates)}")
        path.mkdir()
        made = Gate(path)
        if not opened:
            made.close()
        self._gates.append(made)
        return made

    def waits(self, run: Run) -> Future[RunResult]:
        """A thread that waits for the run from now on: some engines run steps only while somebody does."""
        return self.calls(run.wait, self.limit)

    def calls(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """A thread that calls the function."""
        future: Future[Any] = Future()

        def call() -> None:
            try:
                future.set_result(function(*arguments))
            except BaseException as error:
                future.set_exception(error)

        self._threads.append(threading.Thread(target=call, name="floxide-check", daemon=True))
        self._threads[-1].start()
        return future

    def until(self, true: Callable[[], Any]) -> None:
        """Wait until it is true, ``limit`` seconds at the most."""
        until(true, self.limit)

    def entered(self, gate: Gate, count: int = 1) -> None:
        """Wait until so many steps have come to the gate."""
        self.until(lambda: gate.trace.count("in") >= count)

    def works(self, coordinator: Coordinator) -> None:
        """Hold the coordinator to be good for another run."""
        result = self.waits(coordinator.start(Wide, 9)).result(self.limit)
        equal("the output of another run", result.output, 36)

    def same_answer(self, case: Case, run_id: str) -> None:
        """Hold the engine's answer to be the inline engine's."""
        same(answer(start(self.coordinator(), case, run_id), self.limit), self.expected(case, run_id))

    def expected(self, case: Case, run_id: str) -> Answer:
        """What the inline engine makes of it."""
        with Coordinator(0, engine=lambda scheduler, _: InlineEngine(scheduler)) as reference:
            return answer(start(reference, case, run_id), self.limit)


class Promise(NamedTuple):
    """A check of an engine, and what kind of engine it is for."""

    name: str
    text: str  # what is promised
    body: Callable[[Bench], None]
    hard: bool = False  # only for engines that can end a step that runs
    tells: bool = False  # only for engines that can tell it something
    workers: int = 0  # only for engines with so many workers


class Promises(list[Promise]):
    """A table of promises; functions are entered in it by decorating them. Their docstrings say what is promised."""

    def __call__(self, **needs: Any) -> Callable[[Callable[[Bench], None]], Any]:
        """The decorator. Args: needs: as in ``Promise``."""

        def enter(body: Callable[[Bench], None]) -> Any:
            self.append(Promise(body.__name__, cleandoc(body.__doc__ or ""), body, **needs))
            return body

        return enter
