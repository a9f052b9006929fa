"""What can be wrong with a declared graph, found before anything runs: every problem, one sentence each.

Scopes of joins are checked where they are computed, in ``core.plan``.
"""

from __future__ import annotations

import difflib
import enum
import inspect
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from .context import Context
from .core.graph import components
from .node import Node, annotations_of, calling, option_problems, parameters_of, takes_context
from .nodes.join import Join
from .route import describe, when
from .transition import Abort, Hold, Next, NextAll

Edges: TypeAlias = tuple[str, ...] | dict[Any, tuple[str, ...]]


@dataclass
class Declaration:
    """A graph as declared, with names for nodes.

    ``of`` are the joins' scopes, ``windows`` how many items of a batch's node may be in flight, ``problems`` what
    reading it found.
    """

    name: str
    nodes: dict[str, Node]
    start: str | None
    edges: dict[str, Edges]
    on_failure: dict[str, tuple[str, ...]]
    context: type[Context]
    of: dict[str, str] = field(default_factory=dict)
    windows: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def scope_of(self, join: str) -> str | None:
        """The name of the node that a join is of, or None for the run."""
        if join in self.of:
            return self.of[join]
        made = self.nodes[join]
        if not isinstance(made, Join) or made.of is None:
            return None
        if isinstance(made.of, str):
            return made.of
        return next((n for n, v in self.nodes.items() if v is made.of), "")

    def arms(self, name: str) -> Iterable[tuple[str, ...]]:
        edges = self.edges.get(name, ())
        return edges.values() if isinstance(edges, Mapping) else (edges,)

    def successors(self, name: str) -> list[str]:
        return [to for arm in self.arms(name) for to in arm] + list(self.on_failure.get(name, ()))


