"""Irregular graphs at workers and messages that cost nothing: the core's order is as good as a list schedule's.

Times are those of a simulation.
"""

from __future__ import annotations

from statistics import fmean

import pytest

from benchmarks import irregular
from benchmarks.irregular import Work
from floxide_mp.core.plan import Plan
from floxide_mp.messages import ONE_BY_ONE
from floxide_mp.worker.worker import FLOOR

NODES = 200
CASES = [
    (durations, width, seed)
    for durations in (irregular.log_normal, irregular.pareto)
    for width in (2, 3, 6)
    for seed in range(2)
]


def drawn(durations: irregular.Durations, width: int, seed: int) -> tuple[Plan, list[float], float]:
    """A graph, what its nodes take, and how long a list schedule is."""
    shape, seconds = irregular.layered(NODES, width, seed), durations(NODES, 0.005, seed)
    plan = irregular.workflow(shape, [Work("", number, 0) for number in range(NODES)]).__compiled__.plan
    best = irregular.list_schedule(shape, seconds)
    assert irregular.bound(shape, seconds) <= best + 1e-9
    return plan, seconds, best


@pytest.mark.parametrize(("durations", "width", "seed"), CASES)
def test_a_later_run_is_a_list_schedule(durations: irregular.Durations, width: int, seed: int) -> None:
    plan, seconds, best = drawn(durations, width, seed)
    cost: list[float | None] = [None] * NODES
    first = irregular.simulated(plan, seconds, cost, ONE_BY_ONE, workers=2)
    assert cost == seconds  # it has been learned
    assert irregular.simulated(plan, seconds, cost, ONE_BY_ONE, workers=2) == pytest.approx(best, rel=0.001)
    assert first <= 1.1 * best


def test_leases_of_several_items_are_not_much_worse_and_their_own_order_is() -> None:
    leased, in_order = [], []
    for durations, width, seed in CASES:
        plan, seconds, best = drawn(durations, width, seed)
        leased.append(irregular.simulated(plan, seconds, list(seconds), FLOOR, workers=2) / best)
        in_order.append(irregular.simulated(plan, seconds, list(seconds), FLOOR, workers=1) / best)
    assert fmean(leased) <= 1.02
    assert fmean(in_order) > 1.05  # which is why they are ranked
