"""What happens to a store's file, disk and owner: rows 6, 23, 27, 29 to 31, 39 to 41, 79 and 80 of the fault table."""

from __future__ import annotations

import linecache
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from floxide_mp.core.records import Commit
from floxide_mp.errors import StoreCorruptError, StoreError, StoreLockedError
from floxide_mp.stores.memory import MemoryStore
from floxide_mp.stores.sqlite.lock import lock_path
from floxide_mp.stores.sqlite.store import SQLiteStore
from tests.filled import Reading, at, everything, facts, fill, item, step
from tests.scripts import ROOT, having, mounting


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store that has rows in every table, closed."""
    store = SQLiteStore(tmp_path / "runs.db")
    fill(store)
    store.close()
    return tmp_path / "runs.db"


def python(code: str, *arguments: object, before: tuple[str, ...] = (), **options: Any) -> subprocess.Popen[str]:
    """A process of its own, with the helpers of ``tests.filled``."""
    code = "import os, sys\nfrom floxide_mp.stores.sqlite.store import SQLiteStore\nfrom tests.filled import *\n" + code
    return subprocess.Popen(
        [*before, sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


OPENED = "store = SQLiteStore(sys.argv[1])\nprint('open', flush=True)\nsys.stdin.read()\n"


def test_row_33_a_database_that_was_deleted_without_its_log(path: Path) -> None:
    """As after ``kill -9`` and ``rm runs.db``: SQLite would play what is in the log into whatever is made there."""
    opened = python(OPENED + "store.commit('run', *step(100))\nos.kill(os.getpid(), 9)", path, stdin=subprocess.PIPE)
    opened.communicate("")
    log = path.with_name("runs.db-wal")
    assert log.stat().st_size
    path.rename(path.with_name("elsewhere"))
    for _ in range(2):
        with pytest.raises(StoreCorruptError, match=r"it is gone, but .*runs\.db-wal is there, .*delete that, too"):
            SQLiteStore(path)
    path.with_name("elsewhere").rename(path)
    store = SQLiteStore(path)
    assert len(store.outputs("run")) == 2
    store.close()
    path.unlink()
    store = SQLiteStore(path)
    assert not store.runs()
    store.close()


# -- death and interrupts -----------------------------------------------------------------------------------------

COMMITS = """
store = SQLiteStore(sys.argv[1])
if not store.runs():
    fill(store)
number = store.progress("run").counts[0]
while True:
    store.write([store.prepare("run", *step(number + n)) for n in range(int(sys.argv[2]))])
    number += int(sys.argv[2])
    print(number, flush=True)
