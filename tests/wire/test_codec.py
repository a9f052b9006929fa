"""Values that travel, and how: by name, by value, in and out of ``__main__``; and that what travelled is a copy."""

from __future__ import annotations

import functools
import gc
import operator
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import Coordinator, EventLog, Fixed, Node, RunFailedError, SerializationError, SharedState, Workflow
from floxide_mp.wire import codec
from tests import flows_pickles as flows
from tests.naming import without_address
from tests.scripts import printed

LIMIT = 50.0


@pytest.fixture(scope="module", params=[0, 2], ids=["inline", "processes"])
def coordinator(request: pytest.FixtureRequest) -> Iterator[Coordinator]:
    with Coordinator(request.param) as made:
        yield made


@pytest.mark.parametrize(
    "value",
    [
        None,
        flows.Point(1, 2),
        flows.FrozenPoint(1, (2, 3)),
        flows.Colour.RED,
        flows.Flags.A | flows.Flags.B,
        flows.Pair(1, {"x": {2}}),
        functools.partial(operator.add, 2),
        flows.FrozenPoint,
        flows.cached,
        flows.Colour.RED.__str__,
        "a\0b\ud800",
        float("inf"),
        2**200,
        Path("/tmp"),
        ValueError("an exception is a value, too"),
        ...,
    ],
    ids=without_address,
)
def test_values_come_back_equal(coordinator: Coordinator, value: Any) -> None:
    back = coordinator.start(flows.Echo, value).wait(LIMIT).output
    assert type(back) is type(value)
    if isinstance(value, functools.partial):
        assert (back.func, back.args) == (value.func, value.args)
    elif isinstance(value, Exception):
        assert back.args == value.args
    else:
        assert back == value


def test_what_goes_by_value(coordinator: Coordinator) -> None:
    """Local classes and lambdas have no name to go by."""
    offset = 40

    class Local:
        def __init__(self, n: int) -> None:
            self.n = n

        def more(self) -> int:
            return self.n + offset

    back = coordinator.start(flows.Echo, [Local(2), lambda n: n + offset, Local(3).more]).wait(LIMIT).output
    assert back[0].more() == 42
    assert back[1](2) == 42
    assert back[2]() == 43


def test_fifty_megabytes_in_and_out(coordinator: Coordinator) -> None:
    value = os.urandom(1000) * 50_000
    assert coordinator.start(flows.Echo, value).wait(LIMIT).output == value


def test_what_a_step_changes_is_its_own(coordinator: Coordinator) -> None:
    """Two siblings get one list, and change it, the events that they wrote and read, and the state they looked at."""
    given = [7]
    state = [0]
    ctx = flows.Scheduler(EventLog([[5]]), SharedState(state), Fixed("x"))
    for _ in range(2):  # twice on the same workers, which keep their copy of a run, and of a workflow
        result = coordinator.start(flows.Spoiled, given, ctx=ctx).wait(LIMIT)
        spoiled, log, seen = result.output
        assert spoiled == [[[7, 1, -1], []], [[7, 1, -1], []]]
        assert log == [[5], [7, 1], [7, 1]]
        assert seen == [0]
        assert [list(event) for event in result.context.log] == log
        assert result.context.state.get() == [0]
    assert given == [7]
    assert (list(ctx.log), ctx.state.get()) == ([[5]], [0])


def test_a_node_that_counts_in_a_field_is_refused(coordinator: Coordinator) -> None:
    """What is counted there would depend on which worker ran which items."""
    counting = flows.Counting()
    nodes: dict[str, Node] = {"split": flows.split, "count": counting}
    workflow = Workflow.build("Counts", nodes, start="split", edges={"split": ["count"]})
    with pytest.raises(RunFailedError, match=r"a step of count has changed self\.\w+: its node object is one"):
        coordinator.start(workflow, [0] * 20).wait(LIMIT)


# -- __main__ -----------------------------------------------------------------------------------------------------

