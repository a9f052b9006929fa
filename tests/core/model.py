"""When a join fires, said again in the plainest way: by searching the graph, each time, from everything alive.

Shares nothing with ``core.plan``: no places, components or counts. ``compare`` holds the core to it.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from floxide_mp.core.graph import RUN_SCOPE, Graph
from floxide_mp.core.records import Commit, ItemRecord, Scope
from floxide_mp.core.run_state import RunState
from floxide_mp.core.transitions import Phase
from floxide_mp.core.types import Payload

Chain = tuple[int, ...]  # owner nodes whose scopes one is in


class Alive(NamedTuple):
    """An item: its node, and the items that opened the scopes it is in, outermost first."""

    node: int
    payload: Payload
    stack: tuple[int, ...]
    chain: Chain


class Model:
    """What is alive, what has arrived where, and which joins of which scopes are still to fire."""

    def __init__(self, graph: Graph, ordered: bool) -> None:
        self.graph = graph
        self.ordered = ordered
        self.alive: dict[int, Alive] = {}  # by the core's number
        self.scopes: dict[int, tuple[tuple[int, ...], Chain]] = {}
        self.waiting: dict[tuple[int, int], list[tuple[str, Payload]]] = {}  # (scope, join), not fired yet -> arrived
        self.known: set[int] = set()  # all that ever was
        self.new: list[Alive] = []
        self.outputs = 0
        self.fired: set[tuple[int, int]] = set()
        self.kept: set[int] = set()  # held, and alive
        self.giving: dict[int, Alive] = {}  # items that have given some values: what these are like
        self.owners = {n.join_of for n in graph.nodes if n.join_of not in (None, RUN_SCOPE)}
        self.joins = [i for i, n in enumerate(graph.nodes) if n.join_of is not None]
        self.reaches = cache(self._reaches)

    # -- what happens ----------------------------------------------------------------------------------

    def start(self, payload: bytes) -> None:
        self._open(0, (), (), self.graph.start)
        self._arrive("", self.graph.start, payload, (), ())
        self._settle()

    def succeed(self, item: ItemRecord, values: tuple[tuple[int, bytes], ...]) -> None:
        self.portion(item, values, last=True)

    def portion(self, item: ItemRecord, values: tuple[tuple[int, bytes], ...], last: bool = False) -> None:
        """Some values of a step, which has more unless they are the last."""
        was = self.alive[item.id]
        spec, inside = self.graph.nodes[was.node], self.giving.pop(item.id, was)
        if was.node in self.owners and inside.stack == was.stack:
            inside = was._replace(stack=(*was.stack, item.id), chain=(*was.chain, was.node))
            self._open(item.id, inside.stack, inside.chain, was.node)
        for arm, payload in values:
            self.outputs += not spec.arms[arm]
            for to in spec.arms[arm]:
                self._arrive(spec.name, to, payload, inside.stack, inside.chain)
        if last:
            del self.alive[item.id]
            for held in [number for number in self.kept if self.alive[number].node == was.node]:
                del self.alive[held]
                self.kept.remove(held)
        else:
            self.giving[item.id] = inside
        self._settle()

    def hold(self, item: ItemRecord, kept: bool) -> None:
        """``kept``: joins wait for it until a step of its node passes something on."""
        if kept:
            self.kept.add(item.id)
        else:
            del self.alive[item.id]
        self.giving.pop(item.id, None)
        self._settle()

    def start_over(self) -> None:
        """What is held was not begun."""
        self.kept.clear()

    def fail(self, item: ItemRecord) -> None:
        """For good, and it goes to ``on_failure``."""
        was = self.alive.pop(item.id)
        self.giving.pop(item.id, None)
        spec = self.graph.nodes[was.node]
        for to in spec.on_failure or ():
            self._arrive(spec.name, to, was.payload, was.stack, was.chain)
        self._settle()

    def compare(self, state: RunState, commit: Commit) -> None:
        """The core decided the same."""
        if state.phase is Phase.CANCELLED:  # its queue is dropped, with what the last step would have led to
            assert self.outputs == commit.output_count
            self.alive.clear()
            self.new.clear()
            self.fired.clear()
            self.outputs = 0
            return
        out = {number for first, count in commit.ranges for number in range(first, first + count)}
        for item in (*commit.created, *(item for block in commit.blocks for item in block.items())):
            if item.id in self.known and item.id in out:
                continue  # it has stepped out of its block
            stack = tuple(reversed(_ids(item.scope)))
            found = state.plan.places[item.place].node, self._key(item.payload), stack
            match = next((a for a in self.new if (a.node, self._key(a.payload), a.stack) == found), None)
            assert match is not None, f"{found} is not among what is to be created: {self.new}"
            self.new.remove(match)
            self.alive[item.id] = match
            self.known.add(item.id)
        assert not self.new, f"not created: {self.new}"
        assert self.outputs == commit.output_count
        self.outputs = 0
        fired = [(scope, state.plan.places[place].node) for scope, place in commit.joined]
        assert len(set(fired)) == len(fired)
        assert set(fired) == self.fired
        self.fired.clear()
        in_blocks = {item.id for item in state._ready} - set(state.items)
        in_blocks.update(*(range(first, stop) for first, stop in state.leased_blocks.items()))
        assert {kept.id for found in state.kept.values() for kept in found} == self.kept
        assert {*state.items, *in_blocks, *self.kept} == set(self.alive)

    # -- inside ----------------------------------------------------------------------------------------

    def _key(self, payload: Payload) -> object:
        """In the sequential run a join's list is in the order of the steps; else only what is in it is known here."""
        return payload if self.ordered else _unordered(flat(payload))

    def _open(self, scope: int, stack: tuple[int, ...], chain: Chain, opener: int) -> None:
        self.scopes[scope] = stack, chain
        of = opener if scope else RUN_SCOPE
        for join in self.joins:
            if self.graph.nodes[join].join_of == of and self.reaches(opener, chain, len(chain), join, bool(scope)):
                self.waiting[scope, join] = []

    def _arrive(self, origin: str, to: int, payload: Payload, stack: tuple[int, ...], chain: Chain) -> None:
        of = self.graph.nodes[to].join_of
        if of is None:
            self.new.append(Alive(to, payload, stack, chain))
        else:
            scope = 0 if of == RUN_SCOPE else stack[chain.index(of)]
            assert (scope, to) in self.waiting, "something arrives at a join that has fired"
            self.waiting[scope, to].append((origin, payload))

    def _settle(self) -> None:
        while True:
            for scope, join in self.waiting:
                if not self._awaited(scope, join):
                    break
            else:
                return
            arrived = tuple(self.waiting.pop((scope, join)))
            stack, chain = self.scopes[scope]
            self.new.append(Alive(join, arrived, stack[:-1], chain[:-1]))
            self.fired.add((scope, join))

    def _awaited(self, scope: int, join: int) -> bool:
        """Whether something alive in the scope, or to come from another join there, can still reach the join."""
        stack, chain = self.scopes[scope]
        level = len(chain)
        sources = [(a.node, a.stack, a.chain, False) for a in (*self.alive.values(), *self.new)]
        sources += [(a.node, a.stack, a.chain, a.stack != self.alive[n].stack) for n, a in self.giving.items()]
        for other, at in self.waiting:
            if (other, at) != (scope, join):
                inner, there = self.scopes[other]
                sources.append((at, inner[:-1], there[:-1], False))
        return any(
            inner[:level] == stack and self.reaches(node, there, level, join, inside)
            for node, inner, there, inside in sources
        )

    def _reaches(self, node: int, chain: Chain, level: int, join: int, inside: bool) -> bool:
        """Whether some way from ``node`` leads to the join, with the ``level``-th scope still the same.

        ``inside``: from within the scope that a step of ``node`` opened, which is the last of ``chain``.
        """
        seen = set()
        todo: list[tuple[int, Chain]] = []

        def follow(to: int, within: Chain) -> bool:
            of = self.graph.nodes[to].join_of
            if of is not None:
                at = 0 if of == RUN_SCOPE else within.index(of) + 1
                if to == join and at == level:
                    return True
                if at <= level and level:
                    return False  # leads out of the scope
                within = within[: max(0, at - 1)]
            if (to, within) not in seen:
                seen.add((to, within))
                todo.append((to, within))
            return False

        def leave(at: int, within: Chain, opened: bool) -> bool:
            spec = self.graph.nodes[at]
            inner = (*within, at) if at in self.owners and not opened else within
            after = [(to, inner) for arm in spec.arms for to in arm]
            if not opened:
                after += [(to, within) for to in spec.on_failure or ()]
            return any(follow(to, c) for to, c in after)

        if leave(node, chain, inside):
            return True
        while todo:
            if leave(*todo.pop(), False):
                return True
        return False


def flat(payload: Payload) -> Payload:
    """A join's input, one pair for each value however they came."""
    if isinstance(payload, bytes):
        return payload
    return tuple((name, flat(one)) for name, part in payload for one in (part if isinstance(part, list) else [part]))


def _unordered(payload: Payload) -> object:
    if isinstance(payload, bytes):
        return payload
    return sorted((name, repr(_unordered(part))) for name, part in payload)


def _ids(scope: Scope) -> list[int]:
    found = []
    within: Scope | None = scope
    while within is not None and within.parent is not None:
        found.append(within.id)
        within = within.parent
    return found
