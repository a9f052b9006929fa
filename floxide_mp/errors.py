"""The error tree. Everything a user may want to catch lives here; nothing here decides anything.

FloxideError
├── WorkflowDefinitionError     the graph is wrong (also a ValueError)
├── NotStartedError             no such run (also a LookupError)
├── AlreadyCompletedError       the run is over and cannot be taken up again
├── RunFailedError              the run ended FAILED; ``__cause__`` is the node's own error
├── RunCancelledError           the run ended CANCELLED
├── RunTimeoutError             the run was longer than its ``timeout=`` (also a TimeoutError)
├── NodeTimeoutError            a step was longer than its node's ``timeout=`` (also a TimeoutError)
├── WorkerDiedError             a worker process ended under a step, or none can be started
├── RemoteError                 stands for an exception that could not travel: its text and traceback
├── SerializationError          a node, input, result or event that cannot be pickled (also a TypeError)
└── StoreError                  the checkpoint store
    ├── StoreLockedError        another coordinator owns it
    ├── StoreCorruptError       its bytes are not what was written
    └── StoreVersionError       written by another version of this package, Python or the workflow
"""

from __future__ import annotations

from typing import Any


class FloxideError(Exception):
    """Root of the tree.

    Args:
        message: one or more lines for a person.
        facts: what a program may want to look at; each becomes an attribute. ``run_id``, ``node``,
            ``item_id`` and ``attempt`` are always present (``None`` where they make no sense).

    All of these survive pickling with their facts, because they are attributes and not arguments.
    """

    run_id: str | None = None
    node: str | None = None
    item_id: int | None = None
    attempt: int | None = None

    def __init__(self, message: str = "", **facts: Any) -> None:
        super().__init__(message)
        self.__dict__.update(facts)


class WorkflowDefinitionError(FloxideError, ValueError):
    """The graph cannot work. ``problems`` is the tuple of everything found, one sentence each."""

    problems: tuple[str, ...] = ()


class NotStartedError(FloxideError, LookupError):
    """No run of that id is known."""


class AlreadyCompletedError(FloxideError):
    """The run is over; its result is stored and cannot be changed."""


class RunFailedError(FloxideError):
    """The run ended FAILED. ``__cause__`` is the error of the step that failed it."""


class RunCancelledError(FloxideError):
    """The run ended CANCELLED."""


class RunTimeoutError(FloxideError, TimeoutError):
    """The run was longer than allowed."""


class NodeTimeoutError(FloxideError, TimeoutError):
    """A step was longer than its node's ``timeout=`` and was ended together with its worker; inline, where it cannot be
    ended, it is told when the step is over.
    """


class WorkerDiedError(FloxideError):
    """A worker process ended under a step. ``exit_code`` is negative for a signal, as in ``subprocess``."""

    exit_code: int | None = None
    pid: int | None = None


class RemoteError(FloxideError):
    """Stands in for a worker's exception that cannot be pickled or unpickled. ``type_name`` names it."""

    type_name: str = ""


class SerializationError(FloxideError, TypeError):
    """Something that must travel between processes cannot. ``path`` leads to the part that cannot."""

    path: str = ""


class StoreError(FloxideError):
    """The checkpoint store could not do what was asked.

    ``transient``: nothing was lost, and the same may work later (no space left, locked by another program).
    ``full``: it will, once there is space.
    """

    transient: bool = False
    full: bool = False


class StoreLockedError(StoreError):
    """Another coordinator owns the store."""


class StoreCorruptError(StoreError):
    """The store's bytes are not those that were written."""


class StoreVersionError(StoreError):
    """The store was written by another version of something that matters.

    ``found`` and ``known``: the versions of then and now; numbers where it is the schema's that differ.
    """

    found: Any = None
    known: Any = None
