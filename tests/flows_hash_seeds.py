"""Workflows whose results hang on the hash seed of the process that runs them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from floxide_mp import NextAll, Workflow, node


@node
def numbers(count: int) -> NextAll[int]:
    return NextAll(list(range(count)))


@node
def hashed(number: int) -> tuple[int, str, int]:
    """The hash of a text, what the worker has in its environment, and who it is."""
    return hash("text"), os.environ["PYTHONHASHSEED"], os.getpid()


class Hashes(Workflow):
    numbers = numbers
    hashed = hashed
    start = numbers
    edges = {numbers: [hashed]}


@node
def die_once(folder: str) -> NextAll[str]:
    """Values in the order of a set, of which the worker that gives them dies in the middle, once."""
    return NextAll(_texts(Path(folder, "died")))


def _texts(died: Path) -> Iterator[str]:
    for number, text in enumerate({f"text {n}" for n in range(6000)}):
        if number == 4500 and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        yield text


@node
def same(text: str) -> str:
    return text


class OfASet(Workflow):
    die_once = die_once
    same = same
    start = die_once
    edges = {die_once: [same]}


@node
def slow(number: int) -> int:
    time.sleep(0.02)  # work: each of many steps takes so long
    return hash("text")


class Slow(Workflow):
    numbers = numbers
    slow = slow
    start = numbers
    edges = {numbers: [slow]}
