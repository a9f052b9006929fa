"""What a worker reports: each result once, and in the place of its own item."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from floxide_mp.messages import FAIL, NEXT, FanOut, Lease, Reply, Report, Result, Results, StepResult
from floxide_mp.ports import Backend
from floxide_mp.wire.status_page import SIZE, StatusPage
from floxide_mp.worker.lease_execution import LeaseExecution
from floxide_mp.worker.worker import Worker
from tests.flows_run import until


def result(number: int, *writes: tuple[int, bytes], arm: int = 0) -> StepResult:
    return NEXT, ((arm, b"%d" % number),), writes, None, False


def work(limit: int = 1 << 62) -> LeaseExecution:
    return LeaseExecution(Lease(1, "run", b"", ()), lambda: False, 0, limit, 1 << 62)


def done(one: LeaseExecution, *results: Result) -> LeaseExecution:
    for found in results:
        assert not isinstance(found, Results)
        one.add(7, found, 1000 * (one.done + 1))
    return one


class Listener(Backend):
    """Notes what is reported, and ends the thread that tells early with its first report, or a later one."""

    def __init__(self, last: int = 1) -> None:
        self.reports: list[Report] = []
        self._last = last

    def exchange(self, session: int, reports: Sequence[Report], want: float) -> Reply:
        self.reports += reports
        if len(self.reports) == self._last:
            raise EOFError
        return Reply((), False, 0.0)


def test_what_was_told_early_is_not_told_again() -> None:
    backend: Any = Listener()
    worker = Worker(1, backend, StatusPage(memoryview(bytearray(SIZE))))
    one = done(work(limit=0), result(0), result(1))
    worker._watch(one)
    assert worker._teller is not None
    worker._teller.join(30)
    (early,) = backend.reports
    assert not early.last
    assert early.results == (Results(0, [b"0", b"1"], []),)
    assert one.truncated, "what comes next goes back to others"
    late = done(one, result(2)).report()
    assert late.last
    assert late.results == (result(2),)


def at_a_long_lease(backend: Any) -> tuple[Worker, threading.Thread]:
    """A worker, and its thread that tells early, which has seen that there will be nothing to tell for long."""
    worker = Worker(1, backend, StatusPage(memoryview(bytearray(SIZE))))
    worker._watch(done(work(), result(0)))
    assert worker._teller is not None
    until(lambda: worker._next_look == 1 << 62)
    return worker, worker._teller


def test_who_goes_ahead_is_looked_after_in_time() -> None:
    """Though the one who looks has been told by the lease before that it will be long."""
    backend: Any = Listener()
    worker, teller = at_a_long_lease(backend)
    ahead = done(LeaseExecution(Lease(1, "run", b"", ()), lambda: False, 0, 1 << 62, 0), result(1))
    worker._watch(ahead)
    with worker._lock:
        ahead.go_on()
    worker._watch(ahead)
    teller.join(30)
    (early,) = backend.reports
    assert (early.results, early.chained) == ((result(1),), True)


def test_a_short_lease_is_looked_after_in_time_behind_a_long_one() -> None:
    backend: Any = Listener()
    worker, teller = at_a_long_lease(backend)
    worker._watch(done(work(limit=0), result(1)))
    teller.join(30)
    (early,) = backend.reports
    assert early.results == (result(1),)


def test_nobody_looks_after_a_lease_that_was_told_early() -> None:
    backend: Any = Listener(2)
    worker = Worker(1, backend, StatusPage(memoryview(bytearray(SIZE))))
    worker._watch(done(work(limit=0), result(0)))
    assert worker._teller is not None
    until(lambda: backend.reports and worker._next_look == 1 << 62)
    worker._watch(done(work(limit=0), result(1)))
    worker._teller.join(30)
    assert [report.results for report in backend.reports] == [(result(0),), (result(1),)]


def test_usual_results_are_told_as_one() -> None:
    wrote = (3, b"e")
    failed: StepResult = (FAIL, (), (), None, False)
    found = done(
        work(),
        *(result(n) for n in range(3)),
        result(3, wrote),
        result(4, wrote, wrote),
        result(5, arm=1),
        failed,
        FanOut(0, [b"a"] * 8, ()),
        result(6),
    ).report()
    assert found.results == (
        Results(0, [b"0", b"1", b"2"], []),
        Results(0, [b"3", b"4"], [(wrote,), (wrote, wrote)]),
        result(5, arm=1),
        failed,
        FanOut(0, [b"a"] * 8, ()),
        result(6),
    )
    assert found.spent == ((7, 9, 9e-6),)


def test_a_stage_goes_on_only_if_all_of_it_is_usual() -> None:
    assert done(work(), result(0), result(1)).next(2) == (0, [b"0", b"1"])
    assert done(work(), result(0), result(1)).next(3) is None, "not all of it is done"
    assert done(work(), result(0), result(1, arm=1)).next(2) is None
    assert done(work(), result(0), (FAIL, (), (), None, False)).next(2) is None
    late = LeaseExecution(Lease(1, "run", b"", ()), lambda: False, 0, 1 << 62, 0)
    assert done(late, result(0)).next(1) is None, "no report is held back for longer"
    told = done(work(), result(0))
    told.report(last=False)
    assert done(told, result(1)).next(1) is None


def test_early_reports_say_whether_it_is_a_successor_that_runs() -> None:
    one = done(work(), result(0))
    one.go_on()
    early = one.report(last=False)
    assert (early.results, early.chained) == ((result(0),), True)
    two = done(work(), result(0), result(1))
    two.go_on()
    early = done(two, result(2)).report(last=False)
    assert (early.results, early.chained) == ((Results(0, [b"0", b"1"], []), result(2)), False), "the last one shows it"
    assert not done(work(), result(0)).report(last=False).chained
    done(one, result(1))
    assert one.report().results == (result(1),)
