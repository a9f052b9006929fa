"""``RunEntry``: a run that a store remembers. ``ActiveRun``: one that a scheduler coordinates, with its state machine
and what is learned while it runs.

It turns what workers say into facts for the core. Who says it, and what is committed when, is the scheduler's.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final

from ..clock import monotonic, time
from ..core.leases import Leaseholder
from ..core.ready import levels
from ..core.records import Chunk, ItemRecord
from ..core.run_state import RunState
from ..core.streams import Alike
from ..core.transitions import FINAL, Phase
from ..core.types import ErrorRecord
from ..errors import FloxideError, StoreError, WorkerDiedError
from ..messages import (
    HOLD,
    NEXT_ALL,
    ONE_BY_ONE,
    FanOut,
    Grant,
    Grants,
    Outcome,
    PartialResult,
    ReadAndWritten,
    Result,
    Results,
    StepResult,
    Suspect,
    Unreadable,
)
from ..ports import Progress, RunRecord
from ..wire import codec
from .channel import Feed
from .cost_model import CostModel
from .event_tail import Tail
from .in_flight import Suspects
from .iterator_affinity import IteratorAffinity

MOST_ITEMS: Final = 2048  # in one lease
MOST_BYTES: Final = 1 << 20  # of payload in one lease, unless a single item is larger
MOST_CHAINED: Final = 1024  # steps that come of an item for which nobody goes ahead, if it may have ended a program
ALL_HELD: Final = "nothing is left to do, but items are held and nothing can release them: "
LONG: Final = 0.02  # seconds: a step for which nothing is handed out in advance


@dataclass(slots=True, eq=False)
class RunEntry:
    """A run. ``decided`` is what was decided last, ``published`` what the store has of that: what users are told.
    ``life`` is as in ``ports.Lease``.
    """

    record: RunRecord
    decided: Progress
    published: Progress = field(init=False)
    generation: int = field(default=0, kw_only=True)
    write_error: StoreError | None = field(default=None, init=False)  # why nothing can be written at the moment

    def __post_init__(self) -> None:
        self.published = self.decided

    @property
    def over(self) -> bool:
        return self.decided.phase in FINAL


@dataclass(slots=True, eq=False)
class ActiveRun(RunEntry):
    """See the module.

    Attributes:
        pace: what its steps take.
        tail: the end of its event log.
        outputs: how many of them are in the store.
        turn: this and the next two are for ``turns``: when it last had its turn, whether it is in line, and when
            something of it is due next.
        written: commits that are there by the commit queue.
        unwritten: commits that are not.
        ranked: whether it was looked at which places are urgent.
        single: whether each lease is of one item, since one of several could not be sent.
    """

    state: RunState
    cost_model: CostModel
    tail: Tail
    outputs: int = 0
    feed: Feed | None = None
    deadline: float | None = None  # when its time-out is over, on the monotonic clock
    time_left: float | None = None  # of its time-out, while it is paused
    grace_until: float | None = None  # while it is to stop: when running steps are ended
    turn: int = 0
    queued: bool = False
    due: float = inf
    written: int = 0
    unwritten: int = 0
    ranked: bool = False
    suspects: Suspects | None = None  # those of its items that were leased when an earlier program ended
    single: bool = False

    @property
    def ended(self) -> bool:
        """Whether it is over as far as users are told, and not resumed since."""
        return self.published.phase is Phase.BROKEN or (self.published.phase in FINAL and not self.unwritten)

    @property
    def ready(self) -> int:
        """How many items could be handed out."""
        ready = self.state.ready
        return ready + len(self.feed) if self.feed is not None and self.state.takes_input else ready

    def plenty(self, seconds: float) -> bool:
        """Whether that much work is ready, in short steps: for long ones, a round trip more does not count."""
        first = self.state.first()
        alone = first is None or self.lives(first)
        each = None if alone or first is None else self._expected(first.place)
        return each is not None and each < LONG and self.ready * each > seconds

    def claim(
        self, lease: int, worker_id: int, want: float, workers: int, session: int | None = 0
    ) -> list[ItemRecord | Chunk]:
        """Items for some ``want`` seconds, for one of ``workers`` workers; or one that is to give more (``pull``)."""
        if workers > 1 and not self.ranked:
            self._rank()
        state = self.state
        source = state.pull(lease, worker_id, session)
        if source is not None:
            return [source]
        # Half of an even share: what is left at the end is small, and nobody waits long for the last one.
        most = 1 if self.single else min(MOST_ITEMS, max(1, self.ready // (2 * max(1, workers))))
        items: list[ItemRecord | Chunk] = []
        count, seconds, size = 0, 0.0, 0
        while count < most and seconds < want and size < MOST_BYTES:
            first = state.first()
            if items and first is not None and (self._long(first.place, want) or self.lives(first)):
                break  # nobody is to wait for it behind others, nor they behind it
            room = 1
            if isinstance(first, Chunk) and (each := self._expected(first.place)) is not None:
                room = min(most - count, int((want - seconds) / max(each, 1e-9)) + 1)
                room = first.fitting(room, MOST_BYTES - size)
                if self.suspects is not None:
                    room = self.suspects.innocent(first.order, room)
            item = state.claim(lease, worker_id, room) or self._fed(lease, worker_id)
            if item is None:
                break
            if isinstance(item, Chunk) and want <= ONE_BY_ONE:
                (item,) = state.split_off(item, lease, worker_id)
            if self.lives(item):
                if isinstance(item, Chunk):
                    (item,) = state.split_off(item, lease, worker_id)
                item.unchained_steps = MOST_CHAINED
                return [item]
            items.append(item)
            each = self._expected(item.place)
            steps = len(item) if isinstance(item, Chunk) else 1
            count += steps
            seconds += want if each is None else each * steps
            size += item.size
        return items

    def _rank(self) -> None:
        """Long ways first, by what is known now. One worker alone takes items in order: it cannot be quicker."""
        self.ranked = True
        level = levels(self.state.plan, self.cost_model.cost)
        if level is not None:
            self.state.rank(level)

    def _long(self, place: int, want: float) -> bool:
        """Whether a step there fills a lease alone, or may do so."""
        each = self._expected(place)
        return each is None or each >= want

    def _expected(self, place: int) -> float | None:
        """Seconds of a step there.

        None: it is leased alone. So is a step that must not be begun twice: who dies of the next one tells nothing.
        """
        at = self.state.plan.places[place]
        policy = at.spec.retry or self.state.default_retry
        if policy is not None and policy.max_attempts == 1:
            return None
        return self.cost_model.expected(at.node)

    def _fed(self, lease: int, worker_id: int) -> ItemRecord | Chunk | None:
        """An item of what is only now taken out of the feed, so that a full one pushes back."""
        payload = self.feed.pop() if self.feed is not None and self.state.takes_input else None
        if payload is None:
            return None
        self.state.feed(payload)
        return self.state.claim(lease, worker_id)

    def grants(self, items: Sequence[ItemRecord | Chunk]) -> tuple[Grant | Grants, ...]:
        """The items as a worker gets them."""
        places = self.state.plan.places
        return tuple(
            [
                Grants(i.first, places[i.place].node, i.order, i.payloads)
                if isinstance(i, Chunk)
                else (i.id, places[i.place].node, i.attempt, i.order, i.payload, i.error)
                for i in items
            ]
        )

    def may_chain(self, items: Sequence[ItemRecord | Chunk]) -> bool:
        """Whether a worker may go on with what comes of them by itself, as far as that is not the graph's to say."""
        default = self.state.default_retry
        return len(items) == 1 and not items[0].unchained_steps and (default is None or default.max_attempts > 1)

    def apply(
        self,
        items: Sequence[ItemRecord | Chunk],
        results: Sequence[Result],
        on: Leaseholder,
        ahead: bool,
        home: IteratorAffinity,
    ) -> list[ItemRecord | Chunk]:
        """Steps were reported, of these items, from the first on.

        Args:
            on: the lease, and the worker that it is of.
            ahead: whether the first of what comes behind the results is running.
            home: of the worker.

        Returns:
            those of the items without a result, and of the items behind, if the worker went on with some.
        """
        left = deque(items)
        for number, result in enumerate(results, 1):
            more = ahead or number < len(results)
            if isinstance(result, Results):
                after = self._apply_all(left, result, on, more)
            else:
                item = left.popleft()
                if isinstance(item, Chunk):
                    item = self._step_out(left, item, on)
                after = self._apply_one(item, result, on, more and not left, home)
            if after is not None:
                left.append(after)
        return list(left)

    def _step_out(self, left: deque[ItemRecord | Chunk], block: Chunk, on: Leaseholder) -> ItemRecord:
        """The first of a leased block becomes an item of its own; the others are the first in ``left``."""
        if len(block) > 1:
            left.appendleft(block.part(1))
        (item,) = self.state.split_off(block.part(0, 1), *on)
        return item

    def _apply_all(
        self, left: deque[ItemRecord | Chunk], result: Results, on: Leaseholder, more: bool
    ) -> ItemRecord | Chunk | None:
        state, (arm, payloads, writes) = self.state, result
        after: ItemRecord | Chunk | None = None
        at, total = 0, len(payloads)
        while at < total:
            item = left.popleft()
            if not isinstance(item, Chunk):
                written = writes[at] if writes else ()
                then = on if more and not left and at + 1 == total else None
                after = state.succeed(item, ((arm, payloads[at]),), written, False, then)
                at += 1
                continue
            if len(item) > total - at:
                item, rest = item.split(total - at)
                left.appendleft(rest)
            end = at + len(item)
            ahead = more and not left and end == total
            part = payloads if len(item) == total else payloads[at:end]
            after = state.succeed_all(item, arm, part, writes[at:end], on[1], ahead)
            at = end
        return after

    def _apply_one(
        self, item: ItemRecord, result: Outcome, on: Leaseholder, more: bool, home: IteratorAffinity
    ) -> ItemRecord | None:
        if type(result) is not tuple:
            return self._apply_marked(item, result, on, more, home)
        outcome, values, writes, error, _ = result  # type: ignore[misc]  # the others are no plain tuples
        if error is not None:
            self.state.could_open(item.id, self.state.plan.places[item.place].node)
            self._fail(item, result, on)  # type: ignore[arg-type]
        elif outcome == HOLD:
            self.state.hold(item, writes)
        else:
            return self.state.succeed(item, values, writes, outcome == NEXT_ALL, on if more else None)
        return None

    def _fail(self, item: ItemRecord, result: StepResult, on: Leaseholder) -> None:
        _, _, _, error, retryable = result
        assert error is not None
        error = error._replace(worker=on[1], at=time())
        self.state.fail(item, error, retryable, monotonic(), jitter(self.record.seed, item))

    def _apply_marked(
        self, item: ItemRecord, result: Outcome, on: Leaseholder, more: bool, home: IteratorAffinity
    ) -> ItemRecord | None:
        """What came of a step is more, or less, than a plain result."""
        if isinstance(result, PartialResult):
            part = result.part
            values, writes = (Alike(*part[:2]), part[2]) if isinstance(part, FanOut) else part[1:3]
            self.state.portion(item, values, writes, home.session, result.sign)
            home.keep(self.record.run_id, self.state, item)
            return None
        if isinstance(result, FanOut):
            self.state.fan_out(item, *result)
            return None
        if isinstance(result, ReadAndWritten):
            assert self.state.serial_order is not None
            self.state.serial_order.looked = True
            try:
                return self._apply_one(item, result.part, on, more, home)
            finally:
                self.state.serial_order.looked = False
        if isinstance(result, Unreadable):
            error, failure = result.error._replace(worker=on[1], at=time()), result.failure
            if failure is None:
                self.state.undo(item, error)
            elif not self.state.set_aside(item, error):
                self._fail(item, failure, on)
            return None
        if isinstance(result, Suspect):
            if self.state.phase is Phase.CANCELLING:  # it never goes on: this is the last that is heard of the step
                return self._apply_one(item, result.part, on, False, home)
            self.state.undo(item)
        return None

    def give_back(self, items: Sequence[ItemRecord | Chunk]) -> None:
        """Their lease is over, and they have not happened. (Of a run that broke, nobody cares any more.)"""
        for item in () if self.state.over else items:
            if isinstance(item, Chunk):
                self.state.release_all(item)
            else:
                self.state.release(item)

    def culprit(
        self, items: list[ItemRecord | Chunk], found: tuple[ItemRecord | Chunk, int], on: Leaseholder
    ) -> ItemRecord:
        """Take the item that was ``found`` (``Leased.find``) out of a lease's ``items``. Those before it go back."""
        item, number = found
        at = items.index(item)
        before, left = items[:at], deque(items[at + 1 :])
        if isinstance(item, Chunk):
            if number:
                before.append(item.part(0, number))
            item = self._step_out(left, item.part(number), on)
        self.give_back(before)
        items[:] = left
        return item

    def one_by_one(self, items: Sequence[ItemRecord | Chunk]) -> bool:
        """Whether leases of fewer items would be smaller; from now on they are of one."""
        self.single = True
        return sum(len(item) if isinstance(item, Chunk) else 1 for item in items) > 1

    def extend_deadlines(self, seconds: float) -> None:
        """The last ``seconds`` count neither against its time-out nor against the grace of what still runs."""
        if self.deadline is not None:
            self.deadline += seconds
        if self.grace_until is not None:
            self.grace_until += seconds

    def name(self, item: ItemRecord) -> str:
        """An item for a person."""
        node = self.state.plan.places[item.place].spec.name
        return f"{node} (run {self.record.run_id}, item {item.id}, attempt {item.attempt})"

    def lives(self, item: ItemRecord | Chunk) -> int:
        """In how many programs, one after the other, an item, or the first of a block, was leased when these ended."""
        return 0 if self.suspects is None else self.suspects.lives(item.order)

    def give_up(self, item: ItemRecord, worker_id: int) -> FloxideError:
        """It was being run whenever the program ended, too many times: it fails for good, and this is why."""
        spec = self.state.plan.places[item.place].spec
        what = f"{self.name(item)}: {self.lives(item)} times, one after the other"
        error = WorkerDiedError(f"the whole program ended each time that it ran {what}")
        error.__dict__.update(run_id=self.record.run_id, node=spec.name, item_id=item.id, attempt=item.attempt)
        record = codec.encode_error(error, "")._replace(worker=worker_id, at=time())
        self.state.fail(item, record, False, monotonic())
        return error

    def blame(self, item: ItemRecord, error: FloxideError, died: bool, text: str, worker_id: int) -> None:
        """The worker was lost to this item: it ``died``, or had to be ended."""
        spec = self.state.plan.places[item.place].spec
        error.__dict__.update(run_id=self.record.run_id, node=spec.name, item_id=item.id, attempt=item.attempt)
        record = codec.encode_error(error, text)._replace(worker=worker_id, at=time())
        if died:
            self.state.worker_died(item, record, monotonic())
        else:
            policy = spec.retry or self.state.default_retry
            retryable = policy is not None and policy.accepts(error)
            self.state.fail(item, record, retryable, monotonic(), jitter(self.record.seed, item))


def progress_of(state: RunState, finished_at: float | None) -> Progress:
    """Where a run stands, for the store and for those who ask."""
    failure = state.failure
    if state.phase is Phase.FAILED and failure is None:
        held = [f"{state.plan.graph.nodes[n].name} (items {some(i)})" for n, i in sorted(state.held.items())]
        text = ALL_HELD + ", ".join(held)
        failure = ErrorRecord("RunFailedError", text, "", None)
    return Progress(state.phase, state.metrics, state.counts, finished_at, failure, state.failed)


def over_at(run: RunEntry) -> float:
    """Seconds since the epoch. The clock on the wall may have been set back, and no run ends before it began."""
    return max(time(), run.record.started_at)


def jitter(seed: int, item: ItemRecord) -> float:
    """A number in [0, 1) for the jitter: random enough between items, and the same when a run is repeated."""
    text = f"{seed} {item.order} {item.attempt} backoff".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=6).digest(), "big") / (1 << 48)


def some(numbers: Sequence[int]) -> str:
    """Numbers of items for a person."""
    shown = ", ".join(map(str, sorted(numbers)[:10]))
    return shown if len(numbers) <= 10 else f"{shown} and {len(numbers) - 10} more"
