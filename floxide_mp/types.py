"""What users are given to read about runs, items and workers: plain immutable records, and the statuses in them.

Lives in every process.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from .api.context import Context


@dataclass(frozen=True, slots=True)
class RunMetrics:
    """Exact counts of one run. An item is counted as completed or failed once, however often it was executed.

    ``total_work_items`` are those that there have been so far, unfinished ones included; ``retries`` are attempts that
    failed and were followed by another. A held item is completed when its node has passed something on.
    """

    total_work_items: int = 0
    completed: int = 0
    failed: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class RunInfo:
    """One run. Times are seconds since the epoch; ``finished_at`` is None while the run is on.

    ``workflow`` is its name. ``error`` says why the run failed, or why its store has paused it; else None.
    """

    run_id: str
    workflow: str
    status: RunStatus
    started_at: float
    finished_at: float | None
    metrics: RunMetrics
    error: str | None = None


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One unfinished piece of work: ``node`` is to be run, for the ``attempt``-th time.

    ``item_id`` is 0 for what has arrived at a join, which is ``node``. Sorted by ``order``, which is ``(depth, path)``,
    items are in the order of the one-process run.
    """

    run_id: str
    item_id: int
    node: str
    attempt: int
    status: WorkItemStatus
    order: tuple[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class WorkflowError:
    """One failed attempt. ``number`` counts from 1 within the run; ``at`` is seconds since the epoch.

    ``type_name``, ``message`` and ``traceback`` are texts, of the exception in the worker. ``input`` says in a line
    of at most 200 characters what the item's input was: its ``repr``, or type and size of a large one. None: the node
    does not ask for an input, or has ``redact``, or it could not be opened, or the worker died.
    """

    number: int
    run_id: str
    node: str
    item_id: int
    attempt: int
    type_name: str
    message: str
    traceback: str
    worker_id: int | None
    at: float
    input: str | None = None


@dataclass(frozen=True, slots=True)
class WorkerHealth:
    """One worker process. The inline worker has the pid of the coordinator's own.

    ``last_heartbeat``, in seconds since the epoch, is when it was last known to be able to run: it called, or a look at
    its process found it neither stopped nor gone. ``error_count`` is how many attempts have failed there, and
    ``current_work_item`` the id of the item that it is at, if any.
    """

    worker_id: int
    pid: int
    status: WorkerStatus
    liveness: LivenessStatus
    last_heartbeat: float
    error_count: int
    current_work_item: int | None
    current_work_item_run_id: str | None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What would be picked up after a crash now: the committed context and the work not yet finished (``queue``).

    ``outputs`` are those that are committed. All is in the order of the one-process run.
    """

    run_id: str
    status: RunStatus
    context: Context
    queue: tuple[WorkItem, ...]
    outputs: tuple[Any, ...]


class RunStatus(enum.Enum):
    """Where a run stands. COMPLETED, FAILED and CANCELLED are ends. On the way to one, nothing new starts, and
    the steps that run are finished (FAILING) or have their grace (EXPIRING: its time-out is over; CANCELLING).
    """

    RUNNING = "running"
    PAUSED = "paused"
    FAILING = "failing"
    EXPIRING = "timing out"
    CANCELLING = "being cancelled"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class WorkItemStatus(enum.Enum):
    """Where a work item stands."""

    PENDING = "pending"
    IN_PROGRESS = "in progress"
    WAITING_RETRY = "waiting for retry"
    ARRIVED = "arrived at a join"
    HELD = "held"
    COMPLETED = "completed"
    FAILED = "failed"

    __hash__ = object.__hash__  # looked up twice a step; Enum's own is written in Python


class WorkerStatus(enum.Enum):
    """What a worker is doing. STOPPED: its process is held by a signal or a debugger, whatever it is at."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    STOPPED = "stopped"


class LivenessStatus(enum.Enum):
    """Whether a worker can be counted on, by the age of its last sign of life: see ``Coordinator.workers``."""

    ALIVE = "alive"
    STALE = "stale"
    DEAD = "dead"
