"""Whether workers can be counted on: ``coordinator.workers(threshold)``, and what it is decided from."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import (
    Context,
    Coordinator,
    LivenessStatus,
    RetryPolicy,
    SQLiteStore,
    WorkerHealth,
    WorkerStatus,
    Workflow,
    node,
)
from floxide_mp.coordinator import active_run, run_registry
from floxide_mp.coordinator import coordinator as coordinators
from floxide_mp.coordinator import scheduler as schedulers
from floxide_mp.coordinator.leases import Session, stalled
from floxide_mp.coordinator.liveness import LATE, Look, SuspendDetector, last_sign, liveness
from floxide_mp.coordinator.scheduler import Scheduler
from floxide_mp.core.graph import Graph, NodeSpec
from floxide_mp.core.plan import Plan
from floxide_mp.core.transitions import Phase
from floxide_mp.engines import health
from floxide_mp.engines.processes import ProcessEngine
from floxide_mp.ports import RunRecord
from floxide_mp.stores.memory import MemoryStore
from floxide_mp.stores.sqlite.clock_conversion import Clocks
from floxide_mp.wire.status_page import SIZE, StatusPage

from .. import flows_faults as flows
from ..faults.test_worker_dies import eventually, lines, pids, state

ALIVE, STALE, DEAD = LivenessStatus
AT_ONCE = 1e-9  # a threshold that only a worker passes that is seen to be able to run by the very look


def of(pid: int, workers: list[WorkerHealth]) -> WorkerHealth:
    (worker,) = (worker for worker in workers if worker.pid == pid)
    return worker


# -- what is decided, and from what --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "threshold", "status"),
    [
        (0.0, 30.0, ALIVE),
        (29.999, 30.0, ALIVE),
        (30.0, 30.0, STALE),
        (89.999, 30.0, STALE),
        (90.0, 30.0, DEAD),
        (1e9, 30.0, DEAD),
        (1e9, math.inf, ALIVE),
        (0.0, AT_ONCE, ALIVE),
        (0.001, AT_ONCE, DEAD),
        (0.0, 0.0, DEAD),
    ],
)
def test_liveness(age: float, threshold: float, status: LivenessStatus) -> None:
    assert liveness(age, threshold) is status


@pytest.mark.parametrize(
    ("found", "ticks", "seen"),
    [
        ("R", 7, 20.0),
        ("S", 7, 20.0),  # what it waits for is its affair
        ("D", 7, 20.0),
        ("T", 7, 5.0),
        ("t", 7, 5.0),
        ("Z", 7, 5.0),
        ("X", 0, 5.0),
        ("T", 8, 10.0),  # it has run since the look before, and was stopped again
        ("t", 8, 10.0),
        ("Z", 8, 5.0),
    ],
)
def test_signs_of_life(found: str, ticks: int, seen: float) -> None:
    before = Look.after(None, 10.0, "T", 7)
    assert last_sign(5.0, before, Look.after(before, 20.0, found, ticks)) == seen


def test_the_first_look_and_a_call_that_came_later() -> None:
    assert last_sign(5.0, None, Look.after(None, 20.0, "T", 7)) == 5.0
    assert last_sign(20.1, None, Look.after(None, 20.0, "R", 7)) == 20.1


@pytest.mark.parametrize(
    ("looks", "called", "found"),
    [
        ([(0, "T", 7), (10, "T", 7)], -1, True),
        ([(0, "T", 7), (5, "T", 7), (9.9, "T", 7)], -1, False),
        ([(10, "T", 7)], -60, False),  # nobody knows how long already
        ([(0, "R", 7), (10, "T", 7)], -1, False),
        ([(0, "T", 7), (5, "R", 7), (10, "T", 7)], -1, False),
        ([(0, "T", 7), (5, "T", 8), (10, "T", 8)], -1, False),  # it ran in between
        ([(0, "T", 7), (5, "T", 8), (15, "T", 8)], -1, True),
        ([(0, "T", 7), (10, "T", 7)], 5, False),  # it called in between
        ([(0, "t", 7), (1000, "t", 7)], -1, False),  # somebody debugs it
        ([(0, "Z", 7), (1000, "Z", 7)], -1, False),  # its pidfd tells of that
        ([], -1, False),
    ],
)
def test_row_19_what_is_a_stall(looks: list[tuple[float, str, int]], called: float, found: bool) -> None:
    worker = session(seen=100.0 + called)
    for at, kernel, ticks in looks:
        worker.look = Look.after(worker.look, 100.0 + at, kernel, ticks)
    late = stalled(worker, 10.0)
    assert (late is not None) == found
    assert late is None or (late.session, late.error, late.why) == (3, None, "stalled (stopped for 10 s)")


def session(seen: float) -> Session:
    return Session(3, 0, StatusPage(memoryview(bytearray(SIZE))), 1, seen=seen)


def test_row_20_time_that_nobody_could_look() -> None:
    attention = SuspendDetector()
    assert attention.missed(1e9, 0.0) == 0.0  # nobody has promised to look
    attention.expect(100.0, 50.0, within=2.0)
    assert attention.missed(102.0 + LATE, 50.0) == 0.0  # a little late
    assert attention.missed(160.0, 50.5) == 59.5  # it was stopped, but for what it computed
    assert attention.missed(160.1, 50.5) == 0.0, "only once"
    attention.expect(200.0, 60.0, within=2.0)
    assert attention.missed(260.0, 120.0) == 0.0  # a thread of the caller's held the interpreter lock
    attention.expect(300.0, 60.0, within=2.0)
    assert attention.missed(310.0, 99.0) == 0.0  # ... and more threads computed
    attention.expect(400.0, 60.0, within=math.inf)
    assert attention.missed(1e9, 60.0) == 0.0


def test_row_20_what_is_spared() -> None:
    """Silence, a stall and the time of what it is at; but not of what it begins later."""
    worker = session(seen=95.0)
    worker.look = Look.after(Look.after(None, 96.0, "T", 7), 98.0, "T", 7)
    worker.status_page.begin(1)
    worker.status_page.enter(0, 90)
    worker.extend_deadlines(60.0, 160.0)
    worker.extend_deadlines(5.0, 170.0)
    assert worker.seen == 160.0
    assert worker.look == (98.0, "T", 7, 161.0)
    assert worker.spared_at(worker.status_page.at()) == 65.0
    worker.status_page.enter(1, 171)
    assert worker.spared_at(worker.status_page.at()) == 0.0
    worker.extend_deadlines(1.0, 172.0)
    assert worker.spared_at(worker.status_page.at()) == 1.0
    worker.extend_deadlines(1e9, 180.0)
    assert worker.seen == 180.0


def test_row_20_what_began_since_is_granted_no_more_than_it_has_taken() -> None:
    """It began after the stop, and before anybody had noticed that."""
    worker = session(seen=95.0)
    worker.status_page.begin(1)
    worker.status_page.enter(0, 3_699_000_000_000)
    worker.extend_deadlines(3600.0, 3700.0)
    assert worker.spared_at(worker.status_page.at()) == 1.0
    worker.status_page.enter(1, 3_760_000_000_000)  # it still imports its workflow
    worker.extend_deadlines(3600.0, 3701.0)
    assert worker.spared_at(worker.status_page.at()) == 0.0


def test_row_20_a_run_that_is_paused_before_anybody_noticed_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    for module in (run_registry, schedulers):
        monkeypatch.setattr(module, "monotonic", lambda: now)
    graph = Graph("one", (NodeSpec("node"),), 0)
    record = RunRecord("run", "one", b"", b"", b"", b"input", 0, 0.0, 30.0, False, {}, ("node",), ())
    scheduler = Scheduler(MemoryStore(), 0.0)
    scheduler.register_session(scheduler.new_session_id(), 0, StatusPage(memoryview(bytearray(SIZE))), 0)
    scheduler.create(record, Plan(graph))
    scheduler.overdue(within=2.0)
    now = 160.0
    scheduler.pause("run")
    scheduler.resume("run")
    scheduler.overdue(within=2.0)
    assert scheduler.read("run", lambda run, store: run.decided.phase) is Phase.RUNNING


# -- on real processes ---------------------------------------------------------------------------------------------


@pytest.fixture
def stopped() -> Iterator[list[int]]:
    """Processes that a test has stopped, and that may be there when it fails."""
    found: list[int] = []
    yield found
    for pid in found:
        if state(pid) == "T":
            os.kill(pid, signal.SIGCONT)


def test_idle_workers_are_alive(tmp_path: Path) -> None:
    with Coordinator(2) as c:
        c.start(flows.Harm, flows.Plan(str(tmp_path))).wait(30)
        before = time.time()
        workers = c.workers(AT_ONCE)
        after = time.time()
    assert [worker.liveness for worker in workers] == [ALIVE, ALIVE]
    assert all(before <= worker.last_heartbeat <= after for worker in workers)
    assert {worker.status for worker in workers} <= {WorkerStatus.IDLE, WorkerStatus.STARTING}


def test_row_44_a_node_that_holds_the_interpreter_lock_is_a_sign_of_life(tmp_path: Path) -> None:
    """Nothing in that process could send a heartbeat."""
    with Coordinator(2, grace=0) as c:
        c.start(flows.Harm, flows.Plan(str(tmp_path), "holds_the_interpreter"))
        eventually(lambda: lines(tmp_path, "entered"), "the node runs")
        (pid,) = lines(tmp_path, "entered")
        worker = of(pid, c.workers(AT_ONCE))
        assert worker.liveness is ALIVE
        assert worker.status is WorkerStatus.BUSY
        assert worker.current_work_item is not None


def test_a_stopped_worker_is_not_alive(tmp_path: Path, stopped: list[int]) -> None:
    with Coordinator(2, engine=partial(ProcessEngine, stall=math.inf)) as c:
        run = c.start(flows.HarmAll, flows.Plan(str(tmp_path), "waits_for_go", count=1))
        eventually(lambda: lines(tmp_path, "entered"), "the node runs")
        (pid,) = stopped[:] = lines(tmp_path, "entered")
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda: state(pid) == "T", "stopped")
        before = time.time()
        workers = c.workers(AT_ONCE)
        sick = of(pid, workers)
        assert sick.liveness is DEAD
        assert sick.status is WorkerStatus.STOPPED
        assert sick.current_work_item_run_id == run.run_id
        assert sick.last_heartbeat <= before
        assert [worker.liveness for worker in workers if worker.pid != pid] == [ALIVE]
        assert of(pid, c.workers()).liveness is ALIVE, "for thirty seconds it may be anything"
        assert of(pid, c.workers(math.inf)).last_heartbeat == pytest.approx(sick.last_heartbeat, abs=0.1)
        os.kill(pid, signal.SIGCONT)
        eventually(lambda: state(pid) != "T", "continued")
        assert of(pid, c.workers(AT_ONCE)).liveness is ALIVE
        (tmp_path / "go").touch()
        assert run.wait(30).outputs == [0]
        assert pid in pids(c)


def test_looks_though_nobody_asks(tmp_path: Path) -> None:
    """So it is known, afterwards too, when a worker was stopped."""
    with Coordinator(1, engine=partial(ProcessEngine, stall=0.5), grace=0) as c:
        c.start(flows.HarmAll, flows.Plan(str(tmp_path), "hangs_on", count=1))
        eventually(lambda: lines(tmp_path, "entered"), "the node runs")

        def seen() -> tuple[float, int]:
            ((when, calls),) = c._scheduler.look_at_workers(lambda worker: (worker.seen, worker.calls))
            return when, calls

        first, calls = seen()
        eventually(lambda: seen()[0] > first, "a look")
        assert seen()[1] == calls


def test_row_43_the_clock_on_the_wall_jumps(stopped: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    with Coordinator(1, engine=partial(ProcessEngine, stall=math.inf)) as c:
        (pid,) = stopped[:] = pids(c)
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda: state(pid) == "T", "stopped")
        for jump in (7200, -7200):
            monkeypatch.setattr(health, "time", lambda jump=jump: time.time() + jump)
            assert of(pid, c.workers(3600)).liveness is ALIVE
            assert of(pid, c.workers(AT_ONCE)).liveness is DEAD
            assert c.workers()[0].last_heartbeat == pytest.approx(time.time() + jump, abs=60)  # as clocks show it now
        os.kill(pid, signal.SIGCONT)


@node(retry=RetryPolicy(max_attempts=2, initial_backoff=0.3, jitter=0.0), timeout=20.0)
def fails_once(ctx: Context) -> float:
    now = time.monotonic()
    if ctx.item.attempt == 1:
        raise ValueError(now)
    return now


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("hours", [2, -2])
def test_row_43_nothing_of_a_run_goes_by_the_clock_on_the_wall(
    workers: int, hours: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It jumps whenever it is looked at; a time-out, a back-off and the run's own time-out do not notice."""
    seen = [time.time()]

    def jumping() -> float:
        seen.append(seen[-1] + 3600 * hours)
        return seen[-1]

    for module in (coordinators, run_registry, active_run, health):
        monkeypatch.setattr(module, "time", jumping)
    store = SQLiteStore(tmp_path / "runs.db", clocks=Clocks(time.monotonic, jumping))
    with Coordinator(workers, store) as c:
        run = c.start(Workflow.build("Once", {"fails": fails_once}, start="fails"), timeout=40.0)
        second = run.wait(30).output
        (error,) = run.errors()
        info = run.info()
    store.close()
    assert error.type_name == "ValueError" and info.metrics.retries == 1 and len(seen) > 3
    assert second - float(error.message) >= 0.3
    assert info.finished_at is not None and info.finished_at >= info.started_at


