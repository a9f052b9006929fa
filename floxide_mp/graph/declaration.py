"""``Declaration``: a graph as a user declared it, with names for nodes. What is wrong with one is for ``checks``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ..api.context import Context
from ..api.node import Node
from ..api.nodes import Join
from ..core.graph import RUN_SCOPE, Graph, NodeSpec

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

    def graph(self) -> Graph:
        """The same in numbers, composites and batches taken apart; every name in it must be that of a node."""
        order = {name: number for number, name in enumerate(self.nodes)}
        return Graph(self.name, tuple(self._spec(name, order) for name in order), order[str(self.start)])

    def _spec(self, name: str, order: Mapping[str, int]) -> NodeSpec:
        made = self.nodes[name]
        failure = self.on_failure.get(name)
        of = self.scope_of(name)
        return NodeSpec(
            name=name,
            arms=tuple(tuple(order[to] for to in arm) for arm in self.arms(name)),
            on_failure=None if failure is None else tuple(order[to] for to in failure),
            join_of=None if not isinstance(made, Join) else RUN_SCOPE if of is None else order[of],
            serial=made.serial,
            retry=made.retry,
            timeout=made.timeout,
            window=self.windows.get(name),
        )


class Drawing:
    """A method of a workflow's class, and of an instance, which may have replaced nodes: ``draw(declaration)``."""

    def __init__(self, draw: Callable[[Declaration], str]) -> None:
        self._draw = draw
        self.__doc__ = draw.__doc__

    def __get__(self, instance: Any, owner: Any) -> Callable[[], str]:
        def drawn() -> str:
            return self._draw(owner._declared() if instance is None else instance.declaration)

        drawn.__doc__ = self.__doc__
        return drawn
