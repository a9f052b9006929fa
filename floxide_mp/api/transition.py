"""What a node returns: the four transitions. How they are routed is ``route``; what follows is ``core``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Next(Generic[T]):
    """Go on with ``value``. Returning a plain value means the same."""

    value: T


@dataclass(frozen=True, slots=True)
class NextAll(Generic[T]):
    """Fan out: every value goes on by itself. Any iterable will do; it may be empty.

    A text, ``bytes``, and a named tuple are values, not iterables of them: ``NextAll("abc")`` fails the attempt with a
    ``TypeError``, as does what is no iterable. Write ``NextAll(["abc"])``, or ``NextAll(list("abc"))`` where the
    letters are meant.

    What an **iterator** gives (a generator, ``map``, a file) is taken as fast as it is worked off, so it may be huge,
    or without an end. It is committed in portions, with how many values they were. After a crash, a failed attempt or
    a resume it is **started again, and so many values are passed over**: so it must give the same values in the same
    order each time, and what it does to the rest of the world it does again. Once its first portion is committed,
    what it gave stays given, also if it raises later. A time-out is that of a portion.

    The iterator of a serial node, of a loop of one's own (``step_distributed``) or on an executor is taken at once, as
    a list is.
    """

    values: Iterable[T]


@dataclass(frozen=True, slots=True)
class Hold:
    """End this branch for now, without an output: a later step of the same node speaks for it.

    A run that comes to its end while every step of some node held fails and lists the held items,
    since nothing can release them any more. Resumed, it starts them over, without what they wrote to the context.
    """


@dataclass(frozen=True, slots=True)
class Abort:
    """Fail this item now: no retry, straight to ``on_failure``, or else the run fails.

    ``error`` is an exception, or a text that becomes a ``FloxideError``; ``on_failure`` finds it in ``ctx.item.error``.
    """

    error: BaseException | str


Transition: TypeAlias = Next[Any] | NextAll[Any] | Hold | Abort
