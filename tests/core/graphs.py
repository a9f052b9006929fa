"""Random graphs that are valid: Hypothesis, or whoever has numbers, draws nodes and edges, and an edge stays only if
the plan still stands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import strategies as st

from floxide_mp.api.retry import RetryPolicy
from floxide_mp.core.graph import RUN_SCOPE, Graph, NodeSpec
from floxide_mp.core.plan import Plan
from floxide_mp.errors import WorkflowDefinitionError

POLICIES = (
    RetryPolicy(max_attempts=2, initial_backoff=0.0),
    RetryPolicy(max_attempts=3, initial_backoff=1.0),
    RetryPolicy(max_attempts=4, initial_backoff=2.5, max_backoff=3.0),
)


WIDE = "wide"  # the start of some graphs: all there is behind it comes several times, side by side
LINE = "line"  # nodes of this name and a number give one value more often than others do


@dataclass
class Draft:
    """A graph that is being made."""

    arms: list[list[list[int]]] = field(default_factory=list)
    on_failure: list[list[int] | None] = field(default_factory=list)
    join_of: list[int | None] = field(default_factory=list)
    serial: list[bool] = field(default_factory=list)
    retry: list[RetryPolicy | None] = field(default_factory=list)

    def graph(self) -> Graph:
        """What there is, without what cannot be reached from node 0."""
        reached, todo = {0}, [0]
        while todo:
            at = todo.pop()
            for to in [t for arm in self.arms[at] for t in arm] + (self.on_failure[at] or []):
                if to not in reached:
                    reached.add(to)
                    todo.append(to)
        number = {old: new for new, old in enumerate(sorted(reached))}
        return Graph("drawn", tuple(self._spec(old, number) for old in number), 0)

    def _spec(self, at: int, number: dict[int, int]) -> NodeSpec:
        of, failure = self.join_of[at], self.on_failure[at]
        return NodeSpec(
            name=f"n{at}",
            arms=tuple(tuple(number[to] for to in arm) for arm in self.arms[at]),
            on_failure=None if failure is None else tuple(number[to] for to in failure),
            # A join that is reached before its owner is an error of the graph; any other number says so as well.
            join_of=of if of is None or of == RUN_SCOPE else number.get(of, len(number)),
            serial=self.serial[at],
            retry=self.retry[at],
        )

    def valid(self) -> bool:
        graph = self.graph()
        if any(spec.join_of is not None and spec.join_of >= len(graph.nodes) for spec in graph.nodes):
            return False
        try:
            Plan(graph)
        except WorkflowDefinitionError:
            return False
        return True

    def add(self, successors: list[int], to: int) -> bool:
        """One more edge, if the graph can bear it."""
        successors.append(to)
        if self.valid():
            return True
        successors.pop()
        return False


@st.composite
def graphs(draw: st.DrawFn, largest: int = 9, serial: bool = True) -> Graph:
    """Fan-outs, routes with empty arms, loops, nested joins, failures that lead somewhere, retries."""
    return drawn(lambda low, high: draw(st.integers(low, high)), largest, serial)


def drawn(number: Callable[[int, int], int], largest: int = 9, serial: bool = True) -> Graph:
    """The graph that follows from what ``number`` gives, each time from a lowest to a highest value."""
    if number(0, 99) >= 75:
        return _lines(number)
    draft = Draft()

    def small() -> int:
        return number(0, 99)

    for at in range(number(2, largest)):
        kind = small()
        draft.arms.append([[] for _ in range((1, 1, 2, 2, 3)[small() % 5])])
        draft.on_failure.append(None)
        draft.serial.append(serial and small() >= 85)
        draft.retry.append(POLICIES[kind % 3] if small() >= 75 else None)
        draft.join_of.append(None if not at or kind < 50 else RUN_SCOPE if kind < 65 else small() % at)
        if at and not _attach(draft, at, small()):
            draft.join_of[at] = None
            _attach(draft, at, small())
    count = len(draft.arms)
    for _ in range(number(0, 2 * count)):
        arms = draft.arms[small() % count]
        draft.add(arms[small() % len(arms)], small() % count)
    for at in range(count):
        way = small()
        if way >= 60:
            after: list[int] = []
            draft.on_failure[at] = after
            for _ in range(way % 3):
                draft.add(after, small() % count)
    graph = draft.graph()
    return _widened(graph) if number(0, 99) >= 60 else graph


def _widened(graph: Graph) -> Graph:
    wide = NodeSpec(WIDE, ((graph.start,),))
    return Graph(graph.name, (*graph.nodes, wide), len(graph.nodes))


def _lines(number: Callable[[int, int], int]) -> Graph:
    """The same steps in a row for values side by side, and then perhaps a join."""
    count, join = number(1, 6), number(0, 1)
    nodes = []
    for at in range(count):
        after = () if at + 1 == count and not join else (at + 1,)
        retry = POLICIES[at % 3] if number(0, 99) >= 80 else None
        failure = (number(at, count - 1),) if number(0, 99) >= 80 else None
        nodes.append(NodeSpec(f"{LINE}{at}", (after, ()) if number(0, 99) >= 80 else (after,), failure, retry=retry))
    if join:
        nodes.append(NodeSpec("join", join_of=RUN_SCOPE))
    return _widened(Graph("drawn", tuple(nodes), 0))


def _attach(draft: Draft, at: int, choice: int) -> bool:
    """An edge to a new node from some earlier one that may lead there."""
    for offset in range(at):
        arms = draft.arms[(choice + offset) % at]
        if draft.add(arms[choice % len(arms)], at):
            return True
    return False
