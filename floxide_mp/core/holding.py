"""``Holding``: how steps come to their end, between ``giving`` and ``state``; and what is held until a step of its node
passes something on.
"""

from __future__ import annotations

from typing import NamedTuple

from .plan import Place, Plan
from .progress import NOTHING
from .records import ItemRecord, Scope
from .streams import Giving, Write
from .transitions import ItemFact


class Kept(NamedTuple):
    """An item that is held, and alive for the joins behind it. Its value is not kept here."""

    id: int
    place: int
    scope: Scope


class Holding(Giving):
    """A run whose steps may hold.

    Args:
        plan: the graph, with its scopes.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.held: dict[int, list[int]] = {}  # node -> items, while no step of it has passed anything on
        self.kept: dict[int, list[Kept]] = {}  # ... and those of them that joins wait for, and that may start over
        self._passed: set[int] = set()
        self._completed = 0

    def hold(self, item: ItemRecord, writes: tuple[Write, ...]) -> None:
        """A step ended its branch for now."""
        place = self.plan.places[item.place]
        source = self._given_all(item)  # of an attempt before
        given = source.given if source else NOTHING
        own = self._write(item.order, place, writes, given) and source is None  # then the writes can be withdrawn
        held = place.node not in self._passed and place.spec.window is None  # of a batch, it just adds nothing
        if held:
            self.held.setdefault(place.node, []).append(item.id)
        if held and own and self.plan.keeps_held[item.place]:
            self._keep(item, place)
        else:
            self._finish(item, ItemFact.HELD)
            self._count(place, 1, passed=False)
            if held:
                self._commit.held.append((place.node, item.id))
            if source is not None and source.scope is not item.scope:
                self._settle_all(source.scope)
            self._leave(item)
        self._check_end()

    # -- inside --------------------------------------------------------------------------------------

    def _keep(self, item: ItemRecord, place: Place) -> None:
        """It is held, and what it was given stays in the store, where it is looked for if it is to start over."""
        self._unlease(item, ItemFact.HELD)
        del self.items[item.id]
        self.bytes -= item.size
        self._commit.changed.append(item)
        self.kept.setdefault(place.node, []).append(Kept(item.id, item.place, item.scope))

    def _let_go(self, node: int) -> None:
        """What the node held is over."""
        self.held.pop(node, None)
        for number, place, scope in self.kept.pop(node, ()):
            self._commit.finished.append(number)
            self._count(self.plan.places[place], 1, passed=False)
            self._exit(place, scope, 1)

    def _finish(self, item: ItemRecord, fact: ItemFact) -> Place:
        self._unlease(item, fact)
        del self.items[item.id]
        self.bytes -= item.size
        self._commit.finished.append(item.id)
        return self.plan.places[item.place]

    def _count(self, place: Place, steps: int, passed: bool = True) -> None:
        """So many steps are completed, and ``passed`` something on, or held."""
        self._completed += steps
        done, name = self._commit.done, place.spec.name
        done[name] = done.get(name, 0) + steps
        if passed and place.node not in self._passed:
            self._passed.add(place.node)
            self._commit.passed.append(place.node)
            if self.held:
                self._let_go(place.node)
