"""Workflows whose values, events and errors do not travel well; for ``faults.test_pickles`` and ``test_codec``."""

from __future__ import annotations

import asyncio
import collections
import enum
import functools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from floxide_mp import Context, EventLog, Fixed, Join, Next, NextAll, Node, SharedState, Workflow, node

DEEP = 100_000


@dataclass
class Log(Context):
    log: EventLog[Any]


@dataclass
class Box:
    inner: Any


class Slots:
    """An object without a ``__dict__``."""

    __slots__ = ("first", "second")

    def __init__(self, first: Any, second: Any = None) -> None:
        self.first = first
        self.second = second


@dataclass(slots=True)
class Point:
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class FrozenPoint:
    x: int
    y: Any


class Colour(enum.Enum):
    RED = "red"


class Flags(enum.Flag):
    A = enum.auto()
    B = enum.auto()


Pair = collections.namedtuple("Pair", "left right")


class Picky:
    """Says itself what is pickled of it: the lock is not, ``kept`` is."""

    def __init__(self, kept: Any) -> None:
        self.lock = threading.Lock()
        self.kept = kept

    def __getstate__(self) -> dict[str, Any]:
        return {"kept": self.kept}


class Unruly:
    """Pickling it raises whatever it is told to."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> NoReturn:
        raise self.error


class Rude:
    """Cannot be pickled, and makes it hard to say so: its ``repr`` raises, its attributes too."""

    def __repr__(self) -> str:
        raise ValueError("no repr")

    def __getattr__(self, name: str) -> NoReturn:
        raise ValueError("no attributes")

    def __reduce__(self) -> NoReturn:
        raise ValueError("no pickle")


def die() -> None:
    os._exit(7)


class Bomb:
    """Ends whoever unpickles it, at once."""

    def __reduce__(self) -> Any:
        return die, ()


def refuse() -> NoReturn:
    raise SystemExit("not here")


class Tripwire:
    """Pickles well; unpickling it raises what is no ``Exception``."""

    def __reduce__(self) -> Any:
        return refuse, ()


def deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(DEEP):
        value = [value]
    return value


def flatten(value: list[Any]) -> int:
    """How deep it is, counted without recursion."""
    depth = 0
    while value:
        value = value[0]
        depth += 1
    return depth


# -- errors -------------------------------------------------------------------------------------------------------


class WithLock(Exception):
    """Cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class OneWay(Exception):
    """Can be pickled, cannot be unpickled: the usual mistake with ``__init__``."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{text} ({code})")


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class Quitter(Exception):
    def __str__(self) -> str:
        raise SystemExit("no text, no process")


@dataclass(frozen=True)
class FrozenError(Exception):
    """Nothing can be set on it, not even a note."""

    code: int


class Turncoat(Exception):
    """Comes back as something else."""

    def __reduce__(self) -> Any:
        return str, ("not an exception",)


class Dropout(Exception):
    """Unpickling it raises SystemExit."""

    def __reduce__(self) -> Any:
        return refuse, ()


# -- tricks: what a step may do to us -------------------------------------------------------------------------------

TRICKS: dict[str, Callable[[Log], Any]] = {}


def trick(function: Callable[[Log], Any]) -> Callable[[Log], Any]:
    TRICKS[function.__name__] = function
    return function


@trick
def fine(ctx: Log) -> str:
    ctx.log.append("fine")
    return "fine"


@trick
def result_lock(ctx: Log) -> Any:
    return Box({"here": [1, threading.Lock()]})


@trick
def result_generator(ctx: Log) -> list[Iterator[int]]:
    return [iter(number for number in (1, 2))]


@trick
def result_slots(ctx: Log) -> Any:
    return Slots(1, threading.Lock())


@trick
def result_deep(ctx: Log) -> Any:
    return deep()


@trick
def result_exits(ctx: Log) -> Any:
    return Unruly(SystemExit(0))


@trick
def result_is_cancelled(ctx: Log) -> Any:
    return Box(Unruly(asyncio.CancelledError()))


@trick
def result_interrupts(ctx: Log) -> Any:
    return Unruly(KeyboardInterrupt("of the value"))


class Pressed:
    """Ctrl-C is pressed while it is pickled."""

    def __reduce__(self) -> NoReturn:
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("not interrupted")


@trick
def result_is_interrupted(ctx: Log) -> Any:
    return Pressed()


@trick
def result_rude(ctx: Log) -> Any:
    return {Rude(): Rude()}


@trick
def result_file(ctx: Log) -> Any:
    with open(os.devnull) as file:
        return [file]


@trick
def event_lock(ctx: Log) -> Any:
    ctx.log.append("lost with its step")
    ctx.log.append(Box(threading.Lock()))


@trick
def event_deep(ctx: Log) -> Any:
    ctx.log.append(deep())


@trick
def split_lock(ctx: Log) -> Any:
    return NextAll(["fine", threading.Lock()])


@trick
def error_with_lock(ctx: Log) -> Any:
    raise WithLock("the text")


@trick
def error_one_way(ctx: Log) -> Any:
    raise OneWay(5, "the text")


@trick
def error_local(ctx: Log) -> Any:
    class Local(Exception):
        pass

    raise Local("the text")


@trick
def error_mute(ctx: Log) -> Any:
    raise Mute("unseen")


@trick
def error_quitter(ctx: Log) -> Any:
    raise Quitter("unseen")


@trick
def error_group(ctx: Log) -> Any:
    raise ExceptionGroup("the text", [ValueError("one"), OneWay(2, "two")])


@trick
def error_base_group(ctx: Log) -> Any:
    raise BaseExceptionGroup("the text", [KeyboardInterrupt(), ValueError("one")])


@trick
def error_cause(ctx: Log) -> Any:
    raise ValueError("the text") from WithLock("behind it")


@trick
def error_deep(ctx: Log) -> Any:
    raise ValueError("the text", deep())


@trick
def error_frozen(ctx: Log) -> Any:
    raise FrozenError(5)


@trick
def error_turncoat(ctx: Log) -> Any:
    raise Turncoat("the text")


@trick
def error_dropout(ctx: Log) -> Any:
    raise Dropout("the text")


@trick
def error_exit(ctx: Log) -> Any:
    raise SystemExit("the text")


@trick
def error_cancelled(ctx: Log) -> Any:
    raise asyncio.CancelledError("the text")


@node
def split(names: list[str]) -> Any:
    return NextAll(names)


@node
def work(ctx: Log, name: str) -> Any:
    return TRICKS[name](ctx)


@node
def rescue(ctx: Log, name: str) -> Any:
    """What became known of the failure, as plain text."""
    return name, type(ctx.item.error).__name__, "\n".join([_text(ctx.item.error), *_notes(ctx.item.error)])


def _text(error: BaseException | None) -> str:
    try:
        return str(error)
    except BaseException:
        return ""


def _notes(error: BaseException | None) -> list[str]:
    return list(getattr(error, "__notes__", ()))


class Tricks(Workflow):
    """Every name of the input is a trick; what failed is told by ``rescue``."""

    context = Log
    split = split
    work = work
    rescue = rescue
    start = split
    edges = {split: [work]}
    on_failure = {work: [rescue]}


class Strict(Workflow):
    """The same, where a failure fails the run."""

    context = Log
    split = split
    work = work
    start = split
    edges = {split: [work]}


# -- values that are passed on ----------------------------------------------------------------------------------------


@node
def make(name: str) -> Any:
    return Bomb() if name == "bomb" else Tripwire() if name == "tripwire" else name


@node
def take(value: Any) -> Any:
    return value


@node
def lost(ctx: Context, name: Any) -> Any:
    return type(ctx.item.error).__name__


class Bombs(Workflow):
    """Results that nobody but the user looks at."""

    split = split
    make = make
    start = split
    edges = {split: [make]}


class Onward(Workflow):
    """Results that go on to a successor, which cannot open them."""

    split = split
    make = make
    take = take
    start = split
    edges = {split: [make], make: [take]}


@node
def echo(value: Any) -> Any:
    return value


class Echo(Workflow):
    echo = echo
    start = echo


@node
def depth(value: list[Any]) -> int:
    return flatten(value)


class Spoil(Node):
    """Changes what it was given, and what it has written or read; a sibling must not see any of it."""

    def process(self, ctx: Scheduler, value: list[int]) -> Any:
        value.append(len(value))
        ctx.log.append(value)
        value.append(-1)
        found = [list(event) for event in ctx.log if len(event) > 2]  # of this step alone, whatever others do
        for event in ctx.log:
            event.append(99)
        ctx.state.get().append(99)
        return [value, found]


@dataclass
class Scheduler(Context):
    log: EventLog[list[int]]
    state: SharedState[list[int]]
    fixed: Fixed[str]


@node
def twice(value: list[int]) -> Any:
    return NextAll([value, value])


@node
def tell(ctx: Scheduler, value: Any) -> Any:
    return value, list(ctx.log), ctx.state.get()


def make_spoiled() -> type[Workflow]:
    one, two = Spoil(), Spoil()
    return Workflow.build(
        "Spoiled",
        {"one": one, "two": two, "join": Join(), "tell": tell, "again": echo},
        start="again",
        edges={"again": ["one", "two"], "one": ["join"], "two": ["join"], "join": ["tell"]},
        context=Scheduler,
    )


Spoiled = make_spoiled()


class Counting(Node):
    """Counts its calls in a field of its own."""

    serial = True

    def __init__(self) -> None:
        self.calls = 0

    def process(self, value: Any) -> Any:
        self.calls += 1
        return self.calls


@node
def listed(value: Any) -> Any:
    """``Next`` where it means nothing."""
    return {
        "list": [1, Next(2)],
        "late": [*range(500), Next(2)],
        "tuple": (1, NextAll([2])),
        "all": NextAll([1, Next(2)]),
        "twice": Next(Next(2)),
    }[value]


class Listed(Workflow):
    listed = listed
    start = listed


@functools.lru_cache
def cached(value: int) -> int:
    return value + 1
