"""Runs on the way to an end, and how they are gone on with: what a user asks for is done, or an error says why not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import (
    AlreadyCompletedError,
    Coordinator,
    FloxideError,
    MemoryStore,
    NextAll,
    RetryPolicy,
    Run,
    RunCancelledError,
    RunFailedError,
    RunStatus,
    RunTimeoutError,
    Workflow,
    node,
)
from tests.flows_run import Gate, enter, until

LIMIT = 40.0


@node
def begin(place: Path) -> Any:
    return NextAll([(place, "fails"), (place, "waits")])


@node
def work(given: tuple[Path, str]) -> str:
    """The second waits at a gate; the first fails as soon as that one runs, unless it is mended."""
    place, what = given
    if what == "waits":
        enter(place / "gate")
        until((place / "gate" / "open").exists)
    elif not (place / "mended").exists():
        until(lambda: list((place / "gate").glob("in-*")))
        raise ValueError("not mended")
    return what


class Two(Workflow):
    begin, work = begin, work
    start = begin
    edges = {begin: [work]}


def ending(c: Coordinator, place: Path, how: str) -> tuple[Run, Gate]:
    """A run on the way to an end, of which a step still runs."""
    gate = Gate(place)
    if how != "failing":
        (place / "mended").touch()
    run = c.start(Two, place, run_id="r")
    gate.entered(1)
    if how == "timing out":
        c.resume(Two, "r", timeout=0.0, timeout_grace=LIMIT)
    if how == "being cancelled":
        run.cancel(LIMIT)
    until(lambda: run.status.value == how)
    return run, gate


@pytest.mark.parametrize("how", ["failing", "timing out"])
def test_row_108_resume_and_pause_of_a_run_that_is_about_to_fail(how: str, tmp_path: Path) -> None:
    with Coordinator(2) as c:
        run, gate = ending(c, tmp_path, how)
        (tmp_path / "mended").touch()
        message = rf"run 'r' is {how}: it cannot be resumed any more; wait for its end \(run\.wait\(\)\)"
        resumes = (run.resume, lambda: c.resume(Two, "r"), lambda: c.start(Two, tmp_path, run_id="r", resume=True))
        for resume in resumes:
            with pytest.raises(FloxideError, match=message):
                resume()
        with pytest.raises(FloxideError, match=f"is {how}: it cannot be paused any more"):
            run.pause()
        assert c.runs(RunStatus(how))[0].run_id == "r"
        gate.open()
        with pytest.raises((RunFailedError, RunTimeoutError)):
            run.wait(LIMIT)
        assert run.status is RunStatus.FAILED
        c.resume(Two, "r", timeout=math.inf)  # what was said to be possible then
        assert run.wait(LIMIT).outputs == ["fails", "waits"]


def test_row_108_of_a_run_that_is_being_cancelled(tmp_path: Path) -> None:
    with Coordinator(2) as c:
        run, gate = ending(c, tmp_path, "being cancelled")
        run.cancel()  # once more: it is, and its grace is not longer by that
        for verb, what in ((run.resume, "resumed"), (lambda: c.resume(Two, "r"), "resumed"), (run.pause, "paused")):
            with pytest.raises(AlreadyCompletedError, match=f"is being cancelled: it cannot be {what} any more"):
                verb()
        gate.open()
        with pytest.raises(RunCancelledError):
            run.wait(LIMIT)


def test_row_108_a_run_that_is_failing_can_be_cancelled(tmp_path: Path) -> None:
    with Coordinator(2) as c:
        run, gate = ending(c, tmp_path, "failing")
        run.cancel(LIMIT)
        assert run.status is RunStatus.CANCELLING
        gate.open()
        with pytest.raises(RunCancelledError):
            run.wait(LIMIT)


@pytest.mark.parametrize(("how", "end"), [("failing", RunStatus.FAILED), ("being cancelled", RunStatus.CANCELLED)])
def test_row_108_a_run_whose_program_is_gone_has_come_to_the_end_that_was_near(
    how: str, end: RunStatus, tmp_path: Path
) -> None:
    store = tmp_path / "runs.db"
    with Coordinator(2, store=store, grace=0.0) as c:
        _, gate = ending(c, tmp_path, how)
    (tmp_path / "mended").touch()
    gate.open()
    with Coordinator(0, store=store) as c:
        run = c.run("r")
        assert run.status is end
        if end is RunStatus.CANCELLED:
            with pytest.raises(RunCancelledError):
                run.wait(LIMIT)
        else:
            assert c.resume(Two, "r").wait(LIMIT).outputs == ["fails", "waits"]


# -- given again --------------------------------------------------------------------------------------------------


def timed_out(c: Coordinator, place: Path) -> Run:
    """A run that has failed since its time-out is over, with a step at the gate, which is open now."""
    gate = Gate(place)
    (place / "mended").touch()
    run = c.start(Two, place, run_id="r", timeout=0.2, timeout_grace=0.0)
    with pytest.raises(RunTimeoutError, match=r"time-out of 0\.2 s; what still ran had 0 s to end"):
        run.wait(LIMIT)
    gate.open()
    return run


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("verb", ["resume", "start"])
@pytest.mark.parametrize("store", ["memory", "disk"])
def test_row_113_a_run_that_timed_out_is_given_more_time(workers: int, verb: str, store: str, tmp_path: Path) -> None:
    kept: Any = MemoryStore() if store == "memory" else tmp_path / "runs.db"
    with Coordinator(2, store=kept) as c:
        timed_out(c, tmp_path)
    with Coordinator(workers, store=kept) as c:
        if verb == "resume":
            run = c.resume(Two, "r", timeout=1000.0, timeout_grace=7.0, failure="finish")
        else:
            more: dict[str, Any] = {"timeout": 1000.0, "timeout_grace": 7.0, "failure": "finish"}
            run = c.start(Two, tmp_path, run_id="r", resume=True, **more)
        assert run.wait(LIMIT).outputs == ["fails", "waits"]
    with Coordinator(0, store=kept) as c:
        record = c.run("r")._scheduler.known("r").record
        assert (record.timeout, record.timeout_grace, record.finish) == (1000.0, 7.0, True), "they are remembered"


def test_row_113_what_is_not_given_again_to_resume_stays(tmp_path: Path) -> None:
    with Coordinator(2) as c:
        run = timed_out(c, tmp_path)
        (tmp_path / "gate" / "open").unlink()
        c.resume(Two, "r")
        with pytest.raises(RunTimeoutError, match=r"time-out of 0\.2 s"):
            run.wait(LIMIT)


@pytest.mark.parametrize("workers", [0, 2])
def test_row_113_a_paused_run_goes_on_with_what_it_is_given(workers: int, tmp_path: Path) -> None:
    """Also where the coordinator that paused it is there. Started again without going on, it is refused."""
    Gate(tmp_path)
    with Coordinator(workers, store=tmp_path / "runs.db") as c:
        run = c.start(Two, tmp_path, run_id="r", timeout=2000.0)
        run.pause()
        with pytest.raises(FloxideError, match="run 'r' is paused, with another timeout and another failure: "):
            c.start(Two, tmp_path, run_id="r", timeout=0.01, failure="finish")
        assert c.start(Two, tmp_path, run_id="r", timeout=2000.0).status is RunStatus.PAUSED
        c.start(Two, tmp_path, run_id="r", timeout=0.01, timeout_grace=0.0, resume=True)
        if workers:
            with pytest.raises(RunTimeoutError, match=r"time-out of 0\.01 s"):
                run.wait(LIMIT)
        record = run._scheduler.known("r").record
        assert (record.timeout, record.finish) == (0.01, False)


def test_row_113_a_run_that_is_on_is_given_another_time_out(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    (tmp_path / "mended").touch()
    with Coordinator(2) as c:
        run = c.start(Two, tmp_path, run_id="r")
        gate.entered(1)
        c.resume(Two, "r", timeout=0.01, timeout_grace=0.0)
        with pytest.raises(RunTimeoutError, match=r"time-out of 0\.01 s"):
            run.wait(LIMIT)


@node
def thrice(place: Path) -> int:
    """Fails at its first two attempts after it is mended, and at all before."""
    with (place / "attempts").open("a") as file:
        file.write(".")
    count = (place / "attempts").stat().st_size
    if count < 4:
        raise ValueError(count)
    return count


class Thrice(Workflow):
    thrice = thrice
    start = thrice


@pytest.mark.parametrize("workers", [0, 2])
def test_row_113_another_retry_policy_holds_from_the_resume_on(workers: int, tmp_path: Path) -> None:
    """It is the coordinator's, for nodes that have none of their own."""
    with Coordinator(workers, store=tmp_path / "runs.db") as c, pytest.raises(RunFailedError, match="ValueError: 1"):
        c.start(Thrice, tmp_path, run_id="r").wait(LIMIT)
    with Coordinator(workers, store=tmp_path / "runs.db", retry=RetryPolicy(3, 0.001)) as c:
        run = c.resume(Thrice, "r")
        assert run.wait(LIMIT).output == 4
        assert [error.attempt for error in run.errors()] == [1, 1, 2]


@pytest.mark.parametrize("options", [{"timeout": -1}, {"timeout_grace": "2"}, {"failure": "go"}], ids=repr)
def test_row_113_options_that_make_no_sense(options: dict[str, Any], tmp_path: Path) -> None:
    with Coordinator(0) as c:
        with pytest.raises(ValueError, match=next(iter(options))):
            c.start(Two, tmp_path, run_id="r", **options)
        c.start(Two, tmp_path, run_id="r").pause()
        with pytest.raises(ValueError, match=next(iter(options))):
            c.resume(Two, "r", **options)
