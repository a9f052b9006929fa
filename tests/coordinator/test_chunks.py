"""Fan-outs as blocks: each item is one of its own all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from floxide_mp import Coordinator, Run, Workflow
from floxide_mp.messages import Grants
from floxide_mp.wire.status_page import SIZE, StatusPage
from floxide_mp.worker.worker import FLOOR, Worker
from tests import flows_ahead as flows
from tests.conftest import LIMIT
from tests.flows_run import until

COUNT = 10_000


def facts(run: Run) -> tuple[Any, ...]:
    """All that must not depend on who did the work; of deaths, nothing."""
    result = run.wait(LIMIT)
    errors = sorted((e.node, e.attempt, e.type_name, e.message) for e in run.errors())
    lived = [error for error in errors if error[2] != "WorkerDiedError"]
    metrics = result.metrics
    counts = metrics.total_work_items, metrics.completed, metrics.failed
    return result.outputs, list(result.context.log), lived, counts, run.progress(), run.work_items(), run.status


OneProcess = dict[type[Workflow], tuple[Any, ...]]


@pytest.fixture(scope="module")
def one_process(inline: Coordinator) -> OneProcess:
    return {workflow: facts(inline.start(workflow, flows.Many(COUNT))) for workflow in (flows.FanOut, flows.Collected)}


@pytest.mark.parametrize("workflow", [flows.FanOut, flows.Collected])
def test_a_fan_out_in_which_all_sorts_of_things_happen(
    one_process: OneProcess, processes: Coordinator, workflow: type[Workflow]
) -> None:
    expected = one_process[workflow]
    assert len(expected[1]) > 100
    assert len(expected[2]) > 50
    run = processes.start(workflow, flows.Many(COUNT))
    assert facts(run) == expected
    if workflow is flows.FanOut:
        assert set(run.wait().workers) <= {0, 1}


def test_workers_die_in_the_middle_of_blocks(one_process: OneProcess, tmp_path: Path) -> None:
    expected = one_process[flows.FanOut]
    with Coordinator(2) as c:
        run = c.start(flows.FanOut, flows.Many(COUNT, str(tmp_path)))
        assert facts(run) == expected
        died = [(e.node, e.attempt, e.item_id) for e in run.errors() if e.type_name == "WorkerDiedError"]
    victims = [number for number in range(COUNT) if number % 2503 == 100]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"item{number}" for number in victims)
    assert len(set(died)) == len(died)
    assert {(node, attempt) for node, attempt, _ in died} <= {("work", 1)}
    assert len(died) == len(victims), "each is blamed where it is, with nobody ahead of it"


def test_the_values_come_as_they_are_made(processes: Coordinator, one_process: OneProcess) -> None:
    expected = one_process[flows.FanOut][0]
    streamed = list(processes.start(flows.FanOut, flows.Many(COUNT)).stream())
    assert sorted(map(str, streamed)) == sorted(map(str, expected))


def test_a_block_of_one_is_run_without_a_second_thread() -> None:
    """Its node may fork."""
    with Coordinator(0) as coordinator:
        scheduler, status_page = coordinator._scheduler, StatusPage(memoryview(bytearray(SIZE)))
        session = scheduler.new_session_id()
        scheduler.register_session(session, 1, status_page, 0)
        worker = Worker(session, scheduler, status_page, scheduler.bundles, FLOOR)
        run = coordinator.start(flows.Doubled, 20)
        worker.run_once()
        (lease,) = worker.run_once().leases
        assert [(type(part), len(part.payloads)) for part in lease.items] == [(Grants, 1)]
        assert worker._teller is None
        worker.hand_in()
        assert run.progress() == {"numbers": 1, "double": 1}


def test_a_block_on_disk_is_resumed(one_process: OneProcess, tmp_path: Path) -> None:
    """Some of it is done, some of it is leased when its coordinator closes."""
    expected = one_process[flows.Collected]
    path = tmp_path / "runs.db"
    with Coordinator(2, store=path) as c:
        run = c.start(flows.Collected, flows.Many(COUNT), run_id="x")
        until(lambda: run.metrics().completed > COUNT // 3)
    with Coordinator(2, store=path) as c:
        assert facts(c.resume(flows.Collected, "x")) == expected
