"""Group commit: no worker waits for the disk, and nobody is told what is not on it yet."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import (
    AlreadyCompletedError,
    Coordinator,
    FloxideError,
    ItemProcessedOutcome,
    RetryPolicy,
    RunFailedError,
    RunStatus,
    SQLiteStore,
    StepCallbacks,
    StoreError,
    Workflow,
    WorkItem,
    node,
)
from floxide_mp.coordinator import active_run, event_tail
from floxide_mp.coordinator import group_commit as commit_queue
from floxide_mp.core.records import one_by_one
from floxide_mp.stores.sqlite.row_codec import Prepared
from tests.coordinator.flows_long import Long
from tests.coordinator.flows_written import Reading
from tests.flows_durable import COUNT, Durable
from tests.flows_features import Chain
from tests.flows_run import until


@node(retry=RetryPolicy(max_attempts=100, initial_backoff=0.01, max_backoff=0.01))
def flaky(folder: str) -> str:
    if not os.path.exists(os.path.join(folder, "mended")):
        raise ValueError("not yet")
    return folder


class Flaky(Workflow):
    flaky = flaky
    start = flaky
    edges = {flaky: []}


@node
def zeta(number: int) -> int:
    return number


@node
def alpha(number: int) -> int:
    return number


class Unsorted(Workflow):
    zeta, alpha = zeta, alpha
    start, edges = zeta, {zeta: [alpha]}


class Slow(SQLiteStore):
    """Writes nothing until its gate is open."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gate = threading.Event()
        self.groups: list[int] = []
        self.waits = False

    def write(self, prepared: Sequence[Prepared]) -> None:
        self.waits = not self.gate.is_set()
        assert self.gate.wait(60)
        self.groups.append(len(prepared))
        super().write(prepared)


def test_who_asks_about_a_run_that_is_over_does_not_wait_for_a_group(tmp_path: Path) -> None:
    with closing(Slow(tmp_path / "runs.db")) as store, Coordinator(1, store=store) as coordinator:
        store.gate.set()
        over = coordinator.start(Unsorted, 1, run_id="over")
        output = over.wait(60).output
        store.gate.clear()
        coordinator.start(Unsorted, 1, run_id="on")
        until(lambda: store.waits)
        asked: list[Any] = []
        asks = threading.Thread(
            target=lambda: asked.extend([over.wait().output, list(over.stream()), over.progress(), over.errors()])
        )
        asks.start()
        asks.join(30)
        store.gate.set()
        assert asked[:2] == [output, [output]] and sum(asked[2].values()) and asked[3] == []


def test_steps_are_counted_in_the_order_of_the_graph(tmp_path: Path) -> None:
    for store in (None, tmp_path / "runs.db"):
        with Coordinator(0, store=store) as coordinator:
            run = coordinator.start(Unsorted, 1)
            run.wait(60)
            assert list(run.progress().items()) == [("zeta", 1), ("alpha", 1)]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_is_told_to_be_over_when_that_is_on_disk(tmp_path: Path, workers: int) -> None:
    store = Slow(tmp_path / "runs.db")
    with Coordinator(workers, store=store) as coordinator:
        run = coordinator.start(Durable, str(tmp_path))
        with pytest.raises(TimeoutError):
            run.wait(0.2)
        waits = threading.Thread(target=run.wait, args=(60,))
        waits.start()
        until(lambda: (tmp_path / "effects").exists() and len((tmp_path / "effects").read_text().split()) == COUNT)
        assert (run.status, run.metrics().completed) == (RunStatus.RUNNING, 0)
        assert not store.outputs(run.run_id)
        store.gate.set()
        waits.join()
        assert (run.status, run.metrics().completed) == (RunStatus.COMPLETED, COUNT + 1)
        assert len(list(one_by_one(store.outputs(run.run_id)))) == COUNT
    store.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_steps_see_the_events_of_others_before_they_are_on_disk(tmp_path: Path, workers: int) -> None:
    store = Slow(tmp_path / "runs.db")
    with Coordinator(workers, store=store) as coordinator:
        run = coordinator.start(Reading, 30)
        known = coordinator._scheduler.known(run.run_id)
        with pytest.raises(TimeoutError):
            run.wait(0.2)
        until(lambda: workers == 0 or known.decided.metrics.completed > 2)  # on a loaded machine, too
        assert not store.events(run.run_id)
        store.gate.set()
        assert run.wait(60).output == list(range(31, 0, -1))
    assert max(store.groups) > 1
    store.close()


