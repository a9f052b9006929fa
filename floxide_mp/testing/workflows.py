"""Workflows whose answer must not depend on who runs them: chains, loops, routes, fan-outs, joins, failures, batches.

Which inputs they are run with is in ``answers``. None waits for anything from outside; those that do are in ``gates``.
"""

from __future__ import annotations

import enum
import sys
import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from ..api.context import Context
from ..api.event_log import EventLog
from ..api.node import Node, node
from ..api.nodes import Arrivals, BatchNode, CompositeNode, Join, SplitNode
from ..api.retry import BackoffStrategy, RetryPolicy
from ..api.route import when
from ..api.transition import Abort, Hold, Next, NextAll
from ..api.workflow import Workflow


@dataclass
class Log(Context):
    log: EventLog[Any]


# -- nodes that several workflows have ------------------------------------------------------------------------------


class Note(Node):
    """Notes the value and passes it on, with ``more`` added."""

    def __init__(self, more: int = 0) -> None:
        self.more = more

    def process(self, ctx: Log, value: Any) -> Any:
        ctx.log.append((ctx.item.node, value))
        return value + self.more if self.more else value


@node
def rescue(ctx: Log, value: Any) -> Any:
    """What ``on_failure`` is given: the input of what failed, and its error."""
    error = ctx.item.error
    ctx.log.append(("rescued", value))
    return "rescued", value, type(error).__name__, str(error)


class Shaky(Node):
    """Fails before the attempt that its value says; odd hundreds abort."""

    retry = RetryPolicy(max_attempts=3, initial_backoff=0.002, strategy=BackoffStrategy.LINEAR)

    def process(self, ctx: Log, good: int) -> Any:
        ctx.log.append((good, ctx.item.attempt))
        if good >= 100:
            return Abort(f"{good} is too much")
        if ctx.item.attempt < good:
            raise ConnectionError(f"attempt {ctx.item.attempt} of {good}")
        return good * 10


# -- chains, loops, routes --------------------------------------------------------------------------------------------


class Chain(Workflow):
    context = Log
    one, two, three = Note(1), Note(10), Note(100)
    start = one
    edges = {one: [two], two: [three]}


@node
def collatz(ctx: Log, n: int) -> int:
    ctx.log.append(n)
    return n // 2 if n % 2 == 0 else 3 * n + 1


class Loop(Workflow):
    context = Log
    turn = collatz
    start = turn
    edges = {turn: {when(int, lambda n: n > 1): [turn], int: []}}


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@node
def whatever(value: Any) -> Any:
    return Next(value)


def is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2


class Routes(Workflow):
    """By enum member, literal, type with guard and take, predicate; an arm with two ways, and one with none."""

    context = Log
    split, look = SplitNode(list), whatever
    red, seven, upper, lower, pair = Note(), Note(1), Note(), Note(), Note()
    start = split
    edges = {
        split: [look],
        look: {
            Colour.RED: [red],
            7: [seven],
            when(str, str.isupper, take=str.title): [upper, lower],
            is_pair: [pair],
            object: [],
        },
    }


class Unrouted(Workflow):
    look, never = whatever, Note()
    context = Log
    start = look
    edges = {look: {str: [never]}}


# -- fan-outs and joins -----------------------------------------------------------------------------------------------


class Wide(Workflow):
    """As many items as the input says, each with an event."""

    context = Log
    spread, each, total = SplitNode(range), Note(), Join(sum)
    start = spread
    edges = {spread: [each], each: [total]}


@node
def squares(count: int) -> NextAll[int]:
    return NextAll(n * n for n in range(count))


class Generated(Workflow):
    squares = squares
    start = squares


@node
def breaks_off(ctx: Log, count: int) -> NextAll[int]:
    def values() -> Generator[int, None, None]:
        for n in range(count):
            ctx.log.append(n)
            yield n
        raise ValueError(f"no {count}")

    return NextAll(values())


class BreaksOff(Workflow):
    """A generator that raises on its way: nothing of it has happened."""

    context = Log
    breaks, each, rescue = breaks_off, Note(), rescue
    start = breaks
    edges = {breaks: [each]}
    on_failure = {breaks: [rescue]}


