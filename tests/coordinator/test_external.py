"""Worker loops that users write: ``start_distributed`` and ``step_distributed`` on a coordinator, in threads."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import pickle
import queue
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import (
    Coordinator,
    FloxideError,
    ItemProcessedOutcome,
    Node,
    NodeTimeoutError,
    NotStartedError,
    OutcomeKind,
    RunCancelledError,
    RunFailedError,
    RunStatus,
    RunTimeoutError,
    SerializationError,
    StepCallbacks,
    Workflow,
    WorkItem,
    WorkItemStatus,
    node,
    source,
)
from floxide_mp.coordinator import external
from floxide_mp.engines.processes.rpc_client import SchedulerProxy

from .. import flows_graphs, flows_run
from .. import flows_own_loop as flows
from ..flows_own_loop import Heard, stepped
from .test_store_trouble import Full

LIMIT = 40.0


class Thread(threading.Thread):
    """One that hands over what came of it."""

    def __init__(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        super().__init__(daemon=True)
        self._call = lambda: call(*arguments, **options)
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        self.join(LIMIT)
        assert not self.is_alive(), "it does not come back"
        if self._error is not None:
            raise self._error
        return self._result


def loops(coordinator: Coordinator, workflow: type[Workflow], input: Any) -> None:
    """Two loops from the beginning of a run to its end."""
    run_id = workflow().start_distributed(None, input, coordinator, "run")
    for thread in [Thread(stepped, workflow(), coordinator, number, run_id) for number in range(2)]:
        thread.result()


# -- a run --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workflow", "input"),
    [
        (flows_run.Thousand, 40),
        (flows_run.Nested, 5),
        (flows_run.Merged, 20),
        (flows_run.Retried, [1, 2, 3, 9]),
        (flows_run.Aborting, 6),
        (flows_run.Asynchronous, 3),
        (flows_run.Held, 3),
    ],
    ids=lambda value: getattr(value, "__name__", "input"),
)
def test_two_loops_finish_a_run_and_the_answer_is_the_same(workflow: type[Workflow], input: Any) -> None:
    """Joins, holds, serial nodes, retries, failures: they are the coordinator's, whoever steps."""

    def told(coordinator: Coordinator, run_id: str) -> tuple[Any, ...]:
        run = coordinator.run(run_id)
        try:
            result = run.wait(LIMIT)
        except RunFailedError as error:
            return str(error), run.metrics()
        log = list(result.context.log) if hasattr(result.context, "log") else None
        return result.outputs, log, result.metrics

    with Coordinator(0) as coordinator:
        alone = told(coordinator, coordinator.start(workflow, input, run_id="run").run_id)
    with Coordinator(0) as coordinator:
        loops(coordinator, workflow, input)
        assert told(coordinator, "run") == alone


def test_start_distributed_seeds_a_run_once_whoever_calls_it_again() -> None:
    with Coordinator(0) as coordinator:
        for backend in (coordinator, coordinator.proxy(), coordinator):
            assert flows_run.Thousand().start_distributed(None, 3, backend, "one") == "one"
        assert coordinator.info("one").metrics.total_work_items == 1
        for backend in (coordinator, coordinator.proxy()):
            with pytest.raises(FloxideError, match="another input"):
                flows_run.Thousand().start_distributed(None, 4, backend, "one")
            with pytest.raises(SerializationError, match="input cannot be pickled"):
                flows_run.Thousand().start_distributed(None, threading.Lock(), backend)
            with pytest.raises(ValueError, match="seed"):
                flows_run.Thousand().start_distributed(None, 1, backend, seed=True)
        made_up = {flows_run.Thousand().start_distributed(None, 3, b) for b in (coordinator, coordinator.proxy())}
        assert [info.run_id for info in coordinator.runs()] == ["one", *sorted(made_up, key=_age(coordinator))]


def _age(coordinator: Coordinator) -> Callable[[str], int]:
    return [info.run_id for info in coordinator.runs()].index


