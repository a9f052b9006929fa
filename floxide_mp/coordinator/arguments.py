"""What callers give, checked, and as it is used from then on. In the caller's process."""

from __future__ import annotations

import os
from contextlib import ExitStack

from ..api.arguments import checked_seconds
from ..api.workflow import Compiled, Workflow
from ..ports import CheckpointStore, RunRecord
from ..stores.memory import MemoryStore


def with_options(
    record: RunRecord, timeout: float | None, failure: str | None, timeout_grace: float | None
) -> RunRecord:
    """The run with what is given of these.

    Raises:
        ValueError: it makes no sense.
    """
    if timeout is not None:
        record = record._replace(timeout=checked_seconds("timeout", timeout))
    if timeout_grace is not None:
        record = record._replace(timeout_grace=checked_seconds("timeout_grace", timeout_grace))
    if failure is not None and failure not in ("stop", "finish"):
        raise ValueError(f'failure must be "stop" or "finish", not {failure!r}')
    return record if failure is None else record._replace(finish=failure == "finish")


def store_of(store: CheckpointStore | str | os.PathLike[str] | None, opened: ExitStack) -> CheckpointStore:
    if isinstance(store, str | os.PathLike):
        from ..stores.sqlite.store import SQLiteStore  # 10 ms that runs in memory do not need

        made = SQLiteStore(store)
        opened.callback(made.close)
        return made
    if store is not None and (isinstance(store, type) or not isinstance(store, CheckpointStore)):
        raise TypeError(f"store must be a CheckpointStore, such as a MemoryStore(), or a path, not {store!r}")
    return MemoryStore() if store is None else store


def as_instance(workflow: Workflow | type[Workflow]) -> Workflow:
    """The workflow, or an instance of the class.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(workflow, type) and issubclass(workflow, Workflow):
        return workflow()
    if isinstance(workflow, Workflow):
        return workflow
    raise TypeError(f"a Workflow is needed, not {workflow!r}")


def new_id(compiled: Compiled) -> str:
    """An id for a run that the caller gave no name."""
    return f"{compiled.graph.name}-{os.urandom(8).hex()}"
