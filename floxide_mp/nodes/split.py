"""``SplitNode``: a fan-out made of a function."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..context import Context
from ..node import Node, calling
from ..transition import NextAll


class SplitNode(Node):
    """Passes on every value of ``function(value)``, or ``function(ctx, value)``, by itself; there may be none.

    Args:
        function: gives an iterable, for which the same holds as for that of ``NextAll``.
    """

    def __init__(self, function: Callable[..., Iterable[Any]]) -> None:
        self.function = function

    def process(self, ctx: Context, value: Any) -> NextAll[Any]:
        """Apply the function."""
        return NextAll(calling(self.function)(ctx, value))

    def label(self) -> str:
        return f"SplitNode({getattr(self.function, '__name__', 'function')})"
