"""Row 102: hosts: what a program may be that starts workers, and what its machine may lack."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import Coordinator, Run, RunCancelledError, RunFailedError, Workflow, node

from ..flows_run import Failing, Gate, until
from ..scripts import having, mounting, printed, run_python
from .flows_ending import Passes

SQUARES = """
from floxide_mp import FloxideError, NextAll, Workflow, node

@node
def numbers(count: int) -> NextAll[int]:
    return NextAll(range(count))

@node
def square(n: int) -> int:
    return n * n

class Squares(Workflow):
    numbers, square = numbers, square
    start = numbers
    edges = {numbers: [square]}
"""


# -- libraries that replace threads --------------------------------------------------------------------------------

PATCHED = """
from {library} import monkey
monkey.{how}
{squares}
print(Squares().run(3, workers=0).outputs)
try:
    print(Squares().run(3, workers=1).outputs)
except FloxideError as error:
    print(error)
"""


@pytest.mark.parametrize(("how", "what"), [("patch_all()", "threads"), ("patch_socket()", "sockets")])
def test_row_102_where_gevent_has_replaced_threads_workers_are_refused(how: str, what: str, tmp_path: Path) -> None:
    pytest.importorskip("gevent")
    done = run_python(["-c", PATCHED.format(library="gevent", how=how, squares=SQUARES)], None, tmp_path)
    assert done.stderr == ""
    inline, refused = done.stdout.splitlines()
    assert inline == "[0, 1, 4]"
    assert refused.startswith(f"gevent has replaced this program's {what} by its own")
    assert "use workers=0, or start the coordinator in a process where that is not done" in refused


# -- programs that close all descriptors ---------------------------------------------------------------------------

CLOSED = """
import os
from floxide_mp import Coordinator
{squares}
for workers in (0, 2):
    coordinator = Coordinator(workers, store="runs.db")
    pids = [worker.pid for worker in coordinator.workers() if worker.pid != os.getpid()]
    run = coordinator.start(Squares, 3)
    assert run.wait().outputs == [0, 1, 4]
    os.closerange(3, 256)
    try:
        coordinator.close()
    except FloxideError as error:
        print(error)
    for pid in pids:
        while os.path.exists(f"/proc/{{pid}}/cmdline") and open(f"/proc/{{pid}}/cmdline").read():
            os.sched_yield()
    with Coordinator(0, store="runs.db") as again:
        print(again.run(run.run_id).wait().outputs)
"""


def test_row_102_a_program_that_has_closed_all_descriptors(tmp_path: Path) -> None:
    """The error says so, the workers end, and the store can be had again."""
    done = run_python(["-c", CLOSED.format(squares=SQUARES)], None, tmp_path)
    text = (
        "this program has closed descriptors that its coordinator needs (os.closerange, or a library that makes daemo"
    )
    lines = done.stdout.splitlines()
    assert [line[: len(text)] for line in lines] == [text, "[0, 1, 4]"] * 2, done.stderr


# -- event loops ---------------------------------------------------------------------------------------------------


class Passing(Workflow):
    work = node(abs)
    start = work


def test_row_102_many_wait_in_an_event_loop_and_its_pool_is_free(coordinator: Coordinator, tmp_path: Path) -> None:
    gate = Gate(tmp_path)

    async def client(run: Run) -> Any:
        return (await run).output

    async def server() -> list[Any]:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        runs = [coordinator.start(Passes, (str(gate.path), n)) for n in range(8)]
        clients = [asyncio.create_task(client(run)) for run in runs]
        await asyncio.to_thread(gate.entered, 1)
        if coordinator.workers()[0].pid != os.getpid():  # inline, they run the steps
            assert watching() == ["floxide-await"]
        await asyncio.to_thread(gate.open)
        return await asyncio.gather(*clients)

    assert asyncio.run(server()) == list(range(8))
    assert watching() == []


def watching() -> list[str]:
    """The names of the threads that wait for runs which are awaited."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("floxide-await")]


def test_row_102_runs_that_are_awaited_one_after_another_and_from_several_loops(
    processes: Coordinator, tmp_path: Path
) -> None:
    """The thread that waits hears of each that is added, is there anew after the last, and ends with each other."""
    gate = Gate(tmp_path)

    async def client(waits: bool) -> Any:
        run = processes.start(Passes, (str(gate.path), 1)) if waits else processes.start(Passing, 2)
        return (await run).output

    async def loop() -> list[Any]:
        late = asyncio.create_task(client(True))
        await asyncio.to_thread(gate.entered, 1)
        early = [await client(False) for _ in range(20)]
        gate.open()
        return [*early, await late]

    with ThreadPoolExecutor(2) as pool:
        others = pool.map(lambda _: asyncio.run(client(False)), range(20))
        assert asyncio.run(loop()) == [2] * 20 + [1]
        assert list(others) == [2] * 20
    assert asyncio.run(client(False)) == 2
    assert watching() == []


