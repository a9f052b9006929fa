"""FAULTS rows 18-20: a worker is stopped, for a while or for ever; or everything is, and nobody is to blame."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from floxide_mp import Coordinator, RunStatus
from floxide_mp.coordinator import scheduler as schedulers
from floxide_mp.coordinator.scheduler import Scheduler
from floxide_mp.engines.processes import ProcessEngine
from floxide_mp.errors import NodeTimeoutError
from floxide_mp.messages import NEXT, NEXT_ALL, Reply, Report
from floxide_mp.wire.status_page import SIZE, StatusPage

from .. import flows_faults as flows
from .test_coordinator_dies import Script, scripts  # noqa: F401  # a fixture
from .test_worker_dies import _Nobody, alive, eventually, lines, others, parted, pids, state

SOON = partial(ProcessEngine, stall=0.3)
DONE = (NEXT, ((0, b"never looked into"),), (), None, False)


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: state(pid) == "T", "stopped")


def stalls(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if "stalled" in message]


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.WARNING, "floxide_mp"):
        yield


# -- rows 18 and 19: one worker is ---------------------------------------------------------------------------------


def test_row_19_stopped_in_the_node_for_ever(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plan = flows.Plan(str(tmp_path), "waits_for_go")
    with Coordinator(2, engine=SOON) as c:
        run = c.start(flows.Harm, plan, run_id="run19")
        eventually(lambda: lines(tmp_path, "entered"), "the node runs")
        (pid,) = lines(tmp_path, "entered")
        stop(pid)
        (tmp_path / "go").touch()
        result = run.wait(30)
        (error,) = run.errors()
        assert not alive(pid)
        eventually(lambda: len(pids(c)) == 2 and pid not in pids(c), "replaced")
    assert result.outputs == list(range(plan.count))
    assert list(result.context.done) == list(range(plan.count))
    assert result.metrics.retries == 1
    assert Counter(lines(tmp_path, "executed")) == Counter(range(plan.count)) + Counter([plan.bad])
    (line,) = stalls(caplog)
    assert line == error.message
    assert line == (
        f"worker {error.worker_id} (pid {pid}) stalled (stopped for 0.3 s) while it ran work"
        f" (run run19, item {error.item_id}, attempt 1)"
    )
    assert error.type_name == "WorkerDiedError"


def test_row_19_a_node_that_stops_its_worker_each_time(tmp_path: Path) -> None:
    """So a stall counts as an attempt, or this would go on for ever."""
    plan = flows.Plan(str(tmp_path), "stops")
    with Coordinator(2, engine=SOON) as c:
        run = c.start(flows.Harm, plan)
        rest, mourned = parted(run.wait(30).outputs)
    assert rest == others(plan)
    assert "stalled" in mourned
    assert [error.attempt for error in run.errors()] == [1, 2, 3]


def test_row_19_stopped_while_idle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The only worker, so that the run would wait for it for ever; nothing it has begun is to blame."""
    with Coordinator(1, engine=SOON) as c:
        c.start(flows.Harm, flows.Plan(str(tmp_path))).wait(30)
        (pid,) = pids(c)
        stop(pid)
        result = c.start(flows.Harm, flows.Plan(str(tmp_path))).wait(30)
        eventually(lambda: pids(c) not in ([], [pid]), "replaced")
    assert result.outputs == list(range(6))
    assert result.metrics.retries == 0
    assert stalls(caplog) == [f"worker 0 (pid {pid}) stalled (stopped for 0.3 s)"]


