"""Workflows whose steps end early, have threads, or change what is not theirs. Imported by workers by name."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from time import sleep
from typing import Any

from floxide_mp import (
    Context,
    EventLog,
    Fixed,
    Hold,
    Join,
    Merge,
    NextAll,
    Node,
    RetryPolicy,
    SharedState,
    SplitNode,
    Workflow,
    node,
    when,
)
from floxide_mp.worker import fixed_values
from tests.flows_faults import note
from tests.flows_run import enter, until


class Sum(Merge):
    def __init__(self, number: int = 0) -> None:
        self.number = number

    def merge(self, other: Sum) -> None:
        self.number += other.number


@dataclass
class Shared(Context):
    log: EventLog[Any]
    total: Sum
    state: SharedState[Any] = field(default_factory=lambda: SharedState(None))
    table: Fixed[Any] = field(default_factory=lambda: Fixed(None))


# -- steps that end early -----------------------------------------------------------------------------------------


def until_told(ctx: Context, folder: Path) -> bool:
    """Wait in the first life of a run until it is to stop; whether it is."""
    if (folder / "resumed").exists():
        return False
    enter(folder)
    until(lambda: ctx.cancelled)
    return True


@node
def early(ctx: Shared, path: str) -> str:
    told = until_told(ctx, Path(path))
    ctx.log.append("half" if told else "whole")
    return "half" if told else "whole"


@node
def early_list(ctx: Shared, path: str) -> NextAll[int]:
    return NextAll(range(10, 12) if until_told(ctx, Path(path)) else range(10, 30))


@node
def early_iterator(ctx: Shared, path: str) -> NextAll[int]:
    def numbers() -> Iterator[int]:
        for number in range(10, 30):
            ctx.log.append(number)
            yield number
            if number == 15 and until_told(ctx, Path(path)):
                return

    return NextAll(numbers())


@node
def early_hold(ctx: Shared, path: str) -> Any:
    return Hold() if until_told(ctx, Path(path)) else "whole"


@node
def never_looks(path: str) -> str:
    """Takes longer than its run may, and does not ask."""
    if (Path(path) / "began").exists():
        return "again"
    (Path(path) / "began").touch()
    enter(Path(path))
    until((Path(path) / "open").exists)
    return "whole"


def alone(name: str, only: Node, after: Node | None = None) -> type[Workflow]:
    nodes = {"only": only, "after": after or node(lambda value: value)}
    return Workflow.build(name, nodes=nodes, start="only", edges={"only": ["after"]}, context=Shared)


# -- threads ------------------------------------------------------------------------------------------------------


class Straggling(Node):
    """The first step leaves a thread behind, which writes to the context that it was given while the second one runs,
    which waits for it.
    """

    errors: queue.Queue[str] = queue.Queue()
    orders: queue.Queue[str] = queue.Queue()

    def __init__(self, what: str) -> None:
        self.what = what

    def process(self, ctx: Shared, number: int) -> Any:
        if number == 0:
            held = {"log": ctx.log, "state": ctx.state, "total": ctx.total, "ctx": ctx, "append": ctx.log.append}
            held = {self.what: held[self.what]}  # and nothing else
            threading.Thread(target=self.straggle, kwargs=held, daemon=True).start()
            ctx.log.append("first")
        else:
            self.orders.put("write")
            ctx.log.append(self.errors.get(timeout=30))
        return number

    def straggle(
        self, ctx: Any = None, log: Any = None, state: Any = None, total: Any = None, append: Any = None
    ) -> None:
        self.orders.get(timeout=30)
        try:
            if ctx is not None:
                assert ctx.cancelled, "it had better end"
                ctx.log.append("late")
            elif state is not None:
                state.set("late")
            elif total is not None:
                total.merge(Sum(1000))
            else:
                (append or log.append)("late")
        except BaseException as error:
            self.errors.put(f"{type(error).__name__}: {error}")
        else:
            self.errors.put("written")


@node
def two(_: object) -> NextAll[int]:
    return NextAll([0, 1])


def straggling(what: str) -> type[Workflow]:
    nodes = {"two": two, "work": Straggling(what)}
    return Workflow.build("Straggling", nodes=nodes, start="two", edges={"two": ["work"]}, context=Shared)


@node
def in_threads(ctx: Shared, number: int) -> tuple[list[int], int, int]:
    """Eight threads look at the same time, and write."""
    barrier = threading.Barrier(8)

    def look(which: int) -> tuple[list[Any], int]:
        barrier.wait(30)
        seen = list(ctx.log), ctx.total.number
        ctx.total.merge(Sum(1))
        return seen

    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(look, range(8)))
    ctx.log.append(number)
    logs, totals = [one[0] for one in seen], [one[1] for one in seen]
    assert all(log == logs[0] for log in logs), logs
    return logs[0], min(totals), ctx.total.number


@node
def once_more(ctx: Shared, seen: tuple[list[int], int, int]) -> Any:
    return seen, list(ctx.log), ctx.total.number


@node
def events(ctx: Shared, count: int) -> int:
    for number in range(count):
        ctx.log.append(number)
        ctx.total.merge(Sum(1))
    return -1


class InThreads(Workflow):
    context = Shared
    events, in_threads, once_more = events, in_threads, once_more
    start = events
    edges = {events: [in_threads], in_threads: [once_more]}


# -- what is given when the run starts ----------------------------------------------------------------------------


@node
def five(_: object) -> NextAll[int]:
    return NextAll(range(5))


class Table:
    """Leaves a line in a file each time that it is opened. Some values of it are computed at their first use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: list[Any] = []
        self.client: Any = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        note(self.folder, "opened", os.getpid())

    @cached_property
    def squares(self) -> dict[int, int]:
        return {number: number**2 for number in range(10)}


