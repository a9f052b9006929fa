"""Ctrl-C between any two bytecodes of what a user calls, or another signal whose handler raises, and what must be true
afterwards. For ``test_interrupts``, which does it some hundred times, and ``soak_interrupts``.

The signal is a real one, raised by a trace function; so what puts it off, or not, is the handler that is installed.
"""

from __future__ import annotations

import gc
import random
import signal
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final

from floxide_mp import Coordinator, FloxideError, Run, RunStatus, SQLiteStore, source
from floxide_mp.coordinator.closing import await_forgotten
from floxide_mp.testing.leftovers import leftovers
from tests import flows_critical as flows

HERE: Final = str(Path(__file__).parent)
LIMIT: Final = 60.0
WANTED: Final = [{"x": [value]} for value in range(4)]


class Left(AssertionError):
    """An interrupt has left something behind, or broken something."""


class TimeLimit(Exception):
    """What the handler of another signal raises."""


def limit(*_: object) -> None:
    raise TimeLimit


RAISES: Final = {signal.SIGINT: KeyboardInterrupt, signal.SIGUSR1: TimeLimit}
HANDLERS: Final = {signal.SIGINT: signal.default_int_handler, signal.SIGUSR1: limit}


def bytecodes(
    call: Callable[[], object], at: list[int], number: signal.Signals = signal.SIGINT
) -> tuple[int, BaseException | None]:
    """Call it, with the signal before these of its bytecodes, up to the first one that is heard: then nothing is
    counted.

    Returns:
        how many there were, and what it raised.
    """
    count, wanted = 0, set(at)
    due = False

    def one(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal count, due
        if event == "opcode":
            count += 1
            due = due or count in wanted
            # Python puts exceptions away in bytecodes without a line, at none of which it looks for signals. What is
            # raised there by a trace function has it keep the exception that was handled, and with it the coordinator.
            if due and frame.f_lineno is not None:
                due = False
                signal.raise_signal(number)
        return one

    def begin(frame: FrameType, event: str, arg: object) -> Any:
        if frame.f_code.co_filename.startswith(HERE):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return one

    sys.settrace(begin)
    try:
        call()
    except BaseException as error:
        sys.settrace(None)
        error.__context__ = None  # the frames of both have the coordinator, which nobody else has
        return count, error.with_traceback(None)
    finally:
        sys.settrace(None)
    return count, None


def check_locks(coordinator: Coordinator) -> None:
    """Nobody has a lock that should be free, and the handlers are those of before."""
    critical = coordinator._scheduler.critical
    busy: list[str] = []

    def look() -> None:
        for name in ("lock", "publish_lock"):
            lock = getattr(critical, name)
            if lock.acquire(timeout=LIMIT):
                lock.release()
            else:
                busy.append(name)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    if busy or critical.noted:
        raise Left(f"held: {busy}, not done: {critical.noted}")
    check_handler()


def check_handler() -> None:
    for number, handler in HANDLERS.items():
        if signal.getsignal(number) not in (handler, signal.SIG_DFL):
            raise Left(f"the handler of {number.name} is {signal.getsignal(number)}")


def check_runs(coordinator: Coordinator, seen: int = 0) -> int:
    """Each run but the first ``seen`` can be waited for, and its outputs are right; how many there are."""
    infos = coordinator.runs()
    for info in infos[seen:]:
        if info.status in (RunStatus.RUNNING, RunStatus.PAUSED, RunStatus.COMPLETED):
            run = coordinator.run(info.run_id)
            try:
                if info.status is RunStatus.PAUSED:
                    run.resume()
                outputs = run.wait(LIMIT).outputs
            except FloxideError as error:
                if "was left" not in str(error):
                    raise
                outputs = coordinator.resume(flows.Fans, info.run_id).wait(LIMIT).outputs
            if outputs not in (WANTED, [1, 2], [1], []):
                raise Left(f"{info.run_id} gives {outputs}")
        else:
            raise Left(f"{info.run_id} is {info.status}: {info.error}")
    return len(infos)


class Living:
    """Verbs on a coordinator that lives on."""

    def __init__(self, workers: int, verb: str) -> None:
        self.name = f"{verb} with {workers} workers"
        self._verb = verb
        self._coordinator = Coordinator(workers)
        self._seen = 0

    def call(self) -> None:
        c = self._coordinator
        run: Run
        if self._verb == "source":
            sender, values = source(1)
            try:
                run = c.start(flows.Echo, values)
                sender.send(1, LIMIT)
                sender.send(2, LIMIT)
            finally:
                sys.settrace(None)  # what the case itself does is not interrupted: nobody would close it
                sender.close()
            run.wait(LIMIT)
            return
        run = c.start(flows.Fans, 4)
        if self._verb == "wait":
            run.wait(LIMIT)
        elif self._verb == "stream":
            list(run.stream())
        else:
            run.pause()
            run.resume()
            run.work_items(), run.context(), run.errors(), run.checkpoint()
            run.wait(LIMIT)

    def check(self) -> None:
        check_locks(self._coordinator)
        self._seen = check_runs(self._coordinator, self._seen)

    def close(self) -> None:
        self._coordinator.close()


class Lives:
    """The whole life of a coordinator: begun, a run waited for, closed, with a store in a file or without."""

    def __init__(self, workers: int, folder: Path | None, only: str = "") -> None:
        self.name = f"{only or 'the life'} of a coordinator with {workers} workers, {'a' if folder else 'no'} store"
        self._workers, self._folder, self._only = workers, folder, only
        self._number = 0
        self._before = leftovers()
        self._made: Coordinator | None = None
        self.prepare()

    def prepare(self) -> None:
        self._number += 1
        if self._only == "close":
            self._made = self._make()
            self._made.start(flows.Fans, 4, run_id="x").wait(LIMIT)
        if self._only == "close in the middle":
            self._made = self._make()
            self._made.start(flows.Fans, 4, run_id="x")

    @property
    def _path(self) -> Path | None:
        return None if self._folder is None else self._folder / f"{self._workers}{self._only}{self._number}.db"

    def _make(self) -> Coordinator:
        return Coordinator(self._workers, store=self._path)

    def call(self) -> None:
        if self._only == "run":
            flows.Fans().run(4, workers=self._workers)
        elif self._only:
            assert self._made is not None
            self._made.close()
        else:
            with self._make() as self._made:
                self._made.start(flows.Fans, 4, run_id="x").wait(LIMIT)

    def check(self) -> None:
        made, self._made = self._made, None
        if made is not None:
            made.close()
            if self._only == "close":
                made.close()
            check_locks(made)
            del made
        check_handler()
        gc.collect()
        await_forgotten()
        left = {kind: now - self._before[kind] for kind, now in leftovers().items() if now - self._before[kind]}
        if left:
            raise Left(f"left behind: {left}")
        path = self._path
        if path is not None:
            with Coordinator(0, SQLiteStore(path)) as again:
                check_runs(again)
            again._scheduler.store.close()
        self.prepare()

    def close(self) -> None:
        if self._made is not None:
            self._made.close()


def interrupt(
    case: Living | Lives, times: int, chance: random.Random, number: signal.Signals = signal.SIGINT
) -> Counter[str]:
    """Interrupt it so many times, each at other bytecodes, and look what is left.

    Raises:
        Left: something is.
    """
    seen: Counter[str] = Counter()
    before = signal.signal(number, HANDLERS[number])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # a coordinator that nobody got was not closed by anybody
        try:
            for _ in range(2):  # the first time, modules are imported
                total, error = bytecodes(case.call, [])
                if error is not None:
                    raise error
                case.check()
            for _ in range(times):
                first = chance.randrange(total) + 1
                at = [first, *(first + chance.randrange(1, 400) for _ in range(chance.choice((0, 0, 1, 3))))]
                _, error = bytecodes(case.call, at, number)
                if error is not None and not isinstance(error, RAISES[number]):
                    raise Left(f"{case.name}, interrupted before bytecodes {at}: {error!r}") from error
                seen["interrupted" if error is not None else "done"] += 1
                try:
                    case.check()
                except BaseException as trouble:
                    raise Left(f"{case.name}, interrupted before bytecodes {at}: {trouble}") from trouble
        finally:
            signal.signal(number, before)
            case.close()
    return seen


def cases(folder: Path) -> list[tuple[str, Callable[[], Living | Lives]]]:
    """All of them, by name."""
    found: list[tuple[str, Callable[[], Living | Lives]]] = []
    for workers in (0, 1):
        for verb in ("wait", "stream", "source", "verbs"):
            found.append((f"{verb}-{workers}", lambda w=workers, v=verb: Living(w, v)))  # type: ignore[misc]
        for only in ("", "run", "close", "close in the middle"):
            name = f"{only or 'life'}-{workers}".replace(" ", "-")
            found.append((name, lambda w=workers, o=only: Lives(w, None, o)))  # type: ignore[misc]
            if only != "run":
                found.append((f"{name}-stored", lambda w=workers, o=only: Lives(w, folder, o)))  # type: ignore[misc]
    return found
