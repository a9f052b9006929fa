"""Rows 57, 58 and 61 before anything runs: wrong graphs are refused when defined, everything at once, with hints."""

from __future__ import annotations

import enum
import functools
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import pytest

from floxide_mp import (
    Abort,
    Context,
    Hold,
    Join,
    Next,
    NextAll,
    Node,
    RetryPolicy,
    SplitNode,
    Workflow,
    WorkflowDefinitionError,
    node,
    when,
)


class Pass(Node):
    def process(self, ctx: Context, value: Any) -> Any:
        return value


def body(*bases: type[Workflow], **attributes: Any) -> type[Workflow]:
    """As a class statement."""
    return type("Made", bases or (Workflow,), {"__module__": __name__, **attributes})


def names(*given: str) -> dict[str, Node]:
    return {name: Pass() for name in given}


def problems(make: Callable[[], Any]) -> list[str]:
    with pytest.raises(WorkflowDefinitionError) as caught:
        make()
    error = caught.value
    assert error.problems
    assert all(problem in str(error) for problem in error.problems)
    assert pickle.loads(pickle.dumps(error)).problems == error.problems
    return list(error.problems)


def build(*given: str, **graph: Any) -> type[Workflow]:
    return Workflow.build("Made", **{"nodes": names(*given), "start": given[0], **graph})


# -- row 57 -------------------------------------------------------------------------------------------------------


def test_unknown_names_with_hints() -> None:
    found = problems(lambda: build("fetch", "parse", edges={"fetch": ["prase"], "ftech": ["parse"]}))
    assert "edges of fetch: there is no node 'prase'; did you mean 'parse'?" in found
    assert "edges: there is no node 'ftech'; did you mean 'fetch'?" in found


@pytest.mark.parametrize("where", ["start", "on_failure", "to", "of", "arm"])
def test_an_unknown_name_is_found_everywhere(where: str) -> None:
    nodes = {**names("work"), "join": Join(of="wrok" if where == "of" else None)}
    graph: dict[str, Any] = {"start": "work", "edges": {"work": ["join"]}}
    if where == "start":
        graph["start"] = "wrok"
    elif where == "arm":
        graph["edges"] = {"work": {int: ["wrok"], object: ["join"]}}
    elif where != "of":
        graph["on_failure"] = {"wrok": []} if where == "on_failure" else {"work": ["wrok"]}
    (problem,) = problems(lambda: Workflow.build("Made", nodes, **graph))
    assert "wrok" in problem
    assert "did you mean 'work'?" in problem


def test_no_start_and_nothing_at_all() -> None:
    assert problems(lambda: body(a=Pass())) == ["it has no start"]
    assert problems(lambda: body(a=Pass(), start=None)) == ["it has no start"]
    assert problems(body) == ["it has no nodes"]
    with pytest.raises(WorkflowDefinitionError, match="declares no nodes"):
        Workflow()


def test_unreachable_nodes_are_named() -> None:
    assert problems(lambda: build("a", "b", "c", edges={"b": ["c"]})) == ["unreachable from a: b, c"]


def test_a_node_reached_only_by_failure_is_reached() -> None:
    build("a", "b", on_failure={"a": ["b"]})


def test_a_cycle_with_no_way_out() -> None:
    (problem,) = problems(lambda: build("a", "b", "c", edges={"a": ["b"], "b": ["c"], "c": ["b"]}))
    assert "a cycle with no way out" in problem
    assert "b" in problem
    assert "c" in problem


@pytest.mark.parametrize(
    "graph",
    [
        {"edges": {"a": {int: ["a"], object: ["b"]}}},
        {"edges": {"a": {int: ["a", "b"], object: []}}},
        {"edges": {"a": ["a"]}, "on_failure": {"a": ["b"]}},
        {"edges": {"a": ["b"], "b": {int: ["a"], object: []}}},
    ],
)
def test_a_cycle_with_a_way_out(graph: dict[str, Any]) -> None:
    build("a", "b", **graph)


