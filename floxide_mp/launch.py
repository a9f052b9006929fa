"""Puts the rooms together: which engine a coordinator has, and what ``Workflow.run`` does."""

from __future__ import annotations

import os
from collections import deque
from typing import Any

from .context import Context
from .engines.inline import InlineEngine
from .errors import StoreError
from .ports import Door, Engine
from .runtime.coordinator import Coordinator
from .runtime.desk import Desks
from .runtime.ledger import Ledger
from .runtime.run import Run, RunResult, checked_seconds
from .runtime.source import Sender, Source, source
from .workflow import Workflow


def engine_for(ledger: Ledger, workers: int) -> Engine:
    """The engine for a number of workers."""
    if workers == 0:
        return InlineEngine(ledger)
    from .engines.processes import ProcessEngine  # not for an inline run: it costs 20 ms of imports

    return ProcessEngine(ledger, workers)


def door_for(desks: Desks) -> Door:
    """What lets a user's own worker loops in other processes in."""
    from .engines.processes.listener import Listener

    return Listener(desks)


Coordinator.__engine__ = staticmethod(engine_for)
Coordinator.__door__ = staticmethod(door_for)


def run_once(
    workflow: Workflow,
    input: Any,
    ctx: Context | None = None,
    workers: int | None = 0,
    run_id: str | None = None,
    seed: int = 0,
    timeout: float | None = None,
    failure: str = "stop",
    resume: bool = False,
    **options: Any,
) -> RunResult:
    """One run on a coordinator of its own, whose ``options`` are given. With ``resume``, it may have begun before."""
    if timeout is not None:
        checked_seconds("timeout", timeout)  # before any process is started
    with Coordinator(workers, **options) as coordinator:
        of_run: dict[str, Any] = {"seed": seed, "timeout": timeout, "failure": failure, "resume": resume}
        return coordinator.start(workflow, input, ctx, run_id, **of_run).wait()


def resume_once(
    workflow: Workflow, store: Any, run_id: str, workers: int | None, allow_changes: bool = False, **options: Any
) -> RunResult:
    """The run of that id, gone on with to its end. A store that is not there is not made."""
    if isinstance(store, str | os.PathLike) and not os.path.exists(store):
        path = os.path.realpath(store)
        raise StoreError(f"there is no store {path}", path=path)
    with Coordinator(workers, store, **options) as coordinator:
        return coordinator.resume(workflow, run_id, allow_changes=allow_changes).wait()


def run_each(
    taken: Source[Any], workflow: Workflow | type[Workflow], ctx: Context | None, workers: int, **options: Any
) -> list[RunResult]:
    """A run for each value that is sent, as many at a time as there are workers."""
    channel = taken.open(lambda full: False)
    results: list[RunResult] = []
    under_way: deque[Run] = deque()
    try:
        with Coordinator(workers, **options) as coordinator:
            for value in channel:
                under_way.append(coordinator.start(workflow, value, ctx))
                if len(under_way) >= max(1, workers):
                    results.append(under_way.popleft().wait())
            results += [run.wait() for run in under_way]
    finally:
        channel.shut()
    return results


Source.__launcher__ = staticmethod(run_each)

__all__ = [
    "Coordinator",
    "Run",
    "RunResult",
    "Sender",
    "Source",
    "resume_once",
    "run_once",
    "source",
]
