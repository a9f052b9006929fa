"""FAULTS row 45: a program is killed while an item waits for its next attempt. When that is due was stored."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from floxide_mp import Coordinator, SQLiteStore, WorkItemStatus
from floxide_mp.cli import runs
from floxide_mp.stores.sqlite.clock_conversion import Clocks

from ..scripts import ROOT
from .flows_back_off import waiting
from .test_worker_dies import eventually

OUTPUTS = [(0, 1), (1, 2), (2, 1)]  # (number, attempt)
WAITING = WorkItemStatus.WAITING_RETRY.value
HOUR = 3600.0


def attempts(folder: Path) -> list[tuple[int, float]]:
    """(attempt, time on the wall) of each execution of the item that fails once."""
    lines = (folder / "attempts").read_text().splitlines()
    return [(int(line.split()[0]), float(line.split()[1])) for line in lines]


def left_waiting(folder: Path, seconds: float) -> float:
    """Kill a program in the middle of the back-off; when the next attempt is due, on the wall."""
    program = [sys.executable, "-m", "tests.faults.flows_back_off", str(folder), str(seconds)]
    with subprocess.Popen(program, cwd=ROOT) as child:
        try:
            eventually(lambda: statuses(folder) == [WAITING] and completed(folder) == 3, "only it is left, and waits")
        finally:
            child.send_signal(signal.SIGKILL)
    (row,) = stored(folder)
    status, attempt, due = row
    assert (status, attempt) == (WAITING, 2), "the attempt that it waits for"
    ((first, failed),) = attempts(folder)
    assert first == 1
    assert failed + seconds <= due <= time.time() + seconds
    return due


def stored(folder: Path) -> list[tuple[str, int, float]]:
    return query(folder, "SELECT status, attempt, due FROM items")


def statuses(folder: Path) -> list[str]:
    return [status for status, _, _ in stored(folder)]


def completed(folder: Path) -> int:
    return sum(count for (count,) in query(folder, "SELECT completed FROM progress"))


def query(folder: Path, sql: str) -> list[tuple]:  # type: ignore[type-arg]
    """Another program's look at the store; nothing while it is not there yet."""
    try:
        connection = sqlite3.connect(f"file:{folder / 'runs.db'}?mode=ro", uri=True)
    except sqlite3.OperationalError:
        return []
    try:
        return connection.execute(sql).fetchall()
    except sqlite3.OperationalError:
        return []
    finally:
        connection.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_row_45_a_back_off_goes_on_after_a_crash(workers: int, tmp_path: Path) -> None:
    due = left_waiting(tmp_path, 2.0)
    with Coordinator(workers, store=tmp_path / "runs.db") as c:
        run = c.resume(waiting(2.0), "waiting")
        result = run.wait(50)
    assert result.outputs == OUTPUTS
    assert result.metrics.retries == 1
    _, (attempt, begun) = attempts(tmp_path)
    assert attempt == 2, "the number is kept"
    assert begun >= due - 0.001, "not before it was due"


@pytest.mark.parametrize("workers", [0, 2])
def test_row_45_what_came_due_meanwhile_is_run_at_once(workers: int, tmp_path: Path) -> None:
    left_waiting(tmp_path, HOUR)
    with Coordinator(workers, store=tmp_path / "runs.db") as c:
        run = c.resume(waiting(HOUR), "waiting")
        assert not run._engine.wait("waiting", len(OUTPUTS), 0.3)
        (item,) = run.pending_work()
        assert (item.status, item.attempt) == (WorkItemStatus.WAITING_RETRY, 2), "being resumed is no reason to hurry"
    assert len(attempts(tmp_path)) == 1
    store = SQLiteStore(tmp_path / "runs.db", clocks=Clocks(time.monotonic, lambda: time.time() + HOUR))
    try:
        with Coordinator(workers, store=store) as c:
            assert c.resume(waiting(HOUR), "waiting").wait(50).outputs == OUTPUTS
    finally:
        store.close()
    assert [attempt for attempt, _ in attempts(tmp_path)] == [1, 2]


@pytest.mark.parametrize("workers", [0, 2])
def test_row_115_the_clock_on_the_wall_is_set_back_while_nobody_is_there(workers: int, tmp_path: Path) -> None:
    left_waiting(tmp_path, 2.0)
    store = SQLiteStore(tmp_path / "runs.db", clocks=Clocks(time.monotonic, lambda: time.time() - 24 * HOUR))
    try:
        with Coordinator(workers, store=store) as c:
            assert c.resume(waiting(2.0), "waiting").wait(40).outputs == OUTPUTS
    finally:
        store.close()
    assert [attempt for attempt, _ in attempts(tmp_path)] == [1, 2]


def test_row_115_times_are_shown_with_their_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hour that comes twice when clocks are put back: which of two times came first can be seen."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        shown = [runs._date(at) for at in (1792889400.0, 1792891200.0)]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert shown == ["2026-10-25 02:50:00+02:00", "2026-10-25 02:20:00+01:00"]
