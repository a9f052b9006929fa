"""What a user does with a coordinator and its runs: inline and on processes alike, where nothing has to be killed."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import (
    AlreadyCompletedError,
    Coordinator,
    FloxideError,
    NotStartedError,
    RunCancelledError,
    RunFailedError,
    RunMetrics,
    RunStatus,
    Workflow,
    WorkItemStatus,
)
from tests import flows_run as flows

LIMIT = 50.0


# -- the same answer ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workflow", "value"),
    [
        (flows.Echo, {"a": 1}),
        (flows.Counted, 5),
        (flows.Thousand, 100),
        (flows.Retried, [1, 2, 3, 4, 5, 9]),
        (flows.Aborting, 7),
        (flows.BreaksOff, 6),
        (flows.Nested, 4),
        (flows.Asynchronous, 3),
        (flows.Merged, 20),
        (flows.Logged, "x"),
    ],
    ids=lambda part: getattr(part, "__name__", ""),
)
def test_processes_give_what_one_thread_gives(
    inline: Coordinator, processes: Coordinator, workflow: type[Workflow], value: Any
) -> None:
    runs = [c.start(workflow, value, run_id=f"same-{workflow.__name__}") for c in (inline, processes)]
    one, many = (run.wait(LIMIT) for run in runs)
    assert many.outputs == one.outputs
    assert many.metrics == one.metrics
    if workflow is flows.Merged:  # which of the serial steps comes first is not said: only that none is lost
        assert sorted(many.context.log) == sorted(one.context.log)
    else:
        assert vars(many.context) == vars(one.context)

    def rows(number: int) -> list[tuple[Any, ...]]:
        return sorted((r.node, r.attempt, r.type_name, r.message) for r in runs[number].errors())

    assert rows(0) == rows(1)


def test_nested_joins(coordinator: Coordinator) -> None:
    result = coordinator.start(flows.Nested, 4).wait(LIMIT)
    assert result.output == [[], [100], [200, 201], [300, 301, 302]]


def test_metrics_of_a_thousand_items(coordinator: Coordinator) -> None:
    run = coordinator.start(flows.Thousand, 1000)
    result = run.wait(LIMIT)
    assert result.output == sum(range(1000))
    assert result.metrics == run.metrics() == RunMetrics(total_work_items=1002, completed=1002, failed=0, retries=0)
    assert list(result.context.log) == list(range(1000))


def test_several_runs_at_once(coordinator: Coordinator) -> None:
    runs = [coordinator.start(flows.Thousand, n) for n in (50, 0, 30, 10)]
    waited = [run.wait(LIMIT) for run in reversed(runs)]
    assert [result.output for result in waited] == [45, 435, 0, 1225]
    assert [len(list(result.context.log)) for result in waited] == [10, 30, 0, 50]
    assert len({run.run_id for run in runs}) == 4


def test_from_many_threads(coordinator: Coordinator) -> None:
    found: list[Any] = []

    def use(n: int) -> None:
        run = coordinator.start(flows.Thousand, n)
        found.append((n, run.wait(LIMIT).output, list(run.stream())))

    threads = [threading.Thread(target=use, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert sorted(found) == [(n, sum(range(n)), [sum(range(n))]) for n in range(8)]


# -- waiting and streaming ----------------------------------------------------------------------------------------


def test_a_wait_that_is_over_before_its_run(processes: Coordinator, tmp_path: Path) -> None:
    gate = flows.Gate(tmp_path)
    run = processes.start(flows.Gated, str(gate.path))
    for timeout in (0, 0.01):
        with pytest.raises(TimeoutError, match="is not over after"):
            run.wait(timeout)
    assert run.status is RunStatus.RUNNING
    gate.open()
    assert run.wait(LIMIT).output == "through"
    assert run.wait(0).output == "through"


def test_a_wait_inline_that_another_thread_is_in_the_way_of(tmp_path: Path) -> None:
    """One thread works, the other's patience ends all the same."""
    gate = flows.Gate(tmp_path)
    with Coordinator(0) as coordinator:
        run = coordinator.start(flows.Gated, str(gate.path))
        worker = threading.Thread(target=run.wait, args=(LIMIT,))
        worker.start()
        gate.entered(1)
        with pytest.raises(TimeoutError):
            run.wait(0.01)
        gate.open()
        worker.join(LIMIT)
        assert run.wait(0).output == "through"


