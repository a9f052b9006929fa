"""How workers are: what the kernel says of their processes, and what users are told. It works for each session that
has a pid, whoever started the process.
"""

from __future__ import annotations

import os

from ..clock import monotonic, time
from ..coordinator.leases import Session
from ..coordinator.liveness import STOPPED, TRACED, Look, last_sign, liveness
from ..coordinator.scheduler import Scheduler
from ..core.records import Chunk, ItemRecord
from ..types import WorkerHealth, WorkerStatus


def look(worker: Session, now: float) -> Look:
    """See whether its process can run. Under the scheduler's lock, as everything of a session."""
    found = Look.after(worker.look, now, *_stat(worker.pid))
    worker.seen = last_sign(worker.seen, worker.look, found)
    worker.look = found
    return found


def healths(scheduler: Scheduler, threshold: float) -> list[WorkerHealth]:
    """What ``ports.Engine.workers`` gives, by ``worker_id``."""
    found = scheduler.look_at_workers(lambda worker: _health(worker, threshold))
    return sorted(found, key=lambda worker: worker.worker_id)


def _health(worker: Session, threshold: float) -> WorkerHealth:
    """A worker as of now. Ages are by the monotonic clock, so that setting the clock on the wall ages nobody."""
    now = monotonic()
    state = look(worker, now).state
    age = now - worker.seen
    at = worker.status_page.at()
    lease = worker.leases.get(at.lease) if at else None
    found = lease.find(at) if lease else None
    return WorkerHealth(
        worker_id=worker.worker_id,
        pid=worker.pid,
        status=_status(worker, state, lease is not None),
        liveness=liveness(age, threshold),
        last_heartbeat=time() - age,
        error_count=worker.errors,
        current_work_item=_number(*found) if found else None,
        current_work_item_run_id=lease.run.record.run_id if lease else None,
    )


def _number(item: ItemRecord | Chunk, number: int) -> int:
    return item.first + number if isinstance(item, Chunk) else item.id


def _status(worker: Session, state: str, busy: bool) -> WorkerStatus:
    if state in (STOPPED, TRACED):
        return WorkerStatus.STOPPED
    if busy:
        return WorkerStatus.BUSY
    started = worker.calls or worker.pid == os.getpid()  # inline there is nothing to start
    return WorkerStatus.IDLE if started else WorkerStatus.STARTING


def _stat(pid: int) -> tuple[str, int]:
    """State and CPU time, see ``Look``. A process that is not there gives no sign of life.

    Where there is no ``/proc``, one that is there may be stopped, and nobody can tell.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # the name before it may have any character in it
    except OSError:
        return "?" if _exists(pid) else "X", 0
    return fields[0].decode(), int(fields[11]) + int(fields[12])


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        pass
    return True
