"""``floxide-mp runs`` and ``floxide-mp show RUN``: what a store holds, while a program writes to it or later.

Nothing here is unpickled, so no module of the user's is needed, and nothing of theirs runs. Where the facts come from
is in ``summary``.
"""

from __future__ import annotations

import json
import textwrap
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from itertools import islice
from typing import Final

from ..texts import printable
from ..types import RunMetrics, WorkItemStatus
from . import formatting, store_option
from .formatting import Parser
from .summary import INTERRUPTED, STATUSES, Details, Error, Event, Item, Owner, RunSummary, details, standings

MOST_ITEMS: Final = 20  # shown one by one; JSON has all
MOST_ERRORS: Final = 10


def parse_runs(arguments: Sequence[str]) -> Namespace:
    """The options of ``runs``.

    Raises:
        Refused: they make no sense.
    """
    parser = Parser(
        prog=f"{formatting.PROGRAM} runs",
        description="List the runs in a store, oldest first. May be asked while a program runs them. A run that is "
        "interrupted is not over, and the program that ran it is gone: resume goes on with it.",
        epilog="Exit codes: 0 listed (there may be none), 2 usage, or a store that cannot be read.",
        allow_abbrev=False,
    )
    store_option.add(parser, "the file that a program was given as --store, or as store=")
    parser.add_argument("--status", metavar="S", choices=STATUSES, help=f"only these: {', '.join(STATUSES)}")
    parser.add_argument("--json", action="store_true", help="a JSON object a line; times are seconds since 1970")
    return parser.parse_args(arguments)


def list_runs(options: Namespace) -> list[str]:
    """The lines of ``runs``.

    Raises:
        Refused: the store cannot be read.
    """
    with store_option.reading(options.store) as reader:
        found = [one for one in standings(reader) if options.status in (None, one.status)]
    return [json.dumps(asdict(one)) for one in found] if options.json else _table(map(_row, found), _RUNS)


def parse_show(arguments: Sequence[str]) -> Namespace:
    """The options of ``show``.

    Raises:
        Refused: they make no sense.
    """
    parser = Parser(
        prog=f"{formatting.PROGRAM} show",
        description="Show one run: how far it is, node by node, what is not finished, what failed with its traceback, "
        "and which processes work on it. May be asked while it runs. Values are not shown, since only the workflow's "
        f"own modules can open them: {formatting.PROGRAM} context shows what the steps have written.",
        epilog="Exit codes: 0 shown, 2 usage, no such run, or a store that cannot be read.",
        allow_abbrev=False,
    )
    parser.add_argument("run", metavar="RUN", help="the run's id")
    store_option.add(parser, "the file that a program was given as --store, or as store=")
    parser.add_argument("--events", action="store_true", help="each write to the context: node, field, size, order")
    parser.add_argument("--json", action="store_true", help="one JSON object; times are seconds since 1970")
    return parser.parse_args(arguments)


def show(options: Namespace) -> list[str]:
    """The lines of ``show``.

    Raises:
        Refused: there is no such run, or the store cannot be read.
    """
    with store_option.reading(options.store) as reader:
        found = details(reader, store_option.find(reader, options.run), options.events)
    if not options.json:
        return list(_page(found, options.store))
    facts = asdict(found)
    return [json.dumps({**facts.pop("summary"), **facts})]


# -- as text ------------------------------------------------------------------------------------------------------

_RUNS: Final = ("run", "workflow", "status", "done", "left", "failed", "began", "last commit")


def _row(run: RunSummary) -> tuple[str, ...]:
    counts = run.metrics
    numbers = counts.completed, _left(counts), counts.failed
    dates = _date(run.started_at), _date(run.committed_at)
    return run.run_id, run.workflow, run.status, *map(str, numbers), *dates