def test_row_102_a_run_that_is_resumed_while_it_is_awaited_is_awaited_on(
    processes: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the thread hears that it is over, it is on again."""
    seen = []
    wait = Run.wait

    def resumed(run: Run, timeout: float | None = None) -> Any:
        seen.append(timeout)
        if len(seen) == 1:
            raise TimeoutError
        return wait(run, timeout)

    monkeypatch.setattr(Run, "wait", resumed)

    async def client() -> Any:
        return (await processes.start(Passing, 2)).output

    assert asyncio.run(client()) == 2
    assert seen == [0, 0]


def test_row_102_what_the_thread_that_waits_dies_of_is_raised(
    processes: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> set[str]:
        raise MemoryError

    monkeypatch.setattr(processes._scheduler, "wait_any", broken)

    async def client() -> Any:
        await processes.start(Passing, 2)

    with pytest.raises(MemoryError):
        asyncio.run(client())
    assert watching() == []


def test_row_102_await_raises_as_wait_does_and_cancels_the_run(processes: Coordinator, tmp_path: Path) -> None:
    gate = Gate(tmp_path)

    async def fails() -> None:
        await processes.start(Failing, 1)

    async def is_cancelled() -> None:
        run = processes.start(Passes, (str(gate.path), 1))
        waiting = asyncio.ensure_future(run)
        await asyncio.to_thread(gate.entered, 1)
        waiting.cancel()
        gate.open()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(RunCancelledError):
            await run

    with pytest.raises(RunFailedError):
        asyncio.run(fails())
    asyncio.run(is_cancelled())
    until(lambda: not watching())


# -- modules that their names do not lead to -----------------------------------------------------------------------

TEST_FILE = """
from dataclasses import dataclass
from floxide_mp import Workflow, node

@dataclass
class Job:
    n: int

@node
def double(job: Job) -> Job:
    return Job(2 * job.n)

class Doubles(Workflow):
    double = double
    start = double

def test_doubles():
    assert Doubles().run(Job(2), workers=1).output == Job(4)
"""


@pytest.mark.parametrize("packages", [False, True], ids=["plain folders", "packages"])
def test_row_102_test_files_that_pytest_imports_by_their_path(packages: bool, tmp_path: Path) -> None:
    folder = tmp_path / "tests" / "inner"
    folder.mkdir(parents=True)
    (folder / "test_flow.py").write_text(TEST_FILE)
    if packages:
        (folder / "__init__.py").touch()
        (folder.parent / "__init__.py").touch()
    options = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "--rootdir", str(tmp_path)]
    done = run_python(["-m", "pytest", *options, "tests"], None, tmp_path)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


PLUGIN = """
import importlib.util, pathlib, sys
folder = pathlib.Path("plugins")
folder.mkdir()
(folder / "squares.py").write_text({squares!r})
spec = importlib.util.spec_from_file_location("loaded_squares", folder.absolute() / "squares.py")
module = sys.modules["loaded_squares"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(module.Squares().run(4, workers=1).outputs)
"""


def test_row_102_a_module_that_the_program_loads_by_its_path(tmp_path: Path) -> None:
    assert printed(PLUGIN.format(squares=SQUARES), tmp_path) == "[0, 1, 4, 9]\n"


# -- a machine without /proc ---------------------------------------------------------------------------------------

BARE = """
import os
from functools import partial
from floxide_mp import Coordinator, FloxideError, LivenessStatus
from floxide_mp.engines.processes import ProcessEngine
from tests import flows_faults as flows
print(os.path.exists("/proc/vmstat"), os.path.exists("/proc/self/stat"))
folder = os.environ["FOLDER"]
with Coordinator(2, store=os.path.join(folder, "runs.db")) as c:
    print(c.start(flows.Harm, flows.Plan(folder, "killed_once")).wait(30).outputs)
    run = c.start(flows.HarmAll, flows.Plan(folder, "waits_for_go", count=2))
    flows.wait_for(folder, "entered")
    print({worker.liveness for worker in c.workers(threshold=1e-9)} == {LivenessStatus.ALIVE})
    open(os.path.join(folder, "go"), "w").close()
    print(run.wait(30).outputs)
try:
    with Coordinator(1, engine=partial(ProcessEngine, max_worker_rss=1 << 30)) as c:
        print("it can be kept")
except FloxideError as error:
    print(error)
"""
KEPT = "it can be kept"
NOT_KEPT = "max_worker_rss cannot be kept here: /proc/self/status cannot be read, so mount /proc"


@mounting
@pytest.mark.parametrize(
    ("mount", "there", "kept"),
    [("-t proc -o subset=pid proc", "False True", KEPT), ("-t tmpfs none", "False False", NOT_KEPT)],
    ids=["ProcSubset=pid", "none"],
)
def test_row_102_machines_where_proc_is_not_all_there(mount: str, there: str, kept: str, tmp_path: Path) -> None:
    done = run_python(["-c", BARE], None, tmp_path, having(f"mount {mount} /proc"))
    everything = "[0, 1, 2, 3, 4, 5]"
    assert done.stdout.splitlines() == [there, everything, "True", "[0, 1]", kept], done.stderr
    assert "Traceback" not in done.stderr


# -- settings of the whole process ---------------------------------------------------------------------------------

TIMED_SOCKETS = """
import multiprocessing, socket
socket.setdefaulttimeout(10)
from floxide_mp import Coordinator, RunStatus
{squares}

def loop(backend):
    try:
        while backend.info("run").status is RunStatus.RUNNING:
            Squares().step_distributed(backend, 7)
    except FloxideError:
        pass  # it is closed

if __name__ == "__main__":
    with Coordinator(1) as coordinator:
        print(coordinator.start(Squares, 3).wait(30).outputs)
    with Coordinator(0) as coordinator:
        run = coordinator.start(Squares, 3, run_id="run")
        process = multiprocessing.get_context("spawn").Process(target=loop, args=[coordinator.proxy()])
        process.start()
        print(run.wait(30).outputs)
        process.join()
"""


def test_row_102_a_default_time_out_for_sockets(tmp_path: Path) -> None:
    """No worker could be started, and no loop of the program's own could be let in."""
    assert printed(TIMED_SOCKETS.format(squares=SQUARES), tmp_path) == "[0, 1, 4]\n[0, 1, 4]\n"
