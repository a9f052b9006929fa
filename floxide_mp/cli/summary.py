"""How runs stand, as a store says it, and its owner, as the kernel says it: plain facts, gathered without unpickling
anything and without disturbing whoever writes. How they look on a screen is decided in ``runs_command``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..coordinator.run_handle import failure_text
from ..core.records import ItemRow, Snapshot, place
from ..core.transitions import ENDS, STATUS
from ..core.types import OrderKey
from ..ports import RunRecord
from ..stores.sqlite.clock_conversion import CLOCKS
from ..stores.sqlite.reader import Reader
from ..types import RunMetrics, RunStatus, WorkItemStatus

INTERRUPTED: Final = "interrupted"
STATUSES: Final = (*(status.value for status in RunStatus), INTERRUPTED)
_WORKER: Final = b"floxide_mp.engines.processes.child"  # is in the command line of worker processes
_STATES: Final = {"R": "running", "D": "waiting for a device", "T": "stopped", "t": "in a debugger", "Z": "ended"}


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run. Times are seconds since the epoch.

    Attributes:
        status: that of the run, or "interrupted" if it is not over and nobody is there who goes on with it.
        committed_at: when its last commit was written.
        error: why it failed, in one line.
    """

    run_id: str
    workflow: str
    status: str
    started_at: float
    committed_at: float
    finished_at: float | None
    metrics: RunMetrics
    error: str | None

    @property
    def live(self) -> bool:
        """Whether steps of it may be running."""
        return self.status in {RunStatus.RUNNING.value, *(STATUS[phase].value for phase in ENDS)}

    @property
    def resumable(self) -> bool:
        """Whether ``resume`` would go on with it."""
        return self.status in (INTERRUPTED, RunStatus.FAILED.value, RunStatus.PAUSED.value)


@dataclass(frozen=True, slots=True)
class Owner:
    """The program that had the store last, and whether it has it still. ``pid`` is None if nobody ever had."""

    pid: int | None
    host: str | None
    since: float | None
    epoch: int
    lives: bool


@dataclass(frozen=True, slots=True)
class Process:
    """A worker process, as /proc has it."""

    pid: int
    state: str
    cpu_seconds: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class NodeCounts:
    """Items of one node; ``waiting`` are those that run, too: a store is not told which."""

    node: str
    finished: int
    waiting: int
    failed: int


@dataclass(frozen=True, slots=True)
class Item:
    """One unfinished item. ``due``: when it is tried again, seconds since the epoch."""

    item_id: int
    node: str
    attempt: int
    status: str
    order: OrderKey
    due: float | None


@dataclass(frozen=True, slots=True)
class Error:
    """One failed attempt."""

    number: int
    node: str
    item_id: int
    attempt: int
    worker_id: int | None
    at: float
    type_name: str
    message: str
    traceback: str
    input: str | None


@dataclass(frozen=True, slots=True)
class Event:
    """One write to the context. ``number`` counts from 0 in the order of commits, ``field`` is its name;
    ``size`` is that of what was written, in bytes: what it is only those can know who have the user's modules.
    """

    number: int
    node: str
    order: OrderKey
    index: int
    field: str
    size: int


@dataclass(frozen=True, slots=True)
class Details:
    """All about one run, as of one moment. ``events`` are in the run's order, and None if they were not asked for."""

    summary: RunSummary
    owner: Owner
    workers: list[Process]
    nodes: list[NodeCounts]
    unfinished: list[Item]
    errors: list[Error]
    events: list[Event] | None


def owner_of(reader: Reader) -> Owner:
    """Who had the store last."""
    last = reader.owner()
    return Owner(last.pid, last.host, last.since, last.epoch, reader.holder() is not None)


def standings(reader: Reader) -> list[RunSummary]:
    """Every run, oldest first."""
    with reader.read_transaction():
        owner = owner_of(reader)
        return [_summary(reader, owner, record) for record in reader.runs()]


def details(reader: Reader, record: RunRecord, with_events: bool) -> Details:
    """All about one run."""
    run_id, places = record.run_id, record.places
    with reader.read_transaction():
        owner = owner_of(reader)
        standing = _summary(reader, owner, record)
        snapshot = reader.snapshot(run_id)
        finished = reader.finished(run_id)
        errors = [Error(*e[4:10], *e[:3], e.input) for e in reader.errors(run_id)]
        logged = sorted(enumerate(reader.events(run_id)), key=lambda one: place(one[1])) if with_events else []
    items = [
        Item(row.id, places[row.place], row.attempt, row.status.value, row.order, _due(row)) for row in snapshot.items
    ]
    items += [Item(0, places[a.place], 1, WorkItemStatus.ARRIVED.value, a.order, None) for a in snapshot.arrivals]
    names = dict(enumerate(name for name, _ in record.fields))
    events = [Event(n, e.node, e.order, e.index, names.get(e.field, ""), len(e.payload)) for n, e in logged]
    return Details(
        summary=standing,
        owner=owner,
        workers=_workers_of(reader.holder()) if standing.live else [],
        nodes=_counts(record, snapshot, finished),
        unfinished=sorted(items, key=lambda item: item.order),
        errors=errors,
        events=events if with_events else None,
    )


def _summary(reader: Reader, owner: Owner, record: RunRecord) -> RunSummary:
    run_id = record.run_id
    progress, written = reader.progress(run_id), reader.written(run_id)
    alone = not (owner.lives and written.epoch == owner.epoch)
    status = STATUS[ENDS.get(progress.phase, progress.phase) if alone else progress.phase]
    left = status is RunStatus.RUNNING and alone
    return RunSummary(
        run_id=run_id,
        workflow=record.name,
        status=INTERRUPTED if left else status.value,
        started_at=record.started_at,
        committed_at=written.at,
        finished_at=progress.finished_at,
        metrics=progress.metrics,
        error=None if progress.failure is None else failure_text(run_id, progress.failure, progress.failed),
    )


def _due(row: ItemRow) -> float | None:
    """Seconds since the epoch. One that has failed, or is to be run, still has the time of before."""
    return CLOCKS.to_wall(row.due) if row.status is WorkItemStatus.WAITING_RETRY else None


def _counts(record: RunRecord, snapshot: Snapshot, finished: Mapping[str, int]) -> list[NodeCounts]:
    """By node, in the order of the graph."""
    found = Counter((record.places[row.place], row.status is WorkItemStatus.FAILED) for row in snapshot.items)
    found.update((record.places[a.place], False) for a in snapshot.arrivals)
    return [NodeCounts(name, finished.get(name, 0), found[name, False], found[name, True]) for name in record.shape]


def _workers_of(owner: int | None) -> list[Process]:
    """The worker processes of a process, by number."""
    found = []
    for entry in Path("/proc").iterdir() if owner and os.path.isdir("/proc") else ():
        try:
            if entry.name.isdigit() and _WORKER in (entry / "cmdline").read_bytes():
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == owner:
                    found.append(_process(int(entry.name), fields))
        except OSError:
            pass  # ended while we looked, or not for us to see
    return sorted(found, key=lambda process: process.pid)


def _process(pid: int, fields: list[str]) -> Process:
    """A process of what stands behind its name in ``/proc/PID/stat``."""
    seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return Process(pid, _STATES.get(fields[0], "sleeping"), seconds, int(fields[21]) * os.sysconf("SC_PAGE_SIZE"))
