"""The state diagram: every arrow is walked by a real run, and where there is no arrow nothing moves."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from floxide_mp.api.retry import RetryPolicy
from floxide_mp.core import leases, run_state
from floxide_mp.core.graph import RUN_SCOPE, Graph, NodeSpec
from floxide_mp.core.plan import Plan
from floxide_mp.core.records import ItemRecord
from floxide_mp.core.run_state import MAX_DEATHS, RunState
from floxide_mp.core.transitions import FINAL, ITEM, RUN, STATUS, ItemEvent, Phase, RunEvent, diagrams
from floxide_mp.types import RunStatus, WorkItemStatus
from tests.core import invariants

from .simulation import ERROR

VALUE = ((0, b"v"),)


def run(*nodes: NodeSpec, default_retry: RetryPolicy | None = None, finish: bool = False) -> RunState:
    made = RunState(Plan(Graph("g", nodes or (NodeSpec("one"),), 0)), default_retry, finish)
    made.start(b"input")
    return made


def claimed(made: RunState) -> ItemRecord:
    item = made.claim(1, 0)
    assert item is not None
    return item


def two_running() -> tuple[RunState, ItemRecord, ItemRecord]:
    made = run(NodeSpec("split", ((1,),)), NodeSpec("work"))
    made.succeed(claimed(made), VALUE * 2, (), True)
    return made, claimed(made), claimed(made)


def paused(made: RunState, pause: bool, then: Callable[[RunState, ItemRecord], object], end: Phase) -> None:
    item = claimed(made)
    if pause:
        made.pause()
        assert made.phase is Phase.PAUSED
    then(made, item)
    assert made.phase is end


class Walked(dict):  # type: ignore[type-arg]
    """A table that notes which of its arrows were taken."""

    def __init__(self, table: dict[object, object]) -> None:
        super().__init__(table)
        self.taken: set[object] = set()

    def __getitem__(self, key: object) -> object:
        self.taken.add(key)
        return super().__getitem__(key)


def test_every_arrow_is_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    items, runs = Walked(dict(ITEM)), Walked(dict(RUN))
    for module in (run_state, leases):
        monkeypatch.setattr(module, "ITEM", items)
    monkeypatch.setattr(run_state, "RUN", runs)

    made = run(default_retry=RetryPolicy(max_attempts=2, initial_backoff=1.0))  # claimed, lost, retried, due, done
    made.release(claimed(made))
    made.fail(claimed(made), ERROR, True, now=0.0)
    made.due(1.0)
    made.succeed(claimed(made), VALUE, (), False)
    assert made.phase is Phase.COMPLETED

    made = run()  # gives a portion and has more
    made.portion(claimed(made), VALUE, (), 1)
    item = made.pull(1, 0, 1)
    assert item is not None
    made.succeed(item, (), (), True)
    assert made.phase is Phase.COMPLETED

    made = run()  # held, stuck
    made.hold(claimed(made), ())
    assert made.phase is Phase.FAILED

    made, one, other = two_running()  # two fail; the first fails the run, which is then resumed
    made.fail(one, ERROR, False, now=0.0)
    assert made.phase is Phase.FAILING
    made.fail(other, ERROR, False, now=0.0)
    assert made.phase is Phase.FAILED
    made.resume(0.0)
    assert made.phase is Phase.RUNNING

    made, one, other = two_running()  # cancelled while it fails, and again; there are no workers for the rest
    made.fail(one, ERROR, False, now=0.0)
    made.cancel()
    made.cancel()
    made.abandon(ERROR)
    assert made.phase is Phase.CANCELLING
    made.fail(other, ERROR, False, now=0.0)
    assert made.phase is Phase.CANCELLED

    made = run(default_retry=RetryPolicy(max_attempts=2, initial_backoff=1.0))  # resumed while it waits for a retry
    made.fail(claimed(made), ERROR, True, now=0.0)
    made.abandon(ERROR)
    made.resume(0.0)
    made.succeed(claimed(made), VALUE, (), False)
    assert made.phase is Phase.COMPLETED

    for pause in (False, True):
        paused(run(), pause, lambda m, i: m.succeed(i, VALUE, (), False), Phase.COMPLETED)
        paused(run(), pause, lambda m, i: m.hold(i, ()), Phase.FAILED)
        paused(run(), pause, lambda m, i: m.fail(i, ERROR, False, 0.0), Phase.FAILED)
        paused(run(finish=True), pause, lambda m, i: m.fail(i, ERROR, False, 0.0), Phase.FAILED)
        paused(run(), pause, lambda m, i: (m.cancel(), m.release(i)), Phase.CANCELLED)

    made = run()  # paused and resumed, and then longer than allowed
    made.pause()
    made.resume(0.0)
    item = claimed(made)
    made.time_out(ERROR)
    made.abandon(ERROR)
    assert made.phase is Phase.EXPIRING
    made.release(item)
    assert made.phase is Phase.FAILED

    made, one, other = two_running()  # longer than allowed while it fails
    made.fail(one, ERROR, False, now=0.0)
    made.time_out(ERROR)
    made.cancel()
    assert made.phase is Phase.CANCELLING

    made = run()  # nothing is running: cancelled at once
    made.cancel()
    assert made.phase is Phase.CANCELLED

    ways = ("pause", "cancel"), ("abandon", "time_out")
    for way in (None, *ways[0], *ways[1]):  # broken, in every phase
        made = run()
        claimed(made)
        if way is not None:
            getattr(made, way)(*((ERROR,) if way in ways[1] else ()))
        made.crash(ERROR)
        assert made.phase is Phase.BROKEN
    for verb in ("succeed", "hold", "cancel"):  # and when that it has ended cannot be written
        made = run()
        item = claimed(made)
        if verb == "cancel":
            made.cancel()
            made.release(item)
        else:
            getattr(made, verb)(item, *((VALUE, (), False) if verb == "succeed" else ((),)))
        assert made.over
        made.crash(ERROR)
        assert made.phase is Phase.BROKEN

    assert items.taken == set(ITEM)
    assert runs.taken == set(RUN)


@pytest.mark.parametrize(("before", "fact"), sorted(set(product(Phase, RunEvent)) - set(RUN), key=str))
def test_no_arrow_no_move_of_a_run(before: Phase, fact: RunEvent) -> None:
    made = run()
    made.take_commit()
    made.phase = before
    with pytest.raises(KeyError):
        made._move(fact)
    assert made.phase is before
    assert not made.take_commit()


VERBS = {
    ItemEvent.SUCCEEDED: lambda made, item: made.succeed(item, VALUE, (), False),
    ItemEvent.HELD: lambda made, item: made.hold(item, ()),
    ItemEvent.RELEASED: lambda made, item: made.release(item),
    ItemEvent.FAILED: lambda made, item: made.worker_died(item, ERROR, 0.0),
}


@pytest.mark.parametrize("verb", VERBS, ids=lambda fact: fact.name)
def test_an_item_that_is_not_leased_cannot_be_finished(verb: ItemEvent) -> None:
    made = run()
    (item,) = made.items.values()
    before = made.take_commit().created
    with pytest.raises(KeyError):
        VERBS[verb](made, item)
    assert list(made.items.values()) == before
    assert item.status is WorkItemStatus.PENDING
    invariants.check(made)


@pytest.mark.parametrize("verb", VERBS, ids=lambda fact: fact.name)
def test_an_item_cannot_be_finished_twice(verb: ItemEvent) -> None:
    made, one, _ = two_running()
    made.succeed(one, VALUE, (), False)
    metrics = made.metrics
    made.take_commit()
    with pytest.raises(KeyError):
        VERBS[verb](made, one)
    commit = made.take_commit()
    assert not commit.outputs
    assert not commit.finished
    assert made.metrics == metrics
    invariants.check(made)


def test_what_is_final_stays_final() -> None:
    """Unless that it has ended cannot be written."""
    leaving = {phase: {fact for at, fact in RUN if at is phase} for phase in FINAL}
    assert leaving == {
        Phase.COMPLETED: {RunEvent.BROKEN},
        Phase.CANCELLED: {RunEvent.BROKEN},
        Phase.FAILED: {RunEvent.BROKEN, RunEvent.RESUME},
        Phase.BROKEN: set(),
    }
    made = run()
    made.succeed(claimed(made), VALUE, (), False)
    made.take_commit()
    made.cancel()
    made.abandon(ERROR)
    made.due(10.0)
    with pytest.raises(KeyError):
        made.resume(0.0)
    assert made.phase is Phase.COMPLETED
    assert made.failure is None
    assert not made.take_commit()


def test_every_phase_has_a_status_and_the_final_ones_are_told_apart() -> None:
    assert set(STATUS) == set(Phase)
    assert {STATUS[p] for p in FINAL} == {RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED}
    assert STATUS[Phase.PAUSED] is RunStatus.PAUSED
    assert len({STATUS[p] for p in set(Phase) - FINAL}) == len(set(Phase) - FINAL), "each has a name that users see"


def test_every_fact_is_on_the_diagram() -> None:
    drawn = "".join(diagrams())
    assert all(fact.value in drawn for fact in (*ItemEvent, *RunEvent))
    assert drawn.count("-->") == len(ITEM) + len(RUN)


# -- deaths, retries ----------------------------------------------------------------------------------------------


def test_an_item_without_a_policy_survives_some_deaths_and_then_fails_the_run() -> None:
    made = run()
    for attempt in range(1, MAX_DEATHS):
        item = claimed(made)
        assert item.attempt == attempt
        made.worker_died(item, ERROR, now=0.0)
        assert made.ready == 1, "it must be there again at once"
    made.worker_died(claimed(made), ERROR, now=0.0)
    assert made.phase is Phase.FAILED
    assert made.failure is not None
    assert made.failure.attempt == MAX_DEATHS


def test_with_a_policy_deaths_count_as_attempts() -> None:
    made = run(NodeSpec("one", retry=RetryPolicy(max_attempts=5, initial_backoff=9.0)))
    for _ in range(4):
        made.worker_died(claimed(made), ERROR, now=0.0)
    assert made.phase is Phase.RUNNING
    made.worker_died(claimed(made), ERROR, now=0.0)
    assert made.phase is Phase.FAILED
    assert made.metrics.retries == 4


def test_backoff_is_waited_for_to_the_end() -> None:
    policy = RetryPolicy(max_attempts=3, initial_backoff=1.0)
    made = run(NodeSpec("one", retry=policy))
    made.fail(claimed(made), ERROR, True, now=10.0)
    assert (made.next_due, made.ready) == (11.0, 0)
    made.due(10.999)
    assert made.ready == 0
    made.due(11.0)
    made.fail(claimed(made), ERROR, True, now=20.0)
    assert made.next_due == 22.0


def test_what_is_not_retryable_is_not_retried() -> None:
    made = run(NodeSpec("one", retry=RetryPolicy(max_attempts=3)))
    made.fail(claimed(made), ERROR, False, now=0.0)
    assert made.phase is Phase.FAILED
    assert made.metrics.retries == 0


def test_a_nodes_own_policy_goes_before_the_default() -> None:
    made = run(NodeSpec("one", retry=RetryPolicy(max_attempts=1)), default_retry=RetryPolicy(max_attempts=9))
    made.fail(claimed(made), ERROR, True, now=0.0)
    assert made.phase is Phase.FAILED


def test_resume_begins_to_count_attempts_again() -> None:
    made = run(default_retry=RetryPolicy(max_attempts=2, initial_backoff=0.0))
    for _ in range(2):
        made.fail(claimed(made), ERROR, True, now=0.0)
    assert made.phase is Phase.FAILED
    made.resume(0.0)
    item = claimed(made)
    assert item.attempt == 1
    assert made.failure is None
    assert made.metrics.failed == 0
    made.succeed(item, VALUE, (), False)
    assert made.phase is Phase.COMPLETED


def test_a_run_without_workers_can_be_taken_up_again() -> None:
    made = run()
    made.abandon(ERROR)
    assert made.phase is Phase.FAILED
    assert made.failure is ERROR
    made.resume(0.0)
    made.succeed(claimed(made), VALUE, (), False)
    assert made.phase is Phase.COMPLETED


# -- pause, time-out, failures that let others finish ------------------------------------------------------------


def test_a_paused_run_starts_nothing_and_goes_on_where_it_was() -> None:
    made, one, other = two_running()
    made.pause()
    assert made.status is RunStatus.PAUSED
    made.succeed(one, VALUE, (), False)
    made.release(other)
    assert (made.ready, made.claim(1, 0)) == (0, None)
    made.resume(0.0)
    made.succeed(claimed(made), VALUE, (), False)
    assert made.phase is Phase.COMPLETED
    assert made.metrics.completed == 3


def test_a_back_off_that_ended_during_a_pause_is_over_afterwards() -> None:
    made = run(default_retry=RetryPolicy(max_attempts=2, initial_backoff=1.0))
    made.fail(claimed(made), ERROR, True, now=0.0)
    made.pause()
    assert made.next_due is None
    made.resume(5.0)
    assert claimed(made).attempt == 2


@pytest.mark.parametrize("stop", [lambda made: made.cancel(), lambda made: made.time_out(ERROR)])
@pytest.mark.parametrize("fail", [lambda m, i: m.fail(i, ERROR, False, 0.0), lambda m, i: m.worker_died(i, ERROR, 0.0)])
def test_what_fails_while_the_run_is_stopped_is_not_handled(
    stop: Callable[[RunState], None], fail: Callable[[RunState, ItemRecord], None]
) -> None:
    made = run(NodeSpec("one", on_failure=(1,)), NodeSpec("handler"))
    item = claimed(made)
    stop(made)
    fail(made, item)
    assert list(made.items.values()) == ([] if made.phase is Phase.CANCELLED else [item]), "which drops its queue"
    assert (item.status, item.attempt) == (WorkItemStatus.PENDING, 1)
    assert [e.item_id for e in made.take_commit().errors] == [item.id]
    assert made.metrics.failed == 0


def test_a_run_that_timed_out_can_be_resumed() -> None:
    made = run()
    made.time_out(ERROR)
    assert (made.phase, made.failure) == (Phase.FAILED, ERROR)
    made.resume(0.0)
    made.succeed(claimed(made), VALUE, (), False)
    assert (made.phase, made.failure) == (Phase.COMPLETED, None)


def test_with_finish_the_others_come_to_their_end() -> None:
    made = run(NodeSpec("split", ((1,),)), NodeSpec("work", ((2,),)), NodeSpec("after"), finish=True)
    made.succeed(claimed(made), VALUE * 2, (), True)
    made.fail(claimed(made), ERROR, False, now=0.0)
    made.succeed(claimed(made), VALUE, (), False)
    assert made.phase is Phase.RUNNING
    made.succeed(claimed(made), VALUE, (), False)
    assert made.phase is Phase.FAILED
    assert made.failure is not None
    made.resume(0.0)
    for _ in range(2):
        made.succeed(claimed(made), VALUE, (), False)
    assert made.phase is Phase.COMPLETED


def test_with_finish_a_retry_is_waited_for() -> None:
    made = run(
        NodeSpec("split", ((1,),)),
        NodeSpec("work", retry=RetryPolicy(max_attempts=2, initial_backoff=1.0)),
        finish=True,
    )
    made.succeed(claimed(made), VALUE * 2, (), True)
    one, other = claimed(made), claimed(made)
    made.fail(one, ERROR, True, now=0.0)
    made.fail(other, ERROR, False, now=0.0)
    assert made.phase is Phase.RUNNING
    made.due(1.0)
    made.fail(claimed(made), ERROR, True, now=1.0)
    assert made.phase is Phase.FAILED


# -- input that comes bit by bit ---------------------------------------------------------------------------------


def test_fed_items_come_in_order_and_the_run_ends_after_the_last() -> None:
    made = RunState(Plan(Graph("g", (NodeSpec("one", ((1,),)), NodeSpec("all", join_of=RUN_SCOPE)), 0)))
    made.begin()
    for payload in (b"a", b"b", b"c"):
        made.feed(payload)
        invariants.check(made)
    for _ in range(3):
        made.succeed(item := claimed(made), ((0, item.payload),), (), False)
        invariants.check(made)
    assert not made.ready
    made.close()
    invariants.check(made)
    assert claimed(made).payload == (("one", b"a"), ("one", b"b"), ("one", b"c"))


def test_input_that_ends_without_a_value_is_a_run_of_nothing() -> None:
    made = RunState(Plan(Graph("g", (NodeSpec("one"),), 0)))
    made.begin()
    assert made.phase is Phase.RUNNING
    made.close()
    assert made.phase is Phase.COMPLETED


# -- holds --------------------------------------------------------------------------------------------------------


def held_run(first: str, second: str) -> RunState:
    made, one, other = two_running()
    for item, what in ((one, first), (other, second)):
        if what == "hold":
            made.hold(item, ())
        else:
            made.succeed(item, VALUE if what == "next" else (), (), what == "none")
    return made


@pytest.mark.parametrize(("first", "second"), [("hold", "next"), ("next", "hold"), ("hold", "none"), ("none", "hold")])
def test_a_held_item_is_released_by_a_step_that_passes_on(first: str, second: str) -> None:
    made = held_run(first, second)
    assert made.phase is Phase.COMPLETED
    assert not made.held


def test_held_items_that_nothing_released_fail_the_run_at_once() -> None:
    made = held_run("hold", "hold")
    assert made.phase is Phase.FAILED
    assert made.failure is None
    assert made.held == {1: [2, 3]}
    assert made.metrics.completed == 1, "what is held may be started over"
    made.resume(0.0)
    assert made.phase is Phase.FAILED, "there is nothing to be done that could release them"


def test_another_node_does_not_release_what_is_held() -> None:
    made = run(NodeSpec("split", ((1, 2),)), NodeSpec("holds"), NodeSpec("passes"))
    made.succeed(claimed(made), VALUE, (), False)
    made.hold(claimed(made), ())
    made.succeed(claimed(made), VALUE, (), False)
    assert made.phase is Phase.FAILED


# -- serial -------------------------------------------------------------------------------------------------------


def test_serial_nodes_wait_for_each_other_and_nobody_else_does() -> None:
    made = run(
        NodeSpec("split", ((1, 2, 3),)), NodeSpec("a", serial=True), NodeSpec("b", serial=True), NodeSpec("free")
    )
    made.succeed(claimed(made), VALUE, (), False)
    a = claimed(made)
    free = claimed(made)
    names = [made.plan.places[i.place].spec.name for i in (a, free)]
    assert names == ["a", "free"]
    assert made.claim(1, 0) is None
    assert made.ready == 0
    made.release(a)
    assert claimed(made) is a
    made.succeed(a, VALUE, (), False)
    assert made.plan.places[claimed(made).place].spec.name == "b"
