"""Large values go through memory that coordinator and workers share, and nobody can tell."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import Coordinator, Fixed, FloxideError, MemoryStore, SQLiteStore
from floxide_mp.coordinator.sameness import Likeness, compare
from floxide_mp.core.types import Shared
from floxide_mp.engines.processes.shm.arena import KEPT, SPAN, Arena, FreeList, sizes_of, spread
from floxide_mp.engines.processes.shm.mapped import MappedPayloads
from floxide_mp.engines.processes.shm.payloads import Memory
from floxide_mp.wire import codec, oob_pickle
from tests import flows_shared as flows
from tests.flows_shared import SIZE, Blob, Lap

from ..conftest import Both


@pytest.fixture
def alone() -> Iterator[Coordinator]:
    """With one worker, so that what one step leaves in its process the next one finds."""
    with Coordinator(1) as made:
        yield made


def pages(coordinator: Coordinator) -> int:
    """Bytes of memory that the coordinator's memory file has."""
    return os.fstat(coordinator._engine._memory.fd).st_blocks * 512  # type: ignore[attr-defined]


def test_the_same_answer_whatever_a_node_does_to_its_input(both: Both) -> None:
    run = both(flows.Laps, Lap(6, Blob.of(1), b"\6" * SIZE))
    assert run.wait().output == Lap(0, Blob.of(7), b"\0" * SIZE)


def test_a_large_value_is_not_in_the_messages(processes: Coordinator) -> None:
    store = processes._scheduler.store
    run = processes.start(flows.Laps, Lap(2, Blob.of(1), b"\2"))
    run.wait()
    (output,), record = store.outputs(run.run_id), store.record(run.run_id)
    assert isinstance(output.payload, Shared) and isinstance(record.input, Shared)
    assert pickle.loads(pickle.dumps(output.payload)) == output.payload.tobytes(), "to others, it goes as bytes"
    small = processes.start(flows.Laps, Lap(2, Blob.of(1, 10), b"\2"))
    small.wait()
    assert isinstance(store.outputs(small.run_id)[0].payload, bytes)


@pytest.mark.parametrize("text", [10, SIZE], ids=["a buffer", "and bytes"])
def test_a_chain_needs_the_memory_of_few_of_its_values(text: int) -> None:
    with Coordinator(2) as c:
        size = SIZE * 8
        run = c.start(flows.Laps, Lap(40, Blob.of(1, size), b"\50" * text))
        assert run.wait().output.blob == Blob.of(41, size)
        assert pages(c) <= 2 * 3 * (size + 2 * text)
        del run


def test_what_is_free_is_used_again(alone: Coordinator) -> None:
    for number in range(4):
        assert len(alone.start(flows.Twice, 20).wait().output) == 40
        if number == 0:
            first = pages(alone)
    assert pages(alone) <= first + 3 * 20 * (SIZE + 8192), "a node puts away 20 in each run"


def test_two_steps_that_get_one_payload_do_not_see_each_other(both: Both) -> None:
    assert sorted(both(flows.Twice, 3).wait().output) == [0, 1, 2, 100, 101, 102]


def test_what_a_node_puts_away_stays_as_it_was(alone: Coordinator) -> None:
    task = (100, Blob.of(3), False)
    assert alone.start(flows.Hoards, task).wait().output == (0, Blob.of(103), False)


def test_what_a_child_of_a_node_sees_stays_as_it_was(alone: Coordinator, tmp_path: Path) -> None:
    assert alone.start(flows.Forks, (str(tmp_path), Blob.of(7))).wait().output == 0
    assert (tmp_path / "child").read_text().split() == ["1"]


def test_a_model_is_opened_once_per_worker(processes: Coordinator, tmp_path: Path) -> None:
    model = flows.Model(bytearray(range(256)) * 4096, str(tmp_path))
    run = processes.start(flows.Applies, 60, flows.Given(Fixed(model)))
    assert run.wait().outputs == [2 * n for n in range(60)]
    opened = [int(line) for line in (tmp_path / "opened").read_text().split()]
    opened = [pid for pid in opened if pid != os.getpid()]
    assert len(opened) == len(set(opened)) <= 2


# -- after the coordinator ------------------------------------------------------------------------------------------


