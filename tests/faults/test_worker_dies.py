"""FAULTS rows 1-5, 7-13, 17, 18, 21: a worker dies, in every way and at every point. The innocent always finish."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from floxide_mp import (
    Coordinator,
    NodeTimeoutError,
    RunCancelledError,
    RunFailedError,
    RunStatus,
    WorkerDiedError,
    failpoints,
)
from floxide_mp.coordinator.scheduler import Scheduler
from floxide_mp.messages import NEXT, NEXT_ALL, Reply, Report
from floxide_mp.wire.status_page import SIZE, StatusPage

from .. import flows_faults as flows


def eventually(true: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end, f"not within 30 s: {what}"
        time.sleep(0.005)


def state(pid: int) -> str:
    """As in ``ps``; X if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    return state(pid) not in "ZX"


def lines(folder: Path, name: str) -> list[int]:
    path = folder / name
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def pids(c: Coordinator) -> list[int]:
    return [worker.pid for worker in c.workers()]


def parted(outputs: list[int | str]) -> tuple[list[int], str]:
    """What the innocent gave, and what was said of the one that failed."""
    (mourned,) = (output for output in outputs if isinstance(output, str))
    return [output for output in outputs if isinstance(output, int)], mourned


def others(plan: flows.Plan) -> list[int]:
    return [n for n in range(plan.count) if n != plan.bad]


# -- rows 1-3, 5, 7: at every point of the path --------------------------------------------------------------------

WORKER_POINTS = {  # point -> (row, whether an item may be executed twice, possible retries)
    "worker.claim.unsent": (1, False, {0}),
    "worker.claim.sent": (2, False, {0}),
    "worker.claim.answered": (2, False, {0}),
    "worker.claimed": (3, False, {0}),
    "worker.describe.unsent": (3, False, {1}),
    "worker.describe.sent": (3, False, {1}),
    "worker.describe.answered": (3, False, {1}),
    "worker.node.before": (3, False, {1}),
    "worker.node.after": (5, True, {1}),
    "worker.encode": (5, True, {1}),
    "worker.encoded": (5, True, {1}),
    "worker.worked": (5, True, {1}),
    "worker.report.unsent": (5, True, {1}),
    "worker.report.sent": (7, True, {0, 1}),
    "worker.report.answered": (7, False, {0}),
}


def test_rows_01_02_03_05_07_every_point_is_here() -> None:
    """But for what these nodes do not do: read the context, pass on large values, generate. ``test_every_failpoint``
    has those.
    """
    others = "worker.events.", "worker.shared.", "worker.portion"
    points = {name for name in failpoints.NAMES if name.startswith("worker.")}
    assert set(WORKER_POINTS) == {name for name in points if not name.startswith(others)}


