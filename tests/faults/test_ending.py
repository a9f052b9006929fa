"""Rows 99 to 101: how workers end, what nodes raise that is no ``Exception``, signals and descriptors in workers."""

from __future__ import annotations

import gzip
import os
import pty
import signal
import sys
import termios
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from floxide_mp import Coordinator, RunFailedError, WorkerDiedError
from floxide_mp.engines.processes import ProcessEngine

from ..scripts import ROOT, run_python
from . import flows_ending as flows
from .test_worker_dies import alive, eventually, lines

# -- row 99: the end of a worker -------------------------------------------------------------------------------------

WHAT_THERE_IS = {
    "registered": "",
    "atexit": "",
    "finalize": "",
    "multiprocessing": "",
    "plain": "written",
    "packed": "packed",
    "writer": "the end",
    "c": "in C",
}


def what_there_is(folder: Path) -> dict[str, str]:
    def text(path: Path) -> str:
        return gzip.decompress(path.read_bytes()).decode() if path.name == "packed" else path.read_text()

    return {path.name: text(path) for path in folder.iterdir()}


def test_row_99_exit_handlers_and_finalizers_run_and_buffers_are_written(tmp_path: Path) -> None:
    flows.Keeps().run(str(tmp_path), workers=1, grace=30.0)
    assert what_there_is(tmp_path) == WHAT_THERE_IS


def test_row_99_also_where_the_worker_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Coordinator(1, engine=partial(ProcessEngine, max_tasks_per_worker=1), grace=30.0) as c:
        pid = c.start(flows.Keeps, str(tmp_path)).wait(30).output
        eventually(lambda: not alive(pid), "replaced")
        assert what_there_is(tmp_path) == WHAT_THERE_IS
    assert caplog.messages == []


def test_row_99_what_has_no_end_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    """A thread and an exit handler: their worker is killed when the grace is over; what was in buffers is written."""
    with Coordinator(1, grace=3.0) as c:
        pid = c.start(flows.KeepsAndHangs, str(tmp_path)).wait(30).output
    assert not alive(pid)
    assert (tmp_path / "plain").read_text() == "written"


def test_row_99_what_multiprocessing_tracks_is_cleaned_up() -> None:
    name = flows.Shares().run(workers=1, grace=30.0).output
    assert name not in os.listdir("/dev/shm")


HANGS = """
import atexit, os, time
from floxide_mp.engines.processes.shutdown import shut_down
atexit.register(time.sleep, 600)
file = open("plain", "w")
file.write("written")
shut_down(75, 2, 0.2)
"""


def test_row_99_a_worker_that_is_replaced_ends_itself(tmp_path: Path) -> None:
    done = run_python(["-c", HANGS], None, tmp_path)
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert (tmp_path / "plain").read_text() == "written"


# -- row 100: what is no Exception ---------------------------------------------------------------------------------


def raised(c: Coordinator, name: str, where: str, folder: Path) -> list[str]:
    """What five items come to of which one raises that, each of them executed once."""
    run = c.start(flows.Raises, [f"{n} {name if n == 2 else 'fine'} {where} {folder}" for n in range(5)])
    outputs = run.wait(30).outputs
    assert sorted(lines(folder, "executed")) == list(range(5))
    assert [error.type_name for error in run.errors()] == [name]
    return outputs


@pytest.mark.parametrize("where", ["node", "coroutine", "generator"])
@pytest.mark.parametrize("name", flows.RAISED)
def test_row_100_it_is_the_failure_of_its_item(name: str, where: str, coordinator: Coordinator, tmp_path: Path) -> None:
    assert raised(coordinator, name, where, tmp_path) == ["0", "1", "3", "4", f"{name} asked"]


def test_row_100_a_library_interrupts_the_main_thread_of_a_worker(processes: Coordinator, tmp_path: Path) -> None:
    assert raised(processes, "KeyboardInterrupt", "main", tmp_path) == ["0", "1", "3", "4", "KeyboardInterrupt "]


def test_row_100_what_kills_the_error_itself_is_told_in_its_place(coordinator: Coordinator) -> None:
    with pytest.raises(RunFailedError, match="its code raises KeyboardInterrupt"):
        coordinator.start(flows.RaisesWhatCannotBeTold).wait(30)


def test_row_100_inline_ctrl_c_is_the_callers(inline: Coordinator, tmp_path: Path) -> None:
    """Also where the node catches it and raises another one, and where it waits in a coroutine."""
    for how in ("catches", "waits"):
        run = inline.start(flows.Pressed, (str(tmp_path), how))
        with pytest.raises(KeyboardInterrupt):
            run.wait(30)
        assert run.wait(30).output == "second"
        assert run.errors() == []


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
