"""What a restored run makes of its items: blocks again, where they stand side by side and nothing has happened."""

from __future__ import annotations

from typing import Any

import pytest

from floxide_mp.core.graph import Graph, NodeSpec
from floxide_mp.core.plan import Plan
from floxide_mp.core.progress import MOST
from floxide_mp.core.records import Chunk, ItemRow
from floxide_mp.core.restore import restored, side_by_side
from floxide_mp.core.run_state import RunState
from floxide_mp.core.types import ErrorRecord
from floxide_mp.ports import Progress, RunRecord
from floxide_mp.stores.memory import MemoryStore
from floxide_mp.types import WorkItemStatus

PLAN = Plan(Graph("g", (NodeSpec("split", ((1,), (2,))), NodeSpec("work"), NodeSpec("slow", serial=True)), 0))
RECORD = RunRecord("run", "g", b"", b"", b"", b"", 0, 0.0, None, False, {}, ("split", "work", "slow"), ())


def row(number: int, **changes: Any) -> ItemRow:
    plain = ItemRow(number, 1, (1, (number,)), b"%d" % number, 0, None, 1, WorkItemStatus.PENDING, 0.0)
    return plain._replace(**changes)


def lengths(rows: list[ItemRow]) -> list[int]:
    found = list(side_by_side(PLAN, rows))
    assert [one for part in found for one in part] == rows
    return [len(part) for part in found]


@pytest.mark.parametrize(
    "changes",
    [
        {"place": 0},
        {"place": 2},
        {"order": (2, (15,))},
        {"order": (1, (16,))},
        {"order": (1, (0, 15))},
        {"order": (1, ())},
        {"id": 99},
        {"scope": 3},
        {"error": ErrorRecord("E", "", "", None)},
        {"attempt": 2},
        {"status": WorkItemStatus.WAITING_RETRY},
        {"status": WorkItemStatus.FAILED},
        {"due": 3.0},
        {"payload": (("a", b""),)},
    ],
    ids=str,
)
def test_one_that_is_not_like_its_neighbours_is_on_its_own(changes: dict[str, Any]) -> None:
    rows = [row(number) for number in range(10, 21)]
    assert lengths(rows) == [11]
    rows[5] = rows[5]._replace(**changes)
    assert lengths(rows) == [5, 1, 5]


def test_items_of_a_serial_node_stay_as_they_are() -> None:
    assert lengths([row(number, place=2) for number in range(5)]) == [1] * 5


def test_a_block_has_a_bounded_number_of_items() -> None:
    assert lengths([row(number) for number in range(MOST + 5)]) == [MOST, 5]


def progress(state: RunState) -> Progress:
    return Progress(state.phase, state.metrics, state.counts, None, state.failure)


def test_a_restored_run_goes_on_in_blocks_to_the_same_end() -> None:
    """One item has stepped out and waits, some were finished, some leased."""
    store, state = MemoryStore(), RunState(PLAN)
    state.start(b"")
    store.create(RECORD, state.take_commit(), progress(state))
    split = state.claim(1, 0)
    assert split is not None and not isinstance(split, Chunk)
    state.fan_out(split, 0, [b"%d" % k for k in range(100)], ())
    for most in (20, 30, 10):
        block = state.claim(1, 0, most)
        assert isinstance(block, Chunk)
        if most == 20:
            state.succeed_all(block, 0, block.payloads, [], 0)
        elif most == 10:
            one, *others = state.split_off(block, 1, 0)
            state.release(one)
            for other in others:
                state.release(other)
    store.commit("run", state.take_commit(), progress(state))
    again = restored(PLAN, store.snapshot("run"), state.phase, state.metrics, state.counts, None)
    assert (again.items, again.in_blocks, again.ready) == ({}, 80, 80)
    while not again.over:
        block = again.claim(2, 0, 33)
        assert isinstance(block, Chunk)
        again.succeed_all(block, 0, block.payloads, [], 0)
        store.commit("run", again.take_commit(), progress(again))
    snapshot = store.snapshot("run")
    assert (len(snapshot.items), snapshot.outputs, again.metrics.completed) == (0, 100, 101)
