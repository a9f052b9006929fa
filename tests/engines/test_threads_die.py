"""Whatever ends a thread of the coordinator's, who waits is told; an answer that cannot be sent ends one call."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from floxide_mp import Coordinator, FloxideError, RunFailedError, RunTimeoutError, Workflow, node
from floxide_mp.coordinator.active_run import ActiveRun
from floxide_mp.coordinator.group_commit import GroupCommit
from floxide_mp.coordinator.scheduler import Scheduler
from floxide_mp.engines.executor import ExecutorEngine
from floxide_mp.engines.processes.engine import ProcessEngine
from floxide_mp.engines.processes.shm import payloads
from tests import flows_critical as flows
from tests.scripts import ROOT

LIMIT = 30.0


def once(what: Callable[..., Any], skip: int = 0) -> Callable[..., Any]:
    """That raises for want of memory, once, after so many calls."""
    left = [skip + 1]

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            raise MemoryError
        return what(*args, **kwargs)

    return wrapped


# -- answers that cannot be sent ------------------------------------------------------------------------------------


def sends(monkeypatch: pytest.MonkeyPatch, refuse: Callable[[Any], bool]) -> list[Any]:
    """Answers to workers that are refused for want of memory, as they are noted."""
    refused: list[Any] = []
    send = payloads.CoordinatorEnd.send

    def sending(end: payloads.CoordinatorEnd, reply: Any) -> None:
        if refuse(reply):
            refused.append(reply)
            raise MemoryError
        send(end, reply)

    monkeypatch.setattr(payloads.CoordinatorEnd, "send", sending)
    return refused


def leases(reply: Any) -> int:
    """How many items are in the leases of an answer."""
    kind, result = reply
    return sum(len(lease.items) for lease in getattr(result, "leases", ())) if kind == "#RETURN" else 0


def test_row_107_a_lease_that_cannot_be_sent_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    left = [2]

    def refuse(reply: Any) -> bool:
        left[0] -= leases(reply) > 0
        return leases(reply) > 0 and left[0] >= 0

    refused = sends(monkeypatch, refuse)
    with Coordinator(1) as coordinator:
        pids = [worker.pid for worker in coordinator.workers()]
        run = coordinator.start(flows.Fans, 50)
        assert len(run.wait(LIMIT).outputs) == 50
        assert [worker.pid for worker in coordinator.workers()] == pids, "no worker is lost by it"
    assert len(refused) == 2


def test_row_107_an_item_that_cannot_be_sent_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    sends(monkeypatch, lambda reply: leases(reply) > 0)
    with Coordinator(1) as coordinator:
        run = coordinator.start(flows.Fans, 50)
        with pytest.raises(RunFailedError, match=r"split \(run .*cannot be sent to worker 0: MemoryError") as caught:
            run.wait(LIMIT)
        assert (caught.value.node, caught.value.attempt) == ("split", 3)


def test_row_107_not_even_an_error_can_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the connection is ended: the worker is replaced, and waits for nothing."""
    left = [4]

    def refuse(reply: Any) -> bool:
        left[0] -= 1
        return 0 <= left[0] < 3

    sends(monkeypatch, refuse)
    with Coordinator(1) as coordinator:
        before = [worker.pid for worker in coordinator.workers()]
        assert len(coordinator.start(flows.Fans, 5).wait(LIMIT).outputs) == 5
        assert [worker.pid for worker in coordinator.workers()] != before


def test_row_107_a_description_that_cannot_be_sent_is_the_items_error(monkeypatch: pytest.MonkeyPatch) -> None:
    sends(monkeypatch, lambda reply: type(reply[1]).__name__ == "Description")
    with Coordinator(1) as coordinator:
        run = coordinator.start(flows.Echo, 1)
        with pytest.raises(FloxideError):
            run.wait(LIMIT)


# -- threads --------------------------------------------------------------------------------------------------------


def test_row_126_a_message_that_there_is_no_memory_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payloads.CoordinatorEnd, "recv", once(payloads.CoordinatorEnd.recv, 2))
    with Coordinator(1) as coordinator:
        assert coordinator.start(flows.Echo, 1).wait(LIMIT).output == 1
        assert coordinator.start(flows.Echo, 2).wait(LIMIT).output == 2