def test_a_worker_starts_is_idle_and_is_busy(tmp_path: Path) -> None:
    with Coordinator(1, grace=0) as c:
        (pid,) = pids(c)
        with subprocess.Popen(["sleep", "600"]) as external:  # it never calls; our own may have called already
            c._scheduler.register_session(
                c._scheduler.new_session_id(), 7, StatusPage(memoryview(bytearray(SIZE))), external.pid
            )
            assert of(external.pid, c.workers()).status is WorkerStatus.STARTING
            external.kill()
        eventually(lambda: of(pid, c.workers()).status is WorkerStatus.IDLE, "it waits for work")
        c.start(flows.Harm, flows.Plan(str(tmp_path), "holds_the_interpreter"))
        eventually(lambda: lines(tmp_path, "entered"), "the node runs")
        assert of(pid, c.workers()).status is WorkerStatus.BUSY


def test_the_inline_worker_is_the_caller(tmp_path: Path) -> None:
    with Coordinator(0) as c:
        before = time.time()
        (worker,) = c.workers(AT_ONCE)
        assert (worker.worker_id, worker.pid, worker.liveness) == (0, os.getpid(), ALIVE)
        assert worker.status is WorkerStatus.IDLE
        assert before <= worker.last_heartbeat <= time.time()
        c.start(flows.Harm, flows.Plan(str(tmp_path))).wait()
        (worker,) = c.workers(AT_ONCE)
        assert (worker.liveness, worker.status, worker.current_work_item) == (ALIVE, WorkerStatus.IDLE, None)


def test_any_session_with_a_pid(stopped: list[int]) -> None:
    """A worker's process need not be one that we started; one that is gone gives no sign of life."""
    with Coordinator(1) as c, subprocess.Popen(["sleep", "600"]) as external:
        try:
            c._scheduler.register_session(
                c._scheduler.new_session_id(), 7, StatusPage(memoryview(bytearray(SIZE))), external.pid
            )
            assert of(external.pid, c.workers(AT_ONCE)).liveness is ALIVE
            stopped.append(external.pid)
            os.kill(external.pid, signal.SIGSTOP)
            eventually(lambda: state(external.pid) == "T", "stopped")
            assert of(external.pid, c.workers(AT_ONCE)).liveness is DEAD
            assert [worker.worker_id for worker in c.workers()] == [0, 7]
        finally:
            external.kill()
        external.wait()
        assert of(external.pid, c.workers(AT_ONCE)).liveness is DEAD
        assert of(external.pid, c.workers()).liveness is ALIVE


@pytest.mark.parametrize("threshold", [-1, "1", True, None, math.nan])
def test_row_62_a_threshold_that_is_none(threshold: Any) -> None:
    with Coordinator(0) as c, pytest.raises(ValueError, match="threshold must be seconds"):
        c.workers(threshold)
