"""FAULTS rows 4, 13, 25, 68, 78, 79, 82 where the workers are processes of the user's own, and so have to connect."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Client, Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import Coordinator, FloxideError, RunFailedError, RunStatus, StepBackend, WorkflowError
from floxide_mp.engines.processes import ProcessEngine

from .. import flows_own_loop as flows
from .. import flows_run
from ..flows_own_loop import stepped
from ..scripts import run_python
from .test_coordinator_dies import Script, scripts
from .test_worker_dies import alive, eventually

LIMIT = 40.0
Start = Callable[..., SpawnProcess]

__all__ = ["scripts"]  # a fixture


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts processes as users do, and ends them."""
    started: list[SpawnProcess] = []

    def begin(target: Callable[..., Any], *arguments: Any) -> SpawnProcess:
        process = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
        process.start()
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.join()
        process.close()
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]  # it was started on the way


def said(folder: Path, worker_id: int) -> str:
    """What a loop in a process of its own came to."""
    path = folder / f"loop-{worker_id}"
    eventually(lambda: path.exists() and path.read_text(), f"loop {worker_id} ends")
    return path.read_text()


def pid_at(gate: flows_run.Gate) -> int:
    """The process that is in the gate's node."""
    eventually(lambda: list(gate.path.glob("pid-*")), "somebody is in the node")
    (path,) = gate.path.glob("pid-*")
    path.unlink()
    return int(path.name.removeprefix("pid-"))


