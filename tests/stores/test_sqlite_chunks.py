"""How ``SQLiteStore`` keeps blocks: few rows, of bounded size, whatever becomes of their items."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floxide_mp.core.records import Chunk, Commit, ItemRecord, ItemRow, JoinInputChunk, OutputChunk, one_by_one
from floxide_mp.core.types import Payload
from floxide_mp.stores.memory import MemoryStore
from floxide_mp.stores.sqlite import chunk_codec, row_codec
from floxide_mp.stores.sqlite.chunk_codec import ChunkIndex
from floxide_mp.stores.sqlite.packing import (
    Column,
    common,
    each,
    merged,
    pack_many,
    pack_ranges,
    total,
    unpack_many,
    unpack_ranges,
    without,
)
from floxide_mp.stores.sqlite.store import SQLiteStore
from floxide_mp.testing.store_facts import at, block, compare, item, record, started
from floxide_mp.types import WorkItemStatus

numbers = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 300) | st.integers(0, 70_000)
ranges = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)).map(lambda pair: (pair[0], sum(pair))), max_size=9)


@given(st.data(), st.lists(st.binary(max_size=300), min_size=1, max_size=20))
def test_columns_and_payloads_come_back(data: st.DataObject, payloads: list[bytes]) -> None:
    count = len(payloads)
    column = (
        numbers
        | st.integers(0, 2**62).map(lambda first: range(first, first + count))
        | st.lists(numbers, min_size=count, max_size=count)
        | st.integers(0, 99).map(lambda first: list(range(first, first + count)))
    )
    columns: list[Column] = data.draw(st.lists(column, max_size=3))
    found, back = unpack_many(pack_many(columns, payloads), count, len(columns))
    assert [list(each(one, count)) for one in found] == [list(each(one, count)) for one in columns]
    assert back == payloads


def test_what_is_regular_takes_no_place() -> None:
    one, many = (len(pack_many((7, range(n)), [b"payload"] * n)) for n in (1, 1000))
    assert many - one == 999 * len(b"payload")
    assert len(pack_many(([5, 4] * 500,), [b""] * 1000)) < 1100


@given(ranges, ranges)
def test_ranges_are_sets(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    def numbered(found: list[tuple[int, int]]) -> set[int]:
        return {number for start, stop in found for number in range(start, stop)}

    first, second = merged(one), merged(other)
    for made, expected in (
        (first, numbered(one)),
        (without(first, second), numbered(one) - numbered(other)),
        (common(first, second), numbered(one) & numbered(other)),
    ):
        assert numbered(made) == expected
        assert total(made) == len(expected)
        assert made == merged(made)
    assert unpack_ranges(pack_ranges(first, 0), 0) == first


lists: st.SearchStrategy[Payload] = st.recursive(
    st.binary(max_size=9),
    lambda inner: st.lists(st.tuples(st.text(), inner | st.lists(inner, max_size=3)), max_size=3).map(tuple),
    max_leaves=9,
)


@given(lists)
def test_lists_in_a_joins_payload_come_back(payload: Payload) -> None:
    assert row_codec.unpack(row_codec.pack(payload)) == payload


def test_lists_in_a_joins_payload_are_compact() -> None:
    assert len(row_codec.pack((("a long name of a node", [b"12345"] * 1000),))) < 5100


@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), st.lists(ranges, max_size=5))
def test_the_index_knows_what_is_gone(counts: list[int], gone: list[list[tuple[int, int]]]) -> None:
    index, left = ChunkIndex(), dict[int, set[int]]()
    first = 3
    for count in counts:
        index.add(first, count)
        left[first] = set(range(first, first + count))
        first += count + count % 3
    for taken in gone:
        asked = {number for start, stop in taken for number in range(start, stop)}
        before = {first: set(there) for first, there in left.items()}
        outside, changed, empty = index.take_out(merged(taken))
        for there in left.values():
            there -= asked
        known = set[int]().union(*before.values())
        assert {number for start, stop in outside for number in range(start, stop)} == asked - known
        assert set(empty) == {first for first, there in left.items() if not there}
        assert set(changed) == {first for first, there in left.items() if there and there != before[first]}
        for first in changed:
            _, _, rest, packed = index.gone_row(1, first)
            here = {number for start, stop in unpack_ranges(packed, first) for number in range(start, stop)}
            assert rest == len(left[first]) and not here & left[first]
        for first in empty:
            del left[first]


def changes(store: SQLiteStore, *commits: Commit) -> int:
    """Rows that are written when these are, together."""
    before = store._writer.total_changes
    store.write([store.prepare("run", commit, at(20_000)) for commit in commits])
    return store._writer.total_changes - before


def test_a_wide_fan_out_is_a_few_rows(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "runs.db")
    started(store)
    side = [block(2 + n, (1, (n,)), chunk_codec.MOST) for n in range(0, 3 * chunk_codec.MOST, chunk_codec.MOST)]
    assert changes(store, Commit(blocks=side)) == 3 + 1
    part = [OutputChunk((1, (n,)), "n", [b"o"] * 100, 1) for n in range(0, chunk_codec.MOST, 100)]
    steps = [Commit(ranges=[(2 + n, 100)], output_blocks=[part[n // 100]]) for n in range(0, 1000, 100)]
    for step in steps:
        assert changes(store, step) == 1 + 1 + 1, "what is gone of the block, the outputs, where the run stands"
    assert changes(store, Commit(ranges=[(1002, chunk_codec.MOST - 1000)])) == 1 + 1 + 1, "block and mark go"
    brief = block(30_000, (2, (0,)), 1000)
    assert changes(store, Commit(blocks=[brief]), Commit(ranges=[(30_000, 1000)])) == 1, "it comes and goes"
    assert changes(store, Commit(blocks=[brief]), Commit(ranges=[(30_000, 900)])) == 1 + 1, "what is left of it"
    (count,) = store._writer.execute("SELECT count FROM blocks WHERE block = 30900").fetchone()
    assert count == 100
    with closing(sqlite3.connect(f"file:{tmp_path}/runs.db?mode=ro", uri=True)) as person:
        (waiting,) = person.execute("SELECT sum(items) FROM queue WHERE run_id = 'run'").fetchone()
    assert waiting == 1 + 2 * chunk_codec.MOST + 100 == len(store.snapshot("run").items)
    store.check()
    store.close()


def test_large_blocks_need_no_row_that_holds_them_all(tmp_path: Path) -> None:
    """SQLite takes a gigabyte in a row; here it takes less."""
    store, memory = SQLiteStore(tmp_path / "runs.db"), MemoryStore()
    store._writer.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, chunk_codec.MOST_BYTES + 100_000)
    large: list[Payload] = (
        [bytes(chunk_codec.MOST_BYTES // 9)] * 40 + [b"small"] * 5000 + [bytes(chunk_codec.MOST_BYTES // 2)] * 3
    )
    for kind in (store, memory):
        started(kind)
        commit = Commit(
            blocks=[block(2, (1, (0,)), large)],
            output_blocks=[OutputChunk((1, (0,)), "n", large, 1)],
            arrived_blocks=[JoinInputChunk(0, 1, (1, (0,)), "n", large)],
        )
        kind.commit("run", commit, at(5044))
        kind.commit("run", Commit(ranges=[(5, 36), (60, 4000)]), at(5044))
    compare(store, memory)
    for since in (3, 44, 5000):
        assert len(store.outputs("run", since)) > 0
    store.check()
    store.close()


def item_of(row: ItemRow) -> ItemRecord:
    made = item(row.id, row.order, row.payload)
    made.attempt, made.status, made.place = row.attempt, row.status, row.place
    return made


class Chance:
    """Commits of blocks as the core might make them, and of a kind that it never makes."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.last, self.branch = 1, 0
        self.side: list[Chunk] = []  # what is left of blocks
        self.single: dict[int, ItemRecord] = {}

    def commit(self) -> Commit:
        made = Commit(phase_changed=True)
        for _ in range(self.chance.randrange(4)):
            self.chance.choice([self._create, self._finish, self._finish, self._step_out, self._change, self._end])(
                made
            )
        return made

    def _create(self, made: Commit) -> None:
        count = self.chance.choice([1, 5, 40, 300])
        fresh = block(self.last + 1, (1, (self.branch,)), count)
        self.last, self.branch = self.last + count, self.branch + count
        if self.chance.random() < 0.3:
            self.single.update((one.id, one) for one in fresh.items())
            made.created += [self.single[number] for number in range(fresh.first, fresh.first + count)]
        else:
            self.side.append(fresh)
            made.blocks.append(fresh)

    def _part(self, most: int) -> Chunk | None:
        if not self.side:
            return None
        whole = self.side.pop(self.chance.randrange(len(self.side)))
        start = self.chance.choice([0, self.chance.randrange(len(whole))])
        stop = self.chance.choice([min(start + most, len(whole)), self.chance.randrange(start, len(whole)) + 1])
        self.side += [part for part in (whole.part(0, start), whole.part(stop)) if len(part)]
        return whole.part(start, stop)

    def _finish(self, made: Commit) -> None:
        part = self._part(self.chance.choice([1, 20, 300]))
        if part is not None:
            made.ranges.append((part.first, len(part)))
            made.output_blocks.append(OutputChunk(part.order, "n", part.payloads, self.chance.choice([None, 1, 2])))
            made.arrived_blocks.append(JoinInputChunk(0, 1, part.order, "n", part.payloads))

    def _step_out(self, made: Commit) -> None:
        part = self._part(self.chance.choice([1, 3, 30]))
        if part is not None:
            made.ranges.append((part.first, len(part)))
            out = list(part.items())
            made.created += out
            self.single.update((one.id, one) for one in out)

    def _change(self, made: Commit) -> None:
        for number in self.chance.sample(list(self.single), min(len(self.single), self.chance.randrange(4))):
            self.single[number].attempt += 1
            self.single[number].status = WorkItemStatus.WAITING_RETRY
            made.changed.append(self.single[number])

    def _end(self, made: Commit) -> None:
        for number in self.chance.sample(list(self.single), min(len(self.single), self.chance.choice([1, 9, 99]))):
            del self.single[number]
            made.finished.append(number)
            made.changed = [one for one in made.changed if one.id != number]


@pytest.mark.parametrize("seed", range(60))
def test_whatever_becomes_of_blocks_it_is_as_in_memory(tmp_path: Path, seed: int) -> None:
    """Written in groups of any size, and now and then by another owner."""
    made, store, memory = Chance(seed), SQLiteStore(tmp_path / "runs.db"), MemoryStore()
    for kind in (store, memory):
        started(kind)
    for _ in range(12):
        group = []
        for _ in range(made.chance.choice([1, 2, 9])):
            commit = made.commit()
            memory.commit("run", commit, at(made.last))
            group.append(store.prepare("run", commit, at(made.last)))
        store.write(group)
        if made.chance.random() < 0.3:
            store.close()
            store = SQLiteStore(tmp_path / "runs.db")
        if made.chance.random() < 0.1:
            for kind in (store, memory):
                kind.replace(record(), memory.snapshot("run"))
            made.single = {row.id: item_of(row) for row in memory.snapshot("run").items}
            made.side = []
        compare(store, memory)
        since = made.chance.randrange(made.last + 1)
        assert list(one_by_one(store.outputs("run", since))) == list(one_by_one(memory.outputs("run", since)))
    store.check()
    store.close()
