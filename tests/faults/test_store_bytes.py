"""A store whose bytes are not those that were written: rows 32 to 38 and 81 of the fault table."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from floxide_mp.core.records import Chunk, Commit
from floxide_mp.core.types import StreamOffset
from floxide_mp.errors import StoreCorruptError, StoreError, StoreVersionError
from floxide_mp.stores.sqlite import schema
from floxide_mp.stores.sqlite.store import SQLiteStore
from tests.filled import MARK, Reading, at, everything, facts, fill, item, step


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store that has rows in every table, closed."""
    store = SQLiteStore(tmp_path / "runs.db")
    fill(store)
    store._writer.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 8_000)
    for name in ("run", "other run"):
        store.commit(name, Commit(finished=[25], created=[item(200, b"x" * 2_500)]), at(200))
    store.close()
    return tmp_path / "runs.db"


def edit(path: Path, *statements: str) -> None:
    """By a program that does not have the key."""
    connection = sqlite3.connect(path)
    for statement in statements:
        assert connection.execute(statement).rowcount, statement
    connection.commit()
    connection.close()


@pytest.mark.parametrize("left", [1, 99, 1000, 4096, 8192, 20480, -4096, -4095])
def test_row_32_truncated(path: Path, left: int) -> None:
    """It is noticed when it is opened, or when what was in the part that is missing is read."""
    os.truncate(path, left if left > 0 else path.stat().st_size + left)
    with pytest.raises(StoreCorruptError, match=r"runs\.db"), closing(SQLiteStore(path)) as store:
        store.check()
    with pytest.raises(StoreCorruptError, match=r"runs\.db"), Reading(path) as reader:
        reader.check()


def test_row_33_emptied(path: Path) -> None:
    os.truncate(path, 0)
    for _ in range(2):
        with pytest.raises(StoreCorruptError, match=r"runs\.db: it is empty, and its key says that it was not"):
            SQLiteStore(path)
    with pytest.raises(StoreCorruptError, match=r"runs\.db: it is empty"):
        SQLiteStore.open_reader(path)
    assert path.stat().st_size == 0


@pytest.mark.parametrize("deleted", [("",), ("", ".key")], ids=["database", "database and key"])
def test_row_33_a_log_that_is_left_is_not_read_into_a_new_store(path: Path, deleted: tuple[str, ...]) -> None:
    """As after ``kill -9``: SQLite reads it into whatever database is beside it."""
    store = SQLiteStore(path)
    store.commit("run", *step(100))
    log = path.with_name("runs.db-wal")
    contents = log.read_bytes()
    store.close()
    log.write_bytes(contents)
    for end in deleted:
        path.with_name(f"runs.db{end}").unlink()
    for _ in range(2):
        with pytest.raises(
            StoreCorruptError, match=r"runs\.db: it is gone, but .*runs\.db-wal is there, with what was"
        ):
            SQLiteStore(path)
    assert log.read_bytes() == contents
    log.unlink()
    store = SQLiteStore(path)
    assert list(store.runs()) == []
    store.close()


@pytest.mark.parametrize("junk", [b"junk", bytes(200), b"SQLite format 3\x00" + b"\xff" * 84])
def test_row_34_junk_header(path: Path, junk: bytes) -> None:
    with open(path, "r+b") as file:
        file.write(junk)
    with pytest.raises(StoreCorruptError, match=r"runs\.db: file is not a database"):
        SQLiteStore(path)
    with pytest.raises(StoreCorruptError, match=r"runs\.db: file is not a database"):
        SQLiteStore.open_reader(path)


def test_row_34_a_database_of_another_program(tmp_path: Path) -> None:
    edit_path = tmp_path / "other.db"
    connection = sqlite3.connect(edit_path)
    connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    before = edit_path.read_bytes()
    with pytest.raises(StoreError, match=r"other\.db is a database of another program"):
        SQLiteStore(edit_path)
    assert edit_path.read_bytes() == before
    assert not (tmp_path / "other.db.key").exists()


