"""FAULTS 78 and 79: nobody can connect, for nothing listens; no key is anywhere to be seen, for there is none."""

from __future__ import annotations

import logging
import multiprocessing
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from floxide_mp import Coordinator, Run
from tests import flows_run
from tests.scripts import printed

LIMIT = 50.0


@pytest.fixture
def busy(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[tuple[Coordinator, Run, list[int]]]:
    """A run of which two steps are at work in two processes, for as long as the test looks."""
    caplog.set_level(logging.DEBUG)
    gate = flows_run.Gate(tmp_path)
    with Coordinator(2) as coordinator:
        run = coordinator.start(flows_run.Gates, [str(gate.path)] * 2)
        gate.entered(2)
        yield coordinator, run, [os.getpid(), *(worker.pid for worker in coordinator.workers())]
        gate.open()
        run.wait(LIMIT)


def sockets_of(pid: int) -> set[str]:
    """The inodes of a process's sockets."""
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            to = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
        if to.startswith("socket:["):
            found.add(to[len("socket:[") : -1])
    return found


def test_row_78_nothing_listens(busy: tuple[Coordinator, Run, list[int]]) -> None:
    _, _, pids = busy
    ours = set().union(*map(sockets_of, pids))
    assert ours, "the socket pairs at least"
    # Num RefCount Protocol Flags Type St Inode Path: __SO_ACCEPTCON in the flags says that it listens
    seen = set()
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[6] in ours:
            seen.add(fields[6])
            assert not int(fields[3], 16) & 0x10000, f"listens: {line}"
            assert len(fields) == 7, f"has a name: {line}"
    for pid in pids:
        for family in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
            table = Path(f"/proc/{pid}/net/{family}")
            lines = table.read_text().splitlines()[1:] if table.exists() else []
            assert not [line for line in lines if line.split()[9] in ours], family
    assert seen == ours, "all of them are socket pairs, without a name"


def test_row_78_nothing_is_in_the_file_system(busy: tuple[Coordinator, Run, list[int]]) -> None:
    _, _, pids = busy
    for pid in pids[1:]:
        for name in os.listdir(f"/proc/{pid}/fd"):
            to = os.readlink(f"/proc/{pid}/fd/{name}")
            if to.startswith("/") and not to.startswith("/memfd:"):
                kind = os.stat(f"/proc/{pid}/fd/{name}").st_mode
                assert stat.S_ISCHR(kind) or "gate" in to or to in standard_streams(), f"{name} -> {to}"


def standard_streams() -> set[str]:
    return {os.readlink(f"/proc/self/fd/{n}") for n in (0, 1, 2)}


def test_row_78_a_worker_has_nobody_elses_connection(busy: tuple[Coordinator, Run, list[int]]) -> None:
    """One connection each, and of the coordinator's no other descriptor."""
    _, _, (_, first, second) = busy
    assert len(sockets_of(first)) == len(sockets_of(second)) == 1
    assert not sockets_of(first) & sockets_of(second)


def test_row_78_other_users_cannot_look_into_the_descriptors(busy: tuple[Coordinator, Run, list[int]]) -> None:
    _, _, pids = busy
    if os.getuid() != 0:
        pytest.skip("needs root, to become somebody else")
    for pid in pids:
        done = subprocess.run(
            [sys.executable, "-c", f"import os; os.setgid(65534); os.setuid(65534); os.listdir('/proc/{pid}/fd')"],
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        assert "PermissionError" in done.stderr


def test_row_79_no_key_anywhere(busy: tuple[Coordinator, Run, list[int]], caplog: pytest.LogCaptureFixture) -> None:
    coordinator, run, pids = busy
    key = bytes(multiprocessing.current_process().authkey)
    forms = [key, key.hex().encode(), repr(key).encode()]
    shown = [repr(thing) for thing in (coordinator, run, run.info(), coordinator.workers(), vars(coordinator))]
    shown += [repr(vars(vars(coordinator)["_engine"])), caplog.text]
    seen = [text.encode() for text in shown]
    for pid in pids:
        seen += [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
    for text in seen:
        assert text is not None
        assert not [form for form in forms if form in text]
        assert b"authkey" not in text.lower()


def test_row_79_nor_in_the_memory_of_a_worker(tmp_path: Path) -> None:
    """A worker cannot give away what it does not have: nothing that it holds equals the coordinator's key."""
    script = """
        import multiprocessing
        from floxide_mp import Workflow, node
        @node
        def own(value): return bytes(multiprocessing.current_process().authkey)
        class W(Workflow):
            own = own
            start = own
        print(W().run(1, workers=1).output == bytes(multiprocessing.current_process().authkey))
    """
    assert printed(script, tmp_path) == "False\n"