def test_outputs_outlive_the_coordinator_and_can_be_written_to() -> None:
    store = MemoryStore()
    with Coordinator(2, store) as c:
        result = c.start(flows.Laps, Lap(2, Blob.of(1), b"\2" * SIZE), run_id="one").wait()
    out = result.output
    assert out.blob == Blob.of(3)
    out.blob.data[0] = 0
    with Coordinator(2, store) as c:  # from one memory to another
        assert c.run("one").wait().output.blob == Blob.of(3)
        assert c.start(flows.Laps, Lap(2, Blob.of(1), b"\2" * SIZE), run_id="one").wait().output.blob == Blob.of(3)


def test_who_reads_an_output_while_the_coordinator_is_closed_reads_all_of_it() -> None:
    memory = Memory(1)
    region = memory.put([b"x" * SIZE], [])
    assert region is not None
    stream, _ = region.open()
    memory.release()
    assert stream == b"x" * SIZE == region.open()[0]


def test_a_run_goes_on_with_large_values_of_another_coordinator(tmp_path: Path) -> None:
    store = MemoryStore()
    with Coordinator(1, store) as c:
        run = c.start(flows.Dies, str(tmp_path), run_id="left")
        next(run.stream())
    with Coordinator(1, store) as c:
        outputs = c.start(flows.Dies, str(tmp_path), run_id="left", resume=True).wait().outputs
    assert [(number, blob.data[0]) for _, number, blob in outputs] == [(n, n + 100) for n in range(6)]


def test_a_store_on_disk_needs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with Coordinator(2, path) as c:
        run = c.start(flows.Laps, Lap(3, Blob.of(1), b"\3" * SIZE), run_id="one")
        assert run.wait().output.blob == Blob.of(4)
        # The same again, by another engine too, is the same run.
        assert c.start(flows.Laps, Lap(3, Blob.of(1), b"\3" * SIZE), run_id="one").wait().output.blob == Blob.of(4)
        with pytest.raises(FloxideError, match="another input"):
            c.start(flows.Laps, Lap(3, Blob.of(2), b"\3" * SIZE), run_id="one")
    script = """
import pickle, sys
from floxide_mp import SQLiteStore
reader = SQLiteStore.open_reader(sys.argv[1])
out = pickle.loads(reader.outputs("one")[0].payload)
out.blob.data[0] = 0  # can be written to
print(out.left, out.blob.data[1])
"""
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, timeout=50)
    assert done.stdout == "0 4\n", done.stderr
    with Coordinator(0, path) as c:
        assert c.start(flows.Laps, Lap(3, Blob.of(1), b"\3" * SIZE), run_id="one").wait().output.blob == Blob.of(4)


def test_many_side_by_side_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with Coordinator(2, path) as c:
        outputs = c.start(flows.Wide, 20, run_id="one").wait().outputs
        assert outputs == [Blob.of(number) for number in range(20)]
        assert sorted(c.start(flows.Twice, 20).wait().output) == sorted([*range(20), *range(100, 120)])
    with Coordinator(0, path) as c:
        assert c.run("one").wait().outputs == outputs


class Plain(MemoryStore):
    """A store of somebody's own, which knows of nothing but bytes."""

    takes_shared = False  # type: ignore[misc]

    def commit(self, run_id: str, commit: Any, progress: Any) -> None:
        assert all(isinstance(record.payload, bytes) for record in (*commit.created, *commit.outputs))
        super().commit(run_id, commit, progress)


def test_a_store_that_does_not_ask_for_it_gets_bytes() -> None:
    with Coordinator(1, Plain()) as c:
        assert c.start(flows.Laps, Lap(2, Blob.of(1), b"\2" * SIZE)).wait().output.blob == Blob.of(3)


def test_in_a_fork_it_is_an_error() -> None:
    """What the parent does with its memory meanwhile, a child cannot know."""
    with Coordinator(1) as c:
        result = c.start(flows.Laps, Lap(2, Blob.of(1), b"\2" * SIZE)).wait()
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                result.outputs  # noqa: B018
            except FloxideError as error:
                os.write(tell, str(error).encode())
            os._exit(0)
        os.waitpid(child, 0)
        os.close(tell)
        with open(told) as file:
            assert "belongs to the process that this one was forked from" in file.read()
        assert result.output.blob == Blob.of(3)


