"""A node that waits until it has everything: it holds what comes, and the last one goes on for all.

    python -m floxide_mp examples.merge
    python -m floxide_mp examples.merge --input '[3, 1, 2]'

A merge sort: parts are sorted side by side, and ``merge`` puts them together. Its steps are ``serial``: they never
overlap, and each sees what those before it wrote, so exactly one of them finds the set complete. (Where what arrived
need not be counted, a ``Join`` does the same without a context: see ``examples.article``.)
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from floxide_mp import Context, EventLog, Hold, NextAll, Workflow, node

PARTS = 3


@dataclass
class Runs(Context):
    """The sorted parts that have arrived so far."""

    parts: EventLog[list[int]] = field(default_factory=EventLog)


@node
def split(numbers: list[int]) -> NextAll[list[int]]:
    return NextAll(numbers[first::PARTS] for first in range(PARTS))


@node
def sort(part: list[int]) -> list[int]:
    return sorted(part)


@node(serial=True)
def merge(ctx: Runs, part: list[int]) -> list[int] | Hold:
    ctx.parts.append(part)
    if len(ctx.parts) < PARTS:
        return Hold()
    return list(heapq.merge(*ctx.parts))


class MergeSort(Workflow):
    context = Runs

    split, sort, merge = split, sort, merge

    start = split
    edges = {split: [sort], sort: [merge]}

    cli_defaults = {"input": [31, 41, 59, 26, 53, 58, 97, 93, 23, 84]}
