"""``BatchNode``: what comes out of a batch and when, inline and on processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from floxide_mp import (
    BatchNode,
    CompositeNode,
    Coordinator,
    Join,
    RunFailedError,
    RunMetrics,
    RunStatus,
    SplitNode,
    Workflow,
    WorkflowDefinitionError,
    node,
)
from tests import flows_batches as flows
from tests.conftest import LIMIT, Both


def most(folder: Path) -> int:
    """How many steps were in flight at once, at the most."""
    found, running = 0, 0
    for line in (folder / "log").read_text().split():
        running += 1 if line.startswith("+") else -1
        found = max(found, running)
    assert running == 0
    return found


def test_outputs_are_in_the_order_of_the_inputs_and_batch_size_steps_are_in_flight(tmp_path: Path) -> None:
    """Of each pair the first waits for the second, so both are in flight; of four workers, two have nothing to do."""
    pairs = [flows.Pair(n, str(tmp_path)) for n in range(12)]
    with Coordinator(4) as coordinator:
        result = coordinator.start(flows.of_pairs(2), pairs).wait(LIMIT)
    assert result.output == [n * 10 for n in range(12)]
    assert type(result.output) is list
    assert most(tmp_path) == 2
    assert result.metrics == RunMetrics(14, 14, 0, 0)


@pytest.mark.parametrize("size", [1, 3])
def test_never_more_than_batch_size_steps_are_in_flight(size: int, processes: Coordinator, tmp_path: Path) -> None:
    pairs = [flows.Pair(n, str(tmp_path), wait=False) for n in range(50)]
    assert processes.start(flows.of_pairs(size), pairs).wait(LIMIT).output == [n * 10 for n in range(50)]
    assert most(tmp_path) <= size


def test_next_all_is_spliced_in_place_and_hold_adds_nothing(both: Both) -> None:
    run = both(flows.Plain, [1, [2, 3], None, 4, [], [5], None])
    assert run.wait().output == [2, 4, 6, 8, 10]
    assert list(run.context().log) == [1, [2, 3], None, 4, [], [5], None]


def test_a_batch_of_nothing_and_one_that_only_holds(both: Both) -> None:
    assert both(flows.Plain, []).wait().output == []
    assert both(flows.Plain, [None, None, None]).wait().output == []
    assert both(flows.Plain, range(3)).wait().output == [0, 2, 4]
    assert both(flows.Plain, ()).metrics() == RunMetrics(2, 2, 0, 0)


def test_the_first_item_that_fails_fails_the_batch_and_on_failure_gets_its_input(both: Both) -> None:
    """By the order of the inputs, whichever of them failed first."""
    batches = [[1, "b", "a", 3, 4], [1, 2], ["!stop", 9], [None, [], "late"]]
    run = both(flows.Caught, batches)
    assert run.wait().outputs == [
        ("caught", batches[0], "ValueError", "b"),
        [2, 4],
        ("caught", batches[2], "FloxideError", "!stop"),
        ("caught", batches[3], "ValueError", "late"),
    ]
    # In flight with "b" is "a", and with "!stop" is 9; what comes after them is not begun.
    assert list(run.context().log) == [1, 1, 2, 9, None, []]
    assert run.metrics().failed == 4
    assert [row.node for row in run.errors()] == ["batch/each"] * 4


def test_a_failed_batch_without_on_failure_fails_the_run(coordinator: Coordinator) -> None:
    run = coordinator.start(flows.Plain, [1, 2, 3, "b", 4])
    with pytest.raises(RunFailedError, match=r"failed at batch/each \(item 5, attempt 1\): ValueError: b") as caught:
        run.wait(LIMIT)
    assert caught.value.node == "batch/each"


def test_input_that_is_not_iterable_fails_the_batch(both: Both) -> None:
    with pytest.raises(RunFailedError, match=r"failed at batch/in .*TypeError: 'int' object is not iterable"):
        both(flows.Plain, 5).wait()
    assert both(flows.Caught, [5, [1]]).wait().outputs == [
        ("caught", 5, "TypeError", "'int' object is not iterable"),
        [2],
    ]


@pytest.mark.parametrize("size", [0, -1, True, 1.5, "2", None])
def test_a_batch_size_below_1_is_refused(size: Any) -> None:
    with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1"):
        BatchNode(flows.act, size)


@pytest.mark.parametrize("inner", [BatchNode(flows.act, 1), CompositeNode(flows.Plain), Join(), flows.Flaky, 5])
def test_what_cannot_be_run_on_each_input(inner: Any) -> None:
    with pytest.raises(TypeError):
        BatchNode(inner, 2)


def test_names_of_the_steps_of_a_batch_are_taken() -> None:
    with pytest.raises(WorkflowDefinitionError, match="b/each is what two nodes are called"):
        Workflow.build("Twice", {"b": BatchNode(flows.act, 1), "b/each": flows.act}, "b", {"b": "b/each"})


def test_a_function_of_no_module(both: Both) -> None:
    def local(n: int) -> int:
        return n + 1

    class Local(Workflow):
        lambdas, functions = BatchNode(lambda n: n * 2, 2), BatchNode(local, 2)
        start = lambdas
        edges = {lambdas: [functions]}

    assert both(Local, range(4)).wait().output == [1, 3, 5, 7]


# -- in graphs ----------------------------------------------------------------------------------------------------


def test_joins_around_a_batch(both: Both) -> None:
    groups = [[[1, 2], [3]], [], [[], [None, [4, 5]]]]
    run = both(flows.Around, groups)
    assert run.wait().output == [[], [6, 2, 6, 1], [0, 0, 18, 2]], "level by level"


def test_joins_of_a_batch(both: Both) -> None:
    """Each list that a batch passes on is a fan-out of one."""

    class Scoped(Workflow):
        context = flows.Log
        split, batch = flows.Caught.split, BatchNode(flows.act, 2)
        spread, join = node(lambda ctx, values: flows.NextAll(values)), Join(of=batch)
        start = split
        edges = {split: [batch], batch: [spread], spread: [join]}

    assert both(Scoped, [[1, 2], [], [3]]).wait().outputs == [[], [2, 4], [6]]


def test_a_batch_is_routed_as_a_whole(both: Both) -> None:
    assert both(flows.Routed, [[1, 2, 3], [4], []]).wait().outputs == [[], [8], 12]


def test_a_batch_behind_a_batch(both: Both) -> None:
    assert both(flows.TwoBatches, [1, [2, 3], None]).wait().output == [4, 8, 12]


def test_batches_inside_a_composite(both: Both) -> None:
    """Their failure is the composite's, with the input of the batch that failed."""
    run = both(flows.Outer, [[1, [2]], [3, "no"], [], [[4, 5]]])
    assert run.wait().output == [("caught", [3, "no"], "ValueError", "no"), [], [4, 8], [16, 20]]
    assert {row.node for row in run.errors()} == {"inner/first/each"}