"""


@pytest.mark.parametrize("group", [1, 7])
def test_row_06_killed_at_any_moment_of_a_commit(path: Path, group: int) -> None:
    acknowledged = 100
    for kills in range(12):
        process = python(COMMITS, path, group)
        assert process.stdout is not None and process.stderr is not None
        for _ in range(1 + 5 * kills):
            acknowledged = int(process.stdout.readline())
        process.kill()
        acknowledged = max([acknowledged, *map(int, process.stdout.read().split())])
        process.wait()
        process.stdout.close()
        process.stderr.close()
        with Reading(path) as reader:
            reader.check()
            number = reader.progress("run").counts[0]
            assert number in (acknowledged, acknowledged + group)
            assert len(reader.outputs("run")) == 1 + (number - 100)
            assert [i.id for i in reader.snapshot("run").items][-1] == number


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace injects the signal")
def test_row_06_killed_at_each_write_of_a_commit(path: Path) -> None:
    code = "store = SQLiteStore(sys.argv[1])\nstore.commit('run', *step(100))\nprint('done')\n"
    before, results = facts(SQLiteStore.open_reader(path)), []
    for number in range(1, 60):
        for suffix in ("", ".key"):
            shutil.copy(f"{path}{suffix}", f"{path}.copy{suffix}")
        inject = f"inject=pwrite64:signal=KILL:when={number}"
        tracer = ("strace", "-qq", "-f", "-o", "/dev/null", "-e", "trace=pwrite64", "-e", inject)
        process = python(code, f"{path}.copy", before=tracer)
        out, _ = process.communicate()
        with Reading(f"{path}.copy") as reader:
            reader.check()
            results.append(reader.progress("run").counts[0])
            assert (facts(reader) == before) == (results[-1] == 100)
        for left in path.parent.glob("runs.db.copy*"):
            left.unlink()
        if "done" in out:
            break
    assert results[0] == 100 and results[-1] == 101 and results == sorted(results)
    assert len(results) > 5


def test_row_27_interrupted_at_each_line_of_a_commit(path: Path) -> None:
    store, memory = SQLiteStore(path), MemoryStore()
    fill(memory)
    number, at_line, interrupted = 100, 0, True
    while interrupted:
        at_line += 1
        commit, progress = step(number)
        prepared = [store.prepare("run", commit, progress)]
        interrupted = raises_at(at_line, lambda: store.write(prepared))  # noqa: B023
        if interrupted:
            store.write(prepared)  # whether it was written or not
        memory.commit("run", commit, progress)
        number += 1
    assert at_line > 100
    assert facts(store) == facts(memory)
    store.check()
    store.close()


def raises_at(line: int, call: Callable[[], None]) -> bool:
    """Whether the call was interrupted at that line, of those of the stores that it passes."""
    passed = 0

    def trace(frame: FrameType, what: str, _: Any) -> Any:
        nonlocal passed
        if "/stores/" not in frame.f_code.co_filename:
            return None
        # Signals are taken after calls: not between a lock and ``try``, or the end of a ``with`` and the release.
        text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        if what == "line" and not text.startswith(("with ", "try:")):
            passed += 1
            if passed == line:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


# -- owners -------------------------------------------------------------------------------------------------------


def test_row_29_a_second_owner_is_told_who_is_the_first(path: Path) -> None:
    process = python(OPENED, path, stdin=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == "open\n"
    with pytest.raises(StoreLockedError, match=rf"belongs to the coordinator with pid {process.pid}, since 20") as told:
        SQLiteStore(path)
    assert told.value.pid == process.pid  # type: ignore[attr-defined]
    with Reading(path) as reader:
        assert reader.owner().pid == process.pid
        assert facts(reader)
    process.kill()
    process.communicate()
    store = SQLiteStore(path)
    assert store.owner()[:3:2] == (3, os.getpid())
    with pytest.raises(StoreLockedError, match=r"is open in this process already"):
        SQLiteStore(path)
    store.close()
    SQLiteStore(path).close()


def test_row_29_a_process_that_the_owner_forked_does_not_keep_the_store(path: Path) -> None:
    forks = (
        "store = SQLiteStore(sys.argv[1])\nif os.fork():\n    os._exit(0)\nprint(os.getpid(), flush=True)\n"
        "try:\n    store.progress('run')\nexcept Exception as error:\n    print(error, flush=True)\n"
        "store.close()\nsys.stdin.read()"
    )
    process = python(forks, path, stdin=subprocess.PIPE)
    assert process.stdout is not None
    orphan, refusal = int(process.stdout.readline()), process.stdout.readline()
    assert process.wait() == 0
    assert f"was opened by process {process.pid}, from which this one was forked" in refusal
    SQLiteStore(path).close()
    os.kill(orphan, 0)
    process.communicate()


def test_row_29_an_owner_whose_lock_was_lost_is_fenced(path: Path) -> None:
    first = SQLiteStore(path)
    os.unlink(lock_path(str(path)))
    second = SQLiteStore(path)
    commit = step(100)
    second.commit("run", *commit)
    before = facts(second)
    for call in (lambda: first.commit("run", *step(101)), lambda: first.create(*everything("other"))):
        with pytest.raises(StoreLockedError, match=r"was taken over by the coordinator with pid \d+: this one writes"):
            call()
    assert facts(second) == before
    assert len(second.runs()) == 2
    first.close()
    second.commit("run", *step(101))
    second.close()


def test_row_23_an_owner_that_was_stopped_for_long_is_not_robbed(path: Path) -> None:
    process = python(OPENED, path, stdin=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == "open\n"
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(StoreLockedError):
        SQLiteStore(path)
    process.send_signal(signal.SIGCONT)
    process.communicate()


# -- the disk -----------------------------------------------------------------------------------------------------


def test_row_30_disk_full(path: Path) -> None:
    store, memory = SQLiteStore(path), MemoryStore()
    fill(memory)
    (pages,) = store._writer.execute("PRAGMA page_count").fetchone()
    store._writer.execute(f"PRAGMA max_page_count = {pages + 2}")
    big = Commit(created=[item(101, payload=b"x" * 1_000_000)]), at(101)
    prepared = [store.prepare("run", *big)]
    before = facts(store)
    with pytest.raises(StoreError, match=r"runs\.db: no space left; about 1,0\d\d,\d\d\d bytes are needed") as caught:
        store.write(prepared)
    assert caught.value.transient
    assert facts(store) == before
    with pytest.raises(StoreError, match="no space left"):
        store.create(*everything("a third", payload=b"x" * 1_000_000))
    assert len(store.runs()) == 2
    store._writer.execute("PRAGMA max_page_count = 1000000")
    store.write(prepared)
    memory.commit("run", *big)
    store.commit("run", *step(101))
    memory.commit("run", *step(101))
    assert facts(store) == facts(memory)
    store.check()
    store.close()


def in_namespace(code: str, mount: str, *arguments: object) -> str:
    """What a process prints that has something mounted of its own."""
    process = python(code, *arguments, before=having(mount))
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


@mounting
def test_row_30_a_small_disk(path: Path) -> None:
    code = """
store = SQLiteStore(sys.argv[1] + "/runs.db")
fill(store)
big = Commit(created=[item(101, payload=b"x" * 2_000_000)]), at(101)
ballast = open(sys.argv[1] + "/ballast", "wb", buffering=0)
ballast.write(bytes(4_800_000))
prepared, before = [store.prepare("run", *big)], facts(store)
for _ in range(3):
    try:
        store.write(prepared)
    except Exception as error:
        print(type(error).__name__, error.transient, error)
