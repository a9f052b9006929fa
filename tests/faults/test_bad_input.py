"""FAULTS 57 to 63 and 71: what is refused before any process starts, and what is fine although it looks odd."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import (
    AlreadyCompletedError,
    Context,
    Coordinator,
    FloxideError,
    Join,
    MemoryStore,
    NextAll,
    Node,
    NotStartedError,
    RetryPolicy,
    RunFailedError,
    RunStatus,
    SplitNode,
    Workflow,
    WorkflowDefinitionError,
    node,
    source,
)
from tests import conftest, flows_run
from tests.flows_run import Echo
from tests.naming import without_address

LIMIT = 50.0


@pytest.fixture(scope="module", params=[0, 2], ids=["inline", "processes"])
def coordinator(request: pytest.FixtureRequest) -> Iterator[Coordinator]:
    with Coordinator(request.param) as made:
        yield made


class Ints(Node):
    def process(self, value: int) -> int:
        return value


class Texts(Node):
    def process(self, value: str) -> str:
        return value


def test_row_57_everything_wrong_with_a_graph_at_once() -> None:
    with pytest.raises(WorkflowDefinitionError) as caught:
        Workflow.build(
            "Wrong",
            {"first": Ints(), "second": Ints()},
            start="frist",
            edges={"first": ["secnod"], "third": ["first"]},
            on_failure={"second": ["firts"]},
        )
    problems = caught.value.problems
    assert len(problems) == 4
    assert "start: there is no node 'frist'; did you mean 'first'?" in problems
    assert "edges of first: there is no node 'secnod'; did you mean 'second'?" in problems
    assert any(p.startswith("edges: there is no node 'third'") for p in problems)
    assert "on_failure of second: there is no node 'firts'; did you mean 'first'?" in problems
    assert all(problem in str(caught.value) for problem in problems)


def test_row_57_no_start() -> None:
    with pytest.raises(WorkflowDefinitionError, match="it has no start"):
        type("NoStart", (Workflow,), {"one": Ints()})


def test_row_57_unreachable_nodes() -> None:
    nodes: dict[str, Node] = {name: Ints() for name in ("one", "two", "three", "four")}
    with pytest.raises(WorkflowDefinitionError, match="unreachable from one: three, four"):
        Workflow.build("Islands", nodes, start="one", edges={"one": ["two"], "three": ["four"]})


def test_row_57_a_cycle_with_no_way_out() -> None:
    nodes: dict[str, Node] = {name: Ints() for name in ("one", "two", "three")}
    with pytest.raises(WorkflowDefinitionError, match="a cycle with no way out: two -> three"):
        Workflow.build("Round", nodes, start="one", edges={"one": ["two"], "two": ["three"], "three": ["two"]})


def test_row_58_types_that_cannot_match() -> None:
    nodes: dict[str, Node] = {"ints": Ints(), "texts": Texts(), "mend": Texts()}
    with pytest.raises(WorkflowDefinitionError) as caught:
        Workflow.build("Types", nodes, start="ints", edges={"ints": ["texts"]}, on_failure={"ints": ["mend"]})
    assert caught.value.problems == (
        "ints is int, but texts takes str",
        "the input of ints is int, but mend takes str",
    )


def test_row_60_an_empty_split_before_a_join(coordinator: Coordinator) -> None:
    result = coordinator.start(flows_run.Counted, 0).wait(LIMIT)
    assert result.outputs == [[]]
    assert result.metrics.completed == 2


def test_row_61_items_that_nothing_will_release(coordinator: Coordinator) -> None:
    run = coordinator.start(flows_run.Held, 3)
    with pytest.raises(RunFailedError) as caught:
        run.wait(LIMIT)
    assert "hold (items 2, 3, 4)" in str(caught.value)
    assert "held" in str(run.info().error)
    assert run.status is RunStatus.FAILED


@pytest.mark.parametrize("workers", [-1, True, False, "4", 1.5, 2.0, float("nan"), [2]])
def test_row_62_workers(workers: Any) -> None:
    before = conftest.children()
    with pytest.raises(ValueError, match="workers must be a whole number"):
        Coordinator(workers)
    with pytest.raises(ValueError, match="workers must be a whole number"):
        Echo().run(1, workers=workers)
    assert conftest.children() == before


@pytest.mark.parametrize("seconds", [-1, True, "4", float("nan"), 0])
def test_row_62_seconds_of_a_node(seconds: Any) -> None:
    with pytest.raises(ValueError, match="timeout must be seconds"):
        node(timeout=seconds)(print)
    bad = Ints()
    bad.timeout = seconds
    with pytest.raises(WorkflowDefinitionError, match="timeout must be seconds"):
        Workflow.build("Bad", {"bad": bad}, start="bad")


@pytest.mark.parametrize("seconds", [-1, True, "4", float("nan")])
def test_row_62_seconds_of_a_wait(seconds: Any) -> None:
    before = conftest.children()
    with pytest.raises(ValueError, match="timeout must be seconds"):
        Echo().run(1, workers=1, timeout=seconds)
    with pytest.raises(ValueError, match="grace must be seconds"):
        Coordinator(1, grace=seconds)
    assert conftest.children() == before
    with Coordinator(0) as coordinator:
        run = coordinator.start(Echo, 1)
        with pytest.raises(ValueError, match="timeout must be seconds"):
            run.wait(seconds)
        with pytest.raises(ValueError, match="grace must be seconds"):
            run.cancel(seconds)
        assert run.wait(LIMIT).output == 1, "nothing happened to it"
    sender, _ = source(1)
    for timeout in (seconds, seconds):  # while there is room, and when there is none
        with pytest.raises(ValueError, match="timeout must be seconds"):
            sender.send(1, timeout)
        with contextlib.suppress(TimeoutError):
            sender.send(1, timeout=0)


def test_row_62_no_number_of_seconds_is_too_large() -> None:
    for seconds in (1e300, float("inf")):
        with Coordinator(1, grace=seconds) as coordinator:
            slow = Workflow.build("Slow", {"echo": flows_run.LongEcho()}, start="echo")
            assert coordinator.start(slow, 2).wait(seconds).output == 2
            run = coordinator.start(flows_run.Gated, "/dev/null")
            run.cancel(seconds)
            with contextlib.suppress(FloxideError):
                run.wait(LIMIT)
            assert coordinator.start(Echo, 1).wait(LIMIT).output == 1


@pytest.mark.parametrize(
    "options",
    [
        {"max_attempts": 0},
        {"max_attempts": True},
        {"max_attempts": 1.5},
        {"initial_backoff": -1},
        {"max_backoff": float("nan")},
        {"jitter": "1"},
        {"strategy": "linear"},
        {"retry_error": ValueError},
        {"retry_error": (ValueError, "x")},
    ],
    ids=str,
)
def test_row_62_retry_policies(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        RetryPolicy(**options)


@pytest.mark.parametrize("retry", [3, "twice", RetryPolicy, (ValueError,)])
def test_row_62_what_is_no_retry_policy(retry: Any) -> None:
    before = conftest.children()
    with pytest.raises(ValueError, match="retry must be a RetryPolicy"):
        node(retry=retry)(print)
    with pytest.raises(ValueError, match="retry must be a RetryPolicy"):
        Coordinator(1, retry=retry)
    assert conftest.children() == before


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda ctx, value: ctx, "a context belongs to its step and cannot leave it"),
        (
            lambda ctx, value: {"a": [ctx]},
            r"the result of work\['a'\]\[0\] is a Context: a context belongs to its step",
        ),
    ],
)
def test_a_context_does_not_leave_its_step(function: Callable[..., Any], text: str, coordinator: Coordinator) -> None:
    made = Workflow.build("Leaving", {"work": node(function)}, start="work")
    with pytest.raises(RunFailedError, match=text):
        coordinator.start(made, 1).wait(LIMIT)


def test_a_generator_is_no_value(coordinator: Coordinator) -> None:
    def counting(value: int) -> Iterator[int]:
        yield from range(value)

    made = Workflow.build("Counting", {"count": node(counting)}, start="count")
    with pytest.raises(RunFailedError, match=r"count returned a generator; to fan out .* return NextAll\(...\) of it"):
        coordinator.start(made, 3).wait(LIMIT)


@pytest.mark.parametrize("values", ["abc", b"abc", bytearray(b"abc"), None, 3], ids=repr)
@pytest.mark.parametrize("split", [node(NextAll), SplitNode(lambda values: values)], ids=["NextAll", "SplitNode"])
def test_a_single_value_is_not_fanned_out(split: Node, values: Any, coordinator: Coordinator) -> None:
    made = Workflow.build("Splitting", {"split": split}, start="split")
    with pytest.raises(RunFailedError) as caught:
        coordinator.start(made, values).wait(LIMIT)
    text = f"split returned NextAll({values!r}); it takes an iterable of values: for this one, NextAll([{values!r}])"
    assert text in str(caught.value)


class Numbered:
    """Iterable without an ``__iter__``."""

    def __getitem__(self, number: int) -> int:
        return (3, 4)[number]


@pytest.mark.parametrize(
    "values", [["abc"], list("abc"), (), {"a": 1, "b": 2}.items(), range(2), Numbered()], ids=without_address
)
def test_any_iterable_of_values_is(values: Any) -> None:
    assert Workflow.build("Splitting", {"split": SplitNode(iter)}, start="split")().run(values).outputs == [*values]
    assert Workflow.build("Splitting", {"split": node(NextAll)}, start="split")().run(values).outputs == [*values]


@pytest.mark.parametrize("store", [3, MemoryStore, {}], ids=repr)
def test_what_is_no_store(store: Any) -> None:
    before = conftest.children()
    with pytest.raises(TypeError, match="store must be a CheckpointStore"):
        Coordinator(1, store)
    with pytest.raises(TypeError, match="store must be a CheckpointStore"):
        Echo().run_with_checkpoint(1, store=store, run_id="r")
    assert conftest.children() == before


def test_the_class_is_not_the_workflow() -> None:
    for call in (lambda: Echo.run(1), lambda: Echo.run_with_checkpoint(1, store=None, run_id="r")):  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"run was called on the class: .*, as in Orders\(\)\.run\("):
            call()


@pytest.mark.parametrize("status", ["completed", 3, RunStatus], ids=repr)
def test_what_is_no_status_of_a_run(status: Any) -> None:
    with Coordinator(0) as coordinator:
        coordinator.start(Echo, 1).wait(LIMIT)
        with pytest.raises(ValueError, match="status must be a RunStatus"):
            coordinator.runs(status)
        assert len(coordinator.runs(RunStatus.COMPLETED)) == len(coordinator.runs()) == 1


@pytest.mark.parametrize("run_id", ["", "two\nlines", "x" * 201, 5, b"bytes", "nul\0"])
def test_row_63_what_is_no_run_id(run_id: Any) -> None:
    with Coordinator(0) as coordinator:
        with pytest.raises(ValueError, match="run_id"):
            coordinator.start(Echo, 1, run_id=run_id)
        assert coordinator.runs() == []


@pytest.mark.parametrize("seed", [1.5, "1", None, True])
def test_row_63_what_is_no_seed(seed: Any) -> None:
    with Coordinator(0) as coordinator:
        with pytest.raises(ValueError, match="seed must be a whole number"):
            coordinator.start(Echo, 1, seed=seed)
        assert coordinator.runs() == []


def test_row_63_what_is_no_context_and_no_workflow() -> None:
    with Coordinator(0) as coordinator:
        for ctx in ({}, flows_run.Log, 5):
            with pytest.raises(FloxideError, match=r"Context|ctx"):
                coordinator.start(flows_run.Logged, 1, ctx=ctx)
        with pytest.raises(FloxideError, match="takes a Log as ctx, not a Context"):
            coordinator.start(flows_run.Logged, 1, ctx=Context())
        for workflow in (5, Workflow, flows_run.echo, "Echo"):
            with pytest.raises((TypeError, WorkflowDefinitionError)):
                coordinator.start(workflow, 1)  # type: ignore[arg-type]
        assert coordinator.runs() == []


def test_row_63_four_different_errors_that_say_what_to_do(coordinator: Coordinator) -> None:
    done = coordinator.start(Echo, 1, run_id="done-1")
    done.wait(LIMIT)
    failed = coordinator.start(flows_run.Failing, 1, run_id="failed-1")
    with pytest.raises(RunFailedError):
        failed.wait(LIMIT)

    told = [
        error_of(lambda: coordinator.start(flows_run.Logged, 1, run_id="done-1")),
        error_of(lambda: coordinator.run("dnoe-1")),
        error_of(lambda: coordinator.resume(Echo, "nothing-like-it")),
        error_of(lambda: coordinator.resume(Echo, "done-1")),
        error_of(lambda: coordinator.start(flows_run.Failing, 1, run_id="failed-1")),
        error_of(lambda: coordinator.start(Echo, 2, run_id="done-1")),
        error_of(lambda: coordinator.resume(Echo, "failed-1")),
    ]
    used, misspelt, unknown, completed, has_failed, other_input, other_workflow = told
    assert "'done-1' is a run of Echo; choose another run_id for Logged" in str(used)
    assert isinstance(misspelt, NotStartedError)
    assert "did you mean 'done-1'?" in str(misspelt)
    assert isinstance(unknown, NotStartedError)
    assert "coordinator.start" in str(unknown)
    assert isinstance(completed, AlreadyCompletedError)
    assert "coordinator.run('done-1').wait()" in str(completed)
    assert "coordinator.resume(Failing, 'failed-1')" in str(has_failed)
    assert "choose another run_id" in str(other_input)
    assert "is a run of Failing, not of Echo" in str(other_workflow)
    assert [error.run_id for error in told] == [
        "done-1", "dnoe-1", "nothing-like-it", "done-1", "failed-1", "done-1", "failed-1",
    ]  # fmt: skip
    # The four are told apart by their types or texts, and nothing was changed by asking.
    assert len({str(error) for error in told}) == len(told)
    assert done.wait(LIMIT).output == 1
    assert coordinator.start(Echo, 1, run_id="done-1").wait(LIMIT).output == 1


def error_of(call: Callable[[], Any]) -> FloxideError:
    with pytest.raises(FloxideError) as caught:
        call()
    return caught.value


TMPDIR_SCRIPT = """
    import os, tempfile
    from floxide_mp import Coordinator, Join, NextAll, Workflow, node
    @node
    def split(n): return NextAll(range(n))
    @node
    def work(n): return n * n
    class Squares(Workflow):
        split = split
        work = work
        join = Join(sum)
        start = split
        edges = {split: [work], work: [join]}
    with Coordinator(2) as c:
        print(c.start(Squares, 100).wait(50).output)
