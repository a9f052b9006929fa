"""``Memory``: how many bytes the values have that are made and not used yet, and from how many on what uses them goes
first. A part of the core: it counts what it is told, in the coordinator's process.
"""

from __future__ import annotations

from math import inf
from typing import Final

DEEP: Final = 128 << 20  # bytes from where on deeper items go first: of arrays of 50 MB, two workers have some five
GROWTH: Final = 1 << 20  # bytes that a step leaves more than it took, from where on it is one that makes more


class Memory:
    """The bytes of the unfinished items of all runs of a coordinator.

    Args:
        most: from where on steps that make more wait, as long as others of their run are on their way.
        deep: from where on the items of a run go deepest first; at the most half of ``most``.
        growth: by how much a step must add to them to be one of those that make more.

    Attributes:
        used: bytes, as of the last commit of each run.
    """

    __slots__ = ("deep", "growth", "most", "used")

    def __init__(self, most: float = inf, deep: float = DEEP, growth: float = GROWTH) -> None:
        self.most = most
        self.deep = min(deep, most / 2)
        self.growth = min(growth, most / 64)
        self.used = 0
