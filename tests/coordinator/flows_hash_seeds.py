"""Workflows whose results hang on the hash seed of the process that runs them."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from floxide_mp import NextAll, RunStatus, StepBackend, Workflow, node
from tests.flows_run import until


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
def end_program(folder: str) -> NextAll[str]:
    """Values in the order of a set, in the middle of which the whole program ends, once."""
    return NextAll(_of_a_set(Path(folder), {f"text {n}" for n in range(6000)}))


@node
def end_program_in_order(folder: str) -> NextAll[str]:
    return NextAll(_of_a_set(Path(folder), [f"text {n}" for n in range(6000)]))


def _of_a_set(folder: Path, texts: Iterable[str]) -> Iterator[str]:
    for number, text in enumerate(texts):
        if number == 4500 and not (folder / "died").exists():
            (folder / "died").touch()
            until(lambda: _given(folder) >= 2048)
            os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
        yield text


def _given(folder: Path) -> int:
    """How many values of the iterator are in the store."""
    with closing(sqlite3.connect(folder / "runs.db")) as connection:
        found = connection.execute("SELECT value FROM marks WHERE kind = 'given' AND b = 0").fetchall()
    return sum(value for (value,) in found)


@node
def same(text: str) -> str:
    return text


class EndsProgram(Workflow):
    end_program = end_program
    same = same
    start = end_program
    edges = {end_program: [same]}


class EndsProgramInOrder(Workflow):
    end_program_in_order = end_program_in_order
    same = same
    start = end_program_in_order
    edges = {end_program_in_order: [same]}


@node
def part_of(number: int) -> int:
    return hash("text")


class Parts(Workflow):
    numbers = numbers
    part_of = part_of
    start = numbers
    edges = {numbers: [part_of]}


def loop(backend: StepBackend, worker_id: int, run_id: str) -> None:
    """A loop of one's own."""
    while backend.info(run_id).status is RunStatus.RUNNING:
        Parts().step_distributed(backend, worker_id)


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
