"""floxide_mp: describe a job as a graph of nodes; it runs on N processes, and remembers every finished step."""

# ruff: noqa: E402

from __future__ import annotations

from . import ctrl_c as _ctrl_c  # noqa: F401  # first: what follows takes time to be imported

# isort: split

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

_LATER: Final = {  # a worker needs none of these: importing them when they are asked for makes it start sooner
    **dict.fromkeys(("Checkpoint", "RunInfo", "RunMetrics", "WorkItem", "WorkerHealth", "WorkflowError"), "types"),
    "Coordinator": "api.defaults",
    "MemoryStore": "stores.memory",
    "Run": "coordinator.run_handle",
    "RunResult": "coordinator.run_handle",
    "SQLiteStore": "stores.sqlite.store",
    "Sender": "coordinator.channel",
    "Source": "coordinator.channel",
    "source": "coordinator.channel",
}
_STANDARD: Final = os.path.dirname(os.__file__) + os.sep


def __getattr__(name: str) -> Any:  # before what follows is imported: it may be asked in the middle of that
    try:
        if name in _LATER:
            return getattr(import_module(f".{_LATER[name]}", __name__), name)
    except (ImportError, AttributeError) as error:
        _check_shadowed(error)
        raise
    failure = AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__])
    if getattr(globals()["__spec__"], "_initializing", False):  # or somebody looks what there is here
        _check_shadowed(failure)
    raise failure


def _check_shadowed(error: Exception) -> None:
    """Raise an ImportError if a file of the program's stands in the way of a module of the standard library.

    A script ``pickle.py`` is imported once more, in the middle of the import of this package, by who needs ``pickle``.
    """
    there = [os.path.dirname(os.path.abspath(getattr(sys.modules["__main__"], "__file__", None) or "x")), *sys.path[:1]]
    for name in sys.stdlib_module_names.intersection(list(sys.modules)):
        path = getattr(sys.modules[name], "__file__", None)
        if path is not None and os.path.dirname(os.path.abspath(path)) in there and not path.startswith(_STANDARD):
            text = f"{path} is imported in place of the module {name} of the standard library, which floxide_mp needs"
            raise ImportError(f"{text}: give the file another name", name=name, path=path) from error


from .api.context import Context, Item
from .api.event_log import EventLog, LoggedEvent
from .api.merge import Fixed, Merge, SharedState
from .api.node import Node, node, with_retry
from .api.nodes import Arrivals, BatchNode, CompositeNode, Join, SplitNode
from .api.retry import BackoffStrategy, RetryError, RetryPolicy
from .api.route import when
from .api.stepping import ItemProcessedOutcome, OutcomeKind, StepBackend, StepCallbacks
from .api.transition import Abort, Hold, Next, NextAll, Transition
from .api.workflow import Workflow
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
from .types import LivenessStatus, RunStatus, WorkerStatus, WorkItemStatus
from .version import __version__ as __version__
from .wire import main_module as _main_module  # noqa: F401  # it notes what the script's file is like now
from .wire import search_path as _search_path  # noqa: F401  # and this, in which directory the program is

if TYPE_CHECKING:
    from collections.abc import Callable

    from .api.defaults import Coordinator
    from .coordinator.channel import Sender, Source, source
    from .coordinator.run_handle import Run, RunResult
    from .stores.memory import MemoryStore
    from .stores.sqlite.store import SQLiteStore
    from .types import Checkpoint, RunInfo, RunMetrics, WorkerHealth, WorkflowError, WorkItem


def _launcher(name: str) -> Callable[..., Any]:
    from .api import launch

    return getattr(launch, name)  # type: ignore[no-any-return]


Workflow.__launcher__ = staticmethod(_launcher)


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
