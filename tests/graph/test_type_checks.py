"""Row 58, whole graphs: what goes along each edge, by the annotations of the nodes before and after it."""

from __future__ import annotations

import enum
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypedDict, runtime_checkable

import pytest

from floxide_mp import (
    Abort,
    Arrivals,
    BatchNode,
    CompositeNode,
    Context,
    Hold,
    Join,
    Next,
    NextAll,
    Node,
    RunFailedError,
    SplitNode,
    Workflow,
    WorkflowDefinitionError,
    node,
    when,
)

ROOT = Path(__file__).parent.parent.parent


class Order: ...


@dataclass
class Paid:
    receipt: str


class Declined: ...


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@runtime_checkable
class Speaks(Protocol):
    def speak(self) -> str: ...


class Shape(TypedDict):
    sides: int


def of(takes: Any = Any, gives: Any = Any) -> Callable[[Any], Any]:
    """A function with these annotations."""

    def f(value: Any) -> Any:
        return value

    f.__annotations__ = {"value": takes, "return": gives}
    return f


def step(takes: Any = Any, gives: Any = Any) -> Node:
    return node(of(takes, gives))


def problems(nodes: dict[str, Node], edges: dict[str, Any], **more: Any) -> list[str]:
    """What is wrong with a graph that starts at its first node."""
    try:
        Workflow.build("Made", nodes, next(iter(nodes)), edges, **more)
    except WorkflowDefinitionError as error:
        return list(error.problems)
    return []


def along(gives: Any, takes: Any, key: Any = None) -> list[str]:
    """What is wrong with an edge, or with an arm of this key."""
    edges = ["b"] if key is None else {key: ["b"], object: []}
    return problems({"a": step(gives=gives), "b": step(takes)}, {"a": edges})


# -- edges --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gives", "takes", "said"),
    [
        (list[int], list[str], "a is list[int], but b takes list[str]"),
        (list[int] | None, dict[str, int], "a is list[int] | None, but b takes dict[str, int]"),
        (Next[list[int]] | Hold | Abort, list[str], "a is list[int], but b takes list[str]"),
        (NextAll[tuple[int, str]], tuple[str, int], "a is tuple[int, str], but b takes tuple[str, int]"),
        (Next[int] | str, bytes | None, "a is int | str, but b takes bytes | None"),
        (Literal["a", "b"], Literal["c"], "a is Literal['a'] | Literal['b'], but b takes Literal['c']"),
        (Shape, int, "a is dict, but b takes int"),
        (None, int, "a is None, but b takes int"),
    ],
)
def test_an_edge_that_nothing_can_go_along(gives: Any, takes: Any, said: str) -> None:
    assert along(gives, takes) == [said]


@pytest.mark.parametrize(
    ("gives", "takes"),
    [
        (NextAll[list[int]], Iterable[int]),
        (Next[Any] | int, str),
        (Next | Hold, str),
        (Hold | Abort, str),
        (Shape, dict[str, int]),
        (list["NoSuchName"], list[int]),  # type: ignore[name-defined]  # noqa: F821
        (Callable[[int], str], Callable[[str], int]),
        (Coroutine[Any, Any, int], int),
    ],
)
def test_an_edge_that_something_may_go_along(gives: Any, takes: Any) -> None:
    assert along(gives, takes) == []


def test_all_that_is_wrong_is_said_at_once() -> None:
    nodes = {"a": step(gives=int), "b": step(str, int), "c": step(bytes), "join": Join(of="c"), "lost": step()}
    found = problems(nodes, {"a": ["b"], "b": ["c", "join", "lots"]}, on_failure={"b": ["c"]})
    assert found == [
        "edges of b: there is no node 'lots'; did you mean 'lost'?",
        "a is int, but b takes str",
        "b is int, but c takes bytes",
        "the input of b is str, but c takes bytes",
        "join is Join(of=c), but b reaches it without passing c",
    ]


