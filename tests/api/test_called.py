"""How nodes are called, which is decided where they are defined, and by which names workers find them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import Context, Node, Workflow, WorkflowDefinitionError, node
from floxide_mp.api.node import way_of
from tests.api import flows_called as flows
from tests.scripts import printed


def nothing() -> None: ...
def value(value: Any) -> None: ...
def context(ctx: Any) -> None: ...
def both(ctx: Any, value: Any) -> None: ...


class Cached(Node):
    @functools.lru_cache  # noqa: B019
    def process(self, ctx: Any, value: Any) -> Any: ...


def first_and_rest(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(first: Any, *rest: Any) -> Any:
        return function(first, *rest)

    return wrapper


@pytest.mark.parametrize("function", [nothing, value, context, both])
def test_a_wrapper_is_called_as_it_is_declared_itself(function: Callable[..., Any]) -> None:
    way = function.__name__
    assert way_of(function) == way
    assert way_of(flows.with_context(function)) == "both"
    assert way_of(flows.handing_on(flows.with_context(function))) == "both"
    for same in (flows.handing_on, functools.lru_cache, staticmethod, first_and_rest, functools.partial):
        assert way_of(same(function)) == way, same
        assert way_of(same(flows.handing_on(function))) == way, same
    assert way_of(functools.partial(flows.with_context(function), None)) == "value"


def ctx_last(value: Any, ctx: Any) -> None: ...
def ctx_by_default(value: Any, ctx: Any = None) -> None: ...
def ctx_by_name(value: Any, *, ctx: Any = None) -> None: ...
def annotated(value: Any, c: Context) -> None: ...
def value_by_default(ctx: Any, value: Any = 7) -> None: ...
def values(ctx: Any, *values: Any) -> None: ...


class LastInMethod:
    def process(self, value: Any, ctx: Any = None) -> None: ...


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (ctx_last, r"the context is the first parameter: write \(ctx, value\)"),
        (ctx_by_default, r"the context is the first parameter: write \(ctx, value\)"),
        (ctx_by_name, r"the context is the first parameter: write \(ctx, value\)"),
        (annotated, r"the context is the first parameter: write \(c, value\)"),
        (LastInMethod().process, r"the context is the first parameter: write \(ctx, value\)"),
        (value_by_default, r"would never get the value: write \(ctx, value\) if it is to get it, and \(ctx, \*, name="),
        (values, r"values would never get the value"),
    ],
)
def test_what_would_get_another_thing_than_its_name_says_is_refused(function: Callable[..., Any], told: str) -> None:
    with pytest.raises(TypeError, match=told):
        way_of(function)
    with pytest.raises(WorkflowDefinitionError, match=rf"only: .*{told}"):
        Workflow.build("W", {"only": node(function)}, "only")


def test_what_a_partial_was_given_is_its_own() -> None:
    assert way_of(functools.partial(ctx_last, ctx=1)) == "value"
    assert way_of(functools.partial(both, value=1)) == "context"


def test_a_wrapped_method_is_called_as_a_method() -> None:
    assert way_of(flows.Method().process) == way_of(Cached().process) == "both"


@pytest.mark.parametrize("workers", [0, 1])
def test_row_95_decorated_nodes(workers: int) -> None:
    assert flows.Wrapped().run(1, workers=workers).outputs == [2, "method", "twice"]


@pytest.mark.parametrize("workers", [1, 0])
def test_row_95_nodes_in_the_body_of_a_class_of_a_module(workers: int) -> None:
    """They are the module's there, with what functions of the module have put into its globals."""
    assert flows.InBody().run(3, workers=workers).output == 9.0


@pytest.mark.parametrize("workers", [0, 1])
def test_row_90_how_a_node_is_called_is_decided_once(tmp_path: Path, workers: int) -> None:
    """Where annotations are texts, a worker could not say which class they mean, and so not that it is the context."""
    script = f"""
        from __future__ import annotations
        from dataclasses import dataclass
        from floxide_mp import Context, EventLog, Join, SplitNode, Workflow, node
        @dataclass
        class Ctx(Context):
            log: EventLog[str]
        @node
        def look(context: Ctx):
            context.log.append("looked")
            return [type(context).__name__]
        def split(context: Ctx): return [context.log.append("split") or 2]
        def join(context: Ctx): return len(list(context.log))
        class W(Workflow):
            context = Ctx
            look, split, join = look, SplitNode(split), Join(join)
            start = look
            edges = {{look: [split], split: [join]}}
        print(W().run("value", workers={workers}).output)
    """
    assert printed(script, tmp_path).strip() == "2"
