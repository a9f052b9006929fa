"""DESIGN promise 1 in the pure core: any interleaving, with any deaths, comes to what the one-process run comes to.

``FLOXIDE_EXAMPLES=100000 pytest tests/core`` tries that many graphs instead of a hundred.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from floxide_mp.core import progress
from floxide_mp.core.graph import Graph
from floxide_mp.core.leases import Memory
from floxide_mp.core.transitions import Phase

from .graphs import graphs
from .simulation import Result, Simulation, sequential

EXAMPLES = int(os.environ.get("FLOXIDE_EXAMPLES", "120"))

many = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
seeds = st.integers(0, 2**32)
pytestmark = pytest.mark.timeout(max(600, EXAMPLES // 10))  # a failure is worth the time to make it small


@pytest.fixture(autouse=True, scope="module")
def small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "MOST", 3)
        yield


def some_ranks(chance: int) -> random.Random | None:
    """Every other time, places go before others."""
    return random.Random(chance) if chance % 2 else None


def some_memory(chance: int) -> Memory:
    """Two times in three, some or all values are too much: what is deep goes first, and what makes more waits."""
    most = random.Random(chance).choice((1, 20, 60, 200))
    return Memory(most) if chance % 3 else Memory()


def same(one: Result, other: Result) -> None:
    assert one.phase is other.phase
    assert one.outputs == other.outputs
    assert one.events == other.events
    assert one.processed == other.processed
    assert (one.total, one.completed, one.failed) == (other.total, other.completed, other.failed)
    assert one.held == other.held


@given(graphs(), seeds, seeds)
@many
def test_any_interleaving_gives_the_answer_of_the_sequential_run(graph: Graph, seed: int, chance: int) -> None:
    expected = sequential(graph, seed).result()
    event(expected.phase.value)
    event(f"steps: {min(expected.total, 60) // 10 * 10}+")
    event(f"joins fired: {min(sum(isinstance(p, tuple) for _, p in expected.processed.values()), 5)}")
    for extra in range(2):
        run = Simulation(graph, seed, ranks=random.Random(chance) if extra else None, memory=some_memory(chance))
        got = run.interleaved(random.Random(chance + extra))
        event(f"times that something was held back: {min(run.waited, 20) // 5 * 5}+")
        event(f"deaths: {min(run.deaths, 3)}")
        event(f"portions: {min(run.portions, 5)}")
        event(f"steps ahead: {min(run.ahead, 20) // 5 * 5}+")
        event(f"steps of blocks: {min(run.together, 20) // 5 * 5}+")
        if expected.failing:
            assert got.phase is Phase.FAILED
        else:
            same(got, expected)


@given(graphs(), seeds, seeds)
@many
def test_with_finish_failed_runs_come_to_the_same_as_well(graph: Graph, seed: int, chance: int) -> None:
    run = Simulation(graph, seed, finishing=True, ranks=some_ranks(chance), memory=some_memory(chance))
    got = run.interleaved(random.Random(chance), restarts=True)
    expected = Simulation(graph, seed, finishing=True).sequential()
    event(f"{expected.phase.value}, failing: {expected.failing}")
    same(got, expected)


@given(graphs(), seeds, seeds)
@many
def test_any_number_of_restarts_gives_the_answer_of_the_sequential_run(graph: Graph, seed: int, chance: int) -> None:
    schedule = random.Random(chance)
    run = Simulation(graph, seed, ranks=some_ranks(chance), memory=some_memory(chance))
    run.interleaved(schedule, restarts=True)
    if run.state.failure is not None:
        run.restart()
        run.resume_healed()
        run.interleaved(schedule, restarts=True)
    event(f"restarts: {min(run.restarts, 3)}")
    same(run.result(), sequential(graph, seed, heal=run.heal).result())


@given(graphs(), seeds, seeds)
@many
def test_a_failed_run_that_is_resumed_comes_to_the_same(graph: Graph, seed: int, chance: int) -> None:
    schedule = random.Random(chance)
    run = Simulation(graph, seed, ranks=some_ranks(chance), memory=some_memory(chance))
    run.interleaved(schedule)
    event(run.state.phase.value)
    if run.state.failure is not None:
        run.resume_healed()
        run.interleaved(schedule)
        event("resumed")
    same(run.result(), sequential(graph, seed, heal=run.heal).result())


@given(graphs(), seeds, seeds)
@many
def test_row_112_what_is_held_starts_over_and_comes_to_the_same(graph: Graph, seed: int, chance: int) -> None:
    """As if these steps had never held."""
    schedule = random.Random(chance)
    memory, holding = some_memory(chance), (40, 150)[chance % 2]
    run = Simulation(graph, seed, heal=True, ranks=some_ranks(chance), memory=memory, holding=holding)
    run.interleaved(schedule, restarts=True)
    again = 0
    while run.state.kept:
        assert run.state.phase is Phase.FAILED
        run.start_over()
        run.interleaved(schedule, restarts=True)
        again += 1
    event(f"started over: {min(again, 3)}")
    same(run.result(), sequential(graph, seed, heal=True, holding=holding, mended=run.mended).result())


@given(graphs(), seeds, seeds, st.integers(0, 60))
@many
def test_a_run_that_is_cancelled_ends_cancelled(graph: Graph, seed: int, chance: int, steps: int) -> None:
    run = Simulation(graph, seed, ranks=some_ranks(chance), memory=some_memory(chance))
    schedule = random.Random(chance)
    while not run.state.over and run.steps < steps:
        if run.running and schedule.random() < 0.5:
            run._finish_some(schedule, 3)
        elif run.claim(schedule.randrange(3)) is None and not any(map(run.pull, range(3))) and not run.running:
            run.later()
    before = run.state.phase
    run.state.cancel()
    run._see()
    if before in (Phase.COMPLETED, Phase.FAILED):
        assert run.state.phase is before
        return
    while run.running:
        assert run.state.phase is Phase.CANCELLING
        assert run.claim(0) is None
        assert run.state.next_due is None
        run.state.cancel()  # again
        (run._finish_some if schedule.random() < 0.5 else run._kill_some)(schedule, 3)
    assert run.state.phase is Phase.CANCELLED
    run.state.cancel()
    assert run.state.phase is Phase.CANCELLED
    assert run.claim(0) is None
