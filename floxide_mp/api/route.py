"""Routes: which arm of a node's edges a value takes. The worker asks; the core only learns the arm's number."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import FloxideError
from ..texts import quoted


@dataclass(frozen=True, slots=True, eq=False)
class when:  # noqa: N801  (reads as a word in a graph: ``when(Declined, lambda d: d.retryable)``)
    """An arm with conditions.

    Args:
        key: a type, an enum member, a literal value or a predicate, as any arm.
        guard: the arm matches only if ``guard(value)`` is true.
        take: what goes on is ``take(value)`` instead of the value.
    """

    key: Any
    guard: Callable[[Any], Any] | None = None
    take: Callable[[Any], Any] | None = None


def matches(key: Any, value: Any) -> bool:
    """Whether ``value`` takes the arm ``key``. A literal also asks for the same type: ``1`` is not ``True``."""
    if isinstance(key, when):
        return matches(key.key, value) and (key.guard is None or bool(key.guard(value)))
    if isinstance(key, type):
        return isinstance(value, key)
    if callable(key):
        return bool(key(value))
    return type(value) is type(key) and bool(value == key)


def choose(keys: Sequence[Any], value: Any, redact: bool = False) -> tuple[int, Any]:
    """The number of the first arm that matches, and the value that goes on.

    Args:
        keys: of the arms.
        value: what the node returned.
        redact: whether an error must not say the value.

    Raises:
        FloxideError: if none matches; the text says the value and the arms.
    """
    for number, key in enumerate(keys):
        if matches(key, value):
            take = key.take if isinstance(key, when) else None
            return number, value if take is None else take(value)
    arms = ", ".join(map(describe, keys))
    nearly = "" if redact else _nearly(keys, value)
    raise FloxideError(f"no arm matches {quoted(value, redact)}; the arms are: {arms}{nearly}")


def _nearly(keys: Sequence[Any], value: Any) -> str:
    """What to do where the value equals a literal of another type, as ``np.True_`` does ``True``."""
    for key in map(key_of, keys):
        try:
            near = not isinstance(key, type) and not callable(key) and bool(key == value)
        except Exception:
            near = False
        if near:
            kind, wanted = type(value), type(key).__name__
            whose = f"{kind.__module__.partition('.')[0]} {kind.__name__}".removeprefix("builtins ")
            return f"; it equals {describe(key)}, but is a {whose}: return {wanted}(...)"
    return ""


def key_of(key: Any) -> Any:
    """The type, enum member, value or predicate of an arm, whatever the conditions around it."""
    while isinstance(key, when):
        key = key.key
    return key


def describe(key: Any) -> str:
    """An arm's key as a person would write it."""
    if isinstance(key, when):
        guard = [_named(key.guard, "guard")] if key.guard is not None else []
        take = [f"take={_named(key.take, 'function')}"] if key.take is not None else []
        return f"when({', '.join([describe(key.key), *guard, *take])})" if guard or take else describe(key.key)
    if isinstance(key, enum.Enum) and key.name:
        return f"{type(key).__name__}.{key.name}"
    return _named(key, quoted(key))


def _named(value: Any, otherwise: str) -> str:
    name = getattr(value, "__name__", None)
    return name if isinstance(name, str) else otherwise
