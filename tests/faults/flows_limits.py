"""Workflows that need more than there is: memory, threads, CPUs. Imported by the workers, so it imports little."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

from floxide_mp import Join, NextAll, Node, RetryPolicy, Workflow, node

MB = 1_000_000
_leak: list[bytearray] = []


def grow(size: int) -> bytearray:
    """So many bytes that are there, not only promised."""
    made = bytearray(size)
    made[:: resource.getpagesize()] = b"x" * len(made[:: resource.getpagesize()])
    return made


def fan(name: str, work: Node) -> type[Workflow]:
    """``work`` on each value of a list."""
    spread = node(_spread)
    return Workflow.build(name, nodes={"spread": spread, "work": work}, start="spread", edges={"spread": ["work"]})


def _spread(values: list[int]) -> NextAll[int]:
    return NextAll(values)


@node
def killed_at(size: int) -> int:
    """Killed when it has so many bytes; at 0 it is not."""
    if size:
        kept = grow(size)
        os.kill(os.getpid(), signal.SIGKILL)
        del kept
    return size


@node
def grows(size: int) -> int:
    return len(grow(size))


def starve(left: int) -> None:
    """This process may have ``left`` bytes more of address space than it has."""
    has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has + left, resource.getrlimit(resource.RLIMIT_AS)[1]))


def feed() -> None:
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def hungry(size: int) -> int:
    starve(50 * MB)
    try:
        return len(bytearray(size))
    finally:
        feed()


@node
def heavy(size: int) -> bytes:
    """Its result is there, and there is no room for its pickle."""
    feed()
    made = bytes(size)
    starve(50 * MB)
    return made


@node
def who(number: int) -> int:
    return os.getpid()


@node
def leaks(size: int) -> int:
    _leak.append(grow(size))
    return os.getpid()


@node
def environment(names: list[str]) -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in names}


@node
def wide(count: int) -> NextAll[int]:
    return NextAll(range(count))


@node
def same(number: int) -> int:
    return number


class Wide(Workflow):
    wide = wide
    same = same
    count = Join(len)
    start = wide
    edges = {wide: [same], same: [count]}


Killed = fan("Killed", killed_at)
Grows = fan("Grows", grows)
Hungry = fan("Hungry", node(hungry))
HungryTwice = fan("HungryTwice", node(retry=RetryPolicy(max_attempts=2, initial_backoff=0.001))(hungry))
Large = fan("Large", node(bytes))
Heavy = fan("Heavy", heavy)
Who = fan("Who", who)
Leaks = fan("Leaks", leaks)
Environment = Workflow.build("Environment", nodes={"environment": environment}, start="environment", edges={})
