"""Serial steps that read the context and write what follows: no write is lost, whoever comes when."""

from __future__ import annotations

from pathlib import Path

import pytest

from floxide_mp import Coordinator, MemoryStore, RunFailedError
from floxide_mp.api.retry import RetryPolicy
from floxide_mp.coordinator.event_tail import LOOKED_AT, restore_serial_order
from floxide_mp.core.graph import Graph, NodeSpec
from floxide_mp.core.plan import Plan
from floxide_mp.core.records import Chunk, EventRecord, ItemRecord
from floxide_mp.core.restore import restored
from floxide_mp.core.run_state import RunState
from floxide_mp.core.serial_order import LATE
from floxide_mp.core.transitions import Phase
from floxide_mp.core.types import ErrorRecord
from floxide_mp.ports import Progress
from tests.conftest import LIMIT
from tests.core.simulation import RECORD
from tests.faults import flows_steps as flows

ERROR = ErrorRecord("E", "text", "", None)
WRITE = ((0, b"w"),)


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("kept", ["in memory", "on disk"])
def test_row_123_no_update_is_lost_and_the_order_is_the_runs(workers: int, kept: str, tmp_path: Path) -> None:
    with Coordinator(workers, store=tmp_path / "runs.db" if kept == "on disk" else None) as coordinator:
        result = coordinator.start(flows.Tallied).wait(LIMIT)
    assert result.outputs == [list(range(20))]
    assert result.context.state.get() == list(range(20))


@pytest.mark.parametrize("workers", [0, 3])
def test_row_123_items_that_come_by_ways_of_different_length(workers: int) -> None:
    with Coordinator(workers) as coordinator:
        result = coordinator.start(flows.TwoWays).wait(LIMIT)
    # One process works level by level: those of the long way come last.
    assert result.outputs == [[*range(0, 20, 2), *range(1, 20, 2)]]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("anew", [False, True], ids=["here", "in another coordinator"])
def test_row_123_what_failed_and_is_tried_again_later_loses_nothing(workers: int, anew: bool, tmp_path: Path) -> None:
    store = MemoryStore()
    with Coordinator(workers, store=store) as coordinator:
        run = coordinator.start(flows.MendedLater, str(tmp_path), run_id="r", failure="finish")
        with pytest.raises(RunFailedError):
            run.wait(LIMIT)
        (tmp_path / "mended").touch()
        if not anew:
            run.resume()
            assert run.wait(LIMIT).outputs == [[*(n for n in range(20) if n != 3), 3]]
            return
    with Coordinator(workers, store=store) as coordinator:
        coordinator.resume(flows.MendedLater, "r")
        result = coordinator.run("r").wait(LIMIT)
        assert result.outputs == [[*(n for n in range(20) if n != 3), 3]]
        assert result.context.state.get() == result.output


# -- the order itself ---------------------------------------------------------------------------------------------


def state(*specs: NodeSpec, finish: bool = False) -> RunState:
    made = RunState(Plan(Graph("g", specs, 0)), finish=finish)
    made.start(b"")
    return made


RETRY = RetryPolicy(max_attempts=2, initial_backoff=1.0)
SPLIT = NodeSpec("split", ((1,),))
WORK = NodeSpec("work", ((2,),), retry=RETRY)
SERIAL = NodeSpec("serial", serial=True)


def fanned_out(*specs: NodeSpec, count: int = 3, finish: bool = False) -> tuple[RunState, list[Chunk]]:
    run = state(*specs, finish=finish)
    first = run.claim(1, 0)
    assert first is not None and not isinstance(first, Chunk)
    run.fan_out(first, 0, [b"%d" % number for number in range(count)], ())
    found = []
    while (item := run.claim(1, 0)) is not None:
        assert isinstance(item, Chunk)
        found.append(item)
    return run, found


def single(run: RunState) -> ItemRecord:
    item = run.claim(1, 0)
    assert isinstance(item, ItemRecord)
    return item


