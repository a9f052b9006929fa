"""A coordinator takes up what another one left: by closing in the middle, by dying at a commit, by failing. The answer
is that of the run that nobody disturbed.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import seed as seed_of_sample
from hypothesis import strategies as st

from floxide_mp import (
    AlreadyCompletedError,
    BatchNode,
    CompositeNode,
    Coordinator,
    Fixed,
    FloxideError,
    Join,
    MemoryStore,
    RetryPolicy,
    Run,
    RunFailedError,
    RunMetrics,
    RunStatus,
    Workflow,
    WorkItemStatus,
    source,
    with_retry,
)
from floxide_mp.core.graph import Graph
from floxide_mp.core.records import Commit
from floxide_mp.ports import Progress, RunRecord
from tests import flows_batches as batches
from tests import flows_features as features
from tests.conftest import LIMIT
from tests.core.graphs import graphs
from tests.engines.test_same_answer import outcome, small, workflow
from tests.flows_random import Ctx, Trouble
from tests.flows_run import Gate, until

EXAMPLES = int(os.environ.get("FLOXIDE_EXAMPLES_GOING_ON", "40"))
seeds = st.integers(0, 2**32)


def many(examples: int, fixed: int) -> Callable[[Any], Any]:
    """A sample of so many, which is judged: the one of that seed, whatever is written around it."""
    sized = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )

    def sampled(check: Any) -> Any:
        return sized(check if "FLOXIDE_EXAMPLES_GOING_ON" in os.environ else seed_of_sample(fixed)(check))

    return sampled


class Killed(BaseException):
    """The coordinator's process is gone."""


class Pressed(MemoryStore):
    """Somebody presses Ctrl-C in the middle of every third write."""

    writes = 0

    def create(self, run: RunRecord, commit: Commit, progress: Progress) -> None:
        self.press()
        super().create(run, commit, progress)

    def commit(self, run_id: str, commit: Commit, progress: Progress) -> None:
        self.press()
        super().commit(run_id, commit, progress)

    def press(self) -> None:
        self.writes += 1
        if self.writes % 3 == 1:
            signal.raise_signal(signal.SIGINT)


class Mortal(MemoryStore):
    """After so many commits the process that writes to it dies, and writes no more."""

    left = 0

    def commit(self, run_id: str, commit: Commit, progress: Progress) -> None:
        if not self.left:
            raise Killed
        super().commit(run_id, commit, progress)
        self.left -= 1
        if not self.left:
            raise Killed


def undisturbed(coordinator: Coordinator, made: type[Workflow], seed: int) -> tuple[Any, ...]:
    run = coordinator.start(made, "input", Ctx(Fixed(Trouble())), seed=seed)
    assume(small(run))
    return outcome(run)


def taken_up(coordinator: Coordinator, made: type[Workflow], seed: int, trouble: Trouble = Trouble()) -> Run:  # noqa: B008
    """The run, begun or gone on with, unless it is over."""
    status = next((info.status for info in coordinator.runs()), None)
    if status is RunStatus.RUNNING and len(coordinator.run("x").context().log) % 2:
        return coordinator.resume(made, "x")
    if status not in (None, RunStatus.RUNNING):
        return coordinator.run("x")
    return coordinator.start(made, "input", Ctx(Fixed(trouble)), "x", seed=seed)


def judged(seen: Counter[str]) -> None:
    """The sample must be one that could have gone wrong."""
    assert seen["runs"] > seen["tried"] / 3
    assert seen["items"] > 8 * seen["runs"]
    assert seen["left"] > 1.5 * seen["runs"]
    for kind in ("joins", "batches", "failures", "serial"):
        assert seen[kind] > seen["runs"] / 10, f"too few {kind}: {seen}"


def note(seen: Counter[str], made: type[Workflow], got: tuple[Any, ...], failed: int) -> None:
    graph = made.__compiled__.graph
    seen["runs"] += 1
    seen["items"] += got[4]
    seen["joins"] += any(spec.join_of is not None and not spec.name.endswith("/batch") for spec in graph.nodes)
    seen["batches"] += any(spec.window is not None for spec in graph.nodes)
    seen["serial"] += any(spec.serial for spec in graph.nodes)
    seen["failures"] += failed > 0