def test_objects_and_classes_that_are_called_are_asked_for_what_they_are_called_with() -> None:
    class Scale:
        value: str  # not what it is called with

        def __call__(self, value: int) -> float:
            return value * 2.0

    class Read:
        value: str

        def __init__(self, value: int) -> None: ...

    assert problems({"a": step(gives=int), "b": node(Scale())}, {"a": ["b"]}) == []
    assert problems({"a": step(gives=str), "b": node(Scale())}, {"a": ["b"]}) == ["a is str, but b takes int"]
    nodes = {"a": step(gives=int), "b": node(Read), "c": step(int)}
    assert problems(nodes, {"a": ["b"], "b": ["c"]}) == ["b is Read, but c takes int"]
    assert (
        problems({"a": step(gives=int), "b": node(Paid), "c": step()}, {"a": ["b"]})[-1] == "a is int, but b takes str"
    )


# -- arms ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gives", "key", "takes", "said"),
    [
        (Any, Paid, Order, "a on arm Paid is Paid, but b takes Order"),
        (Paid | Declined, Paid, Declined, "a on arm Paid is Paid, but b takes Declined"),
        (Paid | Declined, when(Paid, bool), Order, "a on arm when(Paid, bool) is Paid, but b takes Order"),
        (list[int] | str, list, list[str], "a on arm list is list[int], but b takes list[str]"),
        (object, Colour.RED, str, "a on arm Colour.RED is Literal[Colour.RED], but b takes str"),
        (Any, "yes", int, "a on arm 'yes' is Literal['yes'], but b takes int"),
        (int | str, (lambda v: True), bytes, "a on arm <lambda> is int | str, but b takes bytes"),
        (Paid | str, when(Paid, take=of(Paid, str)), int, "a on arm when(Paid, take=f) is str, but b takes int"),
    ],
)
def test_an_arm_whose_values_its_successor_cannot_take(gives: Any, key: Any, takes: Any, said: str) -> None:
    assert along(gives, takes, key) == [said]


@pytest.mark.parametrize(
    ("gives", "key", "takes"),
    [
        (Any, Paid, Paid),
        (Paid | Declined, Paid, Paid),
        (Any, when(Paid, take=lambda paid: paid.receipt), str),  # not annotated
        (Any, when(Paid, take=len), str),
        (Any, Speaks, Order),
        (object, (lambda v: True), int),
        (float, int, int),  # PEP 484 lets a float be an int
        (Any, 1, float),
        (Any, None, int | None),
        (Paid, Declined, Order),  # nothing goes along
    ],
)
def test_an_arm_whose_values_its_successor_may_take(gives: Any, key: Any, takes: Any) -> None:
    assert along(gives, takes, key) == []


def test_what_an_arm_takes_does_not_come_to_those_behind_it() -> None:
    nodes = {"a": step(gives=int | str), "b": step(int)}
    assert problems(nodes, {"a": {int: [], object: ["b"]}}) == ["a on arm object is str, but b takes int"]
    assert problems(nodes, {"a": {when(int, bool): [], object: ["b"]}}) == []
    assert problems(nodes, {"a": {object: [], int: ["b"]}}) == []


