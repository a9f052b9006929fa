"""Pausing, time-outs of runs and nodes, cancelling, and ``failure="finish"``: inline and on processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import (
    AlreadyCompletedError,
    Coordinator,
    MemoryStore,
    NodeTimeoutError,
    NotStartedError,
    RetryPolicy,
    Run,
    RunCancelledError,
    RunFailedError,
    RunMetrics,
    RunResult,
    RunStatus,
    RunTimeoutError,
    WorkerStatus,
    Workflow,
    WorkItemStatus,
    with_retry,
)
from floxide_mp.coordinator import run_registry
from floxide_mp.coordinator.scheduler import Scheduler
from floxide_mp.messages import Report
from floxide_mp.wire.status_page import SIZE, StatusPage
from tests import flows_features as flows
from tests.conftest import LIMIT, Both
from tests.flows_run import Echo, Failing, Gate, until


class Waiting(threading.Thread):
    """Waits for a run, which inline is what makes it go; ``end`` gives the result, or raises what it raised."""

    def __init__(self, waited: Run) -> None:
        super().__init__()
        self.waited = waited
        self.result: RunResult | BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self.waited.wait(LIMIT)
        except Exception as error:
            self.result = error

    def end(self) -> RunResult:
        self.join(LIMIT + 5)
        if isinstance(self.result, BaseException):
            raise self.result
        assert self.result is not None
        return self.result


def warm(coordinator: Coordinator, folder: Path) -> None:
    """Have all workers import what they need, so that it is not in the time of the runs that follow."""
    (folder / "warm").mkdir()
    gate = Gate(folder / "warm")
    count = len(coordinator.workers())
    run = coordinator.start(flows.ManyGates, [str(gate.path)] * count)
    gate.entered(count)
    gate.open()
    run.wait(LIMIT)


@pytest.fixture(scope="module")
def processes(processes: Coordinator, tmp_path_factory: pytest.TempPathFactory) -> Coordinator:
    warm(processes, tmp_path_factory.mktemp("processes"))
    return processes


def entered(folder: Path, count: int = 1) -> None:
    until(lambda: len(list(folder.glob("in-*"))) >= count)


def ran(folder: Path) -> list[str]:
    path = folder / "ran"
    return path.read_text().split() if path.exists() else []


def idle(coordinator: Coordinator) -> bool:
    return all(worker.status is WorkerStatus.IDLE for worker in coordinator.workers())


# -- pausing ------------------------------------------------------------------------------------------------------


def test_paused_no_new_item_starts_and_what_runs_is_finished(tmp_path: Path) -> None:
    """And committed; resumed, nothing that is finished runs again."""
    gate = Gate(tmp_path)
    with Coordinator(2) as coordinator:
        run = coordinator.start(flows.TwoGates, [str(gate.path)] * 5)
        gate.entered(2)
        run.pause()
        run.pause()
        assert run.status is RunStatus.PAUSED
        assert [info.run_id for info in coordinator.runs(RunStatus.PAUSED)] == [run.run_id]
        gate.open()
        until(lambda: run.metrics().completed == 3)
        assert coordinator.start(Echo, 1).wait(LIMIT).output == 1, "workers have time for others"
        until(lambda: idle(coordinator))
        items = [(item.node, item.status) for item in run.work_items()]
        assert items == [("first", WorkItemStatus.PENDING)] * 3 + [("second", WorkItemStatus.PENDING)] * 2
        assert run.pending_work() == run.work_items()
        assert len(list(gate.path.glob("in-*"))) == 2
        with pytest.raises(TimeoutError, match="is not over after"):
            run.wait(0.01)
        run.resume()
        run.resume()
        assert run.wait(LIMIT).metrics == RunMetrics(11, 11, 0, 0)
        assert len(list(gate.path.glob("in-*"))) == 5


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_nothing_finished_runs_again(workers: int, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    with Coordinator(workers) as coordinator:
        run = coordinator.start(flows.GatedChain, str(gate.path))
        waiting = Waiting(run)
        gate.entered(1)
        run.pause()
        gate.open()
        until(lambda: run.metrics().completed == 1)
        assert [(item.node, item.status) for item in run.work_items()] == [("second", WorkItemStatus.PENDING)]
        coordinator.resume(flows.GatedChain, run.run_id)
        result = waiting.end()
        assert list(result.context.log) == ["first", "second", "third"]
        assert result.metrics == RunMetrics(3, 3, 0, 0)
        assert ran(gate.path) == ["first", "second", "third"]


def test_a_wait_for_a_paused_run_ends_when_it_is_resumed(coordinator: Coordinator, tmp_path: Path) -> None:
    """As long as it is paused, one may wait as long as one likes."""
    gate = Gate(tmp_path)
    run = coordinator.start(flows.GatedChain, str(gate.path))
    run.pause()
    gate.open()
    waiting = Waiting(run)
    with pytest.raises(TimeoutError):
        run.wait(0.1)
    assert len(ran(gate.path)) <= 1
    assert waiting.is_alive()
    run.resume()
    assert list(waiting.end().context.log) == ["first", "second", "third"]
    assert ran(gate.path) == ["first", "second", "third"]


def test_pausing_a_run_that_is_over_does_not_take_it_up_again(coordinator: Coordinator, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    done, failed = coordinator.start(Echo, 1), coordinator.start(Failing, 1)
    gone = coordinator.start(flows.GatedChain, str(gate.path))
    gone.pause()
    gone.cancel(grace=LIMIT)
    gate.open()
    done.wait(LIMIT)
    for run, error in ((failed, RunFailedError), (gone, RunCancelledError)):
        with pytest.raises(error):
            run.wait(LIMIT)
    for run, status in ((done, RunStatus.COMPLETED), (failed, RunStatus.FAILED), (gone, RunStatus.CANCELLED)):
        before = run.info()
        with pytest.raises(AlreadyCompletedError, match=f"is {status.value}; it cannot be paused"):
            run.pause()
        assert run.info() == before
        assert before.status is status
    assert done.wait(0).output == 1
    for run in (done, gone):
        with pytest.raises(AlreadyCompletedError):
            run.resume()


def test_a_run_that_comes_to_its_end_while_it_is_paused(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    with Coordinator(1) as coordinator:
        run = coordinator.start(flows.SerialGates, str(gate.path))
        gate.entered(1)
        run.pause()
        gate.open()
        assert run.wait(LIMIT).output == "through"
        assert run.status is RunStatus.COMPLETED


def test_what_is_leased_and_not_begun_is_called_back() -> None:
    """Seen from a worker, which is the test here: it is told by its status page, and gives the items back."""
    with Coordinator(0) as coordinator:
        scheduler, status_page = coordinator._scheduler, StatusPage(memoryview(bytearray(SIZE)))
        session = scheduler.new_session_id()
        scheduler.register_session(session, 1, status_page, 0)
        run = coordinator.start(Echo, 1)
        (lease,) = scheduler.exchange(session, [], 1.0).leases
        assert not status_page.revoked(lease.id)
        run.pause()
        assert status_page.revoked(lease.id)
        scheduler.exchange(session, [Report(lease.id, (), ())], 0.0)
        assert [item.status for item in run.pending_work()] == [WorkItemStatus.PENDING]
        assert scheduler.exchange(session, [], 1.0).leases == ()
        run.resume()
        (again,) = scheduler.exchange(session, [], 1.0).leases
        assert not status_page.revoked(again.id)
        assert again.items == lease.items


def test_a_cancelled_pause(coordinator: Coordinator, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    run = coordinator.start(flows.GatedChain, str(gate.path))
    run.pause()
    run.cancel(grace=LIMIT)
    gate.open()
    with pytest.raises(RunCancelledError):
        run.wait(LIMIT)
    with pytest.raises(AlreadyCompletedError, match="was cancelled, which is final"):
        run.resume()
    assert len(ran(gate.path)) <= 1


@pytest.mark.parametrize("workers", [0, 2])
def test_a_step_that_fails_while_its_run_is_paused(workers: int, tmp_path: Path) -> None:
    """The run has failed; it can be resumed like any other, and has all of its time-out again."""
    gate = Gate(tmp_path)
    (gate.path / "fails").touch()
    with Coordinator(workers) as coordinator:
        run = coordinator.start(flows.TwoGates, [str(gate.path)], timeout=LIMIT)
        waiting = Waiting(run)
        gate.entered(1)
        run.pause()
        gate.open()
        with pytest.raises(RunFailedError, match="fails at the gate"):
            waiting.end()
        assert run.status is RunStatus.FAILED
        (gate.path / "fails").unlink()
        before = time.monotonic()
        run.resume()
        deadline = coordinator._scheduler._runs[run.run_id].deadline  # type: ignore[attr-defined]
        assert deadline >= before + LIMIT
        assert run.wait(LIMIT).outputs == [str(gate.path)]


def test_a_retry_that_waits_does_so_while_its_run_is_paused(coordinator: Coordinator, tmp_path: Path) -> None:
    """It is not tried again before the run is resumed, and then it is, with its attempt kept."""
    (tmp_path / "first").write_text("fails")
    policy = RetryPolicy(max_attempts=2, initial_backoff=1.0)
    run = coordinator.start(flows.Chain(first=with_retry(flows.Step("first"), policy)), str(tmp_path))
    waiting = Waiting(run)
    until(lambda: run.errors())
    run.pause()
    with pytest.raises(TimeoutError):
        run.wait(1.1)
    assert len(run.errors()) == 1
    assert [(item.node, item.attempt) for item in run.pending_work()] == [("first", 2)]
    (tmp_path / "first").unlink()
    run.resume()
    assert waiting.end().metrics == RunMetrics(3, 3, 0, 1)


def test_paused_and_resumed_all_the_time(coordinator: Coordinator, tmp_path: Path) -> None:
    """By two threads at once: each attempt is executed once, and the answer is right."""
    run = coordinator.start(flows.Stormy, str(tmp_path))
    over = threading.Event()

    def storm() -> None:
        while not over.is_set():
            try:
                run.pause()
                run.resume()
            except AlreadyCompletedError:
                return

    storms = [threading.Thread(target=storm) for _ in range(2)]
    for thread in storms:
        thread.start()
    try:
        while run.metrics().completed < 300:
            with pytest.raises(TimeoutError):
                run.wait(0.01)
    finally:
        over.set()
        for thread in storms:
            thread.join(LIMIT)
    if run.status is RunStatus.PAUSED:
        run.resume()
    result = run.wait(LIMIT)
    assert result.output == [(str(tmp_path), n) for n in range(200)]
    assert result.metrics == RunMetrics(404, 404, 0, 24)
    first = [f"{node}-{n}-1" for node in ("one", "batch/each") for n in range(200)]
    second = [f"{node}-{n}-2" for node in ("one", "batch/each") for n in range(0, 200, 17)]
    assert sorted(ran(tmp_path)) == sorted(first + second)


def test_the_clock_stops_while_a_run_is_paused(coordinator: Coordinator, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    run = coordinator.start(flows.GatedChain, str(gate.path), timeout=1.5)
    waiting = Waiting(run)
    gate.entered(1)
    run.pause()
    gate.open()
    with pytest.raises(TimeoutError, match=r"is not over after 1\.7 s"):
        run.wait(1.7)
    assert run.status is RunStatus.PAUSED
    run.resume()
    assert waiting.end().output == str(gate.path)


def test_the_clock_goes_on_where_it_stopped(coordinator: Coordinator, tmp_path: Path) -> None:
    """Or a run that is paused now and then would never be too long."""
    (tmp_path / "slow").write_text("raises")
    run = coordinator.start(flows.Rescued, str(tmp_path), timeout=0.5)
    waiting = Waiting(run)
    entered(tmp_path)
    for _ in range(20):
        try:
            run.wait(0.2)
        except RunTimeoutError:
            break
        except TimeoutError:
            run.pause()
            if run.status is RunStatus.PAUSED:
                run.resume()
    else:
        pytest.fail("each pause gave it all of its time again")
    with pytest.raises(RunTimeoutError):
        waiting.end()


def test_pausing_what_another_coordinator_left(tmp_path: Path) -> None:
    """Nobody works on it, so it only has to be remembered."""
    store = MemoryStore()
    for name in ("x", "y"):
        with Coordinator(0, store) as coordinator:
            coordinator.start(flows.Chain, str(tmp_path), run_id=name)
    with Coordinator(0, store) as coordinator:
        x, y = coordinator.run("x"), coordinator.run("y")
        x.pause()
        y.pause()
        y.cancel()
        assert (x.status, y.status) == (RunStatus.PAUSED, RunStatus.CANCELLED)
    with Coordinator(0, store) as coordinator:
        assert [info.status for info in coordinator.runs()] == [RunStatus.PAUSED, RunStatus.CANCELLED]
        assert coordinator.runs(RunStatus.CANCELLED)[0].finished_at is not None
        assert coordinator.resume(flows.Chain, "x").wait(LIMIT).output == str(tmp_path)
        with pytest.raises(AlreadyCompletedError):
            coordinator.resume(flows.Chain, "y")


def test_verbs_of_a_run_that_is_not_there(coordinator: Coordinator) -> None:
    nobody = Run("nobody", coordinator._scheduler, coordinator._engine)
    verbs: list[Callable[[], Any]] = [
        lambda: coordinator.run("nobody"),
        lambda: coordinator.resume(Echo, "nobody"),
        lambda: list(nobody.stream()),
        lambda: nobody.status,
        lambda: repr(nobody),
    ]
    for name in [name for name in vars(Run) if not name.startswith("_") and name not in ("stream", "status")]:
        verbs.append(getattr(nobody, name))
    assert len(verbs) == 17
    for verb in verbs:
        with pytest.raises(NotStartedError, match="there is no run 'nobody'") as caught:
            verb()
        assert caught.value.run_id == "nobody"


# -- time-outs of runs --------------------------------------------------------------------------------------------


def test_ten_nodes_of_0_4_s_under_a_run_time_out_of_0_5_s_are_stopped_by_it(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    """The time-out is the run's, not each node's."""
    run = coordinator.start(flows.Ten, str(tmp_path), timeout=0.5)
    with pytest.raises(RunTimeoutError, match=r"ran longer than its time-out of 0\.5 s") as caught:
        run.wait(LIMIT)
    assert caught.value.run_id == run.run_id
    assert isinstance(caught.value, TimeoutError)
    assert 1 <= len(ran(tmp_path)) < 10
    info = run.info()
    assert (info.status, info.error) == (RunStatus.FAILED, str(caught.value))
    assert info.metrics.completed == len(ran(tmp_path)), "what ran is finished and committed"
    assert run.errors() == [], "it is no item's fault"
    assert len(run.pending_work()) == 1


def test_ten_nodes_at_once(coordinator: Coordinator, tmp_path: Path) -> None:
    run = coordinator.start(flows.TenAtOnce, str(tmp_path), timeout=0.5)
    with pytest.raises(RunTimeoutError):
        run.wait(LIMIT)
    assert 1 <= len(ran(tmp_path)) < 10
    assert run.metrics().completed == 1 + len(ran(tmp_path))
    with pytest.raises(RunTimeoutError):
        list(run.stream())


@pytest.mark.parametrize("workers", [0, 2])
def test_the_time_out_of_a_run_holds_when_it_is_resumed(workers: int, tmp_path: Path) -> None:
    """By whomever, and begins anew."""
    store = MemoryStore()
    with Coordinator(workers, store) as coordinator:
        if workers:
            warm(coordinator, tmp_path)
        run = coordinator.start(flows.Five, str(tmp_path), run_id="x", timeout=0.5)
        with pytest.raises(RunTimeoutError):
            run.wait(LIMIT)
        run.resume()
        with pytest.raises(RunTimeoutError):
            run.wait(LIMIT)
    done = run.metrics().completed
    assert 1 < done < 5
    for _ in range(10):
        try:
            assert flows.Five().run_with_checkpoint(str(tmp_path), store=store, run_id="x")
            break
        except RunTimeoutError:
            pass
    assert ran(tmp_path) == ["nap"] * 5, "no finished one runs again"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_was_left_has_its_time_out(workers: int, tmp_path: Path) -> None:
    store = MemoryStore()
    with Coordinator(0, store) as coordinator:
        coordinator.start(flows.Ten, str(tmp_path), run_id="x", timeout=0.5)
    with pytest.raises(RunTimeoutError):
        flows.Ten().resume(store=store, run_id="x", workers=workers)
    assert len(ran(tmp_path)) < 10


def test_what_never_looks_up_is_ended_after_the_grace_of_its_run(tmp_path: Path) -> None:
    with Coordinator(1) as coordinator:
        assert coordinator.start(flows.Rescued, str(tmp_path)).wait(LIMIT).output == "done"
        pid = coordinator.workers()[0].pid
        (tmp_path / "slow").write_text("deaf")
        run = coordinator.start(flows.Rescued, str(tmp_path), timeout=0.5)
        with pytest.raises(RunTimeoutError):
            run.wait(LIMIT)
        assert ran(tmp_path) == ["work", "work"]
        assert coordinator.start(Echo, 1).wait(LIMIT).output == 1
        assert coordinator.workers()[0].pid != pid
        assert run.errors() == []


def test_an_item_that_waits_for_its_retry_does_not_prolong_a_run_that_is_too_long(coordinator: Coordinator) -> None:
    run = coordinator.start(flows.one_waits(3600.0), [-1, 1], timeout=0.5)
    with pytest.raises(RunTimeoutError):
        run.wait(LIMIT)
    assert [item.attempt for item in run.work_items()] == [2]
    again = coordinator.resume(flows.one_waits(0.0), run.run_id)
    assert again.wait(LIMIT).outputs == [(-1, 2), (1, 1)]


def test_a_run_that_is_failing_can_be_too_long_as_well(tmp_path: Path) -> None:
    """One item has failed, another would never end: the run does, with the error of the item."""
    (tmp_path / "slow").write_text("deaf")
    with Coordinator(2) as coordinator:
        warm(coordinator, tmp_path)
        run = coordinator.start(flows.FailingAndDeaf, str(tmp_path), timeout=0.5)
        with pytest.raises(RunFailedError, match="ValueError: no luck"):
            run.wait(LIMIT)
        assert len(run.errors()) == 1


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1", True])
def test_time_outs_that_make_no_sense(inline: Coordinator, timeout: Any) -> None:
    with pytest.raises(ValueError, match="timeout must be seconds"):
        inline.start(Echo, 1, timeout=timeout)
    with pytest.raises(ValueError, match="timeout must be seconds"):
        Echo().run(1, timeout=timeout)


# -- time-outs of nodes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
def test_the_time_out_of_a_node_holds_when_its_run_is_resumed(workers: int, tmp_path: Path) -> None:
    class TooSlow(flows.Nap):
        timeout = 0.1

    store = MemoryStore()
    workflow = Workflow.build("Slow", {"nap": TooSlow(), "after": flows.echo}, "nap", {"nap": "after"})
    options = {"store": store, "run_id": "x", "workers": workers}
    for again in range(3):
        with pytest.raises(RunFailedError, match="NodeTimeoutError") as caught:
            workflow().resume(**options) if again else workflow().run_with_checkpoint(str(tmp_path), **options)
        assert isinstance(caught.value.__cause__, NodeTimeoutError)
    assert workflow(nap=flows.Nap()).resume(**options).output == str(tmp_path)
    assert ran(tmp_path) == ["nap"] * 4


def test_the_time_out_of_a_node_holds_though_its_worker_imported_for_long(tmp_path: Path) -> None:
    """The supervisor looks while the worker is not there yet, and must look again when it is."""
    with Coordinator(1) as coordinator:
        workflow = Workflow.build("SlowToOpen", {"node": flows.SlowToOpen(str(tmp_path))}, "node")
        run = coordinator.start(workflow)
        entered(tmp_path)
        with pytest.raises(TimeoutError):
            run.wait(0.5)  # longer than the node may take: importing is not the node's time
        assert run.errors() == []
        (tmp_path / "open").touch()
        with pytest.raises(RunFailedError, match="NodeTimeoutError"):
            run.wait(20)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_node_time_out_is_tried_again_by_a_policy_for_time_outs(workers: int) -> None:
    with Coordinator(workers) as coordinator:
        run = coordinator.start(flows.SlowAtFirst)
        assert run.wait(LIMIT).output == 2
        assert [row.type_name for row in run.errors()] == ["NodeTimeoutError"]


# -- cancelling ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_cancelled_during_the_first_node_of_a_chain_the_others_never_run(workers: int, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    with Coordinator(workers) as coordinator:
        run = coordinator.start(flows.GatedChain, str(gate.path))
        waiting = Waiting(run)
        gate.entered(1)
        run.cancel(grace=LIMIT)
        gate.open()
        with pytest.raises(RunCancelledError):
            waiting.end()
        assert ran(gate.path) == ["first"]
        assert list(run.context().log) == ["first"], "it had the time to be finished and committed"
        assert coordinator.start(Echo, 1).wait(LIMIT).output == 1
        assert ran(gate.path) == ["first"]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_is_cancelled_while_its_nodes_are_ready_never_completes(workers: int, tmp_path: Path) -> None:
    """In 100 tries; one item of each waits until after the cancel, so that the run is not over before."""
    with Coordinator(workers) as coordinator:
        for n in range(100):
            (tmp_path / str(n)).mkdir()
            gate = Gate(tmp_path / str(n))
            at = n % 10
            run = coordinator.start(flows.ManyGates, [*["/dev/null"] * at, str(gate.path), *["/dev/null"] * 20])
            waiting = Waiting(run)
            gate.entered(1)
            run.cancel(grace=LIMIT)
            gate.open()
            with pytest.raises(RunCancelledError):
                waiting.end()
            assert run.status is RunStatus.CANCELLED


@pytest.mark.parametrize(("first", "second"), [(0.1, 1e6), (1e6, 0.1), (0.1, None)])
def test_a_second_cancel_does_not_prolong_the_grace(first: float, second: float | None, tmp_path: Path) -> None:
    (tmp_path / "slow").write_text("deaf")
    with Coordinator(1) as coordinator:
        run = coordinator.start(flows.Rescued, str(tmp_path))
        entered(tmp_path)
        run.cancel(grace=first)
        if second is not None:
            run.cancel(grace=second)
        with pytest.raises(RunCancelledError):
            run.wait(20)


@pytest.mark.parametrize(("workers", "how"), [(0, "raises"), (1, "raises"), (1, "deaf")])
@pytest.mark.parametrize("ending", ["cancel", "time-out"])
def test_neither_a_cancellation_nor_a_run_time_out_reaches_on_failure(
    workers: int, how: str, ending: str, tmp_path: Path
) -> None:
    """Whether the node raises because it is to stop, or is ended; not on resume, either."""
    store = MemoryStore()
    with Coordinator(workers, store) as coordinator:
        coordinator.start(flows.Rescued, str(tmp_path)).wait(LIMIT)
        (tmp_path / "slow").write_text(how)
        run = coordinator.start(flows.Rescued, str(tmp_path), run_id="x", timeout=None if ending == "cancel" else 0.3)
        waiting = Waiting(run)
        entered(tmp_path)
        if ending == "cancel":
            run.cancel(grace=LIMIT if how == "raises" else 0.05)
        with pytest.raises(RunCancelledError if ending == "cancel" else RunTimeoutError):
            waiting.end()
        assert [item.node for item in run.work_items()] == ([] if ending == "cancel" else ["work"])
        if ending == "time-out":
            run.resume()
            with pytest.raises(RunTimeoutError):
                run.wait(LIMIT)
    assert set(ran(tmp_path)) == {"work"}
    if ending == "time-out":
        (tmp_path / "slow").unlink()
        assert flows.Rescued().resume(store=store, run_id="x").output == "done"
        assert set(ran(tmp_path)) == {"work"}


# -- failure="finish" ---------------------------------------------------------------------------------------------


def test_failure_finish_lets_the_other_branches_end_first(both: Both, tmp_path: Path) -> None:
    (tmp_path / "fails").touch()
    run = both(flows.Branching, str(tmp_path), failure="finish")
    with pytest.raises(RunFailedError, match=r"failed at branch \(item \d+, attempt 1\): ValueError: branch 1 fails"):
        run.wait()
    assert run.status is RunStatus.FAILED
    assert list(run.checkpoint().outputs) == [0, 2, 4, 3, 5]
    assert [(item.node, item.status) for item in run.work_items()] == [("branch", WorkItemStatus.FAILED)]
    assert run.metrics().failed == 1
    (tmp_path / "fails").unlink()
    run.resume()
    assert sorted(run.wait(LIMIT).outputs) == [0, 1, 2, 3, 4, 5]


def test_without_it_nothing_new_starts(inline: Coordinator, tmp_path: Path) -> None:
    (tmp_path / "fails").touch()
    run = inline.start(flows.Branching, str(tmp_path))
    with pytest.raises(RunFailedError):
        run.wait(LIMIT)
    assert run.checkpoint().outputs == ()
    assert len(run.pending_work()) == 5


def test_a_failure_that_is_neither(inline: Coordinator) -> None:
    with pytest.raises(ValueError, match='failure must be "stop" or "finish"'):
        inline.start(Echo, 1, failure="halt")


# -- workers that start --------------------------------------------------------------------------------------------


class _Nobody:
    """An engine whose workers take their time to start."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def start(self) -> None:
        self.session = self._scheduler.new_session_id()
        self._scheduler.register_session(self.session, 0, StatusPage(memoryview(bytearray(SIZE))), 1)

    def wait(self, run_id: str, seen: int | None, timeout: float | None) -> bool:
        self._scheduler.overdue()
        return self._scheduler.wait(run_id, seen, timeout)

    def workers(self, threshold: float) -> list[Any]:
        return []

    def stop(self, grace: float) -> None:
        self._scheduler.stop()


