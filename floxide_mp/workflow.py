"""``Workflow``: the declaration of a graph, and its compilation into what the core and the workers need.

What is wrong with a graph is found by ``checks`` when the class is made. How a workflow is run is not decided
here: ``run`` hands over to the launcher that the package installs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from .checks import Declaration, Edges, graph_problems, nearest
from .context import Context
from .core.graph import RUN_SCOPE, Graph, NodeSpec
from .core.plan import Plan
from .errors import WorkflowDefinitionError
from .node import Node
from .nodes.join import Join

_WORDS = ("start", "edges", "on_failure", "context")


@dataclass(frozen=True, slots=True)
class Compiled:
    """A workflow ready to run. ``keys[n]`` are the arms' keys of node ``n``, or None where edges are direct."""

    graph: Graph
    plan: Plan
    nodes: tuple[Node, ...]
    keys: tuple[tuple[Any, ...] | None, ...]
    context: type[Context]


class Workflow:
    """Base of workflows. The class body is the declaration; see the README for the form.

    Class attributes:
        start: the node that gets the run's input.
        edges: ``{node: [successor, ...]}``, or ``{node: {key: [successor, ...]}}`` to route by value.
        on_failure: ``{node: [successor, ...]}``; they get the failed item's input.
        context: the ``Context`` dataclass that the steps of a run share.

    An instance may replace nodes: ``Orders(pay=Pay(test=True))``.

    Raises:
        WorkflowDefinitionError: when the class is made, with everything that is wrong with the graph.
    """

    context: ClassVar[type[Context]] = Context
    __declaration__: ClassVar[Declaration | None] = None
    __launcher__: ClassVar[Callable[..., Any]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__declaration__ = _declare(cls)
        cls.__compiled__ = compile_graph(cls.__declaration__)

    __compiled__: ClassVar[Compiled]

    def __init__(self, **nodes: Node) -> None:
        if self.__declaration__ is None:
            raise WorkflowDefinitionError(f"{type(self).__name__} declares no nodes; derive from it and add some")
        compiled = self.__compiled__
        if nodes:
            compiled = compile_graph(_replaced(self.__declaration__, nodes))
        self.compiled = compiled

    @property
    def name(self) -> str:
        """The class's name: what runs are listed under."""
        return self.compiled.graph.name

    def run(self, input: Any = None, ctx: Context | None = None, workers: int = 0, **options: Any) -> Any:
        """Run to the end and return the ``RunResult``.

        Args:
            input: what the start node gets.
            ctx: the context to start from; made from ``context`` if not given.
            workers: worker processes; 0 runs every step in this thread.
            options: as for ``Coordinator`` and ``Coordinator.start``.

        Raises:
            RunFailedError: the run failed; its cause is the node's error.
            SerializationError: the workflow or its input cannot travel to a worker.
        """
        return type(self).__launcher__(self, input, ctx=ctx, workers=workers, **options)

    @staticmethod
    def build(
        name: str,
        nodes: Mapping[str, Node],
        start: str,
        edges: Mapping[str, Iterable[str] | str | Mapping[Any, Iterable[str] | str]] = {},
        on_failure: Mapping[str, Iterable[str] | str] = {},
        context: type[Context] | None = None,
    ) -> type[Workflow]:
        """A workflow class made by a program: as a class body, with names for nodes.

        Raises:
            WorkflowDefinitionError: with everything that is wrong with the graph.
        """
        body: dict[str, Any] = {"context": context or Context, "__module__": __name__, "__doc__": None}
        body["__given__"] = Declaration(
            name=name,
            nodes=dict(nodes),
            start=start,
            edges={at: _by_name(to) for at, to in edges.items()},
            on_failure={at: _names(to) for at, to in on_failure.items()},
            context=context or Context,
        )
        return type(name, (Workflow,), body)


def _names(to: Iterable[str] | str) -> tuple[str, ...]:
    return (to,) if isinstance(to, str) else tuple(to)


def _by_name(to: Iterable[str] | str | Mapping[Any, Iterable[str] | str]) -> Edges:
    if isinstance(to, Mapping):
        return {key: _names(successors) for key, successors in to.items()}
    return _names(to)


def _declare(cls: type[Workflow]) -> Declaration:
    """Read a class body: node objects become names."""
    if "__given__" in vars(cls):
        declaration: Declaration = vars(cls)["__given__"]
        return declaration
    attributes: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        attributes.update(vars(base))
    nodes = {n: v for n, v in attributes.items() if isinstance(v, Node) and n not in _WORDS}
    problems: list[str] = []
    names: dict[int, str] = {}
    for name, value in nodes.items():
        if id(value) in names:
            problems.append(f"{names[id(value)]} and {name} are one node object; a node has one place in a graph")
        names.setdefault(id(value), name)

    def name_of(value: Any, where: str) -> str:
        if isinstance(value, str):
            return value
        if id(value) in names:
            return names[id(value)]
        what = value.label() if isinstance(value, Node) else repr(value)
        hint = " (an instance is needed, not the class)" if isinstance(value, type) and issubclass(value, Node) else ""
        problems.append(f"{where}: {what} is not a node of this workflow{hint}")
        return ""

    def successors(to: Any, where: str) -> tuple[str, ...]:
        if isinstance(to, Node | str):
            to = [to]
        if not isinstance(to, list | tuple | set | frozenset):
            problems.append(f"{where}: a list of nodes is needed, not {to!r}")
            return ()
        return tuple(name for value in to if (name := name_of(value, where)))

    def edges_of(at: str, to: Any) -> Edges:
        if isinstance(to, Mapping):
            return {key: successors(one, f"edges of {at}") for key, one in to.items()}
        return successors(to, f"edges of {at}")

    start = name_of(attributes["start"], "start") if "start" in attributes else None
    edges: dict[str, Edges] = {}
    for origin, to in dict(attributes.get("edges", {})).items():
        if at := name_of(origin, "edges"):
            edges[at] = edges_of(at, to)
    on_failure: dict[str, tuple[str, ...]] = {}
    for origin, to in dict(attributes.get("on_failure", {})).items():
        if at := name_of(origin, "on_failure"):
            on_failure[at] = successors(to, f"on_failure of {at}")
    of = {n: names[id(v.of)] for n, v in nodes.items() if isinstance(v, Join) and id(v.of) in names}
    return Declaration(cls.__name__, nodes, start, edges, on_failure, attributes["context"], of, problems)


def _replaced(declaration: Declaration, nodes: dict[str, Node]) -> Declaration:
    problems = [
        f"there is no node {name!r} to replace{nearest(name, declaration.nodes)}"
        for name in nodes
        if name not in declaration.nodes
    ]
    problems += [
        f"{name}: a node is needed, not {value!r}" for name, value in nodes.items() if not isinstance(value, Node)
    ]
    changed = copy.copy(declaration)
    changed.nodes = {**declaration.nodes, **nodes}
    changed.problems = problems
    return changed


def compile_graph(declaration: Declaration) -> Compiled:
    """Check a declaration and turn it into numbers.

    Raises:
        WorkflowDefinitionError: with every problem that was found.
    """
    problems = graph_problems(declaration)
    if not problems:
        order = {name: number for number, name in enumerate(declaration.nodes)}
        graph = Graph(
            declaration.name, tuple(_spec(declaration, name, order) for name in order), order[str(declaration.start)]
        )
        try:
            plan = Plan(graph)
        except WorkflowDefinitionError as error:
            problems = list(error.problems)
    if problems:
        lines = "".join(f"\n  - {problem}" for problem in problems)
        raise WorkflowDefinitionError(
            f"workflow {declaration.name} cannot work:{lines}", problems=tuple(problems), workflow=declaration.name
        )
    keys = tuple(
        tuple(arms) if isinstance(arms := declaration.edges.get(name), Mapping) else None for name in declaration.nodes
    )
    return Compiled(graph, plan, tuple(declaration.nodes.values()), keys, declaration.context)


def _spec(declaration: Declaration, name: str, order: Mapping[str, int]) -> NodeSpec:
    made = declaration.nodes[name]
    edges = declaration.edges.get(name, ())
    arms: Iterable[tuple[str, ...]] = edges.values() if isinstance(edges, Mapping) else (edges,)
    failure = declaration.on_failure.get(name)
    of = declaration.scope_of(name)
    return NodeSpec(
        name=name,
        arms=tuple(tuple(order[to] for to in arm) for arm in arms),
        on_failure=None if failure is None else tuple(order[to] for to in failure),
        join_of=None if not isinstance(made, Join) else RUN_SCOPE if of is None else order[of],
        serial=made.serial,
        retry=made.retry,
        timeout=made.timeout,
    )