READS: dict[str, tuple[Callable[[Any], object], str]] = {
    "runs": (lambda s: s.runs(), "runs"),
    "items": (lambda s: s.snapshot("run"), "items 7"),
    "blocks": (lambda s: s.snapshot("run"), "blocks 20"),
    "arrivals": (lambda s: s.snapshot("run"), "arrivals 0 1 1"),
    "scopes": (lambda s: s.snapshot("run"), "scopes 1"),
    "spoilt": (lambda s: s.snapshot("run"), "spoilt 1"),
    "events": (lambda s: s.events("run"), "events 1"),
    "outputs": (lambda s: s.outputs("run"), "outputs 1"),
    "errors": (lambda s: s.errors("run"), "errors 1"),
    "progress": (lambda s: s.progress("run"), "progress"),
}


@pytest.mark.parametrize("table", READS)
def test_row_35_one_flipped_payload_byte(path: Path, table: str) -> None:
    contents, mark = bytearray(path.read_bytes()), MARK[table]
    assert contents.count(mark), "what was written is in the file"
    at_byte = contents.find(mark)
    while at_byte >= 0:
        contents[at_byte] ^= 1
        at_byte = contents.find(mark, at_byte)
    path.write_bytes(contents)
    read, row = READS[table]
    for open_it in (SQLiteStore, SQLiteStore.open_reader):
        store = open_it(path)
        with pytest.raises(StoreCorruptError, match=rf"^{path}: .*row {row}.*: it is not what was written") as caught:
            read(store)
        assert table == "runs" or caught.value.run_id == "run"
        assert caught.value.row.startswith(row)  # type: ignore[attr-defined]
        store.close()


def test_row_35_a_flipped_byte_anywhere(path: Path) -> None:
    """It is noticed, or it is none that matters."""
    contents = path.read_bytes()
    with Reading(path) as reader:
        before = facts(reader)
    noticed, copy = 0, path.with_name("copy.db")
    shutil.copy(f"{path}.key", f"{copy}.key")
    for number in range(0, len(contents), 53):
        changed = bytearray(contents)
        changed[number] ^= 1 << (number % 8)
        copy.write_bytes(changed)
        try:
            with Reading(copy) as reader:
                assert facts(reader) == before, f"byte {number}"
                reader.check()
        except (StoreCorruptError, StoreVersionError):
            noticed += 1
        except StoreError as error:
            if "another program" not in str(error):
                raise AssertionError(f"byte {number}") from error
    assert noticed > 50


def test_row_35_a_run_whose_name_is_damaged_is_not_one_that_never_was(path: Path) -> None:
    contents, at_byte, noticed = path.read_bytes(), -1, 0
    with Reading(path) as reader:
        before = reader.progress("other run")
    while (at_byte := contents.find(b"other run", at_byte + 1)) >= 0:
        path.write_bytes(contents[:at_byte] + b"O" + contents[at_byte + 1 :])
        with Reading(path) as reader:
            try:
                assert reader.progress("other run") == before
            except StoreCorruptError:
                noticed += 1
            with pytest.raises(StoreCorruptError):
                reader.check()
    assert noticed


@pytest.mark.parametrize("table", [table.name for table in schema.TABLES])
def test_row_35_a_row_that_is_missing(path: Path, table: str) -> None:
    run = "" if table == "store" else " AND run = 1"
    edit(path, f"DELETE FROM {table} WHERE seal IN (SELECT seal FROM {table} WHERE true{run} LIMIT 1)")
    with pytest.raises(StoreCorruptError, match=r"runs\.db"), Reading(path) as reader:
        reader.check()


@pytest.mark.parametrize("table", ["events", "outputs", "errors"])
def test_row_35_the_last_rows_are_missing(path: Path, table: str) -> None:
    edit(path, f"DELETE FROM {table} WHERE run = 1 AND row = (SELECT max(row) FROM {table} WHERE run = 1)")
    refusal = pytest.raises(StoreCorruptError, match=rf"row {table} \d+: the rows end here; \d were written")
    with refusal, Reading(path) as reader:
        READS[table][0](reader)


def test_row_35_a_finished_item_is_back(path: Path) -> None:
    connection = sqlite3.connect(path)
    (row,) = connection.execute("SELECT * FROM items WHERE run = 1 AND item = 7").fetchall()
    connection.close()
    store = SQLiteStore(path)
    store.commit("run", Commit(created=[item(101)], finished=[7]), at(101))
    store.close()
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM items WHERE run = 1 AND item = 101")
    connection.execute(f"INSERT INTO items VALUES ({', '.join('?' * len(row))})", row)
    connection.commit()
    connection.close()
    refusal = pytest.raises(StoreCorruptError, match="run 'run': a row of it is missing, or is one of before")
    with refusal, Reading(path) as reader:
        reader.snapshot("run")