# -- the codec ------------------------------------------------------------------------------------------------------


class Kept(Shared):
    """In memory of its own."""

    def __init__(self, stream: list[bytes], buffers: list[memoryview]) -> None:
        self._stream, self._buffers = b"".join(stream), [bytes(buffer) for buffer in buffers]

    def __len__(self) -> int:
        return len(self._stream) + sum(map(len, self._buffers))

    def open(self) -> tuple[memoryview, list[memoryview]]:
        return memoryview(self._stream), [memoryview(bytearray(buffer)) for buffer in self._buffers]

    def tobytes(self) -> bytes:
        return oob_pickle.in_one(*self.open())


class Shelf:
    def put(self, stream: Any, buffers: Any) -> Shared | None:
        return Kept(stream, buffers)


class Full:
    def put(self, stream: Any, buffers: Any) -> Shared | None:
        return None


LARGE_ONES = [
    Blob.of(1),
    b"x" * SIZE,
    "y" * SIZE,
    bytearray(SIZE),
    {"a": [b"x" * SIZE, Blob.of(2)], "b": Blob.of(3, 100)},
    [b"x" * SIZE] * 2,
]


@pytest.mark.parametrize("value", LARGE_ONES, ids=lambda value: type(value).__name__)
def test_a_large_value_comes_back_however_it_is_carried(value: Any) -> None:
    for _ in range(2):  # the second time it is known to be large
        shared = oob_pickle.share(value, "it", memory=Shelf())  # type: ignore[arg-type]
        assert isinstance(shared, Shared)
        assert codec.decode(shared) == value
        assert pickle.loads(shared.tobytes()) == value
        assert pickle.loads(pickle.dumps(shared)) == shared.tobytes()
        full = oob_pickle.share(value, "it", memory=Full())  # type: ignore[arg-type]
        assert isinstance(full, bytes)
        assert codec.decode(full) == value
        other = oob_pickle.share(value, "it", memory=Shelf())  # type: ignore[arg-type]
        assert {compare(shared, one) for one in (full, other, shared.tobytes())} == {Likeness.SAME}
        assert {compare(shared, one) for one in (codec.encode(3), None)} == {Likeness.OTHER}
    small = oob_pickle.share((1, Blob.of(1, 100)), "it", memory=Shelf())  # type: ignore[arg-type]
    assert isinstance(small, bytes) and codec.decode(small) == (1, Blob.of(1, 100))


def test_a_large_value_by_value() -> None:
    """A local class, which cloudpickle has to carry."""

    class Local(Blob):
        pass

    shared = oob_pickle.share(Local.of(4), "it", memory=Shelf())  # type: ignore[arg-type]
    assert isinstance(shared, Shared)
    assert bytes(codec.decode(shared).data) == bytes(Blob.of(4).data)


def test_buffers_on_both_sides_of_what_goes_by_value() -> None:
    """The standard pickler has given the first one when it comes to what it cannot pickle."""
    shared = oob_pickle.share((Blob.of(4), lambda: 5, Blob.of(6)), "it", memory=Shelf())  # type: ignore[arg-type]
    first, function, last = codec.decode(shared)
    assert (first, function(), last) == (Blob.of(4), 5, Blob.of(6))


# -- the views ------------------------------------------------------------------------------------------------------


