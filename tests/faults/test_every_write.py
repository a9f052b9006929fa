"""FAULTS rows 6, 30 and 31 in the store: each call that writes to one of its files kills the process, or fails.

``strace`` counts the calls and injects what happens at them. By default what happens once is shown at every third call,
``FLOXIDE_SWEEP=all`` has every one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from floxide_mp.stores.memory import MemoryStore
from floxide_mp.stores.sqlite.store import SQLiteStore
from tests.filled import Reading, everything, facts, step

from .test_store_faults import python

CALLS = "pwrite64", "write", "fdatasync", "fsync", "ftruncate", "rename", "unlink"
FILES = tuple("runs.db" + end for end in ("", "-wal", "-shm", "-journal", ".key", ".lock", ".new", ".key.new"))
STRIDE = 1 if os.environ.get("FLOXIDE_SWEEP") == "all" else 3
STEPS = 4
ERRORS = {"ENOSPC": "", "EIO": "disk I/O error"}  # and how the store says it when it is open
PROGRAM = f"""
from floxide_mp.errors import StoreError

def insisted(call):
    while True:
        try:
            return call()
        except StoreError as error:
            print("error", error.transient, error, flush=True)

def create():
    if not store.runs():
        store.create(*everything("run"))

store = insisted(lambda: SQLiteStore(sys.argv[1], "full"))
print("open", flush=True)
store._writer.execute("PRAGMA wal_autocheckpoint = 12")  # pages: some commits are also carried over into the database
insisted(create)
print("written 100", flush=True)
for number in range(store.progress("run").counts[0], 100 + {STEPS}):
    prepared = [store.prepare("run", *step(number))]
    insisted(lambda: store.write(prepared))
    print("written", number + 1, flush=True)
store.close()
"""


@cache
def traces() -> bool:
    try:
        return subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture(autouse=True)
def needs_strace() -> None:
    if not traces():
        pytest.skip("strace, which injects the faults, is not installed here, or may not trace")


def traced(folder: Path, log: str, *inject: str) -> tuple[list[str], str, int]:
    """Run the program on the store of that folder: what it said, its errors, how it ended."""
    paths = [part for name in FILES for part in ("-P", str(folder / name))]
    tracer = ("strace", "-qq", "-f", "-o", log, *paths, "-e", "trace=" + ",".join(CALLS))
    process = python(PROGRAM, folder / "runs.db", before=(*tracer, *(part for i in inject for part in ("-e", i))))
    out, err = process.communicate(timeout=60)
    return out.splitlines(), err, process.returncode


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Counter[str]:
    """How many calls of each kind there are in the life of a store."""
    if not traces():
        return Counter()
    folder = tmp_path_factory.mktemp("calls")
    _, err, code = traced(folder, str(folder / "log"))
    assert code == 0, err
    lines = (folder / "log").read_text().splitlines()
    return Counter(line.split(maxsplit=1)[1].partition("(")[0] for line in lines)


@cache
def expected(number: int) -> dict[str, Any]:
    """All that a store says when ``number`` is its last item."""
    memory = MemoryStore()
    memory.create(*everything("run"))
    for done in range(100, number):
        memory.commit("run", *step(done))
    return facts(memory)


def acknowledged(said: list[str]) -> int:
    return max((int(line.split()[1]) for line in said if line.startswith("written")), default=0)


def holds(path: Path, written: int) -> None:
    """The store, opened by its next owner, has all that was acknowledged, at the most one commit more, nothing half."""
    SQLiteStore(path).close()
    with Reading(path) as reader:
        reader.check()
        if written == 0 and not reader.runs():
            return
        number = reader.progress("run").counts[0]
        assert number in (written, written + 1) or (written, number) == (0, 100)
        assert facts(reader) == expected(number)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("call", CALLS)
def test_row_06_killed_at_each_write(call: str, calls: Counter[str], tmp_path: Path) -> None:
    assert calls[call], "it would show nothing"
    numbers: list[int] = []
    for number in range(1, calls[call] + 1, STRIDE):
        folder = tmp_path / str(number)
        folder.mkdir()
        said, _, code = traced(folder, "/dev/null", f"inject={call}:signal=KILL:when={number}")
        assert code != 0, "nothing was injected"
        numbers.append(acknowledged(said))
        holds(folder / "runs.db", numbers[-1])
        shutil.rmtree(folder)
    assert numbers == sorted(numbers)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("call", ["pwrite64", "write", "fdatasync", "fsync", "ftruncate"])
@pytest.mark.parametrize("error", ERRORS)
def test_rows_30_31_an_error_at_each_write(error: str, call: str, calls: Counter[str], tmp_path: Path) -> None:
    """What could not be written is given again until it is; then it is there once."""
    seen = 0
    for number in range(1, calls[call] + 1, STRIDE * STRIDE):
        folder = tmp_path / str(number)
        folder.mkdir()
        said, err, code = traced(folder, "/dev/null", f"inject={call}:error={error}:when={number}")
        assert code == 0, err
        assert acknowledged(said) == 100 + STEPS
        holds(folder / "runs.db", 100 + STEPS)
        for line in said[said.index("open") :]:
            if line.startswith("error"):
                assert line.startswith(f"error True {folder / 'runs.db'}: {ERRORS[error]}"), line
        seen += any(line.startswith("error") for line in said)
        shutil.rmtree(folder)
    assert seen, "nothing failed"