def test_row_35_a_commit_finds_out_too(path: Path) -> None:
    store = SQLiteStore(path)
    edit(path, "DELETE FROM items WHERE run = 1 AND item = 7")
    with pytest.raises(StoreCorruptError, match="run 'run': a row of it is missing, or is one of before"):
        store.commit("run", Commit(finished=[7]), at(100))
    store.close()


@pytest.mark.parametrize("what", ["missing", "short", "another"])
def test_row_35_the_key(path: Path, what: str) -> None:
    key = Path(f"{path}.key")
    if what == "missing":
        key.unlink()
    else:
        key.write_bytes(bytes(31 if what == "short" else 32))
    text = {"missing": "its key, .* is missing", "short": "32 bytes were written, 31 are", "another": "is the key of"}
    for open_it in (SQLiteStore, SQLiteStore.open_reader):
        with pytest.raises(StoreCorruptError, match=text[what]):
            open_it(path)
    assert what == "missing" or key.stat().st_size, "no new key is made for an old store"


# -- versions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 2, 7])
def test_row_38_another_schema_is_refused(path: Path, version: int) -> None:
    edit_version(path, version)
    before = path.read_bytes()
    text = rf"has version {version} of the schema, and this floxide-mp knows version 1 only: use the"
    for open_it in (SQLiteStore, SQLiteStore.open_reader):
        with pytest.raises(StoreVersionError, match=text) as caught:
            open_it(path)
        assert (caught.value.found, caught.value.known) == (version, 1)  # type: ignore[attr-defined]
    assert path.read_bytes() == before


def edit_version(path: Path, version: int) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE items SET payload = (SELECT payload FROM items WHERE item = 100) WHERE item = 7 AND run = 1",
        "UPDATE items SET payload = x'6280042e' WHERE run = 1 AND item = 7",
        "UPDATE events SET payload = x'80042e' WHERE run = 1 AND row = 1",
        "UPDATE outputs SET payload = (SELECT payload FROM outputs WHERE run = 2) WHERE run = 1 AND row = 1",
        "UPDATE outputs SET (payload, seal) = (SELECT payload, seal FROM outputs WHERE run = 2) WHERE run = 1",
        "UPDATE runs SET payload = (SELECT payload FROM runs WHERE run = 2) WHERE run = 1",
        "UPDATE runs SET run_id = run_id || 'x'",
        "UPDATE progress SET (phase, seal) = (SELECT 'completed', seal FROM progress WHERE run = 2) WHERE run = 1",
        "UPDATE errors SET payload = NULL WHERE run = 1",
        "UPDATE marks SET value = value + 1 WHERE run = 1 AND kind = 'depth'",
        "UPDATE steps SET done = done + 1 WHERE run = 1",
        "UPDATE runs SET versions = '{}'",
    ],
)
def test_row_81_a_payload_swapped_in_the_store(path: Path, statement: str) -> None:
    """Nothing in this room opens a pickle (``test_architecture``), and what was changed does not leave it."""
    edit(path, statement)
    refusal = pytest.raises(StoreCorruptError, match=r"runs\.db.* row .*is not what was written")
    with refusal, Reading(path) as reader:
        reader.check()


def test_row_81_runs_that_changed_their_names(path: Path) -> None:
    edit(path, "UPDATE runs SET run_id = 'x' WHERE run = 1", "UPDATE runs SET run_id = 'run' WHERE run = 2")
    with pytest.raises(StoreCorruptError, match=r"row progress.*is not what was written"), Reading(path) as reader:
        reader.outputs("run")


OLDER = {  # rows that are put back as they were before: what is deleted, and what comes again
    "an item for another with the same sum": ("items", "item IN (2, 5)", "item IN (3, 4)"),
    "an earlier attempt": ("items", "item = 6", "item = 6"),
    "an earlier mark": ("marks", "kind = 'depth'", "kind = 'depth'"),
    "how far a generator was": ("marks", "kind = 'given'", "kind = 'given'"),
    "what was gone of a block": ("gone", "true", "true"),
    "what the run began with": ("runs", "run = 1", "run = 1"),
}


