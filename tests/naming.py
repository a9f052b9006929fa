"""How tests are named that are given objects."""

from __future__ import annotations

import re


def without_address(value: object) -> str:
    """The text of a value, the same in each process: what runs parts of the suite side by side goes by it."""
    return re.sub(r" at 0x\w+", "", repr(value))