@node
def pairs(n: int) -> NextAll[tuple[int, int]]:
    return NextAll([(n, k) for k in range(n)])


class Nested(Workflow):
    """A fan-out within a fan-out; each joins its own, the first of them nothing."""

    context = Log
    outer, inner, leaf, within, all = SplitNode(range), pairs, Note(), Join(of="inner"), Join(list)
    start = outer
    edges = {outer: [inner], inner: [leaf], leaf: [within], within: [all]}


def told_apart(found: Arrivals) -> list[Any]:
    return [found.by_node[name] for name in ("left", "right", "never")]


class Branches(Workflow):
    context = Log
    spread, look, left, right, never = SplitNode(range), whatever, Note(), Note(100), Note()
    join = Join(told_apart)
    start = spread
    edges = {
        spread: [look],
        look: {(lambda n: n % 3 == 0): [left], (lambda n: n >= 0): [right], int: [never]},
        left: [join],
        right: [join],
        never: [join],
    }


# -- hold, abort, failure, retry --------------------------------------------------------------------------------------


class Gather(Node):
    """Holds until it has seen as many as it waits for, then speaks for all of them."""

    serial = True

    def __init__(self, count: int) -> None:
        self.count = count

    def process(self, ctx: Log, value: int) -> Any:
        ctx.log.append(value)
        return sorted(ctx.log) if len(ctx.log) == self.count else Hold()


class Gathered(Workflow):
    context = Log
    spread, free, gather = SplitNode(range), whatever, Gather(20)
    start = spread
    edges = {spread: [free], free: [gather]}


@node
def hold() -> Hold:
    return Hold()


class Held(Workflow):
    spread, hold = SplitNode(range), hold
    start = spread
    edges = {spread: [hold]}


class Shaken(Workflow):
    context = Log
    split, shaky, rescue = SplitNode(list), Shaky(), rescue
    start = split
    edges = {split: [shaky]}
    on_failure = {shaky: [rescue]}


@node
def fail(ctx: Log, value: Any) -> Any:
    ctx.log.append("never seen")
    if value == "exit":
        sys.exit(3)
    raise LookupError(f"no {value}")


class Failing(Workflow):
    context = Log
    before, fail, after = Note(), fail, Note()
    start = before
    edges = {before: [fail], fail: [after]}


class FailingBranch(Workflow):
    """One branch fails, of many."""

    context = Log
    spread, one, after = SplitNode(range), node(lambda n: 60 // (n - 3)), Note()
    start = spread
    edges = {spread: [one], one: [after]}


@node
def lock() -> Any:
    return threading.Lock()


class Unpicklable(Workflow):
    context = Log
    lock, after, rescue = lock, Note(), rescue
    start = lock
    edges = {lock: [after]}
    on_failure = {lock: [rescue]}


# -- workflows in workflows, batches ----------------------------------------------------------------------------------


@node
def unlucky(ctx: Log, n: int) -> int:
    ctx.log.append(n)
    if n == 13:
        raise ValueError("unlucky")
    return n * n


@node
def and_next(n: int) -> NextAll[int]:
    return NextAll([n, n + 1])


class Inner(Workflow):
    context = Log
    both, square, total = and_next, unlucky, Join(sum)
    start = both
    edges = {both: [square], square: [total]}


class Outer(Workflow):
    context = Log
    spread, inner, rescue, all = SplitNode(lambda n: range(9, n)), CompositeNode(Inner), rescue, Join(list)
    start = spread
    edges = {spread: [inner], inner: [all], rescue: [all]}
    on_failure = {inner: [rescue]}


@node
def by_three(ctx: Log, n: int) -> Any:
    """Some of a batch fan out, some add nothing."""
    ctx.log.append(n)
    return (n, NextAll([n, -n]), Hold())[n % 3]


class Batch(Workflow):
    context = Log
    batch, after = BatchNode(by_three, 3), Note()
    start = batch
    edges = {batch: [after]}


class SpoiltBatch(Workflow):
    """One at a time, so that what was begun before the failure is always the same."""

    context = Log
    batch, after, rescue = BatchNode(unlucky, 1), Note(), rescue
    start = batch
    edges = {batch: [after]}
    on_failure = {batch: [rescue]}
