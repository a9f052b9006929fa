"""``NextAll`` of an iterator that gives more than one portion: no faster than it is worked off, and each value once,
whatever happens to the worker that has it, or to everybody.
"""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import (
    Coordinator,
    RunCancelledError,
    RunFailedError,
    RunMetrics,
    RunStatus,
    SQLiteStore,
    StepCallbacks,
    WorkItemStatus,
)
from floxide_mp.core import streams
from floxide_mp.core.types import StreamOffset
from floxide_mp.engines.executor import ExecutorEngine
from floxide_mp.messages import EventPage
from floxide_mp.worker import iterator_cache
from floxide_mp.worker.context_log import RunLog
from floxide_mp.worker.fixed_values import FixedValues
from floxide_mp.worker.step_view import StepView

from ..faults.test_coordinator_dies import Script, scripts  # noqa: F401  # a fixture
from ..faults.test_worker_dies import eventually, lines
from . import flows_portions as flows
from .flows_portions import ENDLESS, MANY, Ask

WORKERS = [0, 2]


@pytest.fixture(params=WORKERS, ids=["inline", "processes"])
def coordinator(request: pytest.FixtureRequest) -> Any:
    with Coordinator(request.param) as made:
        yield made


def go(folder: Path) -> None:
    (folder / "go").touch()


# -- the same answer ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, iterator_cache.MOST_ITEMS, iterator_cache.MOST_ITEMS + 1, MANY])
def test_each_value_goes_on_once_and_in_order(coordinator: Coordinator, tmp_path: Path, count: int) -> None:
    result = coordinator.start(flows.Counted, Ask(str(tmp_path), count)).wait(60)
    assert result.output == list(range(count))
    assert result.metrics == RunMetrics(count + 2, count + 2, 0, 0)
    assert len(lines(tmp_path, "started")) == 1


def test_what_it_writes_is_in_the_order_of_its_values(coordinator: Coordinator, tmp_path: Path) -> None:
    result = coordinator.start(flows.Told, Ask(str(tmp_path))).wait(60)
    assert result.output, "the step of a value sees what was written before it was given"
    assert list(result.context.log) == list(range(MANY))


def test_what_serial_steps_give_is_taken_at_once(coordinator: Coordinator, tmp_path: Path) -> None:
    result = coordinator.start(flows.Serially, Ask(str(tmp_path))).wait(60)
    assert list(result.context.log) == [0, 1]
    assert result.output == 2 * MANY


def test_iterators_of_iterators_are_each_collected(coordinator: Coordinator, tmp_path: Path) -> None:
    few, many = 0, (iterator_cache.MOST_ITEMS + 2) * (iterator_cache.MOST_ITEMS + 1) // 2
    result = coordinator.start(flows.Nested, str(tmp_path)).wait(120)
    assert result.output == [many] + [few] * (iterator_cache.MOST_ITEMS + 2)


def test_batches_take_iterators_at_once(coordinator: Coordinator, tmp_path: Path) -> None:
    result = coordinator.start(flows.Batches, Ask(str(tmp_path), 40)).wait(60)
    assert result.output == [list(range(40))]
    counts = [3, iterator_cache.MOST_ITEMS + 7, 0, 1]
    assert coordinator.start(flows.BatchOfMany, counts).wait(60).output == [n for c in counts for n in range(c)]


def test_a_loop_of_the_users_own_takes_all_at_once(tmp_path: Path) -> None:
    made = flows.Outputs()
    with Coordinator(0) as coordinator:
        run_id = made.start_distributed(None, Ask(str(tmp_path), MANY), coordinator, "run")
        seen = []
        while coordinator.info(run_id).status is RunStatus.RUNNING:
            done = made.step_distributed(coordinator, 0, StepCallbacks())
            seen += [] if done is None else [done[1]]
    assert seen == list(range(MANY))


def test_an_executor_takes_all_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool, Coordinator(2, engine=partial(ExecutorEngine, pool)) as coordinator:
        assert coordinator.start(flows.Counted, Ask(str(tmp_path), 3000)).wait(60).output == list(range(3000))


# -- no faster than it is worked off ------------------------------------------------------------------------------


