"""What is left of a run that was cancelled, and of many runs of which some failed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from floxide_mp import (
    Coordinator,
    FloxideError,
    Hold,
    Join,
    NextAll,
    RunFailedError,
    SQLiteStore,
    Workflow,
    node,
    source,
)
from tests.flows_run import Gate, enter, until

LIMIT = 40.0


@node
def spread(place: Path) -> Any:
    return NextAll([(place, number) for number in range(300)])


@node
def wait(given: tuple[Path, int]) -> int:
    """The first waits at a gate."""
    place, number = given
    if number == 0:
        enter(place / "gate")
        until((place / "gate" / "open").exists)
    return number


class Wide(Workflow):
    spread, wait, total = spread, wait, Join(sum, of=spread)
    start = spread
    edges = {spread: [wait], wait: [total]}


def unfinished(path: Path) -> list[int]:
    """How much of the run the store still has to do: items, arrivals, scopes."""
    reader = SQLiteStore.open_reader(path)
    try:
        found = reader.snapshot("r")
        reader.check()
        return [len(found.items), len(found.arrivals), len(found.scopes)]
    finally:
        reader.close()


def test_row_112_a_cancelled_run_drops_its_queue(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    with Coordinator(1, store=tmp_path / "runs.db") as c:
        run = c.start(Wide, tmp_path, run_id="r")
        gate.entered(1)
        until(lambda: len(run.pending_work()) > 100)
        run.cancel(LIMIT)
        gate.open()
        with pytest.raises(FloxideError, match="was cancelled"):
            run.wait(LIMIT)
        assert (run.pending_work(), run.work_items()) == ([], [])
        assert run.metrics().total_work_items == 301, "what there was stays counted"
        assert unfinished(tmp_path / "runs.db") == [0, 0, 0]


def test_row_112_so_does_one_that_nobody_works_on(tmp_path: Path) -> None:
    Gate(tmp_path)
    with Coordinator(2, store=tmp_path / "runs.db", grace=0.0) as c:
        run = c.start(Wide, tmp_path, run_id="r")
        until(lambda: run.metrics().completed > 100)
    assert all(unfinished(tmp_path / "runs.db")), "items, arrivals and a scope"
    with Coordinator(0, store=tmp_path / "runs.db") as c:
        c.run("r").cancel()
        assert c.run("r").pending_work() == []
    assert unfinished(tmp_path / "runs.db") == [0, 0, 0]


@node
def inverse(number: int) -> float:
    return 1 / number


class Inverse(Workflow):
    inverse = inverse
    start = inverse


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("failure", ["stop", "finish"])
def test_row_112_source_run_keeps_the_results_of_the_runs_that_completed(workers: int, failure: str) -> None:
    sender, values = source(10)
    for number in (1, 2, 0, 4, 0, 5):
        sender.send(number)
    sender.close()
    with pytest.raises(RunFailedError, match="division by zero") as caught:
        values.run(Inverse, workers=workers, failure=failure)
    outputs = [result.output for result in vars(caught.value)["results"]]
    others = vars(caught.value)["others"]
    if failure == "finish":
        assert (outputs, len(others)) == ([1.0, 0.5, 0.25, 0.2], 1)
    else:
        assert outputs[:2] == [1.0, 0.5] and 0.2 not in outputs[: 2 + workers]


@pytest.mark.parametrize("workers", [0, 2])
def test_row_112_a_run_that_failed_since_all_was_held_says_that_it_cannot_go_on(workers: int, tmp_path: Path) -> None:
    """Rather than to fail in the same way again, with its items lost."""
    with Coordinator(workers, store=tmp_path / "runs.db") as c, pytest.raises(RunFailedError, match="items are held"):
        c.start(Holding, 1, run_id="r").wait(LIMIT)
    message = r"run 'r' cannot be resumed: nothing is left .*: holding \(items 1\)\. .* under another run_id"
    with Coordinator(workers, store=tmp_path / "runs.db") as c:
        for resume in (lambda: c.resume(Holding, "r"), lambda: c.start(Holding, 1, run_id="r", resume=True)):
            with pytest.raises(FloxideError, match=message):
                resume()


@node
def holding(value: int) -> Any:
    return Hold()


class Holding(Workflow):
    holding = holding
    start = holding
