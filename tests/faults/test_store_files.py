"""The files of a store, and what its own program, others, and other users do to them: rows 107, 110, 119, 127."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import failpoints
from floxide_mp.errors import StoreCorruptError, StoreError, StoreLockedError
from floxide_mp.stores.memory import MemoryStore
from floxide_mp.stores.sqlite.store import SQLiteStore
from tests.filled import Reading, everything, facts, fill, step

from .test_store_faults import OPENED, python

ENDS = "", "-wal", "-shm", ".key", ".lock"  # of the files of a store that is open
OPENERS: tuple[Callable[[Path], Any], ...] = SQLiteStore, SQLiteStore.open_reader


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store that has rows in every table, closed."""
    store = SQLiteStore(tmp_path / "runs.db")
    fill(store)
    store.close()
    return tmp_path / "runs.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    """The same, open."""
    store = SQLiteStore(path)
    yield store
    store.close()


def elsewhere(code: str, *arguments: object) -> str:
    """What another program, which does not know this package, says."""
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    return done.stdout + done.stderr


READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
print(connection.execute("SELECT count(*) FROM overview").fetchone())
connection.close()
"""


def expected(commits: int) -> dict[str, Any]:
    """All that a store says of a run after so many steps."""
    memory = MemoryStore()
    memory.create(*everything("run"))
    for number in range(commits):
        memory.commit("run", *step(100 + number))
    return said(memory)


def said(store: Any) -> dict[str, Any]:
    """All that a store says of a run."""
    found = facts(store)
    del found["runs"]
    return found


def listening(file: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(file))


# -- what the program itself does, and others -----------------------------------------------------------------------


@pytest.mark.parametrize("end", [*ENDS, "all"])
def test_row_110_a_program_that_reads_the_files_of_its_store_gives_nothing_away(path: Path, end: str) -> None:
    """SQLite's locks of a process go when it closes any descriptor of the file."""
    code = f"""
import subprocess
store = SQLiteStore(sys.argv[1])
for end in {ENDS if end == "all" else (end,)}:
    open(sys.argv[1] + end, "rb").read()
second = "import sys; from floxide_mp.stores.sqlite.store import SQLiteStore; SQLiteStore(sys.argv[1])"
for code in (second, {READER!r}):
    done = subprocess.run([sys.executable, "-c", code, sys.argv[1]], capture_output=True, text=True)
    print(done.stdout + done.stderr.strip().splitlines()[-1] if done.stderr else done.stdout, flush=True)
store.commit("run", *step(100))
os.kill(os.getpid(), 9)
"""
    process = python(code, path)
    told, _ = process.communicate(timeout=50)
    assert "StoreLockedError" in told and "(2,)" in told
    assert f"belongs to the coordinator with pid {process.pid}" in told
    with Reading(path) as reader:
        reader.check()
        assert said(reader) == expected(1)