def test_it_is_not_taken_much_faster_than_it_is_worked_off(tmp_path: Path) -> None:
    """However many values there are, and whoever is slow."""
    with Coordinator(2) as coordinator:
        most = coordinator.start(flows.Ahead, Ask(str(tmp_path), 60_000)).wait(120).output
    # What is in work, two portions, and what two workers have done and not reported.
    assert iterator_cache.MOST_ITEMS <= most <= streams.MOST_ITEMS + 4 * iterator_cache.MOST_ITEMS


def test_an_endless_one_is_cancelled_and_closed(coordinator: Coordinator, tmp_path: Path) -> None:
    run = coordinator.start(flows.Outputs, Ask(str(tmp_path), ENDLESS))
    assert list(islice(run.stream(), 5000)) != []
    (first, *_) = run.work_items()
    assert (first.node, first.item_id) == ("count", 1)
    assert first.status in (WorkItemStatus.PENDING, WorkItemStatus.IN_PROGRESS)
    run.cancel()
    with pytest.raises(RunCancelledError):
        run.wait(60)
    assert coordinator.start(flows.Counted, Ask(str(tmp_path), 3)).wait(60).output == [0, 1, 2]
    eventually(lambda: lines(tmp_path, "closed"), "whoever has it closes it")


def test_how_one_ends_that_is_closed_is_no_failure_of_another(tmp_path: Path) -> None:
    """A worker that keeps enough of them closes the oldest while it is at the newest."""
    pulls = iterator_cache.IteratorCursors()
    view = StepView(RunLog("run", 0, lambda since: EventPage((), False)), FixedValues(), lambda: 1)
    for number in range(iterator_cache.KEEP + 1):
        iterator = flows.leaving(Ask(str(tmp_path)))
        next(iterator)
        pulls.keep("run", (1, (number,)), iterator_cache.IteratorCursor("leaving", iterator, StreamOffset(), view))
    assert len(lines(tmp_path, "closed")) == 1
    pulls.close()
    assert len(lines(tmp_path, "closed")) == iterator_cache.KEEP + 1


def test_a_paused_run_takes_nothing_and_goes_on_where_it_was(tmp_path: Path) -> None:
    with Coordinator(2) as coordinator:
        run = coordinator.start(flows.Counted, Ask(str(tmp_path), MANY, stop=MANY - 9))
        eventually(lambda: lines(tmp_path, "stopped"), "it waits")
        run.pause()
        go(tmp_path)
        eventually(lambda: all(i.status is not WorkItemStatus.IN_PROGRESS for i in run.work_items()), "nothing runs")
        assert run.status is RunStatus.PAUSED
        run.resume()
        assert run.wait(60).output == list(range(MANY))


def test_it_is_started_elsewhere_if_the_worker_that_has_it_is_long_at_a_step(tmp_path: Path) -> None:
    count = streams.LEAST + 10
    with Coordinator(2) as coordinator:
        result = coordinator.start(flows.Waits, Ask(str(tmp_path), count)).wait(60)
    assert result.output == list(range(count))
    assert len(lines(tmp_path, "started")) == 2


def test_its_time_out_is_that_of_a_portion(tmp_path: Path) -> None:
    with Coordinator(2) as coordinator:
        assert coordinator.start(flows.Slow, 60).wait(60).output == list(range(60))


# -- failures -----------------------------------------------------------------------------------------------------


def test_one_that_raises_later_is_started_again_and_gives_the_rest(coordinator: Coordinator, tmp_path: Path) -> None:
    (tmp_path / "once").touch()
    result = coordinator.start(flows.Unrescued, Ask(str(tmp_path), MANY, stop=MANY - 5)).wait(60)
    assert result.output == list(range(MANY))
    assert list(result.context.log) == list(range(MANY))
    assert (result.metrics.retries, len(lines(tmp_path, "started"))) == (1, 2)


@pytest.mark.parametrize("stop", [3, MANY - 5])
def test_what_it_gave_before_it_raised_stays_given(coordinator: Coordinator, tmp_path: Path, stop: int) -> None:
    """Of one that raises before its first portion is complete, nothing has happened."""
    result = coordinator.start(flows.Breaks, Ask(str(tmp_path), MANY, stop=stop)).wait(60)
    given = list(range(stop)) if stop > iterator_cache.MOST_ITEMS else []
    assert sorted(result.output, key=str) == ([-1, given] if given else [-1])
    assert list(result.context.log) == [*given, "rescued from ValueError"]


