"""A driver of ``RunState`` in one thread: nodes are a hash, workers a list, time a number, deaths a choice.

``sequential`` claims one item, finishes it, and goes on. ``Simulation`` does what its schedule says: anything that
can happen next, happens. After every stimulus the invariants are checked, and every decision of the core is
compared with ``model``.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from typing import NamedTuple

from hypothesis import assume

from floxide_mp.core import invariants
from floxide_mp.core.graph import Graph, NodeSpec
from floxide_mp.core.plan import Plan
from floxide_mp.core.records import Commit, ErrorRecord, EventRecord, ItemRecord, Order, OutputRecord, Payload, Scope
from floxide_mp.core.restore import restored
from floxide_mp.core.state import MAX_DEATHS, RunState
from floxide_mp.core.table import Phase
from floxide_mp.facts import WorkItemStatus
from floxide_mp.ports import CheckpointStore, Progress, RunRecord
from floxide_mp.stores.memory import MemoryStore

from .model import Model

DEEPEST = 12  # items from here on are the last of their branch, so that every graph comes to an end
WIDEST = 3  # fan-outs on the way to an item; from here on it has one value at the most
MOST = 120  # items in a run that is worth simulating

ERROR = ErrorRecord("Boom", "boom", "", None)
RECORD = RunRecord("run", "drawn", b"", b"", b"", b"input", 0, 0.0, None, False, {}, (), ())


class Act(NamedTuple):
    """What a node does with a payload. ``fails`` attempts fail before; ``hopeless`` says that all of them do.

    ``cuts``: how many values it has given at the end of each portion. ``breaks``: after how many of them it fails.
    """

    kind: str  # "next", "all" or "hold"
    values: tuple[tuple[int, bytes], ...]
    writes: tuple[tuple[int, bytes], ...]
    fails: int
    hopeless: bool
    cuts: tuple[int, ...] = ()
    breaks: int = 0

    def portion(self, given: int, failing: bool, whole: bool) -> int | None:
        """Having given so many values, up to how many it comes before it is cut; None: it is not cut, or fails.

        Args:
            whole: it is cut only before it fails.
        """
        if whole:
            return self.breaks if failing and given < self.breaks else None
        if failing and given == self.breaks:
            return None
        return next((cut for cut in self.cuts if cut > given), None)


def behaviour(seed: int, spec: NodeSpec, payload: Payload, order: Order) -> Act:
    """The same answer for the same question, and nothing else about it can be foreseen."""
    d = hashlib.blake2b(repr((seed, spec.name, payload)).encode(), digest_size=32).digest()
    depth, path = order
    hopeless = d[0] < (60 if spec.on_failure is not None else 8)
    fails = d[1] % spec.retry.max_attempts if spec.retry and d[2] < 80 else 0
    writes = tuple((d[4 + i] % 2, d[5 + i : 7 + i]) for i in range(d[3] % 3))
    if depth >= DEEPEST or len(path) > 2 * WIDEST:
        return Act("all", (), writes, fails, hopeless)
    if d[8] < 6:
        return Act("hold", (), writes, fails, hopeless)
    spread = d[9] < 90
    width = (0, 1, 2, 2, 3, 3)[d[10] % (6 if len(path) < WIDEST else 2)] if spread else 1
    values = tuple(
        # Some values are alike on purpose: two equal items are two items.
        (d[11 + i] % len(spec.arms), b"%d" % (d[14 + i] % 3) if d[17 + i] < 100 else d[14 + i : 20 + i].hex().encode())
        for i in range(width)
    )
    cuts = tuple(cut for cut in range(1, width + 1) if d[26] >> cut & 1) if spread else ()
    return Act("all" if spread else "next", values, writes, fails, hopeless, cuts, (0, *cuts)[d[27] % (1 + len(cuts))])


@dataclass
class Result:
    """What a run came to. ``processed`` is every item that was finished: order key -> (node, payload)."""

    phase: Phase
    outputs: list[OutputRecord]
    events: list[EventRecord]
    processed: dict[Order, tuple[str, Payload]]
    total: int
    completed: int
    failed: int
    held: set[int]
    failing: bool  # some item failed the run, which then left things undone


@dataclass
class Simulation:
    """One run of a graph. ``heal``: what would fail the run does not fail any more."""

    graph: Graph
    seed: int
    heal: bool = False
    finishing: bool = False
    ordered: bool = False  # it is the sequential run: arrivals at joins must be in the order of the steps
    now: float = 0.0
    deaths: int = 0
    restarts: int = 0
    steps: int = 0
    running: list[tuple[int, ItemRecord]] = field(default_factory=list)  # (worker, item)
    failures: dict[int, int] = field(default_factory=dict)  # item -> failed attempts
    outputs: list[OutputRecord] = field(default_factory=list)
    events: list[EventRecord] = field(default_factory=list)
    processed: dict[Order, tuple[str, Payload]] = field(default_factory=dict)
    orders: set[Order] = field(default_factory=set)
    portions: int = 0
    lives: dict[int, int] = field(default_factory=dict)  # worker -> how often it died

    def __post_init__(self) -> None:
        self.state = RunState(Plan(self.graph), None, self.finishing)
        self.store = self._open()
        self.model = self._made_model()
        self.state.start(b"input")
        self.model.start(b"input")
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

    def claim(self, worker: int) -> ItemRecord | None:
        ready = self.state.ready
        item = self.state.claim(worker + 1, worker)
        assert (item is not None) == (ready > 0), "ready and claim disagree"
        if item is not None:
            self._begin(worker, item)
        self._see()
        return item

    def pull(self, worker: int) -> ItemRecord | None:
        gives = self.state.gives(self._session(worker))
        item = self.state.pull(worker + 1, worker, self._session(worker))
        assert (item is not None) == gives, "gives and pull disagree"
        if item is not None:
            self._begin(worker, item)
        self._see()
        return item

    def _begin(self, worker: int, item: ItemRecord) -> None:
        self.running.append((worker, item))
        serial = [i for _, i in self.running if self._spec(i).serial]
        assert len(serial) <= 1, "steps of serial nodes overlap"

    def finish(self, item: ItemRecord) -> None:
        """Its node returns or raises, or what it returned has given some values."""
        worker = next(w for w, i in self.running if i is item)
        self.running = [(w, i) for w, i in self.running if i is not item]
        self.steps += 1
        spec = self._spec(item)
        act = behaviour(self.seed, spec, item.payload, item.order)
        failed = self.failures.get(item.id, 0)
        hopeless = act.hopeless and not (self.heal and spec.on_failure is None)
        failing = hopeless or failed < act.fails
        given = self.state.given(item.id)
        cut = act.portion(given, failing, self.ordered)
        if cut is not None:
            again = given > 0 and self.state._sources.get(item.id).home == 0  # type: ignore[union-attr]
            if again and not self.ordered and self.steps % 2:  # it is gone over once more, and that takes a while
                self.state.portion(item, (), (), self._session(worker))
            else:
                values = act.values[given:cut]
                self.state.portion(item, values, () if given else act.writes[:1], self._session(worker))
                self.model.portion(item, values)
                self.portions += 1
        elif failing:
            self.failures[item.id] = failed + 1
            self.state.fail(item, ERROR, retryable=not hopeless or failed % 2 == 0, now=self.now)
            if item.id not in self.state.items:
                self.model.fail(item)
                self._processed(item, spec)
        elif act.kind == "hold":
            self.state.hold(item, act.writes)
            self.model.hold(item)
            self._processed(item, spec)
        else:
            writes = act.writes[1:] if given else act.writes
            self.state.succeed(item, act.values[given:], writes, act.kind == "all")
            self.model.succeed(item, act.values[given:])
            self._processed(item, spec)
        self._see()

    def kill(self, worker: int, culprit: bool) -> None:
        """The worker dies; the item that it was at is tried again, the others were not started."""
        mine = [i for w, i in self.running if w == worker]
        self.running = [(w, i) for w, i in self.running if w != worker]
        for item in mine:
            if culprit and self._may_die(item):
                self.deaths += 1
                self.state.die(item, ERROR, self.now)
                culprit = False
            else:
                self.state.release(item)
            self._see()
        self.state.forsake(self._session(worker))
        self.lives[worker] = self.lives.get(worker, 0) + 1

    def resume_healed(self) -> None:
        """The run has failed; whatever was wrong with its items is mended, and it goes on."""
        self.heal = True
        for item in self.state.items.values():
            if item.status is WorkItemStatus.FAILED:
                self.failures.pop(item.id)
        self.state.resume(self.now)
        self._see()

    def restart(self) -> None:
        """The coordinator dies, and another one takes up what the store has."""
        self.restarts += 1
        self.running.clear()
        self.store = self._reopen()
        before, kept = self.state, self.store.progress("run")
        args = kept.phase, kept.metrics, kept.counts, kept.failure, None, self.finishing
        self.state = restored(before.plan, self.store.snapshot("run"), *args)
        assert self.state.metrics == before.metrics
        assert self.state.counts == before.counts
        assert self.state.held == before.held
        assert self.state.next_due == before.next_due or self.state.phase is not before.phase
        _compare_scopes(before, self.state)
        self._see()

    def later(self) -> None:
        """The next back-off is over."""
        due = self.state.next_due
        assert due is not None
        self.now = max(self.now, due)
        self.state.due(self.now)
        assert self.state.next_due is None or self.state.next_due > self.now
        self._see()

    # -- schedules -----------------------------------------------------------------------------------

    def sequential(self) -> Result:
        """One at a time. A back-off takes no time, so that nothing overtakes the item that waits."""
        last: Order = (-1, ())
        while (item := self.pull(0) or self.claim(0)) is not None:
            assert item.order >= last, "the one-process run is not in the order of the keys"
            last = item.order
            self.finish(item)
            while self.state.next_due is not None:
                self.later()
        return self.result()

    def interleaved(self, schedule: random.Random, workers: int = 3, restarts: bool = False) -> Result:
        """Whatever can happen, in the order that ``schedule`` chooses, until the run is over."""
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
            assert ways, f"nothing can happen any more, and yet the run is {self.state.phase}"
            schedule.choice(ways)(schedule, workers)
        assert self.state.claim(1, 1) is None
        return self.result()

    def _claim_some(self, schedule: random.Random, workers: int) -> None:
        worker = schedule.randrange(workers)
        for _ in range(schedule.choice((1, 1, 1, 5))):
            if self.claim(worker) is None:
                break

    def _pull_some(self, schedule: random.Random, workers: int) -> None:
        self.pull(schedule.choice(list(filter(self._may_pull, range(workers)))))

    def _may_pull(self, worker: int) -> bool:
        return self.state.gives(self._session(worker))

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

    def _spec(self, item: ItemRecord) -> NodeSpec:
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
        self.processed[item.order] = (spec.name, item.payload)

    def _see(self) -> None:
        """Check everything that can be checked after one stimulus."""
        commit = self.state.take_commit()
        if commit:
            self.store.commit("run", commit, self._progress())
        self._look(commit)

    def _progress(self) -> Progress:
        return Progress(self.state.phase, self.state.metrics, self.state.counts, None, self.state.failure)

    def _look(self, commit: Commit) -> None:
        for item in commit.created:
            assert item.order not in self.orders, f"the order key {item.order} is given twice"
            self.orders.add(item.order)
        assume(len(self.orders) <= MOST)
        self.outputs += commit.outputs
        self.events += commit.events
        invariants.check(self.state)
        self.model.compare(self.state, commit)


def sequential(graph: Graph, seed: int, heal: bool = False) -> Simulation:
    """The run that every other one must equal, after it is over."""
    made = Simulation(graph, seed, heal=heal, ordered=True)
    made.sequential()
    return made


def _compare_scopes(one: RunState, other: RunState) -> None:
    """The scopes that some item is in are the same in both."""

    def facts(state: RunState) -> dict[int, object]:
        found: dict[int, Scope] = {0: state.root}
        for item in state.items.values():
            scope: Scope | None = item.scope
            while scope is not None:
                found[scope.id] = scope
                scope = scope.parent
        return {
            number: (s.alive, s.waiting_for, s.depth, s.closed, s.fired, s.arrivals and sorted(map(repr, s.arrivals)))
            for number, s in found.items()
        }

    assert facts(one) == facts(other)
