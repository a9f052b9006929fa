"""``with_retry``, and items that wait for their retry. The figures of back-offs are in ``words/test_retry``."""

from __future__ import annotations

import os
import pickle
import signal
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import (
    BatchNode,
    CompositeNode,
    Coordinator,
    Join,
    Node,
    RetryPolicy,
    RunCancelledError,
    RunFailedError,
    RunMetrics,
    SplitNode,
    WorkerStatus,
    Workflow,
    WorkflowDefinitionError,
    WorkItemStatus,
    with_retry,
)
from tests import flows_features as flows
from tests.conftest import LIMIT, Both
from tests.coordinator.test_pause_and_time_outs import Waiting
from tests.flows_batches import Plain
from tests.flows_run import until
from tests.scripts import printed

THRICE = RetryPolicy(max_attempts=3, initial_backoff=0.001)


# -- with_retry ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("original", "expected"),
    [
        (flows.FailsTwice("a class"), ("a class", 1, 3)),
        (flows.fails_twice, (1, 3)),
        (flows.Frozen("a dataclass"), ("a dataclass", 1, 3)),
        (flows.Slotted("slots"), ("slots", 1, 3)),
        (flows.Forgetful("forgetful"), ("forgetful", 1, 3)),
        (BatchNode(flows.fails_twice, 2), [(1, 3)]),
    ],
    ids=lambda part: type(part).__name__ if isinstance(part, Node) else "",
)
def test_with_retry_gives_the_same_kind_of_node_with_that_policy(both: Both, original: Node, expected: Any) -> None:
    before = dict(vars(original))
    made = with_retry(original, THRICE)
    assert type(made) is type(original)
    assert made is not original
    assert made.retry is THRICE
    assert made.timeout == original.timeout
    assert vars(original) == before, "the original is untouched"
    value = [1] if isinstance(original, BatchNode) else 1
    run = both(Workflow.build("Retried", {"node": made}, "node"), value)
    assert run.wait().output == expected
    assert run.metrics().retries == 2
    again = both(Workflow.build("NotRetried", {"node": original}, "node"), value)
    with pytest.raises(RunFailedError, match="attempt 1"):
        again.wait()


def test_the_copy_has_all_that_the_original_has() -> None:
    for original in (flows.FailsTwice("w"), flows.Frozen("w"), flows.Slotted("w"), flows.Forgetful("w")):
        assert with_retry(original, THRICE).word == "w"  # type: ignore[attr-defined]
    assert with_retry(flows.Forgetful("w"), THRICE).here == "only"
    split = SplitNode(range)
    join = with_retry(Join(sum, of=split, timeout=3.0), THRICE)
    assert (join.of, join.function, join.timeout, join.retry) == (split, sum, 3.0, THRICE)
    assert pickle.loads(pickle.dumps(with_retry(flows.fails_twice, THRICE))).retry == THRICE


def test_a_join_keeps_its_scope(both: Both) -> None:
    class Scoped(Workflow):
        groups, group = SplitNode(lambda groups: groups), SplitNode(lambda group: group)
        work = with_retry(flows.fails_twice, THRICE)
        each = with_retry(Join(flows.at_third, of=group), THRICE)
        start = groups
        edges = {groups: [group], group: [work], work: [each]}

    run = both(Scoped, [[1, 2], [3]])
    assert run.wait().outputs == [[(1, 3), (2, 3)], [(3, 3)]]
    assert run.metrics().retries == 2 * 5


def test_the_policy_of_with_retry_goes_before_the_nodes_own(both: Both) -> None:
    own = with_retry(flows.fails_twice, RetryPolicy(max_attempts=1))
    for node, value in ((with_retry(own, THRICE), 1), (with_retry(BatchNode(own, 2), THRICE), [1])):
        assert both(Workflow.build("Own", {"node": node}, "node"), value).metrics().retries == 2
    with pytest.raises(RunFailedError, match="attempt 1"):
        both(Workflow.build("Own", {"node": BatchNode(own, 2)}, "node"), [1]).wait()


def test_it_goes_before_the_coordinators() -> None:
    with Coordinator(0, retry=RetryPolicy(max_attempts=9, initial_backoff=0)) as coordinator:
        workflow = Workflow.build("Own", {"n": with_retry(flows.Step("n"), RetryPolicy(max_attempts=1))}, "n")
        with pytest.raises(RunFailedError, match="attempt 1"):
            coordinator.start(workflow, "/no/such/folder").wait(LIMIT)


@pytest.mark.parametrize(("node", "policy"), [(5, THRICE), (flows.Step, THRICE), (flows.fails_twice, 3), (None, None)])
def test_with_retry_of_something_else(node: Any, policy: Any) -> None:
    with pytest.raises(TypeError, match="with_retry takes a node and a RetryPolicy"):
        with_retry(node, policy)


def test_a_composite_is_not_retried_as_a_whole() -> None:
    with pytest.raises(WorkflowDefinitionError, match="a composite has no retry; give it to the nodes inside"):
        Workflow.build("Outer", {"inner": with_retry(CompositeNode(Plain), THRICE)}, "inner")


SCRIPT = """
from floxide_mp import BatchNode, Node, RetryPolicy, Workflow, node, with_retry

policy = RetryPolicy(max_attempts=3, initial_backoff=0.001)

@node
def function(ctx, value):
    if ctx.item.attempt < 3:
        raise ConnectionError
    return value, ctx.item.attempt

class Method(Node):
    def process(self, ctx, value):
        return function(ctx, value)

function_again = with_retry(function, policy)

class Flow(Workflow):
    first, second, third = function_again, with_retry(Method(), policy), with_retry(BatchNode(function, 2), policy)
    start = first
    edges = {first: [second], second: [third]}

for workers in (0, 2):
    result = Flow().run(1, workers=workers)
    print(result.output, result.metrics.retries, function.retry)
"""


def test_with_retry_of_functions_and_classes_of_main(tmp_path: Path) -> None:
    assert printed(SCRIPT, tmp_path) == "[((1, 3), 3), (3, 3)] 8 None\n" * 2


# -- waiting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
def test_while_an_item_waits_for_its_retry_its_worker_runs_other_items(workers: int) -> None:
    with Coordinator(workers) as coordinator:
        run = coordinator.start(flows.one_waits(3600.0), [-1, *range(20)])
        waiting = Waiting(run)
        until(lambda: run.metrics().completed == 21)
        assert sorted(run.checkpoint().outputs) == [(n, 1) for n in range(20)]
        item, *others = run.work_items()
        assert (item.node, item.attempt, item.status) == ("work", 2, WorkItemStatus.WAITING_RETRY)
        assert others == []
        until(lambda: coordinator.workers()[0].status is WorkerStatus.IDLE)
        assert run.pending_work() == [item]
        run.cancel()
        with pytest.raises(RunCancelledError):
            waiting.end()


def test_a_retry_that_waits_while_its_worker_dies_still_happens() -> None:
    """With its attempt kept."""
    with Coordinator(1) as coordinator:
        run = coordinator.start(flows.one_waits(0.5), [-1])
        until(lambda: run.errors())
        pid = coordinator.workers()[0].pid
        os.kill(pid, signal.SIGKILL)
        until(lambda: [worker.pid for worker in coordinator.workers()] not in ([], [pid]))
        assert run.wait(LIMIT).output == (-1, 2)
        assert [(row.attempt, row.type_name) for row in run.errors()] == [(1, "ConnectionError")]
        assert run.metrics() == RunMetrics(2, 2, 0, 1)
