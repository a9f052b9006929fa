"""Many runs, many items, many workers: counts are exact, turns are fair, and nothing hangs on what was before."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from floxide_mp import Coordinator, RunMetrics, RunStatus
from tests.conftest import LIMIT, outcome
from tests.coordinator import flows_many as flows
from tests.flows_run import Echo, Thousand, until


@pytest.fixture(scope="module")
def four() -> Iterator[Coordinator]:
    with Coordinator(4) as made:
        yield made


def test_a_thousand_instant_runs_with_idle_workers_all_reach_completed(coordinator: Coordinator) -> None:
    """Half of them one by one, so that the workers wait when they start; half of them at once."""
    with_idle = [coordinator.start(Echo, n).wait(LIMIT).output for n in range(500)]
    runs = [coordinator.start(Echo, n) for n in range(500)]
    at_once = [run.wait(LIMIT).output for run in runs]
    assert with_idle == at_once == list(range(500))
    assert {info.status for info in coordinator.runs()} == {RunStatus.COMPLETED}
    assert {info.metrics for info in coordinator.runs()} == {RunMetrics(1, 1, 0, 0)}


def test_metrics_are_exact_for_a_thousand_items_on_four_workers(four: Coordinator, inline: Coordinator) -> None:
    """Also with retries and failures: 1,000 items and the split, 10 that are rescued; 100 + 20 retries, 10 failed."""
    runs = [c.start(flows.Troubled, 1000) for c in (four, inline)]
    assert outcome(runs[0]) == outcome(runs[1])
    run = runs[0]
    assert run.metrics() == RunMetrics(total_work_items=1011, completed=1001, failed=10, retries=120)
    assert len(run.errors()) == 130
    assert [row.number for row in run.errors()] == list(range(1, 131))
    assert run.wait().outputs == [n for n in range(1000) if n % 100] + [-n for n in range(0, 1000, 100)]
    plain = four.start(Thousand, 1000)
    assert plain.wait(LIMIT).metrics == plain.metrics() == RunMetrics(1002, 1002, 0, 0)


def test_ten_thousand_times_a_successor_finds_its_parents_event(processes: Coordinator) -> None:
    runs = [processes.start(flows.Families, 250) for _ in range(40)]
    assert [run.wait(LIMIT).outputs for run in runs] == [[True] * 250] * 40


def test_a_serial_node_that_holds_until_it_has_them_all_on_four_workers(four: Coordinator) -> None:
    for _ in range(5):
        result = four.start(flows.Counting, 300).wait(LIMIT)
        assert result.outputs == [list(range(300))]
        assert result.metrics == RunMetrics(601, 601, 0, 0)


def test_a_short_run_started_while_a_long_one_is_on_finishes_before_it(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    """The long one cannot end before the short one has: it has always more to do, until it is told to stop."""
    stop = tmp_path / "stop"
    long = coordinator.start(flows.EverOn, str(stop))
    while long.metrics().completed < 100:
        with pytest.raises(TimeoutError):
            long.wait(0.05)
    short = [coordinator.start(Thousand, 50) for _ in range(3)]
    assert [run.wait(LIMIT).output for run in short] == [sum(range(50))] * 3
    assert long.status is RunStatus.RUNNING
    stop.touch()
    assert long.wait(LIMIT).outputs == []


def test_row_144_who_waits_inline_works_at_all_runs_in_turns_as_one_worker_would(inline: Coordinator) -> None:
    """So no time-out of a run is over before anybody has begun it, and what waits for a retry costs the others none."""
    first, second, third = [inline.start(Thousand, 50) for _ in range(3)]
    third.pause()
    assert second.wait(LIMIT).output == sum(range(50))
    assert first.metrics().completed in (51, 52)
    assert third.metrics().completed == 0
    assert first.wait(LIMIT).metrics == RunMetrics(52, 52, 0, 0)
    third.cancel()


def calls(work: Callable[[], Any]) -> int:
    """How many functions of the package are called in ``work``."""
    count = 0

    def profile(frame: FrameType, what: str, _: Any) -> None:
        nonlocal count
        count += what == "call" and "/floxide_mp/" in frame.f_code.co_filename

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_an_item_costs_the_same_after_a_thousand_runs_that_are_over() -> None:
    """Inline, where all of it can be counted; what has to do with the number of runs is the same everywhere."""
    with Coordinator(0) as coordinator:
        made = iter(range(10**6))

        def one() -> None:
            coordinator.start(Thousand, 20, run_id=f"run-{next(made)}").wait()

        for _ in range(10):
            one()
        before = calls(one)
        for _ in range(1000):
            coordinator.start(Echo, 1).wait()
        assert calls(one) == before


def test_many_runs_that_are_paused_take_no_turns(inline: Coordinator) -> None:
    paused = [inline.start(Echo, n) for n in range(50)]
    for run in paused:
        run.pause()
    assert inline.start(Thousand, 20).wait(LIMIT).output == sum(range(20))
    assert {run.metrics().completed for run in paused} == {0}
    for run in paused:
        run.resume()
    assert [run.wait(LIMIT).output for run in paused] == list(range(50))
    until(lambda: not inline.runs(RunStatus.PAUSED))
