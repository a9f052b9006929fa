"""Which worker has which lease, when a worker is overdue or stalled, and when it is to be replaced by one with another
hash seed. Lives in the coordinator's process.

All workers of a run have one hash seed, which is kept with the run. Runs of one coordinator have the same, as a rule;
but one that is taken up from a store may have another, and needs workers of its own. A hash seed is set as an
interpreter starts, so such a worker is a new process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ..clock import monotonic
from ..core.records import Chunk, ItemRecord
from ..errors import FloxideError, NodeTimeoutError
from ..messages import FAIL, Result, Results
from ..wire.status_page import CurrentItem, StatusPage
from .active_run import ActiveRun, RunEntry
from .iterator_affinity import IteratorAffinity
from .liveness import STOPPED, Look

SOON: Final = 0.05  # seconds


@dataclass(slots=True, eq=False)
class Leased:
    """A lease that is out."""

    id: int
    run: ActiveRun
    items: list[ItemRecord | Chunk]
    timed: bool  # some item's node has a time-out
    reported: int = 0  # items that were reported while the lease goes on

    def find(self, at: CurrentItem | None) -> tuple[ItemRecord | Chunk, int] | None:
        """The item that a worker is at, if it is one of this lease: alone, or in a block and its number there."""
        if at is None or at.lease != self.id or at.position < self.reported:
            return None
        number = at.position - self.reported
        for item in self.items:
            count = len(item) if isinstance(item, Chunk) else 1
            if number < count:
                return item, number
            number -= count
        return None

    def chained_from(self, at: CurrentItem | None) -> int:
        """How many steps further a worker has gone than the lease's items, by itself."""
        if at is None or at.lease != self.id or at.position < self.reported or len(self.items) != 1:
            return 0
        (item,) = self.items
        return (at.position - self.reported) // (len(item) if isinstance(item, Chunk) else 1)


@dataclass(slots=True, eq=False)
class Session:
    """One life of one worker. A worker that is replaced has a new session, so what the old one sends is refused."""

    number: int
    worker_id: int
    status_page: StatusPage
    pid: int
    leases: dict[int, Leased] = field(default_factory=dict)
    calls: int = 0
    runs: set[str] = field(default_factory=set)  # of which it has had items, and has not heard that they are over
    ends_seen: int = 0  # ends of runs, in all, up to which it has heard
    seen: float = field(default_factory=monotonic)  # the last sign of life: a call, or a look
    look: Look | None = None  # the last one
    waiting: bool = False
    errors: int = 0
    external: bool = False  # a loop of the user's own: nobody may end its process
    only: str | None = None  # the workflow whose items it takes; None: all
    hash_seed: int | None = None  # of its process; None: it takes the items of any run
    next_seed: int | None = None  # it is to end, for one with that hash seed in its place
    began: float | None = None  # when it got its first lease
    spared: tuple[CurrentItem | None, float] = (None, 0.0)  # seconds that do not count against what it is at
    affinity: IteratorAffinity = field(init=False)

    def __post_init__(self) -> None:
        self.affinity = IteratorAffinity(self.number)

    def hears_of_ends(self, ends: int, runs: Mapping[str, RunEntry]) -> tuple[str, ...]:
        """Runs that it has had items of and that are over now: their contexts are of no use to it any more."""
        self.ends_seen = ends
        known = {run_id: runs.get(run_id) for run_id in self.runs}
        over = [run_id for run_id, run in known.items() if not isinstance(run, ActiveRun) or run.ended]
        self.runs.difference_update(over)
        return tuple(over)

    def extend_deadlines(self, seconds: float, now: float) -> None:
        """The last ``seconds`` count neither as silence nor as time of what it is at."""
        at = self.status_page.at()
        # It may have begun only since: then it is not granted more than it has taken.
        lost = seconds if at is None else min(seconds, max(0.0, now - at.started / 1e9 - self.spared_at(at)))
        self.spared = at, lost + self.spared_at(at)
        self.seen = min(self.seen + seconds, now)
        if self.look is not None:
            self.look = self.look._replace(since=min(self.look.since + seconds, now))

    def spared_at(self, at: CurrentItem | None) -> float:
        return self.spared[1] if self.spared[0] == at else 0.0


