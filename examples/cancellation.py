"""A search without an end, cancelled when it has found something.

    python -m floxide_mp examples.cancellation
    python -m floxide_mp examples.cancellation --input 3000000048000000189

Two searches for a divisor, one from 2 upwards and one from the square root downwards, in steps of a limited size that
each ask for the next. The first that finds one is enough: ``run.cancel()`` ends the other. After that nothing starts
any more; a step that is running may look at ``ctx.cancelled`` and end early, and is ended if it does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from floxide_mp import Context, Coordinator, Hold, NextAll, RunCancelledError, Workflow, node

SIZE = 20_000  # candidates in a step


@dataclass(frozen=True)
class Search:
    number: int
    first: int
    direction: int  # 1: upwards, -1: downwards


@node
def begin(number: int) -> NextAll[Search]:
    return NextAll([Search(number, 2, 1), Search(number, math.isqrt(number), -1)])


@node
def search(ctx: Context, part: Search) -> Search | int | Hold:
    end = part.first + part.direction * SIZE
    for candidate in range(part.first, end, part.direction):
        if candidate > 1 and part.number % candidate == 0:
            return candidate
        if candidate % 1000 == 0 and ctx.cancelled:
            return Hold()
    return replace(part, first=end)


class Divisor(Workflow):
    begin, search = begin, search

    start = begin
    edges = {begin: [search], search: {Search: [search], int: []}}

    cli_defaults = {"input": 1_000_000_007 * 1_000_000_009}

    @staticmethod
    def cli_run(coordinator: Coordinator, number: int) -> Iterator[str]:
        run = coordinator.start(Divisor, number)
        found = next(run.stream())
        yield f"{number} = {min(found, number // found)} x {max(found, number // found)}"
        run.cancel()
        with suppress(RunCancelledError):
            run.wait()
        yield f"the run is {run.status.value}"
