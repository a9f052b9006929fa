"""The seed of ``hash(text)`` that the worker processes of a run have in common. Drawn in the coordinator's process.

Python draws a seed for each process, unless ``PYTHONHASHSEED`` gives it: so the order of a set of texts, or a text's
part by ``hash(text) % n``, would be another in each worker.
"""

from __future__ import annotations

import os
from typing import Final

NAME: Final = "PYTHONHASHSEED"
_MOST: Final = 2**32 - 1  # the largest that Python takes


def given() -> int | None:
    """The seed that the user has in the environment; None: there is none, or it is "random"."""
    text = os.environ.get(NAME, "")
    return int(text) if text.isascii() and text.isdigit() and int(text) <= _MOST else None


def drawn() -> int:
    """The seed that the user has in the environment, or a new one by chance: a whole number from 0 to 2**32 - 1."""
    seed = given()
    return int.from_bytes(os.urandom(4), "little") if seed is None else seed
