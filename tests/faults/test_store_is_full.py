"""Coordinators whose store takes nothing: for a while, or for good. What they had told is there, what runs goes on."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from floxide_mp import Coordinator, Run, RunFailedError, RunStatus, SQLiteStore, StoreError
from floxide_mp.coordinator import group_commit as journal
from floxide_mp.stores.sqlite import sqlite_errors
from floxide_mp.stores.sqlite.lock import lock_path
from floxide_mp.stores.sqlite.row_codec import Prepared
from tests.flows_durable import COUNT, Durable
from tests.flows_run import until


class Failing(SQLiteStore):
    """Its medium fails as often as ``left`` says, as SQLite tells it."""

    left = 0
    only: str | None = None  # the run that it fails for
    code = sqlite3.SQLITE_IOERR_WRITE

    def write(self, prepared: Sequence[Prepared]) -> None:
        if self.left and self.only in (None, *(one.run_id for one in prepared)):
            self.left -= 1
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode, error.sqlite_errorname = self.code, "SQLITE_IOERR_WRITE"
            raise sqlite_errors.translated(self.path, error)
        super().write(prepared)


def done(folder: Path) -> Counter[int]:
    return Counter(map(int, (folder / "effects").read_text().split()))


@contextmanager
def waiting(run: Run) -> Iterator[None]:
    """Somebody waits for it: inline, steps run only then."""
    thread = threading.Thread(target=run.wait, args=(120,))
    thread.start()
    try:
        yield
    finally:
        thread.join()


def limit(store: SQLiteStore, pages: Callable[[int], int]) -> None:
    """The disk has so many pages, given how many there are."""
    with store._writing:
        (there,) = store._writer.execute("PRAGMA page_count").fetchone()
        store._writer.execute(f"PRAGMA max_page_count = {pages(there)}")


@pytest.mark.parametrize("workers", [0, 2])
def test_row_30_disk_full_pauses_the_run_until_there_is_space(
    tmp_path: Path, workers: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "FULL", 0.05)
    store = SQLiteStore(tmp_path / "runs.db")
    with Coordinator(workers, store=store) as coordinator:
        run = coordinator.start(Durable, str(tmp_path), run_id="durable")
        limit(store, lambda there: there)
        with waiting(run):
            until(lambda: run.status is RunStatus.PAUSED)
            told = run.info()
            assert told.error is not None and "no space left; about" in told.error and "runs.db" in told.error
            assert coordinator.runs(RunStatus.PAUSED) == [told]
            with pytest.raises(StoreError, match="no space left"):
                coordinator.start(Durable, str(tmp_path) + "x" * 100_000, run_id="another")
            limit(store, lambda there: 1_000_000)
            run.resume()  # "try now"; it would anyway
        result = run.wait(60)
    store.close()
    assert result.outputs == list(range(COUNT))
    assert set(done(tmp_path).values()) == {1}
    assert "nothing new starts until this can be written, and nothing is lost" in caplog.text
    assert "the store can be written to again" in caplog.text


def test_row_30_disk_full_for_good_ends_with_the_coordinator(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("floxide_mp.coordinator.closing.SETTLE", 0.1)
    store = SQLiteStore(tmp_path / "runs.db")
    with Coordinator(2, store=store) as coordinator:
        run = coordinator.start(Durable, str(tmp_path), run_id="durable")
        limit(store, lambda there: there)
        until(lambda: run.status is RunStatus.PAUSED)
    assert "could not be written" in caplog.text
    limit(store, lambda there: 1_000_000)
    with Coordinator(2, store=store) as coordinator:
        assert coordinator.info("durable").metrics.completed == 0
        assert coordinator.resume(Durable, "durable").wait(60).outputs == list(range(COUNT))
    store.close()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("times", [1, journal.TRIES - 1])
def test_row_31_an_error_of_the_disk_is_tried_again(
    tmp_path: Path, workers: int, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "FIRST", 0.001)
    store = Failing(tmp_path / "runs.db")
    with Coordinator(workers, store=store) as coordinator:
        store.left = times
        assert coordinator.start(Durable, str(tmp_path)).wait(60).outputs == list(range(COUNT))
        assert store.left == 0
    store.close()
    assert set(done(tmp_path).values()) == {1}


@pytest.mark.parametrize("workers", [0, 2])
def test_row_31_an_error_of_the_disk_that_stays_stops_the_run(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(journal, "FIRST", 0.001)
    store = Failing(tmp_path / "runs.db")
    with Coordinator(workers, store=store) as coordinator:
        store.left = 1000
        run = coordinator.start(Durable, str(tmp_path), run_id="durable")
        with pytest.raises(RunFailedError, match="disk I/O error") as caught:
            run.wait(60)
        assert isinstance(caught.value.__cause__, StoreError)
        assert not hasattr(caught.value.__cause__, "__notes__") and "Traceback" not in caplog.text
        store.left = 0
        assert coordinator.resume(Durable, "durable").wait(60).outputs == list(range(COUNT))
    store.close()
    assert "run durable cannot go on" in caplog.text


def test_row_31_a_run_that_cannot_be_written_is_no_reason_to_lose_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "FIRST", 0.001)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    store = Failing(tmp_path / "runs.db")
    with Coordinator(2, store=store) as coordinator:
        store.only, store.left, store.code = "one", 1000, sqlite3.SQLITE_CORRUPT
        doomed, other = (coordinator.start(Durable, str(tmp_path / name), run_id=name) for name in ("one", "two"))
        with pytest.raises(RunFailedError, match="disk I/O error"):
            doomed.wait(60)
        assert other.wait(60).outputs == list(range(COUNT))
    store.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_row_29_a_coordinator_whose_store_was_taken_over_stops(tmp_path: Path, workers: int) -> None:
    first = SQLiteStore(tmp_path / "runs.db")
    with Coordinator(workers, store=first) as coordinator:
        run = coordinator.start(Durable, str(tmp_path), run_id="durable")
        os.unlink(lock_path(str(tmp_path / "runs.db")))
        second = SQLiteStore(tmp_path / "runs.db")
        with pytest.raises(RunFailedError, match=r"was taken over by the coordinator with pid \d+"):
            run.wait(60)
        with Coordinator(workers, store=second) as owner:
            assert owner.resume(Durable, "durable").wait(60).outputs == list(range(COUNT))
    for store in (first, second):
        store.close()


def test_row_30_a_log_handler_that_raises_does_not_stop_what_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Raising(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise RuntimeError("no place for logs either")

    monkeypatch.setattr(journal, "FULL", 0.05)
    monkeypatch.setattr(logging.getLogger("floxide_mp"), "handlers", [Raising()])
    store = SQLiteStore(tmp_path / "runs.db")
    with Coordinator(1, store=store) as coordinator:
        run = coordinator.start(Durable, str(tmp_path), run_id="durable")
        limit(store, lambda there: there)
        until(lambda: run.status is RunStatus.PAUSED)
        limit(store, lambda there: 1_000_000)
        assert run.wait(60).outputs == list(range(COUNT))
    store.close()
