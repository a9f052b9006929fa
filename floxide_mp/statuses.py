"""Where runs, items and workers stand, in words. What is told of them besides is in ``facts``."""

from __future__ import annotations

import enum


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
