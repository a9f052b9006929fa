"""Ctrl-C, wherever it comes: ``KeyboardInterrupt`` and nothing else, and nothing is left or lost by it."""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import Coordinator, MemoryStore, RunStatus
from floxide_mp.engines.inline import InlineEngine
from floxide_mp.sigint import defer_sigint, interruptibly, uninterrupted
from tests import flows_critical as flows
from tests import flows_run
from tests.interrupting import cases, interrupt
from tests.scripts import run_python

LIMIT = 30.0
NAMES = [name for name, _ in cases(Path())]


def press() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("name", NAMES)
def test_row_105_between_any_two_bytecodes(name: str, tmp_path: Path) -> None:
    (make,) = [make for other, make in cases(tmp_path) if other == name]
    times = 12 if "-0" in name else 3
    seen = interrupt(make(), times, random.Random(f"{name} {sys.version_info[1]}"))
    assert sum(seen.values()) == times and seen["interrupted"] > times / 2


@pytest.mark.parametrize("name", [name for name in NAMES if "-0" in name or "close" in name])
def test_row_105_a_handler_of_another_signal_that_raises(name: str, tmp_path: Path) -> None:
    """``sys.exit`` on SIGTERM, a library's limit of time: one that came in the middle of ``close`` kept the store."""
    (make,) = [make for other, make in cases(tmp_path) if other == name]
    times = 8 if "-0" in name else 2
    seen = interrupt(make(), times, random.Random(f"{name} {sys.version_info[1]}"), signal.SIGUSR1)
    assert sum(seen.values()) == times and seen["interrupted"] >= times / 2


def test_row_105_the_innermost_mark_counts() -> None:
    heard: list[str] = []

    @uninterrupted
    def verb() -> None:
        press()
        heard.append("a verb within")

    def node() -> None:
        verb()
        heard.append("put off until the next place")
        press()
        heard.append("never")

    @defer_sigint
    def outer() -> None:
        press()
        heard.append("whole")
        try:
            interruptibly(node)
        except KeyboardInterrupt:
            heard.append("at once, by what was put off")
        try:
            interruptibly(node)
        except KeyboardInterrupt:
            heard.append("again")
        press()
        heard.append("over")

    with pytest.raises(KeyboardInterrupt):
        outer()
    wanted = ["whole", "at once, by what was put off", "a verb within", "put off until the next place", "again", "over"]
    assert heard == wanted
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_row_105_a_handler_of_the_users_is_called_where_it_may_raise() -> None:
    called: list[str] = []
    before = signal.signal(signal.SIGINT, lambda *_: called.append("handler"))

    @defer_sigint
    def verb() -> None:
        press()
        press()
        called.append("verb")
        interruptibly(press)
        called.append("verb")
        press()

    try:
        mine = signal.getsignal(signal.SIGINT)
        verb()
        assert signal.getsignal(signal.SIGINT) is mine
        assert called == ["verb", "handler", "handler", "verb", "handler"]
    finally:
        signal.signal(signal.SIGINT, before)


def test_row_105_each_handler_is_called_whatever_the_others_raise() -> None:
    called: list[int] = []

    def handler(number: int, frame: object) -> None:
        called.append(number)
        raise SystemExit(number)

    numbers = [signal.SIGUSR1, signal.SIGUSR2]
    before = [signal.signal(number, handler) for number in numbers]
    try:
        with pytest.raises(SystemExit):
            defer_sigint(lambda: [signal.raise_signal(number) for number in numbers])()
        assert called == numbers
    finally:
        for number, old in zip(numbers, before, strict=True):
            signal.signal(number, old)


def test_row_105_inline_an_interrupted_item_is_run_again() -> None:
    """Also where Ctrl-C comes when its lease has been given, and the step has not begun."""
    with Coordinator(0) as coordinator:
        engine = coordinator._engine
        assert isinstance(engine, InlineEngine)
        run = coordinator.start(flows.Fans, 3)
        turn = engine._worker._run

        def interrupted(lease: Any) -> Any:
            press()
            return turn(lease)

        engine._worker._run = interrupted  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            run.wait(LIMIT)
        assert len(run.wait(LIMIT).outputs) == 3
        assert run.metrics().retries == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_row_105_again_and_again_while_it_closes(workers: int, tmp_path: Path) -> None:
    """Signals by a thread, every 200 us: whatever they hit, what is left is nothing."""
    main, stop = threading.main_thread().ident, threading.Event()
    assert main is not None
    gate = flows_run.Gate(tmp_path)
    coordinator = Coordinator(workers, grace=20.0, store=tmp_path / "runs.db")
    coordinator.start(flows_run.Deaf, [str(gate.path)], run_id="x")
    if workers:
        gate.entered(1)

    def presses() -> None:
        while not stop.wait(0.0002):
            signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=presses)
    heard = 0
    before = signal.getsignal(signal.SIGINT)
    try:
        thread.start()
        while heard < 5:
            try:
                coordinator.close()
                time.sleep(LIMIT)
            except KeyboardInterrupt:
                heard += 1
    except KeyboardInterrupt:
        pass
    finally:
        while thread.is_alive():
            try:
                stop.set()
                thread.join()
            except KeyboardInterrupt:
                pass
    assert signal.getsignal(signal.SIGINT) is before
    coordinator.close()
    with Coordinator(0, store=tmp_path / "runs.db") as again:
        assert again.info("x").status is RunStatus.RUNNING


# -- row 103: nobody has it any more --------------------------------------------------------------------------------

FORGOTTEN = """
import gc, os, sys, warnings
from floxide_mp import Coordinator, MemoryStore, StoreLockedError, source
from floxide_mp.testing.leftovers import leftovers
from tests import flows_critical as flows
if __name__ == "__main__":
    warnings.simplefilter("always")
    before = leftovers()
    store = MemoryStore() if sys.argv[1] == "memory" else sys.argv[1]
    coordinator = Coordinator(2, store)
    run = coordinator.start(flows.Fans, 4, run_id="x")
    sender, values = source(2)
    fed = coordinator.start(flows.Echo, values, run_id="y")
    sender.send(1)
    del coordinator
    gc.collect()
    print(len(run.wait(20).outputs), "while somebody has a run")
    del run, fed
    gc.collect()
    with Coordinator(0, store) as second:
        print(len(second.run("x").wait(20).outputs), [info.status.value for info in second.runs()])
    del second
    print({kind: now - before[kind] for kind, now in leftovers().items() if now - before[kind]})
"""


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_row_103_a_forgotten_coordinator(kind: str, tmp_path: Path) -> None:
    where = kind if kind == "memory" else str(tmp_path / "runs.db")
    script = tmp_path / "script.py"
    script.write_text(FORGOTTEN)
    done = run_python([str(script), where], None, tmp_path)
    assert done.stdout.splitlines() == ["4 while somebody has a run", "4 ['completed', 'running']", "{}"], done.stderr
    assert done.stderr.count("ResourceWarning: a Coordinator was not closed") == 1
    assert "Traceback" not in done.stderr


def test_row_103_a_store_is_not_had_twice() -> None:
    store = MemoryStore()
    with Coordinator(0, store), pytest.raises(Exception, match="has a coordinator already, in this process"):
        Coordinator(0, store)
