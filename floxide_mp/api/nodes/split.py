"""``SplitNode``: a fan-out made of a function."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..context import Context
from ..node import Node, Way, called, way_of
from ..transition import NextAll


class SplitNode(Node):
    """Passes on every value of ``function(value)``, or ``function(ctx, value)``, by itself; there may be none.

    Args:
        function: gives an iterable, for which the same holds as for that of ``NextAll``.
    """

    _way: Way | None = None  # how the function is called: a worker gets it with the node

    def __init__(self, function: Callable[..., Iterable[Any]]) -> None:
        self.function = function

    def process(self, ctx: Context, value: Any) -> NextAll[Any]:
        """Apply the function."""
        return NextAll(called(self.function, self._way or way_of(self.function))(ctx, value))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_way": way_of(self.function)}

    def label(self) -> str:
        return f"SplitNode({getattr(self.function, '__name__', 'function')})"