@pytest.mark.timeout(300)
def test_killed_at_any_commit_and_taken_up_gives_the_answer_of_the_undisturbed_run() -> None:
    seen: Counter[str] = Counter()
    with Coordinator(0) as inline:

        @given(graphs(), seeds, seeds)
        @many(EXAMPLES * 5, 1)
        def check(graph: Graph, seed: int, chance: int) -> None:
            seen["tried"] += 1
            made = workflow(graph, seed, composites=True)
            expected = undisturbed(inline, made, seed)
            schedule, store = random.Random(chance), Mortal()
            store.left = schedule.choice((1, 2, 5, 20))
            while True:
                try:
                    with Coordinator(0, store) as coordinator:
                        got = outcome(taken_up(coordinator, made, seed))
                        break
                except Killed:
                    seen["left"] += 1
                store.left = schedule.choice((1, 2, 5, 20))
            assert got == expected
            note(seen, made, got, store.progress("x").metrics.failed)

        check()
    judged(seen)


@pytest.mark.timeout(300)
def test_interrupted_in_random_nodes_and_taken_up(tmp_path: Path) -> None:
    """Ctrl-C in a step of an inline run, as often as there are victims."""
    seen: Counter[str] = Counter()
    with Coordinator(0) as inline:

        @given(graphs(), seeds, seeds)
        @many(EXAMPLES, 1)
        def check(graph: Graph, seed: int, chance: int) -> None:
            seen["tried"] += 1
            made = workflow(graph, seed, composites=True)
            expected = undisturbed(inline, made, seed)
            orders = sorted({event.order for event in expected[2]})
            assume(orders)
            schedule, store = random.Random(chance), MemoryStore()
            bells = tmp_path / str(seen["tried"])
            bells.mkdir()
            victims = frozenset(schedule.sample(orders, min(4, len(orders))))
            trouble = Trouble(victims, str(bells), interrupts=True)
            for _ in range(len(victims) + 1):
                try:
                    with Coordinator(0, store) as coordinator:
                        got = outcome(taken_up(coordinator, made, seed, trouble))
                        break
                except KeyboardInterrupt:
                    seen["left"] += 1
            assert got == expected
            note(seen, made, got, store.progress("x").metrics.failed)

        check()
    judged(seen)


