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
from .node import Node, node
from .nodes import Arrivals, CompositeNode, Join, SplitNode
from .retry import BackoffStrategy, RetryError, RetryPolicy
from .route import when
from .transition import Abort, Hold, Next, NextAll, Transition
from .workflow import Workflow

if TYPE_CHECKING:
    from .launch import Coordinator
    from .runtime.run import Run, RunResult
    from .stores.memory import MemoryStore

__version__ = "0.1.0"


def _launch(workflow: Workflow, input: Any, **options: Any) -> RunResult:
    from .launch import run_once

    return run_once(workflow, input, **options)


Workflow.__launcher__ = staticmethod(_launch)


def __getattr__(name: str) -> Any:
    # A worker needs none of these: importing them when they are asked for makes it start sooner.
    if name == "Coordinator":
        from .launch import Coordinator

        return Coordinator
    if name in ("Run", "RunResult"):
        from .runtime import run

        return getattr(run, name)
    if name == "MemoryStore":
        from .stores.memory import MemoryStore

        return MemoryStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Abort",
    "AlreadyCompletedError",
    "Arrivals",
    "BackoffStrategy",
    "Checkpoint",
    "CompositeNode",
    "Context",
    "Coordinator",
    "EventLog",
    "Fixed",
    "FloxideError",
    "Hold",
    "Item",
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
    "SerializationError",
    "SharedState",
    "SplitNode",
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
    "when",
]
