"""Texts for a person: cut to what one reads, without anything that a terminal would take for an order; and ``brief``,
which says in one line what a value is, at a cost of little time and memory, however large the value is.

Pure, and used in every process. Users' ``__repr__`` is called for what is small, and may raise.
"""

from __future__ import annotations

import errno
import re
import reprlib
from collections.abc import Callable, Iterable, Sized
from dataclasses import fields, is_dataclass
from math import prod
from typing import Any, Final

MOST_TEXT: Final = 32 << 10  # characters of a message or a traceback that are kept
MOST_QUOTED: Final = 200  # characters of a user's value in a message

# What moves a cursor, hides or reorders what is on a terminal: controls but for tab and newline, and those of Unicode.
_ORDERS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def clipped(text: str, most: int = MOST_TEXT) -> str:
    """Its head and its tail, ``most`` characters in all, and between them how many are left out."""
    if len(text) <= most:
        return text
    head = most // 2
    left_out = f"\n[... {len(text) - most} characters left out ...]\n"
    return text[:head] + left_out + text[len(text) - (most - head) :]


def shown(value: Any) -> str:
    """The value's ``repr``, or something like it: a user's ``__repr__`` must not hide the real problem."""
    try:
        return repr(value)
    except Exception as error:
        return f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"


def quoted(value: Any, redact: bool = False) -> str:
    """What a message of ours says of a user's value: its ``repr``, ``MOST_QUOTED`` characters at the most; where the
    node has ``redact``, its type and no more."""
    if redact:
        return f"a {type(value).__name__} (its value is not shown: redact)"
    text = shown(value)
    return text if len(text) <= MOST_QUOTED else text[: MOST_QUOTED - 3] + "..."


def printable(text: str) -> str:
    """With escapes in the place of control characters: ``\\x1b`` for the one that begins a terminal's orders."""
    return _ORDERS.sub(_escape, text)


def printable_line(text: str) -> str:
    """The same, on one line."""
    return printable(text).replace("\n", "\\n")


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def explained(error: BaseException, otherwise: Callable[[BaseException], str] = str) -> str:
    """What an error of the operating system says, and what a program can do where that is not what it seems.

    Args:
        otherwise: gives the text of any other error.
    """
    if not isinstance(error, OSError):
        return otherwise(error)
    text = str(error)
    if error.errno == errno.EFBIG:
        return f"{text}{size_limit()}"
    if error.errno == errno.EBADF:
        return (
            f"{text}: the program has closed a file descriptor of the coordinator, which it had not opened itself "
            "(os.closerange, os.close, a daemon library): it does so before there is a coordinator, or closes it first"
        )
    return text


def size_limit() -> str:
    """The limit of the size of files, where this process has one, as the end of a sentence; else ""."""
    import resource  # (rare)

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if limit == resource.RLIM_INFINITY:
        return ""
    return f"; files of this process may have {limit:,} bytes (RLIMIT_FSIZE, `ulimit -f`): raise that limit"


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
