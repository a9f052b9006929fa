"""A step that ends early, that leaves a thread behind, that has threads which look at the context, or that changes what
is not its own: other steps see none of it, and the answer does not depend on the number of workers.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import (
    Context,
    Coordinator,
    EventLog,
    Fixed,
    ItemProcessedOutcome,
    Node,
    RunFailedError,
    RunTimeoutError,
    SharedState,
    StepCallbacks,
    WorkItem,
)
from floxide_mp.core.transitions import Phase
from floxide_mp.core.types import OrderKey
from floxide_mp.messages import Description, EventPage, PartialResult, failed
from floxide_mp.wire import codec
from floxide_mp.worker import fixed_values
from floxide_mp.worker.context_log import RunLog
from floxide_mp.worker.fixed_values import FixedValues, is_constant
from floxide_mp.worker.iterator_cache import IteratorCursors
from floxide_mp.worker.kept_state import kept_state_of
from floxide_mp.worker.step import StepRunner, calls_of
from floxide_mp.worker.step_view import StepView
from tests.conftest import LIMIT
from tests.faults import flows_steps as flows
from tests.flows_run import Gate, until


def shared(table: Any = None) -> flows.Shared:
    return flows.Shared(EventLog(), flows.Sum(), SharedState(None), Fixed(table))


def warm(coordinator: Coordinator) -> None:
    """Its workers are there, and have imported what they need: a run's time-out counts that as well."""
    run = coordinator.start(flows.InThreads, 1)
    run.wait(LIMIT)


# -- a step that ends early because its run is out of time --------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("early", "outputs", "log"),
    [
        (flows.early, ["whole"], ["whole"]),
        (flows.early_list, list(range(10, 30)), []),
        (flows.early_iterator, list(range(10, 30)), list(range(10, 30))),
        (flows.early_hold, ["whole"], []),
    ],
    ids=["value", "list", "iterator", "hold"],
)
def test_row_87_what_a_step_gives_after_it_was_to_stop_does_not_count(
    early: Node, outputs: list[Any], log: list[Any], workers: int, tmp_path: Path
) -> None:
    flow = flows.alone("Early", early)
    with Coordinator(workers) as coordinator:
        warm(coordinator)
        run = coordinator.start(flow, str(tmp_path), timeout=1.5)
        with pytest.raises(RunTimeoutError):
            run.wait(LIMIT)
        assert run.metrics().completed == 0, "half an answer is none"
        assert list(run.context().log) == []
        (tmp_path / "resumed").touch()
        coordinator.resume(flow, run.run_id)
        result = run.wait(LIMIT)
        assert result.outputs == outputs
        assert list(result.context.log) == log
        assert run.errors() == []


@pytest.mark.parametrize("workers", [0, 2])
def test_row_87_a_step_that_did_not_look_whether_it_is_to_stop_counts(workers: int, tmp_path: Path) -> None:
    flow = flows.alone("NeverLooks", flows.never_looks)
    with Coordinator(workers) as coordinator:
        warm(coordinator)
        run = coordinator.start(flow, str(tmp_path), timeout=1.5, timeout_grace=LIMIT)
        raised: list[BaseException] = []

        def wait() -> None:
            try:
                run.wait(LIMIT)
            except RunTimeoutError as error:
                raised.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        if workers:
            known = coordinator._scheduler.known(run.run_id)
            until(lambda: known.decided.phase is Phase.EXPIRING)
        (tmp_path / "open").touch()
        waiting.join(LIMIT)
        assert len(raised) == workers // 2, "inline, nobody notices during a step that does not look"
        assert run.metrics().completed == (1 if workers else 2)
        if workers:
            coordinator.resume(flow, run.run_id)
        assert run.wait(LIMIT).outputs == ["whole"]


