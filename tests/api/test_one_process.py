"""``run``, ``run_with_checkpoint`` and ``resume`` of a workflow, in this process or with workers of its own."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import (
    AlreadyCompletedError,
    Coordinator,
    FloxideError,
    MemoryStore,
    NotStartedError,
    RetryPolicy,
    RunCancelledError,
    RunFailedError,
    RunMetrics,
    RunStatus,
    Workflow,
)
from tests import flows_features as flows
from tests.flows_run import until

pytestmark = pytest.mark.parametrize("workers", [0, 2])
ALL = ["first", "second", "last"]


def ran(folder: Path) -> list[str]:
    return (folder / "ran").read_text().split()


def crash(folder: Path, name: str, workers: int, workflow: type[Workflow] = flows.Chain, **options: Any) -> None:
    """Ctrl-C while that step runs."""
    trouble = folder / name
    if not workers:
        trouble.write_text("interrupts")
        with pytest.raises(KeyboardInterrupt):
            workflow().run_with_checkpoint(str(folder), **options)
        return
    trouble.write_text("hangs")
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        until((folder / f"{name}-hangs").exists)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        workflow().run_with_checkpoint(str(folder), workers=workers, grace=0.0, **options)
    thread.join()


def test_a_fresh_store_starts_a_fresh_run(workers: int, tmp_path: Path) -> None:
    for count in (1, 2):
        store = MemoryStore()
        result = flows.Chain().run_with_checkpoint(str(tmp_path), store=store, run_id="x", workers=workers)
        assert (result.run_id, result.output, list(result.context.log)) == ("x", str(tmp_path), ALL)
        assert result.metrics == RunMetrics(3, 3, 0, 0)
        assert ran(tmp_path) == ALL * count
        assert [record.run_id for record in store.runs()] == ["x"]
    again = flows.Chain().run_with_checkpoint(str(tmp_path), store=store, run_id="y", workers=workers)
    assert again.outputs == result.outputs, "another id, another run"
    assert ran(tmp_path) == ALL * 3


@pytest.mark.parametrize("again", ["run_with_checkpoint", "resume"])
@pytest.mark.parametrize("name", ALL)
def test_a_failed_run_resumes_at_the_failed_item(workers: int, name: str, again: str, tmp_path: Path) -> None:
    """And repeats no finished one."""
    store, at = MemoryStore(), ALL.index(name)
    options = {"store": store, "run_id": "x", "workers": workers}
    (tmp_path / name).write_text("fails")
    for _ in range(2):
        with pytest.raises(RunFailedError, match=f"{name} fails"):
            flows.Chain().run_with_checkpoint(str(tmp_path), **options)
    (tmp_path / name).unlink()
    if again == "resume":
        result = flows.Chain().resume(**options)
    else:
        result = flows.Chain().run_with_checkpoint(str(tmp_path), **options)
    assert result.output == str(tmp_path)
    assert list(result.context.log) == ALL, "what failed has written nothing"
    assert result.metrics == RunMetrics(3, 3, 0, 0)
    assert ran(tmp_path) == [*ALL[:at], name, name, *ALL[at:]]
    assert [error.number for error in store.errors("x")] == [1, 2]


@pytest.mark.parametrize("again", ["run_with_checkpoint", "resume"])
@pytest.mark.parametrize("name", ALL)
def test_a_crash_inside_a_node_resumes_there(workers: int, name: str, again: str, tmp_path: Path) -> None:
    """Also in the first and in the last."""
    store, at = MemoryStore(), ALL.index(name)
    crash(tmp_path, name, workers, store=store, run_id="x")
    options = {"store": store, "run_id": "x", "workers": workers}
    if again == "resume":
        result = flows.Chain().resume(**options)
    else:
        result = flows.Chain().run_with_checkpoint(str(tmp_path), **options)
    assert result.output == str(tmp_path)
    assert list(result.context.log) == ALL
    assert result.metrics == RunMetrics(3, 3, 0, 0)
    # Inline that is the one. A worker tells of what it has done after some milliseconds, and goes on by itself.
    again_from = range(at if workers == 0 else 0, at + 1)
    assert ran(tmp_path) in [[*ALL[: at + 1], *ALL[first:]] for first in again_from]
    assert store.errors("x") == [], "it is not the node's doing"


def test_a_crash_inside_the_only_node_there_is(workers: int, tmp_path: Path) -> None:
    store = MemoryStore()
    crash(tmp_path, "only", workers, flows.Single, store=store, run_id="x")
    assert flows.Single().resume(store=store, run_id="x", workers=workers).output == str(tmp_path)
    assert ran(tmp_path) == ["only", "only"]


@pytest.mark.parametrize("workflow", [flows.Chain, flows.Single])
def test_a_completed_id_gives_its_stored_output_and_runs_nothing(
    workers: int, workflow: type[Workflow], tmp_path: Path
) -> None:
    store = MemoryStore()
    options = {"store": store, "run_id": "x", "workers": workers}
    first = workflow().run_with_checkpoint(str(tmp_path), **options)
    before = ran(tmp_path)
    for _ in range(2):
        result = workflow().run_with_checkpoint(str(tmp_path), **options)
        assert result.outputs == first.outputs == [str(tmp_path)]
        assert result.metrics == first.metrics
        assert result.context == first.context
        assert ran(tmp_path) == before
    with pytest.raises(AlreadyCompletedError, match="run 'x' is completed"):
        workflow().resume(**options)
    assert ran(tmp_path) == before


def test_resume_of_what_is_not_there(workers: int) -> None:
    store = MemoryStore()
    with pytest.raises(NotStartedError, match="there is no run 'x'"):
        flows.Chain().resume(store=store, run_id="x", workers=workers)
    assert store.runs() == []


def test_a_cancelled_run_is_not_taken_up(workers: int, tmp_path: Path) -> None:
    store = MemoryStore()
    with Coordinator(0, store) as coordinator:
        coordinator.start(flows.Chain, str(tmp_path), run_id="x").cancel()
    with pytest.raises(AlreadyCompletedError, match="'x' was cancelled, which is final"):
        flows.Chain().resume(store=store, run_id="x", workers=workers)
    with pytest.raises(RunCancelledError):
        flows.Chain().run_with_checkpoint(str(tmp_path), store=store, run_id="x", workers=workers)
    assert not (tmp_path / "ran").exists()


def test_a_paused_run_goes_on(workers: int, tmp_path: Path) -> None:
    store = MemoryStore()
    with Coordinator(0, store) as coordinator:
        coordinator.start(flows.Chain, str(tmp_path), run_id="x").pause()
    with Coordinator(workers, store) as coordinator:
        run = coordinator.start(flows.Chain, str(tmp_path), run_id="x")
        assert run.status is RunStatus.PAUSED, "starting it again does not lift the pause"
    result = flows.Chain().run_with_checkpoint(str(tmp_path), store=store, run_id="x", workers=workers)
    assert list(result.context.log) == ALL


@pytest.mark.parametrize("state", ["completed", "failed", "killed"])
def test_a_known_id_with_another_input_is_refused(workers: int, state: str, tmp_path: Path) -> None:
    store = MemoryStore()
    options = {"store": store, "run_id": "x", "workers": workers}
    if state == "killed":
        crash(tmp_path, "second", workers, store=store, run_id="x")
    elif state == "failed":
        (tmp_path / "second").write_text("fails")
        with pytest.raises(RunFailedError):
            flows.Chain().run_with_checkpoint(str(tmp_path), **options)
        (tmp_path / "second").unlink()
    else:
        flows.Chain().run_with_checkpoint(str(tmp_path), **options)
    before = ran(tmp_path)
    begun = "run 'x' is there and began with another"
    go_on = r"run_id; to go on with that run: coordinator\.resume\(Chain, 'x'\)"
    text = rf"{begun} input \(ctx and seed are the same\): input is another one\. For this one choose another {go_on}"
    with pytest.raises(FloxideError, match=text):
        flows.Chain().run_with_checkpoint("/elsewhere", **options)
    with pytest.raises(FloxideError, match=rf"{begun} ctx \(input and seed are the same\)"):
        flows.Chain().run_with_checkpoint(str(tmp_path), ctx=flows.Log(flows.EventLog(["more"])), **options)
    with pytest.raises(FloxideError, match=rf"{begun} seed \(input and ctx are the same\)"):
        flows.Chain().run_with_checkpoint(str(tmp_path), seed=1, **options)
    with pytest.raises(FloxideError, match=rf"{begun} input and another seed \(ctx is the same\)"):
        flows.Chain().run_with_checkpoint("/elsewhere", seed=1, **options)
    with pytest.raises(FloxideError, match="'x' is a run of Chain; choose another run_id for Flow"):
        flows.Flow().run_with_checkpoint(1, **options)
    with pytest.raises(FloxideError, match="'x' began in another graph of that name: second, last, third changed"):
        flows.chain("first", "second", "third")().run_with_checkpoint(str(tmp_path), **options)
    assert ran(tmp_path) == before
    assert flows.Chain().run_with_checkpoint(str(tmp_path), **options).output == str(tmp_path)


def test_a_mended_node_is_given_to_resume(workers: int, tmp_path: Path) -> None:
    store = MemoryStore()
    options = {"store": store, "run_id": "x", "workers": workers}
    (tmp_path / "second").write_text("fails")
    with pytest.raises(RunFailedError):
        flows.Chain().run_with_checkpoint(str(tmp_path), **options)
    result = flows.Chain(second=flows.Step("mended")).resume(**options)
    assert list(result.context.log) == ["first", "mended", "last"]
    assert ran(tmp_path) == ["first", "second", "mended", "last"]


def test_options_of_the_coordinator_and_of_the_run(workers: int, tmp_path: Path) -> None:
    policy = RetryPolicy(max_attempts=3, initial_backoff=0)
    (tmp_path / "first").write_text("fails")
    store = MemoryStore()
    options = {"store": store, "run_id": "x", "workers": workers, "retry": policy}
    with pytest.raises(RunFailedError, match="attempt 3"):
        flows.Chain().run_with_checkpoint(str(tmp_path), seed=7, failure="finish", timeout=40, **options)
    record = store.runs()[0]
    assert (record.seed, record.finish, record.timeout) == (7, True, 40)
    with pytest.raises(RunFailedError, match="attempt 3"):
        flows.Chain().resume(**options)
    with pytest.raises(TypeError):
        flows.Chain().run_with_checkpoint(str(tmp_path), store=store, run_id="x", nonsense=1)
    with pytest.raises(TypeError):
        flows.Chain().resume(store=store, run_id="x", seed=1)
    assert ran(tmp_path) == ["first"] * 6


def test_run_remembers_nothing(workers: int, tmp_path: Path) -> None:
    for count in (1, 2):
        result = flows.Chain().run(str(tmp_path), workers=workers, run_id="x")
        assert (result.run_id, result.output, list(result.context.log)) == ("x", str(tmp_path), ALL)
        assert ran(tmp_path) == ALL * count
    (tmp_path / "last").write_text("fails")
    with pytest.raises(RunFailedError, match="last fails"):
        flows.Chain().run(str(tmp_path), workers=workers)
