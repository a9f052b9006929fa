"""A store that cannot write: the run it happens to fails, nobody waits for ever, and other runs go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from floxide_mp import Coordinator, FloxideError, MemoryStore, RunFailedError, RunStatus, StoreError
from floxide_mp.coordinator.scheduler import Scheduler
from floxide_mp.core.graph import Graph, NodeSpec
from floxide_mp.core.plan import Plan
from floxide_mp.core.records import Commit
from floxide_mp.core.transitions import Phase
from floxide_mp.messages import NEXT_ALL, PartialResult, Report
from floxide_mp.ports import Progress, RunRecord
from floxide_mp.wire.status_page import SIZE, StatusPage
from tests import flows_graphs as flows
from tests import flows_run


class Full(MemoryStore):
    """Has no room for a second commit of the run called ``doomed``."""

    commits = 0

    def commit(self, run_id: str, commit: Commit, progress: Progress) -> None:
        if run_id == "doomed":
            self.commits += 1
            if self.commits == 2:
                raise StoreError("no space left")
        super().commit(run_id, commit, progress)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_commit_that_cannot_be_written_fails_its_run_only(workers: int, caplog: pytest.LogCaptureFixture) -> None:
    with Coordinator(workers, store=Full()) as coordinator:
        doomed = coordinator.start(flows.Sums, 12, run_id="doomed")
        other = coordinator.start(flows.Sums, 5)
        with pytest.raises(RunFailedError, match="no space left") as caught:
            doomed.wait(60)
        assert isinstance(caught.value.__cause__, StoreError)
        assert doomed.status is RunStatus.FAILED
        assert len(other.wait(60).output) == 5
        assert coordinator.start(flows.Sums, 3).wait(60).output
        with pytest.raises(FloxideError, match="needs its workflow to go on"):
            doomed.resume()  # its state here cannot be trusted; the store's can
        assert coordinator.resume(flows.Sums, "doomed").wait(60).output == flows.Sums().run(12).output
    assert "run doomed cannot go on" in caplog.text


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_whose_last_commit_cannot_be_written_is_not_completed(workers: int) -> None:
    class Last(MemoryStore):
        full = True

        def commit(self, run_id: str, commit: Commit, progress: Progress) -> None:
            if self.full and progress.phase is Phase.COMPLETED:
                raise StoreError("no space left")
            super().commit(run_id, commit, progress)

    store = Last()
    with Coordinator(workers, store=store) as coordinator:
        run = coordinator.start(flows.Sums, 3, run_id="run")
        with pytest.raises(RunFailedError, match="no space left"):
            run.wait(60)
        store.full = False
        assert coordinator.resume(flows.Sums, "run").wait(60).output == flows.Sums().run(3).output


@pytest.mark.parametrize("written", [False, True])
def test_ctrl_c_while_a_commit_is_written_loses_nothing(written: bool) -> None:
    """Nobody knows then what is in the store: the run goes on from there, and not from what is in memory."""

    class Interrupted(MemoryStore):
        commits = 0

        def commit(self, run_id: str, commit: Commit, progress: Progress) -> None:
            self.commits += 1
            if written or self.commits != 3:
                super().commit(run_id, commit, progress)
            if self.commits == 3:
                raise KeyboardInterrupt

    with Coordinator(0, store=Interrupted()) as coordinator:
        run = coordinator.start(flows.Sums, 5, run_id="run")
        with pytest.raises(KeyboardInterrupt):
            run.wait(60)
        assert run.status is RunStatus.FAILED
        assert coordinator.resume(flows.Sums, "run").wait(60).output == flows.Sums().run(5).output


def test_what_still_runs_of_a_broken_run_is_ended(tmp_path: Path) -> None:
    """Or its worker would be lost to the others."""
    gate = flows_run.Gate(tmp_path)
    with Coordinator(2, store=Full()) as coordinator:
        doomed = coordinator.start(flows_run.Deaf, [str(gate.path), *["/dev/null"] * 4], run_id="doomed")
        gate.entered(1)
        with pytest.raises(RunFailedError, match="no space left"):
            doomed.wait(60)
        flows_run.until(lambda: not any(worker.current_work_item for worker in coordinator.workers()))


class FullOnce(MemoryStore):
    """Has no room for one commit."""

    def __init__(self, bad: int) -> None:
        super().__init__()
        self.left = bad

    def commit(self, run_id: str, commit: Commit, progress: Progress) -> None:
        self.left -= 1
        if not self.left:
            raise StoreError("no space left")
        super().commit(run_id, commit, progress)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("bad", [1, 2, 3, 4])
def test_whichever_commit_cannot_be_written(workers: int, bad: int, caplog: pytest.LogCaptureFixture) -> None:
    """The last one is no other: a run whose end is not written is not completed."""
    with Coordinator(workers, FullOnce(bad)) as coordinator:
        run = coordinator.start(flows.Squares, 3, run_id="x")
        with pytest.raises(RunFailedError, match="no space left"):
            run.wait(60)
        assert run.status is RunStatus.FAILED
        assert run.checkpoint().outputs == ()
        assert coordinator.resume(flows.Squares, "x").wait(60).output == 25
        assert run.status is RunStatus.COMPLETED
    assert "run x cannot go on" in caplog.text


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_a_pause_or_cancel_that_cannot_be_written(verb: str) -> None:
    store = FullOnce(1)
    with Coordinator(0, store) as coordinator:
        run = coordinator.start(flows.Squares, 3, run_id="x")
        getattr(run, verb)()
        assert run.status is RunStatus.FAILED
        assert coordinator.resume(flows.Squares, "x").wait(60).output == 25
        coordinator.start(flows.Squares, 4, run_id="y")
    with Coordinator(0, store) as coordinator:
        run, store.left = coordinator.run("y"), 1
        with pytest.raises(StoreError):  # of a run that nobody works on
            getattr(run, verb)()
        assert run.status is RunStatus.RUNNING


def test_a_run_that_cannot_be_written_is_not_started() -> None:
    class Closed(MemoryStore):
        def create(self, *_: object) -> None:
            raise StoreError("read-only")

    with Coordinator(0, store=Closed()) as coordinator:
        with pytest.raises(StoreError, match="read-only"):
            coordinator.start(flows.Sums, 3)
        assert coordinator.runs() == []


def test_row_31_a_report_of_before_the_run_broke_hides_nothing_of_the_resumed_one() -> None:
    """An item has more to give; its run breaks while a worker is at it, and is resumed before that worker reports."""

    class Store(MemoryStore):
        broken = False

        def commit(self, run_id: str, commit: Commit, progress: Progress) -> None:
            if self.broken:
                raise StoreError("it cannot be written to")
            super().commit(run_id, commit, progress)

    graph = Graph("one", (NodeSpec("node"),), 0)
    record = RunRecord("run", "one", b"", b"", b"", b"input", 0, 0.0, None, False, {}, ("node",), ())
    store = Store()
    scheduler = Scheduler(store, 0.0)
    first, second = scheduler.new_session_id(), scheduler.new_session_id()
    for number, session in enumerate((first, second)):
        scheduler.register_session(session, number, StatusPage(memoryview(bytearray(SIZE))), 0)
    scheduler.create(record, Plan(graph))

    def report(lease: int) -> Report:
        return Report(lease, (PartialResult((NEXT_ALL, ((0, b"value"),), (), None, False)),), ())

    (lease,) = scheduler.exchange(first, (), 1.0).leases
    (lease,) = scheduler.exchange(first, (report(lease.id),), 1.0).leases
    assert lease.given.values == 1
    store.broken = True
    scheduler.pause("run")
    assert scheduler.read("run", lambda run, store: run.decided.phase) is Phase.BROKEN
    store.broken = False
    scheduler.resume("run", record, Plan(graph))
    assert scheduler.exchange(first, (report(lease.id),), 0.0).refused
    (lease,) = scheduler.exchange(second, (), 1.0).leases
    assert (lease.generation, lease.given.values) == (1, 1)