"""


@pytest.mark.parametrize("kind", ["95 characters", "missing", "file", "not writable", "full"])
def test_row_71_odd_tmpdir(tmp_path: Path, kind: str) -> None:
    """Nothing of ours is in it, nor anywhere else in the file system."""
    odd: Path
    if kind == "95 characters":
        odd = tmp_path / ("x" * (94 - len(str(tmp_path))))
        odd.mkdir()
        assert len(str(odd)) == 95
    elif kind == "missing":
        odd = tmp_path / "missing"
    elif kind == "file":
        odd = tmp_path / "file"
        odd.touch()
    elif kind == "not writable":
        odd = Path("/proc/self")  # where root cannot write either
    else:
        odd = Path("/dev/full")
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(TMPDIR_SCRIPT))
    before = sorted(tmp_path.rglob("*"))
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env={**os.environ, "PYTHONPATH": os.getcwd(), "TMPDIR": str(odd), "TEMP": str(odd), "TMP": str(odd)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "328350\n", "")
    assert sorted(tmp_path.rglob("*")) == before


def test_join_is_what_it_is_asked_to_be() -> None:
    with pytest.raises(WorkflowDefinitionError, match="which is not a node of this workflow"):
        Workflow.build("Bad", {"a": Ints(), "j": Join(of="b")}, start="a", edges={"a": ["j"]})