def test_an_interrupted_wait_inline_can_be_taken_up(tmp_path: Path) -> None:
    """Ctrl-C in a notebook: the step that was interrupted has not happened, and is run by the next wait."""
    with Coordinator(0) as coordinator:
        run = coordinator.start(flows.Interrupted, str(tmp_path / "been here"))
        with pytest.raises(KeyboardInterrupt):
            run.wait(LIMIT)
        assert run.status is RunStatus.RUNNING
        result = run.wait(LIMIT)
        assert result.output == "second"
        assert result.metrics == RunMetrics(1, 1, 0, 0)


def test_stream_gives_every_output_as_it_comes(processes: Coordinator, tmp_path: Path) -> None:
    gate = flows.Gate(tmp_path)
    run = processes.start(flows.Blocked, str(gate.path))
    stream = run.stream()
    assert next(stream) is None, "while the other branch is at the gate"
    assert run.status is RunStatus.RUNNING
    gate.open()
    assert list(stream) == ["through"]
    assert list(run.stream()) == [None, "through"], "again, from the beginning"
    assert run.wait(LIMIT).outputs == ["through", None], "which is the order of the one-process run"


def test_stream_ends_by_raising_where_wait_does(coordinator: Coordinator) -> None:
    run = coordinator.start(flows.BreaksOffLater, 3)
    found: list[Any] = []
    with pytest.raises(RunFailedError, match="no 3"):
        found.extend(run.stream())
    assert set(found) <= {0, 1, 2}, "which of them were committed before, is a race between workers"
    assert run.status is RunStatus.FAILED


def test_a_stream_that_is_closed_early(coordinator: Coordinator) -> None:
    run = coordinator.start(flows.Spread, 10)
    stream = run.stream()
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert run.wait(LIMIT).outputs == list(range(10))


def test_one_output_or_many(coordinator: Coordinator) -> None:
    many = coordinator.start(flows.Spread, 2).wait(LIMIT)
    with pytest.raises(FloxideError, match=r"has 2 outputs: use \.outputs"):
        _ = many.output
    none = coordinator.start(flows.Spread, 0).wait(LIMIT)
    assert none.output is None
    assert none.outputs == []


# -- looking ------------------------------------------------------------------------------------------------------


def test_looking_at_a_run_that_is_at_a_gate(processes: Coordinator, tmp_path: Path) -> None:
    gate = flows.Gate(tmp_path)
    before = time.time()
    run = processes.start(flows.Blocked, str(gate.path), run_id="at-the-gate")
    gate.entered(1)
    assert next(run.stream()) is None, "the other branch is done, then"

    info = run.info()
    assert (info.run_id, info.workflow, info.status) == ("at-the-gate", "Blocked", RunStatus.RUNNING)
    assert before <= info.started_at <= time.time()
    assert info.finished_at is None
    assert info.error is None
    assert info.metrics == run.metrics() == RunMetrics(5, 3, 0, 0) or info.metrics.completed == 3
    assert list(run.context().log) == ["begun"]
    items = run.work_items()
    assert [(item.node, item.status, item.attempt) for item in items] == [("gate", WorkItemStatus.IN_PROGRESS, 1)]
    assert run.pending_work() == []
    checkpoint = run.checkpoint()
    assert checkpoint.run_id == "at-the-gate"
    assert checkpoint.status is RunStatus.RUNNING
    assert checkpoint.outputs == (None,)
    assert list(checkpoint.queue) == items
    assert list(checkpoint.context.log) == ["begun"]  # type: ignore[attr-defined]
    busy = [worker for worker in processes.workers() if worker.current_work_item_run_id == "at-the-gate"]
    assert [worker.current_work_item for worker in busy] == [items[0].item_id]
    assert "at-the-gate" in [info.run_id for info in processes.runs(RunStatus.RUNNING)]
    assert repr(run) == "<Run at-the-gate: running>"

    gate.open()
    result = run.wait(LIMIT)
    assert list(result.context.log) == ["begun"]
    assert run.work_items() == []
    info = run.info()
    assert info.status is RunStatus.COMPLETED
    assert info.finished_at is not None
    assert info.finished_at >= info.started_at
    assert run.checkpoint().outputs == ("through", None)
    assert "at-the-gate" not in [info.run_id for info in processes.runs(RunStatus.RUNNING)]
    assert "at-the-gate" in [info.run_id for info in processes.runs(RunStatus.COMPLETED)]


