"""What ``SQLiteStore`` does besides what every store does (``test_store_conformance``)."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floxide_mp.core.graph import Graph, NodeSpec
from floxide_mp.core.plan import Plan
from floxide_mp.core.records import Commit, EventRecord, JoinInput, OutputRecord
from floxide_mp.core.run_state import RunState
from floxide_mp.core.types import ErrorRecord, OrderKey, Payload
from floxide_mp.errors import NotStartedError, StoreError
from floxide_mp.ports import Progress
from floxide_mp.stores.memory import MemoryStore
from floxide_mp.stores.sqlite import chunk_codec, row_codec, sqlite_errors
from floxide_mp.stores.sqlite.clock_conversion import Clocks
from floxide_mp.stores.sqlite.store import SQLiteStore
from floxide_mp.types import WorkItemStatus
from tests.filled import Reading, at, everything, facts, fill, item, step

numbers = st.integers(0, 300) | st.integers(0, 2**62) | st.sampled_from([247, 248, 255, 256, 1 << 59, 1 << 60])
numbers |= st.sampled_from([(1 << 63) - 1, 1 << 63, (1 << 64) - 2, (1 << 64) - 1, 1 << 64, 1 << 300]) | st.integers(
    2**62
)
orders = st.tuples(numbers, st.lists(numbers, max_size=5).map(tuple))
payloads: st.SearchStrategy[Payload] = st.recursive(
    st.binary(), lambda inner: st.lists(st.tuples(st.text(st.characters()), inner), max_size=4).map(tuple), max_leaves=9
)


@given(orders, orders)
def test_order_keys_sort_as_bytes(one: OrderKey, other: OrderKey) -> None:
    packed = row_codec.pack_order(one), row_codec.pack_order(other)
    assert (packed[0] < packed[1]) == (one < other)
    assert (row_codec.unpack_order(packed[0]), row_codec.unpack_order(packed[1])) == (one, other)


@given(payloads)
def test_payloads_come_back(payload: Payload) -> None:
    assert row_codec.unpack(row_codec.pack(payload)) == payload


@given(st.text(st.characters()), st.none() | st.binary(), st.none() | st.integers(0, 9), st.floats(0, 1e12))
def test_errors_come_back(text: str, payload: bytes | None, worker: int | None, when: float) -> None:
    error = ErrorRecord(text, text, text, payload, 1, text, 2, 3, worker, when)
    assert row_codec.unpack_error(row_codec.pack_error(error)) == error
    assert row_codec.unpack_error(row_codec.pack_error(None)) is None
    assert row_codec.untext(row_codec.text(text)) == text


def test_due_times_outlive_the_monotonic_clock(tmp_path: Path) -> None:
    now = {"monotonic": 5000.0, "wall": 1_700_000_000.0}
    clocks = Clocks(lambda: now["monotonic"], lambda: now["wall"])
    store = SQLiteStore(tmp_path / "runs.db", clocks=clocks)
    fill(store)
    waiting = item(7)
    waiting.status, waiting.due, waiting.attempt = WorkItemStatus.WAITING_RETRY, 5060.0, 2
    store.commit("run", Commit(changed=[waiting]), at(100))
    (stored,) = store._writer.execute("SELECT due FROM items WHERE run = 1 AND item = 7").fetchone()
    assert stored == 1_700_000_060.0
    store.close()
    now.update(monotonic=3.0, wall=1_700_000_040.0)  # 40 seconds later, the machine was started again
    store = SQLiteStore(tmp_path / "runs.db", clocks=clocks)
    row = next(row for row in store.snapshot("run").items if row.id == 7)
    assert (row.due, row.attempt, row.status) == (23.0, 2, WorkItemStatus.WAITING_RETRY)
    store.close()


def test_what_is_prepared_does_not_change_any_more(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "runs.db")
    fill(store)
    changing, new = item(7), item(101)
    changing.attempt, changing.status = 2, WorkItemStatus.FAILED
    prepared = store.prepare("run", Commit(created=[new], changed=[changing]), at(101))
    for one in (changing, new):
        one.attempt, one.status, one.payload, one.due = 9, WorkItemStatus.IN_PROGRESS, b"later", 99.0
    store.write([prepared])
    found = {row.id: (row.attempt, row.status, row.payload) for row in store.snapshot("run").items}
    assert found[7] == (2, WorkItemStatus.FAILED, b"plain")
    assert found[101] == (1, WorkItemStatus.PENDING, b"plain")
    store.close()


def test_many_commits_of_many_runs_are_one_transaction(tmp_path: Path) -> None:
    store, memory = SQLiteStore(tmp_path / "runs.db"), MemoryStore()
    for one in (store, memory):
        fill(one)
    prepared = []
    for number in range(100, 150):
        for name in ("run", "other run"):
            prepared.append(store.prepare(name, *step(number)))
            memory.commit(name, *step(number))
    changes = store._writer.total_changes
    store.write(prepared)
    # For each run: an item goes, one comes, a row of events, one of outputs, a depth, a node's steps, where it stands.
    assert store._writer.total_changes - changes == 2 * (1 + 1 + 1 + 1 + 1 + 1 + 1)
    for name in ("run", "other run"):
        assert facts(store, name) == facts(memory, name)
    with pytest.raises(NotStartedError):
        store.write([store.prepare("run", *step(150)), store.prepare("nosuch", *step(150))])
    assert facts(store) == facts(memory)
    store.write([])
    store.close()


def test_commits_are_written_once_and_in_order(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "runs.db")
    fill(store)
    one, two, three = (store.prepare("run", *step(number)) for number in (100, 101, 102))
    unknown = store.prepare("nosuch", *step(100))
    with pytest.raises(NotStartedError):
        store.write([one, two, three, unknown])
    with pytest.raises(StoreError, match="a commit before this one was not written"):
        store.write([two])
    store.write([one, two])
    store.write([one, two, three])
    store.write([three])
    assert len(store.outputs("run")) == 4
    store.check()
    store.close()


def test_items_are_numbered_in_another_order_than_they_are_to_be_run_in(tmp_path: Path) -> None:
    """A fan-out that comes first was made last: another worker was faster."""
    store, memory = SQLiteStore(tmp_path / "runs.db"), MemoryStore()
    orders = [(1, (branch, k)) for branch in (1, 0) for k in range(20)]
    made = [item(number, b"p") for number in range(200, 240)]
    for one, order in zip(made, orders, strict=True):
        one.order = order
    for kind in (store, memory):
        fill(kind)
        kind.commit("run", Commit(created=made), at(239))
        kind.replace(everything("run")[0], kind.snapshot("run"))
        kind.commit("run", Commit(finished=[20, 205, *range(220, 240)]), at(239))
    assert facts(store) == facts(memory)
    store.check()
    store.close()


def test_large_values_side_by_side_need_no_row_that_holds_them_all(tmp_path: Path) -> None:
    """SQLite takes a gigabyte in a row; here it takes less."""
    store, memory = SQLiteStore(tmp_path / "runs.db"), MemoryStore()
    store._writer.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, chunk_codec.MOST_BYTES + 100_000)
    payload = bytes(chunk_codec.MOST_BYTES // 9)
    side = [(1, (0, k)) for k in range(40)]
    for kind in (store, memory):
        fill(kind)
        commit = Commit(
            created=[item(number, payload) for number in range(200, 240)],
            arrived=[JoinInput(0, 1, order, "a", payload) for order in side],
            events=[EventRecord(order, 0, "a", 0, payload) for order in side],
            outputs=[OutputRecord(order, 0, "a", payload) for order in side],
        )
        kind.commit("run", commit, at(239))
        kind.commit("run", Commit(finished=[*range(203, 237)]), at(239))
    assert facts(store) == facts(memory)
    found = store._writer.execute("SELECT count(*), max(count) FROM blocks").fetchone()
    assert found == (3, 12)  # the first 9, of which 3 are left, and one of 12 in each run: it is blocks all the same
    store.check()
    store.close()


def test_a_thread_writes_while_others_read(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "runs.db")
    fill(store)
    seen: list[int] = []

    def write() -> None:
        for number in range(100, 300):
            store.write([store.prepare("run", *step(number))])

    thread = threading.Thread(target=write)
    with Reading(tmp_path / "runs.db") as reader:
        thread.start()
        while thread.is_alive():
            for one in (store, reader):
                outputs, progress = len(one.outputs("run")), one.progress("run")
                assert progress.counts[0] >= outputs + 99
                seen.append(len(one.snapshot("run").items))
        thread.join()
        assert len(reader.outputs("run")) == 201
    assert set(seen) == {14}
    store.close()


def state_and_store(path: Path, *nodes: NodeSpec) -> tuple[RunState, SQLiteStore]:
    store = SQLiteStore(path)
    state = RunState(Plan(Graph("g", nodes, 0)))
    state.start(b"\x80\x04N.")
    store.create(everything("run")[0], state.take_commit(), standing(state))
    return state, store


def standing(state: RunState) -> Progress:
    return Progress(state.phase, state.metrics, state.counts, None, state.failure)


def advance(state: RunState, store: SQLiteStore, width: int = 1, steps: int = 1) -> None:
    for _ in range(steps):
        found = state.claim(1, 0)
        assert found is not None
        state.succeed(found, ((0, b"\x80\x04K\x01."),) * width, (), width != 1)
    store.commit("run", state.take_commit(), standing(state))


def test_a_step_costs_the_same_however_long_the_run(tmp_path: Path) -> None:
    """Pages that a commit writes to the log."""
    state, store = state_and_store(tmp_path / "runs.db", NodeSpec("again", ((0,),)))
    store._writer.execute("PRAGMA wal_autocheckpoint = 0")
    pages = []
    for steps in (10, 300, 2000):
        for _ in range(steps):
            advance(state, store)
        before = store._writer.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        assert before[0] == 0
        for _ in range(20):
            advance(state, store)
        pages.append(store._writer.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[1])
    assert pages[0] == pages[2]
    assert store._writer.execute("SELECT count(*) FROM items").fetchone() == (1,)
    store.close()


@pytest.mark.parametrize("kind", ["fan-out", "chain", "loop"])
def test_bytes_on_disk_for_a_step(tmp_path: Path, kind: str) -> None:
    count = 2000
    chain = [NodeSpec(f"n{n}", ((n + 1,) if n < count - 1 else (),)) for n in range(count)]
    nodes = {
        "fan-out": [NodeSpec("split", ((1,),)), NodeSpec("work")],
        "chain": chain,
        "loop": [NodeSpec("n", ((0,),))],
    }
    state, store = state_and_store(tmp_path / "runs.db", *nodes[kind])
    if kind == "fan-out":
        advance(state, store, count)
        for _ in range(count // 50):
            advance(state, store, steps=50)
    else:
        for _ in range(count):
            advance(state, store)
    assert state.over == (kind != "loop")
    store.close()
    assert (tmp_path / "runs.db").stat().st_size / count <= 250
    assert sorted(p.name for p in tmp_path.iterdir()) == ["runs.db", "runs.db.key", "runs.db.lock"]


@pytest.mark.parametrize(("durability", "level"), [("process", 1), ("full", 2)])
def test_durability(tmp_path: Path, durability: str, level: int) -> None:
    store = SQLiteStore(tmp_path / "runs.db", durability)  # type: ignore[arg-type]
    assert store._writer.execute("PRAGMA synchronous").fetchone() == (level,)
    assert store._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.close()
    with pytest.raises(ValueError, match='durability is "process" or "full", not "none"'.replace('"none"', "'none'")):
        SQLiteStore(tmp_path / "runs.db", "none")  # type: ignore[arg-type]


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / "an odd ?#%20 näme"
    odd.mkdir()
    monkeypatch.chdir(odd)
    (odd / "link.db").symlink_to("runs.db")
    store = SQLiteStore("link.db")
    monkeypatch.chdir(tmp_path)
    fill(store)
    store.close()
    assert {p.name for p in odd.iterdir()} == {"link.db", "runs.db", "runs.db.key", "runs.db.lock"}
    with Reading(odd / "link.db") as reader:
        assert len(reader.runs()) == 2
    for bad, text in {
        str(tmp_path): f"{tmp_path} is a directory: a store is made of regular files",
        os.devnull: "/dev/null is no regular file: a store is made of regular files",
        f"{tmp_path}/no/such.db": f"{tmp_path}/no: No such file or directory",
        "": "the path of a store is empty",
    }.items():
        for make in (SQLiteStore, SQLiteStore.open_reader):
            with pytest.raises(StoreError, match=f"^{text}$"):
                make(bad)
    with pytest.raises(StoreError, match="there is no store"):
        SQLiteStore.open_reader(tmp_path / "nosuch.db")
    assert not (tmp_path / "nosuch.db").exists()


def test_what_is_no_file_is_left_alone(tmp_path: Path) -> None:
    """It has no size either; and whoever is root could replace /dev/null by a database."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for name in ("fifo", "folder"):
        with pytest.raises(StoreError, match=f"{name} is .*: a store is made of regular files"):
            SQLiteStore(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["fifo", "folder"]
    assert (tmp_path / "fifo").is_fifo()


def test_a_file_that_was_never_written_becomes_a_store(tmp_path: Path) -> None:
    """As ``tempfile`` makes them; one that has a key was written (``test_row_33_emptied``)."""
    (tmp_path / "runs.db").touch()
    store = SQLiteStore(tmp_path / "runs.db")
    fill(store)
    store.close()
    (tmp_path / "runs.db").unlink()
    store = SQLiteStore(tmp_path / "runs.db")
    assert list(store.runs()) == []
    store.close()


def test_what_is_not_permitted_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "runs.db")
    (tmp_path / "runs.db.key").touch()
    told = {
        (errno.EACCES, path + ".key"): f"{path}.key: Permission denied",
        (errno.EACCES, path + ".lock"): f"{path} cannot be written: Permission denied",  # it was to be made
        (errno.EROFS, path + ".lock"): f"{path} cannot be written: Read-only file system",
    }
    for (number, name), text in told.items():
        assert str(sqlite_errors.translated(path, OSError(number, os.strerror(number), name))) == text


