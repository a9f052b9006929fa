"""The workflow of a run in ``data/version1.sql``, which was written when stores had version 1: not to be changed."""

from __future__ import annotations

from dataclasses import dataclass

from floxide_mp import Context, EventLog, Join, NextAll, Workflow, node


@dataclass
class Log(Context):
    log: EventLog[int]


@node
def spread(numbers: list[int]) -> NextAll[int]:
    return NextAll(numbers)


@node
def square(ctx: Log, number: int) -> int:
    """Negative numbers fail, in the version that wrote the file."""
    ctx.log.append(number)
    if number < 0:
        raise ValueError(f"{number} is negative")
    return number * number


class Totals(Workflow):
    context = Log
    spread = spread
    square = square
    total = Join(sum, of="spread")
    start = spread
    edges = {spread: [square], square: [total]}