def test_what_waits_and_what_has_arrived(tmp_path: Path) -> None:
    """One worker is at a gate: what is behind it in the queue waits, what came before it is at the join."""
    gate = flows.Gate(tmp_path)
    with Coordinator(1) as coordinator:
        run = coordinator.start(flows.Gathered, ["/dev/null", str(gate.path), "/dev/null"])
        gate.entered(1)
        flows.until(lambda: len(run.work_items()) == 3)
        found = [(item.node, item.status) for item in run.work_items()]
        assert ("gate", WorkItemStatus.IN_PROGRESS) in found
        others = [item.status for item in run.work_items() if (item.node, item.status) != found[1]]
        assert set(others) <= {WorkItemStatus.PENDING, WorkItemStatus.ARRIVED, WorkItemStatus.IN_PROGRESS}
        gate.open()
        assert run.wait(LIMIT).output == [None, "through", None]


def test_workers(processes: Coordinator, inline: Coordinator) -> None:
    processes.start(flows.Echo, 1).wait(LIMIT)
    workers = processes.workers()
    assert [worker.worker_id for worker in workers] == [0, 1]
    assert len({worker.pid for worker in workers} | {os.getpid()}) == 3
    assert [(worker.worker_id, worker.pid) for worker in inline.workers()] == [(0, os.getpid())]


# -- failing ------------------------------------------------------------------------------------------------------


def test_retries_with_back_off(coordinator: Coordinator) -> None:
    run = coordinator.start(flows.Retried, [1, 3, 9])
    result = run.wait(LIMIT)
    assert result.outputs == [10, 30, ("rescued", 9, "ConnectionError", "attempt 4 of 9")]
    # Only what succeeded has written.
    assert list(result.context.log) == [(1, 1), (3, 3)]
    assert result.metrics == RunMetrics(total_work_items=5, completed=4, failed=1, retries=5)
    rows = run.errors()
    assert [row.number for row in rows] == list(range(1, 7))
    by_item: dict[int, list[int]] = {}
    for row in rows:
        assert (row.run_id, row.node, row.type_name) == (run.run_id, "flaky", "ConnectionError")
        assert "in process" in row.traceback
        assert row.worker_id in (0, 1)
        by_item.setdefault(row.item_id, []).append(row.attempt)
    assert sorted(by_item.values()) == [[1, 2], [1, 2, 3, 4]]


def test_a_policy_of_the_coordinator() -> None:
    from floxide_mp import RetryPolicy

    with Coordinator(0, retry=RetryPolicy(max_attempts=3, initial_backoff=0)) as coordinator:
        run = coordinator.start(flows.Failing, 1)
        with pytest.raises(RunFailedError, match=r"fail \(item 1, attempt 3\): ValueError: no 1"):
            run.wait(LIMIT)
        assert [row.attempt for row in run.errors()] == [1, 2, 3]
        assert run.metrics() == RunMetrics(1, 0, 1, 2)


def test_abort_and_on_failure(coordinator: Coordinator) -> None:
    run = coordinator.start(flows.Aborting, 4)
    result = run.wait(LIMIT)
    odd = [("rescued", n, "FloxideError", f"{n} is odd") for n in (1, 3)]
    assert result.output == [0, 2, *odd]
    assert result.output.by_node == {"work": [0, 2], "rescue": odd}
    assert result.metrics.failed == 2


