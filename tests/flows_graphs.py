"""Workflows within workflows, and one whose items may wait for a gate."""

from __future__ import annotations

import os
from dataclasses import dataclass

from floxide_mp import CompositeNode, Join, NextAll, SplitNode, Workflow, node


@node
def and_next(x: int) -> NextAll[int]:
    return NextAll([x, x + 1])


@node
def square(x: int) -> int:
    if x == 13:
        raise ValueError("unlucky")
    return x * x


@node
def less_one(x: int) -> int:
    return x - 1


@node
def minus(x: int) -> int:
    return -x


class Squares(Workflow):
    """x -> x² + (x + 1)²"""

    both, square, total = and_next, square, Join(sum)
    start = both
    edges = {both: [square], square: [total]}


class Sums(Workflow):
    split, squares, less_one, all = SplitNode(range), CompositeNode(Squares), less_one, Join(list)
    start = split
    edges = {split: [squares], squares: [less_one], less_one: [all]}


class PerItem(Workflow):
    """A composite that is a scope itself: ``Join(of=composite)``."""

    split, square, twice = SplitNode(range), square, and_next
    start = split
    edges = {split: [twice], twice: [square]}


class Routed(Workflow):
    split, squares, less_one = SplitNode(range), CompositeNode(Squares), less_one
    start = split
    edges = {split: [squares], squares: {(lambda v: v % 3 == 1): [less_one], object: []}}


class Scoped(Workflow):
    split, inner = SplitNode(range), CompositeNode(PerItem)
    total = Join(sum, of=inner)
    start = split
    edges = {split: [inner], inner: [total]}


class Caught(Workflow):
    split, squares, minus, all = SplitNode(lambda n: range(n, 15)), CompositeNode(Squares), minus, Join(list)
    start = split
    edges = {split: [squares], squares: [all], minus: [all]}
    on_failure = {squares: [minus]}


@dataclass(frozen=True)
class Gated:
    """``many`` items; the ``slow``-th waits until the pipe at ``gate`` has been written to."""

    many: int
    slow: int = -1
    gate: str = ""


@node
def items(job: Gated) -> NextAll[tuple[int, str]]:
    return NextAll((i, job.gate if i == job.slow else "") for i in range(job.many))


@node
def pass_gate(item: tuple[int, str]) -> int:
    number, gate = item
    if gate:
        with open(gate, "rb") as pipe:
            os.read(pipe.fileno(), 1)
    return number


class Gates(Workflow):
    items, pass_gate = items, pass_gate
    start = items
    edges = {items: [pass_gate]}
