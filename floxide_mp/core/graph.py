"""The graph as the core sees it: numbers, no user values. Made by ``workflow``, read by ``plan`` and ``state``."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ..api.retry import RetryPolicy

RUN_SCOPE: Final = -1  # ``join_of`` of a join whose scope is the whole run


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node. ``arms[a]`` are the successors on arm ``a``; a node without edges has one empty arm.

    ``on_failure`` is None where a failure fails the run. ``join_of`` is None for ordinary nodes. A node with a
    ``window`` runs the items of a batch, so many at a time; a failure of one is the batch's.
    """

    name: str
    arms: tuple[tuple[int, ...], ...] = ((),)
    on_failure: tuple[int, ...] | None = None
    join_of: int | None = None
    serial: bool = False
    retry: RetryPolicy | None = None
    timeout: float | None = None
    window: int | None = None

    def successors(self) -> Iterator[int]:
        """Every node that some outcome of this one leads to, failures included; with repeats."""
        for arm in self.arms:
            yield from arm
        yield from self.on_failure or ()


@dataclass(frozen=True, slots=True)
class Graph:
    """A workflow's nodes by number, and the number of the start node."""

    name: str
    nodes: tuple[NodeSpec, ...]
    start: int

    def shape(self) -> dict[str, str]:
        """What each node's part in the graph is, in words that are equal if and only if the parts are."""

        def names(numbers: Iterable[int] | None) -> list[str] | None:
            return None if numbers is None else [self.nodes[n].name for n in numbers]

        def of(join_of: int | None) -> str | None:
            return None if join_of is None else "" if join_of == RUN_SCOPE else self.nodes[join_of].name

        def part(number: int, n: NodeSpec) -> object:
            kind = of(n.join_of), n.window is not None, number == self.start
            return list(map(names, n.arms)), names(n.on_failure), kind

        return {n.name: repr(part(number, n)) for number, n in enumerate(self.nodes)}

    @classmethod
    def of_shape(cls, name: str, shape: Mapping[str, str]) -> Graph:
        """A graph of that shape, nodes in its order: all that a plan hangs on.

        Raises:
            ValueError: it is no graph's shape.
        """
        numbers = {node: number for number, node in enumerate(shape)}

        def nodes(names: list[str]) -> tuple[int, ...]:
            return tuple(numbers[name] for name in names)

        start, specs = 0, []
        try:
            for number, (node, text) in enumerate(shape.items()):
                arms, failure, (of, batch, first) = ast.literal_eval(text)
                join_of = None if of is None else numbers[of] if of else RUN_SCOPE
                on_failure = None if failure is None else nodes(failure)
                window = 1 if batch else None
                specs.append(NodeSpec(node, tuple(map(nodes, arms)), on_failure, join_of, window=window))
                start = number if first else start
        except (SyntaxError, TypeError, ValueError, LookupError) as error:
            raise ValueError(f"no shape of a graph: {error}") from None
        return cls(name, tuple(specs), start)

    def owners(self) -> frozenset[int]:
        """The nodes that some join is a ``Join(of=...)`` of: each of their steps opens a scope."""
        return frozenset(n.join_of for n in self.nodes if n.join_of is not None and n.join_of != RUN_SCOPE)


def components(successors: list[list[int]]) -> list[list[int]]:
    """Strongly connected components, each after every component that it leads to (Tarjan 1972, without recursion)."""
    count = len(successors)
    index, low, on_stack = [-1] * count, [0] * count, [False] * count
    stack: list[int] = []
    found: list[list[int]] = []
    clock = 0
    for root in range(count):
        if index[root] >= 0:
            continue
        work = [(root, iter(successors[root]))]
        index[root] = low[root] = clock
        clock += 1
        stack.append(root)
        on_stack[root] = True
        while work:
            at, following = work[-1]
            for to in following:
                if index[to] < 0:
                    index[to] = low[to] = clock
                    clock += 1
                    stack.append(to)
                    on_stack[to] = True
                    work.append((to, iter(successors[to])))
                    break
                if on_stack[to]:
                    low[at] = min(low[at], index[to])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[at])
                if low[at] == index[at]:
                    component = []
                    while True:
                        member = stack.pop()
                        on_stack[member] = False
                        component.append(member)
                        if member == at:
                            break
                    found.append(component)
    return found