def test_row_18_stopped_before_it_could_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it had done is done again by others, and counts once: it never comes back to say so."""
    token = tmp_path / "token"
    token.touch()
    monkeypatch.setenv("FLOXIDE_FAILPOINTS", f"worker.report.unsent=stop:{token}")
    plan = flows.Plan(str(tmp_path))
    with Coordinator(2, engine=SOON) as c:
        before = pids(c)
        result = c.start(flows.Harm, plan).wait(30)
        assert not token.exists(), "nobody passed the point"
        assert sum(alive(pid) for pid in before) == 1
        for pid in before:
            if alive(pid):
                os.kill(pid, signal.SIGCONT)  # harms nobody
    assert result.outputs == list(range(plan.count))
    assert list(result.context.done) == list(range(plan.count))
    assert result.metrics.retries == 1
    assert result.metrics.completed == plan.count + 1


def test_row_18_continued_in_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plan = flows.Plan(str(tmp_path), "waits_for_go")
    with Coordinator(2, engine=partial(ProcessEngine, stall=60)) as c:
        run = c.start(flows.Harm, plan)
        eventually(lambda: lines(tmp_path, "entered"), "the node runs")
        (pid,) = lines(tmp_path, "entered")
        stop(pid)
        eventually(lambda: run.metrics().completed == plan.count, "the other does the rest")
        (tmp_path / "go").touch()
        os.kill(pid, signal.SIGCONT)
        result = run.wait(30)
        assert pid in pids(c)
    assert result.outputs == list(range(plan.count))
    assert result.metrics.retries == 0
    assert sorted(lines(tmp_path, "executed")) == list(range(plan.count))
    assert stalls(caplog) == []


def test_row_18_a_worker_that_is_not_ours_to_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its lease is revoked, the item runs elsewhere, and what it says when it is continued is refused."""
    with Coordinator(1, engine=SOON) as c, subprocess.Popen(["sleep", "600"]) as external:
        try:
            first = c.start(flows.HarmAll, flows.Plan(str(tmp_path), "waits_for_go", count=1))
            eventually(lambda: lines(tmp_path, "entered"), "our worker is busy")
            run = c.start(flows.Harm, flows.Plan(str(tmp_path)), run_id="run18")
            scheduler, status_page = c._scheduler, StatusPage(memoryview(bytearray(SIZE)))
            session = scheduler.new_session_id()
            scheduler.register_session(session, 7, status_page, external.pid)
            (lease,) = scheduler.exchange(session, (), 1.0).leases
            status_page.begin(lease.id)
            status_page.enter(0, time.monotonic_ns())
            stop(external.pid)
            eventually(lambda: stalls(caplog), "given up")
            (tmp_path / "go").touch()
            assert first.wait(30).outputs == [0]
            assert run.wait(30).outputs == list(range(6))
            os.kill(external.pid, signal.SIGCONT)
            before = run.metrics()
            assert scheduler.exchange(session, (Report(lease.id, (DONE,), ()),), 1.0) == Reply((), True, 0.0, True)
            assert run.metrics() == before
            assert before.retries == 1, "it may have done half of it"
            assert [worker.worker_id for worker in c.workers()] == [0]
        finally:
            external.kill()
    (line,) = stalls(caplog)
    what = f"spread (run run18, item {lease.items[0][0]}, attempt 1)"
    assert line == f"worker 7 (pid {external.pid}) stalled (stopped for 0.3 s) while it ran {what}"


# -- row 20: everything is -----------------------------------------------------------------------------------------

PATIENT = """
import os
from pathlib import Path
from floxide_mp import Coordinator
from floxide_mp.engines.processes import ProcessEngine
from tests import flows_faults as flows

def engine(ledger, count):
    made = ProcessEngine(ledger, count, stall=3)
    made._look_every = 0.1
    return made

folder = os.environ["FOLDER"]
with Coordinator(2, engine=engine) as c:
    run = c.start(flows.HarmAllPatient, flows.Plan(folder, "waits_for_go", count=2), timeout=4.0)
    result = run.wait(60)
    Path(folder, "result.tmp").write_text(repr((result.outputs, result.metrics.retries, run.errors())))
    os.rename(f"{folder}/result.tmp", f"{folder}/result")
"""


