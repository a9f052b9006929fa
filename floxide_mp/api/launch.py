"""What ``Workflow.run``, ``Workflow.resume`` and ``Source.run`` do: a coordinator of their own, and a run on it.

A program that runs a workflow waits for its first worker, which must import what it needs. So that is started first,
and what a coordinator needs is imported meanwhile: not before, at the top of this module.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import FloxideError, RunCancelledError, RunFailedError, RunTimeoutError, StoreError
from ..sigint import defer_sigint
from .context import Context

if TYPE_CHECKING:
    from ..coordinator.channel import Source
    from ..coordinator.coordinator import Coordinator
    from ..coordinator.run_handle import Run, RunResult
    from .workflow import Workflow


@defer_sigint
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
    timeout_grace: float = 2.0,
    **options: Any,
) -> RunResult:
    """One run on a coordinator of its own, whose ``options`` are given. With ``resume``, it may have begun before."""
    with coordinating(workers, **options) as coordinator:
        of_run: dict[str, Any] = {"seed": seed, "timeout": timeout, "failure": failure, "resume": resume}
        of_run["timeout_grace"] = timeout_grace
        return coordinator.start(workflow, input, ctx, run_id, **of_run).wait()


@defer_sigint
def resume_once(
    workflow: Workflow,
    store: Any,
    run_id: str,
    workers: int | None,
    allow_changes: bool = False,
    timeout: float | None = None,
    failure: str | None = None,
    timeout_grace: float | None = None,
    **options: Any,
) -> RunResult:
    """The run of that id, gone on with to its end. A store that is not there is not made."""
    of_run: dict[str, Any] = {"timeout": timeout, "failure": failure, "timeout_grace": timeout_grace}
    if isinstance(store, str | os.PathLike) and not os.path.exists(store):
        path = os.path.realpath(store)
        raise StoreError(f"there is no store {path}", path=path)
    with coordinating(workers, store=store, **options) as coordinator:
        return coordinator.resume(workflow, run_id, allow_changes=allow_changes, **of_run).wait()


@defer_sigint
def run_each(
    taken: Source[Any],
    workflow: Workflow | type[Workflow],
    ctx: Context | None,
    workers: int | None,
    failure: str = "stop",
    **options: Any,
) -> list[RunResult]:
    """A run for each value that is sent, as many at a time as there are workers."""
    from ..coordinator.cpus import usable_cpus

    channel = taken.open(lambda full: False)
    results: list[RunResult] = []
    failed: list[FloxideError] = []
    under_way: deque[Run] = deque()

    def finish_first() -> None:
        try:
            results.append(under_way.popleft().wait())
        except (RunFailedError, RunTimeoutError, RunCancelledError) as error:
            failed.append(error)

    try:
        with coordinating(workers, **options) as coordinator:
            most = max(1, usable_cpus() if workers is None else workers)
            for value in channel:
                under_way.append(coordinator.start(workflow, value, ctx, failure=failure))
                if len(under_way) >= most:
                    finish_first()
                if failed and failure == "stop":
                    channel.shut()  # the sender is told at once
                    break
            while under_way:  # what is under way comes to its end in any case: its result may be wanted
                finish_first()
    finally:
        channel.shut()
    if failed:
        vars(failed[0]).update(results=results, others=tuple(failed[1:]))
        raise failed[0]
    return results


@contextmanager
def coordinating(workers: int | None, **options: Any) -> Iterator[Coordinator]:
    """A coordinator, as for ``Coordinator``, whose first worker is started before anything else."""
    if workers == 0 or options.get("engine") is not None:
        from .defaults import Coordinator

        with Coordinator(workers, **options) as coordinator:
            yield coordinator
        return
    from ..engines.processes.preparation import Preparation
    from ..engines.processes.spawn import spawn_unassigned

    with Preparation() as preparation, ExitStack() as unused:
        unassigned = None
        if _is_new(options.get("store")):
            with suppress(OSError):  # the engine will not do better, and says so
                unassigned = spawn_unassigned(preparation)
                unused.callback(unassigned.discard)
        from .defaults import Coordinator, engine_for

        class Prepared(Coordinator):
            __engine__ = staticmethod(partial(engine_for, preparation=preparation, unassigned=unassigned))

        with Prepared(workers, **options) as coordinator:
            yield coordinator


def _is_new(store: Any) -> bool:
    """Whether a store has no runs yet: what it has may need workers of another hash seed."""
    return store is None or (isinstance(store, str | os.PathLike) and not os.path.exists(store))
