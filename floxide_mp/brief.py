"""``brief``: what a value is, in a line that costs little time and memory, however large the value is.

Pure, and used in every process. Users' ``__repr__`` is called for what is small, and may raise.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Sized
from dataclasses import fields, is_dataclass
from math import prod
from typing import Any, Final

from .texts import MOST_QUOTED, printable_line

MOST_PARTS: Final = 20  # of a container, or of an object's fields, that are shown
LARGE: Final = 1000  # elements of what is not shown at all, but named with its size
_TEXTS: Final[tuple[Any, ...]] = (str.__repr__, bytes.__repr__, bytearray.__repr__)


def brief(value: Any) -> str:
    """The value's ``repr`` without control characters, ``MOST_QUOTED`` characters at the most; of what is large, or has
    a ``repr`` that raises, type and size."""
    text = printable_line(_BRIEF.repr1(value, _BRIEF.maxlevel))
    return text if len(text) <= MOST_QUOTED else text[: MOST_QUOTED - 3] + "..."


class _Brief(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 4, MOST_QUOTED, MOST_QUOTED
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdict = self.maxdeque = MOST_PARTS

    def repr1(self, x: Any, level: int) -> str:
        try:
            return self._shown(x, type(x), level)
        except Exception as error:
            return f"a {type(x).__name__} whose repr raised {type(error).__name__}"

    def _shown(self, x: Any, kind: type, level: int) -> str:
        own: Any = kind.__repr__
        if own in _TEXTS:
            return repr(x) if len(x) <= MOST_QUOTED else repr(x[:MOST_QUOTED]) + "..."
        if own is list.__repr__:
            return self.repr_list(x, level)
        if own is dict.__repr__ and len(x) <= LARGE:
            return self.repr_dict(x, level)
        if own is tuple.__repr__:
            return self.repr_tuple(x, level)
        if is_dataclass(kind) and hasattr(own, "__wrapped__"):  # the one that ``@dataclass`` has made
            names = [field.name for field in fields(kind) if field.repr]
            return f"{kind.__qualname__}({self._fields(x, names, level)})"
        if isinstance(x, tuple) and hasattr(kind, "_fields"):
            return f"{kind.__qualname__}({self._fields(x, kind._fields, level)})"
        if own is object.__repr__:
            return f"<{kind.__qualname__} {self._fields(x, getattr(x, '__dict__', ()), level)}>".replace(" >", ">")
        if (size := _size(x, kind)) is not None:
            return f"a {kind.__name__} of {size}"
        return repr(x)

    def _fields(self, x: Any, names: Iterable[str], level: int) -> str:
        if level <= 0:
            return "..."
        names = list(names)
        shown = [f"{name}={self.repr1(getattr(x, name), level - 1)}" for name in names[:MOST_PARTS]]
        return ", ".join(shown if len(names) <= MOST_PARTS else [*shown, "..."])


def _size(x: Any, kind: type) -> str | None:
    """How large it is, if it is too large to be shown."""
    shape = getattr(x, "shape", None)
    if isinstance(shape, tuple):
        return f"shape {shape}" if prod(shape) > MOST_PARTS else None
    if kind is range or not isinstance(x, Sized) or (length := len(x)) <= LARGE:
        return None
    return f"{length:,} elements"


_BRIEF: Final = _Brief()
