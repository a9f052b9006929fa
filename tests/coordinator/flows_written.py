"""A loop whose steps read what the steps before them have written."""

from __future__ import annotations

from dataclasses import dataclass, field

from floxide_mp import Context, EventLog, Workflow, node, when


@dataclass
class Seen(Context):
    log: EventLog[int] = field(default_factory=EventLog)


@node
def look_back(ctx: Seen, left: int) -> int | list[int]:
    ctx.log.append(left)
    return left - 1 if left else [len(ctx.log), *(event for event in ctx.log if event)]


class Reading(Workflow):
    """A loop in which each step writes, and the last reads what all have written."""

    context = Seen
    look_back = look_back
    start = look_back
    edges = {look_back: {when(int): [look_back], when(list): []}}
