"""The suite of ``floxide_mp.testing`` on every engine in the tree, and on engines that are broken on purpose."""

from __future__ import annotations

import multiprocessing
import re
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import floxide_mp.engines
from floxide_mp import Coordinator, FloxideError
from floxide_mp.coordinator.scheduler import Scheduler
from floxide_mp.engines.executor import ExecutorEngine
from floxide_mp.engines.inline import InlineEngine
from floxide_mp.engines.processes import ProcessEngine
from floxide_mp.messages import ONE_BY_ONE, EventPage, FanOut, Reply, Report, Result, Results
from floxide_mp.testing import check_engine, engine_checks
from floxide_mp.testing.answers import ANSWERS, Check, answer, start
from floxide_mp.testing.workflows import Colour
from floxide_mp.wire.status_page import SIZE, StatusPage
from floxide_mp.worker.worker import Worker

POOLS: dict[str, Executor] = {}


@pytest.fixture(scope="module", autouse=True)
def pools() -> Iterator[None]:
    """Executors, with all that they start already started: an engine leaves them as they were."""
    spawn = multiprocessing.get_context("spawn")
    with ThreadPoolExecutor(2) as threads, ProcessPoolExecutor(2, spawn) as processes:
        POOLS.update(threads=threads, processes=processes)
        for pool in POOLS.values():
            list(pool.map(time.sleep, [0.2] * 4))
        yield
        POOLS.clear()


def on(pool: str, scheduler: Scheduler, workers: int) -> ExecutorEngine:
    return ExecutorEngine(POOLS[pool], scheduler, workers)


ENGINES: dict[str, dict[str, Any]] = {
    "InlineEngine": {"engine": lambda scheduler, workers: InlineEngine(scheduler), "workers": 0, "hard": False},
    "ProcessEngine": {"engine": ProcessEngine},
    "ExecutorEngine-threads": {"engine": partial(on, "threads"), "hard": False},
    "ExecutorEngine-processes": {"engine": partial(on, "processes"), "hard": False, "tells": False},
}


@pytest.mark.parametrize(
    "check",
    [pytest.param(check, id=f"{name}-{check}") for name, kind in ENGINES.items() for check in engine_checks(**kind)],
)
def test_engine(check: Check) -> None:
    check()


def test_every_engine_in_the_tree_is_checked() -> None:
    files = Path(floxide_mp.engines.__file__ or "").parent.rglob("*.py")
    found = {name for file in files for name in re.findall(r"^class (\w+Engine)\b", file.read_text(), re.MULTILINE)}
    assert found == {name.partition("-")[0] for name in ENGINES}


def test_which_checks_an_engine_gets() -> None:
    every, soft, alone = (
        {check.name for check in engine_checks(ProcessEngine, **kind)}  # type: ignore[arg-type]
        for kind in ({}, {"hard": False}, {"hard": False, "workers": 1})
    )
    assert len(every) == len(engine_checks(ProcessEngine))
    assert alone < soft < every
    assert "a_step_without_end" in every - soft
    assert "workers_work_at_the_same_time" in soft - alone
    assert len(alone) > 40


def test_the_cases_do_what_they_are_there_for() -> None:
    """The answers of the reference, where one line can say them."""
    with Coordinator(0) as coordinator:
        found = {name: answer(start(coordinator, case), 30) for name, case in ANSWERS.items()}
    assert {name for name, one in found.items() if one.failure} == {
        "no_route",
        "all_held",
        "failure",
        "failure_by_exit",
        "failure_that_lets_others_finish",
    }
    assert {name for name, one in found.items() if one.metrics.retries} == {
        "retries_abort_and_on_failure",
        "items_and_seeds",
    }
    assert {name: found[name].outputs for name in OUTPUTS} == OUTPUTS
    assert len(found["loop"].context["log"]) == found["loop"].metrics.completed == 111
    seeds = [item[5] for item in found["items_and_seeds"].outputs]
    assert len(set(seeds)) == len(seeds) == 30


OUTPUTS = {
    "chain": (112,),
    "routes": (Colour.BLUE, 7.0, "low", (1, 2, 3), Colour.RED, 8, "Loud", "Loud", (1, 2)),
    "empty_fan_out": (0,),
    "nested_joins": ([[], [(1, 0)], *([(n, k) for k in range(n)] for n in (2, 3, 4))],),
    "branches_told_apart": ([[0, 3, 6, 9], [101, 102, 104, 105, 107, 108], []],),
    "branches_not_taken": ([[], [], []],),
    "hold_until_all_are_there": (list(range(20)),),
    "generator_that_raises": (("rescued", 5, "ValueError", "no 5"),),
    "spoilt_batch": (("rescued", [11, 12, 13, 14], "ValueError", "unlucky"),),
    "async_nodes": (0, 1, 1, 2, 2, 3, 3, 4, 4, 5),
    "nodes_by_value": (135,),
}


# -- engines that are broken on purpose -------------------------------------------------------------------------------


