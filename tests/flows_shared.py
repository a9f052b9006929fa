"""Workflows of large values, and a value like an array, which is a buffer that is pickled out of band."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
from dataclasses import dataclass
from pathlib import Path
from pickle import PickleBuffer
from typing import Any

from floxide_mp import Context, Fixed, Join, NextAll, Workflow, node, when
from tests.flows_faults import note

SIZE = 1 << 20


class Blob:
    """Some bytes that can be written to. Equal by content."""

    def __init__(self, data: Any) -> None:
        self.data = memoryview(data)

    @classmethod
    def of(cls, number: int, size: int = SIZE) -> Blob:
        return cls(bytearray([number % 251]) * size)

    def add(self, number: int) -> None:
        """To each byte, here and now."""
        self.data[:] = bytes(self.data).translate(bytes((n + number) % 251 for n in range(256)))

    def mark(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Blob) and self.data == other.data

    def __reduce__(self) -> Any:
        return type(self), (PickleBuffer(self.data),)


@dataclass
class Lap:
    """What goes round: in all the ways that a value can be large."""

    left: int
    blob: Blob
    text: bytes
    folder: str = ""


@node
def lap(one: Lap) -> Lap:
    assert set(one.text) <= {one.left % 256}
    one.blob.add(1)  # in place: nobody else sees it
    left = one.left - 1
    return Lap(left, one.blob, bytes([left % 256]) * len(one.text), one.folder)


class Laps(Workflow):
    lap = lap
    start = lap
    edges = {lap: {when(Lap, lambda one: one.left > 0): [lap], Lap: []}}


@node
def make(count: int) -> NextAll[Blob]:
    return NextAll(Blob.of(number) for number in range(count))


@node
def spoil(blob: Blob) -> Blob:
    """Writes to what the other branch reads, and keeps it."""
    blob.add(100)
    _kept.append((blob, blob.mark()))
    return blob


@node
def read(blob: Blob) -> Blob:
    return blob


class Twice(Workflow):
    """Two nodes get one and the same payload."""

    make, spoil, read = make, spoil, read
    all = Join(lambda arrived: [blob.data[0] for blob in arrived])
    start = make
    edges = {make: [spoil, read], spoil: [all], read: [all]}


class Wide(Workflow):
    make, read = make, read
    start = make
    edges = {make: [read]}


_kept: list[tuple[Blob, str]] = []


@node
def hoard(task: tuple[int, Blob, bool]) -> tuple[int, Blob, bool]:
    """Puts its input away, and looks whether all that it has put away is as it was."""
    left, blob, forks = task
    assert [kept.mark() for kept, _ in _kept] == [mark for _, mark in _kept]
    if left % 10 == 0:
        _kept.append((blob, blob.mark()))
    made = Blob(bytearray(blob.data))
    made.add(1)
    return left - 1, made, forks


class Hoards(Workflow):
    hoard = hoard
    start = hoard
    edges = {hoard: {when(tuple, lambda task: task[0] > 0): [hoard], tuple: []}}


@node
def leave_child(task: tuple[str, Blob]) -> tuple[str, int]:
    """A child that outlives the step looks at the input when it is told to."""
    folder, blob = task
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(tell)
        os.read(told, 1)
        note(folder, "child", int(set(blob.data) == {7}))
        os._exit(0)
    os.close(told)
    _children[child] = tell
    return folder, child


@node
def overwrite(task: tuple[str, int]) -> tuple[str, int, Blob]:
    return *task, Blob.of(9)


@node
def let_child_look(task: tuple[str, int, Blob]) -> int:
    _, child, _ = task
    os.write(_children.pop(child), b"x")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


_children: dict[int, int] = {}


class Forks(Workflow):
    """On one worker."""

    leave, overwrite, look = leave_child, overwrite, let_child_look
    start = leave
    edges = {leave: [overwrite], overwrite: [look]}


class Model(Blob):
    """Leaves a line in a file each time that it is unpickled."""

    def __init__(self, data: Any, folder: str) -> None:
        super().__init__(data)
        self.folder = folder

    def __reduce__(self) -> Any:
        return _opened, (PickleBuffer(self.data), self.folder)


def _opened(data: Any, folder: str) -> Model:
    note(folder, "opened", os.getpid())
    return Model(data, folder)


@dataclass
class Given(Context):
    model: Fixed[Model]


@node
def count(ctx: Given, number: int) -> NextAll[int]:
    return NextAll(range(number))


@node
def apply(ctx: Given, number: int) -> int:
    return ctx.model.get().data[number] + number


class Applies(Workflow):
    context = Given
    count, apply = count, apply
    start = count
    edges = {count: [apply]}


@node
def die_once(task: tuple[str, int, Blob]) -> tuple[str, int, Blob]:
    """The worker is killed in the node, once for each item."""
    folder, number, blob = task
    mark = Path(folder, f"died {number}")
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    assert set(blob.data) == {number}
    return folder, number, Blob.of(number + 100)


@node
def spread(folder: str) -> NextAll[tuple[str, int, Blob]]:
    return NextAll((folder, number, Blob.of(number)) for number in range(6))


@node
def check(task: tuple[str, int, Blob]) -> tuple[str, int, Blob]:
    _, number, blob = task
    assert set(blob.data) == {number + 100}
    return task


class Dies(Workflow):
    spread, die, check = spread, die_once, check
    start = spread
    edges = {spread: [die], die: [check]}


@node
def bounded(size: int) -> Blob:
    """This worker may write no more than that to any file."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    return Blob.of(5)


@node
def unbounded(blob: Blob) -> bytes:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    return bytes(blob.data)


class Bounded(Workflow):
    bounded, unbounded = bounded, unbounded
    start = bounded
    edges = {bounded: [unbounded]}