assert facts(store) == before
ballast.truncate(0)
store.write(prepared)
store.check()
store.close()
store = SQLiteStore(sys.argv[1] + "/runs.db")
store.check()
print(store.snapshot("run").items[-1].id)
"""
    place = path.parent
    *refusals, last = in_namespace(code, f"mount -t tmpfs -o size=6m none {place}", place).splitlines()
    assert len(refusals) == 3 and last == "101"
    for text in refusals:
        assert text.startswith(f"StoreError True {path}: no space left; about 2,0")
        assert f"are free in {place}" in text


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace injects the error")
@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
def test_row_31_an_error_of_the_disk(path: Path, call: str) -> None:
    code = """
store = SQLiteStore(sys.argv[1], "full")
acknowledged = 100
for number in range(100, 150):
    prepared = [store.prepare("run", *step(number))]
    while True:
        try:
            store.write(prepared)
            break
        except Exception as error:
            print(type(error).__name__, error.transient, error)
store.check()
store.close()
"""
    tracer = ("strace", "-qq", "-f", "-o", "/dev/null", "-P", f"{path}-wal", "-e", f"trace={call}")
    process = python(
        code, path, before=(*tracer, "-e", f"inject={call}:error=EIO:when={9 if call == 'fdatasync' else 40}+41")
    )
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert out.splitlines()
    for line in out.splitlines():
        assert line.startswith(f"StoreError True {path}: disk I/O error"), line
    with Reading(path) as reader:
        reader.check()
        assert reader.progress("run").counts[0] == 150
        assert len(reader.outputs("run")) == 51


# -- access -------------------------------------------------------------------------------------------------------


@mounting
def test_row_39_read_only_is_said_at_open(path: Path) -> None:
    code = """
for kind in (SQLiteStore, SQLiteStore.open_reader):
    try:
        store = kind(sys.argv[1])
        print(facts(store)["progress"].counts[0])
        store.close()
    except Exception as error:
        print(type(error).__name__, error)
"""
    place = path.parent
    mount = f"mount --bind {place} {place} && mount -o remount,ro,bind {place}"
    refusal, read = in_namespace(code, mount, path).splitlines()
    assert refusal == f"StoreError {path} cannot be written: Read-only file system"
    assert read == "100"


def test_row_40_locked_by_another_program(path: Path) -> None:
    store = SQLiteStore(path, patience=0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    prepared = [store.prepare("run", *step(100))]
    before = facts(store)
    with pytest.raises(StoreError, match=r"runs\.db is locked by another program") as caught:
        store.write(prepared)
    assert caught.value.transient and not isinstance(caught.value, StoreLockedError)
    assert facts(store) == before
    other.execute("ROLLBACK")
    other.close()
    store.write(prepared)
    assert store.progress("run").counts[0] == 101
    store.close()


def test_row_40_it_is_waited_for(path: Path) -> None:
    store = SQLiteStore(path, patience=60.0)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    waiting = threading.Event()
    thread = threading.Thread(target=lambda: (waiting.set(), store.commit("run", *step(100))))
    thread.start()
    waiting.wait()
    other.execute("ROLLBACK")
    thread.join()
    other.close()
    assert store.progress("run").counts[0] == 101
    store.close()


@pytest.mark.parametrize("what", ["deleted", "replaced", "emptied", "cut"])
def test_row_41_the_file_changes_under_the_store(path: Path, what: str) -> None:
    text = {
        "deleted": "was deleted while",
        "replaced": "was replaced by another file while",
        "emptied": "was cut from",
        "cut": "was cut from",
    }
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    store = SQLiteStore(path)
    store.commit("run", *step(100))
    store._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if what == "deleted":
        path.unlink()
    elif what == "replaced":
        os.replace(copy, path)
    else:
        os.truncate(path, 0 if what == "emptied" else path.stat().st_size - 4096)
    with pytest.raises(StoreCorruptError, match=rf"runs\.db.*({text[what]})"):
        store.commit("run", *step(101))
    store.close()


# -- security -----------------------------------------------------------------------------------------------------


def test_row_79_the_key_is_in_its_file_only(path: Path) -> None:
    key = Path(f"{path}.key").read_bytes()
    store = SQLiteStore(path)
    store.commit("run", *step(100))
    for file in path.parent.iterdir():
        assert (key in file.read_bytes()) == file.name.endswith(".key")
    seen: list[object] = [store]
    for one in seen:
        assert repr(key)[2:-1] not in repr(one) and key.hex() not in repr(one)
        seen += [v for v in getattr(one, "__dict__", {}).values() if type(v).__module__.startswith(("floxide", "func"))]
    assert store._seals in seen
    assert not any(isinstance(value, bytes) for value in vars(store._seals).values())
    store.close()


@pytest.mark.parametrize("umask", [0, 0o077, 0o777])
def test_row_80_files_are_for_their_owner_only(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        store = SQLiteStore(tmp_path / "runs.db")
        fill(store)
    finally:
        os.umask(before)
    found = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert set(found) == {"runs.db", "runs.db-wal", "runs.db-shm", "runs.db.key", "runs.db.lock"}
    assert set(found.values()) == {0o600}
    store.close()