def test_step_distributed_runs_one_item_and_returns_run_id_and_output_when_a_branch_ended() -> None:
    with Coordinator(0) as coordinator:
        assert flows.Kinds().step_distributed(coordinator, 0, wait=0) is None, "nothing is there"
        run_id = flows.Kinds().start_distributed(None, ("next", "x"), coordinator)
        assert coordinator.info(run_id).metrics.completed == 0
        assert flows.Kinds().step_distributed(coordinator, 0) is None, "its value went on"
        assert coordinator.info(run_id).metrics.completed == 1
        assert flows.Kinds().step_distributed(coordinator, 0) == (run_id, "x")
        info = coordinator.info(run_id)
        assert (info.status, info.metrics.completed) == (RunStatus.COMPLETED, 2)
        assert flows.Kinds().step_distributed(coordinator, 0, wait=0) is None


@pytest.mark.parametrize(
    ("input", "outcome", "given"),
    [
        (("next", 1), ItemProcessedOutcome(True, 1, kind=OutcomeKind.OUTPUT), 1),
        (("next", "x"), ItemProcessedOutcome(kind=OutcomeKind.PASSED_ON), None),
        (("all", [1, 2]), ItemProcessedOutcome(True, [1, 2], kind=OutcomeKind.OUTPUT), [1, 2]),
        (("all", [1, "x", 3]), ItemProcessedOutcome(True, [1, 3], kind=OutcomeKind.OUTPUT), [1, 3]),
        (("all", [1]), ItemProcessedOutcome(True, [1], kind=OutcomeKind.OUTPUT), [1]),
        (("all", ["x"]), ItemProcessedOutcome(kind=OutcomeKind.PASSED_ON), None),
        (("all", []), ItemProcessedOutcome(kind=OutcomeKind.PASSED_ON), None),
        (("hold", None), ItemProcessedOutcome(kind=OutcomeKind.HELD), None),
    ],
    ids=str,
)
@pytest.mark.parametrize("far", [False, True], ids=["here", "by a proxy"])
def test_row_145_on_item_processed_is_given_each_kind_of_outcome(
    input: Any, outcome: ItemProcessedOutcome, given: Any, far: bool
) -> None:
    heard = Heard()
    with Coordinator(0) as coordinator:
        backend = coordinator.proxy() if far else coordinator
        run_id = flows.Kinds().start_distributed(None, input, backend)
        done = flows.Kinds().step_distributed(backend, 0, heard)
        assert done == (None if given is None else (run_id, given))
        assert heard.processed == [("kinds", outcome)]
        assert heard.started == [WorkItem(run_id, 1, "kinds", 1, WorkItemStatus.IN_PROGRESS, (0, ()))]


def test_row_145_on_idle_is_called_where_there_was_nothing_to_run() -> None:
    class Idle(Heard):
        idle = 0

        def on_idle(self) -> None:
            self.idle += 1

    heard = Idle()
    with Coordinator(0) as coordinator:
        assert flows.Kinds().step_distributed(coordinator, 0, heard, wait=0) is None
        assert (heard.idle, heard.processed) == (1, [])
        flows.Kinds().start_distributed(None, ("next", "x"), coordinator)
        assert flows.Kinds().step_distributed(coordinator, 0, heard) is None, "its value went on"
        assert (heard.idle, len(heard.processed)) == (1, 1)


def test_row_146_a_loop_cannot_have_the_number_of_a_worker_process() -> None:
    with Coordinator(2) as coordinator:
        flows.Kinds().start_distributed(None, ("next", 1), coordinator, "r")
        for backend in (coordinator, coordinator.proxy()):
            with pytest.raises(FloxideError, match="worker_id 1 is that of one of the coordinator's own workers"):
                flows.Kinds().step_distributed(backend, 1)
            flows.Kinds().step_distributed(backend, 2, wait=0)
        assert {0, 1, 2} >= {health.worker_id for health in coordinator.workers()}


