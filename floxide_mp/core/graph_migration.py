"""What is remembered of a run, carried over to another graph. Places, scopes and nodes are found again by their names.

A graph may gain nodes, lose those where nothing is unfinished, get other edges, be declared in another order. What is
unfinished goes on in it as if it had come about there. What would be lost, or would never end, is refused.

**Order keys** stay what they are as long as the joins are the same. Where they are not, the numbers that joins put into
branch paths (``Flow._join_path``) mean other joins from now on, and could be given out twice. So whatever is unfinished
gets a number into its path that no path had before, and joins of the run fire deeper than anything that has been.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from ..errors import FloxideError
from .graph import RUN_SCOPE
from .plan import Chain, Plan, ScopePlan
from .records import ItemRow, ScopeRecord, Snapshot
from .types import OrderKey

FRESH: Final = 1 << 58  # with the depth that the run has reached: below the numbers of joins, above those of branches


def carried(old: Plan, new: Plan, snapshot: Snapshot) -> Snapshot:
    """The snapshot of a run in ``old``, as one in ``new``.

    Raises:
        FloxideError: not all of it has a place there; names all that has none. ``problems`` has a sentence for each.
    """
    move = _Move(old, new, snapshot)
    moved = move.snapshot()
    if move.problems:
        problems = tuple(dict.fromkeys(move.problems))
        raise FloxideError("; ".join(problems), problems=problems)
    return moved


class _Part(NamedTuple):
    """A place, said so that it can be found in another plan."""

    node: str
    chain: tuple[str, ...]
    join_of: str | None
    batch: bool


def _parts(plan: Plan) -> list[_Part]:
    names = [spec.name for spec in plan.graph.nodes]

    def of(join_of: int | None) -> str | None:
        return None if join_of is None else "" if join_of == RUN_SCOPE else names[join_of]

    return [
        _Part(names[p.node], tuple(names[n] for n in p.scope_path), of(p.spec.join_of), p.spec.window is not None)
        for p in plan.places
    ]


class _Move:
    """One carrying over. ``problems`` are sentences, found on the way."""

    def __init__(self, old: Plan, new: Plan, snapshot: Snapshot) -> None:
        self.old, self.new, self.was = old, new, snapshot
        self.problems: list[str] = []
        self.parts, there = _parts(old), {part: number for number, part in enumerate(_parts(new))}
        self.places = {number: there[part] for number, part in enumerate(self.parts) if part in there}
        self.nodes = {spec.name: number for number, spec in enumerate(new.graph.nodes)}
        self.chains: dict[int, tuple[Chain, Chain]] = {0: ((), ())}  # of a scope, in old and new numbers
        self.parents: dict[int, int] = {}
        deepest = max((depth for (scope, _), depth in snapshot.depths.items() if not scope), default=0)
        self.fresh = None if _same_joins(old, new) else FRESH + deepest

    def snapshot(self) -> Snapshot:
        was = self.was
        scopes = [scope for scope in map(self._scope, sorted(was.scopes)) if scope]
        items = sorted((row for row in map(self._item, was.items) if row), key=lambda row: row.order)
        arrivals = []
        for arrival in was.arrivals:
            place = self._place(arrival.place, "values wait at")
            if place is not None:
                arrivals.append(arrival._replace(place=place))
        joined = [(scope, self.places[place]) for scope, place in was.joined if place in self.places]
        held = {}
        for node, numbers in was.held.items():
            name = self.old.graph.nodes[node].name
            if name not in self.nodes:
                self.problems.append(f"items are held by {name}, which is gone")
            else:
                held[self.nodes[name]] = list(numbers)
        passed = {
            self.nodes[name] for node in was.nodes_emitted if (name := self.old.graph.nodes[node].name) in self.nodes
        }
        moved = was._replace(
            items=items, arrivals=arrivals, scopes=scopes, joined=joined, depths={}, nodes_emitted=passed, held=held
        )
        if self.problems:
            return moved
        self._check_fired(moved)
        return moved._replace(depths=dict(self._depths(moved)))

    def _place(self, number: int, what: str) -> int | None:
        found = self.places.get(number)
        if found is None:
            part = self.parts[number]
            if part.node not in self.nodes:
                why = "which is gone"
            elif all(other[:2] != part[:2] for other in _parts(self.new)):
                why = "which is in other scopes now"
            else:
                why = "which is another kind of node now"
            self.problems.append(f"{what} {part.node}, {why}")
        return found

    def _scope(self, scope: ScopeRecord) -> ScopeRecord | None:
        opener = self.old.places[scope.place]
        place = self._place(scope.place, "there is unfinished work that comes from")
        if place is None:
            return None
        there, name = self.new.places[place], opener.spec.name
        before, after = (*opener.scope_path, opener.node), (*there.scope_path, there.node)
        if not there.opens_scope or self._is_batch(self.old, before) != self._is_batch(self.new, after):
            self.problems.append(f"there is unfinished work that comes from {name}, and nothing collects it any more")
            return None
        if scope.id in self.was.failed_batches and any(
            p.spec.window and p.scope_path == after and p.on_failure is None for p in self.new.places
        ):
            self.problems.append(f"a batch of {name} has failed, and its on_failure is gone")
        self.chains[scope.id], self.parents[scope.id] = (before, after), scope.parent
        return scope._replace(place=place, order=self._order(scope.order))

    def _item(self, row: ItemRow) -> ItemRow | None:
        place = self._place(row.place, "there is an unfinished item at")
        if place is None:
            return None
        chains = self.chains.get(row.scope)
        batch = chains is not None and self._is_batch(self.new, chains[1])
        return row._replace(place=place, order=self._order(row.order, batch))

    def _order(self, order: OrderKey, batch: bool = False) -> OrderKey:
        """``batch``: the last number is that of an item in its batch, and stays the last."""
        if self.fresh is None:
            return order
        depth, path = order
        return (depth, (*path[:-1], self.fresh, path[-1]) if batch else (*path, self.fresh))

    @staticmethod
    def _is_batch(plan: Plan, chain: Chain) -> bool:
        return plan.scopes[chain].window is not None

    def _plans(self) -> Iterator[tuple[int, ScopePlan, ScopePlan]]:
        for scope, (before, after) in self.chains.items():
            yield scope, self.old.scopes[before], self.new.scopes[after]

    def _check_fired(self, moved: Snapshot) -> None:
        """A join fires once: nothing that is still to come may lead to one that has."""
        alive: dict[int, set[int]] = {scope: set() for scope in self.chains}
        fired = set(moved.joined)
        to_come = [(row.scope, row.place) for row in moved.items]
        for scope, _, plan in self._plans():
            if scope:
                to_come += ((self.parents[scope], j) for j in plan.joins.values() if (scope, j) not in fired)
        for scope, place in to_come:
            alive[scope].add(place)
            while scope:
                scope = self.parents[scope]
                alive[scope].add(place)
        for scope, _, plan in self._plans():
            there = {plan.component_of[place] for place in alive[scope]}
            awaited: set[int] = set()
            for component, after in enumerate(plan.successors):  # every edge leads to a higher number
                join = plan.joins.get(component)
                if join is not None and (scope, join) in fired and component in awaited:
                    name = self.new.places[join].spec.name
                    self.problems.append(f"the join {name} has run, and what is unfinished leads to it now")
                if component in awaited or component in there or (join is not None and (scope, join) not in fired):
                    awaited.update(after)

    def _depths(self, moved: Snapshot) -> Iterator[tuple[tuple[int, int], int]]:
        """How deep each component has been: as deep as its places were, and no less than what waits at its join."""
        waiting: dict[int, list[tuple[int, int]]] = {}
        for arrival in moved.arrivals:
            waiting.setdefault(arrival.scope, []).append((arrival.place, arrival.order[0] - 1))
        known: dict[int, dict[int, int]] = {}
        for (scope, component), depth in self.was.depths.items():
            known.setdefault(scope, {})[component] = depth
        for scope, before, after in self._plans():
            was, found = known.get(scope, {}), dict[int, int]()
            if self.fresh is not None and was:
                found = dict.fromkeys(range(len(after.predecessors)), max(was.values()))
            reached = [
                *((new, was.get(before.component_of[place], 0)) for place, new in self.places.items()),
                *waiting.get(scope, ()),
            ]
            for place, depth in reached:
                component = after.component_of[place]
                if component >= 0 and depth > found.get(component, 0):
                    found[component] = depth
            for component, depth in found.items():
                yield (scope, component), depth


def _same_joins(old: Plan, new: Plan) -> bool:
    """Whether the numbers that joins put into paths mean the same."""

    def joins(plan: Plan) -> dict[tuple[str, ...], list[str]]:
        names = [spec.name for spec in plan.graph.nodes]
        return {
            tuple(names[n] for n in chain): [plan.places[place].spec.name for place in sorted(scope.rank)]
            for chain, scope in plan.scopes.items()
        }

    before, after = joins(old), joins(new)
    same = all(after.get(chain, found) == found for chain, found in before.items())
    return same and old.most_joins in (0, new.most_joins)
