"""Random graphs as real workflows, for ``test_same_answer``: what a node does is a hash of what it is given.

The items in ``victims`` stop in the middle of their first attempt, say so, and wait to be killed, or are interrupted.
"""

from __future__ import annotations

import hashlib
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from floxide_mp import (
    BatchNode,
    CompositeNode,
    Context,
    EventLog,
    Fixed,
    Hold,
    Item,
    Merge,
    Next,
    NextAll,
    Node,
    Workflow,
)

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
    """Which items wait to be killed, by order key, and the directory where they say so. Inline, nobody waits.

    With ``interrupts`` they do not wait, but press Ctrl-C, the first time.
    """

    victims: frozenset[Any] = frozenset()
    bells: str = ""
    interrupts: bool = False


@dataclass
class Ctx(Context):
    """What the steps write, and what they are told."""

    trouble: Fixed[Trouble]
    log: EventLog[str] = field(default_factory=EventLog)
    sum: Sum = field(default_factory=Sum)


class Hash(NamedTuple):
    """What decides; ``hopeless``: some items fail, whatever the attempt; ``flaky``: some fail at first.

    ``room``: how many times as deep and wide as usual a run may become.
    """

    seed: int
    arms: int
    hopeless: bool
    flaky: bool
    room: int = 1

    def digest(self, ctx: Ctx, value: Any) -> bytes:
        return hashlib.blake2b(repr((self.seed, ctx.item.node, value)).encode(), digest_size=24).digest()

    def act(self, ctx: Ctx, value: Any) -> Any:
        item = ctx.item
        depth, path = item.order
        d = self.digest(ctx, value)
        for i in range(d[1] % 3):
            ctx.log.append(f"{item.node} {i} {d[2]} {item.seed}")
        ctx.sum.merge(Sum(d[3]))
        wait_for_the_end(item, ctx.trouble.get())
        if self.hopeless and d[0] < 60:
            raise ValueError(f"{item.node} cannot do {value!r}")
        if self.flaky and d[0] % 2 and item.attempt == 1:
            raise ValueError("not the first time")
        widest = WIDEST * self.room
        if depth >= DEEPEST * self.room or len(path) > 2 * widest:
            return NextAll([])
        if d[4] < 6:
            return Hold()
        spread = d[5] < 90
        width = (0, 1, 2, 2, 3, 3)[d[6] % (6 if len(path) < widest else 2)] if spread else 1
        values = [(d[7 + i] % self.arms, d[11 + i] % 50) for i in range(width)]
        return NextAll(values) if spread else Next(values[0])


def wait_for_the_end(item: Item, trouble: Trouble) -> None:
    """Of this process, if the item is a victim."""
    if item.attempt == 1 and item.order in trouble.victims:
        if trouble.interrupts:
            try:
                (Path(trouble.bells) / str(item.item_id)).touch(exist_ok=False)
            except FileExistsError:
                return
            signal.raise_signal(signal.SIGINT)
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


# -- a composite with a batch in it, in the place of an ordinary node -------------------------------------------------


class Several(Node):
    """A value becomes some, for a batch: 1 to 4, or none."""

    def __init__(self, hash: Hash) -> None:
        self.hash = hash

    def process(self, ctx: Ctx, value: Any) -> list[Any]:
        d = self.hash.digest(ctx, value)
        return [(d[i] % 2, d[i + 1]) for i in range(d[0] % 5)]


class Each(Node):
    """What a batch does with a value: passes on one or two, holds, or fails, at first or for good."""

    def __init__(self, hash: Hash, **options: Any) -> None:
        self.hash = hash
        vars(self).update(options)

    def process(self, ctx: Ctx, value: Any) -> Any:
        d = self.hash.digest(ctx, value)
        ctx.log.append(f"{ctx.item.node} {d[2]}")
        wait_for_the_end(ctx.item, ctx.trouble.get())
        if self.hash.hopeless and d[0] < 30:
            raise ValueError(f"{ctx.item.node} cannot do {value!r}")
        if self.hash.flaky and d[0] % 2 and ctx.item.attempt == 1:
            raise ValueError("not the first time")
        return Hold() if d[1] < 30 else NextAll([value, d[2]]) if d[1] < 90 else d[2]


class Pick(Node):
    """Of what a batch passes on, a value of the kind that the graph's nodes take."""

    def __init__(self, hash: Hash) -> None:
        self.hash = hash

    def process(self, ctx: Ctx, value: Any) -> Any:
        assert type(value) is list
        d = self.hash.digest(ctx, value)
        return d[0] % self.hash.arms, d[1]


def composite(hash: Hash, size: int, **options: Any) -> CompositeNode:
    """Three steps and a batch."""
    nodes = {"several": Several(hash), "batch": BatchNode(Each(hash, **options), size), "pick": Pick(hash)}
    edges = {"several": ["batch"], "batch": ["pick"]}
    return CompositeNode(Workflow.build("Batched", nodes, "several", edges, context=Ctx))
