"""``CostModel``: what the steps of a run have taken, and what the next ones are expected to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Final

SEEN: Final = 8  # steps of other nodes, before it is guessed what those of one take that nobody has seen yet
QUICKEST: Final = 0.00025  # seconds that are guessed at the least
NEWS: Final = 0.3  # how much of a node's cost is what its steps took this time


@dataclass(slots=True)
class CostModel:
    """See the module.

    Attributes:
        cost: seconds per step by node, as far as known.
        steps, spent, squares: of this run: how many, their seconds, and the squares of these.
    """

    cost: list[float | None]
    steps: int = 0
    spent: float = 0.0
    squares: float = 0.0

    def observe(self, spent: Sequence[tuple[int, int, float]]) -> None:
        """What (node, steps, seconds) say of later steps."""
        for node, steps, seconds in spent:
            self.steps += steps
            self.spent += seconds
            self.squares += seconds * seconds / steps
            before, now = self.cost[node], seconds / steps
            self.cost[node] = now if before is None else before + (now - before) * NEWS

    def expected(self, node: int) -> float | None:
        """Seconds of a step; of a node that nobody has seen yet, what nearly all so far have stayed below, if that is
        known.
        """
        known = self.cost[node]
        if known is not None or self.steps < SEEN:
            return known
        mean = self.spent / self.steps
        return max(mean + 2 * sqrt(max(0.0, self.squares / self.steps - mean * mean)), QUICKEST)