def test_row_123_a_serial_step_waits_for_those_before_it() -> None:
    run, (block, second, third) = fanned_out(SPLIT, WORK, SERIAL)
    run.succeed_all(third, 0, [b"2"], (), 0)
    assert (run.ready, run.first(), run.claim(2, 0)) == (0, None, None), "two before it are still at work"
    run.succeed_all(block, 0, [b"0"], (), 0)
    item = run.claim(2, 0)
    assert item is not None and item.order == (2, (0,))
    (again,) = run.split_off(second)
    run.fail(again, ERROR, True, 0.0)
    run.succeed(item, (), (), True)
    assert run.claim(2, 0) is None, "the one before waits for its retry"
    run.due(1.0)
    retried = run.claim(2, 0)
    assert retried is again
    run.succeed(again, ((0, b"1"),), (), False)
    orders = []
    while (item := run.claim(2, 0)) is not None and not isinstance(item, Chunk):
        orders.append(item.order)
        run.succeed(item, (), (), True)
    assert orders == [(2, (1,)), (2, (2,))]
    assert run.over


def events(run: RunState) -> list[EventRecord]:
    return run.take_commit().events


def test_row_123_what_comes_late_and_has_read_writes_behind() -> None:
    run, blocks = fanned_out(SPLIT, WORK, SERIAL, finish=True)
    (failed,) = run.split_off(blocks[0])
    run.fail(failed, ERROR, False, 0.0)
    for block in blocks[1:]:
        run.succeed_all(block, 0, [b"x"], (), 0)
    for _ in range(2):
        item = run.claim(2, 0)
        assert item is not None and not isinstance(item, Chunk), "it does not wait for what has failed for good"
        run.succeed(item, (), WRITE, True)
    assert [event.order for event in events(run)] == [(2, (1,)), (2, (2,))]
    run.resume(0.0)
    assert run.claim(2, 0) is failed
    run.succeed(failed, ((0, b"0"),), (), False)
    late = run.claim(2, 0)
    assert late is not None and not isinstance(late, Chunk)
    assert run.serial_order is not None
    run.serial_order.looked = True
    run.succeed(late, (), WRITE, True)
    assert [event.order for event in events(run)] == [(2, (2, LATE))]
    assert run.serial_order.place((2, (0,))) == (2, (2, LATE + 1)), "and the next one behind that"
    run.serial_order.looked = False
    assert run.serial_order.place((2, (0,))) == (2, (0,)), "one that has read nothing has its own place"


@pytest.mark.parametrize("behind", [0, 3 * LOOKED_AT])
def test_row_123_a_run_that_goes_on_knows_where_its_serial_steps_wrote(behind: int) -> None:
    class Store(MemoryStore):
        def events(self, run_id: str, since: int = 0, most: int | None = None) -> list[EventRecord]:
            return log[since:][:most]

    log = [EventRecord((2, (n,)), 0, "serial", 0, b"") for n in (0, 1)]
    log += [EventRecord((9, (n,)), 0, "work", 0, b"") for n in range(behind)]
    run = state(SPLIT, WORK, SERIAL)
    restore_serial_order(run, Store(), "r", len(log))
    assert run.serial_order is not None
    assert run.serial_order.last == (2, (1,))


@pytest.mark.parametrize("anew", [False, True], ids=["here", "in another coordinator"])
def test_row_123_what_gives_bit_by_bit_and_failed_is_not_waited_for_when_it_is_tried_again(anew: bool) -> None:
    """It may never end."""
    store, run = MemoryStore(), state(SPLIT, SERIAL)
    store.create(RECORD, run.take_commit(), Progress(run.phase, run.metrics, run.counts, None, None))
    run.portion(single(run), [(0, b"0"), (0, b"1")], (), 1)
    giving = run.pull(1, 0, 1)
    assert giving is not None
    run.fail(giving, ERROR, False, 0.0)
    assert run.phase is Phase.FAILED
    store.commit(RECORD.run_id, run.take_commit(), Progress(run.phase, run.metrics, run.counts, None, ERROR))
    if anew:
        run = restored(run.plan, store.snapshot(RECORD.run_id), run.phase, run.metrics, run.counts, ERROR)
    run.resume(0.0)
    for number in range(2):
        serial = single(run)
        assert serial.order == (1, (number,))
        run.succeed(serial, (), WRITE, True)


def test_row_123_a_run_without_serial_nodes_pays_nothing() -> None:
    assert state(SPLIT, NodeSpec("work", ((),))).serial_order is None
