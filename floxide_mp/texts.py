"""Texts for a person: cut to what one reads, and without anything that a terminal would take for an order.

Used in every process.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
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