def test_row_87_a_loop_of_ones_own_is_told_that_it_does_not_count(tmp_path: Path) -> None:
    flow = flows.alone("Early", flows.early)
    gate = Gate(tmp_path)
    told: list[ItemProcessedOutcome] = []

    class Told(StepCallbacks):
        def on_item_processed(self, run_id: str, item: WorkItem, outcome: ItemProcessedOutcome) -> None:
            told.append(outcome)

    with Coordinator(0) as coordinator:
        run_id = flow().start_distributed(shared(), str(gate.path), coordinator, timeout=1.5)
        loop = threading.Thread(target=flow().step_distributed, args=(coordinator, 0, Told()))
        loop.start()
        gate.entered(1)
        with pytest.raises(RunTimeoutError):
            coordinator.run(run_id).wait(LIMIT)
        loop.join(LIMIT)
        assert [outcome.terminal for outcome in told] == [False]
        assert "does not count" in str(told[0].error)
        (gate.path / "resumed").touch()
        coordinator.resume(flow, run_id)
        assert coordinator.run(run_id).wait(LIMIT).outputs == ["whole"]


# -- threads of a step --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("what", ["ctx", "log", "state", "total", "append"])
def test_row_89_a_thread_that_outlives_its_step_writes_to_no_other(what: str, workers: int) -> None:
    with Coordinator(workers) as coordinator:
        result = coordinator.start(flows.straggling(what), 0).wait(LIMIT)
    first, error = result.context.log
    assert first == "first"
    assert error.startswith("RuntimeError: the step of work that this context belongs to is over")
    assert result.context.state.get() is None
    assert result.context.total.number == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_row_122_threads_that_look_at_the_same_time_see_each_event_once(workers: int) -> None:
    count = 500
    with Coordinator(workers) as coordinator:
        result = coordinator.start(flows.InThreads, count).wait(LIMIT)
    (seen, least, total), log, at_last = result.output
    assert seen == list(range(count))
    assert log == [*range(count), -1]
    assert count <= least <= count + 8
    assert total == at_last == result.context.total.number == count + 8


def entry(step: int) -> tuple[OrderKey, int, str, int, bytes]:
    return (1, (step,)), 0, "n", 0, codec.encode(flows.Sum(1))


def test_row_122_a_look_in_the_middle_of_anothers_fetch_and_fold() -> None:
    """Without chance: the second look comes while the first one has fetched and not yet put away what it fetched, and
    while it merges.
    """
    committed = [entry(step) for step in range(0, 200, 2)]
    inner: list[Any] = []

    def fetch(since: int) -> EventPage:
        page = EventPage(committed[since:], False)
        if len(inner) == 0:
            inner.append(None)
            inner[0] = len(view.read(0))
        return page

    class Nosy(flows.Sum):
        def merge(self, other: flows.Sum) -> None:
            if len(inner) == 1:
                committed.append(entry(3))  # before others that are there
                inner.append(view.fold(0, flows.Sum()).number)  # type: ignore[attr-defined]
            super().merge(other)

    view = StepView(RunLog("run", 0, fetch), FixedValues(), lambda: 1)
    view.begin("n", 1, 1, None, (2, ()), lambda: False)
    assert (len(view.read(0)), inner) == (100, [100])
    assert view.fold(0, Nosy()).number == 100  # type: ignore[attr-defined]
    assert inner == [100, 101]
    assert view.fold(0, flows.Sum()).number == 101  # type: ignore[attr-defined]
    assert [logged.order[1][0] for logged in view.read(0)] == sorted([*range(0, 200, 2), 3])


def test_row_122_a_merge_that_raises_leaves_no_half() -> None:
    committed = [entry(step) for step in range(200)]
    view = StepView(RunLog("run", 0, lambda since: EventPage(committed[since:], False)), FixedValues(), lambda: 1)
    view.begin("n", 1, 1, None, (2, ()), lambda: False)
    broken = True

    class Broken(flows.Sum):
        def merge(self, other: flows.Sum) -> None:
            if broken and self.number == 50:
                raise ValueError("no more")
            super().merge(other)

    with pytest.raises(ValueError, match="no more"):
        view.fold(0, Broken())
    broken = False
    assert view.fold(0, Broken()).number == 200  # type: ignore[attr-defined]


