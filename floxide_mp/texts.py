"""Texts for a person: cut to what one reads, and without anything that a terminal would take for an order.

Pure, and used in every process.
"""

from __future__ import annotations

import re
from typing import Final

MOST_TEXT: Final = 32 << 10  # characters of a message or a traceback that are kept

# What moves a cursor, hides or reorders what is on a terminal: controls but for tab and newline, and those of Unicode.
_ORDERS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def clipped(text: str, most: int = MOST_TEXT) -> str:
    """Its head and its tail, ``most`` characters in all, and between them how many are left out."""
    if len(text) <= most:
        return text
    head = most // 2
    left_out = f"\n[... {len(text) - most} characters left out ...]\n"
    return text[:head] + left_out + text[len(text) - (most - head) :]


def printable(text: str) -> str:
    """With escapes in the place of control characters: ``\\x1b`` for the one that begins a terminal's orders."""
    return _ORDERS.sub(_escape, text)


def printable_line(text: str) -> str:
    """The same, on one line."""
    return printable(text).replace("\n", "\\n")


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
