"""floxide_mp: describe a job as a graph of nodes; it runs on N processes, and remembers every finished step."""

from __future__ import annotations

from . import ctrl_c as _ctrl_c  # noqa: F401  # first: what follows takes time to be imported

# isort: split

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

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
from .merge import Fixed, Merge, SharedState
from .node import Node, node, with_retry
from .nodes import Arrivals, BatchNode, CompositeNode, Join, SplitNode
from .retry import BackoffStrategy, RetryError, RetryPolicy
from .route import when
from .runtime import main_module as _main_module  # noqa: F401  # it notes what the script's file is like now
from .runtime import search_path as _search_path  # noqa: F401  # and this, in which directory the program is
from .statuses import LivenessStatus, RunStatus, WorkerStatus, WorkItemStatus
from .stepping import ItemProcessedOutcome, OutcomeKind, StepBackend, StepCallbacks
from .transition import Abort, Hold, Next, NextAll, Transition
from .version import __version__ as __version__
from .workflow import Workflow

if TYPE_CHECKING:
    from collections.abc import Callable

    from .assembly import Coordinator
    from .facts import Checkpoint, RunInfo, RunMetrics, WorkerHealth, WorkflowError, WorkItem
    from .runtime.run import Run, RunResult
    from .runtime.source import Sender, Source, source
    from .stores.memory import MemoryStore
    from .stores.sqlite import SQLiteStore


def _launcher(name: str) -> Callable[..., Any]:
    from . import launch

    return getattr(launch, name)  # type: ignore[no-any-return]


Workflow.__launcher__ = staticmethod(_launcher)

_LATER: Final = {  # a worker needs none of these: importing them when they are asked for makes it start sooner
    **dict.fromkeys(("Checkpoint", "RunInfo", "RunMetrics", "WorkItem", "WorkerHealth", "WorkflowError"), "facts"),
    "Coordinator": "assembly",
    "MemoryStore": "stores.memory",
    "Run": "runtime.run",
    "RunResult": "runtime.run",
    "SQLiteStore": "stores.sqlite",
    "Sender": "runtime.source",
    "Source": "runtime.source",
    "source": "runtime.source",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LATER[name]}", __name__), name)


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
    "OutcomeKind",
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
