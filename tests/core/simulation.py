"""A driver of ``RunState`` in one thread: nodes are a hash, workers a list, time a number, deaths a choice.

``sequential`` claims one item, finishes it, and goes on: it knows of no blocks. ``Simulation`` does what its schedule
says: anything that can happen next, happens; values become blocks, of which parts are claimed, succeed together, step
out or go back, and workers go ahead. After every stimulus the invariants are checked, and every decision of
the core is compared with ``model``.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from hypothesis import assume

from floxide_mp.core.graph import Graph, NodeSpec
from floxide_mp.core.leases import Memory
from floxide_mp.core.plan import Plan
from floxide_mp.core.records import (
    Chunk,
    Commit,
    EventRecord,
    ItemRecord,
    OutputRecord,
    Scope,
    one_by_one,
    started_over,
)
from floxide_mp.core.restore import restored
from floxide_mp.core.run_state import MAX_DEATHS, RunState
from floxide_mp.core.streams import Alike
from floxide_mp.core.transitions import Phase
from floxide_mp.core.types import ErrorRecord, OrderKey, Payload
from floxide_mp.ports import CheckpointStore, Progress, RunRecord
from floxide_mp.stores.memory import MemoryStore
from floxide_mp.types import WorkItemStatus
from tests.core import invariants

from .acts import HOLDING, Act, behaviour
from .model import Model, flat

MOST = 120  # items in a run that is worth simulating

Values = tuple[tuple[int, bytes], ...]

ERROR = ErrorRecord("Boom", "boom", "", None)
RECORD = RunRecord("run", "drawn", b"", b"", b"", b"input", 0, 0.0, None, False, {}, (), ())


@dataclass
class Result:
    """What a run came to. ``processed`` is every item that was finished: order key -> (node, payload)."""

    phase: Phase
    outputs: list[OutputRecord]
    events: list[EventRecord]
    processed: dict[OrderKey, tuple[str, Payload]]
    total: int
    completed: int
    failed: int
    held: set[int]
    failing: bool  # some item failed the run, which then left things undone


@dataclass
class Simulation:
    """One run of a graph. ``heal``: what would fail the run does not fail any more. ``ranks``: who goes first."""

    graph: Graph
    seed: int
    heal: bool = False
    finishing: bool = False
    ranks: random.Random | None = None  # None: items go in order
    memory: Memory = field(default_factory=Memory)  # from its bounds on what is deep goes first, and some wait
    ordered: bool = False  # it is the sequential run: arrivals at joins must be in the order of the steps
    now: float = 0.0
    deaths: int = 0
    restarts: int = 0
    steps: int = 0
    running: list[tuple[int, ItemRecord | Chunk]] = field(default_factory=list)  # by worker
    dice: random.Random | None = None  # decides what is done in blocks, and ahead: without, nothing is
    ahead: int = 0  # steps that were run ahead
    together: int = 0  # ... and in blocks
    failures: dict[int, int] = field(default_factory=dict)  # item -> failed attempts
    outputs: list[OutputRecord] = field(default_factory=list)
    events: list[EventRecord] = field(default_factory=list)
    processed: dict[OrderKey, tuple[str, Payload]] = field(default_factory=dict)
    orders: set[OrderKey] = field(default_factory=set)
    holding: int = HOLDING
    mended: set[OrderKey] = field(default_factory=set)  # of steps that held, and pass something on now
    portions: int = 0
    waited: int = 0  # claims for which something was there, but held back
    lives: dict[int, int] = field(default_factory=dict)  # worker -> how often it died

    def __post_init__(self) -> None:
        self.state = RunState(Plan(self.graph), None, self.finishing)
        self._rank()
        self.store = self._open()
        self.model = self._made_model()
        self.state.start(b"input")
        self.model.start(b"input")
        self.state.share(self.memory)
        commit = self.state.take_commit()
        self.store.create(RECORD, commit, self._progress())
        self._look(commit)

    def _open(self) -> CheckpointStore:
        return MemoryStore()

    def _made_model(self) -> Model:
        return Model(self.graph, self.ordered)

    def _reopen(self) -> CheckpointStore:
        """The store after the coordinator's death."""
        return self.store

    # -- stimuli -------------------------------------------------------------------------------------

    def claim(self, worker: int, most: int = 1) -> ItemRecord | Chunk | None:
        ready = self.state.ready
        self.waited += bool(self.state._ready and not ready)
        item = self.state.claim(worker + 1, worker, most)
        assert (item is not None) == (ready > 0), "ready and claim disagree"
        if item is not None:
            assert not isinstance(item, Chunk) or 1 <= len(item) <= most
            self._begin(worker, item)
        self._see()
        return item

    def pull(self, worker: int) -> ItemRecord | None:
        gives = self.state.has_stream_for(self._session(worker))
        item = self.state.pull(worker + 1, worker, self._session(worker))
        assert (item is not None) == gives, "gives and pull disagree"
        if item is not None:
            self._begin(worker, item)
        self._see()
        return item

    def _begin(self, worker: int, item: ItemRecord | Chunk) -> None:
        self.running.append((worker, item))
        serial = [i for _, i in self.running if self._spec(i).serial]
        assert len(serial) <= 1, "steps of serial nodes overlap"

    def finish(self, item: ItemRecord | Chunk) -> None:
        """Its node returns, gives some of what it has, or raises: of a block, that of the first item or of several."""
        worker = self._hand_in(item)
        if isinstance(item, Chunk):
            self._finish_block(worker, item)
        else:
            self._finish_one(worker, item)
        self._see()

    def _hand_in(self, item: ItemRecord | Chunk) -> int:
        """A worker has it no more. Gives the worker."""
        (worker,) = [w for w, i in self.running if i is item]
        self.running = [(w, i) for w, i in self.running if i is not item]
        return worker

    def _finish_one(self, worker: int, item: ItemRecord) -> None:
        self.steps += 1
        spec = self._spec(item)
        act = self._act(spec, item)
        failed = self.failures.get(item.id, 0)
        hopeless = act.hopeless and not (self.heal and spec.on_failure is None)
        failing = hopeless or failed < act.fails
        before = self.state.values_taken(item.id)
        given = 0 if before is None else before.values
        cut = act.portion(given, failing, self.ordered)
        if cut is not None:
            again = given > 0 and self.state._sources.get(item.id).home == 0  # type: ignore[union-attr]
            if again and not self.ordered and self.steps % 2:  # it is gone over once more, and that takes a while
                self.state.portion(item, (), (), self._session(worker))
            else:
                self._give(worker, item, act.values[given:cut], () if given else act.writes[:1])
        elif failing:
            self.failures[item.id] = failed + 1
            self.state.fail(item, ERROR, retryable=not hopeless or failed % 2 == 0, now=self.now)
            if item.id not in self.state.items:
                self.model.fail(item)
                self._processed(item, spec)
        elif act.kind == "hold":
            self.state.hold(item, act.writes)
            self.model.hold(item, any(kept.id == item.id for found in self.state.kept.values() for kept in found))
            self._processed(item, spec)
        else:
            writes = act.writes[1:] if given else act.writes
            rest = act._replace(values=act.values[given:], writes=writes)
            self._succeed(worker, item, rest)
            self.model.succeed(item, rest.values)
            self._processed(item, spec)

    def _act(self, spec: NodeSpec, item: ItemRecord) -> Act:
        act = behaviour(self.seed, spec, item.payload, item.order, self.holding)
        return act._replace(kind="next", values=((0, b"mended"),)) if item.order in self.mended else act

    def _give(self, worker: int, item: ItemRecord, values: Values, writes: Values) -> None:
        arms = {arm for arm, _ in values}
        many = Alike(arms.pop(), [payload for _, payload in values]) if len(arms) == 1 and self._decides() else values
        self.state.portion(item, many, writes, self._session(worker))
        self.model.portion(item, values)
        self.portions += 1

    def _succeed(self, worker: int, item: ItemRecord, act: Act) -> None:
        arms = {arm for arm, _ in act.values}
        if act.kind == "all" and len(arms) == 1 and self._decides():
            payloads = [payload for _, payload in act.values]
            self.state.fan_out(item, arms.pop(), payloads, act.writes)
            return
        on = None
        if act.kind == "next" and self._goes_ahead(item, act.values[0][0]):
            on = worker + 1, worker
        after = self.state.succeed(item, act.values, act.writes, act.kind == "all", on)
        assert (after is not None) == (on is not None)
        if after is not None:
            self._went_ahead(worker, after)

    def _goes_ahead(self, item: ItemRecord | Chunk, arm: int) -> bool:
        """Whether the worker has run the successor, or is at it, before anybody knows of it."""
        place = self.state.plan.places[item.place]
        return self.state.plan.chained[place.node][arm] >= 0 and self._decides()

    def _went_ahead(self, worker: int, after: ItemRecord | Chunk) -> None:
        before = self.state.plan.chained
        assert any(self.state.plan.places[after.place].node in arms for arms in before)
        self.running.append((worker, after))
        self.ahead += 1

    def _decides(self) -> bool:
        return self.dice is not None and self.dice.random() < 0.7

    def _finish_block(self, worker: int, block: Chunk) -> None:
        """As many of the first as are of the usual kind, or fewer; else one of them steps out, or all do."""
        assert self.dice is not None
        if self.dice.random() < 0.1:
            self.running += [(worker, item) for item in self.state.split_off(block, worker + 1, worker)]
            return
        spec, count = self._spec(block), 0
        acts = [self._act(spec, item) for item in block.items()]
        most = self.dice.randint(1, len(block))
        while count < most and self._usual(acts[count], spec) and acts[count].values[0][0] == acts[0].values[0][0]:
            count += 1
        if not count:
            if len(block) > 1:
                self.running.append((worker, block.part(1)))
            (item,) = self.state.split_off(block.part(0, 1), worker + 1, worker)
            self._finish_one(worker, item)
            return
        done, arm = block.part(0, count), acts[0].values[0][0]
        if count < len(block):
            self.running.append((worker, block.part(count)))
        payloads = [act.values[0][1] for act in acts[:count]]
        writes = [act.writes for act in acts[:count]]
        items = list(done.items())
        after = self.state.succeed_all(
            done, arm, payloads, writes if any(writes) else (), worker, self._goes_ahead(block, arm)
        )
        for item, act in zip(items, acts, strict=False):
            self.model.succeed(item, act.values)
            self._processed(item, spec)
        self.steps += count
        self.together += count
        if after is not None:
            self._went_ahead(worker, after)

    def _usual(self, act: Act, spec: NodeSpec) -> bool:
        """Whether the first attempt gives one value."""
        hopeless = act.hopeless and not (self.heal and spec.on_failure is None)
        return act.kind == "next" and not act.fails and not hopeless

    def kill(self, worker: int, culprit: bool) -> None:
        """The worker dies; the item that it was at is tried again, the others were not started."""
        for item in [i for w, i in self.running if w == worker]:
            self._hand_in(item)
            if isinstance(item, Chunk):
                culprit = self._lose(item, culprit)
            elif culprit and self._may_die(item):
                self.deaths += 1
                self.state.worker_died(item, ERROR, self.now)
                culprit = False
            else:
                self.state.release(item)
            self._see()
        self.state.release_affinity(self._session(worker))
        self.lives[worker] = self.lives.get(worker, 0) + 1

    def _lose(self, block: Chunk, culprit: bool) -> bool:
        """A block goes back, whole or in two parts but for the one between that the worker was at. What ``culprit``
        is from here on."""
        assert self.dice is not None
        number = self.dice.randrange(len(block))
        (item,) = block.part(number, number + 1).items()
        if not (culprit and self._may_die(item)):
            parts = [block.part(0, number), block.part(number)]
        else:
            (item,) = self.state.split_off(block.part(number, number + 1), 1, 1)
            self.deaths += 1
            self.state.worker_died(item, ERROR, self.now)
            parts, culprit = [block.part(0, number), block.part(number + 1)], False
        self.dice.shuffle(parts)
        for part in parts:
            if part:
                self.state.release_all(part)
        return culprit

    def resume_healed(self) -> None:
        """The run has failed; whatever was wrong with its items is mended, and it goes on."""
        self.heal = True
        for item in self.state.items.values():
            if item.status is WorkItemStatus.FAILED:
                self.failures.pop(item.id)
        self.state.resume(self.now)
        self._see()

    def start_over(self) -> None:
        """The run has failed since all was held; whatever held is mended, and what is held starts over."""
        snapshot = self.store.snapshot("run")
        orders = {row.order for row in snapshot.items}
        assert snapshot.items and all(row.status is WorkItemStatus.HELD for row in snapshot.items)
        self.store.replace(RECORD, started_over(snapshot), orders)
        self.events = [event for event in self.events if event.order not in orders]
        assert list(self.store.events("run")) == self.events
        self.mended |= orders
        for order in orders:
            del self.processed[order]
        self.model.start_over()
        self._restore()
        self.state.resume(self.now)
        assert not self.state.over
        self._see()

    def _restore(self) -> None:
        kept = self.store.progress("run")
        args = kept.phase, kept.metrics, kept.counts, kept.failure, None, self.finishing
        self.state = restored(self.state.plan, self.store.snapshot("run"), *args)
        self.memory.used = 0
        self.state.share(self.memory)
        self._rank()

    def restart(self) -> None:
        """The coordinator dies, and another one takes up what the store has."""
        self.restarts += 1
        blocks, self.running = self._blocks, []
        self.store = self._reopen()
        before = self.state
        self._restore()
        assert self.state.metrics == before.metrics
        assert self.state.counts == before.counts
        assert _sorted(self.state.held) == _sorted(before.held)
        assert _sorted(self.state.kept) == _sorted(before.kept)
        assert self.state.next_due == before.next_due or self.state.phase is not before.phase
        _compare_scopes(before, self.state, blocks)
        self._see()

    def later(self) -> None:
        """The next back-off is over."""
        due = self.state.next_due
        assert due is not None
        self.now = max(self.now, due)
        self.state.due(self.now)
        assert self.state.next_due is None or self.state.next_due > self.now
        self._see()

    def pause(self) -> None:
        self.state.pause()
        assert not self.state.ready and self.state.claim(1, 1) is None
        self._see()

    def go_on(self) -> None:
        """It was paused."""
        self.state.resume(self.now)
        self._see()

    # -- schedules -----------------------------------------------------------------------------------

    def sequential(self) -> Result:
        """One at a time. A back-off takes no time, so that nothing overtakes the item that waits."""
        last: OrderKey = (-1, ())
        while (item := self.pull(0) or self.claim(0)) is not None:
            assert not isinstance(item, Chunk)
            assert item.order >= last, "the one-process run is not in the order of the keys"
            last = item.order
            self.finish(item)
            while self.state.next_due is not None:
                self.later()
        return self.result()

    def interleaved(self, schedule: random.Random, workers: int = 3, restarts: bool = False) -> Result:
        """Whatever can happen, in the order that ``schedule`` chooses, until the run is over."""
        self.dice = schedule
        while not self.state.over:
            ways = []
            if self.state.ready:
                ways += [self._claim_some] * 4
            if any(map(self._may_pull, range(workers))):
                ways += [self._pull_some] * 2
            if self.running:
                ways += [self._finish_some] * 4 + [self._kill_some]
            if self.state.next_due is not None:
                ways.append(lambda _, __: self.later())
            if ways and restarts:
                ways.append(lambda _, __: self.restart())
            if ways and self.state.phase is Phase.RUNNING:
                ways.append(lambda _, __: self.pause())
            if self.state.phase is Phase.PAUSED:
                ways.append(lambda _, __: self.go_on())
            assert ways, f"nothing can happen any more, and yet the run is {self.state.phase}"
            schedule.choice(ways)(schedule, workers)
        assert self.state.claim(1, 1) is None
        return self.result()

    def _claim_some(self, schedule: random.Random, workers: int) -> None:
        worker = schedule.randrange(workers)
        for _ in range(schedule.choice((1, 1, 1, 4))):
            if self.claim(worker, schedule.choice((1, 2, 9, 9))) is None:
                break

    def _pull_some(self, schedule: random.Random, workers: int) -> None:
        self.pull(schedule.choice(list(filter(self._may_pull, range(workers)))))

    def _may_pull(self, worker: int) -> bool:
        return self.state.has_stream_for(self._session(worker))

    def _session(self, worker: int) -> int:
        return 1 + worker + 100 * self.lives.get(worker, 0)

    def _finish_some(self, schedule: random.Random, workers: int) -> None:
        self.finish(schedule.choice(self.running)[1])

    def _kill_some(self, schedule: random.Random, workers: int) -> None:
        self.kill(schedule.choice(self.running)[0], schedule.random() < 0.7)

    def result(self) -> Result:
        metrics = self.state.metrics
        assert metrics.total_work_items == len(self.orders)
        return Result(
            self.state.phase,
            # Who made an output is left to chance, and is all that is.
            sorted((o._replace(worker=None) for o in self.outputs), key=lambda o: (o.order, o.index)),
            sorted(self.events, key=lambda e: (e.order, e.index)),
            self.processed,
            metrics.total_work_items,
            metrics.completed,
            metrics.failed,
            set(self.state.held),
            self.state.failure is not None,
        )

    # -- inside --------------------------------------------------------------------------------------

    def _rank(self) -> None:
        """Any order in which places go before others comes to the same."""
        if self.ranks is not None:
            self.state.rank([self.ranks.randrange(4) for _ in self.state.plan.places])

    @property
    def _blocks(self) -> list[Chunk]:
        return [i for _, i in self.running if isinstance(i, Chunk)]

    def _spec(self, item: ItemRecord | Chunk) -> NodeSpec:
        return self.state.plan.places[item.place].spec

    def _may_die(self, item: ItemRecord) -> bool:
        """Whether one more death leaves it the attempts that it needs."""
        spec = self._spec(item)
        act = behaviour(self.seed, spec, item.payload, item.order)
        limit = spec.retry.max_attempts if spec.retry else MAX_DEATHS
        lost = act.hopeless and spec.on_failure is not None  # else it may be healed, and must have what it takes
        needed = 0 if lost else max(0, act.fails - self.failures.get(item.id, 0))
        return item.attempt + 1 + needed <= limit

    def _processed(self, item: ItemRecord, spec: NodeSpec) -> None:
        assert item.order not in self.processed, "finished twice"
        self.processed[item.order] = (spec.name, flat(item.payload))

    def _see(self) -> None:
        """Check everything that can be checked after one stimulus."""
        commit = self.state.take_commit()
        if commit:
            self.store.commit("run", commit, self._progress())
        self._look(commit)

    def _progress(self) -> Progress:
        return Progress(self.state.phase, self.state.metrics, self.state.counts, None, self.state.failure)

    def _look(self, commit: Commit) -> None:
        out = {number for first, count in commit.ranges for number in range(first, first + count)}
        for item in (*commit.created, *(item for block in commit.blocks for item in block.items())):
            if item.id in out and item.order in self.orders:
                continue  # it has stepped out of its block
            assert item.order not in self.orders, f"the order key {item.order} is given twice"
            self.orders.add(item.order)
        assume(len(self.orders) <= MOST)
        outputs = list(one_by_one([*commit.outputs, *commit.output_blocks]))
        assert all(output.worker is not None and output.worker >= 0 for output in outputs), "nobody made an output"
        self.outputs += outputs
        self.events += commit.events
        invariants.check(self.state, self._blocks)
        if self.state.phase is not Phase.CANCELLED:  # then nobody does what is left
            self.model.compare(self.state, commit)


def sequential(
    graph: Graph, seed: int, heal: bool = False, holding: int = HOLDING, mended: Collection[OrderKey] = ()
) -> Simulation:
    """The run that every other one must equal, after it is over."""
    made = Simulation(graph, seed, heal=heal, ordered=True, holding=holding, mended=set(mended))
    made.sequential()
    return made


def _sorted(found: Mapping[int, list[Any]]) -> dict[int, list[Any]]:
    return {node: sorted(one if isinstance(one, int) else one.id for one in items) for node, items in found.items()}


def _compare_scopes(one: RunState, other: RunState, blocks: list[Chunk]) -> None:
    """The scopes that some item is in are the same in both."""

    def facts(state: RunState) -> dict[int, object]:
        found: dict[int, Scope] = {scope.id: scope for scope in invariants._scopes(state, blocks_of(state))}
        return {
            number: (s.alive, s.waiting_for, s.depth, s.closed, s.fired, s.arrivals and sorted(map(repr, s.arrivals)))
            for number, s in found.items()
        }

    def blocks_of(state: RunState) -> list[Chunk]:
        ready = (i for i in invariants._queued(state._ready) if isinstance(i, Chunk))
        return [*ready, *(blocks if state is one else ())]

    assert facts(one) == facts(other)
