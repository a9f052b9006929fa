"""Row 10: an input that nobody can open, or that ends whoever opens it, has its fallback run all the same, if that does
not ask for the input."""

from __future__ import annotations

from typing import Any

import pytest

from floxide_mp import Context, Coordinator, RunFailedError, Workflow, node
from tests.flows_pickles import Bomb, Tripwire


@node
def poison(kind: str) -> Any:
    return Bomb() if kind == "bomb" else Tripwire()


@node
def work(value: Any) -> str:
    return "worked"


@node
def of_nothing() -> str:
    return "rescued"


@node
def of_context(ctx: Context) -> str:
    assert ctx.item.error is not None
    return f"rescued: {type(ctx.item.error).__name__}"


@node
def of_value(value: Any) -> str:
    return "opened it"


class Nothing(Workflow):
    poison, work, of_nothing = poison, work, of_nothing
    start = poison
    edges = {poison: [work]}
    on_failure = {work: [of_nothing]}


class OfContext(Workflow):
    poison, work, of_context = poison, work, of_context
    start = poison
    edges = {poison: [work]}
    on_failure = {work: [of_context]}


class OfValue(Workflow):
    poison, work, of_value = poison, work, of_value
    start = poison
    edges = {poison: [work]}
    on_failure = {work: [of_value]}


@pytest.mark.parametrize("kind", ["bomb", "tripwire"])
def test_row_10_a_fallback_gets_only_what_it_asks_for(kind: str) -> None:
    error = "WorkerDiedError" if kind == "bomb" else "SystemExit"
    with Coordinator(1) as coordinator:
        runs = [coordinator.start(flow, kind) for flow in (Nothing, OfContext)]
        assert [run.wait(60.0).output for run in runs] == ["rescued", f"rescued: {error}"]


def test_row_10_a_fallback_that_asks_for_the_input_fails_as_its_node_did() -> None:
    with Coordinator(0) as coordinator, pytest.raises(RunFailedError, match="of_value"):
        coordinator.start(OfValue, "tripwire").wait()
