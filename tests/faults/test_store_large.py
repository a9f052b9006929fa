"""Values that are too large for a row of the database: row 111. SQLite's own limit is lowered, so these are small."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from floxide_mp import Coordinator, Join, NextAll, Workflow, node
from floxide_mp.core.records import Chunk, Commit, EventRecord, JoinInput, OutputRecord, ScopeRecord, one_by_one
from floxide_mp.core.types import ErrorRecord
from floxide_mp.errors import StoreCorruptError
from floxide_mp.stores.memory import MemoryStore
from floxide_mp.stores.sqlite.store import SQLiteStore
from floxide_mp.types import WorkItemStatus
from tests.conftest import LIMIT
from tests.filled import Reading, at, everything, facts, item

ROW = 40_000  # bytes that a row may have here
LARGE = b"large" * 20_000
both_engines = pytest.mark.parametrize("workers", [0, 2])


def lowered(path: Path) -> SQLiteStore:
    store = SQLiteStore(path)
    store._writer.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, ROW)
    return store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    with closing(lowered(tmp_path / "runs.db")) as store:
        yield store


def parts(store: SQLiteStore) -> int:
    found = store._writer.execute("SELECT count(DISTINCT value) FROM parts").fetchone()
    return int(found[0])


def commits() -> Iterator[Commit]:
    """Large values wherever there can be one, and then all that is unfinished is over."""
    error = ErrorRecord("Boom", "boom", "trace", LARGE, 2, "a", 7, 1, 1, 1e9)
    changed = item(300, LARGE)
    yield Commit(
        created=[item(200, LARGE), changed, item(301, (("one", LARGE), ("two", [LARGE, LARGE])))],
        blocks=[Chunk(400, 0, (2, (1, 0)), [b"small"] * 8 + [LARGE] * 2, changed.scope)],
        arrived=[JoinInput(0, 1, (3, ()), "a", LARGE)],
        opened=[ScopeRecord(9, 0, 0, (0, ()), LARGE)],
        failed_batches={9: (1, error)},
        events=[EventRecord((9, ()), n, "a", 0, LARGE) for n in range(2)],
        outputs=[OutputRecord((9, ()), 0, "a", LARGE, 1)],
        errors=[error],
    )
    changed.attempt, changed.status = 2, WorkItemStatus.FAILED
    yield Commit(changed=[changed], failed_batches={9: (0, error)})
    yield Commit(finished=[200, 300, 301, 409], ranges=[(400, 9)], joined=[(0, 1)], closed=[9])


def test_row_111_large_values_lie_in_rows_of_their_own(store: SQLiteStore) -> None:
    memory = MemoryStore()
    for one in (store, memory):
        record, *rest = everything("run")
        one.create(record._replace(input=LARGE), *rest)
    for number, (commit, same) in enumerate(zip(commits(), commits(), strict=True), 500):
        store.commit("run", commit, at(number))
        memory.commit("run", same, at(number))
        assert facts(store) == facts(memory)
        with Reading(Path(store.path)) as reader:
            assert facts(reader) == facts(memory)
            reader.check()
    assert parts(store) == 5, "the input, two events, an output and an error are there for good"


def test_row_111_what_is_written_anew_replaces_its_large_values(store: SQLiteStore) -> None:
    record, _, progress = everything("run")
    store.create(record._replace(input=LARGE), Commit(created=[item(7, LARGE)]), progress)
    assert parts(store) == 2
    store.replace(record._replace(input=LARGE * 2), store.snapshot("run"))
    assert parts(store) == 2
    store.replace(record._replace(input=None))
    assert parts(store) == 1
    store.check()
    assert [found.payload for found in store.snapshot("run").items] == [LARGE]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM parts WHERE part = 3",
        "DELETE FROM parts WHERE part = (SELECT max(part) FROM parts)",
        "DELETE FROM parts",
        "UPDATE parts SET payload = x'00' WHERE part = 1",
        "UPDATE parts SET payload = 'text' WHERE part = 1",
        "UPDATE outputs SET payload = payload + 1",
        "UPDATE outputs SET payload = 1.5",
    ],
)
def test_row_111_a_part_that_is_missing_or_another(store: SQLiteStore, statement: str) -> None:
    store.create(*everything("run"))
    store.commit("run", Commit(outputs=[OutputRecord((9, ()), 0, "a", LARGE, 1) for _ in range(2)]), at(101))
    assert list(one_by_one(store.outputs("run")))[-1].payload == LARGE
    with closing(sqlite3.connect(store.path)) as connection:
        assert connection.execute(statement).rowcount
        connection.commit()
    with pytest.raises(StoreCorruptError, match=r"run 'run': row (parts|outputs) .*(is missing|not what was written)"):
        list(one_by_one(store.outputs("run")))


@node
def split(count: int) -> NextAll[int]:
    return NextAll(range(count))


@node
def make(number: int) -> bytes:
    return bytes([number]) * (2 * ROW)


class Joined(Workflow):
    split = split
    make = make
    total = Join(len, of="split")
    start = split
    edges = {split: [make], make: [total]}


class Made(Workflow):
    make = make
    start = make


@both_engines
def test_row_111_a_value_and_a_join_that_no_row_can_hold(workers: int, tmp_path: Path) -> None:
    with closing(lowered(tmp_path / "runs.db")) as store, Coordinator(workers, store) as coordinator:
        assert coordinator.start(Made, 7, run_id="value").wait(LIMIT).output == bytes([7]) * (2 * ROW)
        assert coordinator.start(Joined, 30, run_id="join").wait(LIMIT).output == 30
        store.check()
    with Coordinator(0, tmp_path / "runs.db") as coordinator:
        assert coordinator.run("value").wait(LIMIT).output == bytes([7]) * (2 * ROW)


def test_row_111_a_run_with_large_values_goes_on(tmp_path: Path) -> None:
    """What it left has large values at a join."""
    with closing(lowered(tmp_path / "runs.db")) as store, Coordinator(0, store) as coordinator:
        coordinator.start(Joined, 12, run_id="x")
        for _ in range(8):
            Joined().step_distributed(coordinator, 0)
    with closing(lowered(tmp_path / "runs.db")) as store, Coordinator(2, store) as coordinator:
        assert coordinator.resume(Joined, "x").wait(LIMIT).output == 12
        store.check()