def test_a_fork_while_a_thread_lets_go_of_a_value_spoils_none(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks the kernel whether it has to drop pages; they must not change behind that."""
    views = MappedPayloads(fd)
    as_it_was = MappedPayloads._as_it_was

    def and_forked(views: MappedPayloads, sight: Any) -> bool:
        found = as_it_was(views, sight)
        views._before_fork()
        return found

    monkeypatch.setattr(MappedPayloads, "_as_it_was", and_forked)
    for byte in (b"1", b"2"):
        os.pwrite(fd, byte * SIZE, SPAN)
        assert views.open(SPAN, SIZE, None) == byte * SIZE
    os.close(views._pagemap)
    for part in views._parts.values():
        assert part is not None
        part.close()


# -- the arena ------------------------------------------------------------------------------------------------------


@pytest.fixture
def fd() -> Iterator[int]:
    made = os.memfd_create("arena")
    os.ftruncate(made, 3 * SPAN)
    yield made
    os.close(made)


Written = dict[int, tuple[list[bytes], list[bytes]]]


def check(fd: int, live: Written) -> None:
    """All that was written is as it was."""
    for offset, (stream, buffers) in live.items():
        sizes = sizes_of(stream, buffers)
        starts = spread(sizes)
        assert os.pread(fd, sizes[0], offset) == b"".join(stream)
        assert [os.pread(fd, len(b), offset + at) for b, at in zip(buffers, starts[1:], strict=False)] == buffers


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_written_over(fd: int, seed: int) -> None:
    chance = random.Random(seed)
    now = [0.0]
    arena, live = Arena(fd, SPAN, lambda: now[0]), Written()
    for turn in range(600):
        if live and chance.random() < (0.4 if turn % 200 < 100 else 0.6):
            offset = chance.choice(list(live))
            del live[offset]
            arena.free(offset)
            if chance.random() < 0.3:
                arena.settle()
        else:
            stream = [chance.randbytes(chance.choice((1, 200))) for _ in range(chance.choice((1, 3)))]
            buffers = [bytes([turn % 256]) * chance.choice((1, 5000, 1 << 17, 1 << 20)) for _ in range(turn % 3)]
            offset = arena.write(stream, list(map(memoryview, buffers)))  # type: ignore[assignment]
            assert SPAN <= offset < 2 * SPAN and offset not in live
            live[offset] = stream, buffers
        if turn % 20 == 0:
            check(fd, live)
        if turn == 300:  # another process takes over
            arena = Arena(fd, SPAN, lambda: now[0])
            arena.begin({offset: spread(sizes_of(*parts))[-1] for offset, parts in live.items()})
            check(fd, live)
    for offset in live:
        arena.free(offset)
    arena.settle()
    assert os.fstat(fd).st_blocks * 512 > KEPT, "it was needed just now"
    for now[0] in (11.0, 22.0):
        arena.settle()
    assert os.fstat(fd).st_blocks * 512 == KEPT


def test_large_stretches_are_kept_whole() -> None:
    """Or, cut to pieces for the sake of a rest, they were of no use, and each write met fresh pages."""
    free = FreeList()
    for offset, size in ((0, 4), (10, 8), (20, 1)):
        free.add(offset, size)
    assert sorted(free.trim(8)) == [(0, 4), (20, 1)]
    assert (free.total, free.trim(8), free.take(8), free.take(1)) == (8, [], 10, None)
    free.add(0, 10)
    assert free.trim(3) == [(3, 7)]


def test_what_a_dead_process_left_is_free(fd: int) -> None:
    before = Arena(fd, SPAN)
    kept, lost = (before.write([bytes([n]) * SIZE], []) for n in (1, 2))
    assert kept is not None and lost is not None
    after = Arena(fd, SPAN)
    after.begin({kept: SIZE})
    assert os.fstat(fd).st_blocks * 512 == SIZE
    assert after.write([b"\3" * SIZE], []) == lost
    assert os.pread(fd, SIZE, kept) == b"\1" * SIZE


def test_no_room(fd: int) -> None:
    os.ftruncate(fd, SPAN)
    arena = Arena(fd, 0)
    first = arena.write([b"x" * 100], [])
    full = os.open("/dev/full", os.O_RDWR)
    broken = Arena(full, 0)
    try:
        assert broken.write([b"x" * 100], []) is None
        assert broken.write([b"x" * 100], []) is None
    finally:
        os.close(full)
    assert arena.write([b"x" * 100], []) not in (None, first)


def test_a_file_of_the_users_is_not_written_to(fd: int, tmp_path: Path) -> None:
    """A node that closes all descriptors, and opens others: the number is another file's then."""
    arena = Arena(mine := os.dup(fd), 0)
    os.close(mine)
    assert arena.write([b"x"], []) is None
    assert os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT) == mine
    assert arena.write([b"x"], []) is None
    os.close(mine)
    assert (tmp_path / "file").stat().st_size == 0


def test_a_fork_writes_nothing(fd: int) -> None:
    arena = Arena(fd, 0)
    child = os.fork()
    if child == 0:
        os._exit(arena.write([b"x"], []) is not None)
    assert os.waitpid(child, 0)[1] == 0


def test_stores_of_ours_take_it() -> None:
    assert MemoryStore.takes_shared and SQLiteStore.takes_shared
