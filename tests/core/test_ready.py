"""``Ready`` gives items in order, however they come in, and between any two of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from floxide_mp.core.graph import Graph, NodeSpec
from floxide_mp.core.plan import Plan
from floxide_mp.core.ready import Ready
from floxide_mp.core.records import ItemRecord
from floxide_mp.core.state import RunState

SCOPE = RunState(Plan(Graph("one", (NodeSpec(name="a", arms=((),)),), 0))).root


def item(number: int) -> ItemRecord:
    return ItemRecord(number, 0, (number // 7, (number % 7,)), b"", SCOPE)


@given(st.permutations(range(40)), st.lists(st.booleans(), min_size=80, max_size=80))
def test_it_is_a_priority_queue(numbers: list[int], takes: list[bool]) -> None:
    ready, model = Ready(), set[int]()
    coming = list(numbers)
    for take in takes:
        if take and model:
            assert ready.first().id == min(model)
            assert ready.pop().id == min(model)
            model.remove(min(model))
        elif coming:
            ready.push(item(coming.pop()))
            model.add(numbers[len(coming)])
        assert len(ready) == len(model)
        assert {one.id for one in ready} == model


@given(st.integers(0, 50))
def test_what_comes_in_order_goes_out_in_order(count: int) -> None:
    ready = Ready()
    for number in range(count):
        ready.push(item(number))
    assert [ready.pop().id for _ in range(count)] == list(range(count))
    assert not ready