@node
def changes_table(ctx: Shared, number: int) -> Any:
    """Every second one does to the value what a careless step would do; all say what they saw before."""
    table = ctx.table.value
    assert table is ctx.table.value is ctx.table.get()
    seen = list(table.seen)
    table.client = table.client or "client"
    if number % 2:
        table.seen.append(number)
    if number == 3:
        raise ValueError("which also changes it")
    return seen, table.squares[number]


@node
def says_why(ctx: Shared) -> Any:
    return str(ctx.item.error)


class ChangesTable(Workflow):
    context = Shared
    five, changes_table, says_why = five, changes_table, says_why
    start = five
    edges = {five: [changes_table]}
    on_failure = {changes_table: [says_why]}


@node
def has_table(ctx: Shared, _: object) -> NextAll[int]:
    table = ctx.table.value
    return NextAll(number + len(table.seen) for number in range(5000))


class SpoilsTable(Workflow):
    context = Shared
    has_table, spoil = has_table, node(lambda ctx, number: ctx.table.value.seen.append(number))
    start = has_table
    edges = {has_table: [spoil]}


class ReadsTable(Workflow):
    context = Shared
    five = SplitNode(lambda _: range(50))
    reads = node(lambda ctx, number: (len(ctx.table.value.seen), ctx.table.value.squares[3]))
    start = five
    edges = {five: [reads]}


@node
def sets_table(ctx: Shared, number: int) -> Any:
    ctx.table.value = number  # type: ignore[misc]


@node
def changes_array(ctx: Shared, number: int) -> Any:
    ctx.table.value["array"][0] += 1


class ChangesArray(Workflow):
    context = Shared
    five, changes_array, says_why = five, changes_array, says_why
    start = five
    edges = {five: [changes_array]}
    on_failure = {changes_array: [says_why]}


@node
def makes_writeable(ctx: Shared, number: int) -> Any:
    ctx.table.value.flags.writeable = True
    ctx.table.value[0] += 1


@node
def changes_part(ctx: Shared, number: int) -> Any:
    part = ctx.table.value[0]
    if isinstance(part, Sum):
        part.number += 1
    else:
        part.append(number)


@node
def changes_unseen(ctx: Shared, number: int) -> int:
    fixed_values.FIRST, fixed_values.SHARE = (1e9, 0.0) if number == 0 else (0.0, 0.0)  # type: ignore[misc]
    if number:
        ctx.table.value[0].append(number)
    else:
        len(ctx.table.value)
    return number


@node
def looks(ctx: Shared, number: int) -> int:
    fixed_values.FIRST = 1e9  # type: ignore[misc]
    if ctx.table.value[-1] == "raises":
        raise ValueError("its own")
    return number


class ChangesUnseen(Workflow):
    """The first step looks; the others of the node change the value while no look is due."""

    context = Shared
    two, changes_unseen, last, looks = SplitNode(lambda _: range(3)), changes_unseen, Join(len), looks
    rescued = node(lambda value: value)
    start = two
    edges = {two: [changes_unseen], changes_unseen: [last], last: [looks]}
    on_failure = {looks: [rescued]}


def each_of_five(each: Node) -> type[Workflow]:
    nodes = {"five": five, "each": each}
    return Workflow.build("EachOfFive", nodes=nodes, start="five", edges={"five": ["each"]}, context=Shared)


# -- what is needed before a node is called ------------------------------------------------------------------------