SCRIPT = """
import enum, functools, sys
from collections import namedtuple
from dataclasses import dataclass
from typing import Any
from floxide_mp import Context, Coordinator, EventLog, Join, NextAll, Node, Workflow, node, when

@dataclass(frozen=True)
class Event:
    n: int

@dataclass
class Ctx(Context):
    log: EventLog[Event]

class Kind(enum.Enum):
    ODD = 1
    EVEN = 2

@dataclass(slots=True)
class Work:
    n: int
    kind: Kind

Pair = namedtuple("Pair", "a b")

class Outer:
    class Inner(Exception):
        def __init__(self, n, text):
            super().__init__(n, text)
    @dataclass
    class Input:
        n: int

class Base(Node):
    def process(self, ctx: Ctx, value: Any) -> Any:
        ctx.log.append(Event(value.n))
        return self.of(value)

class Odd(Base):
    def of(self, value): return Pair(value.n, value.kind)

class Even(Base):
    def of(self, value):
        if value.n == 4: raise Outer.Inner(4, "four")
        return Only(value.n)

class Only:
    '''Used by a node alone: neither input nor context lead to it.'''
    def __init__(self, n): self.n = n
    def __eq__(self, other): return type(other) is Only and other.n == self.n
    def __repr__(self): return f"Only({self.n})"

def helper(n): return Work(n, Kind.ODD if n % 2 else Kind.EVEN)

@node
def split(value): return NextAll(map(helper, range(value.n)))

@node
def rescue(ctx: Ctx, value: Work) -> Any:
    error = ctx.item.error
    assert type(error) is Outer.Inner and error.args == (4, "four"), error
    return value

class Main(Workflow):
    context = Ctx
    split = split
    odd = Odd()
    even = Even()
    rescue = rescue
    join = Join(lambda found: (Kind.ODD, found))
    start = split
    edges = {
        split: {when(Work, lambda w: w.kind is Kind.ODD): [odd], object: [even]},
        odd: [join], even: [join], rescue: [join],
    }
    on_failure = {even: [rescue]}

with Coordinator(WORKERS) as c:
    for _ in range(2):
        result = c.start(Main, Outer.Input(6)).wait(50)
        kind, found = result.output
        assert kind is Kind.ODD
        assert type(found[0]) is Only and type(found[1]) is Pair and found[1].b is Kind.ODD
        assert all(type(event) is Event for event in result.context.log)
        print(list(found), list(result.context.log))
    # A class may be made anew, as in a notebook: from then on the new one is meant.
    class Only:
        def __init__(self, n): self.n = -n
        def __repr__(self): return f"New({self.n})"
    print(list(c.start(Main, Outer.Input(1)).wait(50).output[1]))
"""