@pytest.mark.parametrize(
    ("gives", "keys", "missing"),
    [
        (Literal["a", "b", 3], ("a", 3), "'b'"),
        (Literal[Colour.RED, "x"], (Colour.BLUE, str), "Colour.RED"),
        (list[int] | dict[str, int] | None, (list,), "dict[str, int], None"),
        (Next[Colour] | NextAll[Paid] | Hold, (Colour.RED,), "Colour.BLUE, Paid"),
        (Literal[True], (1,), "True"),
    ],
)
def test_a_case_that_no_arm_takes(gives: Any, keys: tuple[Any, ...], missing: str) -> None:
    (problem,) = problems({"a": step(gives=gives)}, {"a": dict.fromkeys(keys, ())})
    assert problem.startswith(f"a: no arm for {missing} (the arms are ")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (list[int], "an arm cannot be list[int]; write a class"),
        (int | str, "an arm cannot be int | str; write a class, and each of several on an arm of its own"),
        (when(Literal["a"]), "an arm cannot be typing.Literal['a']"),
        (Shape, "an arm cannot be Shape: TypedDict does not support"),
        (type("Mute", (Protocol,), {}), "an arm cannot be Mute: Instance and class checks can only be used with"),
        (when(int, guard=3), "guard must be a function, not 3"),
        (when(when(int, take="x")), "take must be a function, not 'x'"),
    ],
    ids=repr,
)
def test_an_arm_that_no_value_can_be_asked_for(key: Any, said: str) -> None:
    (problem,) = problems({"a": step()}, {"a": {key: ()}})
    assert problem.startswith(f"edges of a: {said}")


# -- joins, splits, batches and composites ------------------------------------------------------------------------


def test_a_join_passes_on_a_list_of_what_arrives() -> None:
    nodes = {"a": step(gives=int), "b": step(gives=str), "join": Join()}
    edges = {"a": ["b", "join"], "b": ["join"], "join": ["c"]}

    def taken(takes: Any) -> list[str]:
        return problems({**nodes, "c": step(takes)}, edges)

    assert taken(int) == ["join is list[int | str], but c takes int"]
    assert taken(list[bytes]) == ["join is list[int | str], but c takes list[bytes]"]
    assert taken(Arrivals) == []
    nodes["join"] = Join(list)
    assert taken(list[bytes]) == ["join is list[int | str], but c takes list[bytes]"]
    assert taken(list[str]) == taken(list) == taken(Iterable[object]) == []


def test_a_function_of_a_join_takes_that_list_and_is_believed_what_it_returns() -> None:
    def joined(function: Any, takes: Any = Any) -> list[str]:
        nodes = {"a": step(gives=int), "join": Join(function), "c": step(takes)}
        return problems(nodes, {"a": ["join"], "join": ["c"]})

    def with_context(ctx: Context, arrived: list[str]) -> int:
        return 0

    said = "what arrives at join is list[int], but its function takes"
    assert joined(of(int)) == [f"{said} int"]
    assert joined(with_context) == [f"{said} list[str]"]
    assert joined(of(list[int], str), int) == ["join is str, but c takes int"]
    assert joined(of(list[int], NextAll[str]), str) == []
    assert joined(of(Arrivals), int) == joined(sum, str) == joined(lambda arrived: 0) == []


def test_what_failed_arrives_at_a_join_with_its_input() -> None:
    nodes = {"a": step(str, int), "join": Join(of(list[bytes]))}
    (problem,) = problems(nodes, {}, on_failure={"a": ["join"]})
    assert problem == "what arrives at join is list[str], but its function takes list[bytes]"


def test_a_split_gives_what_its_function_is_of() -> None:
    def split(takes: Any, gives: Any, taken: Any) -> list[str]:
        nodes = {"a": step(gives=int), "split": SplitNode(of(takes, gives)), "b": step(taken)}
        return problems(nodes, {"a": ["split"], "split": ["b"]})

    assert split(int, list[int], str) == ["split is int, but b takes str"]
    assert split(str, Any, Any) == ["a is int, but split takes str"]
    assert split(int, Iterator[str], str) == split(int, range, str) == []