@pytest.mark.timeout(300)
def test_ctrl_c_in_the_middle_of_a_commit_waits_until_it_is_done() -> None:
    """Then whoever waits is interrupted, and may wait again, on the same coordinator or on another one."""
    seen: Counter[str] = Counter()
    with Coordinator(0) as inline:

        @given(graphs(), seeds, seeds)
        @many(EXAMPLES // 2, 1)
        def check(graph: Graph, seed: int, chance: int) -> None:
            seen["tried"] += 1
            made = workflow(graph, seed, composites=True)
            expected = undisturbed(inline, made, seed)
            schedule, store = random.Random(chance), Pressed()
            got = None
            while got is None:
                with Coordinator(0, store) as coordinator:
                    while got is None and schedule.random() < 0.8:
                        try:
                            got = outcome(taken_up(coordinator, made, seed))
                        except KeyboardInterrupt:
                            seen["left"] += 1
            assert got == expected
            note(seen, made, got, store.progress("x").metrics.failed)

        check()
    judged(seen)


@pytest.mark.timeout(300)
def test_closed_in_the_middle_at_random_moments_and_taken_up(tmp_path: Path) -> None:
    """On processes, with ``grace=0``, so that steps are killed; what goes on with it may be inline or on processes."""
    seen: Counter[str] = Counter()
    with Coordinator(0) as inline:

        @given(graphs(), seeds, seeds)
        @many(EXAMPLES // 5, 2)
        def check(graph: Graph, seed: int, chance: int) -> None:
            seen["tried"] += 1
            made = workflow(graph, seed, composites=True)
            expected = undisturbed(inline, made, seed)
            assume(expected[4] > 10)
            schedule, store = random.Random(chance), MemoryStore()
            moments = sorted(schedule.sample(range(1, expected[5]), 3))
            for moment in moments:
                with Coordinator(schedule.choice((0, 2, 2)), store, grace=0.0) as coordinator:
                    run = taken_up(coordinator, made, seed)
                    while run.metrics().completed < moment and run.status is RunStatus.RUNNING:
                        try:
                            run.wait(0.0005)
                        except (TimeoutError, RunFailedError):
                            pass
                    seen["left"] += run.status is RunStatus.RUNNING
            with Coordinator(schedule.choice((0, 2)), store) as coordinator:
                got = outcome(taken_up(coordinator, made, seed))
            assert got == expected
            note(seen, made, got, store.progress("x").metrics.failed)

        check()
    judged(seen)


# -- what is kept, and what may change ----------------------------------------------------------------------------

both_engines = pytest.mark.parametrize("workers", [0, 2])


def ran(folder: Path) -> list[str]:
    return (folder / "ran").read_text().split()


@both_engines
@pytest.mark.parametrize("another", [False, True], ids=["the same coordinator", "another one"])
def test_a_failed_run_goes_on_with_a_mended_node(workers: int, another: bool, tmp_path: Path) -> None:
    """With the options of the mended one, too."""
    (tmp_path / "second").write_text("fails")
    store = MemoryStore()
    with Coordinator(workers, store) as coordinator:
        run = coordinator.start(features.Chain, str(tmp_path), run_id="x")
        with pytest.raises(RunFailedError, match="second fails"):
            run.wait(LIMIT)
        if not another:
            _mend(coordinator, tmp_path)
    if another:
        with Coordinator(workers, store) as coordinator:
            _mend(coordinator, tmp_path)


def _mend(coordinator: Coordinator, folder: Path) -> None:
    policy = RetryPolicy(max_attempts=3, initial_backoff=0.001)
    still_bad = with_retry(features.Step("second"), policy)
    with pytest.raises(RunFailedError, match=r"second \(item 2, attempt 3\)"):
        coordinator.resume(features.Chain(second=still_bad), "x").wait(LIMIT)
    (folder / "mended").write_text("fails")
    mended = with_retry(features.FailsTwice("mended"), policy)
    result = coordinator.resume(features.Chain(second=mended, last=features.Anything()), "x").wait(LIMIT)
    assert result.output == ("mended", str(folder), 3)
    assert result.metrics == RunMetrics(total_work_items=3, completed=3, failed=0, retries=4)
    assert [row.attempt for row in coordinator.run("x").errors()] == [1, 1, 2, 3, 1, 2]
    assert ran(folder) == ["first", *["second"] * 4]


@both_engines
def test_a_mended_node_inside_a_batch_and_inside_a_composite(workers: int) -> None:
    store = MemoryStore()
    with Coordinator(workers, store) as coordinator:
        run = coordinator.start(batches.Nested, [1, "x", 2], run_id="x")
        for _ in range(2):
            with pytest.raises(RunFailedError, match="inner/batch/each"):
                run.wait(LIMIT)
            run.resume()
    mended = batches.Nested(inner=CompositeNode(batches.OneBatch(batch=BatchNode(batches.length, 2))))
    result = mended.resume(store=store, run_id="x", workers=workers)
    assert result.output in ([2, 1, 4], [2, 1, 1]), "2 may have been done before"


CHANGED = {
    "first, second changed": ({"first": ["second", "last"], "second": []}, {}),
    "first changed": ({"first": ["second", "last"], "second": ["last"]}, {}),
    "first, more changed": ({"first": ["second", "more"], "second": ["last"]}, {"more": features.Step("more")}),
    "second, last changed": ({"first": ["second"], "second": ["last"]}, {"last": Join(of="first")}),
    "last changed": ({"first": ["second"], "second": ["last"]}, {"last": Join()}),
    "second changed": ({"first": ["second"], "second": {str: ["last"], int: []}}, {}),
}


@pytest.mark.parametrize("what", CHANGED)
def test_another_graph_is_refused_and_the_changed_nodes_named(what: str, tmp_path: Path) -> None:
    edges, more = CHANGED[what]
    nodes = {name: features.Step(name) for name in ("first", "second", "last")} | more
    failures = {"second": ["last"]} if what == "second, last changed" else {}
    other = Workflow.build("Chain", nodes, "first", edges, failures, context=features.Log)
    store = MemoryStore()
    with Coordinator(0, store) as coordinator:
        coordinator.start(features.Chain, str(tmp_path), run_id="x")
    with Coordinator(0, store) as coordinator:
        for verb in (lambda: coordinator.resume(other, "x"), lambda: coordinator.start(other, "", run_id="x")):
            with pytest.raises(FloxideError, match=f"run 'x' began in another graph of that name: .*{what}"):
                verb()
        with pytest.raises(FloxideError, match="run 'x' is a run of Chain, not of Flow"):
            coordinator.resume(features.Flow, "x")
        assert coordinator.run("x").status is RunStatus.RUNNING
        assert coordinator.resume(features.Chain, "x").wait(LIMIT).output == str(tmp_path)


def test_another_batch_size_is_the_same_graph() -> None:
    store = MemoryStore()
    with Coordinator(0, store) as coordinator:
        coordinator.start(batches.Plain, [1, 2], run_id="x")
    assert batches.Plain(batch=BatchNode(batches.length, 3)).resume(store=store, run_id="x").output == [1, 1]


@both_engines
def test_what_was_left_can_be_looked_at(workers: int, tmp_path: Path) -> None:
    store = MemoryStore()
    gate = Gate(tmp_path)
    with Coordinator(2, store, grace=0.0) as coordinator:
        run = coordinator.start(features.GatedChain, str(gate.path), run_id="x")
        gate.entered(1)
    with Coordinator(workers, store) as coordinator:
        run = coordinator.run("x")
        assert [(info.run_id, info.status) for info in coordinator.runs()] == [("x", RunStatus.RUNNING)]
        assert run.metrics() == RunMetrics(1, 0, 0, 0)
        assert [(item.node, item.status) for item in run.work_items()] == [("first", WorkItemStatus.PENDING)]
        assert run.pending_work() == run.work_items() == list(run.checkpoint().queue)
        assert (run.errors(), list(run.context().log), run.checkpoint().outputs) == ([], [], ())
        for verb in (run.wait, lambda: list(run.stream())):
            with pytest.raises(FloxideError, match=r"was not over when it was left; coordinator\.resume"):
                verb()
        with pytest.raises(FloxideError, match=r"needs its workflow to go on: coordinator\.resume\(workflow, 'x'\)"):
            run.resume()
        gate.open()
        coordinator.resume(features.GatedChain, "x")
        coordinator.resume(features.GatedChain, "x")
        run.resume()
        assert list(run.wait(LIMIT).context.log) == ["first", "second", "third"]
        assert list(run.stream()) == [str(gate.path)]


@both_engines
def test_a_retry_that_waited_keeps_its_attempt(workers: int) -> None:
    store = MemoryStore()
    with Coordinator(workers, store) as coordinator:
        run = coordinator.start(features.one_waits(0.3), [-1, 1], run_id="x")
        while not (run.errors() and run.metrics().completed == 2):
            with pytest.raises(TimeoutError):
                run.wait(0.01)
    assert [item.status for item in run.work_items()] == [WorkItemStatus.WAITING_RETRY]
    result = features.one_waits(0.3)().resume(store=store, run_id="x", workers=workers)
    assert result.outputs == [(-1, 2), (1, 1)]
    assert result.metrics == RunMetrics(3, 3, 0, 1)


@both_engines
def test_a_batch_that_has_failed_is_taken_up_as_such(workers: int, tmp_path: Path) -> None:
    """Its second item has failed, the first is at a gate when the coordinator is closed: the fourth never runs."""
    store = MemoryStore()
    gate = Gate(tmp_path)
    with Coordinator(2, store, grace=0.0) as coordinator:
        run = coordinator.start(batches.Spoilt, [str(gate.path), "fails", "/dev/null", "/dev/null"], run_id="x")
        gate.entered(1)
        until(lambda: run.errors())
        until(lambda: run.metrics().failed == 1)
    gate.open()
    result = batches.Spoilt().resume(store=store, run_id="x", workers=workers)
    assert result.output == ("caught", [str(gate.path), "fails", "/dev/null", "/dev/null"], "ValueError", "fails")
    assert result.metrics == RunMetrics(total_work_items=5, completed=4, failed=1, retries=0), "one was dropped"


@both_engines
@pytest.mark.parametrize("ending", ["cancel", "fail", "time-out"])
def test_left_while_it_comes_to_its_end(workers: int, ending: str, tmp_path: Path) -> None:
    """One step still runs when the coordinator is closed, so the run is not over; then it is what it was to become."""
    store = MemoryStore()
    (tmp_path / "slow").write_text("deaf")
    with Coordinator(2, store, grace=0.0) as coordinator:
        limit = 1.0 if ending == "time-out" else None
        workflow = features.FailingAndDeaf if ending == "fail" else features.Rescued
        run = coordinator.start(workflow, str(tmp_path), run_id="x", timeout=limit)
        until(lambda: list(tmp_path.glob("in-*")))
        if ending == "cancel":
            run.cancel(grace=LIMIT)
        until(lambda: ending != "fail" or run.errors())
        until(lambda: ending != "time-out" or run.info().error)
        assert run.status not in (RunStatus.RUNNING, RunStatus.FAILED, RunStatus.CANCELLED), "it is on the way"
    (tmp_path / "slow").unlink()
    with Coordinator(workers, store) as coordinator:
        if ending == "cancel":
            with pytest.raises(AlreadyCompletedError, match="was cancelled, which is final"):
                coordinator.resume(workflow, "x")
            assert coordinator.run("x").status is RunStatus.CANCELLED
        elif ending == "fail":
            with pytest.raises(RunFailedError, match="no luck"):
                coordinator.resume(workflow, "x").wait(LIMIT)
        else:
            assert coordinator.resume(workflow, "x").wait(LIMIT).output == "done"
    assert "rescued" not in ran(tmp_path)


@both_engines
@pytest.mark.parametrize("taken", [0, 3])
def test_a_run_that_a_source_fed_goes_on_with_what_was_taken(workers: int, taken: int) -> None:
    """A join that waited for more of it fires."""
    store = MemoryStore()
    sender, values = source(5)
    with Coordinator(workers, store) as coordinator:
        run = coordinator.start(features.Summed, values, run_id="x")
        for n in range(taken):
            sender.send(n + 1)
        while run.metrics().completed < taken:
            with pytest.raises(TimeoutError):
                run.wait(0.01)
    result = features.Summed().resume(store=store, run_id="x", workers=workers)
    assert result.output == sum(range(taken + 1))
    assert result.metrics.completed == taken + 1


def test_a_run_that_a_source_fed_and_nothing_is_left_of(tmp_path: Path) -> None:
    """It is completed by being taken up, which is no error."""
    store = MemoryStore()
    sender, values = source(5)
    with Coordinator(0, store) as coordinator:
        run = coordinator.start(features.Flow, values, run_id="x")
        sender.send(7)
        with pytest.raises(TimeoutError):
            run.wait(0.1)
    assert features.Flow().resume(store=store, run_id="x").outputs == [7]
    with pytest.raises(AlreadyCompletedError):
        features.Flow().resume(store=store, run_id="x")


def test_many_runs_in_one_store(tmp_path: Path) -> None:
    store = MemoryStore()
    with Coordinator(0, store) as coordinator:
        for n in range(5):
            coordinator.start(features.Flow, n, run_id=f"flow-{n}")
            if n == 0:
                coordinator.run("flow-0").wait(LIMIT)
    with Coordinator(0, store) as coordinator:
        assert [info.run_id for info in coordinator.runs()] == [f"flow-{n}" for n in range(5)], "oldest first"
        assert [info.run_id for info in coordinator.runs(RunStatus.RUNNING)] == [f"flow-{n}" for n in (1, 2, 3, 4)]
        coordinator.start(features.Flow, 9, run_id="flow-9").wait(LIMIT)
        assert coordinator.run("flow-0").wait(LIMIT).output == 0
        assert coordinator.resume(features.Flow, "flow-1").wait(LIMIT).output == 1
        assert [info.run_id for info in coordinator.runs(RunStatus.RUNNING)] == [f"flow-{n}" for n in (2, 3, 4)]
