"""Outputs where they are read: some at a time, and which one it is that cannot be opened."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import Coordinator, MemoryStore, NextAll, RunFailedError, SQLiteStore, Workflow, node
from floxide_mp.coordinator.outputs import OutputStream, Sealed
from floxide_mp.core.records import OutputChunk, OutputRecord, one_by_one
from floxide_mp.wire import codec


@node
def pages(count: int) -> NextAll[int]:
    return NextAll(range(count))


@node
def page(number: int) -> object:
    return sys.modules["oldplace"].Page() if number == 1 else number


class Pages(Workflow):
    pages, page = pages, page
    start, edges = pages, {pages: [page]}


@node
def fails_at_the_second(number: int) -> int:
    if number:
        raise ValueError(number)
    return number


class Fails(Workflow):
    pages, fails = pages, fails_at_the_second
    start, edges = pages, {pages: [fails_at_the_second]}


@node
def large(number: int) -> tuple[int, bytes]:
    return number, bytes(10_000)


class Large(Workflow):
    pages, large = pages, large
    start, edges = pages, {pages: [large]}


def interrupt() -> None:
    raise KeyboardInterrupt


class Interrupts:
    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return interrupt, ()


@pytest.fixture
def oldplace() -> Iterator[types.ModuleType]:
    module = types.ModuleType("oldplace")
    module.Page = type("Page", (), {"__module__": "oldplace"})  # type: ignore[attr-defined]
    sys.modules["oldplace"] = module
    yield module
    sys.modules.pop("oldplace", None)


def test_an_output_that_cannot_be_opened_is_named(oldplace: types.ModuleType) -> None:
    with Coordinator(0) as coordinator:
        run = coordinator.start(Pages, 3, run_id="r")
        result = run.wait()
        del sys.modules["oldplace"]
        with pytest.raises(ModuleNotFoundError, match="oldplace") as caught:
            result.outputs  # noqa: B018
        assert caught.value.__notes__[-1].startswith("outputs[1] of run r, which page returned, cannot be opened here")
        got = []
        with pytest.raises(ModuleNotFoundError) as streamed:
            got += [got.append(value) for value in run.stream()]
        assert got == [0]
        assert streamed.value.__notes__[-1].startswith("output 1 of the stream (counted from 0) of run r, which page")
        sys.modules["oldplace"] = oldplace
        assert [type(value).__name__ for value in result.outputs] == ["int", "Page", "int"]


def test_who_streams_may_pass_over_an_output_that_cannot_be_opened(oldplace: types.ModuleType) -> None:
    with Coordinator(0) as coordinator:
        run = coordinator.start(Pages, 4, run_id="r")
        run.wait()
        del sys.modules["oldplace"]
        outputs, got = run.stream(), []
        while True:
            try:
                got.append(next(outputs))
            except StopIteration:
                break
            except ModuleNotFoundError as error:
                got.append(error.__notes__[-1][:26])
        assert got == [0, "output 1 of the stream (co", 2, 3]
        assert next(outputs, "the end") == "the end"


def test_what_ends_a_run_ends_its_stream_also_for_who_passes_over_errors() -> None:
    with Coordinator(0) as coordinator:
        outputs = coordinator.start(Fails, 3, run_id="f").stream()
        assert next(outputs) == 0
        with pytest.raises(RunFailedError):
            next(outputs)
        assert next(outputs, "the end") == "the end"


def test_ctrl_c_while_an_output_is_opened_ends_the_stream() -> None:
    def sealed() -> Generator[Sealed, None, None]:
        yield codec.encode(Interrupts(), "it"), "n"
        yield codec.encode(2, "it"), "n"

    outputs = OutputStream("r", sealed())
    with pytest.raises(KeyboardInterrupt):
        next(outputs)
    assert next(outputs, "the end") == "the end", "2 would be the first that whoever goes on hears of"


@pytest.mark.parametrize("store", [MemoryStore, SQLiteStore])
def test_row_116_outputs_that_are_streamed_are_read_some_at_a_time(store: Callable[..., Any], tmp_path: Path) -> None:
    """That all of them have room in memory is nothing that is asked for."""
    made = store() if store is MemoryStore else store(tmp_path / "runs.db")
    with closing(made), Coordinator(0, store=made) as coordinator:
        run = coordinator.start(Large, 1500)
        run.wait()
        most, read = 0, made.outputs

        def outputs(run_id: str, since: int = 0, most_of: int | None = None) -> Sequence[OutputRecord | OutputChunk]:
            nonlocal most
            found = read(run_id, since, most_of)
            most = max(most, sum(len(output.payload) for output in one_by_one(found)))
            return found  # type: ignore[no-any-return]

        made.outputs = outputs
        assert [number for number, _ in run.stream()] == list(range(1500))
        assert 0 < most < (1 << 30 if store is MemoryStore else 3 << 22), "of 15 MB"