# -- what is given when the run starts ----------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_row_88_a_step_that_changes_a_fixed_value_fails_and_no_other_step_sees_it(workers: int, tmp_path: Path) -> None:
    with Coordinator(workers) as coordinator:
        result = coordinator.start(flows.ChangesTable, 0, ctx=shared(flows.Table(tmp_path))).wait(LIMIT)
    *whole, first, second = result.outputs
    assert whole == [([], number**2) for number in (0, 2, 4)]
    assert "the step of changes_table has changed the value of ctx.table, a Fixed" in first
    assert "copy.deepcopy(ctx.table.value)" in first
    assert second == "which also changes it"
    assert result.context.table.value.seen == []


@pytest.mark.parametrize("workers", [0, 2])
def test_row_88_each_worker_opens_a_fixed_value_once(workers: int, tmp_path: Path) -> None:
    table = flows.Table(tmp_path)
    _ = table.squares  # else it is compared by what it was, which is one more
    with Coordinator(workers) as coordinator:
        assert coordinator.start(flows.ReadsTable, 0, ctx=shared(table)).wait(LIMIT).outputs == [(0, 9)] * 50
    opened = [pid for pid in (tmp_path / "opened").read_text().split() if workers == 0 or int(pid) != os.getpid()]
    assert len(opened) == len(set(opened)) <= max(workers, 1)


def test_row_88_iterators_that_have_a_value_that_was_changed_begin_again(tmp_path: Path) -> None:
    bundle, pulls = codec.Bundle.of(flows.SpoilsTable().compiled, None), IteratorCursors()
    facts = Description(b"key", None, codec.encode(shared(flows.Table(tmp_path))), 0)
    steps = StepRunner("run", bundle, calls_of(bundle), facts, lambda since: EventPage((), False), pulls=pulls)
    has_table, spoil = map(bundle.names.index, ("has_table", "spoil"))
    told = steps.run((1, has_table, 1, (0, ()), codec.encode(None), None), lambda: False)
    assert isinstance(told, PartialResult)
    assert len(pulls.kept) == 1
    assert failed(steps.run((2, spoil, 1, (1, (0,)), codec.encode(0), None), lambda: False))
    assert not pulls.kept


@pytest.mark.parametrize("workers", [0, 1])
def test_row_88_a_fixed_value_is_not_set(workers: int) -> None:
    with Coordinator(workers) as coordinator:
        run = coordinator.start(flows.each_of_five(flows.sets_table), 0, ctx=shared(1))
        with pytest.raises(RunFailedError, match="AttributeError: the value of a Fixed is given when the run starts"):
            run.wait(LIMIT)
    with pytest.raises(AttributeError, match=r"make a new Fixed"):
        shared(1).table.value = 2  # type: ignore[misc]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("size", "outcome"), [(10, "has changed the value"), (100_000, "read-only")], ids=["small", "large is read-only"]
)
def test_row_88_arrays_in_a_fixed_value(size: int, outcome: str, workers: int) -> None:
    numpy = pytest.importorskip("numpy")
    with Coordinator(workers) as coordinator:
        flow = flows.ChangesArray
        result = coordinator.start(flow, 0, ctx=shared({"array": numpy.zeros(size)})).wait(LIMIT)
    assert len(result.outputs) == 5
    assert all(outcome in text for text in result.outputs)
    assert result.context.table.value["array"][0] == 0


