"""Workflows and worker loops for tests/coordinator/test_external.py and tests/faults/test_own_loop_dies.py."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from floxide_mp import (
    FloxideError,
    Hold,
    ItemProcessedOutcome,
    NextAll,
    RetryPolicy,
    RunStatus,
    StepBackend,
    StepCallbacks,
    Workflow,
    WorkItem,
    node,
)

from .flows_run import Log, Thousand, echo, enter, rescue, until


class Heard(StepCallbacks):
    """Notes what it is told; vetoes the nodes that it is to."""

    def __init__(self, veto: tuple[str, ...] = (), how: Any = False) -> None:
        self.veto = veto
        self.how = how
        self.started: list[WorkItem] = []
        self.processed: list[tuple[str, ItemProcessedOutcome]] = []

    def on_started(self, run_id: str, item: WorkItem) -> bool | None:
        self.started.append(item)
        if item.node not in self.veto:
            return None
        if self.how is not False:
            raise self.how("not this one")
        return False

    def on_item_processed(self, run_id: str, item: WorkItem, outcome: ItemProcessedOutcome) -> None:
        self.processed.append((item.node, outcome))


def stepped(workflow: Workflow, backend: StepBackend, worker_id: int, run_id: str, **options: Any) -> list[Any]:
    """A worker loop as a user writes it: to the end of a run. What its steps gave."""
    given = []
    while backend.info(run_id).status is RunStatus.RUNNING:
        done = workflow.step_distributed(backend, worker_id, **options)
        if done is not None:
            assert done[0] == run_id
            given.append(done[1])
    return given


# -- what a step may come to ------------------------------------------------------------------------------------------


@node
def every_kind(value: Any) -> Any:
    """What it is told to do."""
    kind, value = value
    if kind == "all":
        return NextAll(value)
    if kind == "hold":
        return Hold()
    if kind == "raise":
        raise ValueError(value)
    return value


class Kinds(Workflow):
    """Numbers end, texts go on and end there; failures are rescued."""

    context = Log
    kinds = every_kind
    on = echo
    rescue = rescue
    start = kinds
    edges = {kinds: {int: [], str: [on]}}
    on_failure = {kinds: [rescue]}


@node(retry=RetryPolicy(max_attempts=3, initial_backoff=0.0))
def second_time(ctx: Log, value: int) -> int:
    ctx.log.append(ctx.item.attempt)
    if ctx.item.attempt == 1:
        raise ConnectionError("the first time")
    return value


class Twice(Workflow):
    context = Log
    work = second_time
    start = work


# -- processes --------------------------------------------------------------------------------------------------------


def loop(backend: StepBackend, worker_id: int, run_id: str, workflow: type[Workflow], folder: str) -> None:
    """The whole of a user's process. Leaves a file with what it gave, or what stopped it."""
    try:
        said = repr(stepped(workflow(), backend, worker_id, run_id))
    except FloxideError as error:
        said = f"FloxideError: {error}"
    (Path(folder) / f"loop-{worker_id}").write_text(said)


def start_and_loop(backend: StepBackend, run_id: str, folder: str) -> None:
    """A run that is started here, where the coordinator is not."""
    assert Thousand().start_distributed(None, 5, backend, run_id) == run_id
    loop(backend, 7, run_id, Thousand, folder)


@node
def gate_by_pid(gate: str) -> str:
    """Says who is here, and waits for a file of that name or for the gate."""
    path = Path(gate)
    enter(path)
    (path / f"pid-{os.getpid()}").touch()
    until(lambda: (path / "open").exists())
    return "through"


class Held(Workflow):
    gate = gate_by_pid
    start = gate


@node
def forks_and_waits(gate: str) -> str:
    """Leaves a process that holds copies of all descriptors, and waits."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    (Path(gate) / f"grandchild-{pid}").touch()
    return str(gate_by_pid(gate))


class Forking(Workflow):
    gate = forks_and_waits
    start = gate


class Slow(Workflow):
    """Longer than it may be, the first time."""

    context = Log
    gate = node(timeout=0.1, retry=RetryPolicy(max_attempts=2, initial_backoff=0.0))(lambda gate: gate_once(gate))
    start = gate


def gate_once(gate: str) -> str:
    path = Path(gate)
    enter(path)
    if len(list(path.glob("in-*"))) == 1:
        until((path / "open").exists)
        return "late"
    return "in time"


@node
def leaves_and_waits(gate: str) -> str:
    """Leaves a program that was given all descriptors, and waits."""
    for fd in os.listdir("/proc/self/fd"):
        if os.path.exists(f"/proc/self/fd/{fd}"):
            os.set_inheritable(int(fd), True)
    child = subprocess.Popen(["sleep", "600"], close_fds=False)
    child.returncode = 0  # or its finalizer says that it is still running
    (Path(gate) / f"grandchild-{child.pid}").touch()
    return str(gate_by_pid(gate))


class Leaving(Workflow):
    gate = leaves_and_waits
    start = gate


@node
def closing(value: Any) -> None:
    os.closerange(3, 256)


class Closing(Workflow):
    closing = closing
    start = closing


def loop_and_stay(*arguments: Any) -> None:
    loop(*arguments)
    signal.pause()


def step_once_and_wait(backend: StepBackend, folder: str) -> None:
    Thousand().step_distributed(backend, 1)
    (Path(folder) / "stepped").touch()
    signal.pause()


def start_and_loop_when_told(backend: StepBackend, run_id: str, folder: str) -> None:
    (Path(folder) / "ready").touch()
    until((Path(folder) / "go").exists)
    start_and_loop(backend, run_id, folder)