def test_several_problems_are_said_at_once() -> None:
    found = problems(
        lambda: body(
            a=Pass(),
            b=Node(),
            c=type("C", (Pass,), {"timeout": -1})(),
            start="A",
            edges={"a": ["x"], "b": None},
            on_failure=[],
            context=int,
        )
    )
    assert len(found) == 7
    texts = ("no node 'A'", "no node 'x'", "edges of b", "on_failure must", "timeout", "no method process", "Context")
    for text in texts:
        assert any(text in problem for problem in found), text


# -- nonsense: each says what it is about -------------------------------------------------------------------------

a, b = Pass(), Pass()


def plain(value: Any) -> Any:
    return value


NONSENSE: dict[str, tuple[Callable[[], Any], str]] = {
    "start is a class": (lambda: body(a=a, start=Pass), "start: .*an instance is needed, not the class"),
    "start is a number": (lambda: body(a=a, start=3), "start: 3 is not a node"),
    "start is a function": (lambda: body(a=a, start=plain), "start: plain is a plain function; is @node missing"),
    "edges to a function": (lambda: body(a=a, start=a, edges={a: [plain]}), "edges of a: plain is a plain function"),
    "start is a list": (lambda: body(a=a, start=[a]), "start: .* is not a node"),
    "start is a node of nobody": (lambda: body(a=a, start=b), "start: Pass is not a node"),
    "start is a join": (lambda: body(j=Join(), start="j"), "j is a Join and cannot be the start"),
    "edges are a list": (lambda: body(a=a, start=a, edges=[a]), "edges must be a dict"),
    "edges are None": (lambda: body(a=a, start=a, edges=None), "edges must be a dict"),
    "edges are a text": (lambda: body(a=a, start=a, edges="a"), "edges must be a dict"),
    "edges of None": (lambda: body(a=a, start=a, edges={a: None}), "edges of a: a list of nodes is needed"),
    "edges to a class": (lambda: body(a=a, start=a, edges={a: [Pass]}), "edges of a: .*an instance is needed"),
    "edges from a class": (lambda: body(a=a, start=a, edges={Pass: [a]}), "edges: .*an instance is needed"),
    "edges to a set": (lambda: body(a=a, b=b, start=a, edges={a: {b}}), "a list of nodes is needed"),
    "a successor twice": (
        lambda: body(a=a, b=b, start=a, edges={a: [b, b]}),
        "edges of a: b is there twice: each successor is named once",
    ),
    "a fallback three times": (
        lambda: body(a=a, b=b, start=a, on_failure={a: [b, b, "b"]}),
        "on_failure of a: b is there 3 times: each successor is named once",
    ),
    "a successor twice on an arm": (
        lambda: body(a=a, b=b, start=a, edges={a: {int: [b, b]}}),
        "edges of a: b is there twice: each successor is named once",
    ),
    "edges said twice": (lambda: body(a=a, b=b, start=a, edges={a: [b], "a": []}), "edges: a is there twice"),
    "no routes": (lambda: body(a=a, start=a, edges={a: {}}), "edges of a: .*no route"),
    "routes in routes": (lambda: body(a=a, b=b, start=a, edges={a: {int: {str: [b]}}}), "edges of a: a list"),
    "on_failure is a list": (lambda: body(a=a, b=b, start=a, on_failure=[b]), "on_failure must be a dict"),
    "on_failure has routes": (
        lambda: body(a=a, b=b, start=a, on_failure={a: {ValueError: [b]}}),
        "on_failure of a: a list of nodes is needed",
    ),
    "one object twice": (lambda: body(a=a, b=a, start=a), "a and b are one node object"),
    "a name that is taken": (lambda: body(run=a, start=a), "cannot be called run"),
    "no process": (lambda: body(a=Node(), start="a"), "a: Node has no method process"),
    "context is no class": (lambda: body(a=a, start=a, context=Context()), "context must be a class"),
    "context is None": (lambda: body(a=a, start=a, context=None), "context must be a class"),
    "a join of a number": (lambda: body(a=a, j=Join(of=3), start=a, edges={a: ["j"]}), r"Join\(of=3\)"),
    "a join of a class": (lambda: body(a=a, j=Join(of=Pass), start=a, edges={a: ["j"]}), r"Join\(of=.*Pass"),
    "a join of a stranger": (lambda: body(a=a, j=Join(of=b), start=a, edges={a: ["j"]}), r"Join\(of=Pass\)"),
    "a join of a number function": (lambda: body(a=a, j=Join(3), start=a, edges={a: ["j"]}), "j: 3 is not"),
    "a join of too many": (
        lambda: body(a=a, j=Join(lambda x, y, z: 0), start=a, edges={a: ["j"]}),
        r"j: a node takes \(value\)",
    ),
    "a split by a number": (lambda: body(a=SplitNode(3), start="a"), "a: 3 is not"),  # type: ignore[arg-type]
    "a split by too many": (lambda: body(a=SplitNode(lambda x, y, z: []), start="a"), r"a: a node takes \(value\)"),
    "build: nodes are a list": (lambda: Workflow.build("W", [a], "a"), "nodes must be a dict"),
    "build: a function": (lambda: Workflow.build("W", {"a": len}, "a"), "a is not a node but <built-in function len>"),
    "build: a class": (lambda: Workflow.build("W", {"a": Pass}, "a"), "a is not a node but <class"),
    "build: a name that is no text": (lambda: Workflow.build("W", {1: a}, 1), "name is a text, not 1"),
    "build: edges are a list": (lambda: build("a", edges=["a"]), "edges must be a dict"),
    "build: edges are None": (lambda: build("a", edges=None), "edges must be a dict"),
    "build: edges to a number": (lambda: build("a", edges={"a": [3]}), "edges of a: 3 is not a node"),
    "build: on_failure is None": (lambda: build("a", on_failure=None), "on_failure must be a dict"),
    "build: one object twice": (lambda: Workflow.build("W", {"a": a, "b": a}, "a"), "a and b are one node object"),
    "replaced by a number": (lambda: build("a")(a=3), "a: a node is needed, not 3"),
    "replaced by a class": (lambda: build("a")(a=Pass), "a: a node is needed, not <class"),
    "replaced: no such node": (lambda: build("parse")(prase=a), "no node 'prase' to replace; did you mean 'parse'?"),
    "replaced by its neighbour": (
        lambda: (made := Workflow.build("W", {"a": a, "b": b}, "a", {"a": ["b"]}))(a=made.__declaration__.nodes["b"]),
        "a and b are one node object",
    ),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_a_definition_error_that_says_where(name: str) -> None:
    make, text = NONSENSE[name]
    with pytest.raises(WorkflowDefinitionError, match=text):
        make()
    assert problems(make)


@pytest.mark.parametrize("name", [None, "", 3, "a\0b", "two\nlines"], ids=repr)
def test_the_name_of_a_built_workflow(name: Any) -> None:
    with pytest.raises(WorkflowDefinitionError, match="name"):
        Workflow.build(name, {"a": a}, "a")


# -- joins --------------------------------------------------------------------------------------------------------


def test_a_join_that_is_reached_without_its_split() -> None:
    nodes = {**names("a", "split"), "join": Join(of="split")}
    (problem,) = problems(lambda: Workflow.build("W", nodes, "a", {"a": ["split", "join"], "split": ["join"]}))
    assert problem == "join is Join(of=split), but a reaches it without passing split"


def test_a_join_that_waits_for_itself() -> None:
    nodes = {**names("a"), "join": Join()}
    edges = {"a": ["join"], "join": {int: ["a"], object: []}}
    assert problems(lambda: Workflow.build("W", nodes, "a", edges)) == [
        "join waits for itself: it is in a loop of its own scope"
    ]


def test_a_split_that_is_reached_again_before_its_join() -> None:
    nodes = {**names("split", "work"), "join": Join(of="split")}
    edges = {"split": ["work"], "work": {int: ["split"], object: ["join"]}}
    (problem,) = problems(lambda: Workflow.build("W", nodes, "split", edges))
    assert problem == "split can be reached again from inside its own scope (from work, before join)"


def test_a_join_that_is_a_split_and_comes_back_to_itself_ends_the_check() -> None:
    nodes = {**names("s", "t"), "j": Join(of="s"), "k": Join(of="j")}
    edges = {"s": ["j"], "j": ["t"], "t": {int: ["s"], object: ["k"]}}
    (problem,) = problems(lambda: Workflow.build("W", nodes, "s", edges))
    assert "j can be reached again from inside its own scope" in problem


# -- row 58: types ------------------------------------------------------------------------------------------------


class Animal:
    pass


class Cat(Animal):
    pass


@runtime_checkable
class Speaks(Protocol):
    def speak(self) -> str: ...


class Colour(enum.Enum):
    RED = 1
    BLUE = 2
    GREEN = 3


def typed(output: Any, input: Any) -> type[Workflow]:
    @node
    def gives(value: Any) -> Any:
        return value

    @node
    def takes(value: Any) -> Any:
        return value

    gives.function.__annotations__["return"] = output
    takes.function.__annotations__["value"] = input
    return Workflow.build("Typed", {"gives": gives, "takes": takes}, "gives", {"gives": ["takes"]})


@pytest.mark.parametrize(
    ("output", "input"),
    [
        (int, str),
        (str, int),
        (None, int),
        (int | str, bytes),
        (Next[int], str),
        (NextAll[Cat], str),
        (Next[int] | Hold, str),
        (list[int], dict[str, int]),
        (float, int),
        (Colour, int),
    ],
    ids=repr,
)
def test_types_that_cannot_match(output: Any, input: Any) -> None:
    (problem,) = problems(lambda: typed(output, input))
    assert problem.startswith("gives is ")
    assert "but takes takes" in problem


@pytest.mark.parametrize(
    ("output", "input"),
    [
        (int, int),
        (Cat, Animal),
        (Animal, Cat),  # it may be one
        (int | str, str),
        (str, int | str),
        (Any, int),
        (int, Any),
        (int, object),
        (int, float),
        (bool, float),
        (float, complex),
        (Cat, Speaks),
        (Next[Any], int),
        (Next, int),
        (NextAll[int], int),
        (Hold | Abort, int),
        (Next[int] | Abort, int),
        ("NoSuchName", int),
        (list[int], Iterable[int]),
        (type, type),
    ],
    ids=repr,
)
def test_types_that_may_match(output: Any, input: Any) -> None:
    typed(output, input)


def test_the_method_of_a_class_and_the_input_of_on_failure_are_looked_at() -> None:
    class Gives(Node):
        def process(self, ctx: Context, value: str) -> int:
            return 1

    class TakesNumber(Node):
        def process(self, ctx: Context, value: int) -> int:
            return value

    nodes = {"gives": Gives(), "takes": TakesNumber()}
    Workflow.build("W", nodes, "gives", {"gives": ["takes"]})
    (problem,) = problems(lambda: Workflow.build("W", nodes, "gives", on_failure={"gives": ["takes"]}))
    assert problem == "the input of gives is str, but takes takes int"


def routed(output: Any, *keys: Any) -> type[Workflow]:
    @node
    def gives(value: Any) -> Any:
        return value

    gives.function.__annotations__["return"] = output
    return Workflow.build("Routed", {"gives": gives, "next": Pass()}, "gives", {"gives": {k: ["next"] for k in keys}})


@pytest.mark.parametrize(
    ("output", "keys", "missing"),
    [
        (Colour, (Colour.RED, Colour.BLUE), "Colour.GREEN"),
        (Colour, (Colour.RED,), "Colour.BLUE, Colour.GREEN"),
        (Next[Colour], (Colour.RED, Colour.BLUE), "Colour.GREEN"),
        (int | str, (int,), "str"),
        (int | None, (int,), "None"),
        (bool, (True,), "False"),
        (NextAll[int | bytes], (bytes,), "int"),
    ],
)
def test_a_case_that_no_arm_takes(output: Any, keys: tuple[Any, ...], missing: str) -> None:
    (problem,) = problems(lambda: routed(output, *keys))
    assert problem.startswith(f"gives: no arm for {missing} ")


@pytest.mark.parametrize(
    ("output", "keys"),
    [
        (Colour, tuple(Colour)),
        (Colour, (Colour.RED, Colour)),
        (Colour, (Colour.RED, object)),
        (Colour, (lambda c: True,)),
        (Colour, (when(Colour, lambda c: True), Colour.RED)),
        (int | str, (int, str)),
        (int | str, (object,)),
        (bool, (True, False)),
        (bool, (int,)),
        (Animal, (Cat,)),
        (int, (1, 2)),
        (Cat | int, (Speaks,)),
        (Speaks, (Cat,)),
        (Any, (int,)),
        (Next[Any], (int,)),
    ],
)
def test_cases_that_are_taken_or_may_be(output: Any, keys: tuple[Any, ...]) -> None:
    routed(output, *keys)


# -- nodes of all sorts -------------------------------------------------------------------------------------------


class Callee:
    def __call__(self, value: Any) -> Any:
        return [value]

    def method(self, ctx: Context, value: Any) -> Any:
        return [value]


def single(made: Node, value: Any) -> Any:
    return Workflow.build("Single", {"a": made}, "a")().run(value).output


@pytest.mark.parametrize(
    ("function", "value", "output"),
    [
        (lambda v: v + 1, 1, 2),
        (lambda ctx, v: (ctx.item.node, v), 1, ("a", 1)),
        (lambda ctx: ctx.item.node, 1, "a"),
        (lambda: "none", 1, "none"),
        (lambda *a: a, 1, (1,)),
        (lambda v=None: v, 1, 1),
        (lambda v, k=2: (v, k), 1, (1, 2)),
        (lambda v, *, k=2: (v, k), 1, (1, 2)),
        (lambda **k: k, 1, {}),
        (len, "abc", 3),
        (int, "12", 12),
        (str, 12, "12"),
        (max, [1, 3, 2], 3),
        (str.upper, "a", "A"),
        ("-".join, ["a", "b"], "a-b"),
        (functools.partial(pow, 2), 3, 8),
        (functools.partial(lambda a, b: (a, b), 1), 2, (1, 2)),
        (Callee(), 1, [1]),
        (Callee().method, 1, [1]),
    ],
)
def test_functions_of_all_sorts(function: Any, value: Any, output: Any) -> None:
    assert single(node(function), value) == output


@pytest.mark.parametrize("function", [lambda a, b, c: 0, lambda *, k: 0, lambda v, *, k: 0])
def test_functions_that_ask_for_too_much(function: Any) -> None:
    (problem,) = problems(lambda: single(node(function), 1))
    assert problem == "a: a node takes (value), (ctx, value), (ctx) or ()"


@pytest.mark.parametrize("function", [3, "text", Pass, Pass()])
def test_what_is_no_function(function: Any) -> None:
    with pytest.raises(TypeError, match="@node makes a node of a function"):
        node(function)


@pytest.mark.parametrize(
    "wrong",
    [{"timeout": t} for t in (0, -1, "1", True, float("nan"), float("inf"))]
    + [{"retry": r} for r in (3, RetryPolicy)]
    + [{"serial": s} for s in (1, "yes", None)],
    ids=repr,
)
def test_row_62_options_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"@node on f: {next(iter(wrong))} must be"):
        node(**wrong)(f)
    (problem,) = problems(lambda: build("a")(a=type("P", (Pass,), wrong)()))
    assert problem.startswith(f"a: {next(iter(wrong))} must be")


