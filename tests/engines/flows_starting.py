"""Workflows that say what their worker was started from, or leave it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from floxide_mp import NextAll, Workflow, node
from tests import flows_run


@node
def numbers(count: int) -> NextAll[int]:
    return NextAll(list(range(count)))


@node
def prints_in_c(number: int) -> dict[int, str]:
    """Write to the standard streams by their numbers, as C code does; where they lead to."""
    for stream in (0, 1, 2):
        try:
            os.write(stream, b"printed by a library\n" * 10)
        except OSError:
            pass  # that one cannot be written to
    return {stream: os.readlink(f"/proc/self/fd/{stream}") for stream in (0, 1, 2)}


class PrintsInC(Workflow):
    numbers = numbers
    prints_in_c = prints_in_c
    start = numbers
    edges = {numbers: [prints_in_c]}


@node
def surroundings(_: None) -> tuple[str, str, list[str]]:
    return os.getcwd(), os.environ["OF_96"], sys.argv


class Surroundings(Workflow):
    surroundings = surroundings
    start = surroundings


@node
def nested(number: int) -> list[int]:
    return list(flows_run.Echo().run(number, workers=1).outputs)


class Nested(Workflow):
    nested = nested
    start = nested


def _leave_the_group(path: str) -> None:
    os.setpgid(0, os.getpgid(os.getppid()))
    if path:
        Path(path).touch()
    time.sleep(600)  # until it is ended


class LeavesItsGroup(Workflow):
    leaves = node(_leave_the_group)
    start = leaves


class LeavesItsGroupForASecond(Workflow):
    leaves = node(timeout=1.0)(_leave_the_group)
    start = leaves
