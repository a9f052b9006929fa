"""``Ready`` gives items and blocks in order, however they come in, and between any two of them."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from floxide_mp.core.graph import Graph, NodeSpec
from floxide_mp.core.plan import Plan
from floxide_mp.core.ready import Ready
from floxide_mp.core.records import Chunk, ItemRecord, id_of
from floxide_mp.core.run_state import RunState

SCOPE = RunState(Plan(Graph("one", (NodeSpec(name="a", arms=((),)),), 0))).root


def item(number: int) -> ItemRecord:
    return ItemRecord(number, 0, (number // 7, (number % 7,)), b"", SCOPE)


@given(st.permutations(range(40)), st.lists(st.booleans(), min_size=80, max_size=80))
@settings(deadline=None)
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
@settings(deadline=None)
def test_what_comes_in_order_goes_out_in_order(count: int) -> None:
    ready = Ready()
    for number in range(count):
        ready.push(item(number))
    assert [ready.pop().id for _ in range(count)] == list(range(count))
    assert not ready


def block(first: int, count: int) -> Chunk:
    depth, at = divmod(first, 7)
    return Chunk(first, 0, (depth, (at,)), [b"%d" % number for number in range(first, first + count)], SCOPE)


@given(st.lists(st.booleans(), max_size=120), st.integers(0, 2**32))
@settings(deadline=None)
def test_blocks_are_taken_part_by_part_and_parts_come_back(takes: list[bool], seed: int) -> None:
    chance = random.Random(seed)
    ready, there, out = Ready(), set[int](), list[ItemRecord | Chunk]()
    coming: list[ItemRecord | Chunk] = [item(n) if n % 3 else block(7 * n, chance.randint(1, 7)) for n in range(3, 40)]
    coming = [one if isinstance(one, Chunk) else item(7 * one.id + chance.randrange(7)) for one in coming]
    chance.shuffle(coming)
    for take in takes:
        if take and there:
            most = chance.randint(1, 8)
            assert id_of(ready.first()) == min(there)
            got = ready.pop(most)
            assert id_of(got) == min(there)
            if isinstance(got, Chunk):
                assert 1 <= len(got) <= most
                assert [int(payload) for payload in got.payloads] == [one.id for one in got.items()]
                assert got.order == item(got.first).order
                cut = chance.randint(0, len(got))
                out += [part for part in (got.part(0, cut), got.part(cut)) if part]
            there -= numbers(got)
        elif out and chance.random() < 0.5:
            back = out.pop(chance.randrange(len(out)))
            ready.push(back)
            there |= numbers(back)
        elif coming:
            there |= numbers(coming[-1])
            ready.push(coming.pop())
        assert len(ready) == len(there)
        assert {one.id for one in ready} == there


def numbers(one: ItemRecord | Chunk) -> set[int]:
    return set(range(one.first, one.first + len(one))) if isinstance(one, Chunk) else {one.id}