def _page(found: Details, store: str) -> Iterator[str]:
    run, counts = found.summary, found.summary.metrics
    yield f"run {run.run_id} of {run.workflow}: {run.status}"
    yield f"  began {_date(run.started_at)}, last commit {_date(run.committed_at)}"
    failed = sum(node.failed for node in found.nodes)  # those that are in the table; the others went to on_failure
    done = f"{counts.completed} done, {_left(counts)} left, {failed} failed"
    yield f"  steps: {done}, {counts.failed - failed} handled by on_failure, {counts.retries} tried again"
    others = ", and has not taken up this run" if found.owner.lives and run.status == INTERRUPTED else ""
    yield f"  {owned(found.owner)}{others}"
    for worker in found.workers:
        size = worker.memory_bytes / 1e6
        yield f"  worker process {worker.pid}: {worker.state}, {worker.cpu_seconds:.1f} s of CPU, {size:.0f} MB"
    if run.error:
        yield f"  {run.error}"
    if run.resumable:
        yield "  to go on with it:"
        target = f"{store_option.PLACEHOLDER}:{run.workflow}"
        yield f"  {store_option.resuming(run.run_id, store, target)}"
    yield ""
    yield from _nodes(found)
    errors, events = found.errors, found.events or []
    live = run.live
    yield from _few("unfinished:", (lines := _unfinished(found.unfinished, live)), len(lines), MOST_ITEMS)
    yield from _few("failed attempts, the last first:", map(_error, reversed(errors)), len(errors), MOST_ERRORS)
    yield from _few("writes to the context, in the run's order:", map(_event, events), len(events), len(events))


def owned(owner: Owner) -> str:
    """Who has a store, or had it last."""
    if owner.pid is None:
        return "no process has had the store yet"
    where = f"on {owner.host} since {_date(owner.since or 0.0)}"
    if owner.lives:
        return f"process {owner.pid} has the store {where}"
    return f"process {owner.pid}, which had the store {where}, is gone or has closed it"


def _nodes(found: Details) -> list[str]:
    """Progress by node."""
    rows = [(one.node, str(one.finished), str(one.waiting), str(one.failed)) for one in found.nodes]
    return _table(rows, ("node", "finished", "waiting or running", "failed"))


def _unfinished(items: Sequence[Item], live: bool) -> list[str]:
    """A line for each item, but one for all values that have arrived at a join."""
    arrived = Counter(item.node for item in items if not item.item_id)
    lines = [f"  {node}: {count} value{'s' * (count > 1)} arrived, and it waits" for node, count in arrived.items()]
    return lines + [_item(item, live) for item in items if item.item_id]


def _item(item: Item, live: bool) -> str:
    """A line for it; of a ``live`` run, a store is not told which items run."""
    due = f", due {_date(item.due)}" if item.due is not None else ""
    status = f"{item.status} or running" if live and item.status == WorkItemStatus.PENDING.value else item.status
    return f"  {item.node} (item {item.item_id}, attempt {item.attempt}): {status}{due}"


def _error(error: Error) -> str:
    where = f"{error.node} (item {error.item_id}, attempt {error.attempt})"
    who = "" if error.worker_id is None else f" on worker {error.worker_id}"
    first = f"  {error.number}. {where}{who}, {_date(error.at)}: {error.type_name}: {error.message}"
    given = "" if error.input is None else f"; input: {error.input}"
    line = printable(first).split("\n", 1)[0] + given
    return "\n".join([line, textwrap.indent(error.traceback.rstrip(), "    ")]).rstrip()


def _event(event: Event) -> str:
    depth, path = event.order
    at = ".".join(map(str, path)) or "-"
    return f"  {event.number}. {event.node}, field {event.field}: {event.size} bytes (depth {depth}, branch {at})"


def _few(title: str, lines: Iterable[str], count: int, most: int) -> Iterator[str]:
    """Lines under a title, if there are any, but for what would be too many."""
    if count:
        yield ""
        yield title
        yield from islice(lines, most)
    if count > most:
        yield f"  ... and {count - most} more, which --json has"


def _table(rows: Iterable[Sequence[str]], head: Sequence[str]) -> list[str]:
    """Columns side by side, numbers to the right; nothing for no rows."""
    lines = [head, *rows]
    if len(lines) == 1:
        return []
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = [all(cell.isdecimal() for cell in column[1:]) for column in zip(*lines, strict=True)]
    return [
        "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)).rstrip()
        for line in lines
    ]


def _left(counts: RunMetrics) -> int:
    return counts.total_work_items - counts.completed - counts.failed


def _date(seconds: float) -> str:
    """A time of here, with its offset: where clocks are put back in autumn, an hour comes twice."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")
