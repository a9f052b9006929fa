"""Batches: how many items are in flight, in which order they are let in, and what a failure does to the rest."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floxide_mp.api.retry import RetryPolicy
from floxide_mp.core.graph import Graph, NodeSpec
from floxide_mp.core.plan import Plan
from floxide_mp.core.records import Chunk, EventRecord, ItemRecord, OutputRecord
from floxide_mp.core.restore import restored
from floxide_mp.core.run_state import RunState
from floxide_mp.core.transitions import Phase
from floxide_mp.core.types import ErrorRecord
from floxide_mp.core.window import Window
from floxide_mp.ports import CheckpointStore, Progress, RunRecord
from floxide_mp.stores.memory import MemoryStore
from tests.core import invariants

RECORD = RunRecord("run", "batch", b"", b"", b"", b"input", 0, 0.0, None, False, {}, (), ())


def graph(size: int, caught: bool) -> Graph:
    """Some batches side by side, each of them caught by a handler or not."""
    handlers = (5,) if caught else None
    nodes = (
        NodeSpec("split", ((1,),)),
        NodeSpec("b/in", ((2,),), on_failure=handlers),
        NodeSpec("b/each", ((3,),), on_failure=handlers, window=size, retry=RetryPolicy(2, initial_backoff=1.0)),
        NodeSpec("b", ((4,),), join_of=1),
        NodeSpec("after"),
        NodeSpec("handler"),
    )
    return Graph("batch", nodes, 0)


@dataclass
class Batches:
    """Runs batches whose items each do what ``acts`` says: "next", "hold", "fail" (unless ``healed``), "again" (fails
    the first time), "some" (gives bit by bit), or "none" (an empty NextAll). After a restart the size is one of
    ``sizes``.
    """

    size: int
    acts: list[list[str]]
    caught: bool = True
    finish: bool = False
    sizes: tuple[int, ...] = ()
    healed: bool = False
    now: float = 0.0
    state: RunState = field(init=False)
    running: list[ItemRecord] = field(default_factory=list)
    ran: set[tuple[int, ...]] = field(default_factory=set)
    outputs: list[OutputRecord] = field(default_factory=list)
    events: list[EventRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = self._open()
        self.state = RunState(Plan(graph(self.size, self.caught)), None, self.finish)
        self.state.start(b"input")
        self.store.create(RECORD, self.state.take_commit(), self.progress())

    def _open(self) -> CheckpointStore:
        return MemoryStore()

    def _reopen(self) -> CheckpointStore:
        """The store after the coordinator's death."""
        return self.store

    def progress(self) -> Progress:
        return Progress(self.state.phase, self.state.metrics, self.state.counts, None, self.state.failure)

    def step(self, chance: random.Random, workers: int, restarts: bool) -> None:
        if restarts and chance.random() < 0.1:
            self.restart(chance)
        elif self.state.has_stream_for(1) and chance.random() < 0.6:
            item = self.state.pull(1, 0, 1)
            assert item is not None
            self.running.append(item)
        elif len(self.running) < workers and self.state.ready and chance.random() < 0.6:
            item = self.state.claim(1, 0)
            assert item is not None
            if isinstance(item, Chunk):  # a restored run makes them
                (item,) = self.state.split_off(item, 1, 0)
            self.running.append(item)
        elif self.running:
            self.finished(self.running.pop(chance.randrange(len(self.running))))
        elif self.state.next_due is not None:
            self.now = max(self.now, self.state.next_due)
            self.state.due(self.now)
        self.see()

    def restart(self, chance: random.Random) -> None:
        self.running.clear()
        self.store = self._reopen()
        kept = self.store.progress("run")
        plan = Plan(graph(chance.choice(self.sizes), self.caught)) if self.sizes else self.state.plan
        stood = kept.phase, kept.metrics, kept.counts, kept.failure
        self.state = restored(plan, self.store.snapshot("run"), *stood, None, self.finish)

    def see(self) -> None:
        commit = self.state.take_commit()
        self.outputs += commit.outputs
        self.events += commit.events
        if commit:
            self.store.commit("run", commit, self.progress())
        invariants.check(self.state)

    def finished(self, item: ItemRecord) -> None:
        name = self.state.plan.places[item.place].spec.name
        if name == "split":
            values = tuple((0, b"%d" % n) for n in range(len(self.acts)))
            self.state.succeed(item, values, (), True)
        elif name == "b/in":
            values = tuple((0, b"%s.%d" % (item.payload, n)) for n in range(len(self.acts[int(item.payload)])))
            self.state.succeed(item, values, (), True)
        elif name == "b/each":
            batch, number = map(int, item.payload.split(b"."))
            self.ran.add((batch, number))
            act = self.acts[batch][number]
            if act == "again" and item.attempt == 1 and not self.state.values_taken(item.id):
                self.state.fail(item, ErrorRecord("Boom", "again", "", None), True, self.now)
            elif act == "some" and not self.state.values_taken(item.id):
                self.state.portion(item, ((0, item.payload),), (), 1)
            elif act == "some":
                self.state.succeed(item, (), (), True)
            elif act == "fail" and not self.healed:
                self.state.fail(item, ErrorRecord("Boom", f"{batch}.{number}", "", None), False, 0.0)
            elif act == "hold":
                self.state.hold(item, ((0, item.payload),))
            else:
                self.state.succeed(
                    item, ((0, item.payload),) if act == "next" else (), ((0, item.payload),), act == "none"
                )
        else:
            payload = item.payload if isinstance(item.payload, bytes) else b" ".join(part for _, part in item.payload)
            if item.error is not None:
                payload += b" failed by " + item.error.message.encode()
            self.state.succeed(item, ((0, payload),), (), False)

    def run(self, chance: random.Random, workers: int, restarts: bool = False) -> list[bytes]:
        while not self.state.over:
            self.step(chance, workers, restarts)
        return [o.payload for o in sorted(self.outputs, key=lambda o: (o.order, o.index))]


