"""Workflows as nodes of others: their steps are steps of the outer run."""

from __future__ import annotations

from typing import Any

import pytest

from floxide_mp import (
    BatchNode,
    CompositeNode,
    Context,
    Coordinator,
    EventLog,
    Join,
    Node,
    RunFailedError,
    Workflow,
    WorkflowDefinitionError,
)
from tests import flows_graphs as flows


def total(x: int) -> int:
    return x * x + (x + 1) * (x + 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_each_inner_step_is_a_step_of_the_run(workers: int) -> None:
    result = flows.Sums().run(5, workers=workers)
    assert result.output == [total(x) - 1 for x in range(5)]
    # split, all; for each of 5: the way in, both, two squares, total, less_one
    assert result.metrics.total_work_items == result.metrics.completed == 2 + 5 * 6


@pytest.mark.parametrize("workers", [0, 2])
def test_outputs_are_routed_by_the_outer_edges(workers: int) -> None:
    expected = [t - 1 if t % 3 == 1 else t for t in map(total, range(6))]
    assert sorted(flows.Routed().run(6, workers=workers).outputs) == sorted(expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_join_of_a_composite_fires_for_each_of_its_items(workers: int) -> None:
    # Item x is split into y < x inside, each of which gives y² and (y + 1)²; the join adds up what x gave.
    assert flows.Scoped().run(5, workers=workers).outputs == [sum(total(y) for y in range(x)) for x in range(5)]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failure_inside_goes_to_the_outer_on_failure(workers: int) -> None:
    result = flows.Caught().run(11, workers=workers)
    # 12 and 13 each have 13 among their squares; the join inside goes on with what there is.
    assert sorted(result.output) == sorted([total(11), 12 * 12, 14 * 14, total(14), -13, -13])


def test_a_failure_names_the_inner_node() -> None:
    with pytest.raises(RunFailedError, match="squares/square") as caught:
        flows.Sums().run(14)
    assert caught.value.node == "squares/square"


def test_the_context_must_be_what_the_inner_workflow_needs() -> None:
    class Logged(Context):
        log: EventLog[str]

    class Inner(Workflow):
        context = Logged
        one = flows.less_one
        start = one

    with pytest.raises(WorkflowDefinitionError, match="needs a Logged as context"):

        class Outer(Workflow):
            inner = CompositeNode(Inner)
            start = inner


def build(nodes: dict[str, Node], edges: dict[str, Any], start: str = "inner") -> type[Workflow]:
    return Workflow.build("Outer", nodes, start, edges)


@pytest.mark.parametrize("workflow", ["Inner", 3, int, None, CompositeNode], ids=repr)
def test_what_is_no_workflow_is_refused(workflow: Any) -> None:
    with pytest.raises(TypeError, match="CompositeNode takes a Workflow, class or instance, not "):
        CompositeNode(workflow)


def test_a_misspelt_composite_is_recognised() -> None:
    nodes = {"first": flows.less_one, "squares": CompositeNode(flows.PerItem), "all": Join(of="sqares")}
    with pytest.raises(WorkflowDefinitionError) as caught:
        build(nodes, {"first": ["squars"], "squares": ["all"]}, "first")
    assert caught.value.problems == (
        "edges of first: there is no node 'squars'; did you mean 'squares'?",
        "all is Join(of=sqares), which is not a node of this workflow; did you mean 'squares'?",
    )


def test_inner_nodes_may_be_called_what_ways_in_and_out_are_called() -> None:
    inner = Workflow.build("Inner", {"in": flows.less_one, "out": Join(sum)}, "in", {"in": ["out"]})
    made = build({"inner": CompositeNode(inner), "minus": flows.minus}, {"inner": {int: ["minus"]}})
    assert made().run(8).outputs == [-7]


@pytest.mark.parametrize(
    ("composite", "taken"),
    [
        (CompositeNode(flows.Squares), "inner/square"),
        (CompositeNode(flows.Squares), "inner/in"),
        (CompositeNode(flows.PerItem), "inner/out"),
        (BatchNode(flows.square, 2), "inner/each"),
    ],
)
def test_no_other_node_is_called_like_an_inner_step(composite: Node, taken: str) -> None:
    with pytest.raises(WorkflowDefinitionError) as caught:
        build({"inner": composite, taken: flows.minus}, {"inner": {int: [taken]}})
    assert (
        caught.value.problems[0]
        == f"{taken} is what two nodes are called; a step of a composite or batch has that name"
    )


def test_one_slow_item_does_not_hold_back_the_rest_of_its_lease(tmp_path: object) -> None:
    """Its neighbours were leased together with it, being thought quick."""
    import os

    gate = f"{tmp_path}/gate"
    os.mkfifo(gate)
    with Coordinator(2) as coordinator:
        coordinator.start(flows.Gates, flows.Gated(4000)).wait(60)  # now a step is known to be quick
        run = coordinator.start(flows.Gates, flows.Gated(2000, 1000, gate))
        outputs = run.stream()
        others = {next(outputs) for _ in range(1999)}
        assert others == set(range(2000)) - {1000}
        with open(gate, "wb") as pipe:
            pipe.write(b"!")
        assert list(outputs) == [1000]
