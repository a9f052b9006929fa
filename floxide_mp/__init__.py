"""floxide_mp: describe a job as a graph of nodes; it runs on N processes, and remembers every finished step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .context import Context, Item
from .errors import (
    AlreadyCompletedError,
    FloxideError,
    NodeTimeoutError,
    NotStartedError,
    RemoteError,
    RunCancelledError,
    RunFailedError,
    RunTimeoutError,
    SerializationError,
    StoreCorruptError,
    StoreError,
    StoreLockedError,
    StoreVersionError,
    WorkerDiedError,
    WorkflowDefinitionError,
)
from .event_log import EventLog, LoggedEvent
from .facts import (
    Checkpoint,
    LivenessStatus,
    RunInfo,
    RunMetrics,
    RunStatus,
    WorkerHealth,
    WorkerStatus,
    WorkflowError,
    WorkItem,
    WorkItemStatus,
)
from .merge import Fixed, Merge, SharedState
from .node import Node, node, with_retry
from .nodes import Arrivals, BatchNode, CompositeNode, Join, SplitNode
from .retry import BackoffStrategy, RetryError, RetryPolicy
from .route import when
from .stepping import ItemProcessedOutcome, StepBackend, StepCallbacks
from .transition import Abort, Hold, Next, NextAll, Transition
from .version import __version__ as __version__
from .workflow import Workflow

if TYPE_CHECKING:
    from collections.abc import Callable

    from .launch import Coordinator, Run, RunResult, Sender, Source, source
    from .stores.memory import MemoryStore
    from .stores.sqlite import SQLiteStore


def _launcher(name: str) -> Callable[..., Any]:
    from . import launch

    return getattr(launch, name)  # type: ignore[no-any-return]


Workflow.__launcher__ = staticmethod(_launcher)


def __getattr__(name: str) -> Any:
    # A worker needs none of these: importing them when they are asked for makes it start sooner.
    if name in ("Coordinator", "Run", "RunResult", "Sender", "Source", "source"):
        return _launcher(name)
    if name == "MemoryStore":
        from .stores.memory import MemoryStore

        return MemoryStore
    if name == "SQLiteStore":
        from .stores.sqlite import SQLiteStore

        return SQLiteStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})  # also what is imported later: for completion and ``help``


__all__ = [
    "Abort",
    "AlreadyCompletedError",
    "Arrivals",
    "BackoffStrategy",
    "BatchNode",
    "Checkpoint",
    "CompositeNode",
    "Context",
    "Coordinator",
    "EventLog",
    "Fixed",
    "FloxideError",
    "Hold",
    "Item",
    "ItemProcessedOutcome",
    "Join",
    "LivenessStatus",
    "LoggedEvent",
    "MemoryStore",
    "Merge",
    "Next",
    "NextAll",
    "Node",
    "NodeTimeoutError",
    "NotStartedError",
    "RemoteError",
    "RetryError",
    "RetryPolicy",
    "Run",
    "RunCancelledError",
    "RunFailedError",
    "RunInfo",
    "RunMetrics",
    "RunResult",
    "RunStatus",
    "RunTimeoutError",
    "SQLiteStore",
    "Sender",
    "SerializationError",
    "SharedState",
    "Source",
    "SplitNode",
    "StepBackend",
    "StepCallbacks",
    "StoreCorruptError",
    "StoreError",
    "StoreLockedError",
    "StoreVersionError",
    "Transition",
    "WorkItem",
    "WorkItemStatus",
    "WorkerDiedError",
    "WorkerHealth",
    "WorkerStatus",
    "Workflow",
    "WorkflowDefinitionError",
    "WorkflowError",
    "node",
    "source",
    "when",
    "with_retry",
]
