"""FAULTS row 25 and its neighbours: the user's process is killed, forks, drops or misuses its coordinator."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from multiprocessing import Pipe
from pathlib import Path

import pytest

from floxide_mp import Coordinator, FloxideError, RunFailedError, RunStatus, failpoints
from floxide_mp.engines.processes.rpc_client import SchedulerProxy

from .. import flows_faults as flows
from .test_worker_dies import alive, eventually, lines, pids

ROOT = Path(__file__).parents[2]
MARK = "FLOXIDE_TEST_MARK"


class Script:
    """A user's program in a process of its own; every process that comes of it carries a mark in its environment."""

    def __init__(self, folder: Path, text: str, **environment: str) -> None:
        self.mark = f"{MARK}={uuid.uuid4()}".encode()
        name, _, value = self.mark.decode().partition("=")
        (folder / "tmp").mkdir()
        self.temporary = folder / "tmp"
        path = folder / "script.py"
        path.write_text(text)
        places = {"PYTHONPATH": str(ROOT), "TMPDIR": str(self.temporary), name: value, "FOLDER": str(folder)}
        self.process = subprocess.Popen([sys.executable, str(path)], env={**os.environ, **places, **environment})

    def family(self) -> set[int]:
        found = set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    ours = self.mark in (entry / "environ").read_bytes().split(b"\0")
                except OSError:
                    continue  # it ended while we looked
                if ours and alive(int(entry.name)):
                    found.add(int(entry.name))
        return found


@pytest.fixture
def scripts() -> Iterator[list[Script]]:
    made: list[Script] = []
    yield made
    for script in made:
        for pid in script.family():
            os.kill(pid, signal.SIGKILL)
        script.process.wait()


