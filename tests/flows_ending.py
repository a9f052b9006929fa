"""Workflows about how workers begin and end, what their nodes raise and fork. Imported by workers: imports little."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable

from floxide_mp import Workflow, node

from .flows_faults import note


def alone(name: str, work: Callable[..., object]) -> type[Workflow]:
    """A workflow of one node."""
    return Workflow.build(name, nodes={"work": node(work)}, start="work", edges={"work": []})


# -- signals and descriptors: row 101 -------------------------------------------------------------------------------


def commands(command: str) -> int:
    return subprocess.run(["sh", "-c", command]).returncode


def signals(_: object) -> tuple[object, ...]:
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return signal.getsignal(signal.SIGCHLD), signal.getsignal(signal.SIGPIPE), sorted(mask)


def leaves_a_program(_: object) -> int:
    child = subprocess.Popen(["sleep", "600"])
    child.returncode = 0  # or its finalizer says that it is still running
    return child.pid


def leaves_a_program_and_dies(folder: str) -> None:
    note(folder, "grandchildren", leaves_a_program(folder))
    os.abort()


def hands_on(_: object) -> list[str]:
    """The descriptors of a program that is given all that may be given."""
    shown = subprocess.run(["ls", "/proc/self/fd"], close_fds=False, stdout=subprocess.PIPE, text=True).stdout
    return shown.split()


def closes(how: str) -> str:
    """All descriptors, or only the end of the pipe by which the worker ends with its program."""
    if how == "all":
        os.closerange(3, 256)
    else:
        for name in os.listdir("/proc/self/fd"):
            try:
                if os.readlink(f"/proc/self/fd/{name}").startswith("pipe:") and int(name) > 2:
                    os.close(int(name))
            except FileNotFoundError:
                pass  # of the listing itself
    while True:
        time.sleep(600)


Commands = alone("Commands", commands)
Signals = alone("Signals", signals)
Leaves = alone("Leaves", leaves_a_program)
LeavesAndDies = alone("LeavesAndDies", leaves_a_program_and_dies)
HandsOn = alone("HandsOn", hands_on)
Closes = alone("Closes", closes)
