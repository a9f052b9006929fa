"""Who works on what: the records that a ledger keeps of workers and leases, and when a worker is overdue."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ..core.records import ItemRecord
from ..errors import FloxideError, NodeTimeoutError
from .board import At, Board
from .running import Running

SOON: Final = 0.05  # seconds


@dataclass(slots=True, eq=False)
class Leased:
    """A lease that is out."""

    id: int
    run: Running
    items: list[ItemRecord]
    timed: bool  # some item's node has a time-out
    reported: int = 0  # items that were reported while the lease goes on

    def item(self, at: At | None) -> ItemRecord | None:
        """The item that a worker is at, if it is one of this lease."""
        if at is None or at.lease != self.id or not 0 <= at.place - self.reported < len(self.items):
            return None
        return self.items[at.place - self.reported]


@dataclass(slots=True, eq=False)
class Session:
    """One life of one worker. A worker that is replaced has a new session, so what the old one sends is refused."""

    number: int
    worker_id: int
    board: Board
    pid: int
    leases: dict[int, Leased] = field(default_factory=dict)
    calls: int = 0
    seen: float = 0.0  # time of the last call
    waiting: bool = False
    errors: int = 0
    guest: bool = False  # a loop of the user's own: nobody may end its process
    only: str | None = None  # the workflow whose items it takes; None: all


class Ask(NamedTuple):
    """What a guest asks for: an item of a run of that workflow, and for how many seconds it will wait."""

    workflow: str
    wait: float


class Overdue(NamedTuple):
    """A worker to be ended for what it is at. ``error`` is what that item fails with; None: it is given back."""

    session: int
    at: At | None
    error: FloxideError | None


def time_left(worker: Session, lease: Leased, now: float) -> tuple[float | None, FloxideError | None]:
    """Seconds until the worker must be ended for this lease, and the error its item gets."""
    at = worker.board.at()
    item = lease.item(at)
    if lease.run.grace_until is not None:
        left = lease.run.grace_until - now
        return (left if item else max(left, SOON)), None  # it may be about to begin
    if not lease.timed:
        return None, None
    places = lease.run.state.plan.places
    spec = places[item.place].spec if item else None
    if at is None or spec is None or spec.timeout is None:
        limits = (places[other.place].spec.timeout for other in lease.items)
        return min((limit for limit in limits if limit is not None), default=None), None
    name, limit, end = spec.name, spec.timeout, "given up" if worker.guest else "ended"
    error = NodeTimeoutError(f"{name} ran longer than its time-out of {limit:g} s; worker {worker.worker_id} was {end}")
    return at.started / 1e9 + limit - now, error
