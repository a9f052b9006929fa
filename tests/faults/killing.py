"""Programs that are killed: started with a mark that all that comes of them carries, watched by what they write to a
history, ended by SIGKILL as a whole or in part. What they are to do, and what is right, is the ``soak_...``'s affair.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from tests.soak_parallel import with_mark

ROOT: Final = Path(__file__).parents[2]
LIMIT: Final = 60.0  # seconds, for everything that is waited for but a program's own work
MARK: Final = "FLOXIDE_SOAK"  # in the environment of a program, and of all that comes of it
WHOM: Final = ("worker", "program", "tree", "workers first")

Program = subprocess.Popen[bytes]


def note(home: str, *what: Any) -> None:
    """A line of the history. One write to the end of the file: the lines of all processes are in one order.

    It begins with the end of the line before it, which may be torn: its writer may have been killed.
    """
    descriptor = os.open(os.path.join(home, "history"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, b"\n" + json.dumps(what).encode())
    finally:
        os.close(descriptor)


class Killing:
    """The programs of one run, one after the other.

    Args:
        home: a directory that is made; the history is in it, and their temporary files and error streams.
        chance: decides who of several is killed.
        limit: seconds that a program may take without writing to the history.
    """

    def __init__(self, home: Path, chance: random.Random, limit: float = LIMIT) -> None:
        self.home, self.chance, self.limit = home, chance, limit
        self.counts: Counter[str] = Counter()
        self._mark = f"{MARK}={os.urandom(8).hex()}"
        self._begun = 0  # bytes of the history before this program
        (home / "tmp").mkdir(parents=True)

    @contextmanager
    def program(self, module: str, *arguments: object) -> Iterator[Program]:
        """``python -m module home arguments``. When it is over, and at the latest then, nobody of it is left.

        Raises:
            AssertionError: it hangs, or leaves somebody behind, or something was wrong with it but that it was killed.
        """
        name, _, value = self._mark.partition("=")
        places = {"TMPDIR": str(self.home / "tmp"), name: value, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", module, str(self.home), *map(str, arguments)]
        self._begun = self._size()
        self.counts["programs"] += 1
        with open(self.home / "stderr", "ab") as stderr:
            program = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **places}, stderr=stderr)
        try:
            yield program
            self._await(lambda: program.poll() is not None, "the program ends", self.limit)
            self._await(lambda: not self._family(), "nobody of the program is left")
            assert program.returncode in (0, -signal.SIGKILL), f"it returned {program.returncode}\n{self._errors()}"
        finally:
            for pid in self._family():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            program.wait()

    def until(self, what: str, count: int, delay: float, program: Program) -> None:
        """This program has so many such lines in the history, or is over; then ``delay`` seconds more."""
        mark = f'["{what}"'.encode()

        def reached() -> bool:
            return program.poll() is not None or self.history(self._begun).count(mark) >= count

        self._await(reached, f"{count} times {what}", self.limit)
        self.pause(delay, program)

    def pause(self, delay: float, program: Program) -> None:
        """So many seconds, or until it is over."""
        with suppress(subprocess.TimeoutExpired):
            program.wait(delay)

    def kill(self, program: Program, whom: str) -> None:
        """One of ``WHOM``, unless it is over. In the history before, and after it is dead and all are that must be."""
        if program.poll() is not None:
            self.counts["too late"] += 1
            return
        workers = _children(program.pid)
        if whom == "worker" and not workers:
            whom = "program"
        dying = {
            "worker": lambda: [self.chance.choice(workers)],
            "program": lambda: [program.pid],
            "tree": lambda: [program.pid, *workers],
            "workers first": lambda: [*workers, program.pid],
        }[whom]()
        with _watched(dying, program.pid) as pidfds:
            note(str(self.home), "killing", whom, dying)
            for pidfd in pidfds:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            self._await(lambda: all(map(_ended, pidfds)), "who is killed dies")
            if whom != "worker":
                program.wait(LIMIT)
                self._await(lambda: not self._family(), "all die with their program")
            note(str(self.home), "killed", whom)
        self.counts[f"killed: {whom}"] += 1
        self.counts[f"killed {self._phase()}"] += 1

    def history(self, since: int = 0) -> bytes:
        """What there is of it from byte ``since`` on."""
        with suppress(FileNotFoundError), open(self.home / "history", "rb") as history:
            history.seek(since)
            return history.read()
        return b""

    def check_files(self, files: set[str]) -> None:
        """Nothing is left in the way of files but these, and nobody complained.

        Raises:
            AssertionError: naming what there is.
        """
        found = {path.name for path in self.home.iterdir()}
        assert found <= {"history", "stderr", "tmp", *files}, found
        assert not (left := os.listdir(self.home / "tmp")), f"temporary files: {left}"
        text = self._errors()
        strange = [word for word in ("Traceback", "resource_tracker", "Exception ignored", "refused") if word in text]
        assert not strange, text

    def _size(self) -> int:
        history = self.home / "history"
        return history.stat().st_size if history.exists() else 0

    def _errors(self) -> str:
        return (self.home / "stderr").read_text()

    def _phase(self) -> str:
        """What the program, or a step of it, wrote before the kill."""
        lines = self.history(self._begun).split(b"\n")
        names = [line[2 : line.find(b'"', 2)].decode() for line in lines]
        last = [name for name in names if name not in ("", "killing", "killed")][-1:] or ["started by its parent"]
        return "in the middle" if last[0] in ("did", "end", "told", "looked", "paused") else f"after it {last[0]}"

    def _family(self) -> list[int]:
        return [int(text.partition(":")[0]) for text in with_mark(self._mark)]

    def _await(self, condition: Callable[[], bool], what: str, limit: float = LIMIT) -> None:
        end, size = time.monotonic() + limit, 0
        while not condition():
            if (now := self._size()) > size:  # it is slow, but gets on
                end, size = time.monotonic() + limit, now
            if time.monotonic() > end:
                for pid in self._family():  # they write their stacks to ``stderr``; who cannot yet is ended
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGUSR1)
                time.sleep(1.0)
                raise AssertionError(f"not after {limit:g} s: {what}\n{self._errors()}")
            time.sleep(0.001)


def _children(pid: int) -> list[int]:
    """Whoever any of its threads started, and it has not reaped: its workers."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # it ended while we looked
            found += map(int, thread.read_text().split())
    return found


@contextmanager
def _watched(pids: list[int], parent: int) -> Iterator[list[int]]:
    """Descriptors of the parent and of children of it, those that are there: their numbers may become others'."""
    made = {}
    try:
        for pid in pids:
            with suppress(ProcessLookupError):
                made[pid] = os.pidfd_open(pid)
        there = {parent, *_children(parent)}
        yield [pidfd for pid, pidfd in made.items() if pid in there]
    finally:
        for pidfd in made.values():
            os.close(pidfd)


def _ended(pidfd: int) -> bool:
    return bool(select.select([pidfd], [], [], 0)[0])