SCRIPT = """
import multiprocessing, os, signal
from floxide_mp import Coordinator
from tests import flows_faults as flows
folder = os.environ["FOLDER"]
with Coordinator(2) as c:
    runs = [c.start(flows.HarmAll, flows.Plan(folder, how, count=1)) for how in os.environ["HOW"].split()]
    if "FORK" in os.environ:
        child = multiprocessing.get_context("fork").Process(target=signal.pause)
        child.start()
        flows.note(folder, "forked", child.pid)
    flows.note(folder, "running", os.getpid())
    for run in runs:
        run.wait()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda n: n.name)
@pytest.mark.parametrize(
    ("how", "fork"),
    [("hangs_on holds_the_interpreter", ""), ("leaves_and_hangs holds_the_interpreter", "1")],
    ids=["the interpreter is held", "grandchildren, and a fork of the user's"],
)
def test_row_25_the_users_process_is_killed(
    number: signal.Signals, how: str, fork: str, tmp_path: Path, scripts: list[Script]
) -> None:
    shared = set(os.listdir("/dev/shm"))
    script = Script(tmp_path, SCRIPT, HOW=how, **({"FORK": "1"} if fork else {}))
    scripts.append(script)
    eventually(lambda: len(lines(tmp_path, "entered")) == 2 and lines(tmp_path, "running"), "both nodes run")
    survivors = set(lines(tmp_path, "forked"))
    expected = {script.process.pid, *lines(tmp_path, "entered"), *lines(tmp_path, "grandchildren"), *survivors}
    assert len(expected) == (6 if fork else 3)
    assert expected <= script.family()
    script.process.send_signal(number)
    assert script.process.wait(30) == -number
    eventually(lambda: script.family() == survivors, "only what the user forked is left")
    assert os.listdir(script.temporary) == []
    eventually(lambda: set(os.listdir("/dev/shm")) <= shared, "others may be at work there, too")


@pytest.mark.parametrize("point", [n for n in failpoints.NAMES if n.startswith("coordinator.")])
def test_row_25_killed_at(point: str, tmp_path: Path, scripts: list[Script]) -> None:
    script = Script(tmp_path, SCRIPT, HOW="nothing", FLOXIDE_FAILPOINTS=f"{point}=kill")
    scripts.append(script)
    assert script.process.wait(30) == -signal.SIGKILL
    eventually(lambda: not script.family(), "nobody is left")
    assert os.listdir(script.temporary) == []


def test_row_25_killed_while_workers_start(tmp_path: Path, scripts: list[Script]) -> None:
    """The end of its lifeline may come before a worker has asked the kernel to be killed by it."""
    text = "import os\nfrom floxide_mp import Coordinator\nc = Coordinator(8)\nos.kill(os.getpid(), 9)\n"
    script = Script(tmp_path, text)
    scripts.append(script)
    assert script.process.wait(30) == -signal.SIGKILL
    eventually(lambda: not script.family(), "nobody is left")


@pytest.mark.parametrize("how", ["nothing", "hangs_on"])
def test_dropped_without_close(how: str, tmp_path: Path, scripts: list[Script]) -> None:
    text = SCRIPT.replace("with Coordinator(2) as c:", "c = Coordinator(2)\nif True:").partition("    for run")[0]
    script = Script(tmp_path, text, HOW=how, PYTHONWARNINGS="default")
    scripts.append(script)
    assert script.process.wait(30) == 0
    eventually(lambda: not script.family(), "nobody is left")


# -- in this process -----------------------------------------------------------------------------------------------


def test_twenty_coordinators_leave_nothing(tmp_path: Path) -> None:
    """What they may not leave is looked after by the fixture of every test."""
    for number in range(20):
        with Coordinator(1) as c:
            if number % 5 == 0:
                assert c.start(flows.Harm, flows.Plan(str(tmp_path))).wait(30).outputs == list(range(6))


def test_closing_while_nodes_run(tmp_path: Path) -> None:
    c = Coordinator(2, grace=0.1)
    run = c.start(flows.HarmAll, flows.Plan(str(tmp_path), "hangs_on"))
    eventually(lambda: len(lines(tmp_path, "entered")) == 2, "both workers hang")
    c.close()
    c.close()
    assert not any(map(alive, lines(tmp_path, "entered")))
    with pytest.raises(FloxideError, match="was not over when its coordinator was closed"):
        run.wait()
    assert run.metrics().retries == 0, "being closed is no attempt"
    assert run.errors() == []
    assert run.status is RunStatus.RUNNING
    run.cancel()
    assert c.workers() == []
    with pytest.raises(FloxideError, match="closed"):
        c.start(flows.Harm, flows.Plan(str(tmp_path)))


def test_closing_gives_running_nodes_their_grace(tmp_path: Path) -> None:
    with Coordinator(2, grace=30) as c:
        run = c.start(flows.HarmAll, flows.Plan(str(tmp_path), "waits_for_go", count=2))
        eventually(lambda: len(lines(tmp_path, "entered")) == 2, "both nodes run")
        closer = threading.Thread(target=c.close)
        closer.start()
        (tmp_path / "go").touch()
        closer.join()
    assert run.wait().outputs == [0, 1]


def test_ctrl_c_in_wait(tmp_path: Path) -> None:
    def interrupt() -> None:
        eventually(lambda: lines(tmp_path, "entered"), "the node runs")
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # type: ignore[arg-type]

    thread = threading.Thread(target=interrupt)

    def use() -> None:
        with Coordinator(2, grace=0.1) as c:
            run = c.start(flows.Harm, flows.Plan(str(tmp_path), "hangs_on"))
            thread.start()
            run.wait(30)

    with pytest.raises(KeyboardInterrupt):
        use()
    thread.join()
    assert not any(map(alive, lines(tmp_path, "entered")))


def test_an_exception_inside_with(tmp_path: Path) -> None:
    def use() -> None:
        with Coordinator(2, grace=0.1) as c:
            c.start(flows.HarmAll, flows.Plan(str(tmp_path), "hangs_on"))
            eventually(lambda: len(lines(tmp_path, "entered")) == 2, "both workers hang")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use()
    assert not any(map(alive, lines(tmp_path, "entered")))


def test_many_threads_one_coordinator(tmp_path: Path) -> None:
    results = []

    def use() -> None:
        for _ in range(5):
            run = c.start(flows.Harm, flows.Plan(str(tmp_path), "killed_once"))
            c.workers()
            results.append(run.wait(30).outputs)

    with Coordinator(2) as c:
        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [list(range(6))] * 20


def test_looking_at_workers_while_they_die(tmp_path: Path) -> None:
    """Status pages are closed when their workers have gone; nobody reads them then."""
    with Coordinator(2) as c:
        run = c.start(flows.Harm, flows.Plan(str(tmp_path), "killed"))
        while run.status is RunStatus.RUNNING:
            assert len(c.workers()) <= 2


def test_a_fork_of_the_users_process(tmp_path: Path) -> None:
    """The child may look, gets errors instead of hangs, and harms nothing by leaving the ``with`` block."""
    reading, writing = os.pipe()
    with Coordinator(2) as c:
        run = c.start(flows.HarmAll, flows.Plan(str(tmp_path), "waits_for_go", count=4))
        eventually(lambda: len(lines(tmp_path, "entered")) == 2, "both workers are in a node")
        before = pids(c)
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            told = []
            try:
                told.append(run.status.value)
                for use in (run.wait, lambda: c.start(flows.Harm, flows.Plan(str(tmp_path)))):
                    try:
                        use()
                    except FloxideError:
                        told.append("error")
                run.cancel()
                c.close()
                told.append("closed")
            finally:
                os.write(writing, " ".join(told).encode())
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            assert pipe.read() == "running error error closed"
        assert os.waitpid(child, 0)[1] == 0
        assert pids(c) == before
        (tmp_path / "go").touch()
        assert run.wait(30).outputs == [0, 1, 2, 3]
        assert run.metrics().retries == 0
        assert c.start(flows.Harm, flows.Plan(str(tmp_path))).wait(30).outputs == list(range(6))


def test_trouble_in_the_supervisor_ends_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should it fail by a bug of ours, callers are told, and nothing is left."""
    with Coordinator(2) as c:
        run = c.start(flows.HarmAll, flows.Plan(str(tmp_path), "hangs_on"))
        eventually(lambda: len(lines(tmp_path, "entered")) == 2, "both workers hang")
        monkeypatch.setattr(c._scheduler, "started", None)  # the bug
        os.kill(lines(tmp_path, "entered")[0], signal.SIGKILL)
        with pytest.raises(RunFailedError, match="the supervisor failed"):
            run.wait(30)
        with pytest.raises(FloxideError, match="the supervisor failed"):
            c.start(flows.Harm, flows.Plan(str(tmp_path))).wait(30)
        assert c.workers() == []


def test_row_25_a_coordinator_that_has_hung_up_has_hung_up() -> None:  # found by a soak
    """Also to who asks once more: it was a node whose look at the context failed first, and took that for its error."""
    ours, theirs = Pipe()
    line = SchedulerProxy(ours)
    theirs.close()
    try:
        for _ in range(2):
            with pytest.raises((EOFError, ConnectionError)):
                line.events("run", 0)
            with pytest.raises((EOFError, ConnectionError)):
                line.exchange(0, (), 1.0)
    finally:
        ours.close()