def f(value: int) -> int:
    return value + 1


def test_a_node_of_a_function_is_still_the_function() -> None:
    made = node(timeout=1.0)(f)
    assert made(1) == 2
    assert made.__name__ == "f"
    assert made.timeout == 1.0


def test_dataclass_nodes_are_told_apart() -> None:
    @dataclass
    class Add(Node):
        by: int

        def process(self, ctx: Context, value: int) -> int:
            return value + self.by

    class Twice(Workflow):
        one = Add(5)
        other = Add(5)
        start = one
        edges = {one: [other]}

    assert Add(5) != Add(5)
    assert Twice().run(1).output == 11


# -- workflows from workflows -------------------------------------------------------------------------------------


class Plus(Node):
    def __init__(self, by: int) -> None:
        self.by = by

    def process(self, ctx: Context, value: int) -> int:
        return value + self.by


class Base(Workflow):
    first = Plus(1)
    second = Plus(10)
    start = first
    edges = {first: [second]}


class Replaced(Base):
    second = Plus(20)


class Longer(Base):
    third = Plus(100)
    edges = {"first": ["second"], "second": [third]}


class Shorter(Base):
    second = None
    edges = {}


Built = Workflow.build("Built", {"x": Plus(1), "y": Plus(2)}, "x", {"x": ["y"]})