def cmdline(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def the_error(coordinator: Coordinator, run_id: str) -> WorkflowError:
    eventually(lambda: coordinator.run(run_id).errors(), "it is blamed")
    (error,) = coordinator.run(run_id).errors()
    return error


# -- a run ----------------------------------------------------------------------------------------------------------

METHODS = """
import multiprocessing, sys
from floxide_mp import Coordinator, EventLog, Context, NextAll, Join, RunStatus, StepCallbacks, Workflow, node
import dataclasses

@dataclasses.dataclass
class Ctx(Context):
    seen: EventLog[int]

@dataclasses.dataclass(frozen=True)
class Order:
    number: int

@node
def spread(order: Order):
    return NextAll(Order(n) for n in range(order.number))

@node
def each(ctx: Ctx, order: Order):
    ctx.seen.append(order.number)
    return order

class Mine(Workflow):
    context = Ctx
    spread = spread
    each = each
    join = Join(lambda orders: Order(sum(order.number for order in orders)))
    start = spread
    edges = {spread: [each], each: [join]}

def loop(backend, worker_id, pipe):
    while backend.info("run").status is RunStatus.RUNNING:
        done = Mine().step_distributed(backend, worker_id)
        if done:
            assert type(done[1]) is Order, done
            pipe.send(done)
    pipe.send(None)

if __name__ == "__main__":
    method = multiprocessing.get_context(sys.argv[1])
    with Coordinator(0) as coordinator:
        Mine().start_distributed(None, Order(40), coordinator, "run")
        pipes = [method.Pipe(duplex=False) for _ in range(2)]
        backends = [coordinator.proxy() for _ in pipes]
        loops = [method.Process(target=loop, args=(backends[n], n, pipes[n][1])) for n in range(2)]
        for process in loops: process.start()
        given = [value for receiver, _ in pipes for value in iter(receiver.recv, None)]
        for process in loops: process.join()
        result = coordinator.run("run").wait(0)
        assert list(result.context.seen) == list(range(40))
        print(given, [process.exitcode for process in loops], result.output)
"""


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_two_processes_of_the_users_finish_a_run(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However they were started, and with everything in ``__main__``."""
    monkeypatch.setenv("PYTHONHASHSEED", "1")  # without one, processes that are not forked are warned of theirs
    (tmp_path / "mine.py").write_text(METHODS)
    done = run_python(["mine.py", method], None, tmp_path)
    assert done.stdout == "[('run', Order(number=780))] [0, 0] Order(number=780)\n", done.stderr
    assert done.stderr == ""


def test_a_run_that_is_started_by_a_process_without_the_coordinator(tmp_path: Path, start: Start) -> None:
    with Coordinator(0) as coordinator:
        start(flows.start_and_loop, coordinator.proxy(), "theirs", str(tmp_path))
        assert said(tmp_path, 7) == "[10]"
        result = coordinator.run("theirs").wait(LIMIT)
        assert (result.outputs, list(result.context.log), result.workers) == ([10], [0, 1, 2, 3, 4], [7])


def test_loops_are_among_the_workers(tmp_path: Path, start: Start) -> None:
    gate = flows_run.Gate(tmp_path)
    with Coordinator(0) as coordinator:
        run_id = flows.Held().start_distributed(None, str(gate.path), coordinator)
        process = start(flows.loop, coordinator.proxy(), 5, run_id, flows.Held, str(tmp_path))
        assert pid_at(gate) == process.pid
        assert (5, process.pid) in [(health.worker_id, health.pid) for health in coordinator.workers()]
        gate.open()
        process.join(LIMIT)
        eventually(lambda: 5 not in [health.worker_id for health in coordinator.workers()], "it has left")


# -- a loop's process dies --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workflow", [flows.Held, flows.Forking, flows.Leaving], ids=lambda w: w.__name__)
def test_rows_04_13_a_process_killed_in_a_node(workflow: Any, tmp_path: Path, start: Start) -> None:
    """Seen at once, though others may hold a copy of its connection; its item is blamed, and runs again elsewhere."""
    gate = flows_run.Gate(tmp_path)
    with Coordinator(0) as coordinator:
        run_id = workflow().start_distributed(None, str(gate.path), coordinator)
        first = start(flows.loop, coordinator.proxy(), 0, run_id, workflow, str(tmp_path))
        assert pid_at(gate) == first.pid
        first.kill()
        error = the_error(coordinator, run_id)
        assert (error.type_name, error.node, error.attempt, error.worker_id) == ("WorkerDiedError", "gate", 1, 0)
        assert f"worker 0 (pid {first.pid}) was ended by SIGKILL while it ran gate (run {run_id}" in error.message
        second = start(flows.loop, coordinator.proxy(), 1, run_id, workflow, str(tmp_path))
        assert pid_at(gate) == second.pid
        gate.open()
        assert said(tmp_path, 1) == "['through']"
        result = coordinator.run(run_id).wait(LIMIT)
        assert (result.outputs, result.metrics.retries, result.metrics.completed) == (["through"], 1, 1)
    for path in gate.path.glob("grandchild-*"):
        os.kill(int(path.name.removeprefix("grandchild-")), signal.SIGKILL)


def test_row_04_restarted_with_its_old_id(tmp_path: Path, start: Start) -> None:
    gate = flows_run.Gate(tmp_path)
    with Coordinator(0) as coordinator:
        run_id = flows.Held().start_distributed(None, str(gate.path), coordinator)
        for _ in range(2):
            process = start(flows.loop, coordinator.proxy(), 0, run_id, flows.Held, str(tmp_path))
            assert pid_at(gate) == process.pid
            os.kill(process.pid, signal.SIGKILL)
        gate.open()
        start(flows.loop, coordinator.proxy(), 0, run_id, flows.Held, str(tmp_path))
        assert said(tmp_path, 0) == "['through']"
        assert coordinator.info(run_id).metrics.retries == 2


def test_row_10_an_item_that_kills_every_loop_fails(tmp_path: Path, start: Start) -> None:
    gate = flows_run.Gate(tmp_path)
    with Coordinator(0) as coordinator:
        run_id = flows.Held().start_distributed(None, str(gate.path), coordinator)
        for number in range(3):
            assert coordinator.info(run_id).status is RunStatus.RUNNING
            process = start(flows.loop, coordinator.proxy(), number, run_id, flows.Held, str(tmp_path))
            assert pid_at(gate) == process.pid
            process.kill()
            eventually(lambda n=number: len(coordinator.run(run_id).errors()) == n + 1, "blamed")
        with pytest.raises(RunFailedError, match=r"WorkerDiedError: worker 2 .* was ended by SIGKILL"):
            coordinator.run(run_id).wait(LIMIT)


def test_row_04_a_process_killed_between_two_steps_harms_nothing(tmp_path: Path, start: Start) -> None:
    with Coordinator(0) as coordinator:
        run_id = flows_run.Thousand().start_distributed(None, 10, coordinator)
        process = start(flows.step_once_and_wait, coordinator.proxy(), str(tmp_path))
        eventually((tmp_path / "stepped").exists, "it has stepped")
        process.kill()
        eventually(lambda: len(coordinator.workers()) == 1, "it is gone")
        assert coordinator.run(run_id).errors() == []
        assert stepped(flows_run.Thousand(), coordinator, 0, run_id) == [45]


def test_rows_18_19_a_process_stopped_in_a_node_is_given_up(tmp_path: Path, start: Start) -> None:
    """Where there are worker processes, somebody looks. It is not ours to end, and works on when it is continued."""
    gate = flows_run.Gate(tmp_path)
    with Coordinator(1, engine=partial(ProcessEngine, stall=0.3)) as coordinator:
        # The one worker is kept busy until the loop has the item.
        busy = flows_run.Gate(gate.path)
        other = coordinator.start(flows_run.Gated, str(busy.path))
        busy.entered(1)
        run_id = flows.Held().start_distributed(None, str(gate.path), coordinator)
        process = start(flows.loop, coordinator.proxy(), 5, run_id, flows.Held, str(tmp_path))
        assert process.pid is not None and pid_at(gate) == process.pid
        os.kill(process.pid, signal.SIGSTOP)
        error = the_error(coordinator, run_id)
        assert (error.type_name, error.worker_id) == ("WorkerDiedError", 5)
        assert f"worker 5 (pid {process.pid}) stalled" in error.message
        busy.open()
        gate.open()
        result = coordinator.run(run_id).wait(LIMIT)
        assert (result.outputs, result.workers) == (["through"], [0])
        os.kill(process.pid, signal.SIGCONT)
        assert said(tmp_path, 5) == "[]", "its own result was refused"
        other.wait(LIMIT)


def test_a_node_that_closes_the_connection_is_to_blame(tmp_path: Path, start: Start) -> None:
    with Coordinator(0) as coordinator:
        run_id = flows.Closing().start_distributed(None, None, coordinator)
        process = start(flows.loop_and_stay, coordinator.proxy(), 0, run_id, flows.Closing, str(tmp_path))
        assert said(tmp_path, 0).endswith("is closed or gone")
        error = the_error(coordinator, run_id)
        assert f"(pid {process.pid}) broke its connection while it ran closing" in error.message


# -- the coordinator's process dies -----------------------------------------------------------------------------------

ORPHANS = """
import multiprocessing, os, signal, sys
from floxide_mp import Coordinator
from tests import flows_own_loop as flows, flows_run
from tests.flows_faults import note
if __name__ == "__main__":
    folder, gate = os.environ["FOLDER"], os.path.join(os.environ["FOLDER"], "gate")
    with Coordinator(1) as coordinator:
        proxy = coordinator.proxy()
        flows.Held().start_distributed(None, gate, proxy, "run")
        workers = []
        for number, workflow, run_id in ((1, flows.Held, "run"), (2, flows_run.Thousand, "run")):
            arguments = (proxy, number, run_id, workflow, folder)
            workers.append(multiprocessing.get_context("spawn").Process(target=flows.loop, args=arguments))
            workers[-1].start()
        flows_at = [f"{gate}/pid-{process.pid}" for process in workers]
        flows.until(lambda: len([h for h in coordinator.workers() if h.pid in [p.pid for p in workers]]) == 2)
        child = multiprocessing.get_context("fork").Process(target=signal.pause)
        child.start()
        note(folder, "forked", child.pid)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_row_25_loops_whose_coordinator_is_killed_are_told(tmp_path: Path, scripts: list[Script]) -> None:
    """Also where the user had forked: the copy of a connection in another process must not keep them waiting."""
    (tmp_path / "gate").mkdir()
    script = Script(tmp_path, ORPHANS)
    scripts.append(script)
    assert script.process.wait(LIMIT) == -signal.SIGKILL
    assert said(tmp_path, 2) == f"FloxideError: the coordinator (pid {script.process.pid}) is closed or gone"
    (tmp_path / "gate" / "open").touch()  # the other may be in its node, or not have got so far
    assert said(tmp_path, 1) == said(tmp_path, 2)
    forked = int((tmp_path / "forked").read_text())  # and what multiprocessing has for as long as it lives

    def ours() -> list[int]:
        return [pid for pid in script.family() - {forked} if "resource_tracker" not in cmdline(pid)]

    eventually(lambda: not ours(), "only what the user forked is left")
    assert f"@floxide-{script.process.pid}-" not in Path("/proc/net/unix").read_text()
    assert os.listdir(script.temporary) == []


def test_a_fork_of_the_coordinators_process_is_told_what_it_needs() -> None:
    reading, writing = os.pipe()
    with Coordinator(0) as coordinator:
        run_id = flows_run.Thousand().start_distributed(None, 3, coordinator)
        flows_run.Thousand().step_distributed(coordinator, 0)
        proxy = coordinator.proxy()
        flows_run.Thousand().step_distributed(proxy, 1)
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            told = []
            try:
                try:
                    flows_run.Thousand().step_distributed(coordinator, 0)
                except FloxideError as error:
                    told.append(str(error))
                told.append(str(stepped(flows_run.Thousand(), proxy, 2, run_id)))
                told.append(str(stepped(flows_run.Thousand(), coordinator.proxy(), 2, run_id)))
                coordinator.close()
            finally:
                os.write(writing, "; ".join(told).encode())
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            told = pipe.read()
        assert told == "this process was forked from the coordinator's: it needs coordinator.proxy() instead; [3]; []"
        assert os.waitpid(child, 0)[1] == 0
        assert coordinator.run(run_id).wait(0).workers == [2]


# -- who is let in ----------------------------------------------------------------------------------------------------


def address(backend: StepBackend) -> str:
    return str(vars(backend)["_address"])


class Bomb:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_row_78_who_has_another_key_is_not_let_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A program that was not started by multiprocessing has a key of its own, or whatever it was given."""
    script = """
import multiprocessing, pickle, sys
from floxide_mp import FloxideError
proxy = pickle.load(sys.stdin.buffer)
for key in (None, b"", b"guess"):
    if key is not None:
        multiprocessing.current_process().authkey = key
    try:
        proxy.info("x")
    except FloxideError as error:
        print(str(error).partition(" and ")[2][:33])
"""
    with Coordinator(0) as coordinator:
        done = subprocess.run(
            [sys.executable, "-c", script],
            input=pickle.dumps(coordinator.proxy()),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            timeout=LIMIT,
        )
        assert done.stdout.decode() == "this process have different keys:\n" * 3, done.stderr
        eventually(lambda: len([r for r in caplog.records if "another key" in r.getMessage()]) == 3, "it is logged")
        with pytest.raises(FloxideError, match="there is no run 'x'"):
            coordinator.proxy().info("x")


@pytest.mark.parametrize("size", [0, 200, 300, 1 << 20])
def test_row_78_nothing_is_unpickled_of_who_does_not_know_the_key(size: int, tmp_path: Path) -> None:
    with Coordinator(0) as coordinator:
        proxy = coordinator.proxy()
        with Client(address(proxy), "AF_UNIX") as stranger:
            assert stranger.recv_bytes(256).startswith(b"#CHALLENGE#")
            bomb = Bomb(tmp_path / "went off")
            try:
                stranger.send((b" " * size, bomb))
                for _ in range(3):
                    stranger.send(bomb)
                while stranger.recv_bytes(256):
                    pass
            except (EOFError, OSError):
                pass  # it was hung up on
        assert not bomb.path.exists()
        assert flows_run.Thousand().start_distributed(None, 1, proxy, "run") == "run", "others are served"


def test_row_78_other_users_are_not_let_in(caplog: pytest.LogCaptureFixture) -> None:
    """Though they have the key, as a process has that was forked and became somebody else."""
    if os.getuid() != 0:
        pytest.skip("needs root, to become somebody else")
    reading, writing = os.pipe()
    with Coordinator(0) as coordinator:
        proxy = coordinator.proxy()
        child = os.fork()
        if child == 0:
            told = "let in"
            try:
                os.setgid(65534)
                os.setuid(65534)
                with socket.socket(socket.AF_UNIX) as line:
                    line.connect(address(proxy))
                    told = repr(line.recv(100))
            finally:
                os.write(writing, told.encode())
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            assert pipe.read() == "b''", "hung up on, without a challenge"
        os.waitpid(child, 0)
        assert f"process {child} of user 65534 was not let in" in caplog.text


def flooding(name: str, times: int) -> int:
    """A forked process of another user that connects so often, and hangs up."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgid(65534)
            os.setuid(65534)
            for _ in range(times):
                with socket.socket(socket.AF_UNIX) as line:
                    line.connect(name)
            code = 0
        finally:
            os._exit(code)
    return child


def test_row_119_a_flood_of_another_user_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Everybody can connect to an abstract socket: the kernel says who it is, before anything is made for them."""
    if os.getuid() != 0:
        pytest.skip("needs root, to become somebody else")
    with Coordinator(0) as coordinator:
        proxy = coordinator.proxy()
        threads = threading.active_count()
        flood = [flooding(address(proxy), 3000) for _ in range(2)]
        run_id = flows_run.Thousand().start_distributed(None, 1, proxy)
        ended: dict[int, int] = {}
        while len(ended) < len(flood):
            proxy.info(run_id)
            proxy._idle.pop().leave()  # the next one connects anew
            assert threading.active_count() <= threads + 3
            for child in set(flood) - ended.keys():
                if (found := os.waitpid(child, os.WNOHANG))[0]:
                    ended[child] = found[1]
        assert set(ended.values()) == {0}
    assert len([r for r in caplog.records if "of user 65534 was not let in" in r.getMessage()]) == 1


def test_row_78_a_listener_of_another_user_is_not_trusted() -> None:
    """The name of a coordinator that has gone may be taken by anybody."""
    if os.getuid() != 0:
        pytest.skip("needs root, to become somebody else")
    with Coordinator(0) as coordinator:
        proxy = coordinator.proxy()
    listening, asked = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgid(65534)
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX) as line:
                line.bind(address(proxy))
                line.listen()
                os.write(asked, b"1")
                theirs, _ = line.accept()
                theirs.recv(100)
        finally:
            os._exit(0)
    os.read(listening, 1)
    with pytest.raises(FloxideError, match="different keys"):
        proxy.info("x")
    os.waitpid(child, 0)
    os.close(listening)
    os.close(asked)


def test_row_78_one_who_says_nothing_keeps_nobody_waiting() -> None:
    with Coordinator(0) as coordinator:
        proxy = coordinator.proxy()
        silent = [socket.socket(socket.AF_UNIX) for _ in range(20)]
        for line in silent:
            line.connect(address(proxy))
        run_id = flows_run.Thousand().start_distributed(None, 3, proxy)
        assert stepped(flows_run.Thousand(), proxy, 0, run_id) == [3]
    for line in silent:  # and closing does not wait for them
        line.close()


def test_rows_78_82_nothing_listens_unless_asked_and_then_without_a_file(tmp_path: Path) -> None:
    def listening() -> list[str]:
        inodes = {os.readlink(f"/proc/self/fd/{fd}")[8:-1] for fd in os.listdir("/proc/self/fd") if _is_socket(fd)}
        lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
        ours = [f for f in lines if f[6] in inodes]
        assert not any(f[7].startswith("/") for f in ours if len(f) > 7), "a name in the file system"
        for family in ("tcp", "tcp6"):
            rows = Path(f"/proc/self/net/{family}").read_text().splitlines()[1:]
            assert not [row for row in rows if row.split()[9] in inodes]
        return [f[7] for f in ours if int(f[3], 16) & 0x10000]

    with Coordinator(0) as coordinator:
        assert listening() == []
        proxies = [coordinator.proxy(), coordinator.proxy()]
        assert [name.replace("@", "\0") for name in listening()] == [address(proxies[0])] == [address(proxies[1])]
        assert flows_run.Thousand().step_distributed(proxies[0], 0, wait=0) is None
    assert listening() == []


def _is_socket(fd: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith("socket:[")
    except OSError:
        return False


def test_row_79_the_key_is_nowhere(tmp_path: Path, start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    gate = flows_run.Gate(tmp_path)
    with Coordinator(0) as coordinator:
        proxy = coordinator.proxy()
        run_id = flows.Held().start_distributed(None, str(gate.path), proxy)
        process = start(flows.loop, proxy, 0, run_id, flows.Held, str(tmp_path))
        pid_at(gate)
        key = bytes(multiprocessing.current_process().authkey)
        shown = [pickle.dumps(proxy), *(repr(t).encode() for t in (proxy, vars(proxy), vars(coordinator), caplog.text))]
        for pid in (os.getpid(), process.pid):
            shown += [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
        for form in (key, key.hex().encode(), repr(key).encode()):
            assert not [text for text in shown if form in text]
        gate.open()
        assert said(tmp_path, 0) == "['through']"


# -- few descriptors --------------------------------------------------------------------------------------------------


def test_row_68_without_descriptors_a_proxy_is_refused() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Coordinator(0) as coordinator:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
            with pytest.raises(FloxideError, match=r"cannot listen for its proxies: .*Too many open files"):
                coordinator.proxy()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert flows_run.Thousand().step_distributed(coordinator.proxy(), 0, wait=0) is None


def test_row_68_who_cannot_be_let_in_for_want_of_descriptors_is_let_in_later(
    tmp_path: Path, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Coordinator(0) as coordinator:
        proxy = coordinator.proxy()
        start(flows.start_and_loop_when_told, proxy, "run", str(tmp_path))
        eventually((tmp_path / "ready").exists, "it has begun")
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
            (tmp_path / "go").mkdir()  # takes no descriptor
            eventually(lambda: "nobody can be let in: [Errno 24] Too many open files" in caplog.text, "it fails")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert said(tmp_path, 7) == "[10]"


def test_threads_share_a_proxy() -> None:
    """Each with a session of its own; questions beside steps."""
    results = []
    with Coordinator(0) as coordinator:
        proxy = coordinator.proxy()
        run_id = flows_run.Thousand().start_distributed(None, 100, proxy)

        def use(number: int) -> None:
            results.extend(stepped(flows_run.Thousand(), proxy, number, run_id))

        threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
        assert results == [sum(range(100))]


def test_an_interrupted_question_is_not_answered_with_another() -> None:
    """Its reply may still be in the connection, so that one is not used again."""
    with Coordinator(0) as coordinator:
        proxy = coordinator.proxy()
        names = [flows_run.Thousand().start_distributed(None, 1, proxy, f"run {n}") for n in range(2)]
        (line,) = vars(proxy)["_idle"]
        inner: Connection = vars(line)["_connection"]

        def interrupted() -> None:
            raise KeyboardInterrupt

        vars(inner)["recv"] = interrupted
        with pytest.raises(KeyboardInterrupt):
            proxy.info(names[0])
        assert inner.closed
        assert proxy.info(names[1]).run_id == names[1]
        assert not [pid for pid in multiprocessing.active_children() if alive(pid.pid or 0)]
