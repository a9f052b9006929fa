"""FAULTS rows 4, 25 and 70, of large values: who writes or reads shared memory dies, or there is none."""

from __future__ import annotations

import os
import re
import resource
import signal
from pathlib import Path

import pytest

from floxide_mp import Coordinator, failpoints

from .. import flows_shared as flows
from ..engines.test_shm import pages
from ..flows_shared import SIZE, Blob, Lap
from ..scripts import SMALL_SHM, mounting, run_python
from .test_coordinator_dies import Script, scripts  # noqa: F401  # a fixture
from .test_worker_dies import eventually, lines

POINTS = [point for point in failpoints.NAMES if point.startswith("worker.shared.")]


@pytest.mark.parametrize("point", POINTS)
def test_row_04_row_25_a_worker_killed_at(point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three times: the neighbour's values are unharmed, and nothing of the dead one's is left."""
    tokens = [tmp_path / f"token {number}" for number in range(3)]
    for number, token in enumerate(tokens):
        token.touch()
        monkeypatch.setenv("FLOXIDE_FAILPOINTS", f"{point}=kill@{number + 2}:{token}")
        with Coordinator(2) as c:
            run = c.start(flows.Laps, Lap(12, Blob.of(1), b"\14" * SIZE))
            other = c.start(flows.Laps, Lap(12, Blob.of(2), b"\14" * SIZE))
            assert run.wait(50).output == Lap(0, Blob.of(13), b"\0" * SIZE)
            assert other.wait(50).output == Lap(0, Blob.of(14), b"\0" * SIZE)
            assert not token.exists(), "nobody was killed"
            # Of 2 MB each: input and output of each run, and what the two workers keep.
            assert pages(c) <= (4 + 2 * 3) * 2 * SIZE + (1 << 23)


def test_row_04_row_25_the_next_worker_takes_over_what_is_alive(tmp_path: Path) -> None:
    """What the dead ones made is still there; what they had made and told nobody of is not."""
    with Coordinator(2) as c:
        outputs = c.start(flows.Dies, str(tmp_path)).wait(50).outputs
        assert [(number, blob) for _, number, blob in outputs] == [(n, Blob.of(n + 100)) for n in range(6)]
        assert pages(c) <= (6 + 6 + 6) * SIZE


SCRIPT = """
import os
from floxide_mp import Coordinator
from tests import flows_shared as flows
from tests.flows_faults import note
folder = os.environ["FOLDER"]
with Coordinator(2) as c:
    note(folder, "memory", os.fstat(c._engine._memory.fd).st_ino)
    runs = [c.start(flows.Laps, flows.Lap(10_000, flows.Blob.of(1), b"\\x10" * flows.SIZE)) for _ in range(3)]
    note(folder, "running", os.getpid())
    for run in runs:
        run.wait()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda n: n.name)
def test_row_25_killed_in_the_middle_of_large_values(
    number: signal.Signals,
    tmp_path: Path,
    scripts: list[Script],  # noqa: F811
) -> None:
    shared = set(os.listdir("/dev/shm"))
    script = Script(tmp_path, SCRIPT)
    scripts.append(script)
    eventually(lambda: lines(tmp_path, "running"), "it runs")
    (memory,) = lines(tmp_path, "memory")
    eventually(lambda: len(holders(memory)) == 3, "coordinator and workers have the memory file")
    script.process.send_signal(number)
    assert script.process.wait(30) == -number
    eventually(lambda: not script.family(), "nobody is left")
    eventually(lambda: not holders(memory), "the memory is gone with them")
    assert os.listdir(script.temporary) == []
    eventually(lambda: set(os.listdir("/dev/shm")) <= shared, "others may be at work there, too")


def holders(inode: int) -> set[str]:
    """Processes that have a memory file open."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if "/memfd:floxide-memory" in os.readlink(entry) and entry.stat().st_ino == inode:
                found.add(entry.parts[2])
        except OSError:
            pass  # it ended, or was closed, while we looked
    return found


# -- row 70 ---------------------------------------------------------------------------------------------------------


@mounting
def test_row_70_large_values_do_not_need_dev_shm(tmp_path: Path) -> None:
    text = """
import os
from floxide_mp import Coordinator
from tests import flows_shared as flows
print(os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize)
with Coordinator(2) as c:
    out = c.start(flows.Laps, flows.Lap(5, flows.Blob.of(1), bytes([5]) * flows.SIZE)).wait(50).output
    print(out.blob == flows.Blob.of(6), os.fstat(c._engine._memory.fd).st_blocks * 512 > flows.SIZE)
"""
    done = run_python(["-"], text, tmp_path, SMALL_SHM)
    assert done.stdout.splitlines() == ["65536", "True True"], done.stderr


def test_row_70_where_a_worker_has_no_room_it_sends_what_it_has() -> None:
    with Coordinator(1) as c:
        assert c.start(flows.Bounded, SIZE // 2).wait(50).output == b"\5" * SIZE
        assert pages(c) < 3 * SIZE, "only the second step's output is there"


def test_row_70_where_there_can_be_no_memory_file_large_values_are_sent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """``ulimit -f``, for instance, is a limit of it, too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, before[1]))
    try:
        with Coordinator(2) as c:
            out = c.start(flows.Laps, Lap(5, Blob.of(1), b"\5" * SIZE)).wait(50).output
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert out == Lap(0, Blob.of(6), b"\0" * SIZE)
    told = "large values are sent to workers, not shared with them: .*too large; files .* may have 1,073,741,824 bytes"
    assert re.search(told, caplog.text)