class FromBuilt(Built):  # type: ignore[misc,valid-type]
    y = Plus(7)


@pytest.mark.parametrize(
    ("made", "output"),
    [(Base, 11), (Replaced, 21), (Longer, 111), (Shorter, 1), (Built, 3), (FromBuilt, 8)],
)
def test_inheritance(made: type[Workflow], output: int) -> None:
    assert made().run(0).output == output
    assert made().name == made.__name__


def test_an_instance_may_replace_nodes_and_the_class_stays() -> None:
    assert Base(first=Plus(5)).run(0).output == 15
    assert Built(y=Plus(5)).run(0).output == 6
    assert Base().run(0).output == 11


def test_replacing_the_split_keeps_its_joins() -> None:
    class Halves(Workflow):
        split = node(lambda v: NextAll([v, v]))
        join = Join(sum, of=split)
        start = split
        edges = {split: [join]}

    assert Halves().run(2).output == 4
    assert Halves(split=node(lambda v: NextAll([v] * 5))).run(2).output == 10

    class Thirds(Halves):
        split = node(lambda v: NextAll([v, v, v]))

    assert Thirds().run(2).output == 6


def test_build_takes_names_lists_and_single_names() -> None:
    made = Workflow.build(
        "Named",
        {"a": Plus(1), "b": Plus(2), "c": Plus(3)},
        "a",
        {"a": {when(int, lambda v: v > 5): "b", int: ["c"]}, "b": (n for n in ["c"])},
        {"b": "c"},
    )
    assert made().name == "Named"
    assert [made().run(n).output for n in (0, 9)] == [4, 15]


def test_the_order_of_successors_is_the_order_in_the_list() -> None:
    made = build("a", *"bcdefgh", edges={"a": list("hgfedcb")})
    graph = made.__compiled__.graph
    assert [graph.nodes[n].name for n in graph.nodes[0].arms[0]] == list("hgfedcb")


def test_row_142_one_node_at_two_places_and_a_successor_named_twice() -> None:
    first, second = Pass(), Pass()
    with pytest.raises(WorkflowDefinitionError, match=r"for the second one, b = copy\.copy\(a\)"):
        body(a=first, b=first, start=first)
    with pytest.raises(WorkflowDefinitionError, match="edges of a: b is there twice: each successor is named once"):
        body(a=first, b=second, start=first, edges={first: [second, second]})
