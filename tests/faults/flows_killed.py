"""The workflows of ``soak_kills``: one of each feature, in a shape and size that a seed decides. Each step that is
executed leaves a line in a history outside of the run; what it comes to hangs on nothing but the seed.
"""

from __future__ import annotations

import faulthandler
import hashlib
import os
import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from floxide_mp import (
    BackoffStrategy,
    BatchNode,
    CompositeNode,
    Context,
    EventLog,
    Fixed,
    Join,
    NextAll,
    Node,
    RetryPolicy,
    SharedState,
    Workflow,
)
from tests.faults.killing import MARK, note
from tests.flows_random import Sum

RUN: Final = "killed"
PATIENT: Final = RetryPolicy(max_attempts=20, initial_backoff=0.001)  # who is killed is to blame for nothing
ONCE: Final = RetryPolicy(max_attempts=1)

if MARK in os.environ:  # its stacks can be asked for, should it hang
    faulthandler.register(signal.SIGUSR1)


@dataclass
class Ctx(Context):
    """``home`` is where the history is."""

    home: Fixed[str]
    log: EventLog[str] = field(default_factory=EventLog)
    sum: Sum = field(default_factory=Sum)
    last: SharedState[str] = field(default_factory=lambda: SharedState(""))


class Shape(NamedTuple):
    """What a seed decides. ``stages`` are what comes after the fan-outs, in that order."""

    seed: int
    width: int  # tasks
    fan: int  # pieces of a task, at the most
    pace: int  # a step takes up to so many milliseconds
    rounds: int  # of the loop
    size: int  # of batches
    stages: tuple[str, ...]
    gate: bool  # whether the run fails once, near its end, and is to be resumed
    workers: int

    @staticmethod
    def of(seed: int) -> Shape:
        chance = random.Random(seed)
        wide = chance.random() < 0.2  # so that many items go into a lease
        width, fan = (1, chance.randint(150, 500)) if wide else (chance.randint(1, 8), chance.randint(1, 12))
        stages = chance.sample(("turn", "nested", "batch", "book"), chance.randint(1, 4))
        rounds, size, gate = chance.randint(1, 5), chance.randint(1, 4), chance.random() < 0.2
        workers = chance.choice((0, 1, 2, 2, 2, 2, 2, 3))
        return Shape(seed, width, fan, 0 if wide else 8, rounds, size, tuple(stages), gate, workers)


class Token(NamedTuple):
    """What goes from step to step. ``trail``: the keys of the steps that it has come of, the last one last."""

    number: int
    trail: tuple[str, ...] = ()


class HopelessError(Exception):
    """Trying again does not help."""


class Killable(Node):
    """A step that may be killed at any time, and says what it does before it does anything else."""

    def __init__(self, shape: Shape, **options: Any) -> None:
        self.shape = shape
        vars(self).update(options)

    def digest(self, *what: Any) -> bytes:
        return hashlib.blake2b(repr((self.shape.seed, *what)).encode(), digest_size=16).digest()

    def begin(self, ctx: Ctx) -> str:
        """The key of this step."""
        depth, path = ctx.item.order
        key = f"{ctx.item.node} {depth}/{'.'.join(map(str, path))}"
        note(ctx.home.get(), "did", key, ctx.item.attempt, os.getpid())
        return key

    def act(self, ctx: Ctx, *tokens: Token, event: str = "") -> Token:
        key = self.begin(ctx)
        d = self.digest(key)
        ctx.log.append(f"{key} {d[0]}{event}")
        for i in range(d[1] % 3):
            ctx.log.append(f"{key} more {i}")
        ctx.sum.merge(Sum(d[2]))
        if d[3] < 80 and self.shape.pace:
            time.sleep(self.shape.pace * d[4] / 256000)  # the work
        trail = dict.fromkeys(past for token in tokens for past in token.trail)
        return Token(d[5] + sum(token.number for token in tokens) % 1000, (*trail, key))

    def several(self, token: Token, most: int) -> list[Token]:
        """Up to that many tokens, sometimes none."""
        count = self.digest("several", token.trail[-1:])[0] % (most + 1) if most < 100 else most
        return [token._replace(number=token.number + i) for i in range(count)]

    def process(self, ctx: Ctx, token: Token) -> Token:
        return self.act(ctx, token)


class Scatter(Killable):
    def process(self, ctx: Ctx, token: Token) -> NextAll[Token]:  # type: ignore[override]
        done = self.act(ctx, token)
        return NextAll(done._replace(number=i) for i in range(self.shape.width))


class Split(Killable):
    def process(self, ctx: Ctx, token: Token) -> NextAll[Token]:  # type: ignore[override]
        return NextAll(self.several(self.act(ctx, token), self.shape.fan))


