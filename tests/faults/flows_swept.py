"""A run that passes every failpoint. Each step leaves a line outside of the run.

What one commit writes and the next deletes must not come to nothing by being written together. So a step begins when
its own item is on disk, and some wait for more: it does not depend on who is quicker. What waits does so one step at a
time, or all workers could.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cache

from floxide_mp import (
    Abort,
    BatchNode,
    Context,
    Coordinator,
    EventLog,
    Hold,
    Join,
    NextAll,
    RetryPolicy,
    RunFailedError,
    SQLiteStore,
    Workflow,
    WorkItemStatus,
    node,
)
from floxide_mp.stores.sqlite.reader import Reader
from floxide_mp.wire.oob_pickle import LARGE
from floxide_mp.worker.iterator_cache import FIRST
from tests.flows_faults import note
from tests.flows_run import until

ID = "swept"
CHANGED = "changed"  # the run that goes on in another graph
RETRY = RetryPolicy(max_attempts=5, initial_backoff=0.01)


@dataclass
class Log(Context):
    log: EventLog[str]


@dataclass(frozen=True)
class Part:
    folder: str
    number: int
    rounds: int = 0


def database(folder: str) -> str:
    return os.path.join(folder, "runs.db")


@cache
def reader(folder: str) -> Reader:
    """One for each worker, which ends with it."""
    return SQLiteStore.open_reader(database(folder))


def enter(ctx: Context, folder: str, then: Callable[[Reader], object] = lambda store: True) -> None:
    """A step begins: its line, and a wait until its item, and what else must be, is on disk."""
    note(folder, "effects", f"{ctx.item.node} {ctx.item.item_id}")
    store = reader(folder)
    until(lambda: ctx.item.item_id in {item.id for item in store.snapshot(ID).items} and then(store))


@dataclass(frozen=True)
class Begun:
    folder: str
    ballast: bytes = bytes(LARGE)  # so that it goes through shared memory


@node
def begin(ctx: Log, folder: str) -> Begun:
    enter(ctx, folder)
    ctx.log.append("begun")
    return Begun(folder)


@node
def split(ctx: Log, begun: Begun) -> NextAll[Part]:
    enter(ctx, begun.folder)
    return NextAll(Part(begun.folder, number) for number in range(8))  # enough for a block


@node
def work(ctx: Log, part: Part) -> Part:
    """One fails twice, the second time when what came of the first is on disk: that is a row of its own by then."""

    def tried(store: Reader) -> bool:
        return (ctx.item.item_id, ctx.item.attempt) in {(item.id, item.attempt) for item in store.snapshot(ID).items}

    enter(ctx, part.folder, tried)
    len(ctx.log)  # what others have written
    ctx.log.append(f"work {part.number}")
    if part.number == 1 and ctx.item.attempt < 3:
        raise ValueError("not at once")
    return part


@node
def tell(ctx: Log, part: Part) -> str:
    enter(ctx, part.folder)
    return f"part {part.number}"


@dataclass(frozen=True)
class Enough:
    folder: str
    number: int


@node
def round_(ctx: Log, part: Part) -> Part | Enough:
    """Three rounds; one part's last waits until another part is at the join."""
    last = part.rounds == 2
    enter(ctx, part.folder, lambda store: not (last and part.number == 1) or store.snapshot(ID).arrivals)
    ctx.log.append(f"round {part.number} {part.rounds}")
    return Enough(part.folder, part.number) if last else Part(part.folder, part.number, part.rounds + 1)


def collected(arrived: list[Enough]) -> str:
    assert [one.number for one in arrived] == list(range(8))
    return arrived[0].folder


@node
def lot(ctx: Log, folder: str) -> list[Part]:
    enter(ctx, folder)
    return [Part(folder, 0), Part(folder, 1)]


@node
def each(ctx: Log, part: Part) -> int | Abort:
    """The second one fails, and the first one's end waits for that."""
    if part.number == 1:
        enter(ctx, part.folder)
        return Abort("the batch is spoilt")
    enter(ctx, part.folder, lambda store: any(e.type_name == "FloxideError" for e in store.errors(ID)))
    return part.number


@node
def mend(ctx: Log, parts: list[Part]) -> str:
    enter(ctx, parts[0].folder)
    return parts[0].folder


@node
def pair(ctx: Log, folder: str) -> NextAll[Part]:
    """In two portions: the first is cut because it takes long."""
    enter(ctx, folder)

    def parts() -> Iterator[Part]:
        time.sleep(1.5 * FIRST / 1e9)
        yield from (Part(folder, 0), Part(folder, 1))

    return NextAll(parts())


def holds(store: Reader) -> bool:
    found = store.snapshot(ID)
    return bool(found.held) or any(item.status is WorkItemStatus.HELD for item in found.items)


@node
def keep(ctx: Log, part: Part) -> str | Hold:
    """The first is held until the second passes."""
    enter(ctx, part.folder, lambda store: part.number == 0 or holds(store))
    return Hold() if part.number == 0 else "kept"


class Swept(Workflow):
    context = Log
    begin, split, work, tell, round_, lot, mend, pair, keep = begin, split, work, tell, round_, lot, mend, pair, keep
    collect = Join(collected, of=split)
    batch = BatchNode(each, 2)
    all = Join()
    start = begin
    edges = {
        begin: [split],
        split: [work],
        work: [tell, round_],
        round_: {Part: [round_], Enough: [collect]},
        collect: [lot],
        lot: [batch],
        mend: [pair],
        pair: [keep],
        keep: [all],
    }
    on_failure = {batch: [mend]}


@node
def fails(given: int) -> int | Abort:
    return Abort("not in this graph")


@node
def passes(given: int) -> int:
    return given


@node
def again(given: int) -> int:
    return given


BEFORE = Workflow.build("Changed", {"first": fails}, "first")
AFTER = Workflow.build("Changed", {"first": passes, "second": again}, "first", {"first": ["second"]})


def main(folder: str) -> None:
    """Says what it knows, line by line: that the run is started, each output once it is written, the end."""
    with closing(SQLiteStore(database(folder))) as store, Coordinator(2, store=store, retry=RETRY) as coordinator:
        store._writer.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 2 * LARGE)  # so that the ballast is too large for a row
        run = coordinator.start(Swept, folder, run_id=ID)
        print("started", flush=True)
        for output in run.stream():
            print(f"told {output}", flush=True)
        print("over", flush=True)
        with suppress(RunFailedError):
            coordinator.start(BEFORE, 1, run_id=CHANGED).wait()
        coordinator.resume(AFTER, CHANGED, allow_changes=True).wait()


if __name__ == "__main__":
    from tests.faults.flows_swept import main as imported

    imported(sys.argv[1])
