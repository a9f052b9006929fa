"""``Known``: a run that a store remembers. ``Running``: one that a ledger coordinates, with its state machine and what
is learned while it runs.

It turns what workers say into facts for the core. Who says it, and what is committed when, is the ledger's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from ..core.records import ErrorRecord, EventRecord, ItemRecord
from ..core.state import RunState
from ..core.table import FINAL, STATUS, Phase
from ..errors import AlreadyCompletedError, FloxideError, StoreError
from ..facts import RunStatus
from ..ports import HOLD, NEXT_ALL, Grant, Progress, RunRecord, StepResult
from . import codec
from .clock import monotonic, time

MOST_ITEMS: Final = 2048  # in one lease
MOST_BYTES: Final = 1 << 20  # of payload in one lease, unless a single item is larger
NEWS: Final = 0.3  # how much of a node's cost is what its steps took this time
KEPT: Final = 4096  # events of a run that are kept for workers, beyond those that are not written yet


class Feed(Protocol):
    """Where the input of a run comes from that is given bit by bit."""

    def __len__(self) -> int:
        """How many values are there."""

    def pop(self) -> bytes | None:
        """The next one, if there is one."""

    @property
    def exhausted(self) -> bool:
        """Whether there is none, and none will come."""

    def shut(self) -> None:
        """Nothing is taken any more."""


@dataclass(slots=True, eq=False)
class Known:
    """A run. ``progress`` is what was decided last, ``shown`` what the store has of that: what users are told.
    ``life`` is as in ``ports.Lease``.
    """

    record: RunRecord
    progress: Progress
    shown: Progress = field(init=False)
    life: int = field(default=0, kw_only=True)
    trouble: StoreError | None = field(default=None, init=False)  # why nothing can be written at the moment

    def __post_init__(self) -> None:
        self.shown = self.progress

    @property
    def over(self) -> bool:
        return self.progress.phase in FINAL


class Tail:
    """The end of a run's event log, for workers: what is not written yet, and some more, so that few need the store.

    Args:
        count: how many events there are in the store.
    """

    def __init__(self, count: int) -> None:
        self.start = count  # the number of events before the first one that is here
        self.records: list[EventRecord] = []
        self._written = count

    def add(self, records: Sequence[EventRecord]) -> None:
        self.records += records

    def wrote(self, count: int) -> None:
        """So many more are in the store."""
        self._written += count
        if self._written - self.start > 2 * KEPT:
            self._forget(KEPT)

    def leave(self) -> None:
        """Few will ask any more: the store has it."""
        self._forget(0)

    def _forget(self, kept: int) -> None:
        spare = max(0, self._written - self.start - kept)
        del self.records[:spare]
        self.start += spare


@dataclass(slots=True, eq=False)
class Running(Known):
    """See the module.

    Attributes:
        cost: seconds per step by node, as far as known.
        tail: the end of its event log.
        outputs: how many of them are in the store.
        written: commits that are there by the journal.
        unwritten: commits that are not.
    """

    state: RunState
    cost: list[float | None]
    tail: Tail
    outputs: int = 0
    feed: Feed | None = None
    deadline: float | None = None  # when its time-out is over, on the monotonic clock
    time_left: float | None = None  # of its time-out, while it is paused
    grace_until: float | None = None  # while it is to stop: when running steps are ended
    written: int = 0
    unwritten: int = 0

    @property
    def ended(self) -> bool:
        """Whether it is over as far as users are told, and not resumed since."""
        return self.shown.phase is Phase.BROKEN or (self.shown.phase in FINAL and not self.unwritten)

    @property
    def ready(self) -> int:
        """How many items could be handed out."""
        ready = self.state.ready
        return ready + len(self.feed) if self.feed is not None and self.state.takes_input else ready

    def claim(self, lease: int, worker_id: int, want: float, workers: int) -> list[ItemRecord]:
        """Items for some ``want`` seconds, for one of ``workers`` workers."""
        cost, places = self.cost, self.state.plan.places
        # Half of an even share: what is left at the end is small, and nobody waits long for the last one.
        most = min(MOST_ITEMS, max(1, self.ready // (2 * max(1, workers))))
        items: list[ItemRecord] = []
        seconds, size = 0.0, 0
        while len(items) < most and seconds < want and size < MOST_BYTES:
            item = self.state.claim(lease, worker_id) or self._fed(lease, worker_id)
            if item is None:
                break
            items.append(item)
            known = cost[places[item.place].node]
            seconds += want if known is None else known
            size += MOST_BYTES if isinstance(item.payload, tuple) else len(item.payload)
        return items

    def _fed(self, lease: int, worker_id: int) -> ItemRecord | None:
        """An item of what is only now taken out of the feed, so that a full one pushes back."""
        payload = self.feed.pop() if self.feed is not None and self.state.takes_input else None
        if payload is None:
            return None
        self.state.feed(payload)
        return self.state.claim(lease, worker_id)

    def grants(self, items: Sequence[ItemRecord]) -> tuple[Grant, ...]:
        """The items as a worker gets them."""
        places = self.state.plan.places
        return tuple((i.id, places[i.place].node, i.attempt, i.order, i.payload, i.error) for i in items)

    def apply(self, item: ItemRecord, result: StepResult, worker_id: int) -> None:
        """A step was reported."""
        outcome, values, writes, error, retryable = result
        if error is not None:
            error = error._replace(worker=worker_id, at=time())
            self.state.fail(item, error, retryable, monotonic(), jitter(self.record.seed, item))
        elif outcome == HOLD:
            self.state.hold(item, writes)
        else:
            self.state.succeed(item, values, writes, outcome == NEXT_ALL)

    def give_back(self, item: ItemRecord) -> None:
        """The lease is over, and the item has not happened. (Of a run that broke, nobody cares any more.)"""
        if not self.state.over:
            self.state.release(item)

    def learn(self, spent: Sequence[tuple[int, int, float]]) -> None:
        """What (node, steps, seconds) say of later steps."""
        for node, steps, seconds in spent:
            before, now = self.cost[node], seconds / steps
            self.cost[node] = now if before is None else before + (now - before) * NEWS

    def spare(self, seconds: float) -> None:
        """The last ``seconds`` count neither against its time-out nor against the grace of what still runs."""
        if self.deadline is not None:
            self.deadline += seconds
        if self.grace_until is not None:
            self.grace_until += seconds

    def name(self, item: ItemRecord) -> str:
        """An item for a person."""
        node = self.state.plan.places[item.place].spec.name
        return f"{node} (run {self.record.run_id}, item {item.id}, attempt {item.attempt})"

    def blame(self, item: ItemRecord, error: FloxideError, died: bool, text: str, worker_id: int) -> None:
        """The worker was lost to this item: it ``died``, or had to be ended."""
        spec = self.state.plan.places[item.place].spec
        error.__dict__.update(run_id=self.record.run_id, node=spec.name, item_id=item.id, attempt=item.attempt)
        record = codec.encode_error(error, text)._replace(worker=worker_id, at=time())
        if died:
            self.state.die(item, record, monotonic())
        else:
            policy = spec.retry or self.state.default_retry
            retryable = policy is not None and policy.accepts(error)
            self.state.fail(item, record, retryable, monotonic(), jitter(self.record.seed, item))


def progress_of(state: RunState, finished_at: float | None) -> Progress:
    """Where a run stands, for the store and for those who ask."""
    failure = state.failure
    if state.phase is Phase.FAILED and failure is None:
        held = [f"{state.plan.graph.nodes[n].name} (items {_some(i)})" for n, i in sorted(state.held.items())]
        text = "nothing is left to do, but items are held and nothing can release them: " + ", ".join(held)
        failure = ErrorRecord("RunFailedError", text, "", None)
    return Progress(state.phase, state.metrics, state.counts, finished_at, failure)


def check_not_over(run: Known) -> None:
    """Whether it can go on.

    Raises:
        AlreadyCompletedError: it cannot.
    """
    run_id, status = run.record.run_id, STATUS[run.progress.phase]
    if status is RunStatus.COMPLETED:
        text = f"run {run_id!r} is completed; its result is there: coordinator.run({run_id!r}).wait()"
        raise AlreadyCompletedError(text, run_id=run_id)
    if status is RunStatus.CANCELLED:
        text = f"run {run_id!r} was cancelled, which is final; start it again under another run_id"
        raise AlreadyCompletedError(text, run_id=run_id)


def jitter(seed: int, item: ItemRecord) -> float:
    """A number in [0, 1) for the jitter: random enough between items, and the same when a run is repeated."""
    text = f"{seed} {item.order} {item.attempt} backoff".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=6).digest(), "big") / (1 << 48)


def _some(numbers: list[int]) -> str:
    shown = ", ".join(map(str, sorted(numbers)[:10]))
    return shown if len(numbers) <= 10 else f"{shown} and {len(numbers) - 10} more"
