"""Row 129: a step that takes its whole program with it is not run again for ever, and no other step is blamed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from floxide_mp.coordinator.in_flight import InFlight, Suspects
from floxide_mp.coordinator.suspicion import MOST_LIVES
from floxide_mp.core.records import Chunk, ItemRecord
from floxide_mp.core.run_state import RunState
from floxide_mp.errors import StoreError
from tests.core.test_memory import SWEEP

KILLED = -9
SCOPE = RunState(SWEEP).root


def life(name: str, store: Path, workers: int, count: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.faults.flows_deadly", name, str(store), str(workers), str(count)]
    return subprocess.run(command, capture_output=True, text=True, timeout=50)


def lives(name: str, store: Path, workers: int, count: int) -> subprocess.CompletedProcess[str]:
    """One program after the other, until one is not killed."""
    for number in range(1, MOST_LIVES + 3):
        done = life(name, store, workers, count)
        if done.returncode != KILLED:
            assert number > MOST_LIVES
            return done
    raise AssertionError("it is run again in each life")


@pytest.mark.parametrize("workers", [0, 2])
def test_row_129_a_step_that_ends_its_program_each_time_fails_by_name(workers: int, tmp_path: Path) -> None:
    store = tmp_path / "runs.db"
    done = lives("Deadly", store, workers, 12)
    assert done.returncode == 1
    assert (
        f"the whole program ended each time that it ran work (run r, item 9, attempt 1): {MOST_LIVES} times"
        in done.stderr
    )
    assert not (tmp_path / "runs.db.running").exists()


def test_row_129_its_fallback_rescues_it_and_nothing_else_is_blamed(tmp_path: Path) -> None:
    done = lives("Rescued", tmp_path / "runs.db", 2, 40)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(sorted([-7, *(number for number in range(40) if number != 7)]))


def test_row_129_a_program_that_was_closed_in_order_leaves_nothing(tmp_path: Path) -> None:
    assert life("Deadly", tmp_path / "runs.db", 2, 5).returncode == 0
    assert sorted(os.listdir(tmp_path)) == ["runs.db", "runs.db.key", "runs.db.lock"]


def item(number: int) -> ItemRecord:
    return ItemRecord(number, 1, (1, (number,)), b"", SCOPE)


def test_row_129_an_item_that_was_only_leased_with_others_is_not_counted_twice(tmp_path: Path) -> None:
    path = str(tmp_path / "running")
    for expected in ({}, {1: 1, 2: 1, 3: 1}, {1: 2, 2: 1, 3: 1}, {1: 3, 2: 1, 3: 1}):
        watched = InFlight(path)
        found = watched.suspects("r") or Suspects({})
        assert {n: found.lives((1, (n,))) for n in (1, 2, 3)} == {1: 0, 2: 0, 3: 0, **expected}
        watched.began(1, "other", [item(9)])
        watched.ended(1)
        if expected:
            watched.began(2, "r", [item(1)])
        watched.began(3, "r", [item(2), item(3)] if expected else [item(1), item(2), item(3)])
    watched.close()
    assert not os.path.exists(path)


def test_row_129_items_of_a_block_are_found_by_their_order() -> None:
    found = Suspects({((2, (4, 10)), 5): 1, ((2, (4, 12)), 1): 3})
    assert [found.lives((2, (4, n))) for n in (9, 10, 12, 14, 15)] == [0, 1, 3, 1, 0]
    assert found.lives((3, (4, 12))) == found.lives((2, (12,))) == found.lives((0, ())) == 0


def test_row_129_more_leases_and_longer_ones_than_there_is_room_for(tmp_path: Path) -> None:
    path = str(tmp_path / "running")
    watched = InFlight(path)
    many = [Chunk(k, 1, (1, (k, 10**50, 0)), [b""] * 9, SCOPE) for k in range(1, 2000)]
    for lease in range(1, 400):
        watched.began(lease, "r", many)
    again = InFlight(path)
    suspects = again.suspects("r")
    assert suspects is not None
    assert suspects.lives((1, (1, 10**50, 8))) == 1
    for lease in range(1, 400):
        watched.ended(lease)
    again.close()
    watched.close()


@pytest.mark.parametrize("contents", [b"", b"\xff" * 70000, b"\x04\0\0\0[(((" + b"\0" * 9])
def test_row_129_what_a_power_cut_left_blames_nobody(contents: bytes, tmp_path: Path) -> None:
    (tmp_path / "running").write_bytes(contents)
    watched = InFlight(str(tmp_path / "running"))
    assert watched.suspects("r") is None
    watched.close()


def test_row_129_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    os.symlink(tmp_path / "mine", tmp_path / "running")
    with pytest.raises(StoreError, match="a symbolic link"):
        InFlight(str(tmp_path / "running"))
    assert (tmp_path / "mine").read_text() == "precious"
