"""No code that is not ours runs while the scheduler's lock is held, and whoever comes in the middle is not let wait."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from floxide_mp import (
    Coordinator,
    FloxideError,
    MemoryStore,
    RunFailedError,
    RunStatus,
    StepCallbacks,
    Workflow,
    node,
    source,
)
from floxide_mp.coordinator.critical import Condition, Critical, owned, postponed, section
from floxide_mp.coordinator.scheduler import Scheduler
from floxide_mp.core.records import Commit
from floxide_mp.ports import Progress
from floxide_mp.testing import engine_checks
from floxide_mp.wire import codec
from tests import flows_critical as flows
from tests import flows_graphs
from tests.simulation.runner import simulating

LIMIT = 30.0
LOG = logging.getLogger("floxide_mp")


class Handler(logging.Handler):
    """Does something with each record."""

    def __init__(self, act: Callable[[logging.LogRecord], object]) -> None:
        super().__init__()
        self.act = act

    def emit(self, record: logging.LogRecord) -> None:
        self.act(record)


@pytest.fixture
def on_log() -> Iterator[Callable[[Callable[[logging.LogRecord], object]], None]]:
    added: list[logging.Handler] = []

    def add(act: Callable[[logging.LogRecord], object]) -> None:
        added.append(Handler(act))
        LOG.addHandler(added[-1])

    yield add
    for handler in added:
        LOG.removeHandler(handler)


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What was logged or opened under a scheduler's lock, of which there must be nothing."""
    found: list[str] = []
    every: list[Critical] = []
    begin = Critical.__init__

    def noted(critical: Critical) -> None:
        begin(critical)
        every.append(critical)

    def watch(what: str, call: Callable[..., Any], ours: bool = False) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            mine = ours and type(args[0]).__module__.startswith(("floxide_mp", "builtins"))
            if not mine and any(owned(critical.lock) for critical in every):
                found.append(f"{what} {args!r:.200}")
            return call(*args, **kwargs)

        return watched

    monkeypatch.setattr(Critical, "__init__", noted)
    monkeypatch.setattr(logging.Logger, "handle", watch("logs", logging.Logger.handle))
    monkeypatch.setattr(codec, "decode", watch("opens", codec.decode))
    monkeypatch.setattr(codec, "decode_error", watch("opens", codec.decode_error))
    monkeypatch.setattr(codec, "encode_error", watch("pickles", codec.encode_error, ours=True))
    yield found
    assert not found


# -- nothing of anybody's under the lock ----------------------------------------------------------------------------


def test_row_104_the_watch_sees_what_is_done_under_the_lock(foreign: list[str]) -> None:
    critical = Critical()
    with critical.lock:
        LOG.warning("now")
        codec.decode(codec.encode(1, "one"))
    assert len(foreign) == 2, foreign
    foreign.clear()


def test_row_104_nothing_foreign_under_the_lock_in_the_simulation(foreign: list[str]) -> None:
    with simulating() as runner:
        for seed in range(40):
            runner.play(seed)


@pytest.mark.parametrize("workers", [0, 2])
def test_row_104_nothing_foreign_under_the_lock_with_engines(workers: int, foreign: list[str]) -> None:
    def engine(scheduler: Scheduler, _: int) -> Any:
        return Coordinator.__engine__(scheduler, workers)

    names = ("deaths", "outputs", "stream", "fail", "cancel", "retry")
    checks = engine_checks(engine, workers=workers, hard=workers > 0)
    chosen = [check for check in checks if any(name in str(check) for name in names)]
    assert len(chosen) > 5
    for check in chosen[:25]:
        check()


@pytest.mark.parametrize("workers", [0, 1])
def test_row_104_an_error_that_looks_at_the_coordinator_when_it_is_opened(workers: int) -> None:
    with Coordinator(workers) as coordinator, flows.registered(coordinator):
        run = coordinator.start(flows.Fails, 1)
        with pytest.raises(RunFailedError) as caught:
            run.wait(LIMIT)
        cause = caught.value.__cause__
        assert isinstance(cause, flows.Enriched)
        assert cause.seen == [RunStatus.FAILED]


# -- what is raised by whatever is not ours -------------------------------------------------------------------------


@pytest.mark.parametrize("raises", [ValueError, SystemExit, asyncio.CancelledError, KeyboardInterrupt])
def test_row_104_a_handler_of_the_log_that_raises(raises: type[BaseException], on_log: Any, capfd: Any) -> None:
    said: list[str] = []

    def act(record: logging.LogRecord) -> None:
        said.append(record.getMessage())
        raise raises("a bug in a handler")

    on_log(act)
    with Coordinator(1) as coordinator:
        assert coordinator.start(flows.Dies, 7).wait(LIMIT).output == 7
        assert coordinator.start(flows.Dies, 8).wait(LIMIT).output == 8
    assert any("was ended by SIGKILL" in text for text in said)
    assert "a bug in a handler" in capfd.readouterr().err, "it is shown, as logging does"