@pytest.fixture
def starting() -> Iterator[Coordinator]:
    """A coordinator whose workers have not started yet."""
    with Coordinator(1, engine=lambda scheduler, count: _Nobody(scheduler)) as made:
        yield made


def test_row_147_a_time_out_begins_when_the_first_worker_can_take_work(starting: Coordinator) -> None:
    run = starting.start(Echo, 1, timeout=0.001)
    for _ in range(3):
        with pytest.raises(TimeoutError, match="is not over after"):
            run.wait(0.01)
    run.pause()  # for longer than its time-out
    with pytest.raises(TimeoutError, match="is not over after"):
        run.wait(0.01)
    run.resume()
    assert run.status is RunStatus.RUNNING
    session = starting._engine.session  # type: ignore[attr-defined]
    assert starting._scheduler.exchange(session, (), 1.0).leases
    until(lambda: starting._scheduler.overdue() and run.info().error)
    assert "longer than its time-out of 0.001 s" in str(run.info().error)


def test_row_147_a_time_out_has_an_end_where_no_worker_ever_starts(
    starting: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_registry, "STARTING", 0.01)
    run = starting.start(Echo, 1, timeout=0.001)
    until(lambda: starting._scheduler.overdue() and run.info().error)
    with pytest.raises(RunTimeoutError):
        run.wait(LIMIT)
