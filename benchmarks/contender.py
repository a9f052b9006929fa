"""A contender in a process of its own, which can be asked for runs: ``Peer`` here, and what runs over there.

Nothing but the process that is asked works meanwhile. Which contenders there are and how they are used is in ``ours``,
``peers``, ``pools`` and ``schedulers``; what is made of their seconds, in the benchmarks.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

from benchmarks.measuring import timed

WORKERS = 2
PATIENCE = 60.0  # seconds for one answer


class Contender(NamedTuple):
    """``open`` is a function of a module, a context manager of a directory, and gives something with a method for each
    scenario. ``needs`` are (package, module); ``steps`` of a fan-out and of a chain are at the most so many, and with
    none it has no such scenario; ``warm`` of each come before anything is timed. It has a turn in each ``every``-th
    round: some take long to start.
    """

    title: str
    open: Callable[[str], Any]
    needs: tuple[tuple[str, str], ...] = ()
    steps: tuple[int, int] = (20_000, 2_000)
    warm: int = 100
    every: int = 1

    def missing(self) -> str | None:
        """What has to be installed, None if all of it is."""
        return next((package for package, module in self.needs if not _found(module)), None)


def _found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


class Peer:
    """A contender's process, warm.

    Raises:
        RuntimeError: from each method: it ended, with what it wrote to its error stream, or said nothing for long.
    """

    def __init__(self, contender: Contender) -> None:
        self._title = contender.title
        self._stack = ExitStack()
        directory = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="peer", ignore_cleanup_errors=True))
        self._errors = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 it is one
        where = contender.open.__module__, contender.open.__qualname__
        scenarios = [name for name, most in zip(("fan_out", "chain"), contender.steps, strict=True) if most]
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, *where, directory, str(contender.warm), *scenarios],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # so that what it started can be ended with it
        )

    def __enter__(self) -> Self:
        try:
            self._answer()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(OSError, subprocess.TimeoutExpired):
            self._process.stdin.close()
            self._process.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()
        self._stack.close()

    def time(self, scenario: str, *arguments: Any) -> float:
        """Seconds that a run takes."""
        return self._ask(scenario, arguments)[0]

    def figure(self, scenario: str, *arguments: Any) -> float:
        """The number that a scenario comes out with, rather than the time it took."""
        found = self._ask(scenario, arguments)[1]
        assert found is not None, f"{scenario} gave no number"
        return found

    def _ask(self, scenario: str, arguments: Iterable[Any]) -> tuple[float, float | None]:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the answer says why
            self._process.stdin.write(json.dumps([scenario, *arguments]).encode() + b"\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> tuple[float, float | None]:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(PATIENCE):
                raise RuntimeError(f"{self._title} says nothing for {PATIENCE:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            raise RuntimeError(f"{self._title} ended: {self._errors.read().decode(errors='replace')[-4000:]}")
        seconds, number = json.loads(line)
        return seconds, number


def take_turns(
    contenders: Mapping[str, Contender], rounds: int, minutes: float, turn: Callable[[str, int, Peer], None]
) -> dict[str, str]:
    """Start, ask and end one contender after the other, A B C, B C A, ...: what drifts on the machine hits all alike,
    and nobody is warm, or has the better core, all the time.

    Args:
        rounds: at the most so many.
        minutes: after them no turn begins, and no round that would be longer.
        turn: is called with name, round and process.

    Returns:
        those that failed, and how; they have no further turns.
    """
    names, failed = list(contenders), dict[str, str]()
    began = time.monotonic()
    for number in range(rounds):
        spent = time.monotonic() - began
        if number and spent + spent / number > minutes * 60:
            break
        at = number % len(names)
        for name in names[at:] + names[:at]:
            if name in failed or number % contenders[name].every:
                continue
            try:
                with Peer(contenders[name]) as peer:
                    turn(name, number, peer)
            except RuntimeError as error:
                failed[name] = str(error)
            if time.monotonic() - began > minutes * 60:
                return failed
    return failed


def main(module: str, name: str, directory: str, warm: str, *scenarios: str) -> None:
    """Answers on the standard output as it was; what contenders print goes to the error stream."""
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)  # whoever made it may be killed
        answers = stack.enter_context(os.fdopen(os.dup(1), "w"))
        os.dup2(2, 1)
        opened = getattr(importlib.import_module(module), name)
        runs = stack.enter_context(opened(str(Path(directory).resolve())))
        for scenario in scenarios:
            getattr(runs, scenario)(int(warm))
        print("[0, null]", file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(asked(runs, *json.loads(line))), file=answers, flush=True)


def asked(runs: Any, scenario: str, *arguments: Any) -> tuple[float, float | None]:
    """Seconds, and what came out if that is a number."""
    found: list[Any] = []
    seconds = timed(lambda: found.append(getattr(runs, scenario)(*arguments)))
    return seconds, found[0] if isinstance(found[0], float) else None


if __name__ == "__main__":
    main(*sys.argv[1:])
