"""The executor engine beside what ``test_engine_conformance`` holds every engine to: executors that break."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing.resource_tracker import ensure_running
from typing import Any

import pytest

from floxide_mp import Coordinator, RunFailedError, WorkerDiedError, Workflow, node
from floxide_mp.engines.executor import ExecutorEngine
from tests import flows_run as flows

LIMIT = 50.0


@pytest.fixture(scope="module", autouse=True)
def resource_tracker() -> None:
    """A process that ``multiprocessing`` starts for the first pool, and keeps."""
    ensure_running()


def on(executor: Executor) -> Any:
    return partial(ExecutorEngine, executor)


def test_an_executor_that_is_shut_down() -> None:
    """The run fails and says why; nothing hangs, and the next run is told the same."""
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with Coordinator(2, engine=on(executor)) as coordinator:
        for _ in range(2):
            run = coordinator.start(flows.Counted, 10)
            with pytest.raises(RunFailedError, match="ThreadPoolExecutor raised RuntimeError") as caught:
                run.wait(LIMIT)
            assert isinstance(caught.value.__cause__, WorkerDiedError)
            assert [row.attempt for row in run.errors()] == [1, 2, 3]
        # Whoever waited is told before there is another one in the place of the worker whose step that was.
        flows.until(lambda: [worker.worker_id for worker in coordinator.workers()] == [0, 1])


@node
def kills_itself(value: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


class Killing(Workflow):
    kills_itself = kills_itself
    start = kills_itself


def test_an_executor_that_loses_a_process() -> None:
    with (
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor,
        Coordinator(1, engine=on(executor)) as coordinator,
    ):
        assert coordinator.start(flows.Thousand, 20).wait(LIMIT).output == 190
        with pytest.raises(RunFailedError, match="BrokenProcessPool"):
            coordinator.start(Killing).wait(LIMIT)


def test_a_step_that_waits_in_the_executor_is_not_begun_after_a_cancel(tmp_path: Any) -> None:
    gate = flows.Gate(tmp_path)
    with ThreadPoolExecutor(1) as executor, Coordinator(2, engine=on(executor)) as coordinator:
        blocking = coordinator.start(flows.Gated, str(gate.path))
        gate.entered(1)
        run = coordinator.start(flows.Gated, str(gate.path))
        flows.until(lambda: executor._work_queue.qsize() == 1)
        run.cancel(LIMIT)
        with pytest.raises(Exception, match="was cancelled"):
            run.wait(LIMIT)
        gate.open()
        assert blocking.wait(LIMIT).output == "through"
        assert len(list(gate.path.glob("in-*"))) == 1


SCRIPT = """
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from floxide_mp import Coordinator, Workflow, node
from floxide_mp.engines.executor import ExecutorEngine

class Settings:
    limit = 1

@node
def limit():
    return Settings.limit

class Limits(Workflow):
    limit = limit
    start = limit

free = threading.Event()
with ThreadPoolExecutor(1) as pool, Coordinator(1, engine=partial(ExecutorEngine, pool)) as coordinator:
    pool.submit(free.wait)
    run = coordinator.start(Limits)
    Settings.limit = 2
    free.set()
    print(run.wait(50).output, Settings.limit)
"""


def test_threads_of_a_script_leave_its_classes_as_they_are() -> None:
    """To open the workflow's pickle where it comes from would set the class back."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, text=True, timeout=50)
    assert (done.stdout, done.stderr) == ("2 2\n", "")