@pytest.mark.parametrize("far", [False, True], ids=["here", "by a proxy"])
def test_a_nodes_error_goes_to_the_callbacks_and_is_not_raised(far: bool) -> None:
    heard = Heard()
    with Coordinator(0) as coordinator:
        backend = coordinator.proxy() if far else coordinator
        run_id = flows.Kinds().start_distributed(None, ("raise", "no"), backend)
        assert flows.Kinds().step_distributed(backend, 0, heard) is None
        ((_, outcome),) = heard.processed
        assert isinstance(outcome.error, ValueError) and not outcome.terminal
        assert outcome.kind is OutcomeKind.FAILED
        assert "in every_kind" in outcome.error.__notes__[0], "the traceback of where it happened"
        assert stepped(flows.Kinds(), backend, 0, run_id) == [("rescued", ("raise", "no"), "ValueError", "no")]
        (row,) = coordinator.run(run_id).errors()
        assert (row.node, row.attempt, row.worker_id) == ("kinds", 1, 0)


def test_retries_are_the_coordinators_affair() -> None:
    heard = Heard()
    with Coordinator(0) as coordinator:
        run_id = flows.Twice().start_distributed(None, 5, coordinator)
        assert stepped(flows.Twice(), coordinator, 3, run_id, callbacks=heard) == [5]
        assert [item.attempt for item in heard.started] == [1, 2]
        assert [(o.terminal, type(o.error)) for _, o in heard.processed] == [
            (False, ConnectionError),
            (True, type(None)),
        ]
        assert list(coordinator.run(run_id).context().log) == [2]


def test_a_node_that_calls_sys_exit_is_a_failure_and_the_loop_lives() -> None:
    @node
    def leaves(value: Any) -> Any:
        raise SystemExit(0)

    class Leaving(Workflow):
        only = leaves
        start = only

    heard = Heard()
    with Coordinator(0) as coordinator:
        run_id = Leaving().start_distributed(None, None, coordinator)
        assert Leaving().step_distributed(coordinator, 0, heard) is None
        assert isinstance(heard.processed[0][1].error, SystemExit)
        assert coordinator.info(run_id).status is RunStatus.FAILED


def test_a_loop_takes_only_runs_of_its_workflow() -> None:
    with Coordinator(0) as coordinator:
        wide = flows_run.Thousand().start_distributed(None, 3, coordinator)
        assert flows_run.Echo().step_distributed(coordinator, 0, wait=0) is None
        other = Thread(flows_run.Echo().step_distributed, coordinator, 1, wait=LIMIT)
        assert stepped(flows_run.Thousand(), coordinator, 0, wide) == [3]
        echo = flows_run.Echo().start_distributed(None, "x", coordinator)
        assert other.result() == (echo, "x")