class Deal(Killable):
    """A list, for a batch."""

    def process(self, ctx: Ctx, token: Token) -> list[Token]:  # type: ignore[override]
        return self.several(self.act(ctx, token), 6)


class Collect(Killable):
    """One of what a batch passes on, or a join collects."""

    def process(self, ctx: Ctx, tokens: list[Token]) -> Token:  # type: ignore[override]
        return self.act(ctx, *tokens)

    __call__ = process


class Work(Killable):
    """Fails at first, or for good, or not at all."""

    def process(self, ctx: Ctx, token: Token) -> Token:
        done = self.act(ctx, token)
        d = self.digest("fails", done.trail[-1])
        if d[0] < 20:
            raise HopelessError(f"{done.trail[-1]} cannot be done")
        if d[0] < 80 and ctx.item.attempt <= d[1] % 3:
            raise ValueError(f"{done.trail[-1]} not yet")
        return done


class Turn(Killable):
    """A loop: as often as the last one of the trail says."""

    def process(self, ctx: Ctx, token: Token) -> Token:
        done = self.act(ctx, token)
        ctx.last.set(done.trail[-1])
        turns = sum(past.startswith("turn ") for past in done.trail)
        return done._replace(number=-1 if turns < self.shape.rounds else abs(done.number))


def again(token: Token) -> bool:
    return token.number == -1


def goes_on(token: Token) -> bool:
    return token.number != -1


class Book(Killable):
    """Sees every booking that was committed before it, however many there were: the one thing left to chance."""

    def process(self, ctx: Ctx, token: Token) -> Token:
        seen = sum(event.startswith("book ") and "more" not in event for event in ctx.log)
        return self.act(ctx, token, event=f" seen {seen}")


class Gate(Killable):
    """Lets pass when what was wrong is mended."""

    def process(self, ctx: Ctx, token: Token) -> Token:
        done = self.act(ctx, token)
        if not Path(ctx.home.get(), "mended").exists():
            raise HopelessError("the gate is closed")
        return done


def nested(shape: Shape) -> CompositeNode:
    nodes = {
        "open": Split(shape._replace(fan=4)),
        "each": Work(shape, retry=flaky(shape, BackoffStrategy.LINEAR)),
        "mend": Killable(shape),
        "shut": Join(Collect(shape), of="open"),
    }
    edges = {"open": ["each"], "each": ["shut"], "mend": ["shut"]}
    return CompositeNode(Workflow.build("Nested", nodes, "open", edges, {"each": ["mend"]}, context=Ctx))


def flaky(shape: Shape, strategy: BackoffStrategy) -> RetryPolicy:
    wait = (0.0, 0.001, 0.005, 0.02)[shape.seed % 4]
    return RetryPolicy(20, wait, 0.05, strategy, retry_error=(ValueError,), jitter=wait / 2)


def workflow(shape: Shape) -> type[Workflow]:
    """scatter, split, work (mended where it fails), gather by split, the stages, total, perhaps a gate."""
    nodes: dict[str, Node] = {
        "scatter": Scatter(shape),
        "split": Split(shape),
        "work": Work(shape, retry=flaky(shape, BackoffStrategy.EXPONENTIAL)),
        "mend": Killable(shape),
        "tell": Killable(shape),
        "gather": Join(Collect(shape), of="split"),
        "total": Join(Collect(shape)),
    }
    edges: dict[str, Any] = {"scatter": ["split"], "split": ["work"], "work": ["gather", "tell"], "mend": ["gather"]}
    before = "gather"
    for stage in shape.stages:
        first = last = stage
        if stage == "turn":
            nodes["turn"] = Turn(shape)
        elif stage == "book":
            nodes["book"] = Book(shape, serial=True)
        elif stage == "nested":
            nodes["nested"] = nested(shape)
        else:
            each = Killable(shape, retry=PATIENT)
            nodes |= {"deal": Deal(shape), "batch": BatchNode(each, shape.size), "collect": Collect(shape)}
            edges |= {"deal": ["batch"], "batch": ["collect"]}
            first, last = "deal", "collect"
        _join_up(edges, before, first)
        before = last
    _join_up(edges, before, "total")
    if shape.gate:
        nodes["gate"] = Gate(shape, retry=ONCE)
        edges["total"] = ["gate"]
    return Workflow.build("Killed", nodes, "scatter", edges, {"work": ["mend"]}, context=Ctx)


def _join_up(edges: dict[str, Any], before: str, after: str) -> None:
    """What comes out of a stage is told, too."""
    edges[before] = {again: ["turn"], goes_on: [after, "tell"]} if before == "turn" else [after, "tell"]
