"""Row 116: what a coordinator and its workers keep of runs that are over."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import Context, Coordinator, EventLog, FloxideError, RunCancelledError, RunFailedError, Workflow, node
from floxide_mp.coordinator.active_run import ActiveRun
from floxide_mp.stores.memory import MemoryStore


@dataclass
class Notes(Context):
    heard: EventLog[str] = field(default_factory=EventLog)


@node
def hear(ctx: Notes, word: str) -> str:
    if word == "fail" and not heal:
        raise ValueError(word)
    ctx.heard.append(word)
    return word * 2


heal: list[bool] = []


class Hears(Workflow):
    context = Notes
    hear = start = hear


@pytest.fixture(params=["memory", "disk"])
def store(request: Any, tmp_path: Path) -> Any:
    return None if request.param == "memory" else tmp_path / "runs.db"


def test_row_116_of_a_run_that_is_over_the_coordinator_keeps_the_header(store: Any) -> None:
    with Coordinator(0, store) as coordinator:
        run = coordinator.start(Hears, "hello", run_id="r")
        result = run.wait()
        known = coordinator._scheduler.known("r")
        assert not isinstance(known, ActiveRun)
        assert (known.record.workflow, known.record.context, known.record.input) == (b"", b"", None)
        # ... and everything can be asked for as before.
        assert run.wait().output == result.output == "hellohello"
        for context in (result.context, run.context(), run.checkpoint().context):
            assert [logged.event for logged in context.heard.iter()] == ["hello"]
        assert list(run.stream()) == ["hellohello"]
        assert coordinator.start(Hears, "hello", run_id="r").wait().output == "hellohello"
        with pytest.raises(FloxideError, match="another input"):
            coordinator.start(Hears, "other", run_id="r")


def test_row_116_a_cancelled_run_as_well_but_not_one_that_can_be_resumed(store: Any) -> None:
    with Coordinator(0, store) as coordinator:
        run = coordinator.start(Hears, "hello", run_id="r")
        run.pause()
        run.cancel()
        assert not isinstance(coordinator._scheduler.known("r"), ActiveRun)
        with pytest.raises(RunCancelledError):
            run.wait()
        failed = coordinator.start(Hears, "fail", run_id="f")
        with pytest.raises(RunFailedError):
            failed.wait()
        heal.append(True)
        try:
            failed.resume()
            assert failed.wait().output == "failfail"
        finally:
            heal.clear()


def test_row_116_a_store_that_is_opened_has_headers_in_memory_and_goes_on(tmp_path: Path) -> None:
    with Coordinator(0, tmp_path / "runs.db") as coordinator:
        for word in ("one", "fail"):
            run = coordinator.start(Hears, word, run_id=word)
            if word == "one":
                run.wait()
            else:
                with pytest.raises(RunFailedError):
                    run.wait()
    heal.append(True)
    try:
        with Coordinator(0, tmp_path / "runs.db") as coordinator:
            assert all(not run.record.workflow for run in coordinator._scheduler._runs.values())
            assert [logged.event for logged in coordinator.run("one").context().heard.iter()] == ["one"]
            assert coordinator.resume(Hears, "fail").wait().output == "failfail"
    finally:
        heal.clear()


def test_row_116_a_worker_forgets_runs_that_are_over() -> None:
    with Coordinator(0) as coordinator:
        worker = coordinator._engine._worker  # type: ignore[attr-defined]
        paused = coordinator.start(Hears, "paused")
        paused.pause()
        for number in range(5):
            coordinator.start(Hears, str(number), run_id=f"r{number}").wait()
            assert set(worker._runs) <= {f"r{number}"}
        paused.resume()
        assert paused.wait().output == "pausedpaused"


def test_row_116_runs_of_one_workflow_have_its_pickle_once_in_memory() -> None:
    store = MemoryStore()
    with Coordinator(0, store) as coordinator:
        for number in range(3):
            coordinator.start(Hears, str(number), run_id=str(number)).wait()
    assert len({id(store.record(str(number)).workflow) for number in range(3)}) == 1