@pytest.mark.parametrize("store", [None, "runs.db"])
def test_a_run_that_failed_in_the_middle_goes_on_from_there(tmp_path: Path, store: str | None) -> None:
    with Coordinator(2, store=store and tmp_path / store) as coordinator:
        run = coordinator.start(flows.Unrescued, Ask(str(tmp_path), MANY, stop=MANY - 5))
        with pytest.raises(RunFailedError):
            run.wait(60)
        go(tmp_path)
        assert coordinator.resume(flows.Unrescued, run.run_id).wait(60).output == list(range(MANY))


# -- deaths -------------------------------------------------------------------------------------------------------


def test_row_04_the_worker_that_has_it_is_killed(tmp_path: Path) -> None:
    with Coordinator(2) as coordinator:
        run = coordinator.start(flows.Counted, Ask(str(tmp_path), MANY, stop=MANY - 9))
        eventually(lambda: lines(tmp_path, "stopped"), "it waits")
        (pid,) = lines(tmp_path, "started")
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: len(lines(tmp_path, "started")) == 2, "it is started again")
        go(tmp_path)
        assert run.wait(60).output == list(range(MANY))
        assert lines(tmp_path, "started")[1] != pid
        assert len(run.errors()) == 1


@pytest.mark.parametrize("turn", [1, 2])
@pytest.mark.parametrize("point", ["worker.portion", "worker.report.unsent", "worker.report.sent"])
def test_rows_05_07_a_worker_is_killed_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, turn: int
) -> None:
    """Before a portion is reported, and after."""
    token = tmp_path / "token"
    token.touch()
    monkeypatch.setenv("FLOXIDE_FAILPOINTS", f"{point}=kill@{turn}:{token}")
    with Coordinator(2) as coordinator:
        result = coordinator.start(flows.Told, Ask(str(tmp_path))).wait(60)
    assert not token.exists()
    assert result.output
    assert list(result.context.log) == list(range(MANY))
    assert result.metrics.completed == MANY + 2


@pytest.mark.parametrize("count", [MANY, MANY + 1])
def test_one_that_gives_something_else_when_it_is_started_again_fails(tmp_path: Path, count: int) -> None:
    with Coordinator(2) as coordinator:
        run = coordinator.start(flows.Shrinks, Ask(str(tmp_path), count, stop=MANY - 9))
        eventually(lambda: lines(tmp_path, "stopped"), "it waits")
        os.kill(lines(tmp_path, "started")[0], signal.SIGKILL)
        with pytest.raises(RunFailedError, match="must give the same values each time"):
            run.wait(60)


SCRIPT = """
import os
from floxide_mp import Coordinator
from tests.worker import flows_portions as flows
folder = os.environ["FOLDER"]
with Coordinator(2, store=os.path.join(folder, "runs.db")) as coordinator:
    ask = flows.Ask(folder, flows.MANY, flows.MANY - 9)
    coordinator.start(flows.Told, ask, run_id="run").wait()
"""


def test_row_23_everybody_is_killed(tmp_path: Path, scripts: list[Script]) -> None:  # noqa: F811
    """What was committed of it is not given again."""
    scripts.append(Script(tmp_path, SCRIPT))

    def committed() -> bool:
        if not lines(tmp_path, "stopped"):
            return False
        reader = SQLiteStore.open_reader(tmp_path / "runs.db")
        try:
            return any(given.values for given in reader.snapshot("run").given.values())
        finally:
            reader.close()

    eventually(committed, "a portion is on disk, and it waits")
    for pid in scripts[0].family():
        os.kill(pid, signal.SIGKILL)
    scripts[0].process.wait()
    go(tmp_path)
    with Coordinator(2, store=tmp_path / "runs.db") as coordinator:
        run = coordinator.resume(flows.Told, "run")
        result = run.wait(60)
        assert result.output
        assert list(result.context.log) == list(range(MANY))
        assert result.metrics.completed == MANY + 2
        assert len(lines(tmp_path, "started")) == 2
    reader = SQLiteStore.open_reader(tmp_path / "runs.db")
    reader.check()
    assert not reader.snapshot("run").given
    reader.close()