def nearest(name: Any, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` where something is near enough, else nothing."""
    found = difflib.get_close_matches(str(name), list(known), 1)
    return f"; did you mean {found[0]!r}?" if found else ""


def graph_problems(declared: Declaration) -> list[str]:
    """Everything that is wrong. Later checks are left out where they would only repeat an earlier problem."""
    problems = list(declared.problems)
    if not isinstance(declared.context, type) or not issubclass(declared.context, Context):
        problems.append(f"context must be a class deriving from Context, not {declared.context!r}")
    if not declared.nodes:
        return [*problems, "it has no nodes"]
    wrong_nodes = _node_problems(declared)
    problems += wrong_nodes + _name_problems(declared)
    if not wrong_nodes:
        meant = _as_meant(declared)
        problems += _path_problems(meant) + _type_problems(meant)
    return list(dict.fromkeys(problems))


def _as_meant(declared: Declaration) -> Declaration:
    """The graph with unknown names taken for the nearest known ones, or left out: to look for other problems in it."""
    known = declared.nodes

    def meant(name: Any) -> str:
        return name if name in known else next(iter(difflib.get_close_matches(str(name), list(known), 1)), "")

    def all_of(arm: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for to in arm if (name := meant(to)))

    edges: dict[str, Edges] = {}
    for at, to in declared.edges.items():
        edges[meant(at)] = {key: all_of(arm) for key, arm in to.items()} if isinstance(to, Mapping) else all_of(to)
    on_failure = {meant(at): all_of(to) for at, to in declared.on_failure.items()}
    start = meant(declared.start) if declared.start else None
    return replace(declared, start=start or None, edges=edges, on_failure=on_failure)


def _node_problems(declared: Declaration) -> list[str]:
    problems = []
    for name, made in declared.nodes.items():
        if not isinstance(made, Node):
            problems.append(f"{name} is not a node but {made!r}")
            continue
        problems += [f"{name}: {problem}" for problem in option_problems(made)]
        if not callable(getattr(made, "process", None)) and type(made).__name__ != "FunctionNode":
            problems.append(f"{name}: {made.label()} has no method process(self, ctx, value)")
            continue
        try:
            calling(made.function if isinstance(made, Join) and made.function is not None else made.handler())
        except TypeError as error:
            problems.append(f"{name}: {error}")
        except Exception as error:
            problems.append(f"{name}: its signature cannot be read: {error!r}")
    return problems


def _name_problems(declared: Declaration) -> list[str]:
    known = declared.nodes
    problems = []

    def check(name: Any, where: str) -> None:
        if name not in known:
            problems.append(f"{where}: there is no node {name!r}{nearest(name, known)}")

    if declared.start is None:
        problems.append("it has no start")
    elif declared.start or not declared.problems:
        check(declared.start, "start")
    for at in declared.edges:
        check(at, "edges")
        for arm in declared.arms(at):
            for to in arm:
                check(to, f"edges of {at}")
    for at, after in declared.on_failure.items():
        check(at, "on_failure")
        for to in after:
            check(to, f"on_failure of {at}")
    for name, made in known.items():
        if isinstance(made, Join) and made.of is not None:
            of = declared.scope_of(name)
            if of not in known:
                what = made.of.label() if isinstance(made.of, Node) else str(made.of)
                problems.append(
                    f"{name} is Join(of={what}), which is not a node of this workflow{nearest(what, known)}"
                )
    return problems


def _path_problems(declared: Declaration) -> list[str]:
    if declared.start is None:
        return []
    reached = _reach([declared.start], declared)
    problems = []
    lost = [name for name in declared.nodes if name not in reached]
    if lost:
        problems.append(f"unreachable from {declared.start}: {', '.join(lost)}")
    names = list(reached)
    number = {name: i for i, name in enumerate(names)}
    stuck: set[str] = set()
    for component in components([[number[to] for to in declared.successors(name)] for name in names]):
        members = {names[i] for i in component}
        inside = all(to in members or to in stuck for name in members for to in declared.successors(name))
        ends = any(not arm for name in members for arm in declared.arms(name))
        if inside and not ends:
            stuck |= members
            if len(members) > 1 or any(to in members for name in members for to in declared.successors(name)):
                circle = " -> ".join(sorted(members, key=names.index))
                problems.append(f"a cycle with no way out: {circle}; give some node in it a route that leaves or ends")
    return problems


def _reach(start: list[str], declared: Declaration) -> dict[str, None]:
    reached: dict[str, None] = dict.fromkeys(start)
    todo = list(start)
    while todo:
        for to in declared.successors(todo.pop()):
            if to not in reached:
                reached[to] = None
                todo.append(to)
    return reached


# -- types: only what is certain is a problem; what is not annotated, or not a plain class, is allowed ------------


def _type_problems(declared: Declaration) -> list[str]:
    problems = []
    for name, made in declared.nodes.items():
        if isinstance(made, Join):
            continue
        output = _output(made)
        edges = declared.edges.get(name, ())
        if isinstance(edges, Mapping):
            problems += _uncovered(name, output, list(edges))
        else:
            problems += [p for to in edges if (p := _mismatch(name, output, to, declared.nodes[to]))]
        takes = _input(made)
        for to in declared.on_failure.get(name, ()):
            if p := _mismatch(f"the input of {name}", takes, to, declared.nodes[to]):
                problems.append(p)
    return problems


def _mismatch(origin: str, output: set[type] | None, to: str, made: Node) -> str | None:
    takes = _input(made)
    if output is None or takes is None or isinstance(made, Join):
        return None
    if any(_may_be(one, other) for one in output for other in takes):
        return None
    return f"{origin} is {_or(output)}, but {to} takes {_or(takes)}"


def _may_be(one: type, other: type) -> bool:
    if issubclass(one, other) or issubclass(other, one):
        return True
    return (one in (int, bool) and other in (float, complex)) or (one is float and other is complex)  # PEP 484


def _or(kinds: set[type]) -> str:
    return " | ".join(sorted("None" if k is types.NoneType else k.__name__ for k in kinds))


def _uncovered(name: str, output: set[type] | None, keys: list[Any]) -> list[str]:
    """Cases of an annotated enum or union that no arm takes; a predicate may take anything."""
    if output is None or any(_anything(key) for key in keys):
        return []
    plain = [key for key in keys if not isinstance(key, when)]
    whens = [key.key for key in keys if isinstance(key, when)]  # with a guard they may not match, but they may
    missing: list[str] = []
    for kind in output:
        if any(isinstance(key, type) and issubclass(kind, key) for key in plain + whens):
            continue
        if issubclass(kind, enum.Enum):
            missing += [describe_member(m) for m in kind if m not in plain + whens]
        elif kind is bool:
            missing += [str(b) for b in (True, False) if not any(key is b for key in plain + whens)]
        elif not any((isinstance(k, type) and issubclass(k, kind)) or isinstance(k, kind) for k in plain + whens):
            missing.append(_or({kind}))
    if not missing:
        return []
    return [f"{name}: no arm for {', '.join(missing)} (the arms are {', '.join(map(describe, keys))})"]


def describe_member(member: enum.Enum) -> str:
    return f"{type(member).__name__}.{member.name}"


def _anything(key: Any) -> bool:
    while isinstance(key, when):
        key = key.key
    return key is object or _is_protocol(key) or (callable(key) and not isinstance(key, type))


def _is_protocol(kind: Any) -> bool:
    return bool(getattr(kind, "_is_protocol", False))


def _output(made: Node) -> set[type] | None:
    """The classes that a node's values may be, or None where that is not said or not that simple."""
    hint = annotations_of(made.handler()).get("return", typing.Any)
    found: set[type] = set()
    for kind in _members(hint):
        origin = typing.get_origin(kind) or kind
        if origin in (Hold, Abort):
            continue
        if origin is Next:
            inner = _classes((typing.get_args(kind) or (typing.Any,))[0])
        elif origin is NextAll:
            args = typing.get_args(kind)
            inner = _classes(args[0] if args else typing.Any)
        else:
            inner = _classes(kind)
        if inner is None:
            return None
        found |= inner
    return found or None


def _input(made: Node) -> set[type] | None:
    handler = made.handler()
    hints = annotations_of(handler)
    hints.pop("return", None)
    names = _parameters(handler)
    if takes_context(handler) or len(names) > 1:
        names = names[1:]
    return _classes(hints.get(names[0], typing.Any)) if names else None


def _parameters(handler: Any) -> list[str]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p for p in parameters_of(handler) or () if p.kind in kinds]
    return [p.name for p in required if p.default is p.empty] or [p.name for p in required[:1]]


def _members(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def _classes(hint: Any) -> set[type] | None:
    found: set[type] = set()
    for kind in _members(hint):
        kind = types.NoneType if kind is None else kind
        kind = typing.get_origin(kind) or kind
        # Any is a class since 3.11; who meets a protocol need not say so.
        if not isinstance(kind, type) or kind in (object, typing.Any) or _is_protocol(kind):
            return None
        found.add(kind)
    return found