acts = st.lists(
    st.lists(st.sampled_from(("next", "next", "next", "hold", "none", "fail")), max_size=9), min_size=1, max_size=3
)


@given(acts, st.integers(1, 4), st.integers(0, 2**32), st.booleans())
@settings(max_examples=120, deadline=None, database=None)
def test_any_schedule_gives_what_one_worker_gives(given: list[list[str]], size: int, seed: int, restarts: bool) -> None:
    one = Batches(size, given)
    expected = one.run(random.Random(0), 1)
    many = Batches(size, given)
    assert many.run(random.Random(seed), 4, restarts) == expected
    assert many.ran == one.ran
    assert sorted(many.events) == sorted(one.events)
    assert many.state.metrics == one.state.metrics
    assert many.state.phase is Phase.COMPLETED
    for batch, what in enumerate(given):
        first = what.index("fail") if "fail" in what else None
        last = len(what) if first is None else min(len(what), first + size)
        assert {n for b, n in many.ran if b == batch} == set(range(last))
    answers = {
        b"%d failed by %d.%d" % (n, n, what.index("fail"))
        if "fail" in what
        else b" ".join(b"%d.%d" % (n, m) for m, act in enumerate(what) if act == "next")
        for n, what in enumerate(given)
    }
    assert set(expected) == answers


def test_a_failure_that_nobody_handles_fails_the_run_which_goes_on_from_there() -> None:
    batch = Batches(2, [["next", "fail", "next", "next", "next"]], caught=False)
    batch.run(random.Random(3), 2)
    assert batch.state.phase is Phase.FAILED
    before = set(batch.ran)
    assert (0, 3) not in before
    batch.acts[0][1] = "next"
    batch.ran.clear()
    batch.state.resume(0.0)
    assert batch.run(random.Random(4), 2) == [b"0.0 0.1 0.2 0.3 0.4"]
    assert batch.ran == {(0, n) for n in range(5)} - before | {(0, 1)}


@given(
    st.lists(st.lists(st.sampled_from(("next", "again", "some", "fail")), max_size=7), min_size=1, max_size=3),
    st.integers(0, 2**32),
)
@settings(max_examples=120, deadline=None, database=None)
def test_row_134_a_batch_goes_on_with_another_size(given: list[list[str]], seed: int) -> None:
    """Smaller than what is in flight of it, too."""
    chance = random.Random(seed)
    many = Batches(4, given, caught=False, finish=True, sizes=(1, 2, 3, 4))
    many.run(chance, 4, restarts=True)
    if many.state.phase is Phase.FAILED:
        many.healed = True
        many.restart(chance)
        many.state.resume(many.now)
        many.see()
        many.run(chance, 4, restarts=True)
    assert many.state.phase is Phase.COMPLETED
    outputs = [o.payload for o in sorted(many.outputs, key=lambda o: (o.order, o.index))]
    assert outputs == Batches(1, given, healed=True).run(random.Random(0), 1)


def test_with_finish_a_failed_item_blocks_its_batch_and_no_other() -> None:
    batch = Batches(1, [["fail", "next"], ["next", "next"]], caught=False, finish=True)
    assert batch.run(random.Random(5), 2) == [b"1.0 1.1"]
    assert batch.state.phase is Phase.FAILED


def test_as_many_as_the_batch_allows_are_in_flight_however_many_could_be() -> None:
    batch = Batches(3, [["next"] * 8])
    for _ in range(2):  # the split, and the way into the batch
        item = batch.state.claim(1, 0)
        assert item is not None
        batch.finished(item)
    running = [batch.state.claim(1, 0) for _ in range(3)]
    assert all(running) and batch.state.claim(1, 0) is None
    batch.finished(running[1])
    assert batch.state.ready == 0, "one behind the first unfinished one makes no room"
    batch.finished(running[0])
    assert batch.state.ready == 2


@pytest.mark.parametrize("failed", [None, 2])
def test_a_window_is_restored_as_it_was(failed: int | None) -> None:
    window: Window[str, str] = Window(2)
    window.failed = None if failed is None else (failed, "error")
    unfinished = [(n, str(n)) for n in (1, 3, 4, 5) if n != failed]
    assert list(window.restore(unfinished)) == ["1"]
    assert [n for n, _ in window.parked] == [3, 4, 5]
    assert list(window.done(1)) == (["3", "4"] if failed is None else ["3"])
