"""Whether what a node gives can be what its successors take, by their annotations, and whether some arm takes it.

What is not annotated is not checked. What two hints can have in common is for ``hints``.
"""

from __future__ import annotations

import enum
import inspect
import types
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from typing import Any, Literal

from ..api.node import Node, annotations_of, parameters_of, takes_context
from ..api.nodes import Join, PassOn, SplitNode, Spread
from ..api.route import describe, key_of, matches, when
from ..api.transition import Abort, Hold, Next, NextAll
from .declaration import Declaration
from .type_compat import Cases, cases, class_of, elements, is_protocol, list_of, may_be, opened, shown, together


def type_problems(declared: Declaration) -> list[str]:
    """Edges that no value can go along, and cases of an enum or union that no arm takes; one sentence each."""
    return list(_Types(declared).problems())


class _Types:
    """What is known of the values at each place of a graph."""

    def __init__(self, declared: Declaration) -> None:
        self._declared = declared
        self._came: dict[str, Cases] = {}
        self._given: dict[str, Cases] = {}
        self._asked: dict[tuple[object, ...], Cases] = {}
        self._before: dict[str, dict[str, None]] = {name: {} for name in declared.nodes}
        for name in declared.nodes:
            for to in declared.successors(name):
                self._before[to][name] = None

    def problems(self) -> Iterator[str]:
        nodes = self._declared.nodes
        for name, made in nodes.items():
            if isinstance(made, Join) and made.function is not None:
                came, taken = (list_of(self._arrives(name)),), self._once(_taken, made.function)
                if not may_be(came, taken):
                    yield f"what arrives at {name} is {shown(came)}, but its function takes {shown(taken)}"
            yield from _uncovered(name, self._gives(name), self._declared.edges.get(name, ()))
            for where, value, successors in self._leaving(name):
                for to in successors:
                    taken = self._takes(nodes[to])
                    if not may_be(value, taken):
                        yield f"{where} is {shown(value)}, but {to} takes {shown(taken)}"

    def _leaving(self, name: str) -> Iterator[tuple[str, Cases, tuple[str, ...]]]:
        """For each way out of a node: what it is called, what goes along, and where to."""
        edges = self._declared.edges.get(name, ())
        given = self._gives(name)
        if not isinstance(edges, Mapping):
            yield name, given, edges
        else:
            for key, arm in edges.items():
                yield f"{name} on arm {describe(key)}", _routed(given, key), arm
                if given and isinstance(key, type) and not is_protocol(key):
                    given = tuple(case for case in given if not issubclass(class_of(case), key))
        if name in self._declared.on_failure:
            yield f"the input of {name}", self._failed(name), self._declared.on_failure[name]

    def _arrives(self, name: str) -> Cases:
        """What comes to a node from all sides."""
        return self._known(self._came, name, self._arriving)

    def _arriving(self, name: str) -> Cases:
        if name == self._declared.start:
            return None
        ways = [way for before in self._before[name] for way in self._leaving(before)]
        return together(value for _, value, successors in ways if name in successors)

    def _gives(self, name: str) -> Cases:
        """What goes on from a node."""
        return self._known(self._given, name, self._giving)

    def _known(self, found: dict[str, Cases], name: str, find: Callable[[str], Cases]) -> Cases:
        if name not in found:
            found[name] = None  # what hangs on itself is not known
            try:
                found[name] = find(name)
            except RecursionError:
                pass  # nor what hangs on a thousand others
        return found[name]

    def _giving(self, name: str) -> Cases:
        made = self._declared.nodes[name]
        if isinstance(made, PassOn):
            return self._arrives(name)
        if isinstance(made, Spread):
            return elements(self._arrives(name))
        if isinstance(made, SplitNode):
            return elements(self._once(_returned, made.function))
        if isinstance(made, Join) and made.function in (None, list):
            return (list_of(self._arrives(name)),)
        if isinstance(made, Join) and made.function is not None:
            return _passed_on(self._once(_returned, made.function))
        return _passed_on(self._once(_returned, made.handler()))

    def _failed(self, name: str) -> Cases:
        """What ``on_failure`` gets: the input; of a step of a batch, the input of the batch."""
        made = self._declared.nodes[name]
        if name in self._declared.windows:
            return together(map(self._arrives, self._before[name]))
        return self._arrives(name) if isinstance(made, Spread) else self._takes(made)

    def _takes(self, made: Node) -> Cases:
        if isinstance(made, Join | PassOn):
            return None
        if isinstance(made, Spread):
            return (Iterable,)
        return self._once(_taken, made.function if isinstance(made, SplitNode) else made.handler())

    def _once(self, ask: Callable[[Callable[..., Any]], Cases], function: Callable[..., Any]) -> Cases:
        """What a function says, asked once: thousands of nodes may have the same."""
        bound = isinstance(function, types.MethodType)
        inner = getattr(function, "__func__", function) if bound else function
        if not isinstance(inner, types.FunctionType):
            return ask(function)
        key = ask, inner, bound
        if key not in self._asked:
            self._asked[key] = ask(function)
        return self._asked[key]


