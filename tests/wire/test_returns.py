"""What a node may not return, or a run be given: refused, with what to write instead. And keys for seeds."""

from __future__ import annotations

import random
import sqlite3
from collections import UserString
from collections.abc import AsyncIterator
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from floxide_mp import (
    Abort,
    Context,
    Hold,
    Next,
    NextAll,
    Node,
    RunFailedError,
    SerializationError,
    SplitNode,
    Workflow,
    node,
)
from floxide_mp.worker.step_view import text_of


class Pair(NamedTuple):
    left: int
    right: int


def alone(returned: Any) -> Workflow:
    return Workflow.build("W", {"only": node(returned)}, "only")()


async def numbers() -> AsyncIterator[int]:
    yield 1


@node
async def pages(_: object) -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (lambda _: NextAll({"a": 1}), r"NextAll of a dict, which is iterated over by its keys.*NextAll\(d.items\(\)\)"),
        (lambda _: NextAll(memoryview(b"abc")), r"returned NextAll\(<memory.*for this one, NextAll\(\["),
        (lambda _: NextAll(UserString("abc")), r"returned NextAll\('abc'\).*for this one, NextAll\(\['abc'\]\)"),
        (lambda _: NextAll(Pair(1, 2)), r"NextAll of a Pair, a named tuple, .*NextAll\(\[value\]\)"),
        (lambda _: Hold, r"returned the class Hold, not an object of it: write return Hold\(\)"),
        (lambda _: Next, r"returned the class Next, not an object of it: write return Next\(\.\.\.\)"),
        (lambda _: NextAll, r"returned the class NextAll, not an object of it: write return NextAll\(\.\.\.\)"),
        (lambda _: Abort, r"returned the class Abort, not an object of it: write return Abort\(\.\.\.\)"),
        (lambda _: Next(Hold), r"returned the class Hold inside Next or NextAll, which take the plain values"),
        (lambda _: NextAll([1, Abort]), r"returned the class Abort inside Next or NextAll"),
        (lambda _: NextAll(iter([1, Next])), r"returned the class Next inside Next or NextAll"),
        (lambda _: Next(Next(1)), r"returned Next\(value=1\) inside Next or NextAll"),
        (lambda _: (int, Hold), r"returned a tuple with the class Hold in it; to fan out, return NextAll"),
        (lambda _: [int, Hold()], r"returned a list with Hold\(\) in it; to fan out, return NextAll"),
        (lambda _: NextAll(numbers()), r"NextAll of an async iterator.*NextAll\(\[value async for value in"),
        (lambda _: numbers(), r"async generator function.*NextAll\(\[value async for value in"),
        (lambda _: (n for n in "ab"), r"returned a generator; to fan out into its values, return NextAll"),
    ],
    ids=[*"abcdefghijklmnopq"],
)
def test_row_139_what_a_node_may_not_return(returned: Any, told: str, workers: int) -> None:
    with pytest.raises(RunFailedError, match=told):
        alone(returned).run(1, workers=workers)


def test_row_139_a_node_that_is_an_async_generator_function() -> None:
    with pytest.raises(RunFailedError, match=r"pages is an async generator function"):
        Workflow.build("W", {"pages": pages}, "pages")().run(1)


@pytest.mark.parametrize("module", ["pandas", "pyarrow"])
def test_row_139_next_all_of_a_table(module: str) -> None:
    tables = pytest.importorskip(module)
    columns = {"a": [1, 2]}
    table = tables.DataFrame(columns) if module == "pandas" else tables.table(columns)
    with pytest.raises(RunFailedError, match=r"which is iterated over by its columns.*NextAll\(\[df\]\)"):
        alone(lambda _: NextAll(table)).run(1)


@pytest.mark.parametrize("make", ["array", "int64"])
def test_row_139_next_all_of_an_array_without_dimensions(make: str) -> None:
    numpy = pytest.importorskip("numpy")
    with pytest.raises(RunFailedError, match=r"it takes an iterable of values: for this one, NextAll\(\["):
        alone(lambda _: NextAll(getattr(numpy, make)(5))).run(1)


def test_a_class_is_a_value_if_it_is_no_transition() -> None:
    assert alone(lambda _: Pair).run(1).output is Pair
    assert alone(lambda _: Next(int)).run(1).output is int
    assert alone(lambda _: NextAll([int, str])).run(1).outputs == [int, str]
    assert alone(lambda _: [int, Pair]).run(1).output == [int, Pair]


def test_next_all_of_a_column_is_its_values() -> None:
    pandas = pytest.importorskip("pandas")
    assert alone(lambda _: NextAll(pandas.Series([1, 2]))).run(1).outputs == [1, 2]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", ["generator", "map", "file", "cursor"])
