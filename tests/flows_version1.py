"""Stores as this package wrote them when the schema's version was 1 or 2, ``data``, and the workflow of a run in them.

What is in here of the workflow is not to be changed.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from floxide_mp import Context, EventLog, Join, NextAll, Workflow, node
from floxide_mp.stores.medium import write_private


@dataclass
class Log(Context):
    log: EventLog[int]


@node
def spread(numbers: list[int]) -> NextAll[int]:
    return NextAll(numbers)


@node
def square(ctx: Log, number: int) -> int:
    """Negative numbers fail, in the version that wrote the file."""
    ctx.log.append(number)
    if number < 0:
        raise ValueError(f"{number} is negative")
    return number * number


class Totals(Workflow):
    context = Log
    spread = spread
    square = square
    total = Join(sum, of="spread")
    start = spread
    edges = {spread: [square], square: [total]}


@node
def mended(ctx: Log, number: int) -> int:
    ctx.log.append(number)
    return number * number


def written_by(version: int, path: Path) -> None:
    """The runs of ``filled``, and "totals", which failed. Version 1 had no run that is ``filled.wide``."""
    text = (Path(__file__).parent / "data" / f"version{version}.sql").read_text()
    write_private(f"{path}.key", bytes.fromhex(text.splitlines()[0].removeprefix("-- key ")))
    connection = sqlite3.connect(path)
    connection.executescript(text)
    connection.close()
