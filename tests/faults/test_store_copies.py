"""Copies of a store, made by whatever means and while a program writes to it: row 110."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from floxide_mp.errors import StoreCorruptError, StoreError
from floxide_mp.stores.sqlite import backup
from floxide_mp.stores.sqlite.backup import back_up
from floxide_mp.stores.sqlite.reader import key_of
from floxide_mp.stores.sqlite.store import SQLiteStore
from tests.filled import Reading, fill, step

from .test_store_faults import OPENED, python
from .test_store_files import OPENERS, READER, elsewhere, expected, said

KILLED = OPENED + "store.commit('run', *step(100))\nos.kill(os.getpid(), 9)"
EARLIER: dict[str, Callable[[SQLiteStore], object]] = {
    "nothing": lambda store: None,
    "a commit": lambda store: store.commit("run", *step(100)),
    "a checkpoint": lambda store: store._writer.execute("PRAGMA wal_checkpoint(PASSIVE)"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store that has rows in every table, closed."""
    (tmp_path / "store").mkdir()
    path = tmp_path / "store" / "runs.db"
    with closing(SQLiteStore(path)) as store:
        fill(store)
    return path


def copied(path: Path, *ends: str) -> Path:
    """What ``cp`` makes of these files, in another folder."""
    folder = path.parent.parent / "copy"
    folder.mkdir()
    for end in ends:
        shutil.copy(f"{path}{end}", folder)
    return folder / path.name


@pytest.mark.parametrize("earlier", EARLIER)
def test_row_110_a_copy_of_an_open_store_without_its_log_is_refused(path: Path, earlier: str) -> None:
    """All rows in it are right, and some may be missing. It can be taken as it is, by who says so."""
    with closing(SQLiteStore(path)) as store:
        EARLIER[earlier](store)
        store.commit("other run", *step(100))
        copy = copied(path, "", ".key")
    for open_it in OPENERS:
        with pytest.raises(StoreCorruptError, match=r"a copy that was made while .* without .*runs\.db-wal.*db backup"):
            open_it(copy)
    with pytest.raises(StoreCorruptError, match="a copy that was made while"):
        back_up(str(copy), str(copy.with_name("again.db")))
    back_up(str(copy), str(copy.with_name("again.db")), without_log=True)
    with Reading(copy.with_name("again.db")) as reader:
        assert len(reader.runs()) == 2


def test_row_110_a_copy_with_its_log_and_one_of_a_closed_store_are_right(path: Path) -> None:
    with closing(SQLiteStore(path)) as store:
        store.commit("run", *step(100))
        copy = copied(path, "", "-wal", ".key")
    for made in (copy, path):
        with closing(SQLiteStore(made)) as store:
            store.check()
            assert said(store) == expected(1)
            store.commit("run", *step(101))
            assert said(store) == expected(2)
    shutil.rmtree(copy.parent)
    with Reading(copied(path, "", ".key")) as reader:
        assert said(reader) == expected(2)


def test_row_110_a_log_that_another_program_has_carried_over_is_not_missed(path: Path) -> None:
    """After ``kill -9`` somebody looks with sqlite3, which deletes the log when nobody else is there."""
    process = python(KILLED, path, stdin=subprocess.PIPE)
    process.communicate("")
    assert elsewhere(READER, path) == "(2,)\n"
    assert not Path(f"{path}-wal").exists()
    for open_it in reversed(OPENERS):
        with closing(open_it(path)) as store:
            store.check()
            assert said(store) == expected(1)


WRITES = """
store, number = SQLiteStore(sys.argv[1]), 100
while True:
    store.commit("run", *step(number))
    number += 1
    print(number, flush=True)
"""