def test_row_140_an_input_that_gives_its_values_once(kind: str, workers: int, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    with open(tmp_path / "x") as file, sqlite3.connect(":memory:") as base:
        cursor = base.execute("select 1")
        value = {"generator": (n for n in "ab"), "map": map(int, "12"), "file": file, "cursor": cursor}[kind]
        with pytest.raises(SerializationError, match=r"gives its values once, .*; give list\(...\) of it, or a source"):
            alone(lambda given: given).run(value, workers=workers)
        cursor.close()
    base.close()


def test_an_input_that_is_a_file_in_memory_is_a_value() -> None:
    assert [alone(lambda given: given.read()).run(made).output for made in (BytesIO(b"ab"), StringIO("ab"))] == [
        b"ab",
        "ab",
    ]


def test_an_input_that_may_be_iterated_over_again() -> None:
    assert alone(lambda given: list(given)).run(range(3)).output == [0, 1, 2]


def test_row_141_a_value_that_equals_an_arm_and_is_of_another_type() -> None:
    class Hot(Workflow):
        is_hot = node(lambda value: value)
        hot, cold = node(lambda: "hot"), node(lambda: "cold")
        start = is_hot
        edges = {is_hot: {True: [hot], False: [cold]}}

    assert Hot().run(True).output == "hot"
    with pytest.raises(RunFailedError, match=r"the arms are: True, False; it equals True, but is a int: return bool\("):
        Hot().run(1)
    numpy = pytest.importorskip("numpy")
    with pytest.raises(RunFailedError, match=r"it equals True, but is a numpy bool_?: return bool\("):
        Hot().run(numpy.True_)


def test_a_list_that_goes_on_as_one_value() -> None:
    class Lists(Workflow):
        lst = node(lambda _: [1, 2])
        add = node(lambda value: value + 1)
        start = lst
        edges = {lst: [add]}

    with pytest.raises(RunFailedError, match="can only concatenate list") as caught:
        Lists().run(1)
    assert caught.value.__cause__ is not None
    assert any("the node before returns NextAll" in note for note in caught.value.__cause__.__notes__)


# -- seeds --------------------------------------------------------------------------------------------------------


@node(seed_key=lambda row: row["id"])
def drawn(ctx: Context, row: dict[str, Any]) -> tuple[int, int]:
    row["id"] = "changed"
    return ctx.item.seed, random.Random(ctx.item.seed).randrange(1000)


class Drawn(Node):
    def seed_key(self, row: dict[str, Any]) -> Any:  # type: ignore[override]
        return row["id"]

    def process(self, ctx: Context, row: dict[str, Any]) -> tuple[int, int]:
        return ctx.item.seed, random.Random(ctx.item.seed).randrange(1000)


@node(seed_key=lambda row: row["id"])
def drawn_bit_by_bit(ctx: Context, row: dict[str, Any]) -> NextAll[int]:
    return NextAll(ctx.item.seed for _ in range(5000))


ROWS = [{"id": "a"}, {"id": 7}, {"id": ("b", 1.5)}]


def sweep(each: Node, more: bool = False) -> type[Workflow]:
    nodes: dict[str, Node] = {"split": SplitNode(list), "each": each}
    edges: dict[str, list[str]] = {"split": ["each"]}
    if more:
        nodes["before"], edges["before"] = node(lambda value: value), ["split"]
    return Workflow.build("Sweep", nodes, "before" if more else "split", edges)


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("each", [drawn, Drawn()], ids=["function", "class"])
def test_row_138_a_seed_by_the_items_own_key(each: Node, workers: int) -> None:
    first = sweep(each)().run(ROWS, workers=workers).outputs
    assert len(set(first)) == 3
    longer = sweep(each, more=True)().run([{"id": "new"}, *ROWS[::-1]], workers=workers).outputs
    assert longer[:0:-1] == first, "neither a node before nor other rows change it"


@pytest.mark.parametrize("workers", [0, 1])
def test_row_138_the_key_holds_for_all_portions(workers: int) -> None:
    outputs = sweep(drawn_bit_by_bit)().run(ROWS[:1], workers=workers).outputs
    assert (len(outputs), len(set(outputs))) == (5000, 1)


def test_keys() -> None:
    assert [text_of(key) for key in (1, True, "1", b"1", 1.0, (1, "a"))] == ["1", "1", "'1'", "b'1'", "1.0", "(1,'a')"]
    with pytest.raises(RunFailedError, match=r"seed_key must give a number, a text, bytes, or a tuple .*, not a list"):
        sweep(drawn)().run([{"id": []}])
    with pytest.raises(ValueError, match="seed_key must be a function of the input"):
        node(seed_key=5)(len)  # type: ignore[arg-type]
