"""Outputs that cannot be opened where they are read: which one it is, is said."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator

import pytest

from floxide_mp import Coordinator, NextAll, Workflow, node


@node
def pages(count: int) -> NextAll[int]:
    return NextAll(range(count))


@node
def page(number: int) -> object:
    return sys.modules["oldplace"].Page() if number == 1 else number


class Pages(Workflow):
    pages, page = pages, page
    start, edges = pages, {pages: [page]}


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
