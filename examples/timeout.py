"""A run with a limit in time: what it has reached by then is in its context.

    python -m floxide_mp examples.timeout
    python -m floxide_mp examples.timeout --input '{"goal": 6.3, "seconds": 30}'     # ends before its time is up

A round trip to twelve cities is made shorter step by step, until it is as short as asked for, or the time is up. With
a goal that nobody can reach, only ``timeout=`` ends this run. (A limit for one node is ``@node(timeout=seconds)``: a
step that takes longer is ended with its worker, and is retried or goes to ``on_failure`` like any failed step.)
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from floxide_mp import Context, Coordinator, Fixed, RunTimeoutError, SharedState, Workflow, node

Tour = list[int]
CITIES = [(math.cos(angle), math.sin(angle)) for angle in range(12)]  # around a circle, and not in order
TRIES = 500  # in a step


def length(tour: Tour) -> float:
    return sum(math.dist(CITIES[here], CITIES[there]) for here, there in zip(tour, [*tour[1:], tour[0]], strict=True))


@dataclass
class Best(Context):
    goal: Fixed[float]
    tour: SharedState[Tour] = field(default_factory=lambda: SharedState(list(range(len(CITIES)))))


@dataclass(frozen=True)
class Reached:
    tour: Tour


@node
def improve(ctx: Best, tour: Tour) -> Tour | Reached:
    chances = random.Random(ctx.item.seed)
    for _ in range(TRIES):
        start, end = sorted(chances.sample(range(len(tour)), 2))
        other = tour[:start] + tour[start:end][::-1] + tour[end:]
        if length(other) < length(tour):
            tour = other
    ctx.tour.set(tour)
    return Reached(tour) if length(tour) <= ctx.goal.get() else tour


class Shorten(Workflow):
    context = Best

    improve = improve

    start = improve
    edges = {improve: {Reached: [], list: [improve]}}

    cli_defaults = {"input": {"goal": 0.0, "seconds": 0.5}}

    @staticmethod
    def cli_run(coordinator: Coordinator, value: dict[str, Any]) -> Iterator[str]:
        ctx = Best(Fixed(value["goal"]))
        first = ctx.tour.get()
        run = coordinator.start(Shorten, first, ctx, timeout=value["seconds"])
        try:
            yield f"reached: {length(run.wait().output.tour):.2f}"
        except RunTimeoutError:
            yield f"time is up after {value['seconds']} s"
            best = run.context().tour.get()
            yield f"the best tour so far is {'no longer' if length(best) <= length(first) else 'longer'} than the first"
