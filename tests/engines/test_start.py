"""How workers begin: what is started before it is known to be wanted, and what is ended before it has begun."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from floxide_mp import Coordinator, StoreError
from floxide_mp.engines.processes.handshake import Assignment, give, take
from floxide_mp.engines.processes.recycling import Limits
from floxide_mp.engines.processes.spawn import spawn_unassigned
from floxide_mp.testing.leftovers import children
from tests import flows_run

NEVER = 3600.0  # seconds


def test_a_worker_that_is_not_wanted_after_all_is_ended(tmp_path: Path) -> None:
    before = children()
    with pytest.raises(StoreError):
        flows_run.Echo().run(1, workers=2, store=tmp_path / "no directory" / "runs.db")
    with pytest.raises(ValueError, match="workers must be"):
        flows_run.Echo().run(1, workers=-1)
    assert children() == before


def test_the_first_worker_is_the_one_that_was_started_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process for each worker, and no other."""
    pids = []
    popen = subprocess.Popen.__init__

    def noted(self: subprocess.Popen[bytes], *arguments: object, **options: object) -> None:
        popen(self, *arguments, **options)  # type: ignore[arg-type,call-overload]
        pids.append(self.pid)

    monkeypatch.setattr(subprocess.Popen, "__init__", noted)
    assert flows_run.Echo().run(3, workers=1).outputs
    assert len(pids) == 1


def test_workers_that_have_not_begun_are_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However long their steps might get to be finished; that they are ended is nobody's trouble."""
    (tmp_path / "sitecustomize.py").write_text("import signal; signal.pause()")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    with caplog.at_level(logging.WARNING):
        Coordinator(2, grace=NEVER).close()
    assert caplog.messages == []


def test_one_that_is_discarded_twice() -> None:
    unassigned = spawn_unassigned()
    pid = unassigned.popen.pid
    unassigned.discard()
    unassigned.discard()
    assert unassigned.popen.returncode is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    "orders", [Assignment(1, 1), Assignment(2**40, 7, Limits(100, 1 << 30)), Assignment(3, 2, Limits(5))], ids=str
)
def test_orders_arrive_as_they_were_given(orders: Assignment, tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, open(tmp_path / "memory", "w") as memory:
        give(ours, orders, memory.fileno())
        told = take(theirs)
        assert told is not None
        assert told[0] == orders
        assert os.readlink(f"/proc/self/fd/{told[1]}") == memory.name
        os.close(told[1])
        give(ours, orders, None)
        assert take(theirs) == (orders, -1)
        ours.close()
        assert take(theirs) is None


def test_a_worker_that_died_at_once_does_not_end_the_program() -> None:
    """Where the program has SIGPIPE end it, as tools of the command line do."""
    script = """
import signal, socket
from floxide_mp.engines.processes.handshake import Assignment, give
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
ours, theirs = socket.socketpair()
theirs.close()
try:
    give(ours, Assignment(1, 1), None)
except BrokenPipeError:
    print("told")
"""
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "told\n"