def test_row_110_a_copy_in_the_middle_of_a_commit(
    store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program could be writing by now: the commit is given back, and written when it is given again."""
    write = SQLiteStore._write

    def copying(self: SQLiteStore, *prepared: Any) -> Any:
        done = write(self, *prepared)
        (Path(f"{path}-shm")).read_bytes()
        return done

    prepared = [store.prepare("run", *step(100))]
    monkeypatch.setattr(SQLiteStore, "_write", copying)
    with pytest.raises(StoreError, match=r"dropped SQLite's lock.*db backup") as told:
        store.write(prepared)
    monkeypatch.undo()
    assert told.value.transient
    assert said(store) == expected(0)
    store.write(prepared)
    assert said(store) == expected(1)


def test_row_110_other_connections_of_the_program_keep_their_locks(path: Path) -> None:
    """Until the last one of this process is closed, no descriptor of ours is: it would drop theirs."""
    first = SQLiteStore(path)
    with Reading(path) as reader:
        first.close()
        locked = elsewhere(f"""
import fcntl, struct, sys
flock = struct.Struct("hhqqi0q")
with open({str(path)!r}, "r+b") as file:
    found = fcntl.fcntl(file, fcntl.F_GETLK, flock.pack(fcntl.F_WRLCK, 0, 0x40000002, 510, 0))
print(flock.unpack(found)[0] != fcntl.F_UNLCK)
""")
        assert locked == "True\n"
        assert said(reader) == expected(0)


def test_row_110_another_name_of_the_file(path: Path) -> None:
    """SQLite's log has the name by which the database was opened."""
    store = SQLiteStore(path)
    link = path.with_name("link.db")
    os.link(path, link)
    shutil.copy(f"{path}.key", f"{link}.key")
    for name in (link, path):
        for open_it in OPENERS:
            with pytest.raises(
                StoreError, match=rf"{name.name} has 2 names \(hard links\).*remove the others, or make"
            ):
                open_it(name)
    store.commit("run", *step(100))
    store.close()
    link.unlink()
    with Reading(path) as reader:
        assert said(reader) == expected(1)


def test_row_110_a_link_to_it_is_the_same_store(store: SQLiteStore, path: Path) -> None:
    link = path.with_name("link.db")
    link.symlink_to(path)
    with pytest.raises(StoreLockedError, match=r"is open in this process already.*close\(\) it first"):
        SQLiteStore(link)
    told = elsewhere(
        "import sys; from floxide_mp.stores.sqlite.store import SQLiteStore; SQLiteStore(sys.argv[1])", link
    )
    assert f"runs.db belongs to the coordinator with pid {os.getpid()}" in told


VACUUM = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
connection.execute("VACUUM")
print(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone())
connection.close()
"""


def test_row_110_vacuum_by_another_program(store: SQLiteStore, path: Path) -> None:
    """It makes the file smaller, and everything lies elsewhere. What is cut off afterwards is noticed as ever."""
    run, commit, progress = everything("large")
    commit.created[0].payload = bytes(300_000)
    store.create(run, commit, progress)
    store.commit("large", *step(7))
    store._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.stat().st_size
    assert elsewhere(VACUUM, path) == "(0, 0, 0)\n"
    assert path.stat().st_size < before - 200_000
    for number in range(100, 110):
        store.commit("run", *step(number))
    assert said(store) == expected(10)
    store.check()
    store._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.commit("run", *step(110))
    os.truncate(path, path.stat().st_size - 4096)
    with pytest.raises(StoreCorruptError, match=r"runs\.db was cut from"):
        store.commit("run", *step(111))


def test_row_110_another_program_cannot_take_the_log_away(store: SQLiteStore, path: Path) -> None:
    for end in ENDS:
        Path(f"{path}{end}").read_bytes()
    told = elsewhere(
        "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], timeout=0)\nc.execute('PRAGMA journal_mode = DELETE')",
        path,
    )
    assert "database is locked" in told
    store.commit("run", *step(100))
    assert Path(f"{path}-wal").stat().st_size


@pytest.mark.parametrize("end", ["-wal", "-shm"])
@pytest.mark.parametrize("what", ["unlinked", "replaced"])
@pytest.mark.parametrize("when", ["before", "during"])
def test_row_127_the_log_is_taken_away(
    path: Path, end: str, what: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the log or its index: nothing that is in no file any more is told as done."""
    store = SQLiteStore(path)
    store.commit("run", *step(100))
    file = Path(f"{path}{end}")

    def take_away(*_: Any) -> dict[str, Any]:
        if what == "replaced":
            file.with_name("other").write_bytes(bytes(file.stat().st_size))
            os.replace(file.with_name("other"), file)
        else:
            file.unlink()
        return {}

    write = SQLiteStore._write
    if when == "before":
        take_away()
    else:
        monkeypatch.setattr(SQLiteStore, "_write", lambda self, prepared: write(self, prepared) | take_away())
    text = "was deleted while" if what == "unlinked" else "was replaced by another file while"
    with pytest.raises(
        StoreCorruptError, match=rf"runs\.db{end} {text} it was in use; what was written last may be in no"
    ):
        store.commit("run", *step(101))
    with pytest.raises(StoreCorruptError, match=text):
        store.commit("run", *step(101))
    store.close()


def replaced_key(key: Path) -> None:
    key.rename(key.with_name("elsewhere"))
    key.write_bytes(bytes(32))


def linked_key(key: Path) -> None:
    key.unlink()
    key.symlink_to(key.with_name("victim"))


def directory_for_key(key: Path) -> None:
    key.unlink()
    key.mkdir()


LOST_KEYS: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "another": replaced_key,
    "link": linked_key,
    "directory": directory_for_key,
    "cut": lambda key: os.truncate(key, 0),
}