def test_nothing_is_made_beside_what_is_no_store(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE t (x)")
    other.close()
    (tmp_path / "text.db").write_text("a text, and no database at all")
    for name, text in {"other.db": "is a database of another program", "text.db": "file is not a database"}.items():
        with pytest.raises(StoreError, match=text):
            SQLiteStore(tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"other.db", "text.db"}


def test_a_person_can_query_it(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "runs.db")
    fill(store)
    connection = sqlite3.connect(f"file:{tmp_path}/runs.db?mode=ro", uri=True)
    overview = connection.execute("SELECT run_id, phase, total, outputs, started FROM overview").fetchall()
    assert overview[0] == ("run", "running", 100, 1, "2023-11-14 22:13:20Z")
    queue = connection.execute("SELECT item, items, node, attempt, status FROM queue WHERE run_id = 'run'").fetchall()
    assert queue == [(20, 12, "b", 1, "pending"), (7, 1, "b", 1, "pending"), (100, 1, "b", 1, "pending")]
    errors = connection.execute("SELECT node, type, message, attempt FROM errors WHERE run = 1").fetchall()
    assert errors == [("work", "Boom", "boom", 1)]
    connection.close()
    store.close()


def test_the_owner_is_known(tmp_path: Path) -> None:
    for epoch in (1, 2):
        store = SQLiteStore(tmp_path / "runs.db", clocks=Clocks(lambda: 0.0, lambda: 1_700_000_000.0))
        owner = store.owner()
        assert (owner.epoch, owner.pid, owner.since, owner.runs) == (epoch, os.getpid(), 1_700_000_000.0, 0)
        store.close()
