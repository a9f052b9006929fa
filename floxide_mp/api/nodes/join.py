"""``Join``: the fan-in. When it fires is decided in ``core``; here is what it does with what arrived."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..context import Context
from ..node import OPTIONS, Node, Way, called, way_of


class Arrivals(list[Any]):
    """What reached a join, in the run's order: a list, with ``by_node`` to tell the branches apart."""

    def __init__(self, pairs: Iterable[tuple[str, Any]] = ()) -> None:
        pairs = list(pairs)
        super().__init__(value for _, value in pairs)
        self.nodes: tuple[str, ...] = tuple(name for name, _ in pairs)

    @property
    def by_node(self) -> dict[str, list[Any]]:
        """The values by the name of the node they came from; a node from which nothing came is an empty list."""
        found = _Branches()
        for name, value in zip(self.nodes, self, strict=True):
            found.setdefault(name, []).append(value)
        return found

    def __reduce__(self) -> Any:
        return Arrivals, (list(zip(self.nodes, self, strict=True)),)


class _Branches(dict[str, list[Any]]):
    def __missing__(self, name: str) -> list[Any]:
        return []


class Join(Node):
    """Fires once per scope, when nothing that is alive in the scope can reach it any more.

    Args:
        function: reduces what arrived, ``f(arrivals)`` or ``f(ctx, arrivals)``, and returns like any node;
            without one the list goes on as it is.
        of: the node whose every fan-out is a scope of its own; None: the whole run is the one scope.
        retry, timeout, serial: as on ``Node``.

    It fires also when nothing arrived (an empty split, branches not taken), with an empty list. What arrived is an
    ``Arrivals``, in the order of the one-process run.

    Raises:
        TypeError: for another option.
    """

    _way: Way | None = None  # how the function is called: a worker gets it with the node

    def __init__(
        self,
        function: Callable[..., Any] | None = None,
        of: Node | str | None = None,
        **options: Any,
    ) -> None:
        self.function = function
        self.of = of
        for name, value in options.items():
            if name not in OPTIONS:
                raise TypeError(f"Join has no option {name!r}")
            setattr(self, name, value)

    def process(self, ctx: Context, arrivals: Arrivals) -> Any:
        """Apply the function."""
        if self.function is None:
            return arrivals
        return called(self.function, self._way or way_of(self.function))(ctx, arrivals)

    def __getstate__(self) -> dict[str, Any]:
        # The graph knows the scope; sending its node along would send it twice.
        way = None if self.function is None else way_of(self.function)
        return {**self.__dict__, "of": None, "_way": way}
