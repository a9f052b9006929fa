"""What the user's own classes say of two values: which objects in them are equal, and which attributes count. In the
caller's process.

It is asked where the pickles of two values differ: a class may have an ``__eq__`` that leaves out what means nothing
(a time, an ``id``). That of builtins and libraries is not asked, nor one that is inherited from them: ``1 == True``, a
``dict`` with attributes of its own is equal to one with others, and arrays, columns of a table and symbols answer with
something that is not a truth value. So only an ``__eq__`` of the user's own code counts, between objects of one class,
and only if it returns ``True`` itself.
"""

from __future__ import annotations

import copyreg
import dataclasses
import io
from collections.abc import Hashable
from types import FunctionType
from typing import Any, Final

from ..wire.by_value import Pickler
from ..wire.reached import is_users

MOST: Final = 1 << 16  # comparisons, besides that of each object with the one at its place in the other value


def equal(first: Any, second: Any) -> bool:
    """Whether the class of both, which is the user's own, says that they are equal."""
    try:
        return type(first) is type(second) and _asks(type(first)) and (first == second) is True
    except Exception:  # it is the user's code
        return False


def agreed(first: Any, second: Any) -> tuple[bytes, bytes] | None:
    """Pickles of two values, for a reader without classes: objects that are equal by their own class are a number, the
    same one in both, and dataclasses (those of attrs, too) have only the fields that their ``==`` looks at.

    Returns:
        None: there is nothing of that in them.

    Raises:
        Exception: of the user's code that pickles.
    """
    found = _Finder(), _Finder()
    for finder, value in zip(found, (first, second), strict=True):
        finder.dump(value)
    numbers = _numbers(found[0].asked, found[1].asked)
    if not numbers and not any(finder.generated for finder in found):
        return None
    return _written(first, numbers), _written(second, numbers)


def _written(value: Any, numbers: dict[int, int]) -> bytes:
    stream = io.BytesIO()
    pickler = _Agreeing(stream, 5)
    pickler.numbers = numbers
    pickler.dump(value)
    return stream.getvalue()


def _numbers(first: list[Any], second: list[Any]) -> dict[int, int]:
    """By identity, the number of each object that has an equal one in the other value. Equal ones have one number."""
    kinds: dict[Hashable, list[tuple[int, Any]]] = {}  # one object for each number
    found: dict[int, int] = {}
    left = MOST

    def look(value: Any) -> int | None:
        nonlocal left
        for number, one in kinds.get(_kind(value), ()):
            left -= 1
            if left < 0:
                break
            if equal(one, value):
                return number
        return None

    for value in first:
        if id(value) not in found:
            number = look(value)
            found[id(value)] = len(found) if number is None else number
            if number is None:
                kinds.setdefault(_kind(value), []).append((found[id(value)], value))
    both = set[int]()
    for at, value in enumerate(second):
        there = first[at] if at < len(first) and equal(first[at], value) else None
        number = look(value) if there is None else found[id(there)]
        if number is not None:
            both.add(number)
            found[id(value)] = number
    return {one: number for one, number in found.items() if number in both}


def _kind(value: Any) -> Hashable:
    """What equal objects have in common."""
    try:
        return type(value), hash(value)
    except Exception:
        return type(value), None


class _Finder(Pickler):
    """Finds the objects whose classes are asked."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), 5, lambda buffer: False)  # large buffers are not copied: no object is in them
        self.asked: list[Any] = []  # in the order that they are pickled in; kept, so that no other has their identity
        self.generated = False  # whether there is a dataclass, or one of attrs

    def persistent_id(self, value: Any) -> None:
        if _asks(type(value)):
            self.asked.append(value)
        elif _compared(type(value)) is not None:
            self.generated = True


class _Agreeing(Pickler):
    numbers: dict[int, int]

    def persistent_id(self, value: Any) -> int | None:
        return self.numbers.get(id(value))

    def reducer_override(self, value: Any) -> Any:
        names = _compared(type(value))
        if names is None:
            return super().reducer_override(value)
        state = {name: getattr(value, name) for name in names if hasattr(value, name)}
        return copyreg.__newobj__, (type(value),), state  # type: ignore[attr-defined]


def _own(kind: type) -> Any:
    """The class's ``__eq__``, if it is of the user's own code."""
    if not kind.__flags__ & _HEAP:
        return None
    found = next((vars(base)["__eq__"] for base in kind.__mro__ if "__eq__" in vars(base)), None)
    return found if isinstance(found, FunctionType) and is_users(found.__module__) else None


def _asks(kind: type) -> bool:
    """Whether the user has written how objects of a class are compared."""
    own = _own(kind)
    return own is not None and not _is_generated(own)


def _compared(kind: type) -> list[str] | None:
    """The attributes that an ``__eq__`` compares that ``dataclass`` or attrs has written; these are then compared as
    everything else is: a field that is 1 is not one that is True.
    """
    own = _own(kind)
    if own is None or not _is_generated(own) or any(base.__flags__ & _HEAP == 0 for base in kind.__mro__[:-1]):
        return None  # that of a builtin has more in it than its fields
    if _is_attrs(own):
        return [field.name for field in kind.__attrs_attrs__ if field.eq]  # type: ignore[attr-defined]
    return [field.name for field in dataclasses.fields(kind) if field.compare]


def _is_generated(method: FunctionType) -> bool:
    return method.__code__.co_qualname.startswith("__create_fn__.") or _is_attrs(method)


def _is_attrs(method: FunctionType) -> bool:
    return method.__code__.co_filename.startswith("<attrs generated ")


_HEAP: Final = 1 << 9  # of classes that were not made in C
