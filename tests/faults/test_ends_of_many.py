"""What is left of a run that was cancelled, and of many runs of which some failed."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import (
    Context,
    Coordinator,
    EventLog,
    FloxideError,
    Hold,
    Join,
    MemoryStore,
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


@dataclass
class Seen(Context):
    seen: EventLog[int] = field(default_factory=EventLog)


@node
def each(place: Path) -> Any:
    return NextAll([(place, number) for number in range(4)])


@node
def gather(ctx: Seen, given: tuple[Path, int]) -> Any:
    """Holds, unless it is mended: then the last one speaks for all."""
    place, number = given
    ctx.seen.append(number)
    return sorted(ctx.seen) if len(ctx.seen) == 4 and (place / "mended").exists() else Hold()


gather.serial = True


@node
def after(values: list[Any]) -> Any:
    return len(values), values[0] if values else None


class Gathering(Workflow):
    context = Seen
    each, gather, after = each, gather, Join(after)
    start = each
    edges = {each: [gather], gather: [after]}


def waiting(run: Any) -> dict[str, int]:
    """How many items there are of each status."""
    return dict(Counter(item.status.value for item in run.work_items()))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("how", ["resume", "start", "memory", "same coordinator"])
def test_row_112_what_is_held_starts_over_when_the_run_is_resumed(workers: int, how: str, tmp_path: Path) -> None:
    """With what it wrote, and with joins behind it that have not fired meanwhile."""
    store: Any = MemoryStore() if how == "memory" else tmp_path / "runs.db"
    with Coordinator(workers, store=store) as c:
        for again in range(2):
            run = c.resume(Gathering, "r") if again else c.start(Gathering, tmp_path, ctx=Seen(), run_id="r")
            with pytest.raises(RunFailedError, match=r"items are held .*: gather \(items 2, 3, 4, 5\)"):
                run.wait(LIMIT)
            assert sorted(run.context().seen) == [0, 1, 2, 3]
            assert waiting(run) == {"held": 4}
            assert run.metrics().completed == 1
        with pytest.raises(FloxideError, match=r"needs its workflow to go on: coordinator.resume\(workflow, 'r'\)"):
            run.resume()
        (tmp_path / "mended").touch()
        if how == "same coordinator":
            check_mended(c.resume(Gathering, "r"))
    if how != "same coordinator":
        with Coordinator(workers, store=store) as c:
            resumed = c.resume(Gathering, "r") if how != "start" else None
            check_mended(resumed or c.start(Gathering, tmp_path, ctx=Seen(), run_id="r", resume=True))
    if how == "memory":
        return
    with contextlib.closing(SQLiteStore.open_reader(tmp_path / "runs.db")) as reader:
        reader.check()


def check_mended(run: Any) -> None:
    result = run.wait(LIMIT)
    assert result.output == (1, [0, 1, 2, 3])
    assert list(result.context.seen) == [0, 1, 2, 3]
    assert (run.metrics().total_work_items, run.metrics().completed) == (6, 6)
    assert waiting(run) == {}


@node
def note(value: Any) -> Any:
    return value


note.serial = True


class Noted(Gathering):
    """A serial step behind the join, which does not wait for its turn until what is held is released."""

    each, gather, after, note = each, gather, Join(after), note
    start = each
    edges = {each: [gather], gather: [after], after: [note]}


@pytest.mark.parametrize("workers", [0, 2])
def test_row_112_where_a_join_did_not_wait_for_what_is_held_it_says_so(workers: int, tmp_path: Path) -> None:
    with Coordinator(workers, store=tmp_path / "runs.db") as c, pytest.raises(RunFailedError, match="items are held"):
        c.start(Noted, tmp_path, ctx=Seen(), run_id="r").wait(LIMIT)
    message = r"run 'r' cannot be resumed: .* held by gather \(items 2, 3, 4, 5\), which .* under another run_id"
    with Coordinator(workers, store=tmp_path / "runs.db") as c:
        for resume in (
            lambda: c.resume(Noted, "r"),
            lambda: c.start(Noted, tmp_path, ctx=Seen(), run_id="r", resume=True),
        ):
            with pytest.raises(FloxideError, match=message):
                resume()
