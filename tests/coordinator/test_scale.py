"""Many runs, wide graphs, long logs: what one step costs does not hang on what else there is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from floxide_mp import Coordinator, Join, LoggedEvent, Node, RetryPolicy, Workflow, node, source
from floxide_mp.api.node import way_of
from floxide_mp.coordinator.active_run import ActiveRun
from floxide_mp.messages import Entry, EventPage
from floxide_mp.wire import codec
from floxide_mp.worker.context_log import FEW, RunLog
from floxide_mp.worker.fixed_values import FixedValues
from floxide_mp.worker.step_view import StepView
from tests import flows_features, flows_run
from tests.conftest import LIMIT
from tests.coordinator.flows_written import Reading


@node(retry=RetryPolicy(max_attempts=2, initial_backoff=3600.0, max_backoff=3600.0))
def failing(value: int) -> int:
    raise ValueError(value)


class Failing(Workflow):
    failing = failing
    start = failing


# -- many runs ----------------------------------------------------------------------------------------------------


def pause(coordinator: Coordinator) -> None:
    coordinator.start(flows_run.Echo, 1).pause()


def feed_slowly(coordinator: Coordinator) -> None:
    sender, taken = source(1)
    coordinator.start(flows_run.Echo, taken)
    senders.append(sender)


def retry_later(coordinator: Coordinator) -> None:
    run = coordinator.start(Failing, 1)
    Failing().step_distributed(coordinator, 0)
    assert run.metrics().retries == 1


senders: list[Any] = []


@pytest.mark.parametrize("park", [pause, feed_slowly, retry_later])
def test_runs_that_have_nothing_to_start_are_not_looked_at(
    park: Callable[[Coordinator], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    ready = ActiveRun.ready

    def look(run: ActiveRun) -> int:
        nonlocal looks
        looks += 1
        return ready.fget(run)  # type: ignore[attr-defined, no-any-return]

    with Coordinator(0) as coordinator:
        found = []
        monkeypatch.setattr(ActiveRun, "ready", property(look))
        for parked in (1, 40):
            for _ in range(parked):
                park(coordinator)
            coordinator.start(Reading, 5).wait(LIMIT)  # which finds out that they have nothing
            looks = 0
            coordinator.start(Reading, 5).wait(LIMIT)
            found.append(looks)
        assert found[0] == found[1] > 5
    senders.clear()


# -- wide graphs --------------------------------------------------------------------------------------------------


def ready_after_one_step(coordinator: Coordinator, workflow: type[Workflow]) -> ActiveRun:
    """The run, of which the first step is done and all others could be."""
    run_id = coordinator.start(workflow, 1).run_id
    workflow().step_distributed(coordinator, 0)
    run = coordinator._scheduler._runs[run_id]
    assert isinstance(run, ActiveRun) and run.ready == 16
    return run


def wide(after: Callable[[], Node]) -> type[Workflow]:
    names = [f"n{number}" for number in range(16)]
    nodes = {"first": node(flows_run.echo.function), **{name: after() for name in names}}
    return Workflow.build("Wide", nodes=nodes, start="first", edges={"first": names})


@pytest.mark.parametrize("after", [lambda: node(flows_run.echo.function), Join])
def test_a_lease_has_several_items_of_nodes_that_nobody_has_seen_yet(after: Callable[[], Node]) -> None:
    """Joins, too. In a graph, each node may run once only."""
    with Coordinator(0) as coordinator:
        run = ready_after_one_step(coordinator, wide(after))
        run.cost_model.steps, run.cost_model.spent, run.cost_model.squares = 10, 0.01, 0.00001
        assert len(run.claim(1000, 0, 0.004, 1)) == 4
        run.cost_model.spent = run.cost_model.squares = 0.0  # next to nothing, and yet not taken for that
        assert len(run.claim(1001, 0, 0.004, 1)) == 6  # half of what is there
        run.cost_model.steps = 0
        assert len(run.claim(1002, 0, 0.004, 1)) == 1


def test_a_step_that_must_not_be_begun_twice_is_leased_alone() -> None:
    """Or it would be, when a worker dies of one behind it in its lease."""
    once = RetryPolicy(max_attempts=1)
    with Coordinator(0) as coordinator:
        run = ready_after_one_step(coordinator, wide(lambda: node(flows_run.echo.function, retry=once)))
        run.cost_model.cost[:] = [1e-6] * len(run.cost_model.cost)
        assert [len(run.claim(1000 + n, 0, 0.004, 1)) for n in range(3)] == [1, 1, 1]


def test_how_a_function_is_called_hangs_on_whether_it_is_bound() -> None:
    class Adds(Node):
        def process(self, value: int) -> int:
            return value

    assert way_of(Adds().process) == "value"
    assert way_of(Adds.process) == "both"  # its first parameter gets the context
    assert way_of(Adds().process) == "value"


def test_what_workers_can_import_goes_by_name_unless_it_is_to_go_by_value() -> None:
    workflow = Workflow.build(
        "Two", nodes={"a": flows_features.Step("a"), "b": node(flows_run.echo.function)}, start="a", edges={"a": ["b"]}
    )
    bundle = codec.Bundle.of(workflow().compiled, None)
    by_name = codec.encode_bundle(bundle, 1)
    assert by_name.main == () and b"class_made" not in by_name.payload
    assert codec.encode_bundle(bundle, 1).key == by_name.key
    module = sys.modules[flows_features.Step.__module__]
    cloudpickle.register_pickle_by_value(module)
    try:
        assert b"class_made" in codec.encode_bundle(bundle, 1).payload
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    assert codec.decode_bundle(by_name.payload).names == bundle.names


# -- long logs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kept", ["in memory", "on disk"])
def test_a_long_log_comes_page_by_page(workers: int, kept: str, tmp_path: Path) -> None:
    with Coordinator(workers, store=tmp_path / "runs.db" if kept == "on disk" else None) as coordinator:
        scheduler = coordinator._scheduler
        scheduler.event_page_size, events, pages = 7, scheduler.events, []

        def counted(run_id: str, since: int) -> EventPage:
            pages.append(page := events(run_id, since))
            return page

        scheduler.events = counted  # type: ignore[method-assign]
        result = coordinator.start(Reading, 40).wait(LIMIT)
        assert result.output == [41, *range(40, 0, -1)]
        if kept == "in memory":
            assert max(len(page.entries) for page in pages) == 7
            assert len(pages) == 7  # six at the first look, and one that has nothing new at the second
        assert list(result.context.log) == list(range(40, -1, -1))


def entry(step: int, index: int, field: int = 0) -> Entry:
    return (1, (step,)), index, "n", field, codec.encode((step, index))


def log_of(fetch: Callable[[int], EventPage]) -> StepView:
    view = StepView(RunLog("run", 0, fetch), FixedValues(), lambda: 1)
    view.begin("n", 1, 1, None, (2, ()), lambda: False)
    return view


def read(log: StepView, field: int = 0) -> list[tuple[int, int]]:
    found: list[LoggedEvent[tuple[int, int]]] = list(log.read(field))
    assert [logged.event for logged in found] == list(log.values(field))
    assert [(logged.order[1][0], logged.index) for logged in found] == [logged.event for logged in found]
    assert len(log.read(field)) == len(found)
    return list(log.values(field))


@pytest.mark.parametrize("late", [1, FEW + 1])
def test_events_that_come_late_are_put_in_their_places(late: int) -> None:
    committed = [entry(step, index) for step in (5, 2, 9) for index in range(30)]
    size = 8
    log = log_of(lambda since: EventPage(committed[since : since + size], since + size < len(committed)))
    assert read(log) == [(step, index) for step in (2, 5, 9) for index in range(30)]
    committed += [entry(3, index) for index in range(late)] + [entry(3, 100, field=1)]
    wanted = [(step, index) for step, most in ((2, 30), (3, late), (5, 30), (9, 30)) for index in range(most)]
    assert read(log) == wanted
    assert read(log, field=1) == [(3, 100)]


def test_a_page_that_cannot_be_had_is_asked_for_again() -> None:
    committed = [entry(step, 0) for step in range(10)]
    broken = True

    def fetch(since: int) -> EventPage:
        if broken and since:
            raise ConnectionError
        return EventPage(committed[since : since + 4], since + 4 < len(committed))

    log = log_of(fetch)
    with pytest.raises(ConnectionError):
        log.read(0)
    broken = False
    assert read(log) == [(step, 0) for step in range(10)]


def test_a_page_travels_as_columns() -> None:
    page = EventPage([entry(step, 0) for step in range(3)], True)
    back = codec.decode(codec.encode(page))
    assert (type(back), list(back.entries), back.more) == (EventPage, list(page.entries), True)
    nothing = EventPage((), False)
    assert list(codec.decode(codec.encode(nothing)).entries) == []
