"""What ``ctx.item.seed`` hangs on for nodes with a ``seed_key``, in the process that runs the step."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

from ..api.context import Context
from ..api.node import Call


def keyed(call: Call, seed_key: Callable[[Any], Any]) -> Call:
    """The node as a function of context and value that first says what the item's seed hangs on: the value as it is
    before the node has it.
    """

    def call_with_key(ctx: Context, value: Any) -> Any:
        step = ctx.__dict__["_step"]
        step.touched, step.key = True, text_of(seed_key(value))
        return call(ctx, value)

    return call_with_key


def text_of(key: Any) -> str:
    """A key as a text, which is the same in each process and for equal keys.

    Raises:
        TypeError: it is of a kind of which that cannot be said.
    """
    if isinstance(key, tuple):
        return "(" + ",".join(map(text_of, key)) + ")"
    if isinstance(key, numbers.Integral):
        return repr(int(key))
    if isinstance(key, numbers.Real) and not isinstance(key, numbers.Rational):
        return repr(float(key))
    if isinstance(key, str):
        return repr(str(key))
    if isinstance(key, bytes):
        return repr(bytes(key))
    raise TypeError(f"seed_key must give a number, a text, bytes, or a tuple of such, not a {type(key).__name__}")
