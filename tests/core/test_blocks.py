"""Blocks by example, and parts of them in any order; all else about them is in ``test_same_answer_as_sequential``."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from floxide_mp.core.graph import Graph, NodeSpec
from floxide_mp.core.plan import Plan
from floxide_mp.core.records import Chunk, ItemRecord, one_by_one
from floxide_mp.core.run_state import RunState
from floxide_mp.core.transitions import Phase
from tests.core import invariants

LINE = Graph("line", (NodeSpec("a", ((1,),)), NodeSpec("b", ((2,),)), NodeSpec("c", ((3,),)), NodeSpec("d")), 0)


def block_of(graph: Graph, count: int) -> tuple[RunState, Chunk]:
    """The start node's values, leased as a block."""
    state = RunState(Plan(graph))
    state.start(b"input")
    item = state.claim(1, 0)
    assert isinstance(item, ItemRecord)
    state.fan_out(item, 0, [b"%d" % number for number in range(count)], ())
    block = state.claim(2, 0, count)
    assert isinstance(block, Chunk)
    assert len(block) == count
    return state, block


def taken(state: RunState) -> list[ItemRecord | Chunk]:
    found = []
    while (item := state.claim(3, 0, 99)) is not None:
        found.append(item)
    return found


def test_for_how_many_steps_nobody_goes_ahead_is_known_to_all_that_comes_of_a_block() -> None:
    state, block = block_of(LINE, 4)
    block.unchained_steps = 2
    (first,) = state.split_off(block.part(0, 1), 2, 0)
    assert first.unchained_steps == 2
    state.succeed(first, ((0, b"one"),), (), False)
    state.succeed_all(block.part(1, 3), 0, [b"two", b"three"], (), 0)
    state.release_all(block.part(3))
    there = taken(state)
    assert [item.unchained_steps for item in there] == [2, 1, 1]
    _, one, two = there
    assert isinstance(one, ItemRecord)
    assert isinstance(two, Chunk)
    state.succeed(one, ((0, b""),), (), False)
    state.succeed_all(two, 0, two.payloads, (), 0)
    there = taken(state)
    assert [item.unchained_steps for item in there] == [0, 0]
    assert isinstance(there[1], Chunk)
    state.succeed_all(there[1], 0, there[1].payloads, (), 0)
    assert isinstance(there[0], ItemRecord)


def test_who_made_an_output_is_known_also_where_items_must_step_out() -> None:
    """Each step of the node opens a scope."""
    nodes = NodeSpec("a", ((1,),)), NodeSpec("b", ((), (2,))), NodeSpec("j", join_of=1)
    state, block = block_of(Graph("g", nodes, 0), 3)
    state.take_commit()
    state.succeed_all(block, 0, [b"x", b"y", b"z"], (), 7)
    commit = state.take_commit()
    outputs = list(one_by_one([*commit.outputs, *commit.output_blocks]))
    assert [(output.payload, output.worker) for output in outputs] == [(b"x", 7), (b"y", 7), (b"z", 7)]


@given(st.integers(1, 12), st.integers(0, 2**32))
@settings(deadline=None)
def test_parts_of_a_block_may_be_over_in_any_order(count: int, seed: int) -> None:
    chance = random.Random(seed)
    state, block = block_of(Graph("g", (NodeSpec("a", ((1,),)), NodeSpec("b")), 0), count)
    out, outputs = [block], []
    while out or state.ready:
        if not out or (state.ready and chance.random() < 0.3):
            item = state.claim(3, 0, chance.randint(1, count))
            assert isinstance(item, Chunk)
            out.append(item)
        part = out.pop(chance.randrange(len(out)))
        start, stop = sorted((chance.randint(0, len(part)), chance.randint(0, len(part))))
        out += [other for other in (part.part(0, start), part.part(stop)) if other]
        part = part.part(start, stop)
        if part and chance.random() < 0.3:
            state.release_all(part)
        elif part and chance.random() < 0.3:
            for item in state.split_off(part, 3, 0):
                state.succeed(item, ((0, item.payload),), (), False)
        elif part:
            state.succeed_all(part, 0, part.payloads, (), 0)
        commit = state.take_commit()
        outputs += one_by_one([*commit.outputs, *commit.output_blocks])
        invariants.check(state, out)
    assert state.phase is Phase.COMPLETED
    assert [output.payload for output in sorted(outputs)] == [b"%d" % number for number in range(count)]
