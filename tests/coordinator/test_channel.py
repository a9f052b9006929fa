"""``source``: values that are sent one by one, each an item of a run or a run of its own, inline and on processes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import (
    AlreadyCompletedError,
    Coordinator,
    FloxideError,
    MemoryStore,
    Run,
    RunCancelledError,
    RunFailedError,
    RunMetrics,
    RunStatus,
    RunTimeoutError,
    SerializationError,
    Source,
    source,
)
from tests import flows_features as flows
from tests.conftest import LIMIT
from tests.flows_run import Gate, Serially, until
from tests.scripts import printed


class Sending(threading.Thread):
    """Sends from a thread of its own and closes; ``sent`` counts, ``error`` is what it was told."""

    def __init__(self, sender: Any, values: Any) -> None:
        super().__init__()
        self.sender, self.values = sender, list(values)
        self.sent = 0
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            with self.sender:
                for value in self.values:
                    self.sender.send(value)
                    self.sent += 1
        except FloxideError as error:
            self.error = error

    def end(self) -> BaseException | None:
        self.join(LIMIT)
        assert not self.is_alive(), "it waits and waits"
        return self.error


# -- a run each ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_source_run_gives_a_result_for_each_value(workers: int) -> None:
    sender, values = source(3)
    ctx = flows.Log(flows.EventLog(["before"]))
    sending = Sending(sender, range(10))
    results = values.run(flows.Flow, ctx, workers=workers)
    assert sending.end() is None
    assert [result.output for result in results] == list(range(10)), "in the order they were sent"
    assert [list(result.context.log) for result in results] == [["before", n] for n in range(10)]
    assert len({result.run_id for result in results}) == 10
    assert list(ctx.log) == ["before"]


@pytest.mark.parametrize("workers", [0, 2])
def test_source_run_of_nothing(workers: int) -> None:
    sender, values = source(1)
    sender.close()
    assert values.run(flows.Flow, workers=workers) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_source_run_ends_with_the_first_run_that_fails_and_its_sender_is_told(workers: int) -> None:
    sender, values = source(1)
    sending = Sending(sender, [1, -2, *range(20)])
    with pytest.raises(RunFailedError, match="no 2"):
        values.run(flows.Flow, workers=workers)
    assert "what this source feeds is over" in str(sending.end())


def test_source_run_that_cannot_begin_tells_its_sender() -> None:
    sender, values = source(1)
    sending = Sending(sender, range(5))
    with pytest.raises(TypeError, match="a Workflow is needed"):
        values.run("Flow")
    assert sending.end() is not None


# -- an item each -------------------------------------------------------------------------------------------------


def test_each_value_is_an_item_and_the_run_ends_after_the_channel_is_closed(coordinator: Coordinator) -> None:
    sender, values = source(10)
    run = coordinator.start(flows.Summed, values)
    for n in range(5):
        sender.send(n)
    with pytest.raises(TimeoutError):
        run.wait(0.2)  # all there is is done, and yet it is not over
    assert run.status is RunStatus.RUNNING
    sender.send(5)
    sender.close()
    result = run.wait(LIMIT)
    assert result.outputs == [15]
    assert list(result.context.log) == [0, 1, 2, 3, 4, 5], "the order they were sent in"
    assert result.metrics == RunMetrics(7, 7, 0, 0)


def test_more_values_than_fit_sent_from_another_thread(coordinator: Coordinator) -> None:
    sender, values = source(3)
    run = coordinator.start(flows.Flow, values)
    sending = Sending(sender, range(200))
    assert run.wait(LIMIT).outputs == list(range(200))
    assert sending.end() is None
    assert list(run.context().log) == list(range(200))


def test_more_values_than_fit_sent_by_the_only_thread_there_is(inline: Coordinator) -> None:
    """It works itself where it would wait."""
    sender, values = source(2)
    run = inline.start(flows.Summed, values)
    with sender:
        for n in range(50):
            sender.send(n)
    assert run.wait(LIMIT).output == sum(range(50))


def test_several_senders(coordinator: Coordinator) -> None:
    sender, values = source(2)
    run = coordinator.start(flows.Summed, values)
    threads = [threading.Thread(target=lambda: [sender.send(n) for n in range(25)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    sender.close()
    assert run.wait(LIMIT).output == 4 * sum(range(25))


@pytest.mark.parametrize("sent", [[], [4], [1, 2, 3]])
def test_all_is_sent_before_the_run_is_started(coordinator: Coordinator, sent: list[int]) -> None:
    sender, values = source(3)
    with sender:
        for n in sent:
            sender.send(n)
    result = coordinator.start(flows.Summed, values).wait(LIMIT)
    assert result.output == sum(sent)
    assert list(result.context.log) == sent


def test_a_sender_that_waits_before_the_run_is_started(coordinator: Coordinator) -> None:
    sender, values = source(1)
    sending = Sending(sender, range(5))
    until(lambda: sending.sent == 1)
    assert coordinator.start(flows.Summed, values).wait(LIMIT).output == 10
    assert sending.end() is None


def test_a_sender_that_waited_before_the_run_was_started_works_itself(inline: Coordinator) -> None:
    sender, values = source(1)
    sending = Sending(sender, range(5))
    until(lambda: values._channel._changed._waiters)  # type: ignore[attr-defined]
    run = inline.start(flows.Summed, values)
    assert sending.end() is None  # though nobody waits for the run
    assert run.wait(LIMIT).output == 10


def test_a_sender_that_would_wait_while_the_run_is_being_started(monkeypatch: pytest.MonkeyPatch) -> None:
    sender, values = source(1)
    sender.send(0)
    with Coordinator(0) as coordinator:
        create = coordinator._scheduler.create

        def slowly(*arguments: Any) -> bool:
            with pytest.raises(TimeoutError):
                sender.send(1, timeout=0.01)
            return create(*arguments)

        monkeypatch.setattr(coordinator._scheduler, "create", slowly)
        run = coordinator.start(flows.Summed, values)
        sender.close()
        assert run.wait(LIMIT).output == 0


def test_what_the_sender_does_to_a_value_afterwards_is_not_seen(coordinator: Coordinator) -> None:
    class Echo(flows.Workflow):
        echo = flows.echo
        start = echo

    sender, values = source(3)
    value = [1]
    sender.send(value)
    value.append(2)
    run = coordinator.start(Echo, values)
    sender.send(value)
    value.append(3)
    sender.close()
    assert run.wait(LIMIT).outputs == [[1], [1, 2]]


def test_failure_finish_goes_on_taking(coordinator: Coordinator) -> None:
    sender, values = source(2)
    run = coordinator.start(flows.Flow, values, failure="finish")
    sending = Sending(sender, [-1, *range(10)])
    with pytest.raises(RunFailedError, match="no 1"):
        run.wait(LIMIT)
    assert sending.end() is None
    assert list(run.context().log) == list(range(10))
    assert sorted(run.checkpoint().outputs) == list(range(10))


SCRIPT = """
from __future__ import annotations
from dataclasses import dataclass
from floxide_mp import Coordinator, MemoryStore, Node, RunFailedError, Workflow, source

