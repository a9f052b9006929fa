"""Row 117 on real coordinators: a sweep whose steps make large values has few of them alive at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from floxide_mp import Coordinator, Join, NextAll, Workflow, node
from floxide_mp.coordinator.cpus import usable_memory
from floxide_mp.core.records import Commit
from floxide_mp.core.types import size_of
from floxide_mp.ports import Progress
from floxide_mp.stores.memory import MemoryStore

SIZE = 2 << 20
COUNT = 24


@node
def points(n: int) -> NextAll[int]:
    return NextAll(range(n))


@node
def simulate(number: int) -> bytes:
    return bytes([number]) * SIZE


@node
def measure(value: bytes) -> int:
    return value[0] + value[-1]


@node
def fails(value: bytes) -> int:
    raise ValueError(len(value))


class Sweep(Workflow):
    points, simulate, measure = points, simulate, measure
    table = Join(sum)
    start = points
    edges = {points: [simulate], simulate: [measure], measure: [table]}


class Counting(MemoryStore):
    """Counts the large values of unfinished items."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: set[tuple[str, int]] = set()
        self.most = 0

    def commit(self, run_id: str, commit: Commit, progress: Progress) -> None:
        created = [item for block in commit.blocks for item in block.items()] + commit.created
        self.alive |= {(run_id, item.id) for item in created if size_of(item.payload) >= SIZE}
        self.alive -= {(run_id, number) for number in commit.finished}
        for first, count in commit.ranges:
            out = {item.id for item in commit.created}
            self.alive -= {(run_id, number) for number in range(first, first + count) if number not in out}
        self.most = max(self.most, len(self.alive))
        super().commit(run_id, commit, progress)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_row_117_few_large_values_of_a_sweep_are_alive_at_a_time(workers: int) -> None:
    store = Counting()
    with Coordinator(workers, store, memory=6 * SIZE) as coordinator:
        result = coordinator.start(Sweep, COUNT).wait()
    assert result.output == sum(range(COUNT)) * 2
    assert 2 <= store.most <= 8


def test_row_117_without_need_the_order_is_that_of_the_keys() -> None:
    store = Counting()
    with Coordinator(0, store) as coordinator:
        assert coordinator.start(Sweep, COUNT).wait().output == sum(range(COUNT)) * 2
    assert store.most == COUNT


def test_row_117_two_runs_share_the_memory_and_what_fails_gives_it_back() -> None:
    class Fails(Workflow):
        points, simulate, fails = points, simulate, fails
        start = points
        edges = {points: [simulate], simulate: [fails]}

    store = Counting()
    with Coordinator(2, store, memory=6 * SIZE) as coordinator:
        runs = [coordinator.start(flow, COUNT) for flow in (Sweep, Fails, Sweep)]
        assert [run.wait().output for run in (runs[0], runs[2])] == [sum(range(COUNT)) * 2] * 2
        with pytest.raises(Exception, match=str(SIZE)):
            runs[1].wait()
        assert coordinator._scheduler.memory.used == 0
    assert store.most <= 12


@pytest.mark.parametrize("memory", [0, -1, True, 1.5, "4G"])
def test_memory_that_makes_no_sense_is_refused(memory: object) -> None:
    with pytest.raises(ValueError, match="memory must be a whole number of bytes"):
        Coordinator(0, memory=memory)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("membership", "files", "limit"),
    [
        ("0::/", {"memory.max": "1000"}, 1000),
        ("0::/a/b", {"memory.max": "max", "a/memory.max": "2000", "a/b/memory.max": "3000"}, 2000),
        ("4:memory:/m\n0::/", {"memory/m/memory.limit_in_bytes": "5000"}, 5000),
        ("4:memory:/m\n", {"memory/memory.limit_in_bytes": "9223372036854771712"}, None),
        ("0::/", {"memory.max": "max"}, None),
        ("0::/", {}, None),
    ],
)
def test_row_117_the_memory_is_that_of_the_control_group(
    membership: str, files: dict[str, str], limit: int | None, tmp_path: Path
) -> None:
    for name, content in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    (tmp_path / "membership").write_text(membership)
    found = usable_memory(tmp_path / "membership", tmp_path / "groups")
    assert found == (usable_memory(tmp_path / "none", tmp_path) if limit is None else limit)