def test_a_generator_that_raises_half_way_gives_nothing(coordinator: Coordinator) -> None:
    run = coordinator.start(flows.BreaksOff, 6)
    result = run.wait(LIMIT)
    assert result.output == ("rescued", 6, "ValueError", "half way")
    assert list(result.context.log) == []
    assert len(run.errors()) == 1


def test_the_cause_of_a_failed_run(coordinator: Coordinator) -> None:
    run = coordinator.start(flows.Failing, "luck")
    with pytest.raises(RunFailedError) as caught:
        run.wait(LIMIT)
    error = caught.value
    assert (error.run_id, error.node, error.item_id, error.attempt) == (run.run_id, "fail", 1, 1)
    assert isinstance(error.__cause__, ValueError)
    assert str(error.__cause__) == "no luck"
    assert "in fail" in "".join(error.__cause__.__notes__)
    assert run.info().error == str(error)


def test_resume_of_a_failed_run(coordinator: Coordinator, tmp_path: Path) -> None:
    missing = [str(tmp_path / f"{n}") for n in range(3)]
    run = coordinator.start(flows.Repairable, missing)
    with pytest.raises(RunFailedError, match="FileNotFoundError"):
        run.wait(LIMIT)
    done = list(run.context().log)
    for path in missing:
        Path(path).write_text(path)
    again = coordinator.resume(flows.Repairable, run.run_id)
    result = again.wait(LIMIT)
    assert result.output == missing
    assert list(result.context.log) == missing, "what was committed before is not run again"
    assert set(done) <= set(missing)
    assert result.metrics.completed == result.metrics.total_work_items == 8
    assert result.metrics.failed == 0
    assert run.info().error is None
    with pytest.raises(AlreadyCompletedError):
        coordinator.resume(flows.Repairable, run.run_id)


def test_resume_without_mending_fails_again(coordinator: Coordinator, tmp_path: Path) -> None:
    run = coordinator.start(flows.Repairable, [str(tmp_path / "never")])
    for _ in range(3):
        with pytest.raises(RunFailedError):
            run.wait(LIMIT)
        coordinator.resume(flows.Repairable, run.run_id)
    with pytest.raises(RunFailedError):
        run.wait(LIMIT)
    assert run.metrics().failed == 1
    assert [row.number for row in run.errors()] == [1, 2, 3, 4]


def test_resume_from_two_threads(inline: Coordinator, tmp_path: Path) -> None:
    """Both see a failed run; the second finds it taken up."""
    run = inline.start(flows.Repairable, [str(tmp_path / "there")])
    with pytest.raises(RunFailedError):
        run.wait(LIMIT)
    (tmp_path / "there").write_text("!")
    inline.resume(flows.Repairable, run.run_id)
    run._scheduler.resume(run.run_id)
    assert run.wait(LIMIT).output == ["!"]


def test_starting_again_does_not_take_up_what_failed_meanwhile(inline: Coordinator) -> None:
    """The status that ``start`` has seen may be past when it comes to act on it."""
    failed, done = inline.start(flows.Failing, 1), inline.start(flows.Echo, 1)
    with pytest.raises(RunFailedError):
        failed.wait(LIMIT)
    done.wait(LIMIT)
    for run, status in ((failed, RunStatus.FAILED), (done, RunStatus.COMPLETED)):
        run._scheduler.resume(run.run_id, only=(RunStatus.RUNNING,))
        assert run.status is status


# -- starting twice, unknown ids, closing -------------------------------------------------------------------------


def test_starting_the_same_twice_gives_the_run_that_is_there(coordinator: Coordinator) -> None:
    first = coordinator.start(flows.Logged, "once", run_id="twice")
    second = coordinator.start(flows.Logged, "once", run_id="twice")
    third = coordinator.run("twice")
    assert first.wait(LIMIT).outputs == second.wait(LIMIT).outputs == third.wait(LIMIT).outputs == ["once"]
    assert list(second.context().log) == ["once"]
    assert [info.run_id for info in coordinator.runs()].count("twice") == 1


