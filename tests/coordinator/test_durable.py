"""``store="runs.db"``: what is acknowledged outlives the program, and is not done again."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from floxide_mp import (
    AlreadyCompletedError,
    Coordinator,
    FloxideError,
    Join,
    MemoryStore,
    Node,
    RunFailedError,
    RunStatus,
    SplitNode,
    SQLiteStore,
    StoreError,
    StoreLockedError,
    Workflow,
    node,
    when,
)
from tests.filled import Reading
from tests.flows_durable import COUNT, Durable

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("workers", [0, 2])
def test_row_23_a_program_is_killed_and_its_run_goes_on(tmp_path: Path, workers: int) -> None:
    program = [sys.executable, "-m", "tests.flows_durable", str(tmp_path)]
    with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        told = [int(line) for line in islice(child.stdout, 60)]
        child.send_signal(signal.SIGKILL)
    with Coordinator(workers, store=tmp_path / "runs.db") as coordinator:
        left = coordinator.runs()
        assert [info.run_id for info in left] == ["durable"]
        assert left[0].status in (RunStatus.RUNNING, RunStatus.COMPLETED)
        run = coordinator.run("durable")
        if left[0].status is RunStatus.RUNNING:
            with pytest.raises(FloxideError, match=r"coordinator\.resume"):
                run.wait(60)
            coordinator.resume(Durable, "durable")
        result = run.wait(60)
        assert result.outputs == list(range(COUNT))
        assert result.metrics.completed == COUNT + 1
    done = Counter(map(int, (tmp_path / "effects").read_text().split()))
    assert set(done) == set(range(COUNT))
    assert all(done[number] == 1 for number in told), "what was told was committed, and is not done again"


def test_a_completed_run_is_there_for_the_next_program(tmp_path: Path) -> None:
    store = str(tmp_path / "runs.db")
    first = Durable().run_with_checkpoint(str(tmp_path), store=store, run_id="a", workers=2)
    again = Durable().run_with_checkpoint(str(tmp_path), store=store, run_id="a")
    assert first.outputs == again.outputs == list(range(COUNT))
    assert len((tmp_path / "effects").read_text().split()) == COUNT
    with pytest.raises(AlreadyCompletedError):
        Durable().resume(store=store, run_id="a")


def test_row_29_a_store_has_one_coordinator(tmp_path: Path) -> None:
    with Coordinator(0, store=tmp_path / "runs.db"), pytest.raises(StoreLockedError):
        Coordinator(0, store=tmp_path / "runs.db")
    with Coordinator(0, store=tmp_path / "runs.db"):
        pass  # it is free again


def make_and_drop(store: SQLiteStore | MemoryStore) -> None:
    """A coordinator that is never closed."""
    Coordinator(0, store=store)
    gc.collect()


@pytest.mark.parametrize("kind", [SQLiteStore, MemoryStore])
def test_row_29_a_store_that_is_given_has_one_coordinator(tmp_path: Path, kind: type) -> None:
    store = SQLiteStore(tmp_path / "runs.db") if kind is SQLiteStore else MemoryStore()
    for _ in range(2):
        with Coordinator(0, store=store) as coordinator:
            run = coordinator.start(Durable, str(tmp_path), run_id="durable")
            with pytest.raises(StoreLockedError, match="has a coordinator already"):
                Coordinator(0, store=store)
            assert run.wait(60).outputs
    with pytest.warns(ResourceWarning, match="a Coordinator was not closed"):
        make_and_drop(store)
    with Coordinator(0, store=store) as coordinator:  # that one is gone, and has given the store back
        assert [info.run_id for info in coordinator.runs()] == ["durable"]
    store.close()


def test_a_store_that_is_given_is_left_open(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "runs.db")
    with Coordinator(0, store=store) as coordinator:
        coordinator.start(Durable, str(tmp_path), run_id="a").wait(60)
    assert [record.run_id for record in store.runs()] == ["a"]
    store.close()


class Gate(Node):
    """Lets pass once the file is there."""

    def __init__(self, path: str) -> None:
        self.path = path

    def process(self, value: int) -> int:
        if not Path(self.path).exists():
            raise ValueError("closed")
        return value


@pytest.mark.parametrize("by", ["run", "coordinator"])
def test_who_resumes_a_run_and_waits_is_not_told_of_its_old_failure(tmp_path: Path, by: str) -> None:
    workflow = Workflow.build("Gated", {"gate": Gate(str(tmp_path / "open"))}, "gate", {})
    with Coordinator(1, store=tmp_path / "runs.db") as coordinator:
        run = coordinator.start(workflow, 1)
        with pytest.raises(RunFailedError, match="closed"):
            run.wait(60)
        (tmp_path / "open").touch()
        if by == "run":
            run.resume()
        else:
            coordinator.resume(workflow, run.run_id)
        assert run.wait(60).outputs == [1]


def test_a_store_that_was_closed_with_its_coordinator_says_so(tmp_path: Path) -> None:
    with Coordinator(0, store=tmp_path / "runs.db") as coordinator:
        run = coordinator.start(Durable, str(tmp_path))
        result = run.wait(60)
    assert result.outputs == list(range(COUNT))
    assert run.status is RunStatus.COMPLETED
    with pytest.raises(StoreError, match=r"runs\.db is closed, by close\(\) or with its coordinator"):
        run.wait(60)


def test_to_resume_makes_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=rf"^there is no store {tmp_path}/runs\.db$"):
        Durable().resume(store=tmp_path / "runs.db", run_id="x")
    assert list(tmp_path.iterdir()) == []


def test_a_loop_through_several_joins_of_a_fan_out_may_be_long(tmp_path: Path) -> None:
    """The number that such a join puts into branch paths doubles with each turn."""

    def side_by_side(left: int) -> list[int]:
        return [left] * 9

    class Loop(Workflow):
        split = SplitNode(side_by_side)
        same = node(lambda left: left)
        one = Join(max, of=split)
        other = Join(max, of=split)
        again = node(lambda left: left - 1)
        start = split
        edges = {
            split: [same],
            same: [one, other],
            one: {when(int, lambda left: left > 0): [again], int: []},
            again: [split],
            other: [],
        }

    with Coordinator(0, store=tmp_path / "runs.db") as coordinator:
        result = coordinator.start(Loop, 70, run_id="loop").wait(60)
        assert result.outputs == Loop().run(70).outputs
    with Reading(tmp_path / "runs.db") as reader:
        reader.check()


@pytest.mark.parametrize("workers", [0, 1])
def test_ctrl_c_while_it_is_closed_lets_go_of_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """In a notebook, say, where the process goes on."""
    coordinator = Coordinator(workers, store=tmp_path / "runs.db")
    coordinator.start(Durable, str(tmp_path), run_id="durable")

    def interrupted(grace: float) -> None:
        monkeypatch.undo()
        coordinator._engine.stop(grace)
        raise KeyboardInterrupt

    monkeypatch.setattr(coordinator._engine, "stop", interrupted)
    with pytest.raises(KeyboardInterrupt):
        coordinator.close()
    with Coordinator(workers, store=tmp_path / "runs.db") as coordinator:
        assert coordinator.resume(Durable, "durable").wait(60).outputs == list(range(COUNT))