def test_row_88_large_arrays_are_neither_copied_nor_written_to() -> None:
    numpy = pytest.importorskip("numpy")
    values, array = FixedValues(), numpy.zeros(100_000)
    first = values.open(0, {"array": array, "text": "x" * 5000})
    assert numpy.shares_memory(first["array"], array)
    with pytest.raises(ValueError, match="WRITEABLE"):
        first["array"].flags.writeable = True
    assert values.changed([0]) == []
    first["array"] = numpy.zeros(100_000)
    assert values.changed([0]) == [], "the same numbers"
    first = values.open(0, None)
    assert not first["array"].flags.writeable
    first["array"] = numpy.ones(100_000)
    assert values.changed([0]) == [0], "another one of the same size"
    assert values.open(0, None)["array"][5] == 0
    wide = values.open(1, dict.fromkeys(range(100_000), numpy.zeros(100_000)))
    assert not wide[5].flags.writeable


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_row_88_an_array_cannot_be_made_writeable_again(workers: int) -> None:
    numpy = pytest.importorskip("numpy")
    with Coordinator(workers) as coordinator:
        run = coordinator.start(flows.each_of_five(flows.makes_writeable), 0, ctx=shared(numpy.zeros(100_000)))
        with pytest.raises(RunFailedError, match="ValueError: cannot set WRITEABLE flag to True"):
            run.wait(LIMIT)


def wide_list() -> Any:
    return [list(range(30_000)), {}]


def wide_object() -> Any:
    return [flows.Sum(1), {"rows": [str(number) for number in range(30_000)]}]


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("make", [wide_list, wide_object])
def test_row_88_a_step_that_changes_a_large_fixed_value_fails(make: Callable[[], Any], workers: int) -> None:
    with Coordinator(workers) as coordinator:
        run = coordinator.start(flows.each_of_five(flows.changes_part), 0, ctx=shared(make()), failure="finish")
        with pytest.raises(RunFailedError, match=r"the step of each has changed the value of ctx\.table, a Fixed"):
            run.wait(LIMIT)
        assert len(run.errors()) == 5


