"""The plan: places, scopes and what must be over before a join may fire. Computed once per graph, never changed.

A *place* is a node together with the chain of scopes that an item is in when it gets there; most nodes have one
place. A *scope plan* is the part of the graph that lies within one kind of scope, its loops folded into single
components, so that progress is a count per component: one is closed when nothing is alive in it and
everything before it is closed (progress tracking: Murray et al., "Naiad", SOSP 2013).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from ..errors import WorkflowDefinitionError
from .graph import RUN_SCOPE, Graph, NodeSpec, components

Chain = tuple[int, ...]  # the nodes whose fan-outs opened the scopes, outermost first; () is the run alone


class Target(NamedTuple):
    """Where one edge leads. ``level`` is the scope a join collects in: 0 the run, k the chain's k-th; else -1."""

    place: int
    level: int


@dataclass(slots=True)
class Place:
    """A node in one chain of scopes. ``arms`` and ``on_failure`` are the node's, as targets."""

    number: int
    node: int
    spec: NodeSpec
    scope_path: Chain
    opens_scope: bool  # its steps open a scope
    arms: tuple[tuple[Target, ...], ...] = ()
    on_failure: tuple[Target, ...] | None = None


@dataclass(slots=True)
class ScopePlan:
    """Progress within one kind of scope. Components are numbered so that every edge leads to a higher number."""

    component_of: list[int]  # by place; -1: outside
    successors: list[tuple[int, ...]]
    predecessors: list[int]  # how many components lead here
    joins: dict[int, int]  # component -> place of the join that fires when all before it is closed
    rank: dict[int, int]  # place of such a join -> which of them it is
    window: int | None  # of a batch's scope: how many of its items may be in flight


