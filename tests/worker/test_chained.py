"""Workers that go on with the successor by themselves: nothing of what a user sees is another for it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from floxide_mp import (
    Coordinator,
    RetryPolicy,
    Run,
    RunCancelledError,
    RunFailedError,
    RunStatus,
    WorkerDiedError,
    WorkItemStatus,
)
from floxide_mp.engines.processes import ProcessEngine
from tests import flows_ahead as flows
from tests.conftest import LIMIT, Both
from tests.flows_run import Gate, until


@contextmanager
def fewer_leases(coordinator: Coordinator, steps: int) -> Iterator[None]:
    """Steps were run ahead: there are fewer leases than steps."""
    before = coordinator._scheduler._numbers
    yield
    assert coordinator._scheduler._numbers - before < steps, "the sample shows nothing: nobody has gone ahead"


def test_a_chain(both: Both, processes: Coordinator) -> None:
    with fewer_leases(processes, 200):
        run = both(flows.chain(200), 0)
    assert run.wait(LIMIT).output == 200
    assert list(run.context().log) == list(range(200))


@pytest.mark.parametrize("deadly", [1, 7, 30])
@pytest.mark.parametrize("how", ["dies", "exits"])
def test_who_ends_a_worker_ahead_is_blamed_by_name(how: str, deadly: int, tmp_path: Path) -> None:
    with Coordinator(2) as c:
        run = c.start(flows.chain(40, {deadly: how}, tmp_path), 0)
        with pytest.raises(RunFailedError, match="WorkerDiedError") as caught:
            run.wait(LIMIT)
        assert isinstance(caught.value.__cause__, WorkerDiedError)
        assert (caught.value.node, caught.value.attempt) == (f"s{deadly}", 3)
        assert [(e.node, e.attempt, e.type_name) for e in run.errors()] == [
            (f"s{deadly}", attempt, "WorkerDiedError") for attempt in (1, 2, 3)
        ]
        assert len({e.item_id for e in run.errors()}) == 1
        assert run.progress() == {f"s{number}": 1 for number in range(deadly)}
        assert list(run.context().log) == list(range(deadly))
    if how == "dies":
        assert os.path.getsize(tmp_path / f"step{deadly}") in (3, 4)  # once with nobody to blame yet


@pytest.mark.parametrize("whose", ["the step's", "the coordinator's"])
def test_a_step_that_must_not_be_tried_again_is_begun_once(whose: str, tmp_path: Path) -> None:
    """Not again after its own death, and not after that of the step behind it."""
    once = RetryPolicy(max_attempts=1)
    options = {"retry": once} if whose == "the step's" else {}
    with Coordinator(2, retry=None if options else once) as c:
        for deadly in (1, 5):
            folder = tmp_path / str(deadly)
            folder.mkdir()
            harms = dict.fromkeys(range(deadly), "notes") | {deadly: "dies"}
            run = c.start(flows.chain(8, harms, folder, **options), 0)
            with pytest.raises(RunFailedError) as caught:
                run.wait(LIMIT)
            assert (caught.value.node, caught.value.attempt) == (f"s{deadly}", 1)
            assert {path.name: path.stat().st_size for path in folder.iterdir()} == {
                f"step{number}": 1 for number in range(deadly + 1)
            }


def test_a_worker_that_dies_now_and_then(tmp_path: Path) -> None:
    with Coordinator(2) as c:
        run = c.start(flows.chain(100, dict.fromkeys(range(3, 100, 19), "dies_once"), tmp_path), 0)
        result = run.wait(LIMIT)
        assert result.output == 100
        assert list(result.context.log) == list(range(100))
        assert set(run.progress().values()) == {1}
        died = Counter((e.node, e.type_name) for e in run.errors())
    assert set(died) <= {(f"s{number}", "WorkerDiedError") for number in range(3, 100, 19)}
    assert set(died.values()) <= {1}
    assert result.metrics.retries == len(died)


@pytest.mark.parametrize("readers", [(20,), (5, 6, 7), range(0, 40, 3)], ids=str)
def test_a_step_sees_what_led_to_it_once(both: Both, readers: tuple[int, ...]) -> None:
    run = both(flows.chain(40, dict.fromkeys(readers, "reads")), 0)
    assert list(run.context().log) == list(range(40))


def test_ids_are_unique_and_seeds_those_of_one_process(both: Both, tmp_path: Path) -> None:
    run = both(flows.chain(40, dict.fromkeys(range(2, 40, 5), "asks"), tmp_path), 0)
    seen = [one for one in run.context().log if isinstance(one, tuple)]
    assert [node for node, *_ in seen] == [f"s{number}" for number in range(2, 40, 5)]
    assert len({seed for _, _, seed, _ in seen}) == len(seen)
    ids = {path.name: path.stat().st_size for path in tmp_path.glob("id*")}
    assert ids == {f"id{number + 1}": 2 for number in range(2, 40, 5)}  # one inline, one on processes


@pytest.mark.parametrize("failing", [0, 1, 17])
def test_a_step_that_fails_is_retried(both: Both, processes: Coordinator, failing: int) -> None:
    made = flows.chain(30, {failing: "raises"}, retry=flows.FLAKY)
    run = both(made, 0)
    assert [(e.node, e.attempt, e.message) for e in run.errors()] == [
        (f"s{failing}", attempt, f"attempt {attempt}") for attempt in (1, 2)
    ]
    assert run.metrics().retries == 2
    with pytest.raises(RunFailedError) as caught:
        processes.start(flows.chain(30, {failing: "raises"}), 0).wait(LIMIT)
    assert (caught.value.node, caught.value.attempt) == (f"s{failing}", 1)


def test_steps_that_fork(processes: Coordinator) -> None:
    result = processes.start(flows.chain(30, dict.fromkeys(range(0, 30, 4), "forks")), 0).wait(LIMIT)
    assert result.output == 30
    assert list(result.context.log) == list(range(30))


@pytest.mark.parametrize("slow", [1, 12])
def test_what_led_to_a_slow_step_is_there_long_before_it_ends(
    processes: Coordinator, tmp_path: Path, slow: int
) -> None:
    gate = Gate(tmp_path)
    run = processes.start(flows.chain(20, {slow: "waits"}, gate.path), 0)
    gate.entered(1)
    until(lambda: run.progress() == {f"s{number}": 1 for number in range(slow)})
    assert list(run.context().log) == list(range(slow))
    until(lambda: [i.status for i in run.work_items()] == [WorkItemStatus.IN_PROGRESS])
    (item,) = run.work_items()
    assert (item.node, item.item_id) == (f"s{slow}", slow + 1)
    until(lambda: item.item_id in [worker.current_work_item for worker in processes.workers()])
    gate.open()
    assert run.wait(LIMIT).output == 20


def _past(run: Run, place: int) -> bool:
    return run.progress().get("round", 0) > place or run.status is RunStatus.COMPLETED


def _idle(run: Run) -> bool:
    return all(item.status is not WorkItemStatus.IN_PROGRESS for item in run.work_items())


def test_a_loop_is_paused_soon_and_goes_on_where_it_was(processes: Coordinator) -> None:
    count = 20_000
    with fewer_leases(processes, count // 2):
        run = processes.start(flows.loop(count), 0)
        for place in range(500, 3000, 500):
            until(partial(_past, run, place))
            run.pause()
            until(partial(_idle, run))
            done = run.progress().get("round", 0)
            if run.status is RunStatus.PAUSED:
                assert done < count
                assert [i.status for i in run.work_items()] == [WorkItemStatus.PENDING]
                assert list(run.context().log) == list(range(done))
                run.resume()
        assert run.wait(LIMIT).output == count - 1
    assert list(run.context().log) == list(range(count))
    assert run.metrics().completed == count


def test_a_loop_on_workers_that_are_replaced() -> None:
    with Coordinator(2, engine=partial(ProcessEngine, max_tasks_per_worker=40)) as c:
        run = c.start(flows.loop(200), 0)
        assert run.wait(LIMIT).output == 199
        assert list(run.context().log) == list(range(200))
        assert run.metrics().retries == 0
        assert run.errors() == []


def test_a_loop_without_end_is_cancelled(processes: Coordinator) -> None:
    run = processes.start(flows.loop(1 << 60), 0)
    until(lambda: run.progress().get("round", 0) > 1000)
    run.cancel(grace=LIMIT)
    with pytest.raises(RunCancelledError):
        run.wait(LIMIT)
    done = run.progress()["round"]
    assert list(run.context().log) == list(range(done))
    assert run.metrics().completed == done


def test_a_step_ahead_that_lets_no_thread_run_is_ended_when_its_grace_is_over(tmp_path: Path) -> None:
    """Nobody can be told what it is at, and it must not last for ever."""
    gate = Gate(tmp_path)
    with Coordinator(1) as c:
        c.start(flows.chain(2), 0).wait(LIMIT)  # the worker is there
        run = c.start(flows.chain(3, {2: "holds_everything"}, gate.path), 0)
        gate.entered(1)
        (before,) = [worker.pid for worker in c.workers()]
        run.cancel(grace=0.1)
        with pytest.raises(RunCancelledError):
            run.wait(30)
        until(lambda: [worker.pid for worker in c.workers()] != [before])
        assert c.start(flows.chain(2), 0).wait(LIMIT).output == 2
