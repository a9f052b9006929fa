"""Nodes that are wrapped, or lie in the body of their workflow's class, in a module that keeps things of its own."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from floxide_mp import Context, Join, NextAll, Node, SplitNode, Workflow, node

LOCK = threading.Lock()
RATES: dict[str, float] = {}


def load() -> None:
    """Once a worker."""
    if not RATES:
        RATES.update(eur=1.0, usd=1.5)


class InBody(Workflow):
    """By value its nodes could not go: of the module's globals they would take a lock along."""

    @node
    def split(count: Any) -> Any:  # noqa: N805
        return NextAll(range(count))

    @node
    def convert(amount: Any) -> Any:  # noqa: N805
        with LOCK:
            load()
        return amount * RATES["usd"]

    @staticmethod
    def add(found: Any) -> Any:
        with LOCK:
            return sum(found)

    class Inner:
        @node
        def twice(amount: Any) -> Any:  # noqa: N805
            with LOCK:
                return 2 * amount

    add_up = Join(add)
    twice = Inner.twice
    start = split
    edges = {split: [convert], convert: [add_up], add_up: [twice]}


def with_context(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that adds a parameter."""

    @functools.wraps(function)
    def wrapper(ctx: Any, value: Any) -> Any:
        assert isinstance(ctx, Context)
        return function(value)

    return wrapper


def handing_on(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that hands on what it gets, whatever that is."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


class Method(Node):
    @handing_on
    def process(self, ctx: Context, value: Any) -> Any:
        return value, ctx.item.node


@node
@with_context
def wrapped(value: int) -> int:
    return value + 1


@node
@handing_on
@with_context
def twice_wrapped(value: tuple[int, str]) -> list[Any]:
    return [*value, "twice"]


class Wrapped(Workflow):
    wrapped, method, twice_wrapped = wrapped, Method(), twice_wrapped
    each = SplitNode(with_context(lambda found: found[0]))
    all = Join(handing_on(with_context(lambda found: list(found))))
    start = wrapped
    edges = {wrapped: [method], method: [twice_wrapped], twice_wrapped: [all], all: [each]}