def test_one_of_many_that_wait_is_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were one of those who wait woken, and it the wrong one, the other would sleep on."""
    monkeypatch.setattr(external, "LONGEST", 2 * LIMIT)
    with Coordinator(0) as coordinator:
        step = flows_run.Thousand().step_distributed
        waiting = [Thread(step, coordinator, number, wait=LIMIT) for number in range(3)]
        right = Thread(flows_run.Echo().step_distributed, coordinator, 3, wait=LIMIT)
        flows_run.until(lambda: sum(s.waiting for s in coordinator._scheduler._sessions.values()) == 4)
        run_id = flows_run.Echo().start_distributed(None, "x", coordinator)
        assert right.result() == (run_id, "x")
        coordinator.drain()
        for thread in waiting:
            with pytest.raises(FloxideError, match="the coordinator is closed"):
                thread.result()


def test_loops_beside_worker_processes() -> None:
    with Coordinator(1) as coordinator:
        run_id = flows_run.Thousand().start_distributed(None, 300, coordinator)
        threads = [Thread(stepped, flows_run.Thousand(), coordinator, number, run_id) for number in (5, 6)]
        result = coordinator.run(run_id).wait(LIMIT)
        assert result.output == sum(range(300))
        assert list(result.context.log) == list(range(300))
        assert sum(len(thread.result()) for thread in threads) <= 1
        assert {0} <= {health.worker_id for health in coordinator.workers()} <= {0, 5, 6}


@pytest.mark.parametrize("far", [False, True], ids=["here", "by a proxy"])
def test_the_nodes_that_run_are_those_of_the_workflow_stepped(far: bool) -> None:
    """Not copies that were pickled, so they may hold what only this process has."""

    class Holding(Node):
        def __init__(self, what: Any) -> None:
            self.what = what

        def process(self, value: Any) -> Any:
            self.what.put(value)
            return value

    class Held(Workflow):
        only = Holding([])
        start = only

    mine: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with Coordinator(0) as coordinator:
        backend = coordinator.proxy() if far else coordinator
        runs = [Held().start_distributed(None, n, backend) for n in range(3)]
        for run_id, what in zip(runs, (mine, queue.SimpleQueue[Any](), mine), strict=True):
            seen = Held(only=Holding(what)).step_distributed(backend, 0)
            assert seen == (run_id, runs.index(run_id))
        assert [mine.get_nowait(), mine.get_nowait(), mine.empty()] == [0, 2, True]


@pytest.mark.parametrize("far", [False, True], ids=["here", "by a proxy"])
def test_row_54_a_run_of_another_graph_is_refused_and_unharmed(far: bool) -> None:
    def graph(*names: str) -> Workflow:
        nodes = {name: node(lambda value: value) for name in names}
        edges = {"a": ["b"], "b": [name for name in names if name == "c"]}
        return Workflow.build("Graph", nodes, start="a", edges=edges)()

    with Coordinator(0) as coordinator:
        backend = coordinator.proxy() if far else coordinator
        run_id = graph("a", "b").start_distributed(None, 1, backend)
        for other, why in ((graph("a", "b", "c"), "b, c changed"), (graph("b", "a"), "its nodes are in another order")):
            with pytest.raises(FloxideError, match=f"run '{run_id}' began in another graph of that name .*: {why}"):
                other.step_distributed(backend, 0)
        assert stepped(graph("a", "b"), backend, 0, run_id) == [1]
        assert coordinator.info(run_id).metrics.retries == 0


# -- callbacks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [False, RuntimeError], ids=["says no", "raises"])
@pytest.mark.parametrize("far", [False, True], ids=["here", "by a proxy"])
def test_row_149_an_on_started_that_vetoes_leaves_the_item_to_be_run_by_another_step(how: Any, far: bool) -> None:
    heard = Heard(veto=("note",), how=how)
    with Coordinator(0) as coordinator:
        backend = coordinator.proxy() if far else coordinator
        run_id = flows_run.Thousand().start_distributed(None, 1, backend)
        assert flows_run.Thousand().step_distributed(backend, 0, heard) is None
        for _ in range(3):
            assert flows_run.Thousand().step_distributed(backend, 0, heard) is None
        assert [item.node for item in heard.started] == ["spread", "note", "note", "note"]
        assert [name for name, _ in heard.processed] == ["spread"], "what was vetoed was not processed"
        (item,) = coordinator.run(run_id).work_items()
        assert (item.node, item.attempt, item.status) == ("note", 1, WorkItemStatus.PENDING)
        assert coordinator.info(run_id).metrics.retries == 0 and coordinator.run(run_id).errors() == []
        assert stepped(flows_run.Thousand(), backend, 1, run_id) == [0]


def test_a_loop_that_always_vetoes_does_not_keep_others_from_the_item() -> None:
    """It is awake, and would take each item hundreds of times before one that has to be woken is there."""
    over, taken, heard = threading.Event(), threading.Event(), Heard(veto=("echo",))

    def step(worker_id: int, callbacks: StepCallbacks | None) -> None:
        while not over.is_set():
            if flows_run.Echo().step_distributed(coordinator, worker_id, callbacks, wait=1):
                taken.set()

    with Coordinator(0) as coordinator:
        threads = [Thread(step, 0, heard), Thread(step, 1, None)]
        for number in range(20):
            flows_run.until(lambda: sum(s.waiting for s in coordinator._scheduler._sessions.values()) == 2)
            flows_run.Echo().start_distributed(None, number, coordinator)
            assert taken.wait(LIMIT)
            taken.clear()
        over.set()
        for thread in threads:
            thread.result()
    assert 0 < len(heard.started) < 100


def test_row_77_a_callback_that_raises_is_warned_of_once_and_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Raising(StepCallbacks):
        def on_item_processed(self, run_id: str, item: WorkItem, outcome: ItemProcessedOutcome) -> None:
            raise LookupError("of the callback")

    with Coordinator(0) as coordinator:
        run_id = flows_run.Thousand().start_distributed(None, 3, coordinator)
        assert stepped(flows_run.Thousand(), coordinator, 0, run_id, callbacks=Raising()) == [3]
        assert coordinator.info(run_id).metrics.completed == 5
    warned = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warned) == 1
    assert "on_item_processed raised for item 1 (spread)" in warned[0].getMessage()
    assert warned[0].getMessage().endswith("LookupError: of the callback")


def test_row_77_on_item_processed_comes_after_the_commit() -> None:
    seen = []

    class Looks(StepCallbacks):
        def on_item_processed(self, run_id: str, item: WorkItem, outcome: ItemProcessedOutcome) -> None:
            seen.append((coordinator.info(run_id).metrics.completed, coordinator.info(run_id).status))

    with Coordinator(0) as coordinator:
        flows_run.Echo().start_distributed(None, 1, coordinator)
        flows_run.Echo().step_distributed(coordinator, 0, Looks())
    assert seen == [(1, RunStatus.COMPLETED)]


@pytest.mark.parametrize("far", [False, True], ids=["here", "by a proxy"])
@pytest.mark.parametrize("where", ["on_started", "node", "on_item_processed"])
def test_an_interrupt_passes_and_the_item_is_unharmed(where: str, far: bool, tmp_path: Path) -> None:
    class Interrupting(StepCallbacks):
        pass

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    callbacks = Interrupting()
    if where == "node":
        workflow, input = flows_run.Interrupted(), str(tmp_path / "once")
    else:
        workflow, input = flows_run.Echo(), "second"
        setattr(callbacks, where, interrupt)
    with Coordinator(0) as coordinator:
        backend = coordinator.proxy() if far else coordinator
        run_id = workflow.start_distributed(None, input, backend)
        with pytest.raises(KeyboardInterrupt):
            workflow.step_distributed(backend, 0, callbacks)
        if where != "on_item_processed":
            flows_run.until(lambda: coordinator.run(run_id).pending_work())
            assert stepped(workflow, backend, 0, run_id) == ["second"]
        result = coordinator.run(run_id).wait(LIMIT)
        assert (result.outputs, result.metrics.retries) == (["second"], 0)


@pytest.mark.parametrize("far", [False, True], ids=["here", "by a proxy"])
def test_a_step_that_cannot_be_written_does_not_count(far: bool) -> None:
    heard = Heard()
    with Coordinator(0, store=Full()) as coordinator:
        backend = coordinator.proxy() if far else coordinator
        flows_graphs.Sums().start_distributed(None, 3, backend, "doomed")
        assert stepped(flows_graphs.Sums(), backend, 0, "doomed", callbacks=heard) == []
        assert [type(outcome.error) for _, outcome in heard.processed] == [type(None), FloxideError]
        assert "too late" in str(heard.processed[1][1].error)
        assert "no space left" in str(backend.info("doomed").error)


def test_the_end_of_the_input_takes_nothing_from_who_works() -> None:
    sender, values = source(1)

    class Closing(StepCallbacks):
        def on_started(self, run_id: str, item: WorkItem) -> None:
            sender.close()

    with Coordinator(0) as coordinator:
        flows_run.Echo().start_distributed(None, values, coordinator, "run")
        sender.send("it")
        assert flows_run.Echo().step_distributed(coordinator, 0, Closing()) == ("run", "it")


# -- sessions -----------------------------------------------------------------------------------------------------


def test_a_worker_restarted_with_an_old_id_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    gate = flows_run.Gate(tmp_path)
    with Coordinator(0) as coordinator:
        run_id = flows.Held().start_distributed(None, str(gate.path), coordinator)
        heard = Heard()
        old = Thread(flows.Held().step_distributed, coordinator, 0, heard)
        gate.entered(1)
        new = Thread(flows.Held().step_distributed, coordinator, 0)
        gate.entered(2)
        gate.open()
        assert new.result() == (run_id, "through")
        with pytest.raises(FloxideError, match="another loop works as worker 0 now"):
            old.result()
        result = coordinator.run(run_id).wait(LIMIT)
        assert (result.outputs, result.metrics.completed, result.metrics.retries) == (["through"], 1, 0)
        assert heard.processed == []
        assert flows.Held().step_distributed(coordinator, 0, wait=0) is None, "the newer one goes on"


def test_of_two_processes_with_one_id_the_newer_works() -> None:
    with Coordinator(0) as coordinator:
        old, new = coordinator.proxy(), coordinator.proxy()
        run_id = flows_run.Thousand().start_distributed(None, 3, old)
        assert flows_run.Thousand().step_distributed(old, 0) is None
        assert flows_run.Thousand().step_distributed(new, 0) is None
        with pytest.raises(FloxideError, match="another loop works as worker 0 now"):
            flows_run.Thousand().step_distributed(old, 0)
        assert stepped(flows_run.Thousand(), new, 0, run_id) == [3]


def test_one_loop_after_the_other_in_different_threads() -> None:
    with Coordinator(0) as coordinator:
        run_id = flows_run.Thousand().start_distributed(None, 3, coordinator)
        while coordinator.info(run_id).status is RunStatus.RUNNING:
            Thread(flows_run.Thousand().step_distributed, coordinator, 0).result()
        assert len([health for health in coordinator.workers() if health.worker_id == 0]) == 2, "inline's, and one more"


# -- time-outs, cancelling, closing -------------------------------------------------------------------------------


@pytest.mark.parametrize("helper", ["another loop", "whoever waits", "a worker process"])
def test_row_21_a_step_longer_than_its_timeout_is_given_up_and_its_result_refused(helper: str, tmp_path: Path) -> None:
    """Nobody can end a thread of the user's: its item is tried again elsewhere, and it is told when it comes back."""
    gate = flows_run.Gate(tmp_path)
    heard = Heard()
    with Coordinator(1 if helper == "a worker process" else 0) as coordinator:
        if helper == "a worker process":  # it is to come second
            busy = coordinator.start(flows_run.Gated, str(flows_run.Gate(Path(str(gate.path))).path))
            flows_run.until(lambda: coordinator.workers()[0].current_work_item)
        run_id = flows.Slow().start_distributed(None, str(gate.path), coordinator)
        late = Thread(flows.Slow().step_distributed, coordinator, 1, heard)
        gate.entered(1)
        if helper == "another loop":
            assert stepped(flows.Slow(), coordinator, 2, run_id) == ["in time"]
        if helper == "a worker process":
            (gate.path / "gate" / "open").touch()
            busy.wait(LIMIT)
        result = coordinator.run(run_id).wait(LIMIT)
        (error,) = coordinator.run(run_id).errors()
        assert (result.outputs, result.metrics.retries, result.metrics.completed) == (["in time"], 1, 1)
        assert (error.type_name, error.worker_id) == ("NodeTimeoutError", 1)
        assert "given up" in error.message
        gate.open()
        assert late.result() is None
        ((_, outcome),) = heard.processed
        assert isinstance(outcome.error, NodeTimeoutError)
        assert coordinator.run(run_id).wait(LIMIT).outputs == ["in time"]
        again = flows.Slow().start_distributed(None, str(gate.path), coordinator)
        assert stepped(flows.Slow(), coordinator, 1, again) in (["in time"], []), "the loop works on"


