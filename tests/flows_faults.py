"""Workflows that harm the processes they run in, for tests/faults. Imported by the workers, so it imports little."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from floxide_mp import Context, EventLog, NextAll, Node, RetryError, RetryPolicy, Workflow, node

LOCK = threading.Lock()  # a test holds it in its own process


@dataclass
class Log(Context):
    done: EventLog[int]


@dataclass(frozen=True)
class Plan:
    """``count`` items, of which number ``bad`` does ``how``; what they leave is in ``folder``."""

    folder: str
    how: str = "nothing"
    count: int = 6
    bad: int = 2


@dataclass(frozen=True)
class Job:
    number: int
    how: str
    folder: str


class Poison:
    """Ends the process that unpickles it."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return HARMS[self.how], (Job(0, self.how, ""),)


def once(job: Job) -> bool:
    """Whether this is the first time; decided in the file system, since processes come and go."""
    try:
        Path(job.folder, f"token{job.number}").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def note(folder: str, name: str, line: object) -> None:
    """One line more in a file, whole whoever else writes and dies."""
    fd = os.open(os.path.join(folder, name), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{line}\n".encode())
    os.close(fd)


def wait_for(folder: str, name: str) -> None:
    end = time.monotonic() + 60
    while not Path(folder, name).exists():
        if time.monotonic() > end:
            raise TimeoutError(f"{name} does not appear")
        time.sleep(0.005)


# -- harms --------------------------------------------------------------------------------------------------------


def killed(job: Job) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_once(job: Job) -> None:
    if once(job):
        killed(job)


def exits(job: Job) -> NoReturn:
    os._exit(0)


def sys_exits(job: Job) -> NoReturn:
    sys.exit(0)


def segfaults(job: Job) -> None:
    faulthandler._sigsegv()


class Endless:
    def __repr__(self) -> str:
        return repr([self])  # through C, so that it is the C stack that runs out


def overflows(job: Job) -> None:
    sys.setrecursionlimit(1 << 30)
    repr(Endless())


def forked(folder: str, escape: bool = False) -> int:
    """A forked child that stays, holding every descriptor that this process has."""
    Path(folder, "grandchildren").touch()
    pid = os.fork()
    if pid == 0:
        if escape:
            os.setsid()
        note(folder, "grandchildren", os.getpid())
        while True:
            signal.pause()
    while str(pid) not in Path(folder, "grandchildren").read_text().split():
        time.sleep(0.005)
    return pid


def leaves_a_fork(job: Job) -> None:
    if once(job):
        forked(job.folder)
        killed(job)


def leaves_an_escaped_fork(job: Job) -> None:
    if once(job):
        forked(job.folder, escape=True)
        killed(job)


def leaves_a_program(job: Job) -> None:
    if once(job):
        child = subprocess.Popen(["sleep", "600"], close_fds=False)
        note(job.folder, "grandchildren", child.pid)
        killed(job)


def leaves_a_program_without_pipes(job: Job) -> None:
    if once(job):
        child = subprocess.Popen(["sleep", "600"], close_fds=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        note(job.folder, "grandchildren", child.pid)
        killed(job)


def leaves_both_and_lives(job: Job) -> None:
    child = subprocess.Popen(["sleep", "600"])
    child.returncode = 0  # or its finalizer says that it is still running
    note(job.folder, "grandchildren", child.pid)
    forked(job.folder)


def waits_for_go(job: Job) -> None:
    note(job.folder, "entered", os.getpid())
    wait_for(job.folder, "go")


def hangs_on(job: Job) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note(job.folder, "entered", os.getpid())
    while True:
        time.sleep(600)


def stops(job: Job) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def holds_the_interpreter(job: Job) -> None:
    note(job.folder, "entered", os.getpid())
    re.match(r"(a+)+$", "a" * 60 + "b")  # for years, without once letting another thread run


def leaves_and_hangs(job: Job) -> None:
    leaves_both_and_lives(job)
    hangs_on(job)


def hangs_once(job: Job) -> None:
    if once(job):
        hangs_on(job)


def takes_the_lock(job: Job) -> None:
    assert LOCK.acquire(timeout=30)
    LOCK.release()


def closes_everything(job: Job) -> None:
    os.closerange(3, 256)  # the connection to the coordinator, too


def fork_returns(job: Job) -> None:
    """Both of them go on."""
    if pid := os.fork():
        os.waitpid(pid, 0)


def fork_exits(job: Job) -> None:
    if pid := os.fork():
        assert os.waitpid(pid, 0)[1] == 3 << 8
    else:
        sys.exit(3)


def fork_raises(job: Job) -> None:
    if pid := os.fork():
        assert os.waitpid(pid, 0)[1] == 1 << 8
    else:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        raise ValueError("of the child")


HARMS: dict[str, Callable[[Job], None]] = {
    "nothing": lambda job: None,
    "killed": killed,
    "killed_once": killed_once,
    "exits": exits,
    "sys_exits": sys_exits,
    "segfaults": segfaults,
    "overflows": overflows,
    "leaves_a_fork": leaves_a_fork,
    "leaves_an_escaped_fork": leaves_an_escaped_fork,
    "leaves_a_program": leaves_a_program,
    "leaves_a_program_without_pipes": leaves_a_program_without_pipes,
    "leaves_both_and_lives": leaves_both_and_lives,
    "waits_for_go": waits_for_go,
    "hangs_on": hangs_on,
    "stops": stops,
    "holds_the_interpreter": holds_the_interpreter,
    "hangs_once": hangs_once,
    "leaves_and_hangs": leaves_and_hangs,
    "takes_the_lock": takes_the_lock,
    "closes_everything": closes_everything,
    "fork_returns": fork_returns,
    "fork_exits": fork_exits,
    "fork_raises": fork_raises,
}


# -- workflows ----------------------------------------------------------------------------------------------------


@node
def spread(plan: Plan) -> NextAll[Job]:
    return NextAll(Job(n, plan.how if n == plan.bad else "nothing", plan.folder) for n in range(plan.count))


@node
def spread_all(plan: Plan) -> NextAll[Job]:
    """Every item is a bad one."""
    return NextAll(Job(n, plan.how, plan.folder) for n in range(plan.count))


@node
def spread_poison(plan: Plan) -> NextAll[Any]:
    """The last one, so that its siblings have been claimed when it has failed the run."""
    jobs = [Job(n, "nothing", plan.folder) for n in range(plan.count - 1)]
    return NextAll([*jobs, Poison(plan.how)])


def do(ctx: Log, job: Job) -> int:
    note(job.folder, "executed", job.number)
    ctx.done.append(job.number)
    HARMS[job.how](job)
    return job.number


@node
def work(ctx: Log, job: Job) -> int:
    return do(ctx, job)


@node(retry=RetryPolicy(max_attempts=1))
def work_once(ctx: Log, job: Job) -> int:
    """The first death is too many."""
    return do(ctx, job)


@node(timeout=0.4)
def work_timed(ctx: Log, job: Job) -> int:
    return do(ctx, job)


@node(timeout=3.0)
def work_patient(ctx: Log, job: Job) -> int:
    return do(ctx, job)


@node(timeout=0.4, retry=RetryPolicy(max_attempts=2, initial_backoff=0.01, retry_error=RetryError.TIMEOUT))
def work_timed_twice(ctx: Log, job: Job) -> int:
    return do(ctx, job)


@node
def mourn(ctx: Log, job: Job) -> str:
    """In place of the one that failed: what it failed with."""
    return f"{job.number}: {ctx.item.error!r}"


def harm(name: str, first: Node, second: Node) -> type[Workflow]:
    return Workflow.build(
        name,
        nodes={"spread": first, "work": second, "mourn": mourn},
        start="spread",
        edges={"spread": ["work"], "work": [], "mourn": []},
        on_failure={"work": ["mourn"]},
        context=Log,
    )


Harm = harm("Harm", spread, work)  # without a policy three deaths are too many, and one exception is
HarmOnce = harm("HarmOnce", spread, work_once)
HarmTimed = harm("HarmTimed", spread, work_timed)
HarmTimedTwice = harm("HarmTimedTwice", spread, work_timed_twice)
HarmAll = harm("HarmAll", spread_all, work)
HarmAllPatient = harm("HarmAllPatient", spread_all, work_patient)


class Poisoned(Workflow):
    """Who cannot be unpickled cannot be mourned either: the run fails."""

    context = Log
    spread = spread_poison
    work = work
    start = spread
    edges = {spread: [work], work: []}


def square(number: int) -> int:
    return number * number


@node
def own_pools(numbers: list[int]) -> list[int]:
    with ProcessPoolExecutor(2) as executor:
        first = list(executor.map(square, numbers))
    with multiprocessing.Pool(2) as pool:
        second = pool.map(square, numbers)
    return [*first, *second]


class OwnPools(Workflow):
    own_pools = own_pools
    start = own_pools
    edges = {own_pools: []}


@node
def prints(megabytes: int) -> int:
    for _ in range(megabytes):
        print("x" * ((1 << 20) - 1))
    return megabytes


class Prints(Workflow):
    prints = prints
    start = prints
    edges = {prints: []}


@node(timeout=0.001)
def late() -> None:
    time.sleep(0.01)


class Late(Workflow):
    late = late
    start = late