def test_row_110_a_backup_while_a_program_writes(path: Path) -> None:
    process = python(WRITES, path)
    assert process.stdout is not None
    for turn in range(3):
        for _ in range(20):
            written = process.stdout.readline()
        copy = path.with_name(f"copy{turn}.db")
        assert back_up(str(path), str(copy)) == 2
        with closing(SQLiteStore(copy)) as store:
            number = store.progress("run").counts[0]
            assert number >= int(written)
            assert said(store) == expected(number - 100)
            store.commit("run", *step(number))
            store.check()
        modes = {stat.S_IMODE(os.stat(f"{copy}{end}").st_mode) for end in ("", ".key")}
        assert modes == {0o600}
        assert Path(f"{copy}.key").read_bytes() == Path(f"{path}.key").read_bytes()
    process.kill()
    process.communicate()


@pytest.mark.parametrize("end", ["", ".key", "-wal", "-shm", ".new", ".new-wal", ".running"])
@pytest.mark.parametrize("kind", ["file", "link", "directory"])
def test_row_110_a_backup_is_made_of_new_files(path: Path, end: str, kind: str) -> None:
    """Whatever lies there stays as it is, and nothing is left beside it."""
    there, target = path.with_name(f"copy.db{end}"), path.with_name("target.db")
    target.write_text("of somebody")
    if kind == "directory":
        there.mkdir()
    elif kind == "file":
        there.write_text("of somebody")
    else:
        there.symlink_to("target.db")
    before = sorted(os.listdir(path.parent))
    with pytest.raises(StoreError, match=r"(is there: a copy of a store is|: a store is) made of (new|regular) files"):
        back_up(str(path), str(path.with_name("copy.db")))
    assert sorted(os.listdir(path.parent)) == before
    assert target.read_text() == "of somebody" and (kind != "file" or there.read_text() == "of somebody")


@pytest.mark.parametrize("end", ["", ".key", ".new"])
def test_row_110_what_comes_to_lie_there_while_a_backup_is_made(
    path: Path, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the making."""
    there = path.with_name(f"copy.db{end}")

    def appearing(database: str) -> bytes:
        there.write_text("of somebody")
        return key_of(database)

    monkeypatch.setattr(backup, "key_of", appearing)
    with pytest.raises(StoreError, match=rf"copy\.db{end}: File exists"):
        back_up(str(path), str(path.with_name("copy.db")))
    assert there.read_text() == "of somebody"
    assert list(path.parent.glob("copy*")) == [there]


def test_row_110_a_backup_where_a_link_to_nothing_points(path: Path) -> None:
    path.with_name("copy.db").symlink_to("target.db")
    assert back_up(str(path), str(path.with_name("copy.db"))) == 2
    assert path.with_name("copy.db").is_symlink() and path.with_name("target.db").stat().st_size
    with Reading(path.with_name("copy.db")) as reader:
        reader.check()


def test_row_110_a_backup_of_what_is_not_right_is_none(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM outputs WHERE run = 1")
        connection.commit()
    with pytest.raises(StoreCorruptError, match=r"run 'run': row outputs"):
        back_up(str(path), str(path.with_name("copy.db")))
    assert not list(path.parent.glob("copy*"))


def test_row_110_a_backup_on_the_command_line(path: Path) -> None:
    def asked(*arguments: Any) -> tuple[int, str]:
        command = [sys.executable, "-m", "floxide_mp", "db", *arguments, "--store", "runs.db"]
        done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    assert asked("backup", "--to", "copy.db") == (0, "copy.db: a copy with 2 runs; its key is copy.db.key\n")
    code, told = asked("backup", "--to", "copy.db")
    assert code == 2 and f"{path.parent}/copy.db is there: a copy of a store is made of new files" in told
    for wrong in (["backup"], ["check", "--to", "x.db"], ["info", "--without-log"]):
        code, told = asked(*wrong)
        assert code == 2 and "--to PATH belongs to backup" in told
    assert sorted(file.name for file in path.parent.glob("copy.db*")) == ["copy.db", "copy.db.key"]
    with Reading(path.with_name("copy.db")) as reader:
        reader.check()
