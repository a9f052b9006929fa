"""Puts the rooms together: which engine a coordinator has, and what ``Workflow.run`` does."""

from __future__ import annotations

from typing import Any

from .context import Context
from .engines.inline import InlineEngine
from .ports import Engine
from .runtime.coordinator import Coordinator
from .runtime.ledger import Ledger
from .runtime.run import RunResult, checked_seconds
from .workflow import Workflow


def engine_for(ledger: Ledger, workers: int) -> Engine:
    """The engine for a number of workers."""
    if workers == 0:
        return InlineEngine(ledger)
    from .engines.processes import ProcessEngine  # not for an inline run: it costs 20 ms of imports

    return ProcessEngine(ledger, workers)


__all__ = ["Coordinator", "engine_for", "run_once"]

Coordinator.__engine__ = staticmethod(engine_for)


def run_once(
    workflow: Workflow,
    input: Any,
    ctx: Context | None = None,
    workers: int | None = 0,
    run_id: str | None = None,
    seed: int = 0,
    timeout: float | None = None,
    **options: Any,
) -> RunResult:
    """One run on a coordinator of its own."""
    if timeout is not None:
        checked_seconds("timeout", timeout)  # before any process is started
    with Coordinator(workers, **options) as coordinator:
        return coordinator.start(workflow, input, ctx, run_id, seed=seed).wait(timeout)
