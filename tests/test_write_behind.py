"""Group commit: no worker waits for the disk, and nobody is told what is not on it yet."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from floxide_mp import Coordinator, FloxideError, RunStatus, SQLiteStore
from floxide_mp.runtime import running
from floxide_mp.stores.rows import Prepared
from tests.flows_durable import COUNT, Durable
from tests.flows_run import until
from tests.flows_written import Reading


class Slow(SQLiteStore):
    """Writes nothing until its gate is open."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gate = threading.Event()
        self.groups: list[int] = []

    def write(self, prepared: Sequence[Prepared]) -> None:
        assert self.gate.wait(60)
        self.groups.append(len(prepared))
        super().write(prepared)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_is_told_to_be_over_when_that_is_on_disk(tmp_path: Path, workers: int) -> None:
    store = Slow(tmp_path / "runs.db")
    with Coordinator(workers, store=store) as coordinator:
        run = coordinator.start(Durable, str(tmp_path))
        with pytest.raises(TimeoutError):
            run.wait(0.2)
        waits = threading.Thread(target=run.wait, args=(60,))
        waits.start()
        until(lambda: (tmp_path / "effects").exists() and len((tmp_path / "effects").read_text().split()) == COUNT)
        assert (run.status, run.metrics().completed) == (RunStatus.RUNNING, 0)
        assert not store.outputs(run.run_id)
        store.gate.set()
        waits.join()
        assert (run.status, run.metrics().completed) == (RunStatus.COMPLETED, COUNT + 1)
        assert len(store.outputs(run.run_id)) == COUNT
    store.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_steps_see_the_events_of_others_before_they_are_on_disk(tmp_path: Path, workers: int) -> None:
    store = Slow(tmp_path / "runs.db")
    with Coordinator(workers, store=store) as coordinator:
        run = coordinator.start(Reading, 30)
        with pytest.raises(TimeoutError):
            run.wait(0.2)
        assert not store.events(run.run_id)
        store.gate.set()
        assert run.wait(60).output == list(range(31, 0, -1))
    assert max(store.groups) > 1
    store.close()


def test_a_worker_that_comes_late_gets_old_events_from_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "KEPT", 3)
    with Coordinator(1, store=tmp_path / "runs.db") as coordinator:
        assert coordinator.start(Reading, 200).wait(60).output == list(range(201, 0, -1))
    with Coordinator(1, store=tmp_path / "runs.db") as coordinator:
        run = coordinator.start(Reading, 200, run_id="again")
        assert run.wait(60).output == list(range(201, 0, -1))


def test_closing_writes_what_is_done(tmp_path: Path) -> None:
    store = Slow(tmp_path / "runs.db")
    coordinator = Coordinator(1, store=store)
    run = coordinator.start(Durable, str(tmp_path))
    until(lambda: (tmp_path / "effects").exists())
    closing = threading.Thread(target=coordinator.close)
    closing.start()
    store.gate.set()
    closing.join()
    count = run.metrics().completed
    assert count >= 2 and len(store.outputs(run.run_id)) == count - 1
    with pytest.raises(FloxideError):
        coordinator.start(Durable, str(tmp_path))
    store.close()