@node
def itself(number: int) -> int:
    return number


class Warned(Workflow):
    only = itself
    start = only


@pytest.mark.parametrize("raises", [ValueError, SystemExit])
def test_row_104_a_handler_of_the_log_that_raises_comes_into_no_verb_or_step(
    raises: type[BaseException], on_log: Any, capfd: Any
) -> None:
    """A callback that raises, a class that has moved: they are warned of."""
    said: list[str] = []

    def act(record: logging.LogRecord) -> None:
        said.append(record.getMessage())
        raise raises("a bug in a handler")

    class Callbacks(StepCallbacks):
        def on_item_processed(self, *_: Any) -> None:
            raise OSError("a bug in a callback")

    on_log(act)
    with Coordinator(0) as coordinator:
        assert coordinator.start(Warned, 7).wait(LIMIT).output == 7
        coordinator.start(Warned, 8, run_id="stepped")
        outcome = Warned().step_distributed(coordinator, 1, Callbacks())
        assert outcome is not None and coordinator.run("stepped").wait(LIMIT).output == 8
    assert any("on_item_processed raised" in text for text in said)
    assert capfd.readouterr().err.count(f"\n{raises.__name__}: a bug in a handler") == len(said), "they are shown"


def test_row_104_a_handler_of_the_log_that_asks_and_waits(on_log: Any) -> None:
    seen: list[Any] = []

    def act(record: logging.LogRecord) -> None:
        thread = threading.Thread(target=lambda: seen.append(coordinator.run("x").work_items()))
        thread.start()
        thread.join(LIMIT)  # a handler that blocks until another thread has asked
        seen.append((coordinator.runs()[0].status, len(coordinator.workers()), coordinator.run("x").progress()))

    on_log(act)
    with Coordinator(1) as coordinator:
        assert coordinator.start(flows.Dies, 7, run_id="x").wait(LIMIT).output == 7
    assert len(seen) == 2 and seen[1][0] is RunStatus.RUNNING


class Asking(MemoryStore):
    """Asks its coordinator in each verb, also by another thread that it waits for, and raises what it is told to."""

    coordinator: Coordinator
    raises: BaseException | None = None

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def create(self, *args: Any) -> None:
        super().create(*args)
        self.ask()

    def commit(self, run_id: str, commit: Commit, progress: Progress) -> None:
        self.ask()
        if run_id == "bad" and self.raises is not None:
            raise self.raises
        super().commit(run_id, commit, progress)

    def replace(self, *args: Any) -> None:
        super().replace(*args)
        self.ask()

    def ask(self) -> None:
        def look() -> None:
            self.seen.append((coordinator.runs(), coordinator.workers()))

        coordinator = self.coordinator
        thread = threading.Thread(target=look)
        thread.start()
        thread.join(LIMIT)
        look()
        for info in coordinator.runs():
            self.seen.append(coordinator.run(info.run_id).work_items())


@pytest.mark.parametrize("workers", [0, 2])
def test_row_104_a_store_that_asks_its_coordinator(workers: int) -> None:
    store = Asking()
    with Coordinator(workers, store) as coordinator:
        Asking.coordinator = coordinator
        assert len(coordinator.start(flows_graphs.Sums, 12, run_id="a").wait(LIMIT).output) == 12
        run = coordinator.start(flows_graphs.Sums, 12, run_id="b")
        run.pause()
        run.resume()
        assert len(run.wait(LIMIT).output) == 12
        run = coordinator.start(flows_graphs.Sums, 3, run_id="c")
        run.cancel()
    assert len(store.seen) > 20
    with Coordinator(workers, store) as coordinator:
        Asking.coordinator = coordinator
        assert len(coordinator.run("a").wait(LIMIT).output) == 12


@pytest.mark.parametrize("workers", [0, 1])
def test_row_104_a_store_that_starts_a_run_in_the_middle_is_refused(workers: int) -> None:
    said: list[str] = []

    class Starts(MemoryStore):
        def commit(self, run_id: str, commit: Commit, progress: Progress) -> None:
            super().commit(run_id, commit, progress)
            for act in (lambda: coordinator.start(flows_graphs.Sums, 2), lambda: coordinator.run(run_id).wait()):
                try:
                    act()
                except FloxideError as error:
                    said.append(str(error))

    with Coordinator(workers, Starts()) as coordinator:
        coordinator.start(flows.Echo, 1, run_id="x").wait(LIMIT)
    assert said and any("starting run" in text for text in said) and any("waiting for run" in text for text in said)