@pytest.mark.parametrize("point", WORKER_POINTS, ids=lambda p: f"row_{WORKER_POINTS[p][0]:02}_{p}")
def test_rows_01_02_03_05_07_killed_at(point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, twice, retries = WORKER_POINTS[point]
    token = tmp_path / "token"
    token.touch()
    monkeypatch.setenv("FLOXIDE_FAILPOINTS", f"{point}=kill:{token}")
    plan = flows.Plan(str(tmp_path))
    with Coordinator(2) as c:
        result = c.start(flows.Harm, plan).wait(30)
    assert not token.exists(), "nobody passed the point"
    assert result.outputs == list(range(plan.count))
    assert list(result.context.done) == list(range(plan.count))  # once each, in order
    assert result.metrics.total_work_items == result.metrics.completed == plan.count + 1
    assert result.metrics.retries in retries
    assert result.metrics.failed == 0
    executed = Counter(lines(tmp_path, "executed"))
    assert set(executed) == set(range(plan.count))
    assert executed.total() <= plan.count + twice


def test_an_interrupted_call_is_not_answered_with_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler that raises, say. The reply may still come: that worker asks nothing any more, and ends."""
    token = tmp_path / "token"
    token.touch()
    monkeypatch.setenv("FLOXIDE_FAILPOINTS", f"worker.describe.sent=raise:{token}")
    with Coordinator(2) as c:
        result = c.start(flows.Harm, flows.Plan(str(tmp_path))).wait(30)
    assert not token.exists()
    assert result.outputs == list(range(6))
    assert result.metrics.failed == 0


def test_row_01_killed_while_idle(tmp_path: Path) -> None:
    with Coordinator(2) as c:
        c.start(flows.Harm, flows.Plan(str(tmp_path))).wait(30)
        before = pids(c)
        os.kill(before[0], signal.SIGKILL)
        eventually(lambda: len(pids(c)) == 2 and before[0] not in pids(c), "replaced")
        os.kill(before[1], signal.SIGKILL)
        assert c.start(flows.Harm, flows.Plan(str(tmp_path))).wait(30).outputs == list(range(6))


def test_row_04_killed_in_the_node(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plan = flows.Plan(str(tmp_path), "killed_once")
    with caplog.at_level(logging.WARNING, "floxide_mp"), Coordinator(2) as c:
        result = c.start(flows.Harm, plan, run_id="run4").wait(30)
        (error,) = c.run("run4").errors()
    assert result.outputs == list(range(plan.count))
    assert list(result.context.done) == list(range(plan.count))
    assert lines(tmp_path, "executed").count(plan.bad) == 2
    assert result.metrics.retries == 1
    (line,) = caplog.messages
    pid = line.split("(pid ")[1].split(")")[0]
    assert line == (
        f"worker {error.worker_id} (pid {pid}) was ended by SIGKILL while it ran work"
        f" (run run4, item {error.item_id}, attempt 1)"
    )
    assert (error.type_name, error.node, error.attempt) == ("WorkerDiedError", "work", 1)


def test_row_04_always_killed_in_the_node(tmp_path: Path) -> None:
    plan = flows.Plan(str(tmp_path), "killed")
    with Coordinator(2) as c:
        run = c.start(flows.Harm, plan)
        rest, mourned = parted(run.wait(30).outputs)
    assert rest == others(plan)
    assert "WorkerDiedError" in mourned
    assert "attempt 3" in mourned
    assert [error.attempt for error in run.errors()] == [1, 2, 3]


def test_row_08_stopped_in_the_middle_of_a_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that has sent its report and reads no reply holds nothing that others need."""
    token = tmp_path / "token"
    token.touch()
    monkeypatch.setenv("FLOXIDE_FAILPOINTS", f"worker.report.sent=stop:{token}")
    with Coordinator(2, grace=0.0) as c:
        run = c.start(flows.Harm, flows.Plan(str(tmp_path)))
        eventually(lambda: run.metrics().completed == 6, "all but the one item that it was given")
        other = c.start(flows.Harm, flows.Plan(str(tmp_path)))
        assert other.wait(30).outputs == list(range(6))
        assert not token.exists()
        (stopped,) = (pid for pid in pids(c) if state(pid) == "T")
        os.kill(stopped, signal.SIGKILL)
        assert run.wait(30).outputs == list(range(6))
        assert run.metrics().retries == 0


# -- row 9 ---------------------------------------------------------------------------------------------------------


def test_row_09_workers_cannot_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        f"with open({str(tmp_path / 'starts')!r}, 'a') as file: file.write('1\\n')\n"
        "sys.stderr.write('no licence for this interpreter\\n'); sys.stderr.flush(); os._exit(3)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Coordinator(2) as c:
        run = c.start(flows.Harm, flows.Plan(str(tmp_path)))
        with pytest.raises(RunFailedError, match=r"workers cannot start.* exit code 3") as first:
            run.wait(30)
        cause = first.value.__cause__
        assert isinstance(cause, WorkerDiedError)
        assert sum(note.count("no licence for this interpreter") for note in cause.__notes__) == 1
        with pytest.raises(RunFailedError, match="workers cannot start"):
            c.start(flows.Harm, flows.Plan(str(tmp_path), count=3)).wait(30)
        with pytest.raises(RunFailedError, match="workers cannot start"):
            c.resume(flows.Harm, run.run_id).wait(30)
        assert c.workers() == []
    assert len(lines(tmp_path, "starts")) <= 2 + 3


def test_row_09_workers_that_die_of_what_their_first_call_brings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No item is begun, so none can be blamed; and their successors would do the same without end."""
    monkeypatch.setenv("FLOXIDE_FAILPOINTS", "worker.claimed=exit")
    with Coordinator(2) as c:
        with pytest.raises(RunFailedError, match=r"workers cannot start.* exit code 70"):
            c.start(flows.Harm, flows.Plan(str(tmp_path))).wait(30)
        assert c.workers() == []


def test_row_09_one_bad_start_is_made_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        f"try: os.unlink({str(tmp_path / 'token')!r})\n"
        "except FileNotFoundError: pass\n"
        "else: os._exit(3)\n"
    )
    (tmp_path / "token").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Coordinator(1) as c:
        assert c.start(flows.Harm, flows.Plan(str(tmp_path))).wait(30).outputs == list(range(6))
    assert not (tmp_path / "token").exists()


def test_row_09_workers_that_are_killed_as_they_come(tmp_path: Path) -> None:
    """Somebody outside does it: that is no reason to give up soon."""
    killed = 0
    with Coordinator(2) as c:
        run = c.start(flows.Harm, flows.Plan(str(tmp_path)))
        seen: set[int] = set()
        while killed < 8 and run.status is RunStatus.RUNNING:
            for worker in c.workers():
                if worker.pid not in seen:
                    seen.add(worker.pid)
                    os.kill(worker.pid, signal.SIGKILL)
                    killed += 1
        assert run.wait(30).outputs == list(range(6))


# -- rows 10-12: what an item does to its worker ---------------------------------------------------------------------


@pytest.mark.parametrize("how", ["exits", "killed"])
def test_row_10_poison(how: str, tmp_path: Path) -> None:
    plan = flows.Plan(str(tmp_path), how)
    seen = []
    with Coordinator(2) as c:
        run = c.start(flows.Poisoned, plan)
        with pytest.raises(RunFailedError, match=r"work .*attempt 3") as failed:
            seen.extend(run.stream())
        assert isinstance(failed.value.__cause__, WorkerDiedError)
        assert [error.attempt for error in run.errors()] == [1, 2, 3]
        assert sorted(seen) == list(range(plan.count - 1))  # and this process, which never looked into it, lives


def test_row_10_a_worker_ruined_before_it_can_report(tmp_path: Path) -> None:
    """The node closed its worker's connection and returned: the item is to blame, and others are not harmed."""
    with Coordinator(1) as c:
        other = c.start(flows.Harm, flows.Plan(str(tmp_path)))
        run = c.start(flows.HarmAll, flows.Plan(str(tmp_path), "closes_everything", count=1))
        assert run.wait(30).metrics.failed == 1
        assert [(e.type_name, e.node, e.attempt) for e in run.errors()] == [
            ("WorkerDiedError", "work", n) for n in (1, 2, 3)
        ]
        assert other.wait(30).outputs == list(range(6))
        assert c.start(flows.Harm, flows.Plan(str(tmp_path))).wait(30).outputs == list(range(6))


@pytest.mark.parametrize("how", ["fork_returns", "fork_exits", "fork_raises"])
def test_row_13_a_forked_child_is_no_second_worker(how: str, tmp_path: Path) -> None:
    with Coordinator(2) as c:
        result = c.start(flows.HarmAll, flows.Plan(str(tmp_path), how, count=8)).wait(30)
    assert result.outputs == list(range(8))
    assert result.metrics.retries == 0


@pytest.mark.parametrize(("how", "shown"), [("exits", "ended with exit code 0"), ("sys_exits", "SystemExit(0)")])
def test_row_11_leaves_with_code_0(how: str, shown: str, tmp_path: Path) -> None:
    plan = flows.Plan(str(tmp_path), how)
    with Coordinator(2) as c:
        result = c.start(flows.Harm, plan).wait(30)
    rest, mourned = parted(result.outputs)
    assert rest == others(plan)
    assert shown in mourned
    assert result.metrics.failed == 1


@pytest.mark.parametrize("how", ["segfaults", "overflows"])
def test_row_12_segmentation_fault(how: str, tmp_path: Path) -> None:
    plan = flows.Plan(str(tmp_path), how)
    with Coordinator(2) as c:
        run = c.start(flows.HarmOnce, plan)
        rest, mourned = parted(run.wait(30).outputs)
        (error,) = run.errors()
        assert rest == others(plan)
        assert "SIGSEGV" in mourned
        assert "SIGSEGV" in error.message
        assert "Fatal Python error: Segmentation fault" in error.traceback
        assert "flows_faults.py" in error.traceback


def test_row_12_the_cause_shows_the_trace(tmp_path: Path) -> None:
    with Coordinator(1, grace=0) as c, pytest.raises(RunFailedError, match="SIGSEGV") as failed:
        c.start(flows.Poisoned, flows.Plan(str(tmp_path), "segfaults", count=1)).wait(30)
    assert failed.value.__cause__ is not None
    assert any("Fatal Python error: Segmentation fault" in note for note in failed.value.__cause__.__notes__)


# -- row 13 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["leaves_a_fork", "leaves_a_program", "leaves_a_program_without_pipes"])
def test_row_13_a_grandchild_holds_the_pipes(how: str, tmp_path: Path) -> None:
    plan = flows.Plan(str(tmp_path), how)
    with Coordinator(2) as c:
        result = c.start(flows.Harm, plan).wait(30)
        assert result.outputs == list(range(plan.count))
        assert result.metrics.retries == 1
        (grandchild,) = lines(tmp_path, "grandchildren")
        eventually(lambda: not alive(grandchild), "the grandchild is ended")


def test_row_13_a_grandchild_that_escaped_holds_nothing_up(tmp_path: Path) -> None:
    plan = flows.Plan(str(tmp_path), "leaves_an_escaped_fork")
    try:
        with Coordinator(2) as c:
            assert c.start(flows.Harm, plan).wait(30).outputs == list(range(plan.count))
        (grandchild,) = lines(tmp_path, "grandchildren")
        assert alive(grandchild)  # it made itself a session of its own: it meant to
    finally:
        for pid in lines(tmp_path, "grandchildren"):
            os.kill(pid, signal.SIGKILL)


def test_row_13_grandchildren_are_ended_with_their_worker(tmp_path: Path) -> None:
    with Coordinator(2) as c:
        c.start(flows.Harm, flows.Plan(str(tmp_path), "leaves_both_and_lives")).wait(30)
        both = lines(tmp_path, "grandchildren")
        assert len(both) == 2
        assert all(map(alive, both))
    eventually(lambda: not any(map(alive, both)), "ended with the run")


# -- rows 17, 18, 21 -------------------------------------------------------------------------------------------------


def test_row_17_all_in_the_same_instant(tmp_path: Path) -> None:
    plan = flows.Plan(str(tmp_path), "waits_for_go", count=4)
    with Coordinator(3) as c:
        run = c.start(flows.HarmAll, plan)
        eventually(lambda: len(lines(tmp_path, "entered")) == 3, "all are in a node")
        before = pids(c)
        for pid in before:
            os.kill(pid, signal.SIGSTOP)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        (tmp_path / "go").touch()
        result = run.wait(30)
        assert result.outputs == [0, 1, 2, 3]
        assert result.metrics.retries == 3
        eventually(lambda: len(pids(c)) == 3, "all replaced")
        assert not set(before) & set(pids(c))


def test_row_07_row_18_reports_under_a_lease_that_is_over() -> None:
    """The scheduler itself, without processes: whoever comes late, or says it twice, changes nothing."""
    c = Coordinator(0, engine=lambda scheduler, count: _Nobody(scheduler))
    scheduler = c._scheduler
    run = c.start(flows.Harm, flows.Plan("/nowhere"))

    def enlist() -> int:
        session = scheduler.new_session_id()
        scheduler.register_session(session, session, StatusPage(memoryview(bytearray(SIZE))), os.getpid())
        return session

    late = enlist()
    (lease,) = scheduler.exchange(late, (), 1.0).leases
    held = (NEXT, ((0, b"never looked into"),), (), None, False)
    assert not scheduler.session_lost(late, lambda what: WorkerDiedError(what), "")  # it had begun nothing
    before = run.metrics()
    assert scheduler.exchange(late, (Report(lease.id, (held,), ()),), 1.0) == Reply((), True, 0.0, True)
    assert run.metrics() == before

    second = enlist()
    (again,) = scheduler.exchange(second, (), 1.0).leases
    assert [item_id for item_id, *_ in again.items] == [item_id for item_id, *_ in lease.items]
    report = Report(again.id, (held,), ())
    scheduler.exchange(second, (report,), 0.0)
    after = run.metrics()
    assert after.completed == 1
    scheduler.exchange(second, (report,), 0.0)
    scheduler.exchange(second, (Report(lease.id, (held,), ()),), 0.0)
    assert run.metrics() == after
    c.close()


class _Nobody:
    """An engine without workers."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def start(self) -> None: ...

    def wait(self, run_id: str, seen: int | None, timeout: float | None) -> bool:
        return self._scheduler.wait(run_id, seen, timeout)

    def workers(self) -> list[object]:
        return []

    def stop(self, grace: float) -> None:
        self._scheduler.stop()


@pytest.mark.parametrize("how", ["hangs_on", "holds_the_interpreter"])
def test_row_21_only_the_culprit_is_killed(how: str, tmp_path: Path) -> None:
    warm = flows.Plan(str(tmp_path), count=300)
    plan = flows.Plan(str(tmp_path), how, count=300, bad=150)
    with Coordinator(2) as c:
        c.start(flows.HarmTimed, warm).wait(30)  # now leases are of many items
        before = pids(c)
        run = c.start(flows.HarmTimed, plan)
        rest, mourned = parted(run.wait(30).outputs)
        (error,) = run.errors()
        assert rest == others(plan)
        assert mourned.startswith("150: NodeTimeoutError")
        assert error.type_name == NodeTimeoutError.__name__
        (culprit,) = lines(tmp_path, "entered")
        assert culprit in before
        assert not alive(culprit)
        assert set(before) - {culprit} <= set(pids(c))


def test_row_21_ended_too_late_to_be_the_culprit() -> None:
    """Between being found overdue and being killed, a worker may hand in its item and begin the next."""
    c = Coordinator(0, engine=lambda scheduler, count: _Nobody(scheduler))
    scheduler = c._scheduler
    run = c.start(flows.HarmTimed, flows.Plan("/nowhere"))
    status_page = StatusPage(memoryview(bytearray(SIZE)))
    session = scheduler.new_session_id()
    scheduler.register_session(session, 0, status_page, os.getpid())
    (lease,) = scheduler.exchange(session, (), 1.0).leases
    three = (NEXT_ALL, ((0, b"a"), (0, b"b"), (0, b"c")), (), None, False)
    (lease,) = scheduler.exchange(session, (Report(lease.id, (three,), ()),), 1.0).leases
    status_page.begin(lease.id)
    status_page.enter(0, time.monotonic_ns() - 60_000_000_000)
    ((found,), _) = scheduler.overdue()
    assert isinstance(found.error, NodeTimeoutError)
    done = (NEXT, ((0, b"never looked into"),), (), None, False)
    (after,) = scheduler.exchange(session, (Report(lease.id, (done,), ()),), 1.0).leases
    status_page.begin(after.id)
    status_page.enter(0, time.monotonic_ns())
    assert not scheduler.session_lost(session, lambda what: WorkerDiedError(what), "", found)
    assert run.errors() == []
    assert [item.attempt for item in run.pending_work()] == [1, 1]
    c.close()


def test_row_21_a_timeout_is_tried_again(tmp_path: Path) -> None:
    plan = flows.Plan(str(tmp_path), "hangs_once")
    with Coordinator(2) as c:
        result = c.start(flows.HarmTimedTwice, plan).wait(30)
    assert result.outputs == list(range(plan.count))
    assert result.metrics.retries == 1


def test_row_21_cancel_ends_a_worker_that_has_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its lease, and hangs while it imports the workflow."""
    (tmp_path / "hanging.py").write_text(
        "import os, time\nfrom floxide_mp import Workflow, node\n"
        f"if os.getpid() != {os.getpid()}: time.sleep(600)\n"
        "@node\ndef one(x): return x\n"
        "class Hanging(Workflow):\n    one = one\n    start = one\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    hanging = importlib.import_module("hanging")
    with Coordinator(2) as c:
        for _ in range(4):
            run = c.start(hanging.Hanging)
            run.cancel(0.1)
            with pytest.raises(RunCancelledError):
                run.wait(30)
    del sys.modules["hanging"]


def test_row_21_inline_a_timeout_is_told_late(tmp_path: Path) -> None:
    """Nobody can end a step in the caller's own thread, but the answer is the same."""
    with pytest.raises(RunFailedError) as failed:
        flows.Late().run(workers=0)
    assert isinstance(failed.value.__cause__, NodeTimeoutError)


def test_row_21_cancel_ends_what_runs_on(tmp_path: Path) -> None:
    with Coordinator(2) as c:
        run = c.start(flows.Harm, flows.Plan(str(tmp_path), "hangs_on"))
        eventually(lambda: lines(tmp_path, "entered"), "the node hangs")
        run.cancel(grace=0.1)
        eventually(lambda: run.status is RunStatus.CANCELLED, "cancelled")
        assert c.start(flows.Harm, flows.Plan(str(tmp_path))).wait(30).outputs == list(range(6))
