"""Random graphs as real workflows, for ``test_same_answer``: what a node does is a hash of what it is given.

The items in ``victims`` stop in the middle of their first attempt, say so, and wait to be killed.
"""

from __future__ import annotations

import hashlib
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from floxide_mp import Context, EventLog, Fixed, Hold, Item, Merge, Next, NextAll, Node

DEEPEST = 8  # items from here on are the last of their branch
WIDEST = 2  # fan-outs on the way to an item; from here on there is one value at the most


class Sum(Merge):
    """A counter."""

    def __init__(self, count: int = 0) -> None:
        self.count = count

    def merge(self, other: Sum) -> None:
        self.count += other.count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sum) and other.count == self.count

    __hash__ = None  # type: ignore[assignment]


class Trouble(NamedTuple):
    """Which items wait to be killed, by order key, and the directory where they say so. Inline, nobody waits."""

    victims: frozenset[Any] = frozenset()
    bells: str = ""


@dataclass
class Ctx(Context):
    """What the steps write, and what they are told."""

    trouble: Fixed[Trouble]
    log: EventLog[str] = field(default_factory=EventLog)
    sum: Sum = field(default_factory=Sum)


class Hash(NamedTuple):
    """What decides; ``hopeless``: some items fail, whatever the attempt; ``flaky``: some fail at first."""

    seed: int
    arms: int
    hopeless: bool
    flaky: bool

    def act(self, ctx: Ctx, value: Any) -> Any:
        item = ctx.item
        depth, path = item.order
        d = hashlib.blake2b(repr((self.seed, item.node, value)).encode(), digest_size=24).digest()
        for i in range(d[1] % 3):
            ctx.log.append(f"{item.node} {i} {d[2]} {item.seed}")
        ctx.sum.merge(Sum(d[3]))
        wait_for_the_end(item, ctx.trouble.get())
        if self.hopeless and d[0] < 60:
            raise ValueError(f"{item.node} cannot do {value!r}")
        if self.flaky and d[0] % 2 and item.attempt == 1:
            raise ValueError("not the first time")
        if depth >= DEEPEST or len(path) > 2 * WIDEST:
            return NextAll([])
        if d[4] < 6:
            return Hold()
        spread = d[5] < 90
        width = (0, 1, 2, 2, 3, 3)[d[6] % (6 if len(path) < WIDEST else 2)] if spread else 1
        values = [(d[7 + i] % self.arms, d[11 + i] % 50) for i in range(width)]
        return NextAll(values) if spread else Next(values[0])


def wait_for_the_end(item: Item, trouble: Trouble) -> None:
    """Of this process, if the item is a victim."""
    if item.attempt == 1 and item.order in trouble.victims:
        (Path(trouble.bells) / str(os.getpid())).touch()
        signal.sigtimedwait([], 30)
        raise AssertionError("nobody killed this worker")


class Hashed(Node):
    """An ordinary node. A value is ``(arm, number)``, and the routes look at the arm."""

    def __init__(self, hash: Hash, **options: Any) -> None:
        self.hash = hash
        vars(self).update(options)

    def process(self, ctx: Ctx, value: Any) -> Any:
        return self.hash.act(ctx, value)


class Reduce:
    """The function of a join."""

    def __init__(self, hash: Hash) -> None:
        self.hash = hash

    def __call__(self, ctx: Ctx, arrivals: list[Any]) -> Any:
        return self.hash.act(ctx, arrivals)


class Arm:
    """Takes the values of one arm."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, value: Any) -> bool:
        return bool(value[0] == self.number)