@dataclass
class Order:
    count: int

class Double(Node):
    def process(self, order: Order):  # which the annotation does not say at run time: it is a text
        return order.count * 2

class Fails(Node):
    def process(self, order: Order):
        raise ValueError(order.count)

class Flow(Workflow):
    double = Double()
    start = double

for workers in (0, 1):
    sender, values = source(5)
    with Coordinator(workers) as coordinator:
        run = coordinator.start(Flow, values)
        for count in (1, 2):
            sender.send(Order(count))
        sender.close()
        print(run.wait().outputs, Order(1) == Order(1))
    store = MemoryStore()
    try:
        Flow(double=Fails()).run_with_checkpoint(Order(3), store=store, run_id="x", workers=workers)
    except RunFailedError:
        print(Flow().resume(store=store, run_id="x", workers=workers).output)
"""


def test_values_of_a_class_of_main_that_no_node_refers_to(tmp_path: Path) -> None:
    """What was not there when the workflow was pickled travels with the value; and a resumed run knows its input."""
    assert printed(SCRIPT, tmp_path) == "[2, 4] True\n6\n" * 2


# -- a full channel -----------------------------------------------------------------------------------------------


def test_send_waits_while_the_channel_is_full_and_raises_after_its_timeout(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    sender, values = source(2)
    with Coordinator(2) as coordinator:
        run = coordinator.start(flows.Gates, values)
        for n in range(2):
            sender.send(str(gate.path))
            gate.entered(n + 1)
        for _ in range(2):
            sender.send("/dev/null", timeout=0)
        for timeout in (0, 0.05):
            with pytest.raises(TimeoutError, match="the source is full: 2 values wait to be taken"):
                sender.send("/dev/null", timeout)
        assert run.metrics().total_work_items == 2, "what waits in the channel is no item"
        sending = Sending(sender, ["/dev/null"] * 3)
        gate.open()
        assert run.wait(LIMIT).output == ["through"] * 2 + [None] * 5
        assert sending.end() is None


def test_a_serial_start_node_pushes_back_as_well(tmp_path: Path) -> None:
    """While its one step is on, the other worker takes nothing."""
    gate = Gate(tmp_path)
    sender, values = source(2)
    with Coordinator(2) as coordinator:
        run = coordinator.start(flows.SerialGates, values)
        sender.send(str(gate.path))
        gate.entered(1)
        for _ in range(2):
            sender.send("/dev/null", timeout=0)
        with pytest.raises(TimeoutError):
            sender.send("/dev/null", timeout=0.05)
        assert run.metrics().total_work_items == 1
        leases = coordinator._scheduler._numbers
        with pytest.raises(TimeoutError):
            run.wait(0.05)
        assert coordinator._scheduler._numbers == leases, "nor is it given leases without items, one after the other"
        gate.open()
        sender.close()
        assert run.wait(LIMIT).outputs == ["through", None, None]


def test_a_serial_start_node_sees_all_that_were_sent_before(coordinator: Coordinator, tmp_path: Path) -> None:
    serial = flows.Workflow.build("Serial", {"serial": Serially.__compiled__.nodes[1]}, "serial", context=flows.Log)
    sender, values = source(3)
    run = coordinator.start(serial, values)
    sending = Sending(sender, [(str(tmp_path / "steps"), n) for n in range(30)])
    assert run.wait(LIMIT).outputs == list(range(30))
    assert sending.end() is None


def test_while_its_run_is_paused_nothing_is_taken(coordinator: Coordinator) -> None:
    sender, values = source(2)
    run = coordinator.start(flows.Summed, values)
    run.pause()
    for n in (1, 2):
        sender.send(n)
    with pytest.raises(TimeoutError):
        sender.send(3, timeout=0.05)
    assert run.metrics().total_work_items == 0
    sending = Sending(sender, [3, 4])
    run.resume()
    assert run.wait(LIMIT).output == 10
    assert sending.end() is None


def test_a_channel_that_is_closed_while_its_run_is_paused(coordinator: Coordinator) -> None:
    sender, values = source(2)
    run = coordinator.start(flows.Flow, values)
    run.pause()
    sender.close()
    assert run.wait(LIMIT).outputs == []
    with pytest.raises(AlreadyCompletedError):
        run.resume()


# -- the end ------------------------------------------------------------------------------------------------------


def fails(run: Run, coordinator: Coordinator) -> None:
    with pytest.raises(RunFailedError):
        run.wait(LIMIT)


def is_cancelled(run: Run, coordinator: Coordinator) -> None:
    run.cancel()
    with pytest.raises(RunCancelledError):
        run.wait(LIMIT)


def is_closed(run: Run, coordinator: Coordinator) -> None:
    coordinator.close()


@pytest.mark.parametrize("end", [fails, is_cancelled, is_closed])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_sender_is_not_left_waiting_when_the_run_it_feeds_is_over(
    workers: int, end: Callable[[Run, Coordinator], None]
) -> None:
    sender, values = source(2)
    with Coordinator(workers) as coordinator:
        run = coordinator.start(flows.Flow, values)
        if end is not fails:
            run.pause()
        sending = Sending(sender, [-1, *range(100)])
        if end is not fails:
            until(lambda: sending.sent == 2)
        end(run, coordinator)
        assert "what this source feeds is over" in str(sending.end())
    with pytest.raises(FloxideError, match="the source is closed"):
        sender.send(1)


def test_a_sender_is_told_at_once_though_a_step_still_runs(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    sender, values = source(1)
    with Coordinator(2) as coordinator:
        run = coordinator.start(flows.Gates, values)
        sender.send(str(gate.path))
        gate.entered(1)
        run.pause()
        sending = Sending(sender, ["/dev/null"] * 5)
        until(lambda: sending.sent == 1)
        run.cancel(grace=LIMIT)
        assert sending.end() is not None
        assert run.status is RunStatus.CANCELLING
        gate.open()
        with pytest.raises(RunCancelledError):
            run.wait(LIMIT)


def test_a_run_that_waits_for_input_can_time_out_and_goes_on_with_what_was_taken(coordinator: Coordinator) -> None:
    sender, values = source(5)
    run = coordinator.start(flows.Summed, values, timeout=0.3)
    for n in (1, 2, 3):
        sender.send(n)
    with pytest.raises(RunTimeoutError):
        run.wait(LIMIT)
    with pytest.raises(FloxideError, match="what this source feeds is over"):
        sender.send(4)
    run.resume()
    assert run.wait(LIMIT).output == 6


def test_a_failed_run_goes_on_with_what_was_taken(coordinator: Coordinator) -> None:
    class Mended(flows.Node):
        def process(self, ctx: flows.Log, value: int) -> int:
            return abs(value)

    sender, values = source(1)
    run = coordinator.start(flows.Summed, values)
    sending = Sending(sender, [1, 2, -3, 4, 5, 6, 7, 8, 9])
    with pytest.raises(RunFailedError, match="no 3"):
        run.wait(LIMIT)
    sending.end()
    taken = run.metrics().total_work_items
    again = coordinator.resume(flows.Summed(logged=Mended()), run.run_id)
    assert again.wait(LIMIT).output == sum(range(1, taken + 1))


def test_what_is_sent_and_closed_after_the_coordinator_is_closed_changes_nothing() -> None:
    store = MemoryStore()
    sender, values = source(5)
    with Coordinator(0, store) as coordinator:
        coordinator.start(flows.Summed, values, run_id="x")
        sender.send(1)
    before = store.progress("x")
    with pytest.raises(FloxideError, match="what this source feeds is over"):
        sender.send(2)
    sender.close()
    assert store.progress("x") is before


@pytest.mark.parametrize(("depth", "found"), [(2, [2, 1, 1, 0, 0]), (3, None)])
def test_a_step_that_sends_to_its_own_run(inline: Coordinator, depth: int, found: list[int] | None) -> None:
    """As long as there is room. Where it would wait for room, nobody could make any: an error, and not for ever."""
    sender, values = source(2)
    flows.FEED[:] = [sender]
    run = inline.start(flows.Crawl, values)
    sender.send(depth)
    if found:
        assert run.wait(LIMIT).outputs == found
    else:
        with pytest.raises(RunFailedError, match="an inline step cannot wait for a run of its own coordinator"):
            run.wait(LIMIT)


# -- misuse -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("started", [False, True])
def test_a_value_that_cannot_be_pickled_is_refused_in_the_sender(coordinator: Coordinator, started: bool) -> None:
    sender, values = source(3)
    run = coordinator.start(flows.Summed, values) if started else None
    sender.send(1)
    with pytest.raises(SerializationError, match="a value sent cannot be pickled: a value sent is a lock"):
        sender.send(threading.Lock())
    sender.send(2)
    sender.close()
    assert (run or coordinator.start(flows.Summed, values)).wait(LIMIT).output == 3


def test_a_source_is_taken_once(coordinator: Coordinator) -> None:
    sender, values = source(3)
    sender.close()
    coordinator.start(flows.Flow, values).wait(LIMIT)
    for again in (lambda: coordinator.start(flows.Flow, values), lambda: values.run(flows.Flow)):
        with pytest.raises(FloxideError, match="the values of a source are taken once"):
            again()


def test_what_a_source_feeds_is_a_new_run(coordinator: Coordinator) -> None:
    coordinator.start(flows.Flow, 1, run_id="old").wait(LIMIT)
    sender, values = source(1)
    sending = Sending(sender, range(3))
    with pytest.raises(FloxideError, match="'old' exists; what a source feeds is a new run"):
        coordinator.start(flows.Flow, values, run_id="old")
    assert sending.end() is not None


@pytest.mark.parametrize("capacity", [0, -1, True, 1.5, None])
def test_capacities_that_make_no_sense(capacity: Any) -> None:
    with pytest.raises(ValueError, match="capacity must be a whole number of at least 1"):
        source(capacity)


def test_closing_twice_and_sending_after_it() -> None:
    sender, values = source(1)
    assert isinstance(values, Source)
    sender.close()
    sender.close()
    with pytest.raises(FloxideError, match="the source is closed"):
        sender.send(1)


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1", True])
def test_time_outs_that_make_no_sense(timeout: Any) -> None:
    sender, _ = source(1)
    with pytest.raises(ValueError, match="timeout must be seconds"):
        sender.send(1, timeout=timeout)
