"""What the port says of records that come as blocks, asked of a store: see ``stores``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ..core.records import (
    Chunk,
    Commit,
    ItemRecord,
    ItemRow,
    JoinInput,
    JoinInputChunk,
    OutputChunk,
    OutputRecord,
    one_by_one,
)
from ..core.types import OrderKey, Payload
from ..ports import CheckpointStore, GroupStore
from ..stores.memory import MemoryStore
from ..types import WorkItemStatus
from .store_facts import BYTES, ERROR, TEXT, Reopen, at, block, compare, same, started

_FEW: Final = 3
_MANY: Final = 300


def blocks_are_items_side_by_side(store: CheckpointStore, reopen: Reopen) -> None:
    """However many, wherever, with payloads of any kind and size."""
    joined: Payload = (("a", [b"", BYTES]), (TEXT, b"x"), ("b", []), ("c", [b"1", (("d", b""), ("e", [b"2"]))]))
    kinds: list[tuple[OrderKey, list[Payload]]] = [
        ((1, (0,)), [b"p%d" % k for k in range(_MANY)]),
        ((1, (1 << 59, 7)), [b"q"] * _FEW),
        ((2, (3, 250)), [b"x" * (k % 2) for k in range(20)]),
        ((2, (4, 0)), [joined] * 10),
        ((3, ((1 << 63) - 5,)), [b"r"] * 10),
        ((4, (0,)), [b"", BYTES * 5000, *[b"s"] * 10]),
    ]
    made, first = [], 2
    for order, payloads in kinds:
        made.append(block(first, order, payloads))
        first += len(payloads)
    started(store)
    store.commit("run", Commit(blocks=made[:2]), at(first))
    store.commit("run", Commit(blocks=made[2:], finished=[1]), at(first))
    store = reopen(store)
    same(list(store.snapshot("run").items), _rows(made), "items")


def what_is_over_of_blocks_is_forgotten(store: CheckpointStore, reopen: Reopen) -> None:
    """At the front, in the middle, at the back; blocks that come and go in one commit; all of one in the end."""
    one, two, brief = block(2, (1, (0,)), _MANY), block(302, (1, (300,)), _MANY), block(602, (2, (0,)), 20)
    started(store)
    store.commit("run", Commit(blocks=[one, two], finished=[1]), at(601))
    left = dict.fromkeys(range(2, 602))
    steps = [[(2, 50)], [(150, 20)], [(299, 3), (502, 100)], [(52, 1), (54, 1)], [(130, 20), (170, 9)], [(53, 1)]]
    for ranges in steps:
        store.commit("run", Commit(ranges=ranges), at(601))
        store = reopen(store)
        for number in _numbers(ranges):
            del left[number]
        same([row.id for row in store.snapshot("run").items], list(left), f"items without {ranges}")
    store.commit("run", Commit(blocks=[brief], ranges=[(602, 5), (609, 13)], phase_changed=True), at(621))
    store = reopen(store)
    same([row.id for row in store.snapshot("run").items], [*left, 607, 608], "items after a block came and went")
    store.commit("run", Commit(ranges=[(302, 200), (607, 1)]), at(621))
    store.commit("run", Commit(ranges=[(608, 1)]), at(621))
    store = reopen(store)
    same([row.id for row in store.snapshot("run").items], [n for n in left if n < 302], "items without those blocks")
    same(list(store.snapshot("run").items), _rows([one.part(53, 128), one.part(177, 297)]), "what is left")


def items_step_out_of_blocks(store: CheckpointStore, reopen: Reopen) -> None:
    """One that is tried again is a record of its own: its block has it no more, and what it is then is remembered."""
    whole = block(2, (1, (0,)), 40)
    started(store)
    store.commit("run", Commit(blocks=[whole], finished=[1]), at(41))
    for number in (12, 2, 41):
        (out,) = whole.part(number - 2, number - 1).items()
        store.commit("run", Commit(ranges=[(number, 1)], created=[out]), at(41))
        store = reopen(store)
        same([row[:6] for row in store.snapshot("run").items], [row[:6] for row in _rows([whole])], "items")
        out.attempt, out.status = 2, WorkItemStatus.FAILED
        store.commit("run", Commit(changed=[out]), at(41))
    many = list(whole.part(18, 30).items())
    store.commit("run", Commit(ranges=[(20, 12)], created=many), at(41))
    store.commit("run", Commit(ranges=[(3, 9), (13, 7)], finished=[20, 24]), at(41))
    store = reopen(store)
    found = [(row.id, row.attempt) for row in store.snapshot("run").items]
    rest = [*range(21, 24), *range(25, 41)]
    same(found, [(2, 2), (12, 2), *((n, 1) for n in rest), (41, 2)], "items, and their attempts")
    store.commit("run", Commit(ranges=[(32, 9)], finished=[2, 12, 41, *range(25, 32)]), at(41))
    fresh = block(42, (2, (0,)), 20)
    (out,) = fresh.part(3, 4).items()
    out.attempt, out.status = 3, WorkItemStatus.WAITING_RETRY
    store.commit("run", Commit(blocks=[fresh], ranges=[(45, 1)], created=[out], changed=[out]), at(61))
    store = reopen(store)
    found = [(row.id, row.attempt) for row in store.snapshot("run").items]
    same(found, [(21, 1), (22, 1), (23, 1), *((n, 3 if n == 45 else 1) for n in range(42, 62))], "items and attempts")
    store.commit("run", Commit(ranges=[(42, 3), (46, 16)], finished=[21, 22, 23, 45]), at(61))
    store = reopen(store)
    same(list(store.snapshot("run").items), [], "items in the end")


def a_range_is_of_items_however_they_came(store: CheckpointStore, reopen: Reopen) -> None:
    """One by one, or in several blocks."""
    single = list(block(2, (1, (0,)), 12).items())
    started(store)
    together = [block(14, (1, (12,)), 20), block(34, (1, (32,)), 3), block(37, (1, (35,)), 30)]
    store.commit("run", Commit(created=single, blocks=together, finished=[1]), at(66))
    store = reopen(store)
    out = list(block(2, (1, (0,)), 70).part(10, 16).items())  # 12 to 17
    store.commit("run", Commit(ranges=[(4, 2), (12, 6)], created=out), at(66))
    store.commit("run", Commit(ranges=[(8, 4), (18, 25)], finished=[13, 16]), at(66))
    store = reopen(store)
    left = [2, 3, 6, 7, 12, 14, 15, 17, *range(43, 67)]
    same([row.id for row in store.snapshot("run").items], left, "items")


def outputs_in_blocks_count_as_many_as_there_are(store: CheckpointStore, reopen: Reopen) -> None:
    """Also from a number in the middle of a block on."""
    parts: list[tuple[list[OutputRecord], list[OutputChunk]]] = [
        ([], [OutputChunk((1, (0,)), "n", [b"a%d" % k for k in range(40)], 3)]),
        ([OutputRecord((0, ()), 5, TEXT, b"o")], [OutputChunk((9, (2, 7)), TEXT, [b"", BYTES], None)]),
        ([], [OutputChunk((1, (40,)), "n", [b"b"] * 9, 3), OutputChunk((1, (49,)), "n", [b"c"] * 9, 4)]),
        ([OutputRecord((8, (n,)), 0, "n", b"%d" % n, 1) for n in range(20)], []),
        ([], [OutputChunk((1, (60,)), "n", [(("a", [b"d"]),)] * 10), OutputChunk((1, (80,)), "n", [BYTES * 5000] * 8)]),
    ]
    expected: list[OutputRecord] = []
    started(store)
    for outputs, together in parts:
        commit = Commit(outputs=outputs, output_blocks=together, phase_changed=True)
        store.commit("run", commit, at(1))
        store = reopen(store)
        expected += one_by_one([*outputs, *together])
    same(store.snapshot("run").outputs, len(expected), "how many outputs there are")
    for since in range(len(expected) + 2):
        same(list(one_by_one(store.outputs("run", since))), expected[since:], f"outputs since {since}")
    for most in (1, 7, 1000):
        found: list[OutputRecord] = []
        while some := list(one_by_one(store.outputs("run", len(found), most))):
            found += some
        same(found, expected, f"outputs, {most} at a time")


def values_in_blocks_wait_at_joins(store: CheckpointStore, reopen: Reopen) -> None:
    side: list[Payload] = [b"v%d" % k for k in range(30)]
    found: list[JoinInputChunk] = [
        JoinInputChunk(0, 1, (2, (10,)), "n", side),
        JoinInputChunk(0, 2, (2, (40,)), TEXT, side[:_FEW]),
        JoinInputChunk(5, 1, (3, (0, 0)), "n", [b"", BYTES * 3000, (("a", [b""]),), *side]),
    ]
    single = JoinInput(0, 1, (2, (5,)), "m", b"s")
    started(store)
    store.commit("run", Commit(arrived=[single], arrived_blocks=found[:1], phase_changed=True), at(1))
    store.commit("run", Commit(arrived_blocks=found[1:], phase_changed=True), at(1))
    store = reopen(store)
    expected = [single, *(one for arrivals in found for one in arrivals.records())]
    same(list(store.snapshot("run").arrivals), sorted(expected, key=lambda a: a.order), "arrivals")
    brief = JoinInputChunk(0, 1, (4, (0,)), "n", side)
    store.commit("run", Commit(arrived_blocks=[brief], joined=[(0, 1)], finished=[1]), at(1))
    store = reopen(store)
    expected = [one for arrivals in found[1:] for one in arrivals.records()]
    same(list(store.snapshot("run").arrivals), expected, "arrivals after a join has fired")


def blocks_are_written_together_as_one_by_one(store: CheckpointStore, reopen: Reopen) -> None:
    """Of a ``GroupStore``; another one is asked nothing here. What comes and goes in a group is never there."""
    if not isinstance(store, GroupStore):
        return
    group: GroupStore[Any] = store
    memory = MemoryStore()
    for one in (store, memory):
        started(one)
        one.commit("run", Commit(blocks=[block(2, (1, (0,)), 100)]), at(101))
    again, new = list(block(2, (1, (0,)), 100).part(30, 33).items()), block(102, (2, (0,)), 100)
    commits = [
        Commit(ranges=[(2, 20)], output_blocks=[OutputChunk((1, (0,)), "n", [b"o"] * 20, 1)], done={"n": 20}),
        Commit(blocks=[new], finished=[1]),
        Commit(ranges=[(32, 3)], created=again, changed=again[:2], errors=[ERROR]),
        Commit(ranges=[(102, 40), (150, 10)], arrived_blocks=[JoinInputChunk(0, 1, (3, (0,)), "n", [b"a"] * 40)]),
        Commit(ranges=[(22, 10), (142, 8)], finished=[32], output_blocks=[OutputChunk((1, (20,)), "n", [b"o"] * 10)]),
        Commit(blocks=[block(202, (3, (0,)), 50)], ranges=[(202, 50)]),
        Commit(ranges=[(60, 5), (160, 42)], joined=[(0, 1)]),
    ]
    prepared = []
    for commit in commits:
        for changed in commit.changed:
            changed.attempt, changed.status = 2, WorkItemStatus.FAILED
        memory.commit("run", commit, at(251))
        prepared.append(group.prepare("run", commit, at(251)))
    group.write(prepared)
    compare(reopen(store), memory)


def _rows(blocks: Sequence[Chunk]) -> list[ItemRow]:
    """The items of blocks, whose orders ascend, as they come back."""

    def row(one: ItemRecord) -> ItemRow:
        return ItemRow(one.id, one.place, one.order, one.payload, 0, None, 1, WorkItemStatus.PENDING, 0.0)

    return [row(one) for each in blocks for one in each.items()]


def _numbers(ranges: Sequence[tuple[int, int]]) -> list[int]:
    return [number for first, count in ranges for number in range(first, first + count)]


BLOCK_CHECKS: Final = (
    blocks_are_items_side_by_side,
    what_is_over_of_blocks_is_forgotten,
    items_step_out_of_blocks,
    a_range_is_of_items_however_they_came,
    outputs_in_blocks_count_as_many_as_there_are,
    values_in_blocks_wait_at_joins,
    blocks_are_written_together_as_one_by_one,
)