@pytest.mark.parametrize("raises", [asyncio.CancelledError("closed"), SystemExit(3), ValueError("no")])
def test_row_104_what_a_store_raises_breaks_the_run_that_it_happens_to(raises: BaseException) -> None:
    """No worker is lost by it, and no thread."""
    store = Asking()
    with Coordinator(1, store) as coordinator:
        Asking.coordinator = coordinator
        before = {thread.name for thread in threading.enumerate()}
        store.raises = raises
        bad = coordinator.start(flows.Echo, 1, run_id="bad")
        with pytest.raises(RunFailedError):
            bad.wait(LIMIT)
        store.raises = None
        assert coordinator.start(flows.Echo, 5, run_id="good").wait(LIMIT).output == 5
        assert coordinator.resume(flows.Echo, "bad").wait(LIMIT).output == 1
        assert {thread.name for thread in threading.enumerate()} == before


# -- who comes in the middle: finalizers and handlers of signals ----------------------------------------------------


class Handle:
    """Of the user's, in a cycle: the collector runs ``__del__`` wherever something is allocated."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act, self.me = act, self

    def __del__(self) -> None:
        self.act()


def test_row_124_finalizers_that_the_collector_runs() -> None:
    seen: list[Any] = []
    threshold = gc.get_threshold()
    gc.set_threshold(50, 5, 5)
    try:
        with Coordinator(2) as coordinator:
            for number in range(6):
                run = coordinator.start(flows.Fans, 400)
                for _ in range(20):
                    Handle(lambda: seen.append((run.info(), coordinator.workers(), run.progress())))  # noqa: B023
                assert len(run.wait(LIMIT).outputs) == 400, number
    finally:
        gc.set_threshold(*threshold)
        gc.collect()
    assert len(seen) == 120


@pytest.mark.parametrize("workers", [0, 2])
def test_row_124_a_handler_of_a_signal_that_asks(workers: int) -> None:
    asked: list[int] = []

    def progress(*_: object) -> None:
        runs = coordinator.runs()
        asked.append(len(runs) + len(coordinator.workers()) + len(coordinator.run("first").progress()))

    with Coordinator(workers) as coordinator:
        coordinator.start(flows.Fans, 3, run_id="first").wait(LIMIT)
        before = signal.signal(signal.SIGALRM, progress)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.002)
            for _ in range(15):
                assert len(list(coordinator.start(flows.Fans, 60).stream())) == 60
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    assert asked


class Counter:
    """Has the scheduler's lock, as a scheduler."""

    def __init__(self) -> None:
        self.critical = Critical()
        self.changed = Condition(self.critical)
        self.count = 0
        self.told: list[str] = []

    @section
    def add(self, meanwhile: Callable[[], object] = lambda: None) -> int:
        self.count += 1
        meanwhile()
        return self.count

    @section
    def wait(self, meanwhile: Callable[[], object]) -> bool:
        self.critical.later(meanwhile)
        return self.changed.wait(LIMIT)

    @section
    def wake(self) -> None:
        self.changed.notify_all()

    @postponed
    @section
    def tell(self, text: str) -> None:
        self.told.append(f"{text} {self.count}")


def test_row_124_asked_in_the_middle_a_section_is_an_error_and_not_a_deadlock() -> None:
    counter = Counter()
    with pytest.raises(FloxideError, match="in the middle of a verb of this very coordinator and thread"):
        counter.add(counter.add)
    assert counter.add() == 2, "the lock is whole"


def test_row_124_what_is_wanted_in_the_middle_is_done_when_the_lock_is_let_go_of() -> None:
    counter = Counter()

    def meanwhile() -> None:
        counter.tell("done")
        assert counter.told == []
        counter.count = 7

    assert counter.add(meanwhile) == 7
    assert counter.told == ["done 7"]


def test_row_124_who_waits_lets_go_first() -> None:
    counter = Counter()
    thread = threading.Thread(target=lambda: counter.wait(counter.wake))
    thread.start()
    thread.join(LIMIT)
    assert not thread.is_alive()


def test_row_124_a_handler_stops_what_its_own_thread_is_in_the_middle_of() -> None:
    """Pause, cancel, drain and close are done when the verb is."""
    for verb in ("pause", "cancel", "drain", "close"):
        with Coordinator(0) as coordinator:
            run = coordinator.start(flows.Fans, 50)
            act = {"pause": run.pause, "cancel": run.cancel, "drain": coordinator.drain, "close": coordinator.close}[
                verb
            ]
            scheduler = coordinator._scheduler
            with scheduler.critical.lock:
                act()
                assert run.status is RunStatus.RUNNING and not scheduler._stopping, verb
            scheduler.critical.flush()
            wanted = {"pause": RunStatus.PAUSED, "cancel": RunStatus.CANCELLED}.get(verb, RunStatus.RUNNING)
            assert run.status is wanted
            assert scheduler._stopping is (verb in ("drain", "close"))


def test_row_124_a_sender_in_the_middle() -> None:
    sender, values = source(4)
    with Coordinator(0) as coordinator:
        run = coordinator.start(flows.Echo, values)
        with coordinator._scheduler.critical.lock:
            sender.send(1)
            sender.send(2)
            sender.close()
        coordinator._scheduler.critical.flush()
        assert sorted(run.wait(LIMIT).outputs) == [1, 2]
