"""What ``benchmarks.payloads`` sends through its contenders: large values of several kinds, and the steps for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from floxide_mp import Join, NextAll, Workflow, node, when


def number(size: int) -> Any:
    import numpy

    return numpy.arange(size // 8, dtype=numpy.float64)


def text(size: int) -> bytes:
    return bytes(range(256)) * (size // 256)


def frame(size: int) -> Any:
    import pandas

    return pandas.DataFrame(number(size).reshape(-1, 8), columns=list("abcdefgh"))


def table(size: int) -> Any:
    import pyarrow

    return pyarrow.table({name: number(size // 8) for name in "abcdefgh"})


def added(value: Any) -> Any:
    """Written to where it is, page by page."""
    value += 1
    return value


class Kind(NamedTuple):
    """A kind of value: its module, what makes one of so many bytes, what looks at both ends of one, what a step then
    makes of it, and whether it writes to it.
    """

    module: str
    make: Callable[[int], Any]
    ends: Callable[[Any], tuple[Any, Any]]
    step: Callable[[Any], Any] = lambda value: value
    writes: bool = False


KINDS: Final = {
    "numpy": Kind("numpy", number, lambda value: (value[0], value[-1])),
    "numpy-new": Kind("numpy", number, lambda value: (value[0], value[-1]), lambda value: value + 1),
    "numpy-in-place": Kind("numpy", number, lambda value: (value[0], value[-1]), added, True),
    "bytes": Kind("builtins", text, lambda value: (value[0], value[-1])),
    "pandas": Kind("pandas", frame, lambda value: (value.iat[0, 0], value.iat[-1, -1])),
    "arrow": Kind("pyarrow", table, lambda value: (value["a"][0], value["h"][-1])),
}


def turn(kind: str, value: Any) -> Any:
    """The step that all of them run."""
    first, last = KINDS[kind].ends(value)
    assert first is not last
    return KINDS[kind].step(value)


@node
def lap(task: tuple[str, int, Any]) -> tuple[str, int, Any]:
    kind, left, value = task
    return kind, left - 1, turn(kind, value)


class Laps(Workflow):
    lap = lap
    start = lap
    edges = {lap: {when(tuple, lambda task: task[1] > 0): [lap], tuple: []}}


@node
def make(task: tuple[str, int, int]) -> NextAll[tuple[str, Any]]:
    kind, count, size = task
    return NextAll((kind, KINDS[kind].make(size)) for _ in range(count))


@node
def once(task: tuple[str, Any]) -> Any:
    return turn(*task)


class Wide(Workflow):
    make, once = make, once
    collect = Join(len)
    start = make
    edges = {make: [once], once: [collect]}