def test_very_many_events_are_written_in_several_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between which those who read the log have their turn."""
    monkeypatch.setattr(commit_queue, "MOST_EVENTS", 4)
    store = Slow(tmp_path / "runs.db")
    with Coordinator(0, store=store) as coordinator:
        run = coordinator.start(Reading, 30)
        with pytest.raises(TimeoutError):
            run.wait(0.2)
        store.gate.set()
        assert run.wait(60).output == list(range(31, 0, -1))
    assert 1 < max(store.groups) <= 5
    assert sum(store.groups) >= 31
    store.close()


def test_a_worker_that_comes_late_gets_old_events_from_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_tail, "KEPT", 3)
    with Coordinator(1, store=tmp_path / "runs.db") as coordinator:
        assert coordinator.start(Reading, 200).wait(60).output == list(range(201, 0, -1))
    with Coordinator(1, store=tmp_path / "runs.db") as coordinator:
        run = coordinator.start(Reading, 200, run_id="again")
        assert run.wait(60).output == list(range(201, 0, -1))


def test_of_a_run_that_is_over_no_events_are_kept_in_memory(tmp_path: Path) -> None:
    with Coordinator(0, store=tmp_path / "runs.db") as coordinator:
        for number in range(3):
            coordinator.start(Reading, 50, run_id=f"run{number}").wait(60)
        known = coordinator._scheduler._runs.values()
        assert not [run for run in known if isinstance(run, active_run.ActiveRun)]
        assert [len(coordinator._scheduler.events(f"run{n}", 40).entries) for n in range(3)] == [11, 11, 11]


def test_closing_writes_what_is_done(tmp_path: Path) -> None:
    store = Slow(tmp_path / "runs.db")
    coordinator = Coordinator(1, store=store)
    run = coordinator.start(Durable, str(tmp_path))
    until(lambda: (tmp_path / "effects").exists())
    closing = threading.Thread(target=coordinator.close)
    closing.start()
    store.gate.set()
    closing.join()
    count = run.metrics().completed
    assert count >= 2 and len(list(one_by_one(store.outputs(run.run_id)))) == count - 1
    with pytest.raises(FloxideError):
        coordinator.start(Durable, str(tmp_path))
    store.close()


@pytest.mark.parametrize("written", [True, False])
def test_who_waits_when_it_is_closed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool) -> None:
    """Also where what is written last, or will not be, is not the end of the run."""
    monkeypatch.setattr("floxide_mp.coordinator.closing.SETTLE", 60 if written else 0.1)
    store = Slow(tmp_path / "runs.db")
    coordinator = Coordinator(1, store=store)
    run = coordinator.start(Long, str(tmp_path))
    told: list[BaseException] = []

    def wait() -> None:
        try:
            run.wait()
        except FloxideError as error:
            told.append(error)

    def waits_on() -> bool:
        """Who waits was told that it is closed, and waits for what is to be written."""
        scheduler = coordinator._scheduler
        with scheduler.critical.lock:
            return scheduler._stopping and bool(scheduler._changed._waiters)  # type: ignore[attr-defined]

    waits = threading.Thread(target=wait, daemon=True)
    waits.start()
    until(lambda: (tmp_path / "effects").exists() and run.metrics().completed == 0)
    closing = threading.Thread(target=coordinator.close)
    closing.start()
    if written:
        until(waits_on)
    else:
        until(lambda: not coordinator._scheduler.commit_queue._queue)  # type: ignore[union-attr]
    store.gate.set()
    closing.join()
    waits.join(10)
    assert "was not over when its coordinator was closed" in str(told)
    store.close()


def test_a_handle_of_a_closed_coordinator_changes_nothing(tmp_path: Path) -> None:
    """Nobody would write it; and another coordinator may have taken the run up."""
    store = SQLiteStore(tmp_path / "runs.db")
    with Coordinator(0, store=store) as coordinator:
        over = coordinator.start(Reading, 3)
        over.wait(60)  # the other way round, this could run the other one to its end while it waits for the disk
        left = coordinator.start(Durable, str(tmp_path), run_id="left")
    for verb in left.cancel, left.pause:
        with pytest.raises(FloxideError, match="the coordinator is closed"):
            verb()
    over.cancel()
    with pytest.raises(AlreadyCompletedError):
        over.pause()
    with Coordinator(0, store=store) as coordinator:
        assert coordinator.info("left").status is RunStatus.RUNNING
        assert coordinator.resume(Durable, "left").wait(60).outputs
        with pytest.raises(FloxideError, match="the coordinator is closed"):
            left.cancel()
        assert coordinator.info("left").status is RunStatus.COMPLETED
    store.close()


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_fork_with_commits_that_wait_neither_writes_nor_waits(tmp_path: Path) -> None:
    store = Slow(tmp_path / "runs.db")
    with Coordinator(1, store=store) as coordinator:
        run = coordinator.start(Durable, str(tmp_path))
        until(lambda: bool(coordinator._scheduler.commit_queue._queue))  # type: ignore[union-attr]
        child = os.fork()
        if not child:
            signal.alarm(20)
            told = 0
            for verb in run.cancel, run.pause, run.wait:
                try:
                    verb()
                except FloxideError:
                    told += 1
            os._exit(told)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        store.gate.set()
        assert len(run.wait(60).outputs) == COUNT
    store.close()


def test_two_take_up_a_run_at_once(tmp_path: Path) -> None:
    """Both wait until its failure is written; who comes second finds it going."""
    (tmp_path / "second").write_text("fails")
    store = Slow(tmp_path / "runs.db")
    with Coordinator(1, store=store) as coordinator:
        coordinator.start(Chain, str(tmp_path), run_id="x")
        scheduler = coordinator._scheduler
        until(lambda: scheduler._runs["x"].state.over)  # type: ignore[attr-defined]
        (tmp_path / "second").unlink()

        def take_up() -> None:
            with suppress(AlreadyCompletedError):  # who comes late finds it completed
                coordinator.resume(Chain, "x")

        both = [threading.Thread(target=take_up) for _ in range(2)]
        for one in both:
            one.start()
        store.gate.set()
        for one in both:
            one.join()
        assert coordinator.run("x").wait(60).metrics.completed == 3
    assert (tmp_path / "ran").read_text().split() == ["first", "second", "second", "last"]
    store.check()
    store.close()


def test_row_69_no_thread_for_the_commit_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        if thread.name == "floxide-journal":
            raise RuntimeError("can't start new thread")
        start(thread)

    with Coordinator(1, store=tmp_path / "runs.db") as coordinator:
        monkeypatch.setattr(threading.Thread, "start", refused)
        for _ in range(2):
            run = coordinator.start(Reading, 3)
            with pytest.raises(RunFailedError, match="can't start new thread"):
                run.wait(60)
        monkeypatch.undo()
        assert coordinator.resume(Reading, run.run_id).wait(60).output


class Full(SQLiteStore):
    """Has no space while ``full``; ``at_write`` is called at each try."""

    full = False
    at_write: Callable[[], None]

    def write(self, prepared: Sequence[Prepared]) -> None:
        if self.full:
            self.at_write()
            raise StoreError("no space left", transient=True, full=True)
        super().write(prepared)


def test_nobody_asks_without_a_pause_for_what_is_due_while_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_queue, "FULL", 0.3)
    store = Full(tmp_path / "runs.db")
    with Coordinator(1, store=store) as coordinator:
        scheduler = coordinator._scheduler
        asked = 0
        seen: list[int] = []
        grant = scheduler._grant

        def counted(*given: Any) -> Any:
            nonlocal asked
            asked += 1
            return grant(*given)

        monkeypatch.setattr(scheduler, "_grant", counted)
        store.at_write = lambda: seen.append(asked)
        store.full = True
        run = coordinator.start(Flaky, str(tmp_path))
        until(lambda: len(seen) > 4)
        assert seen[4] - seen[2] < 20
        store.full = False
        (tmp_path / "mended").touch()
        assert run.wait(60).output == str(tmp_path)
    store.close()


class Told(StepCallbacks):
    """What a loop is told of its steps."""

    def __init__(self) -> None:
        self.outcomes: list[ItemProcessedOutcome] = []

    def on_item_processed(self, run_id: str, item: WorkItem, outcome: ItemProcessedOutcome) -> None:
        self.outcomes.append(outcome)


def test_a_loop_of_the_users_own_is_told_of_a_step_when_it_is_on_disk(tmp_path: Path) -> None:
    (tmp_path / "mended").touch()
    store, told = Slow(tmp_path / "runs.db"), Told()
    with Coordinator(0, store=store) as coordinator:
        run = coordinator.start(Flaky, str(tmp_path))
        steps = threading.Thread(target=lambda: Flaky().step_distributed(coordinator, 0, told))
        steps.start()
        until(lambda: bool(coordinator._scheduler.commit_queue._queue))  # type: ignore[union-attr]
        steps.join(0.2)
        assert steps.is_alive() and not told.outcomes
        store.gate.set()
        steps.join()
        assert [outcome.output for outcome in told.outcomes] == [str(tmp_path)]
        assert len(store.outputs(run.run_id)) == 1
    store.close()


def test_a_loop_of_the_users_own_does_not_keep_a_coordinator_open_that_cannot_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_queue, "FULL", 0.1)
    monkeypatch.setattr("floxide_mp.coordinator.closing.SETTLE", 0.1)
    (tmp_path / "mended").touch()
    store, told = Full(tmp_path / "runs.db"), Told()
    store.full, store.at_write = True, lambda: None
    with Coordinator(0, store=store) as coordinator:
        run = coordinator.start(Flaky, str(tmp_path))
        steps = threading.Thread(target=lambda: Flaky().step_distributed(coordinator, 0, told))
        steps.start()
        until(lambda: run.status is RunStatus.PAUSED)
    steps.join()
    assert [type(outcome.error) for outcome in told.outcomes] == [FloxideError]
    assert not store.outputs(run.run_id)
    store.close()