def naps(pid: int) -> dict[str, int]:
    """How often each of its threads has gone to sleep."""
    found = {}
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        found[status.parent.name] = int(status.read_text().partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return found


def test_row_20_everything_is_stopped(tmp_path: Path, scripts: list[Script]) -> None:  # noqa: F811
    """For longer than a stall, the nodes' time-out and the run's may be; the coordinator is the first to wake."""
    script = Script(tmp_path, PATIENT)
    scripts.append(script)
    eventually(lambda: len(lines(tmp_path, "entered")) == 2, "both nodes run")
    begun = time.monotonic()
    coordinator, workers = script.process.pid, lines(tmp_path, "entered")
    stop(coordinator)
    for pid in workers:
        stop(pid)
    eventually(lambda: time.monotonic() > begun + 5.0, "all that could be too long is")
    before = naps(coordinator)
    os.kill(coordinator, signal.SIGCONT)

    def rounds() -> int:
        """Of its supervisor, which is the one that does not just go on waiting."""
        return max(count - before[thread] for thread, count in naps(coordinator).items())

    eventually(lambda: rounds() > 5, "it has looked at them while they are still stopped")
    for pid in workers:
        os.kill(pid, signal.SIGCONT)
    (tmp_path / "go").touch()
    eventually((tmp_path / "result").exists, "the run completes")
    assert (tmp_path / "result").read_text() == repr(([0, 1], 0, []))
    assert script.process.wait(30) == 0


class Clock:
    """The scheduler's clocks, moved on by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ahead = self._used = 0.0
        monkeypatch.setattr(schedulers, "monotonic", lambda: time.monotonic() + self._ahead)
        monkeypatch.setattr(schedulers, "process_time", lambda: self._used)

    def stopped(self, seconds: float) -> None:
        self._ahead += seconds

    def computed(self, seconds: float) -> None:
        self._ahead += seconds
        self._used += seconds

    @property
    def now(self) -> int:
        return time.monotonic_ns() + int(self._ahead * 1e9)


def at_work(scheduler: Scheduler, status_page: StatusPage, clock: Clock) -> int:
    """A session that has begun the first of the two steps that a run's first one led to."""
    session = scheduler.new_session_id()
    scheduler.register_session(session, 0, status_page, os.getpid())
    (lease,) = scheduler.exchange(session, (), 1.0).leases
    spread = (NEXT_ALL, ((0, b"a"), (0, b"b")), (), None, False)
    (lease,) = scheduler.exchange(session, (Report(lease.id, (spread,), ()),), 1.0).leases
    status_page.begin(lease.id)
    status_page.enter(0, clock.now)
    return session


def test_row_20_no_time_passes_for_what_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler itself: time-outs of node and run, and the grace of one that is cancelled."""
    clock = Clock(monkeypatch)
    c = Coordinator(0, engine=lambda scheduler, count: _Nobody(scheduler))
    scheduler, status_page = c._scheduler, StatusPage(memoryview(bytearray(SIZE)))
    run = c.start(flows.HarmAllPatient, flows.Plan("/nowhere"), timeout=5.0)  # its node has 3 seconds
    session = at_work(scheduler, status_page, clock)
    for _ in range(3):
        assert scheduler.overdue(2.0)[0] == []
        clock.stopped(60.0)
    scheduler.exchange(session, (), 0.0)  # its call may be the first to be heard after that
    found, again = scheduler.overdue(60.0)
    assert found == []
    assert again is not None
    assert 0 < again < 3
    assert run.status is RunStatus.RUNNING

    clock.stopped(3.0)  # in time for the next look, and so it counts
    ((late,), _) = scheduler.overdue(2.0)
    assert isinstance(late.error, NodeTimeoutError)
    run.cancel(grace=2.0)
    status_page.enter(1, clock.now)
    scheduler.overdue(2.0)
    clock.stopped(60.0)
    found, again = scheduler.overdue(2.0)
    assert (found, run.status) == ([], RunStatus.CANCELLING)
    c.close()


def test_row_21_a_caller_that_computes_does_not_stop_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it holds the interpreter lock nobody looks, but the nodes run on."""
    clock = Clock(monkeypatch)
    c = Coordinator(0, engine=lambda scheduler, count: _Nobody(scheduler))
    scheduler, status_page = c._scheduler, StatusPage(memoryview(bytearray(SIZE)))
    c.start(flows.HarmTimed, flows.Plan("/nowhere"))
    at_work(scheduler, status_page, clock)
    assert scheduler.overdue(2.0)[0] == []
    clock.computed(60.0)
    ((late,), _) = scheduler.overdue(2.0)
    assert isinstance(late.error, NodeTimeoutError)
    c.close()