# -- options ------------------------------------------------------------------------------------------------------


def test_each_item_is_retried_by_itself(both: Both) -> None:
    run = both(flows.Retried, range(6))
    result = run.wait()
    assert result.output == [0, 1, 2, 3, 4, 5]
    assert list(result.context.log) == [(0, 1), (1, 3), (2, 1), (3, 3), (4, 1), (5, 3)], "what failed wrote nothing"
    assert result.metrics == RunMetrics(total_work_items=8, completed=8, failed=0, retries=6)
    assert sorted((row.message, row.attempt) for row in run.errors()) == [(n, a) for n in "135" for a in (1, 2)]


def test_serial_items_of_a_batch(both: Both) -> None:
    assert both(flows.Serially, range(20)).wait().output == list(range(20))


def test_the_options_of_a_batch_are_those_of_its_node() -> None:
    inner = flows.Flaky()
    inner.timeout, inner.serial = 5.0, True
    batch = BatchNode(inner, 2)
    batch.serial = False
    batch.retry = flows.QUICK
    each = batch.each()
    assert (each.timeout, each.serial, each.retry) == (5.0, False, flows.QUICK)
    assert (inner.serial, inner.retry) == (True, None)


def test_an_item_that_is_too_long() -> None:
    """Ended, tried again, ended again: then its batch fails, and the others in flight have had their say."""
    with Coordinator(2) as coordinator:
        run = coordinator.start(flows.Slow, [False, True, False, False])
        result = run.wait(LIMIT)
        kind, *_, text = result.output[2:]
        assert result.output[:2] == ("caught", [False, True, False, False])
        assert (kind, "batch/each ran longer than its time-out of 0.2 s" in text) == ("NodeTimeoutError", True)
        assert result.metrics.retries == 1
        assert [row.attempt for row in run.errors()] == [1, 2]


def test_an_item_that_kills_its_worker_fails_its_batch_only() -> None:
    with Coordinator(2) as coordinator:
        bad, good = [True, False], [False] * 6
        run, other = coordinator.start(flows.Killed, bad), coordinator.start(flows.Killed, good)
        assert run.wait(LIMIT).output[:3] == ("caught", bad, "WorkerDiedError")
        assert other.wait(LIMIT).output == ["fine"] * 6
        assert [(row.item_id, row.attempt) for row in run.errors()] == [(2, 1), (2, 2), (2, 3)]


# -- going on -----------------------------------------------------------------------------------------------------


def test_a_failed_batch_is_resumed_at_its_failed_item(coordinator: Coordinator, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abcdef"]
    for path in paths:
        if path.name != "c":
            path.write_text(path.name)
    run = coordinator.start(flows.Repairable, list(map(str, paths)))
    with pytest.raises(RunFailedError, match="FileNotFoundError"):
        run.wait(LIMIT)
    ran = (tmp_path / "ran").read_text().split()
    assert set("ac") <= set(ran) <= set("abcd"), "the window ends there"
    (tmp_path / "c").write_text("c")
    run.resume()
    assert run.wait(LIMIT).output == list("abcdef")
    assert sorted((tmp_path / "ran").read_text().split()) == sorted("abcdef" + "c"), "and nothing else ran twice"
    assert run.metrics() == RunMetrics(8, 8, 0, 0)
    assert run.status is RunStatus.COMPLETED


def test_what_is_no_plain_node_is_refused_with_what_to_write_instead() -> None:
    class Inner(Workflow):
        double = start = node(lambda number: 2 * number)

    with pytest.raises(TypeError, match=r"not a CompositeNode; for more .*: split = SplitNode\(list\), end ="):
        BatchNode(CompositeNode(Inner), 2)

    class Outer(Workflow):
        split, each = SplitNode(list), CompositeNode(Inner)
        end = Join(list, of=split)
        start, edges = split, {split: [each], each: [end]}

    assert Outer().run([1, 2, 3], workers=0).output == [2, 4, 6]