@pytest.mark.parametrize(
    ("kind", "name"), [(ActiveRun, "claim"), (ActiveRun, "apply"), (Scheduler, "_commit"), (Scheduler, "_take")]
)
def test_row_126_no_memory_in_the_middle_of_an_exchange(kind: type, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Coordinator(1) as coordinator:
        assert coordinator.start(flows.Echo, 0).wait(LIMIT).output == 0
        run = coordinator.start(flows.Fans, 50)
        with monkeypatch.context() as patch:
            patch.setattr(kind, name, once(getattr(kind, name), 1))
            with pytest.raises(FloxideError, match="MemoryError"):
                run.wait(LIMIT)


@pytest.mark.parametrize("name", ["overdue", "session_lost"])
def test_row_126_no_memory_for_the_supervisor(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Coordinator(1) as coordinator:
        monkeypatch.setattr(Scheduler, name, once(getattr(Scheduler, name)))
        run = coordinator.start(flows.Dies, 1)
        with pytest.raises(RunFailedError, match="the supervisor failed: MemoryError"):
            run.wait(LIMIT)


@pytest.mark.parametrize("name", ["_group", "_await_group"])
def test_row_126_no_memory_for_the_journal(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with Coordinator(1, store=tmp_path / "runs.db") as coordinator:
        monkeypatch.setattr(GroupCommit, name, once(getattr(GroupCommit, name), 1))
        run = coordinator.start(flows.Dies, 50)
        with pytest.raises(FloxideError, match="MemoryError"):
            run.wait(LIMIT)
        with pytest.raises(FloxideError, match="a thread of its own died of MemoryError"):
            coordinator.start(flows.Echo, 1)
    with Coordinator(0, store=tmp_path / "runs.db") as coordinator:
        assert coordinator.start(flows.Echo, 1, run_id="new").wait(LIMIT).output == 1


def test_row_104_a_thread_that_dies_and_cannot_even_fail_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last resort needs nothing: who waits looks at one attribute."""

    def nothing(*_: object) -> None:
        raise MemoryError

    with Coordinator(1) as coordinator:
        run = coordinator.start(flows.Slow, 60)
        with monkeypatch.context() as patch:
            for name in ("_fail_all", "overdue"):
                patch.setattr(Scheduler, name, nothing)
            engine = coordinator._engine
            assert isinstance(engine, ProcessEngine)
            engine._wake()
            with pytest.raises(FloxideError, match=r"died of .*the supervisor failed: MemoryError"):
                run.wait(LIMIT)


SHORT = """
import logging, os, resource
from floxide_mp import Coordinator, Join, NextAll, Workflow, node

logging.disable(logging.CRITICAL)

@node
def split(n: int) -> NextAll[bytes]:
    return NextAll([bytes(200_000) for _ in range(n)])

@node
def work(x: bytes) -> bytes:
    return x

class W(Workflow):
    split = split
    work = work
    report = Join(lambda values: sum(map(len, values)))
    start = split
    edges = {split: [work], work: [report]}

if __name__ == "__main__":
    with Coordinator(2) as c:
        c.start(W, 3).wait(30)
        now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + 20_000_000, resource.RLIM_INFINITY))
        run = c.start(W, 300)
        try:
            print(run.wait(25).output)
        except TimeoutError:
            print("hangs")
        except Exception as error:
            print("told")
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        c.close(0)
        print("closed")
"""


def test_row_126_a_coordinator_at_its_limit_of_memory(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SHORT)
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50)
    assert done.stdout.splitlines()[-1:] == ["closed"], done.stderr
    assert "hangs" not in done.stdout


# -- futures that never end -----------------------------------------------------------------------------------------


class Never(Executor):
    """As dask's, once its client is closed."""

    def submit(self, *_: Any, **__: Any) -> Future[Any]:  # type: ignore[override]
        return Future()


@node(timeout=0.3)
def timed(value: int) -> int:
    return value


class Timed(Workflow):
    timed = timed
    start = timed


def never() -> Coordinator:
    return Coordinator(2, engine=partial(ExecutorEngine, Never()), grace=0.1)


def test_row_107_futures_that_never_end_and_the_time_out_of_the_run() -> None:
    with never() as coordinator, pytest.raises(RunTimeoutError):
        coordinator.start(flows.Echo, 1, timeout=0.3).wait(LIMIT)


def test_row_107_futures_that_never_end_and_the_time_out_of_the_node() -> None:
    with never() as coordinator:
        run = coordinator.start(Timed, 1)
        with pytest.raises(
            RunFailedError, match=r"timed .*NodeTimeoutError: timed ran longer than its time-out of 0\.3 s"
        ) as caught:
            run.wait(LIMIT)
        assert caught.value.node == "timed"


def test_row_107_futures_that_never_end_and_a_coordinator_that_is_closed() -> None:
    told: list[BaseException] = []
    with never() as coordinator:
        run = coordinator.start(flows.Echo, 1)

        def wait() -> None:
            try:
                run.wait(LIMIT)
            except FloxideError as error:
                told.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        while not coordinator.workers()[0].current_work_item and not coordinator.workers()[1].current_work_item:
            time.sleep(0.01)
    thread.join(LIMIT)
    assert "was not over when its coordinator was closed" in str(told[0])
