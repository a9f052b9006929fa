"""Workflows that wait until the check lets them go on, or that harm the worker they run on, and the ``Gate`` that
they wait at: a directory, since steps may run anywhere on this machine.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from ..api.node import Node, node, with_options
from ..api.nodes import BatchNode, Join, SplitNode
from ..api.retry import RetryError, RetryPolicy
from ..api.workflow import Workflow
from ..clock import monotonic, sleep
from .workflows import Log

PATIENCE: Final = 60.0  # seconds until a step gives up its gate: then its check is long over


class Gate:
    """Closed from ``close`` to ``open``. ``trace`` is what steps have noted at it, in order."""

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)

    def note(self, word: str) -> None:
        """A line more, whole whoever else writes."""
        file = os.open(os.path.join(self.path, "trace"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, f"{word}\n".encode())
        finally:
            os.close(file)

    @property
    def trace(self) -> list[str]:
        try:
            return Path(self.path, "trace").read_text().split()
        except FileNotFoundError:
            return []

    def close(self) -> None:
        Path(self.path, "closed").touch()

    def open(self) -> None:
        Path(self.path, "closed").unlink(missing_ok=True)

    @property
    def is_open(self) -> bool:
        """Also when the check is over and its directory is gone: a step that was given up may still be there."""
        return not os.path.exists(os.path.join(self.path, "closed"))

    def enter(self) -> None:
        """Note "in", and wait until it is open."""
        self.note("in")
        until(lambda: self.is_open, PATIENCE)


def until(true: Callable[[], Any], limit: float) -> None:
    """A bounded poll: across processes there is nothing to wait on that a killed one would not spoil.

    Raises:
        TimeoutError: it was not true within ``limit`` seconds.
    """
    end = monotonic() + limit
    while not true():
        if monotonic() > end:
            raise TimeoutError("what was waited for did not happen")
        sleep(0.002)


class Job(NamedTuple):
    """A gate's path, and a number."""

    path: str
    number: int


# -- what may be behind a step, or in its place -----------------------------------------------------------------------


@node
def after(ctx: Log, path: str) -> str:
    ctx.log.append(("after", path))
    Gate(path).note("after")
    return "through"


@node
def fallback(ctx: Log, given: Any) -> str:
    Gate(given.path if isinstance(given, Job) else given).note("fallback")
    return f"fallback after {type(ctx.item.error).__name__}"


# -- steps that wait --------------------------------------------------------------------------------------------------


@node
def at_gate(ctx: Log, path: str) -> str:
    ctx.log.append(("gate", path))
    Gate(path).enter()
    return path


class Gates(Workflow):
    """A step at each of many gates."""

    context = Log
    split, gate = SplitNode(list), at_gate
    start = split
    edges = {split: [gate]}


class Gated(Workflow):
    """The same, and a step behind each."""

    context = Log
    split, gate, after, fallback = SplitNode(list), at_gate, after, fallback
    start = split
    edges = {split: [gate], gate: [after]}
    on_failure = {gate: [fallback]}


@node
def slowly(ctx: Log, path: str) -> str:
    ctx.log.append("slowly")
    Gate(path).enter()
    sleep(0.1)
    return path


class Slowly(Workflow):
    """A step that is still at work for a while when its gate has been opened."""

    context = Log
    slowly, after = slowly, after
    start = slowly
    edges = {slowly: [after]}


@node
def asks(ctx: Log, path: str) -> str:
    gate = Gate(path)
    gate.note("in")
    until(lambda: ctx.cancelled or gate.is_open, PATIENCE)
    gate.note("told" if ctx.cancelled else "not told")
    return path


class Asking(Workflow):
    """A step that goes on until it is told that its run is cancelled, or the gate is opened."""

    context = Log
    asks, after, fallback = asks, after, fallback
    start = asks
    edges = {asks: [after]}
    on_failure = {asks: [fallback]}


@node
def turn(path: str) -> str | None:
    return None if Gate(path).is_open else path


