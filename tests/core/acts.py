"""What the nodes of the simulations do: a hash of what they are given."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from floxide_mp.core.graph import NodeSpec
from floxide_mp.core.types import OrderKey, Payload

from .graphs import LINE, WIDE
from .model import flat

DEEPEST = 12  # items from here on are the last of their branch, so that every graph comes to an end
HOLDING = 6
WIDEST = 3  # fan-outs on the way to an item; from here on it has one value at the most


class Act(NamedTuple):
    """What a node does with a payload. ``fails`` attempts fail before; ``hopeless`` says that all of them do.

    ``cuts``: how many values it has given at the end of each portion. ``breaks``: after how many of them it fails.
    """

    kind: str  # "next", "all" or "hold"
    values: tuple[tuple[int, bytes], ...]
    writes: tuple[tuple[int, bytes], ...]
    fails: int
    hopeless: bool
    cuts: tuple[int, ...] = ()
    breaks: int = 0

    def portion(self, given: int, failing: bool, whole: bool) -> int | None:
        """Having given so many values, up to how many it comes before it is cut; None: it is not cut, or fails.

        Args:
            whole: it is cut only before it fails.
        """
        if whole:
            return self.breaks if failing and given < self.breaks else None
        if failing and given == self.breaks:
            return None
        return next((cut for cut in self.cuts if cut > given), None)


def behaviour(seed: int, spec: NodeSpec, payload: Payload, order: OrderKey, holding: int = HOLDING) -> Act:
    """The same answer for the same question, and nothing else about it can be foreseen.

    Args:
        holding: of 256 steps, about so many hold.
    """
    payload = flat(payload)
    d = hashlib.blake2b(repr((seed, spec.name, payload)).encode(), digest_size=32).digest()
    depth, path = order
    hopeless = d[0] < (60 if spec.on_failure is not None else 8)
    fails = d[1] % spec.retry.max_attempts if spec.retry and d[2] < 80 else 0
    writes = tuple((d[4 + i] % 2, d[5 + i : 7 + i]) for i in range(d[3] % 3))
    if depth >= DEEPEST or len(path) > 2 * WIDEST:
        return Act("all", (), writes, fails, hopeless)
    if d[8] < holding:
        return Act("hold", (), writes, fails, hopeless)
    first = spec.name == WIDE
    quiet = spec.name.startswith(LINE)
    spread, alike = first or d[9] < (8 if quiet else 80), first or d[7] < 128
    width = (2, 3, 4, 6)[d[10] % 4] if first else (0, 1, 2, 3, 3, 6)[d[10] % (6 if len(path) < WIDEST else 2)]
    width = width if spread else 1
    values = tuple(
        # Some values are alike on purpose: two equal items are two items.
        (
            d[11 if alike else 11 + i] % len(spec.arms),
            b"%d" % (d[14 + i] % 3) if d[17 + i] < 100 else d[14 + i : 20 + i].hex().encode(),
        )
        for i in range(width)
    )
    cuts = tuple(cut for cut in range(1, width + 1) if d[26] >> cut & 1) if spread else ()
    return Act("all" if spread else "next", values, writes, fails, hopeless, cuts, (0, *cuts)[d[27] % (1 + len(cuts))])