@pytest.mark.parametrize("how", LOST_KEYS)
def test_row_127_the_key_is_taken_away(path: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """The owner has it in memory: what is written from then on can be read, and nothing of anybody is overwritten."""
    key, victim = Path(f"{path}.key"), path.with_name("victim")
    victim.write_bytes(b"of somebody")
    was = key.read_bytes()
    store = SQLiteStore(path)
    store.commit("run", *step(100))
    LOST_KEYS[how](key)
    there = None if how == "deleted" else os.lstat(key).st_ino
    store.commit("run", *step(101))
    assert key.read_bytes() == was and not key.is_symlink() and key.stat().st_mode & 0o777 == 0o600
    assert victim.read_bytes() == b"of somebody"
    aside = Path(f"{key}.replaced-1")
    assert (os.lstat(aside).st_ino if os.path.lexists(aside) else None) == there
    assert "runs.db.key, the key of an open store, was written again, from memory" in caplog.text
    caplog.clear()
    store.commit("run", *step(102))
    assert not caplog.text
    with Reading(path) as reader:
        found = said(reader)
    store.close()
    assert found == expected(3)


def test_row_127_the_key_is_taken_away_twice_or_only_touched(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    key = Path(f"{path}.key")
    was = key.read_bytes()
    with closing(SQLiteStore(path)) as store:
        os.utime(key)
        store.commit("run", *step(100))
        assert not caplog.text
        for number in (1, 2):
            replaced_key(key)
            store.commit("run", *step(100 + number))
            assert Path(f"{key}.replaced-{number}").read_bytes() == bytes(32)
        key.unlink()
    assert key.read_bytes() == was  # an idle owner notices as it closes


def test_row_127_a_handler_of_the_log_may_write_to_the_store(path: Path) -> None:
    """What is logged about the key is logged when no lock of the store is held."""
    with closing(SQLiteStore(path)) as store:

        class Writing(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                store.commit("run", *step(101))

        handler = Writing()
        logging.getLogger("floxide_mp").addHandler(handler)
        try:
            Path(f"{path}.key").unlink()
            store.commit("run", *step(100))
        finally:
            logging.getLogger("floxide_mp").removeHandler(handler)
        assert said(store) == expected(2)


# -- its beginning --------------------------------------------------------------------------------------------------


def opened(folder: Path, environment: str) -> int:
    """How a program ends that makes a store."""
    folder.mkdir()
    code = "import sys; from floxide_mp.stores.sqlite.store import SQLiteStore; SQLiteStore(sys.argv[1]).close()"
    armed = {**os.environ, "FLOXIDE_FAILPOINTS": environment}
    return subprocess.run([sys.executable, "-c", code, folder / "runs.db"], env=armed).returncode


def test_row_128_killed_at_each_step_of_the_first_open(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    points = [point for point in failpoints.NAMES if point.startswith("store.")]
    assert opened(tmp_path / "whole", ",".join(f"{point}=note:{notes}" for point in points)) == 0
    passed = Counter(line.split()[0] for line in notes.read_text().splitlines())
    assert {"store.key", "store.make", "store.schema", "store.version", "store.made", "store.open"} <= passed.keys()
    for point, times in passed.items():
        for turn in {1, 1 + times // 2, times}:
            path = tmp_path / f"{point} {turn}" / "runs.db"
            assert opened(path.parent, f"{point}=kill@{turn}") == -signal.SIGKILL
            if path.exists():
                with Reading(path) as reader:
                    reader.check()
            else:
                with pytest.raises(StoreError, match="there is no store"):
                    SQLiteStore.open_reader(path)
            store = SQLiteStore(path)
            store.create(*everything("run"))
            store.commit("run", *step(100))
            assert said(store) == expected(1)
            store.check()
            store.close()
            assert {file.name for file in path.parent.iterdir()} == {"runs.db", "runs.db.key", "runs.db.lock"}


# -- its schema -----------------------------------------------------------------------------------------------------

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
SCHEMAS = {  # what is done to a table, and what is named then
    "a view in place of a table": ("DROP TABLE {0}; CREATE VIEW {0} AS %s SELECT x AS run FROM c WHERE x < 0", "{0}"),
    "a huge view": ("DROP TABLE {0}; CREATE VIEW {0} AS %s SELECT x AS run, zeroblob(100000) AS a FROM c", "{0}"),
    "a trigger": ("CREATE TRIGGER t AFTER INSERT ON {0} BEGIN INSERT INTO steps %s SELECT x, 'a', x FROM c; END", "t"),
    "an index": ("CREATE INDEX other ON {0} (seal)", "other"),
    "a table more": ("CREATE TABLE more AS SELECT * FROM {0}", "more"),
    "a column more": ("ALTER TABLE {0} ADD COLUMN more", "{0}"),
    "a table less": ("DROP TABLE {0}", "{0}"),
    "another view": ("DROP VIEW queue; CREATE VIEW queue AS SELECT * FROM {0}", "queue"),
}


@pytest.mark.parametrize("table", ["store", "runs", "progress", "items"])
@pytest.mark.parametrize("change", SCHEMAS)
def test_row_107_a_schema_that_was_not_made_here(path: Path, change: str, table: str) -> None:
    """It has no seal, so it is compared before anything asks a table: a query of a view may have no end."""
    statements, name = (text.format(table) for text in SCHEMAS[change])
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(statements.replace("%s", ENDLESS))
    for open_it in OPENERS:
        with pytest.raises(StoreCorruptError, match=rf"runs\.db: its schema is not what was written: '{name}'"):
            open_it(path)


def test_row_107_what_analyze_makes_is_no_harm(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ANALYZE")
        connection.commit()
    store = SQLiteStore(path)
    store.commit("run", *step(100))
    assert said(store) == expected(1)
    store.close()


# -- what others put there ------------------------------------------------------------------------------------------

KINDS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "pipe": (os.mkfifo, "is no regular file"),
    "directory": (os.mkdir, "is a directory"),
    "link": (lambda file: file.symlink_to("precious"), "is a symbolic link"),
    "dangling link": (lambda file: file.symlink_to("nosuch"), "is a symbolic link"),
    "device": (lambda file: file.symlink_to("/dev/zero"), "is a symbolic link"),
    "socket": (listening, "is no regular file"),
    "hard link": (lambda file: file.hardlink_to(file.with_name("precious")), "has 2 names"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", [".key", ".lock", "-wal", "-shm", "-journal"])
def test_row_107_row_119_what_is_no_file_of_a_store_is_not_opened(path: Path, end: str, kind: str) -> None:
    """Opening a pipe would last for ever, and what a link leads to would be cut, and written to."""
    precious = path.with_name("precious")
    precious.write_text("twenty pages")
    before = precious.stat()
    make, text = KINDS[kind]
    file = Path(f"{path}{end}")
    file.unlink(missing_ok=True)
    make(file)
    for open_it in OPENERS:
        if end == ".lock" and open_it is not SQLiteStore:
            with Reading(path) as reader, pytest.raises(StoreError, match=rf"runs\.db{end} {text}"):
                reader.holder()
        else:
            with pytest.raises(StoreError, match=rf"runs\.db{end} {text}"):
                open_it(path)
    after = precious.stat()
    assert (before.st_mode, before.st_mtime_ns, before.st_size) == (after.st_mode, after.st_mtime_ns, after.st_size)


@pytest.mark.parametrize("name", ["runs.db.new", "runs.db.key.new"])
@pytest.mark.parametrize("kind", ["pipe", "link", "dangling link", "hard link"])
def test_row_119_a_new_store_is_not_written_into_what_lies_there(tmp_path: Path, name: str, kind: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("twenty pages")
    KINDS[kind][0](tmp_path / name)
    SQLiteStore(tmp_path / "runs.db").close()
    assert precious.read_text() == "twenty pages" and not (tmp_path / "nosuch").exists()
    assert {file.name for file in tmp_path.iterdir()} == {"precious", "runs.db", "runs.db.key", "runs.db.lock"}
    assert not any(file.is_symlink() for file in tmp_path.iterdir())


@pytest.mark.parametrize("end", ["", ".key", "-wal", ".lock"])
def test_row_119_a_file_of_another_user_is_refused(path: Path, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever made it knows the key, and could have put any pickle into it."""
    stranger = os.geteuid() + 1
    if end == "-wal":
        Path(f"{path}-wal").touch()
    real = os.lstat, os.fstat
    inode = os.lstat(f"{path}{end}").st_ino

    def owned(found: os.stat_result) -> os.stat_result:
        if found.st_ino != inode:
            return found
        return os.stat_result((*found[:4], stranger, *found[5:]))

    monkeypatch.setattr(os, "lstat", lambda *given, **named: owned(real[0](*given, **named)))
    monkeypatch.setattr(os, "fstat", lambda *given: owned(real[1](*given)))
    text = rf"runs\.db{end} belongs to user {stranger}, and this process is user {os.geteuid()}: .*chown"
    for open_it in OPENERS[: 1 if end == ".lock" else 2]:
        with pytest.raises(StoreError, match=text):
            open_it(path)


def test_row_119_what_is_in_the_lock_is_not_believed(path: Path) -> None:
    process = python(OPENED, path, stdin=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == "open\n"
    there = f"{path} belongs to the coordinator with pid {process.pid}"
    for contents, tail in {
        '[1, "h", 1e300]': " on h",
        '[1, "h", "soon"]': " on h",
        '[1, "h", NaN]': " on h",
        '[1, "h", -1e18]': " on h",
        '["\\u001b[2J", "\\u001b[2J", 1e9]': f", since {datetime.fromtimestamp(1e9).astimezone()}",
        '{"a": 1}': "",
        "[" * 4000: "",
        "7": "",
        "null": "",
        "": "",
    }.items():
        Path(f"{path}.lock").write_text(contents)
        with pytest.raises(StoreLockedError) as told:
            SQLiteStore(path)
        assert str(told.value) == there + tail
        assert told.value.pid == process.pid  # type: ignore[attr-defined]
    process.communicate("")