@dataclass
class Plan:
    """All places of a graph and, by chain, its scope plans.

    Raises:
        WorkflowDefinitionError: where scopes cannot be made sense of; see ``problems`` for the sentences.
    """

    graph: Graph
    places: list[Place] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._owners = self.graph.owners()
        self._numbers: dict[tuple[int, Chain], int] = {}
        self._walk()
        if not self.problems:
            self.scopes = {chain: self._scope(chain) for chain in self._chains()}
        if self.problems:
            text = "; ".join(self.problems)
            raise WorkflowDefinitionError(text, problems=tuple(self.problems))

    @cached_property
    def most_joins(self) -> int:
        """How many joins the fan-out of one step has, at the most."""
        return max((len(scope.joins) for chain, scope in self.scopes.items() if chain), default=0)

    @cached_property
    def ways(self) -> list[tuple[int, tuple[int, ...]]]:
        """Places with those that their steps lead to unless they fail, each after all of these.

        Not among them: what is in a loop or behind one, be it by failures.
        """
        after = [sorted({t.place for t in self._leaving(place)}) for place in self.places]
        looped = [False] * len(after)
        ways = []
        for component in reversed(components(after)):
            place = component[0]
            if looped[place] or len(component) > 1 or place in after[place]:
                for member in component:
                    for to in (member, *after[member]):
                        looped[to] = True
            else:
                arms = self.places[place].arms
                ways.append((place, tuple({t.place for arm in arms for t in arm})))
        return ways[::-1]

    @cached_property
    def steps_to_serial(self) -> list[int]:
        """By place, how many levels deeper than an item there a serial step may be that comes of it, at the least: 0 if
        it is one, -1 if none comes of it, or only through a join of the run.

        The join of a fan-out is one level deeper than the deepest item that could have reached it, so it may be on the
        next level of any item before it, however long the way is: that item may end there.
        """
        before: list[list[int]] = [[] for _ in self.places]  # by successors, that are no joins of a scope
        joined: list[list[int]] = [[] for _ in self.places]  # by such joins
        for place in self.places:
            for target in self._leaving(place):
                if target.level:
                    (before if target.level < 0 else joined)[target.place].append(place.number)
            if place.opens_scope:  # of an empty fan-out, its joins come next
                for join in self.scopes[(*place.scope_path, place.node)].joins.values():
                    joined[join].append(place.number)
        steps = [0 if place.spec.serial else -1 for place in self.places]
        found = [number for number, distance in enumerate(steps) if distance == 0]
        leading = [[*ways, *joins] for ways, joins in zip(before, joined, strict=True)]
        seen: set[int] = set()
        for number in found:  # which grows meanwhile: a search in breadth
            for origin in (*before[number], *joined[number], *_reached(leading, joined[number], seen)):
                if steps[origin] < 0:
                    steps[origin] = steps[number] + 1
                    found.append(origin)
        return steps

    @cached_property
    def keeps_held(self) -> list[bool]:
        """By place, whether joins wait for an item that is held there until its node passes something on.

        Not where what comes of such a join may lead to the node again, and so release the item, or to a serial step,
        which would come out of its turn.
        """
        after = [{target.place for target in self._leaving(place)} for place in self.places]
        found = []
        for place in self.places:
            reached = _reached(after, after[place.number], set())
            joins = [to for to in reached if self.places[to].spec.join_of is not None]
            behind = [self.places[to] for to in _reached(after, joins, set())]
            found.append(not any(to.node == place.node or to.spec.serial for to in behind))
        return found

    @cached_property
    def chained(self) -> tuple[tuple[int, ...], ...]:
        """For each node and arm, the node whose step a worker may run next by itself, or -1: where there is one
        successor, nothing is to be counted, collected, timed or kept apart on the way, and both may be begun again:
        who dies ahead is not known, and what led there is not told.
        """
        found: dict[int, tuple[int, ...]] = {}
        for place in self.places:
            nodes = tuple(self._next(place, arm) for arm in place.arms)
            known = found.setdefault(place.node, nodes)  # a node may have several places
            found[place.node] = tuple(a if a == b else -1 for a, b in zip(known, nodes, strict=True))
        return tuple(found.get(node, ()) for node in range(len(self.graph.nodes)))

    def _next(self, place: Place, arm: tuple[Target, ...]) -> int:
        if len(arm) != 1 or arm[0].level >= 0 or place.opens_scope or self.scopes[place.scope_path].window is not None:
            return -1
        after = self.places[arm[0].place].spec
        for spec in (place.spec, after):
            if spec.serial or spec.timeout is not None or (spec.retry is not None and spec.retry.max_attempts == 1):
                return -1
        return self.places[arm[0].place].node

    def names(self) -> tuple[str, ...]:
        """The names of the nodes, by number of place."""
        return tuple(place.spec.name for place in self.places)

    def _walk(self) -> None:
        start = self.graph.start
        if self.graph.nodes[start].join_of is not None:
            self._problem(f"{self._name(start)} is a Join and cannot be the start")
            return
        self._place(start, ())
        done = 0
        while done < len(self.places) and len(self.problems) < 20:
            place = self.places[done]
            done += 1
            inner = (*place.scope_path, place.node) if place.opens_scope else place.scope_path
            place.arms = tuple(
                tuple(t for to in arm if (t := self._target(place, to, inner))) for arm in place.spec.arms
            )
            failure = place.spec.on_failure
            if failure is not None:
                # What fails of a batch is the batch, which is a step of the scope around its own.
                outer = place.scope_path if place.spec.window is None else place.scope_path[:-1]
                place.on_failure = tuple(t for to in failure if (t := self._target(place, to, outer)))

    def _target(self, origin: Place, node: int, chain: Chain) -> Target | None:
        spec = self.graph.nodes[node]
        level = -1
        if spec.join_of == RUN_SCOPE:
            chain, level = (), 0
        elif spec.join_of is not None:
            if spec.join_of not in chain:
                of = self._name(spec.join_of)
                self._problem(f"{spec.name} is Join(of={of}), but {origin.spec.name} reaches it without passing {of}")
                return None
            level = chain.index(spec.join_of) + 1
            chain = chain[: level - 1]
        if node in self._owners and node in chain:  # joins may own scopes, too
            joins = [n.name for n in self.graph.nodes if n.join_of == node]
            self._problem(
                f"{spec.name} can be reached again from inside its own scope "
                f"(from {origin.spec.name}, before {' or '.join(joins)})"
            )
            return None
        return Target(self._place(node, chain), level)

    def _place(self, node: int, chain: Chain) -> int:
        number = self._numbers.get((node, chain))
        if number is None:
            number = self._numbers[node, chain] = len(self.places)
            self.places.append(Place(number, node, self.graph.nodes[node], chain, node in self._owners))
        return number

    def _chains(self) -> set[Chain]:
        opened = {(*p.scope_path, p.node) for p in self.places if p.opens_scope}
        return {()} | opened

    def _scope(self, chain: Chain) -> ScopePlan:
        depth = len(chain)
        inside = [p for p in self.places if p.scope_path[:depth] == chain]
        exits = self._exits(chain)
        members = [p.number for p in inside] + exits
        local = {number: i for i, number in enumerate(members)}
        edges: list[list[int]] = [[] for _ in members]
        for place in inside:
            for target in self._leaving(place):
                if target.place in local:
                    edges[local[place.number]].append(local[target.place])
        found = components(edges)[::-1]  # Tarjan ends at the sinks; we want sources first
        component_of = [-1] * len(self.places)
        for number, component in enumerate(found):
            for member in component:
                component_of[members[member]] = number
        joins: dict[int, int] = {}
        for number, component in enumerate(found):
            for member in component:
                place = self.places[members[member]]
                mine = place.number in exits or (not chain and place.spec.join_of == RUN_SCOPE)
                if mine:
                    joins[number] = place.number
                    if len(component) > 1 or member in edges[member]:
                        self._problem(f"{place.spec.name} waits for itself: it is in a loop of its own scope")
        successors = []
        for number, component in enumerate(found):
            to = {component_of[members[t]] for member in component for t in edges[member]} - {number}
            successors.append(tuple(sorted(to)))
        predecessors = [0] * len(found)
        for after in successors:
            for number in after:
                predecessors[number] += 1
        rank = {place: number for number, place in enumerate(sorted(joins.values()))}
        window = next((p.spec.window for p in inside if p.scope_path == chain and p.spec.window), None)
        return ScopePlan(component_of, successors, predecessors, joins, rank, window)

    def _exits(self, chain: Chain) -> list[int]:
        """Places of the joins that this kind of scope fires; their items live one scope further out."""
        if not chain:
            return []
        outer = chain[:-1]
        return [p.number for p in self.places if p.scope_path == outer and p.spec.join_of == chain[-1]]

    def _leaving(self, place: Place) -> list[Target]:
        return [t for arm in place.arms for t in arm] + list(place.on_failure or ())

    def _name(self, node: int) -> str:
        return self.graph.nodes[node].name

    def _problem(self, text: str) -> None:
        if text not in self.problems:
            self.problems.append(text)


def _reached(after: Sequence[Iterable[int]], start: Iterable[int], seen: set[int]) -> list[int]:
    """The places that some way leads to from ``start``, and these, but for those in ``seen``, which gets them."""
    found = [place for place in dict.fromkeys(start) if place not in seen]
    seen.update(found)
    for place in found:  # which grows meanwhile
        for to in after[place]:
            if to not in seen:
                seen.add(to)
                found.append(to)
    return found
