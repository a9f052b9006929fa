"""Rows 99 to 101: how workers end, what nodes raise that is no ``Exception``, signals and descriptors in workers."""

from __future__ import annotations

import os
import pty
import signal
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from floxide_mp import Coordinator, RunFailedError, WorkerDiedError

from .. import flows_ending as flows
from ..scripts import ROOT
from .test_worker_dies import alive, eventually, lines

# -- row 101: signals and descriptors ------------------------------------------------------------------------------


@pytest.fixture
def sigchld_ignored() -> Iterator[None]:
    """As programs have it that want no zombies: the kernel reaps, and nobody learns an exit status."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGALRM, signal.SIGUSR1))
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    signal.signal(signal.SIGCHLD, before)


def test_row_101_workers_have_signals_as_a_fresh_program_has_them(sigchld_ignored: None) -> None:
    assert flows.Commands().run("exit 3", workers=1).output == 3
    assert flows.Signals().run(workers=1).output == (signal.SIG_DFL, signal.SIG_IGN, [])


def test_row_101_what_nodes_started_is_ended_though_the_kernel_reaps(sigchld_ignored: None, tmp_path: Path) -> None:
    grandchild = flows.Leaves().run(workers=1).output
    eventually(lambda: not alive(grandchild), "ended with its worker")
    with Coordinator(1) as c:
        run = c.start(flows.LeavesAndDies, str(tmp_path))
        with pytest.raises(RunFailedError) as failed:
            run.wait(30)
        grandchildren = lines(tmp_path, "grandchildren")
        eventually(lambda: not any(map(alive, grandchildren)), "ended with their workers")
        assert len(grandchildren) == 3
        assert c.start(flows.Commands, "exit 4").wait(30).output == 4
    died = failed.value.__cause__
    assert isinstance(died, WorkerDiedError)
    assert died.exit_code in (-signal.SIGABRT, None)  # before Linux 6.15 nobody can tell
    known = "was ended by SIGABRT" if died.exit_code else "the program ignores SIGCHLD"
    assert known in str(died)


PRINTS = """
from floxide_mp import Workflow, node
@node
def work(x):
    print("a node prints")
    return x
class Prints(Workflow):
    work = work
    start = work
print("output", Prints().run(7, workers=1).output)
"""


def test_row_101_a_node_prints_where_the_terminal_stops_the_background(tmp_path: Path) -> None:
    """``stty tostop``: workers lead groups of their own, which are in the background."""
    (tmp_path / "script.py").write_text(PRINTS)
    pid, terminal = pty.fork()
    if pid == 0:
        attributes = termios.tcgetattr(1)
        attributes[3] |= termios.TOSTOP
        termios.tcsetattr(1, termios.TCSANOW, attributes)
        os.chdir(tmp_path)
        os.execve(sys.executable, [sys.executable, "script.py"], {**os.environ, "PYTHONPATH": str(ROOT)})
    shown = b""
    try:
        while part := os.read(terminal, 4096):
            shown += part
    except OSError:  # how a terminal says that nobody is left
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert shown.decode().split("\r\n") == ["a node prints", "output 7", ""]


def test_row_101_what_nodes_start_has_no_descriptor_of_ours() -> None:
    assert flows.HandsOn().run(workers=1).output == ["0", "1", "2", "3"]  # 3 is of the listing


@pytest.mark.parametrize("how", ["all", "lifeline"])
def test_row_101_a_node_that_closes_descriptors_does_not_outlive_the_program(how: str) -> None:
    """Its worker is ended at once, while there is somebody to do so."""
    with Coordinator(1) as c:
        run = c.start(flows.Closes, how)
        with pytest.raises(RunFailedError, match="closed the descriptors that it needs to work while it ran work"):
            run.wait(30)
        assert [error.attempt for error in run.errors()] == [1, 2, 3]
        assert c.start(flows.Commands, "exit 5").wait(30).output == 5
