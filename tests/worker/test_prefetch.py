"""Leases that are taken in advance: what is done is not held back by the one that is worked on next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from floxide_mp import Context, Coordinator, NextAll, Run, RunStatus, Workflow, node
from floxide_mp.coordinator import scheduler as schedulers
from floxide_mp.coordinator.scheduler import Scheduler
from floxide_mp.core.records import EventRecord
from floxide_mp.messages import Description, Reply, Report
from floxide_mp.wire.status_page import SIZE, StatusPage
from floxide_mp.worker.worker import FLOOR, Worker

WORKING: Worker | None = None
HELD: list[int] = []  # reports that were not sent when a step was begun
RUNS: list[Run] = []
SEEN: list[bool] = []  # ``ctx.cancelled``


@node
def numbers(count: int) -> NextAll[int]:
    return NextAll(range(count))


@node
def look(number: int) -> int:
    assert WORKING is not None
    HELD.append(len(WORKING._reports))
    return number


class Looked(Workflow):
    numbers, look = numbers, look
    start = numbers
    edges = {numbers: [look]}


@node
def stop(ctx: Context, number: int) -> int:
    assert WORKING is not None
    if WORKING._posted and not SEEN:
        RUNS[-1].cancel(grace=1e6)
        SEEN.append(ctx.cancelled)
    return number


class Stopped(Workflow):
    numbers, stop = numbers, stop
    start = numbers
    edges = {numbers: [stop]}


class Near:
    """A ``ports.Line`` to a scheduler in this process."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.posts: list[float] = []
        self.replies: list[Reply] = []

    def exchange(self, session: int, reports: Sequence[Report], want: float) -> Reply:
        assert not self.replies
        return self.scheduler.exchange(session, reports, want)

    def submit(self, session: int, reports: Sequence[Report], want: float) -> None:
        assert not self.replies
        self.posts.append(want)
        self.replies.append(self.scheduler.exchange(session, reports, want, busy=True))

    def receive(self) -> Reply:
        return self.replies.pop()

    def describe(self, run_id: str, known: Sequence[bytes]) -> Description:
        assert not self.replies
        return self.scheduler.describe(run_id, known)

    def events(self, run_id: str, since: int) -> Sequence[EventRecord]:
        assert not self.replies
        return self.scheduler.events(run_id, since)


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Coordinator, Near, Worker]]:
    """A worker in this thread that takes leases in advance."""
    monkeypatch.setattr(schedulers, "PLENTY", 0.001)
    monkeypatch.setattr(Worker, "_watch", lambda *_: None)  # there is no thread that tells early
    with Coordinator(0) as coordinator:
        scheduler, status_page = coordinator._scheduler, StatusPage(memoryview(bytearray(SIZE)))
        session = scheduler.new_session_id()
        scheduler.register_session(session, 1, status_page, 0)
        line = Near(scheduler)
        worker = Worker(session, line, status_page, scheduler.bundles)
        worker._inline = True  # the clock of a loaded machine must not choose how much is asked for
        worker._want = FLOOR
        monkeypatch.setattr(f"{__name__}.WORKING", worker)
        yield coordinator, line, worker


def test_nothing_is_held_back_while_the_next_lease_is_worked_on(near: tuple[Coordinator, Near, Worker]) -> None:
    coordinator, line, worker = near
    HELD.clear()
    run = coordinator.start(Looked, 3000)
    while worker.run_once().leases or run.progress().get("look", 0) < 3000:
        pass
    worker.hand_in()
    assert run.wait().outputs == list(range(3000))
    assert len(line.posts) > 3, "nothing was taken in advance"
    assert set(HELD) == {0}


def test_a_step_is_told_to_stop_though_another_lease_waits_behind_it(near: tuple[Coordinator, Near, Worker]) -> None:
    coordinator, _, worker = near
    SEEN.clear()
    RUNS[:] = [coordinator.start(Stopped, 3000)]
    while not SEEN:
        worker.run_once()
    worker.hand_in()
    assert SEEN == [True]
    assert RUNS.pop().status is RunStatus.CANCELLED