@pytest.mark.parametrize("what", OLDER)
def test_row_119_rows_that_are_put_back_as_they_were(tmp_path: Path, what: str) -> None:
    """Each of them has a seal that is right, and their numbers add up."""
    path, older = tmp_path / "runs.db", tmp_path / "older.db"
    record, *_ = everything("run")
    six = [item(number) for number in range(2, 8)]
    side = Chunk(20, 0, (3, (0,)), [b"side"] * 20, six[0].scope)
    with closing(SQLiteStore(path)) as store:
        store.create(
            record, Commit(created=six, blocks=[side], depths={(0, 0): 1}, given={7: StreamOffset(5, 5, 0)}), at(50)
        )
        store.commit("run", Commit(ranges=[(20, 1)]), at(50))
    shutil.copy(path, older)
    with closing(SQLiteStore(path)) as store:
        six[4].attempt = 2
        store.commit("run", Commit(finished=[3, 4], ranges=[(21, 1)], changed=[six[4]], depths={(0, 0): 2}), at(50))
        store.commit("run", Commit(given={7: StreamOffset(9, 9, 0)}), at(50))
        store.replace(record._replace(timeout=5.0))
        store.check()
    table, gone, back = OLDER[what]
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ATTACH ? AS older", (str(older),))
        assert connection.execute(f"DELETE FROM {table} WHERE {gone}").rowcount
        assert connection.execute(f"INSERT INTO main.{table} SELECT * FROM older.{table} WHERE {back}").rowcount
        connection.commit()
    with (
        pytest.raises(StoreCorruptError, match=r"run 'run': a row of it is missing, or is one of before"),
        Reading(path) as reader,
    ):
        reader.check()
    with closing(SQLiteStore(path)) as store, pytest.raises(StoreCorruptError, match="is one of before"):
        store.commit("run", Commit(finished=[7]), at(50))


def put_back(path: Path, older: Path, tables: list[str]) -> bool:
    """The rows of the first run in these tables, as they were; whether that changes anything."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ATTACH ? AS older", (str(older),))
        changed = False
        for table in tables:
            now, then = (
                connection.execute(f"SELECT * FROM {of}.{table} WHERE run = 1 ORDER BY 1, 2").fetchall()
                for of in ("main", "older")
            )
            changed = changed or now != then
            connection.execute(f"DELETE FROM main.{table} WHERE run = 1")
            connection.execute(f"INSERT INTO main.{table} SELECT * FROM older.{table} WHERE run = 1")
        connection.commit()
    return changed


def test_row_119_all_that_a_table_has_of_a_run_and_what_is_said_to_be_not_noticed(path: Path, tmp_path: Path) -> None:
    """docs/security.md: not noticed is a whole run, or a whole store, of before; and while it is open, that is, too."""
    older, latest = tmp_path / "older.db", tmp_path / "latest.db"
    with closing(sqlite3.connect(path)) as connection:
        sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql LIKE '%run INTEGER%'"
        tables = [name for (name,) in connection.execute(sql)]
    with Reading(path) as reader:
        before, other = facts(reader, "run"), facts(reader, "other run")
    shutil.copy(path, older)
    with closing(SQLiteStore(path)) as store:
        fill_more(store)
    shutil.copy(path, latest)
    changed = []
    for table in tables:
        shutil.copy(latest, path)
        if put_back(path, older, [table]):
            changed.append(table)
            with pytest.raises(StoreCorruptError, match="run 'run'"), Reading(path) as reader:
                reader.check()
    assert {"progress", "items", "gone", "events", "outputs", "steps"} <= set(changed)
    shutil.copy(latest, path)
    assert put_back(path, older, tables)
    with Reading(path) as reader:
        reader.check()
        assert (facts(reader, "run"), facts(reader, "other run")) == (before, other)
    shutil.copy(older, path)
    with Reading(path) as reader:
        reader.check()
    shutil.copy(latest, path)
    with closing(SQLiteStore(path)) as store:
        store.commit("run", *step(103))
        put_back(path, older, tables)
        with pytest.raises(StoreCorruptError):
            store.commit("run", *step(104))


def fill_more(store: SQLiteStore) -> None:
    """Steps of the first run, which change what most of its tables have."""
    for number in range(100, 103):
        store.commit("run", *step(number))
    store.commit("run", Commit(finished=[26]), at(300))
