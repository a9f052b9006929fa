"""A coordinator takes up what another one left: by closing in the middle, by dying at a commit, by failing. The answer
is that of the run that nobody disturbed.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from floxide_mp import Coordinator, Fixed, MemoryStore, Run, RunFailedError, RunStatus, Workflow
from floxide_mp.core.graph import Graph
from floxide_mp.core.records import Commit
from floxide_mp.ports import Progress
from tests.core.graphs import graphs
from tests.flows_random import Ctx, Trouble
from tests.test_same_answer import outcome, small, workflow

EXAMPLES = int(os.environ.get("FLOXIDE_EXAMPLES_GOING_ON", "60"))
seeds = st.integers(0, 2**32)


def many(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize="FLOXIDE_EXAMPLES_GOING_ON" not in os.environ,  # the samples are judged
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


class Killed(BaseException):
    """The coordinator's process is gone."""


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
    statuses = {info.run_id: info.status for info in coordinator.runs()}
    if statuses.get("x", RunStatus.RUNNING) is not RunStatus.RUNNING:
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
        @many(EXAMPLES * 5)
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
        @many(EXAMPLES)
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
def test_closed_in_the_middle_at_random_moments_and_taken_up(tmp_path: Path) -> None:
    """On processes, with ``grace=0``, so that steps are killed; what goes on with it may be inline or on processes."""
    seen: Counter[str] = Counter()
    with Coordinator(0) as inline:

        @given(graphs(), seeds, seeds)
        @many(EXAMPLES // 5)
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