class Tampering:
    """A scheduler that something happens to on the way to its worker."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.describe = scheduler.describe

    def exchange(self, session: int, reports: Sequence[Report], want: float) -> Reply:
        return self.scheduler.exchange(session, reports, want)

    def events(self, run_id: str, since: int) -> EventPage:
        return self.scheduler.events(run_id, since)


class RunsTwice(Tampering):
    def exchange(self, session: int, reports: Sequence[Report], want: float) -> Reply:
        reply = super().exchange(session, reports, want)
        return reply._replace(leases=reply.leases * 2)


class LosesOrder(Tampering):
    def exchange(self, session: int, reports: Sequence[Report], want: float) -> Reply:
        other = [r._replace(results=tuple(map(self._turned, r.results))) for r in reports]
        return super().exchange(session, other, want)

    @staticmethod
    def _turned(result: Result) -> Result:
        if isinstance(result, Results | FanOut):
            return result._replace(payloads=result.payloads[::-1])
        return (result[0], result[1][::-1], *result[2:])


class LosesWrites(Tampering):
    def exchange(self, session: int, reports: Sequence[Report], want: float) -> Reply:
        less = [r._replace(results=tuple(map(self._without, r.results))) for r in reports]
        return super().exchange(session, less, want)

    @staticmethod
    def _without(result: Result) -> Result:
        if isinstance(result, Results):
            return result._replace(writes=[])
        return result._replace(writes=()) if isinstance(result, FanOut) else (*result[:2], (), *result[3:])


class HearsNothingNew(Tampering):
    def events(self, run_id: str, since: int) -> EventPage:
        return EventPage((), False) if since else super().events(run_id, since)


def tampered(how: type[Tampering], scheduler: Scheduler, workers: int) -> InlineEngine:
    class Engine(InlineEngine):
        def start(self) -> None:
            super().start()
            self._worker = Worker(self._session or 0, how(scheduler), self._status_page, {}, ONE_BY_ONE)

    return Engine(scheduler)


class TellsNobody(InlineEngine):
    """Its worker reads another status page than the coordinator writes to."""

    def start(self) -> None:
        super().start()
        self._worker = Worker(
            self._session or 0, self._scheduler, StatusPage(memoryview(bytearray(SIZE))), {}, ONE_BY_ONE
        )


class WaitsForNothing(InlineEngine):
    def wait(self, run_id: str, seen: int | None, timeout: float | None) -> bool:
        return super().wait(run_id, seen, timeout) or True


class WaitsForTheEnd(InlineEngine):
    def wait(self, run_id: str, seen: int | None, timeout: float | None) -> bool:
        return super().wait(run_id, None, timeout)


class StopsAtOnce(InlineEngine):
    """As the first one in this tree was: a late step wrote into what was another coordinator's by then."""

    def stop(self, grace: float) -> None:
        self._scheduler.stop()


class LeavesAThread(InlineEngine):
    left: list[tuple[threading.Thread, threading.Event]] = []

    def stop(self, grace: float) -> None:
        super().stop(grace)
        end = threading.Event()
        thread = threading.Thread(target=end.wait)
        thread.start()
        self.left.append((thread, end))


class ReplacesNobody(ProcessEngine):
    def _fill(self) -> None:
        self._vacancies.places.clear()


INLINE = ENGINES["InlineEngine"]
BROKEN: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({**INLINE, "engine": partial(tampered, RunsTwice)}, ("each_step_is_run_once", "serial_steps_never_overlap")),
    ({**INLINE, "engine": partial(tampered, LosesOrder)}, ("same_answer_generator", "same_answer_contexts")),
    ({**INLINE, "engine": partial(tampered, LosesWrites)}, ("same_answer_chain", "stop_lets_steps_finish")),
    ({**INLINE, "engine": partial(tampered, HearsNothingNew)}, ("serial_steps_never_overlap",)),
    ({**INLINE, "engine": lambda scheduler, _: TellsNobody(scheduler)}, ("cancel_is_told_to_steps",)),
    ({**INLINE, "engine": lambda scheduler, _: WaitsForNothing(scheduler)}, ("wait_tells_what_there_is",)),
    ({**INLINE, "engine": lambda scheduler, _: WaitsForTheEnd(scheduler)}, ("stream_gives_outputs_as_they_come",)),
    (
        {**INLINE, "engine": lambda scheduler, _: StopsAtOnce(scheduler)},
        ("stop_lets_steps_finish", "stop_gives_up_what_is_not_finished"),
    ),
    ({**INLINE, "engine": lambda scheduler, _: LeavesAThread(scheduler)}, ("stop_leaves_nothing_behind",)),
    (
        {"engine": lambda scheduler, _: ProcessEngine(scheduler, 1)},
        ("workers_work_at_the_same_time", "workers_are_listed"),
    ),
    ({"engine": ReplacesNobody}, ("a_step_that_ends_every_worker",)),
]


@pytest.fixture(autouse=True)
def threads_that_are_left() -> Iterator[None]:
    yield
    while LeavesAThread.left:
        thread, end = LeavesAThread.left.pop()
        end.set()
        thread.join()


@pytest.mark.parametrize(("kind", "wrong"), BROKEN, ids=lambda part: part[0] if isinstance(part, tuple) else "")
def test_a_broken_engine_is_found_out(kind: dict[str, Any], wrong: tuple[str, ...]) -> None:
    checks = {check.name: check for check in engine_checks(**kind, limit=2)}
    for name in wrong:
        with pytest.raises((AssertionError, FloxideError, TimeoutError)) as caught:
            checks[name]()
        assert caught.value.__notes__[-1].strip() == f"{name}: {checks[name].promise}"
    checks["same_answer_empty_fan_out"]()


def test_all_checks_at_once() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        check_engine(**{**INLINE, "engine": partial(tampered, LosesWrites)}, limit=2)
    failed = {error.__notes__[-1].strip().partition(":")[0] for error in caught.value.exceptions}
    assert {"same_answer_chain", "stop_lets_steps_finish"} <= failed
    assert not {"same_answer_generator", "each_step_is_run_once"} & failed
    text = str(caught.value)
    assert re.match(rf"{len(failed)} of \d+ checks failed: ", text)
    assert all(name in text for name in failed)
