"""A step costs the same after ten thousand others as after a hundred: lines of the core that run, not seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from floxide_mp.core.graph import RUN_SCOPE, Graph, NodeSpec
from floxide_mp.core.plan import Plan
from floxide_mp.core.run_state import RunState


def lines(work: Callable[[], None]) -> int:
    """How many lines of ``core`` are executed in ``work``."""
    count = 0

    def trace(frame: FrameType, what: str, _: Any) -> Any:
        nonlocal count
        if "/floxide_mp/core/" not in frame.f_code.co_filename:
            return None
        count += what == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def one(state: RunState, width: int = 1) -> None:
    item = state.claim(1, 0)
    assert item is not None
    state.succeed(item, ((0, b"v"),) * width, ((0, b"event"),), width != 1)
    state.take_commit()


def started(*nodes: NodeSpec) -> RunState:
    state = RunState(Plan(Graph("g", nodes, 0)))
    state.start(b"")
    return state


def test_a_chain() -> None:
    state = started(NodeSpec("again", ((0,),)))
    one(state)  # the first step of a node also says that it has passed something on
    cost = []
    for _ in range(5):
        cost.append(lines(lambda: one(state)))
        for _ in range(2000):
            one(state)
    assert len(set(cost)) == 1
    assert len(state.items) == 1


def test_a_loop_through_joins() -> None:
    state = started(
        NodeSpec("split", ((1,),)),
        NodeSpec("work", ((2,),)),
        NodeSpec("join", ((0,), (3,)), join_of=0),
        NodeSpec("report", join_of=RUN_SCOPE),
    )

    def around() -> None:
        one(state, width=2)
        for _ in range(3):
            one(state)

    around()
    first = lines(around)
    for _ in range(2000):
        around()
    assert lines(around) == first


@pytest.mark.parametrize("join", [False, True], ids=["outputs", "join"])
def test_a_wide_fan_out(join: bool) -> None:
    def cost(width: int) -> float:
        nodes = [NodeSpec("split", ((1,),)), NodeSpec("work", ((2,),) if join else ((),))]
        state = started(*nodes, *([NodeSpec("join", join_of=RUN_SCOPE)] if join else []))
        one(state, width)

        def drain() -> None:
            for _ in range(200):
                one(state)

        return lines(drain) / 200

    # A heap compares log2(n) times; nothing else may grow.
    assert cost(16000) <= cost(1000) + 2 * 4 * 2


def test_a_long_batch() -> None:
    def cost(width: int) -> float:
        state = started(
            NodeSpec("in", ((1,),)), NodeSpec("each", ((2,),), window=5), NodeSpec("batch", ((),), join_of=0)
        )
        one(state, width)
        one(state)
        return lines(lambda: [one(state) for _ in range(200)] and None) / 200

    assert cost(16000) == cost(1000)


def test_held_and_finished_items_are_forgotten() -> None:
    state = started(NodeSpec("split", ((1,),)), NodeSpec("work"))
    one(state, 500)
    for _ in range(500):
        one(state)
    assert not state.items
    assert not state._ready
    assert not state._timers
