"""The simulations of ``tests/core``, on a file that is closed and opened again at each restart."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from floxide_mp.core.graph import Graph
from tests.core import test_windows as windows
from tests.core.graphs import graphs
from tests.core.simulation import Simulation, sequential
from tests.core.test_same_answer_as_sequential import EXAMPLES, same, seeds
from tests.stores.mirrored import Mirrored

some = settings(
    max_examples=max(40, EXAMPLES // 5),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
pytestmark = pytest.mark.timeout(max(600, EXAMPLES // 10))


@contextmanager
def durable(kind: Callable[..., Any], chance: int) -> Iterator[Any]:
    """That simulation, made by its own arguments, on a file."""
    made = []
    with tempfile.TemporaryDirectory() as place:

        class Durable(kind):  # type: ignore[misc,valid-type]
            def _open(self) -> Mirrored:
                made.append(Mirrored(Path(place, "runs.db"), random.Random(chance)))
                return made[0]

            def _reopen(self) -> Mirrored:
                return made[0].reopen()

        try:
            yield Durable
        finally:
            if made:
                made[0].file.close()


@given(graphs(), seeds, seeds)
@some
def test_any_number_of_restarts_gives_the_answer_of_the_sequential_run(graph: Graph, seed: int, chance: int) -> None:
    schedule = random.Random(chance)
    with durable(Simulation, chance) as kind:
        run = kind(graph, seed)
        run.interleaved(schedule, restarts=True)
        if run.state.failure is not None:
            run.restart()
            run.resume_healed()
            run.interleaved(schedule, restarts=True)
        event(f"restarts: {min(run.restarts, 3)}")
        same(run.result(), sequential(graph, seed, heal=run.heal).result())
        run.store.close()


@given(graphs(), seeds, seeds)
@some
def test_row_112_what_is_held_starts_over_and_comes_to_the_same(graph: Graph, seed: int, chance: int) -> None:
    schedule, holding = random.Random(chance), (40, 150)[chance % 2]
    with durable(Simulation, chance) as kind:
        run = kind(graph, seed, heal=True, holding=holding)
        run.interleaved(schedule, restarts=True)
        again = 0
        while run.state.kept:
            run.start_over()
            run.interleaved(schedule, restarts=True)
            again += 1
        event(f"started over: {min(again, 3)}")
        same(run.result(), sequential(graph, seed, heal=True, holding=holding, mended=run.mended).result())
        run.store.close()


@given(windows.acts, st.integers(1, 4), st.integers(0, 2**32))
@some
def test_batches(given: list[list[str]], size: int, seed: int) -> None:
    one = windows.Batches(size, given)
    expected = one.run(random.Random(0), 1)
    with durable(windows.Batches, seed) as kind:
        many = kind(size, given)
        assert many.run(random.Random(seed), 4, True) == expected
        assert many.ran == one.ran
        assert many.state.metrics == one.state.metrics
        many.store.close()
