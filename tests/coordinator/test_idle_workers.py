"""What idle workers have been woken for is left to them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from floxide_mp import Coordinator, NextAll, Workflow, node
from floxide_mp.wire.status_page import SIZE, StatusPage
from floxide_mp.worker.worker import Worker
from tests.flows_run import until

LIMIT = 40.0


@node
def numbers(count: int) -> NextAll[int]:
    return NextAll(list(range(count)))


@node
def same(number: int) -> int:
    return number


class Branches(Workflow):
    numbers, same = numbers, same
    start = numbers
    edges = {numbers: [same]}


@pytest.fixture
def coordinator() -> Iterator[Coordinator]:
    with Coordinator(0) as made:
        yield made


def worker(coordinator: Coordinator, number: int) -> Worker:
    """One in this thread, that takes leases of one item."""
    scheduler, status_page = coordinator._scheduler, StatusPage(memoryview(bytearray(SIZE)))
    session = scheduler.new_session_id()
    scheduler.register_session(session, number, status_page, 0)
    return Worker(session, scheduler, status_page, scheduler.bundles, want=1e-6)


@pytest.mark.parametrize(
    ("branches", "taken"),
    [
        (2, [1, 1, 0, 1]),  # the branch that is left is the idle worker's
        (3, [1, 1, 1, 0, 1]),  # one of two is
    ],
)
def test_row_148_a_worker_that_is_quick_leaves_idle_ones_their_items(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch, branches: int, taken: list[int]
) -> None:
    """Here the idle one is woken and never comes, so the quick one takes its item all the same: when it asks again."""
    scheduler = coordinator._scheduler
    quick, idle = worker(coordinator, 1), worker(coordinator, 2)
    waiting = threading.Thread(target=idle.run_once)
    waiting.start()
    until(lambda: scheduler._idle == 1)
    monkeypatch.setattr(scheduler._work, "notify", lambda count=1: None)
    run = coordinator.start(Branches, branches)
    found = [len(quick.run_once().leases) for _ in taken]
    quick.hand_in()
    assert found == taken
    assert sorted(run.wait(LIMIT).outputs) == list(range(branches))
    monkeypatch.undo()
    scheduler.stop()
    waiting.join(LIMIT)
    assert scheduler._idle == 0


def test_where_nobody_is_idle_nothing_is_left(coordinator: Coordinator) -> None:
    quick, _ = worker(coordinator, 1), worker(coordinator, 2)
    run = coordinator.start(Branches, 2)
    assert [len(quick.run_once().leases) for _ in range(3)] == [1, 1, 1]
    quick.hand_in()
    assert run.wait(LIMIT).outputs == [0, 1]