def test_row_21_a_step_that_is_committed_as_it_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It counts or does not, and either way the loop works on."""
    gate = flows_run.Gate(tmp_path)
    with Coordinator(0) as coordinator:
        scheduler = coordinator._scheduler
        flows.Slow().start_distributed(None, str(gate.path), coordinator)
        late = Thread(flows.Slow().step_distributed, coordinator, 0)
        gate.entered(1)
        gone = scheduler.session_lost

        def a_moment_later(*arguments: Any) -> bool:
            if threading.current_thread() is not late:
                gate.open()
                late.result()
            return gone(*arguments)

        monkeypatch.setattr(scheduler, "session_lost", a_moment_later)

        def given_up() -> bool:
            scheduler.overdue()
            return not any(scheduler.look_at_workers(lambda worker: worker.external))

        flows_run.until(given_up)
        gate.open()
        late.result()
        flows.Slow().step_distributed(coordinator, 0)


@pytest.mark.parametrize("far", [False, True], ids=["here", "by a proxy"])
def test_a_cancelled_run_does_not_wait_for_a_loop_that_never_looks(far: bool, tmp_path: Path) -> None:
    gate = flows_run.Gate(tmp_path)
    heard = Heard()
    with Coordinator(0) as coordinator:
        backend = coordinator.proxy() if far else coordinator
        run_id = flows.Held().start_distributed(None, str(gate.path), backend)
        loop = Thread(flows.Held().step_distributed, backend, 0, heard)
        gate.entered(1)
        coordinator.run(run_id).cancel(grace=0.05)
        with pytest.raises(RunCancelledError):
            coordinator.run(run_id).wait(LIMIT)
        gate.open()
        assert loop.result() is None
        ((_, outcome),) = heard.processed
        assert "too late" in str(outcome.error)
        assert coordinator.info(run_id).status is RunStatus.CANCELLED


def test_a_cancelled_run_does_not_wait_for_a_callback_that_never_returns() -> None:
    entered, leave = threading.Event(), threading.Event()

    class Hanging(Heard):
        def on_started(self, run_id: str, item: WorkItem) -> None:
            entered.set()
            leave.wait(2 * LIMIT)

    heard = Hanging()
    with Coordinator(0) as coordinator:
        run_id = flows_run.Echo().start_distributed(None, 1, coordinator)
        loop = Thread(flows_run.Echo().step_distributed, coordinator, 0, heard)
        assert entered.wait(LIMIT)
        coordinator.run(run_id).cancel(grace=0.05)
        with pytest.raises(RunCancelledError):
            coordinator.run(run_id).wait(LIMIT)
        leave.set()
        assert loop.result() is None
        assert heard.processed == [], "it was not begun any more"


@pytest.mark.parametrize("far", [False, True], ids=["here", "by a proxy"])
def test_a_node_of_a_loop_can_ask_whether_it_is_cancelled(far: bool, tmp_path: Path) -> None:
    gate = flows_run.Gate(tmp_path)
    with Coordinator(0) as coordinator:
        backend = coordinator.proxy() if far else coordinator
        run_id = flows_run.Polite().start_distributed(None, str(gate.path), backend)
        loop = Thread(flows_run.Polite().step_distributed, backend, 0)
        gate.entered(1)
        coordinator.run(run_id).cancel(grace=LIMIT)
        assert loop.result() is None
        assert (gate.path / "polite").exists()
        with pytest.raises(RunCancelledError):
            coordinator.run(run_id).wait(LIMIT)
        assert coordinator.info(run_id).metrics.completed == 1, "what it did is committed, and its successor never ran"


def test_row_21_a_run_that_takes_too_long_is_ended_whoever_is_at_it(tmp_path: Path) -> None:
    gate = flows_run.Gate(tmp_path)
    with Coordinator(0) as coordinator:
        backend = coordinator.proxy()
        run_id = flows.Held().start_distributed(None, str(gate.path), backend, timeout=0.05)
        stuck = Thread(flows.Held().step_distributed, backend, 0)
        gate.entered(1)
        stepped(flows.Held(), backend, 1, run_id)
        with pytest.raises(RunTimeoutError):
            coordinator.run(run_id).wait(LIMIT)
        gate.open()
        assert stuck.result() is None


@pytest.mark.parametrize("far", [False, True], ids=["here", "by a proxy"])
def test_closing_lets_a_step_be_committed_and_then_nothing(far: bool, tmp_path: Path) -> None:
    gate = flows_run.Gate(tmp_path)
    coordinator = Coordinator(0)
    backend = coordinator.proxy() if far else coordinator
    run_id = flows.Held().start_distributed(None, str(gate.path), backend)
    step = Thread(flows.Held().step_distributed, backend, 0)
    gate.entered(1)
    waiting = Thread(flows.Held().step_distributed, backend, 1, wait=LIMIT)
    closing = Thread(coordinator.close, LIMIT)
    with pytest.raises(FloxideError, match="the coordinator is closed"):
        waiting.result()
    gate.open()
    assert step.result() == (run_id, "through")
    closing.result()
    assert coordinator.run(run_id).wait(LIMIT).outputs == ["through"]
    with pytest.raises(FloxideError, match="closed"):
        flows.Held().step_distributed(backend, 0)
    with pytest.raises(FloxideError, match="closed"):
        flows.Held().step_distributed(backend, 5)
    with pytest.raises(FloxideError, match="closed"):
        coordinator.proxy()
    if far:
        with pytest.raises(FloxideError, match="closed or gone"):
            backend.info(run_id)


@pytest.mark.parametrize("far", [False, True], ids=["here", "by a proxy"])
def test_closing_does_not_wait_longer_than_its_grace(far: bool, tmp_path: Path) -> None:
    gate = flows_run.Gate(tmp_path)
    coordinator = Coordinator(0)
    backend = coordinator.proxy() if far else coordinator
    run_id = flows.Held().start_distributed(None, str(gate.path), backend)
    step = Thread(flows.Held().step_distributed, backend, 0)
    gate.entered(1)
    coordinator.close(0.0)
    gate.open()
    with pytest.raises(FloxideError, match="closed"):
        step.result()
    run = coordinator.run(run_id)
    assert (run.info().status, run.metrics().completed, run.errors()) == (RunStatus.RUNNING, 0, [])


# -- what is refused ----------------------------------------------------------------------------------------------


def test_row_62_arguments_that_make_no_sense() -> None:
    with Coordinator(0) as coordinator:
        for backend in (coordinator, coordinator.proxy()):
            for worker_id in (-1, True, "0", 1.0, None):
                with pytest.raises(ValueError, match="worker_id must be a whole number"):
                    flows_run.Thousand().step_distributed(backend, worker_id)  # type: ignore[arg-type]
            for wait in (-1, True, "1", float("nan")):
                with pytest.raises(ValueError, match="wait must be seconds"):
                    flows_run.Thousand().step_distributed(backend, 0, wait=wait)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="derives from StepCallbacks"):
                flows_run.Thousand().step_distributed(backend, 0, object())  # type: ignore[arg-type]
            with pytest.raises(NotStartedError, match="there is no run 'x'"):
                backend.info("x")
    for wrong in (None, flows_run.Thousand(), "coordinator"):
        with pytest.raises(TypeError, match=r"the backend is a Coordinator, or what its proxy\(\) gave"):
            flows_run.Thousand().step_distributed(wrong, 0)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"the backend is a Coordinator"):
            flows_run.Thousand().start_distributed(None, 1, wrong)  # type: ignore[arg-type]


def test_a_coordinator_cannot_be_pickled_and_says_what_can() -> None:
    with Coordinator(0) as coordinator:
        with pytest.raises(TypeError, match=r"give that one coordinator.proxy\(\)"):
            pickle.dumps(coordinator)
        proxy = coordinator.proxy()
        assert pickle.loads(pickle.dumps(proxy)).info(flows_run.Echo().start_distributed(None, 1, proxy))


def test_row_120_a_message_that_cannot_be_sent_is_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.13 says of a ``BytesIO`` that it is collected before a view of it, as those that an error refers to."""
    said: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    ours, theirs = multiprocessing.Pipe()
    theirs.close()
    with ours:
        try:
            SchedulerProxy(ours).describe("run", ())
        except ConnectionError as error:
            kept = [error]
            kept.append(kept)  # type: ignore[arg-type]  # what a user's frame may be: garbage in a cycle
            frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
            views = [value for frame in frames for value in frame.f_locals.values() if isinstance(value, memoryview)]
            del frames
    assert views == []
    del kept
    gc.collect()
    assert said == []