# -- what one node says -------------------------------------------------------------------------------------------


def _taken(function: Callable[..., Any]) -> Cases:
    """The hint of the parameter that gets the value."""
    hints = annotations_of(function)
    names = _parameters(function)
    if takes_context(function) or len(names) > 1:
        names = names[1:]
    return cases(hints.get(names[0], Any)) if names else None


def _parameters(function: Callable[..., Any]) -> list[str]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p for p in parameters_of(function) or () if p.kind in kinds]
    return [p.name for p in required if p.default is p.empty] or [p.name for p in required[:1]]


def _returned(function: Callable[..., Any]) -> Cases:
    return cases(annotations_of(function).get("return", Any))


def _passed_on(returned: Cases) -> Cases:
    """What goes on of what a node returns; nothing does of ``Hold`` and ``Abort``."""
    return returned and together(map(_carried, returned))


def _carried(case: Any) -> Cases:
    if (kind := class_of(case)) in (Hold, Abort):
        return ()
    if kind in (Coroutine, Awaitable):
        return None  # it is awaited
    if kind in (Next, NextAll):
        return cases((*opened(case)[1], Any)[0])
    return (case,)


# -- routes -------------------------------------------------------------------------------------------------------


def _routed(given: Cases, key: Any) -> Cases:
    """What goes along an arm, of what no arm before it takes."""
    if isinstance(key, when) and key.take is not None:
        return _returned(key.take)
    asked = key_of(key)
    if _anything(asked):
        return given
    if not isinstance(asked, type):
        return cases(Literal[asked])
    if given is None:
        return (asked,)
    near = [case for case in given if may_be((case,), (asked,))]
    return tuple(case if issubclass(class_of(case), asked) or opened(case)[1] else asked for case in near)


def _uncovered(name: str, given: Cases, edges: Iterable[Any]) -> list[str]:
    """Cases that no arm takes; an arm with a guard may take one, and a predicate may take anything."""
    asked = [key_of(key) for key in edges]
    if not isinstance(edges, Mapping) or not given or any(map(_anything, asked)):
        return []
    missing = [text for case in given for text in _untaken(case, asked)]
    if not missing:
        return []
    return [f"{name}: no arm for {', '.join(missing)} (the arms are {', '.join(map(describe, edges))})"]


def _untaken(case: Any, asked: list[Any]) -> list[str]:
    kind = class_of(case)
    classes = tuple(key for key in asked if isinstance(key, type))
    if opened(case)[0] is Literal or kind is bool or issubclass(kind, enum.Enum):
        every: Any = kind
        values: Iterable[Any] = opened(case)[1] or ((True, False) if kind is bool else every)
        return [describe(value) for value in values if not any(matches(key, value) for key in asked)]
    some = any(issubclass(key, kind) for key in classes) or any(isinstance(key, kind) for key in asked)
    return [] if some or issubclass(kind, classes) else [shown((case,))]


def _anything(asked: Any) -> bool:
    return asked is object or is_protocol(asked) or (callable(asked) and not isinstance(asked, type))