class Bad:
    """Can be pickled, and raises when it is opened."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


@node
def split(values: list[Any]) -> NextAll[Any]:
    return NextAll([Bad() if value == "bad" else value for value in values])


@node
def number_of(ctx: Shared, thing: Any) -> int:
    ctx.log.append("opened")
    return thing.number if hasattr(thing, "number") else -1


class Things(Workflow):
    context = Shared
    split, number_of = split, number_of
    rescue = node(lambda: "rescued")
    start = split
    edges = {split: [number_of]}
    on_failure = {split: [rescue]}


class BadOnes(Workflow):
    context = Shared
    split, number_of = split, number_of
    start = split
    edges = {split: [number_of]}


@node(retry=RetryPolicy(max_attempts=2, initial_backoff=0.01))
def number_of_two(ctx: Shared, thing: Any) -> Any:
    return ctx.item.attempt, getattr(thing, "number", thing)


class Rescued(Workflow):
    """A thing that cannot be opened goes to a fallback."""

    context = Shared
    split, number_of_two = split, number_of_two
    rescue = node(lambda: "rescued")
    start = split
    edges = {split: [number_of_two]}
    on_failure = {number_of_two: [rescue]}


@node
def old_and_new(things: list[Any]) -> NextAll[Any]:
    return NextAll([*things, 0])


class OldAndNew(Workflow):
    """Of the things, those that are numbers come to the second node in two steps, by way of the third."""

    context = Shared
    old_and_new, number_of_two = old_and_new, number_of_two
    again = node(lambda number: number)
    rescue = node(lambda: "rescued")
    start = old_and_new
    edges = {old_and_new: {int: [again], object: [number_of_two]}, again: [number_of_two]}
    on_failure = {number_of_two: [rescue]}


@node(serial=True)
def in_order(thing: Any) -> Any:
    return thing


class InOrder(Workflow):
    split, in_order = split, in_order
    rescue = node(lambda: "rescued")
    start = split
    edges = {split: [in_order]}
    on_failure = {in_order: [rescue]}


# -- serial steps that read what they write -----------------------------------------------------------------------


@node(retry=RetryPolicy(max_attempts=3, initial_backoff=0.02))
def of_different_speed(ctx: Shared, number: int) -> int:
    """The first ones take the longest, and every third one fails once."""
    sleep(0.02 * (3 - number % 4) if number < 8 else 0.0)
    if number % 3 == 0 and ctx.item.attempt == 1:
        raise ValueError("try again")
    return number


@node(serial=True, retry=RetryPolicy(max_attempts=2, initial_backoff=0.02))
def tally(ctx: Shared, number: int) -> Any:
    """Reads, and writes what follows; the last one speaks for all, as a join counted by hand."""
    if number % 5 == 0 and ctx.item.attempt == 1:
        raise ValueError("try again")
    seen = ctx.state.get() or []
    ctx.state.set([*seen, number])
    return [*seen, number] if len(seen) == 19 else Hold()


class Tallied(Workflow):
    context = Shared
    twenty, of_different_speed, tally = SplitNode(lambda _: range(20)), of_different_speed, tally
    start = twenty
    edges = {twenty: [of_different_speed], of_different_speed: [tally]}


@node
def one_way(number: int) -> int:
    sleep(0.01 * (number % 3))
    return number


@node(retry=RetryPolicy(max_attempts=2, initial_backoff=0.02))
def the_other(ctx: Shared, number: int) -> int:
    if ctx.item.attempt == 1:
        raise ValueError("try again")
    return number


class TwoWays(Workflow):
    """Items come to the serial node by a short way and by a long one."""

    context = Shared
    twenty, first, one_way, the_other, one_more, tally = (
        SplitNode(lambda _: range(20)),
        node(lambda number: number),
        one_way,
        the_other,
        node(lambda number: number),
        tally,
    )
    start = twenty
    edges = {
        twenty: [first],
        first: {when(int, lambda number: number % 2 == 0): [one_way], int: [the_other]},
        one_way: [tally],
        the_other: [one_more],
        one_more: [tally],
    }


@node
def mended_later(value: tuple[str, int]) -> int:
    path, number = value
    if number == 3 and not (Path(path) / "mended").exists():
        raise ValueError("not yet")
    return number


class MendedLater(Workflow):
    context = Shared
    twenty, mended_later, tally = (
        SplitNode(lambda path: [(path, number) for number in range(20)]),
        mended_later,
        tally,
    )
    start = twenty
    edges = {twenty: [mended_later], mended_later: [tally]}


# -- steps that change their node ---------------------------------------------------------------------------------


class Model:
    def __init__(self) -> None:
        self.known = {"a": 1}

    @cached_property
    def squares(self) -> dict[int, int]:
        return {}


class Numbering(Node):
    """Gives each number back, and changes or fills fields of its own, by ``kind``."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.count = 0
        self.seen: list[int] = []
        self.client: Any = None
        self.model = Model()
        self.scratch: list[int] = []

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "scratch"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, scratch=[])

    @property
    def changes(self) -> str:
        return {"count": "count", "model": "model"}.get(self.kind, "seen")

    @cached_property
    def numbers(self) -> list[int]:
        return []

    def _later(self, number: int) -> Iterator[int]:
        self.seen.append(number)
        yield number

    def process(self, number: int) -> int | NextAll[int]:
        if self.kind == "later":
            return NextAll(self._later(number))
        if self.kind == "count":
            self.count += 1
        elif self.kind == "seen":
            self.seen.append(number)
        elif self.kind == "model":
            self.model.known["a"] += number + 1
        elif self.kind == "client":
            self.client = self.client or ["a client"]
            self.client.append(number)
            self.lazily = number
        elif self.kind == "cached":
            self.numbers.append(number)
        elif self.kind == "left out":
            self.scratch.append(number)
        elif self.kind == "inner cache":
            self.model.squares[number] = number**2
        return number


class Stateless(Node):
    def process(self, number: int) -> int:
        return number