class Ask(NamedTuple):
    """What an external worker asks for: an item of a run of that workflow, and for how many seconds it will wait."""

    workflow: str
    wait: float


class KillRequest(NamedTuple):
    """A worker to be ended for what it is at.

    ``error`` is what that item fails with; None: it is given back, or the worker's end counts as a death.
    ``why`` is what happened to it, in words, where its exit code does not tell.
    """

    session: int
    at: CurrentItem | None
    error: FloxideError | None
    why: str = ""


def time_left(worker: Session, lease: Leased, now: float) -> tuple[float | None, FloxideError | None]:
    """Seconds until the worker must be ended for this lease, and the error its item gets."""
    at = worker.status_page.at()
    found = lease.find(at)
    if at is not None and at.lease != lease.id and at.lease in worker.leases:
        return None, None  # it is at another one, and has this one in advance
    if lease.run.grace_until is not None:
        left = lease.run.grace_until - now
        # It may be about to begin; what an external worker begins when it has been given up does not count.
        return (left if found or lease.chained_from(at) or worker.external else max(left, SOON)), None
    if not lease.timed:
        return None, None
    places = lease.run.state.plan.places
    spec = places[found[0].place].spec if found else None
    if at is None or spec is None or spec.timeout is None:
        limits = (places[other.place].spec.timeout for other in lease.items)
        return min((limit for limit in limits if limit is not None), default=None), None
    name, limit, end = spec.name, spec.timeout, "given up" if worker.external else "ended"
    error = NodeTimeoutError(f"{name} ran longer than its time-out of {limit:g} s; worker {worker.worker_id} was {end}")
    # A worker that still imports the workflow has begun in the future, and may begin at any moment.
    return min(at.started / 1e9 + limit + worker.spared_at(at) - now, max(limit, SOON)), error


def stalled(worker: Session, limit: float) -> KillRequest | None:
    """Whether a worker has been stopped for ``limit`` seconds. One in a debugger is not: somebody is at it."""
    look = worker.look
    if look is None or look.state != STOPPED or look.at - max(look.since, worker.seen) < limit:
        return None
    return KillRequest(worker.number, worker.status_page.at(), None, f"stalled (stopped for {limit:g} s)")


def head_of(items: list[ItemRecord | Chunk]) -> tuple[list[ItemRecord | Chunk], list[ItemRecord | Chunk]]:
    """The first item, and the others."""
    first, rest = items[:1], items[1:]
    if first and isinstance(block := first[0], Chunk) and len(block) > 1:
        return [block.part(0, 1)], [block.part(1), *rest]
    return first, rest


def counted(results: Sequence[Result]) -> tuple[int, int]:
    """How many steps these are of, and how many of them failed."""
    steps = failed = 0
    for result in results:
        steps += len(result.payloads) if isinstance(result, Results) else 1
        failed += type(result) is tuple and result[0] == FAIL
    return steps, failed


TURN: Final = 2.0  # seconds from a worker's first lease on, before it makes room for runs that have no worker


def next_seed(worker: Session, idle: bool, now: float, ready: Mapping[int, int], all_: Iterable[Session]) -> int | None:
    """The hash seed of the worker that is to be there in its place; None: it stays.

    A worker that has nothing to do makes room at once, where there is more work than workers that wait for it. One that
    has makes room after its turn, for runs that have no worker at all, or two fewer than its own seed has.

    Args:
        worker: one that asks for work.
        idle: whether there is none for it.
        now: on the monotonic clock.
        ready: how many items could be handed out, by hash seed of their run; who waits longest comes first.
        all_: the workers that live.
    """
    own = worker.hash_seed
    if own is None:
        return None
    held: Counter[int] = Counter()
    free: Counter[int] = Counter()
    for other in all_:
        seed = other.hash_seed if other.next_seed is None else other.next_seed
        if seed is not None:
            held[seed] += 1
            free[seed] += other.next_seed is not None or other.waiting or not other.calls
    over = worker.began is not None and now - worker.began >= TURN
    for seed, items in ready.items():
        if seed == own:
            continue
        if idle and items > free[seed]:
            return seed
        if not idle and over and (not held[seed] or held[seed] < held[own] - 1):
            return seed
    return None