def test_a_batch_takes_an_iterable_and_gives_a_list() -> None:
    def batch(gives: Any, each: Callable[[Any], Any], takes: Any = Any, failed: Any = Any) -> list[str]:
        nodes = {"a": step(gives=gives), "batch": BatchNode(each, 2), "b": step(takes), "c": step(failed)}
        edges = {"a": ["batch"], "batch": ["b"]}
        return problems(nodes, edges, on_failure={"batch": ["c"]})

    assert batch(int, of(int, str)) == ["a is int, but batch/in takes Iterable"]
    assert batch(list[int], of(str)) == ["batch/in is int, but batch/each takes str"]
    assert batch(list[int], of(int, str), list[int]) == ["batch is list[str], but b takes list[int]"]
    assert batch(list[int], of(int, str), failed=int) == [
        f"the input of batch{which} is list[int], but c takes int" for which in ("/in", "/each")
    ]
    assert batch(list[int], of(int, NextAll[str]), list[str], list[int]) == batch(dict[str, int], of(str)) == []


def test_a_composite_is_looked_into() -> None:
    def inner(takes: Any, gives: Any, join: bool = False) -> Node:
        more: dict[str, Any] = {"join": Join(of(list, gives))} if join else {}
        nodes = {"first": step(takes, gives), **more}
        return CompositeNode(Workflow.build("Inner", nodes, "first", {"first": list(more)}))

    def outer(composite: Node, to: Any, **more: Any) -> list[str]:
        return problems(
            {"a": step(gives=int), "inner": composite, "b": step(bytes)}, {"a": ["inner"], "inner": to}, **more
        )

    assert outer(inner(str, bytes), ["b"]) == ["a is int, but inner/first takes str"]
    # Ways in and out that only pass on are seen through.
    assert outer(inner(str, bytes, join=True), ["b"]) == ["inner/in is int, but inner/first takes str"]
    assert outer(inner(int, str), ["b"]) == ["inner/first is str, but b takes bytes"]
    assert outer(inner(int, int | None), {int: ["b"]}) == [
        "inner/out: no arm for None (the arms are int)",
        "inner/out on arm int is int, but b takes bytes",
    ]
    assert outer(inner(int, str), [], on_failure={"inner": ["b"]}) == [
        "the input of inner/first is int, but b takes bytes"
    ]
    assert outer(inner(int, bytes), ["b"]) == []


def test_what_a_run_is_started_with_is_not_known() -> None:
    inner = Workflow.build("Inner", {"x": step(str, int), "j": Join(of(list[int], int))}, "x", {"x": ["j"]})
    assert problems({"inner": CompositeNode(inner)}, {"inner": {when(int, bool): ["inner"], object: []}}) == []


def test_what_goes_round_in_a_circle_is_not_known() -> None:
    nodes = {
        "a": step(),
        "inner": CompositeNode(Workflow.build("Inner", {"x": step(), "j": Join()}, "x", {"x": ["j"]})),
    }
    assert problems(nodes, {"a": ["inner"], "inner": {int: ["inner"], object: []}}) == []
    many = {"a": step()} | {f"j{n}": Join() for n in range(2000)}
    edges = {"a": ["j1999"]} | {f"j{n}": [f"j{n - 1}"] for n in range(1, 2000)}
    assert problems(many, edges) == []  # nor what hangs on too many others


# -- who pays for it ----------------------------------------------------------------------------------------------


def python(text: str) -> str:
    return subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_beartype_is_not_imported_where_nothing_looks_wrong() -> None:
    text = "import sys; import examples.audit; from tests.flows_graphs import Gates; print('beartype' in sys.modules)"
    assert python(text) == "False\n"


@node
def gives_numbers(value: int) -> list[int]:
    return [value]


@node
def takes_words(value: list[str]) -> int:
    return len(value)


def test_a_graph_is_not_checked_again_in_workers() -> None:
    @node
    def define(value: int) -> tuple[int, bool]:
        odd = Workflow.build("Odd", {"a": gives_numbers, "b": takes_words}, "a", {"a": ["b"]})
        return odd().run(7).output, "beartype" in sys.modules

    made = Workflow.build("Defines", {"define": define}, "define")
    assert made().run(1, workers=1).output == (1, False)
    with pytest.raises(RunFailedError, match="workflow Odd cannot work"):
        made().run(1)