@pytest.mark.parametrize("stdin", [False, True], ids=["file", "stdin"])
def test_everything_of_a_script(tmp_path: Path, stdin: bool) -> None:
    """Events, enums, slots, named tuples, nested classes and exceptions of ``__main__``, the same on every engine."""
    told = [printed(SCRIPT.replace("WORKERS", str(workers)), tmp_path, stdin) for workers in (0, 2)]
    assert told[0] == told[1]
    first, second, third = told[0].splitlines()
    assert first == second
    assert first.startswith("[Only(0), Pair(a=1, b=<Kind.ODD: 1>), Only(2), Pair(a=3, b=<Kind.ODD: 1>), Pair(a=5")
    assert "Work(n=4, kind=<Kind.EVEN: 2>)]" in first, "a step later than the others, so behind them"
    assert first.endswith("[Event(n=0), Event(n=1), Event(n=2), Event(n=3), Event(n=5)]"), "failed steps write nothing"
    assert third == "[New(0)]"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_cached_function_of_a_script(tmp_path: Path, workers: int) -> None:
    """``lru_cache`` goes by name only, and nobody but the script has that name."""
    script = f"""
        import functools
        from floxide_mp import Workflow, node
        @functools.lru_cache(maxsize=7)
        def square(n): return n * n
        @functools.cache
        def cube(n): return n * square(n)
        @node
        def work(n): return cube(n), square.cache_parameters(), cube.__name__
        class W(Workflow):
            work = work
            start = work
        print(W().run(3, workers={workers}).output)
    """
    assert printed(script, tmp_path).strip() == "(27, {'maxsize': 7, 'typed': False}, 'cube')"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_named_tuple_of_a_script(tmp_path: Path, workers: int) -> None:
    """One with types, which does not let itself be given slots."""
    script = f"""
        from typing import NamedTuple
        from floxide_mp import Workflow, node
        class Point(NamedTuple):
            x: int
            y: int = 2
        class W(Workflow):
            make = node(lambda n: Point(n))
            take = node(lambda point: (point, point._asdict()))
            start = make
            edges = {{make: [take]}}
        print(W().run(1, workers={workers}).output)
    """
    assert printed(script, tmp_path).strip() == "(Point(x=1, y=2), {'x': 1, 'y': 2})"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_traceback_leads_into_the_script(tmp_path: Path, workers: int) -> None:
    """File, line and text of what was run, though the worker got it as a pickle."""
    script = f"""
        from floxide_mp import RunFailedError, Workflow, node
        def inverse(n):
            return 1 / n
        class W(Workflow):
            work = node(lambda n: inverse(n))
            start = work
        try:
            W().run(0, workers={workers})
        except RunFailedError as error:
            print(*error.__cause__.__notes__)
    """
    told = printed(script, tmp_path)
    assert f'File "{tmp_path / "script.py"}", line 4, in inverse\n    return 1 / n' in told
    assert f'File "{tmp_path / "script.py"}", line 6, in <lambda>' in told


@pytest.mark.parametrize("workers", [0, 1])
def test_a_workflow_of_a_script_goes_along_with_what_is_in_its_body(tmp_path: Path, workers: int) -> None:
    """A node class, a function or a value's class inside it, or a node that names it, takes the class along."""
    script = f"""
        from floxide_mp import Node, Workflow, node
        class Inner(Workflow):
            def twice(n): return n * 2
            twice = node(twice)
            start = twice
        class W(Workflow):
            class Plus(Node):
                def process(self, n): return W.Value(W.helper(n))
            class Value:
                def __init__(self, n): self.n = n
            @staticmethod
            def helper(n): return n + 1
            def opened(value):
                return value.n, W().name, list(W.__declaration__.nodes), Inner().run(value.n).output
            plus = Plus()
            show = node(opened)
            start = plus
            edges = {{plus: {{Value: [show]}}}}
        class Derived(W):
            show = node(lambda value: (Derived.__name__, Derived.__mro__[1] is W, value.n))
        print(W().run(1, workers={workers}).output, Derived().run(2, workers={workers}).output)
    """
    expected = "(2, 'W', ['plus', 'show'], 4) ('Derived', True, 3)"
    assert printed(script, tmp_path).strip() == expected


@pytest.mark.parametrize("workers", [0, 1])
def test_async_steps_also_where_a_loop_runs(tmp_path: Path, workers: int) -> None:
    """As in a notebook, whose cells run inside a loop."""
    script = f"""
        import asyncio
        from floxide_mp import Abort, Node, Workflow
        class Work(Node):
            async def process(self, n):
                await asyncio.sleep(0)
                return n + 1
        class W(Workflow):
            work = Work()
            start = work
        async def main():
            return W().run(1, workers={workers}).output
        print(W().run(0, workers={workers}).output, asyncio.run(main()))
    """
    assert printed(script, tmp_path).strip() == "1 2"


def test_what_cannot_be_pickled_is_held_by_nobody() -> None:
    """Not even until the next collection: CPython does not always survive that of a buffer."""
    value = flows.Rude()
    seen = weakref.ref(value)
    gc.disable()
    try:
        with pytest.raises(SerializationError, match=r"\[0\]\[0\]"):
            codec.encode([[value]])
        del value
        assert seen() is None
    finally:
        gc.enable()
