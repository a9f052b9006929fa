"""What can be wrong with a declared graph, found before anything runs: every problem, one sentence each.

Annotated types are for ``type_checks``; scopes of joins are checked where they are computed, in ``core.plan``.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..api.context import Context
from ..api.node import Node, option_problems, way_of
from ..api.nodes import Join, SplitNode
from ..api.route import when
from ..core.graph import components
from ..core.plan import Plan
from ..errors import WorkflowDefinitionError
from .declaration import Declaration, Edges

# Workers turn it off: a graph is checked where a run of it is started, perhaps by one who has imported more classes.
types_wanted = True


def nearest(name: Any, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` where something is near enough, else nothing."""
    found = _nearest(name, known)
    return f"; did you mean {found!r}?" if found else ""


def _nearest(name: Any, known: Iterable[str]) -> str:
    from difflib import get_close_matches  # not for graphs that are right, which each worker has

    return next(iter(get_close_matches(str(name), list(known), 1)), "")


def name_problems(declared: Declaration) -> list[str]:
    """Names that no node has, and arms' keys that cannot be any, in a graph as it was written."""
    known = declared.nodes
    problems = []

    def check(name: Any, where: str) -> None:
        if name not in known:
            problems.append(f"{where}: there is no node {name!r}{nearest(name, known)}")

    if not known:
        return ["it has no nodes"]
    if declared.start is None:
        problems.append("it has no start")
    elif declared.start or not declared.problems:
        check(declared.start, "start")
    for at, edges in declared.edges.items():
        check(at, "edges")
        for arm in declared.arms(at):
            for to in arm:
                check(to, f"edges of {at}")
        if isinstance(edges, Mapping):
            problems += [f"edges of {at}: {problem}" for key in edges for problem in _arm_problems(key)]
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


def as_meant(declared: Declaration) -> Declaration:
    """The graph with unknown names taken for the nearest known ones, or left out, to look for other problems in it."""
    known = declared.nodes

    def meant(name: Any) -> str:
        return name if name in known else _nearest(name, known)

    def all_of(arm: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for to in arm if (name := meant(to)))

    edges: dict[str, Edges] = {}
    for at, to in declared.edges.items():
        edges[meant(at)] = {key: all_of(arm) for key, arm in to.items()} if isinstance(to, Mapping) else all_of(to)
    on_failure = {meant(at): all_of(to) for at, to in declared.on_failure.items()}
    start = meant(declared.start) if declared.start else None
    of = {name: meant(scope) for name in known if (scope := declared.scope_of(name)) is not None}
    return replace(declared, start=start or None, edges=edges, on_failure=on_failure, of=of)


def graph_problems(declared: Declaration) -> tuple[list[str], Plan | None]:
    """Everything that is wrong with a graph of which the names are right and the composites taken apart, and its plan.

    Later checks are left out where they would only repeat an earlier problem. There is a plan if nothing is wrong.
    """
    problems = list(declared.problems)
    if not isinstance(declared.context, type) or not issubclass(declared.context, Context):
        problems.append(f"context must be a class deriving from Context, not {declared.context!r}")
    plan = None
    if wrong_nodes := _node_problems(declared):
        problems += wrong_nodes
    elif declared.nodes:
        problems += _path_problems(declared)
        if types_wanted:
            from .type_checks import type_problems  # which a worker does not need

            problems += type_problems(declared)
        try:
            plan = _plan(declared)
        except WorkflowDefinitionError as error:
            problems += error.problems
    return problems, plan


def _plan(declared: Declaration) -> Plan | None:
    """None where a name is known to nobody, so that there is no graph to speak of."""
    scopes = {declared.scope_of(name) for name, made in declared.nodes.items() if isinstance(made, Join)}
    if {declared.start, *(scopes - {None})} <= set(declared.nodes):
        return Plan(declared.graph())
    return None


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
            given = isinstance(made, SplitNode) or (isinstance(made, Join) and made.function is not None)
            way_of(made.function if given else made.handler())  # type: ignore[attr-defined]
        except TypeError as error:
            problems.append(f"{name}: {error}")
        except Exception as error:
            problems.append(f"{name}: its signature cannot be read: {error!r}")
    return problems


def _arm_problems(key: Any) -> Iterator[str]:
    """Why no value can be asked whether it takes the arm."""
    while isinstance(key, when):
        for what, given in (("guard", key.guard), ("take", key.take)):
            if given is not None and not callable(given):
                yield f"{what} must be a function, not {given!r}"
        key = key.key
    if typing.get_origin(key) is not None:
        yield f"an arm cannot be {key!r}; write a class, and each of several on an arm of its own"
    elif isinstance(key, type):
        try:
            isinstance(None, key)
        except Exception as error:
            yield f"an arm cannot be {key.__name__}: {error}"


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