class Turning(Workflow):
    """Quick steps without end, until the gate is open."""

    context = Log
    turn, end, fallback = turn, node(lambda: "through"), fallback
    start = turn
    edges = {turn: {str: [turn], None: [end]}}
    on_failure = {turn: [fallback]}


# -- steps that fail, or are too long ---------------------------------------------------------------------------------


@node
def mended(path: str) -> str:
    gate = Gate(path)
    gate.note("in")
    if not gate.is_open:
        raise LookupError("it is closed")
    return "through"


@node
def before(path: str) -> str:
    Gate(path).note("before")
    return path


class Mended(Workflow):
    """A step that fails until its gate is open, behind one that does not."""

    before, mended = before, mended
    start = before
    edges = {before: [mended]}


class InAnHour(Node):
    """Fails, and is tried again in an hour."""

    retry = RetryPolicy(2, initial_backoff=3600.0, max_backoff=3600.0)

    def process(self, path: str) -> str:
        Gate(path).note("in")
        raise ConnectionError("in an hour, perhaps")


class Patient(Workflow):
    split, later = SplitNode(list), InAnHour()
    start = split
    edges = {split: [later]}


class Late(Node):
    """Longer than it may be, in as many attempts as the job's number says."""

    timeout = 0.4
    retry = RetryPolicy(2, initial_backoff=0, retry_error=RetryError.TIMEOUT)

    def process(self, ctx: Log, job: Job) -> str:
        ctx.log.append((job.number, ctx.item.attempt))
        if ctx.item.attempt <= job.number:
            sleep(self.timeout * 3)
        return "in time"


class Timed(Workflow):
    context = Log
    split, late, fallback = SplitNode(list), Late(), fallback
    start = split
    edges = {split: [late]}
    on_failure = {late: [fallback]}


class WithoutEnd(Node):
    def __init__(self, timeout: float | None = None) -> None:
        self.timeout = timeout

    def process(self, path: str) -> str:
        Gate(path).note("in")
        while True:
            sleep(3600)


class Deaf(Workflow):
    """A step that never ends by itself."""

    context = Log
    deaf, after, fallback = WithoutEnd(), after, fallback
    start = deaf
    edges = {deaf: [after]}
    on_failure = {deaf: [fallback]}


class SlowToCome(WithoutEnd):
    """Takes longer to be imported than it may run."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        sleep(0.5)
        self.__dict__.update(state)


class DeafTimed(Workflow):
    """The same, with a time-out."""

    context = Log
    deaf, after, fallback = SlowToCome(timeout=0.2), after, fallback
    start = deaf
    edges = {deaf: [after]}
    on_failure = {deaf: [fallback]}


@node
def mortal(ctx: Log, number: int) -> int:
    """Number 7 ends its worker in its first attempt, negative ones do so in each."""
    ctx.log.append(number)
    if number < 0 or (number == 7 and ctx.item.attempt == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    return number


class Mortals(Workflow):
    context = Log
    split, mortal = SplitNode(list), mortal
    start = split
    edges = {split: [mortal]}


# -- steps that are counted -------------------------------------------------------------------------------------------


@node
def counted(job: Job) -> int:
    Gate(job.path).note(str(job.number))
    return job.number


class Counted(Workflow):
    split, counted, all = SplitNode(list), counted, Join(len)
    start = split
    edges = {split: [counted], counted: [all]}


@node
def in_and_out(ctx: Log, job: Job) -> int:
    """Returns how many were before it."""
    gate = Gate(job.path)
    gate.note("in")
    before = len(ctx.log)
    ctx.log.append(job.number)
    gate.note("out")
    return before


class Serially(Workflow):
    context = Log
    split, one = SplitNode(list), with_options(in_and_out, serial=True)
    start = split
    edges = {split: [one]}


class Batched(Workflow):
    context = Log
    batch = BatchNode(node(lambda ctx, job: (in_and_out(ctx, job), job.number)[1]), 2)
    start = batch