def test_starting_the_same_from_many_threads_is_one_run(coordinator: Coordinator) -> None:
    """One of them starts it, the others are given it."""
    for n in range(20):
        gather = threading.Barrier(4)
        found: list[Any] = []

        def start(n: int = n, gather: threading.Barrier = gather, found: list[Any] = found) -> None:
            gather.wait(LIMIT)
            found.append(coordinator.start(flows.Logged, n, run_id=f"race-{n}").wait(LIMIT).output)

        threads = [threading.Thread(target=start) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
        assert found == [n] * 4
        assert list(coordinator.run(f"race-{n}").context().log) == [n]


def test_equal_inputs_are_the_same_however_they_were_made(coordinator: Coordinator) -> None:
    """Equal values may have different pickles: a part that occurs twice is written once if it is one object."""
    word = "word"
    shared = [word, word]
    apart = [word, "".join(list(word))]
    assert shared == apart
    first = coordinator.start(flows.Echo, shared, run_id="equal")
    assert coordinator.start(flows.Echo, apart, run_id="equal").wait(LIMIT).output == first.wait(LIMIT).output


def test_an_unknown_run_and_one_spelt_wrong(coordinator: Coordinator) -> None:
    coordinator.start(flows.Echo, 1, run_id="invoices-2024").wait(LIMIT)
    with pytest.raises(NotStartedError, match="did you mean 'invoices-2024'") as caught:
        coordinator.run("invoices-2042")
    assert caught.value.run_id == "invoices-2042"
    with pytest.raises(NotStartedError):
        coordinator.resume(flows.Echo, "invoices-2042")


@pytest.mark.parametrize("workers", [0, 1])
def test_after_close(tmp_path: Path, workers: int) -> None:
    with Coordinator(workers) as coordinator:
        done = coordinator.start(flows.Echo, 1, run_id="done")
        result = done.wait(LIMIT)
        coordinator.close(grace=0)
        coordinator.close()
        with pytest.raises(FloxideError, match="the coordinator is closed"):
            coordinator.start(flows.Echo, 1)
        with pytest.raises(FloxideError, match="the coordinator is closed"):
            coordinator.resume(flows.Echo, "done")
        assert coordinator.workers() == []
        assert [info.run_id for info in coordinator.runs()] == ["done"]
        # What is known stays known.
        assert result.output == done.wait(LIMIT).output == 1
        assert list(done.stream()) == [1]
        assert done.info().status is RunStatus.COMPLETED


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_that_was_not_over_at_close(workers: int) -> None:
    """It stays as it is; to wait for it is an error, to cancel it is not."""
    with Coordinator(workers) as coordinator:
        runs = [coordinator.start(flows.Thousand, 10_000) for _ in range(3)]
    left = [run for run in runs if run.status is RunStatus.RUNNING]
    assert left
    for run in left:
        with pytest.raises(FloxideError, match="was not over when its coordinator was closed"):
            run.wait(LIMIT)
        with pytest.raises(FloxideError, match="was not over when its coordinator was closed"):
            list(run.stream())
        assert run.work_items()
        run.cancel()
        assert run.status is RunStatus.CANCELLED
        with pytest.raises(RunCancelledError):
            run.wait(LIMIT)


# -- cancelling ---------------------------------------------------------------------------------------------------


def test_cancel_before_anything_was_run(inline: Coordinator) -> None:
    run = inline.start(flows.Logged, 1)
    run.cancel()
    for _ in range(2):
        with pytest.raises(RunCancelledError, match=f"run {run.run_id} was cancelled"):
            run.wait(LIMIT)
    with pytest.raises(RunCancelledError):
        list(run.stream())
    assert run.status is RunStatus.CANCELLED
    assert run.metrics().completed == 0
    with pytest.raises(AlreadyCompletedError, match="was cancelled, which is final"):
        inline.resume(flows.Logged, run.run_id)


def test_cancel_after_the_end_changes_nothing(coordinator: Coordinator) -> None:
    run = coordinator.start(flows.Logged, 1)
    run.wait(LIMIT)
    before = run.info()
    run.cancel()
    assert run.info() == before
    assert run.wait(LIMIT).output == 1
    failed = coordinator.start(flows.Failing, 1)
    with pytest.raises(RunFailedError):
        failed.wait(LIMIT)
    failed.cancel()
    with pytest.raises(RunFailedError):
        failed.wait(LIMIT)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_node_that_looks_whether_it_is_cancelled(tmp_path: Path, workers: int) -> None:
    gate = flows.Gate(tmp_path)
    raised: list[BaseException] = []
    with Coordinator(workers) as coordinator:
        run = coordinator.start(flows.Polite, str(gate.path))

        def wait() -> None:
            try:
                run.wait(LIMIT)
            except RunCancelledError as error:
                raised.append(error)

        waiter = threading.Thread(target=wait)
        waiter.start()
        gate.entered(1)
        run.cancel(grace=LIMIT)
        run.cancel(grace=LIMIT)
        waiter.join(LIMIT)
        assert len(raised) == 1
        assert (gate.path / "polite").exists()
        assert run.status is RunStatus.CANCELLED
        # What it did is committed; what would have come after it has not begun.
        assert run.work_items() == [], "what was left is dropped"
        assert run.errors() == []
        # The worker is good for more.
        assert coordinator.start(flows.Echo, 5).wait(LIMIT).output == 5


def test_a_node_that_never_looks_is_ended_after_the_grace(tmp_path: Path) -> None:
    """Another run's step, on the other worker, is not disturbed."""
    mine, innocent = tmp_path / "a", tmp_path / "b"
    mine.mkdir()
    innocent.mkdir()
    deaf, gate = flows.Gate(mine), flows.Gate(innocent)
    with Coordinator(2) as coordinator:
        sibling = coordinator.start(flows.Gated, str(gate.path))
        gate.entered(1)
        run = coordinator.start(flows.Deaf, [str(deaf.path)] * 5)
        deaf.entered(1)
        pids = {worker.pid for worker in coordinator.workers()}
        run.cancel(grace=0.05)
        with pytest.raises(RunCancelledError):
            run.wait(LIMIT)
        assert run.status is RunStatus.CANCELLED
        assert len(list(deaf.path.glob("in-*"))) == 1, "nothing of it was begun afterwards"
        assert run.work_items() == []
        gate.open()
        assert sibling.wait(LIMIT).output == "through"
        assert coordinator.start(flows.Thousand, 10).wait(LIMIT).output == 45
        assert len(pids & {worker.pid for worker in coordinator.workers()}) == 1


# -- time-outs ------------------


def test_a_step_that_is_too_long_is_ended_and_tried_again(tmp_path: Path) -> None:
    """Its sibling on the other worker finishes; the run goes on by ``on_failure``."""
    gate = flows.Gate(tmp_path)
    with Coordinator(2) as coordinator:
        run = coordinator.start(flows.Timed, [str(gate.path), "/dev/null"])
        result = run.wait(LIMIT)
        kind = "NodeTimeoutError"
        assert [output and output[:3] for output in result.outputs] == [None, ("rescued", str(gate.path), kind)]
        assert result.metrics == RunMetrics(total_work_items=4, completed=3, failed=1, retries=1)
        rows = run.errors()
        assert [(row.node, row.type_name, row.attempt) for row in rows] == [("slow", kind, 1), ("slow", kind, 2)]
        assert all("time-out of 0.2 s" in row.message for row in rows)
        assert len(list(gate.path.glob("in-*"))) == 2, "no third attempt"


# -- serial nodes -------------------------------------------------------------------------------------------------


def test_serial_steps_never_overlap_and_see_each_other(coordinator: Coordinator, tmp_path: Path) -> None:
    path = tmp_path / "steps"
    result = coordinator.start(flows.Serially, [(str(path), n) for n in range(60)]).wait(LIMIT)
    lines = path.read_bytes().splitlines()
    assert lines == [b"begin", b"end"] * 60
    assert sorted(result.outputs) == list(range(60)), "each saw all that were committed before it"


def test_a_node_that_holds_until_it_has_all(coordinator: Coordinator) -> None:
    result = coordinator.start(flows.Merged, 20).wait(LIMIT)
    assert result.outputs == [list(range(20))]
    assert result.metrics == RunMetrics(41, 41, 0, 0)