@pytest.mark.parametrize("late", ["returns", "raises"])
@pytest.mark.parametrize("workers", [0, 1])
def test_row_88_a_change_of_a_large_fixed_value_that_is_found_later_fails_the_run(
    workers: int, late: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for share in ("FIRST", "SHARE"):  # (the nodes set them, in whichever process they run)
        monkeypatch.setattr(fixed_values, share, getattr(fixed_values, share))
    with Coordinator(workers) as coordinator:
        given = [*wide_list(), late]
        run = coordinator.start(flows.ChangesUnseen, 0, ctx=shared(given), failure="finish")
        with pytest.raises(RunFailedError) as caught:
            run.wait(LIMIT)
    assert "one of the steps of changes_unseen, looks has changed the value of ctx.table, a large Fixed" in str(
        caught.value
    )
    assert "start a new run" in str(caught.value)


def test_row_88_looks_at_a_large_value_take_a_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    looks = []

    def apart(*arguments: Any) -> Any:
        looks.append(1)
        now[0] += 0.02  # seconds, for each
        return whole(*arguments)

    whole = fixed_values.oob_pickle.apart
    monkeypatch.setattr(fixed_values, "monotonic", lambda: now[0])
    values = FixedValues()
    monkeypatch.setattr(fixed_values.oob_pickle, "apart", apart)
    value = values.open(0, wide_list())
    before = len(looks)
    for _ in range(1000):
        now[0] += 0.001
        assert values.changed([0], "reads") == []
    assert len(looks) - before == 3, "the first 50 ms, and of 1 s 1 %"
    value.append(1)
    assert values.changed([0], "writes") == [], "there is none now"
    now[0] += 2
    with pytest.raises(fixed_values.ChangedEarlierError) as caught:
        values.changed([0], "reads")
    assert caught.value.nodes == ["reads", "writes"]
    assert len(values.open(0, None)) == 2, "it is opened anew"


@pytest.mark.parametrize("value", [1, "x", (1, ("x", None)), Path("x"), frozenset([1]), print, Context])
def test_row_88_what_cannot_change_is_not_opened_again(value: object) -> None:
    assert is_constant(value)
    assert FixedValues().open(0, value) is value


class Odd:
    """Is pickled in another way each time."""

    times = 0

    def __getstate__(self) -> dict[str, int]:
        Odd.times += 1
        return {"times": Odd.times}


def changing(value: Any) -> None:
    if isinstance(value, dict):
        value["new"] = 1
    elif isinstance(value, list | bytearray):
        value.append(1)
    elif isinstance(value, tuple):
        value[1].append(1)
    elif isinstance(value, set):
        value.add("new")
    else:
        value.number = 5


@pytest.mark.parametrize(
    "make",
    [
        lambda: [1],
        dict,
        lambda: (1, [2]),
        lambda: bytearray(b"x"),
        lambda: flows.Sum(1),
        lambda: {"a", "b", "c"},
        lambda: {"function": lambda: 1},
    ],
)
def test_row_88_what_can_change_is_found_and_opened_anew(make: Callable[[], Any]) -> None:
    values, given = FixedValues(), make()
    assert not is_constant(given)
    value = values.open(0, given)
    assert value is given is values.open(0, given), "it is opened once"
    assert values.changed([0]) == []
    changing(value)
    assert values.changed([0]) == [0]
    again = values.open(0, given)
    assert again is not value
    assert values.changed([0]) == []
    changing(again)
    assert values.changed([0]) == [0], "it was as it had been, so this is a change"


@pytest.mark.parametrize("make", [Odd, threading.Lock])
def test_row_88_what_cannot_be_compared_is_left_alone(make: Callable[[], Any]) -> None:
    values, value = FixedValues(), {"a": make()}
    assert values.open(0, value) is value
    value["b"] = 1
    assert values.changed([0]) == []
    assert values.open(0, value) is value


def test_row_88_an_attribute_that_was_not_there_may_be_filled(tmp_path: Path) -> None:
    values, given = FixedValues(), {"tables": [flows.Table(tmp_path)], "set": {"a", "b", "c"}}
    table = values.open(0, given)["tables"][0]
    assert table.squares[3] == 9
    assert values.changed([0]) == []
    table.client = threading.Lock
    assert values.changed([0]) == []
    table.squares[3] = 10
    assert values.changed([0]) == [0]
    assert values.open(0, given)["tables"][0].squares[3] == 9


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("kind", ["count", "seen", "model", "later"])
def test_row_88_a_step_that_changes_its_node_fails_and_no_other_step_sees_it(kind: str, workers: int) -> None:
    numbering = flows.Numbering(kind)
    with Coordinator(workers) as coordinator:
        run = coordinator.start(flows.each_of_five(numbering), 0, failure="finish")
        with pytest.raises(RunFailedError, match=rf"a step of each has changed self\.{numbering.changes}: its node"):
            run.wait(LIMIT)
        errors = [str(error) for error in run.errors()]
    assert len(errors) == 5, "each of them, since none has seen what another did"
    assert all(f"a step of each has changed self.{numbering.changes}: its node" in error for error in errors)
    assert (numbering.count, numbering.seen, numbering.model.known) == (0, [], {"a": 1})


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", ["client", "cached", "left out", "inner cache", "nothing"])
def test_row_88_a_node_may_fill_what_was_not_there(kind: str, workers: int) -> None:
    with Coordinator(workers) as coordinator:
        flow = flows.each_of_five(flows.Numbering(kind))
        for _ in range(2):  # inline, the second run finds what the first has filled
            assert sorted(coordinator.start(flow, 0).wait(LIMIT).outputs) == [0, 1, 2, 3, 4]


def test_row_88_plain_functions_and_stateless_nodes_are_not_looked_at() -> None:
    bundle = codec.Bundle.of(flows.each_of_five(flows.Numbering("nothing"))().compiled, None)
    assert [kept is not None for *_, kept in calls_of(bundle)] == [False, True]
    assert kept_state_of(flows.Stateless().process, ()) is None
