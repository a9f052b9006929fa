"""Workflows about how workers begin and end, what their nodes raise and fork. Imported by workers: imports little."""

from __future__ import annotations

import _thread
import asyncio
import atexit
import ctypes
import gzip
import multiprocessing.util
import os
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from floxide_mp import NextAll, Workflow, node

from ..flows_faults import note
from ..flows_run import enter, until


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


# -- a gate --------------------------------------------------------------------------------------------------------


def passes(where: tuple[str, int]) -> int:
    gate, number = where
    enter(Path(gate))
    until((Path(gate) / "open").exists)
    return number


Passes = alone("Passes", passes)


# -- the end of a worker: row 99 -------------------------------------------------------------------------------------

KEPT: list[object] = []  # for as long as the worker lives


class Writer:
    """Writes the end of its file when it goes, as ``pyarrow.parquet.ParquetWriter`` does."""

    def __init__(self, path: str) -> None:
        self.file = open(path, "w")  # noqa: SIM115

    def __del__(self) -> None:
        self.file.write("the end")


def keeps(folder: str) -> int:
    """Registers all that an interpreter calls at its end, and leaves what is in buffers there."""
    Path(folder, "registered").touch()
    atexit.register(Path(folder, "atexit").touch)
    KEPT.append(marker := threading.local())
    weakref.finalize(marker, Path(folder, "finalize").touch)
    multiprocessing.util.Finalize(None, Path(folder, "multiprocessing").touch, exitpriority=1)
    executor = ThreadPoolExecutor(1)
    executor.submit(str)
    plain, packed = open(f"{folder}/plain", "w"), gzip.open(f"{folder}/packed", "wt")  # noqa: SIM115
    plain.write("written")
    packed.write("packed")
    library = ctypes.CDLL(None)
    library.fopen.restype = ctypes.c_void_p
    library.fputs(b"in C", ctypes.c_void_p(library.fopen(f"{folder}/c".encode(), b"w")))
    temporary = NamedTemporaryFile(dir=folder, prefix="tmp")  # noqa: SIM115
    KEPT.extend((executor, plain, packed, Writer(f"{folder}/writer"), temporary))
    return os.getpid()


def keeps_and_hangs(folder: str) -> int:
    """As well, but its exit handlers, and a thread, have no end."""
    atexit.register(time.sleep, 600)
    threading.Thread(target=time.sleep, args=(600,)).start()
    return keeps(folder)


def shares(_: object) -> str:
    """Memory that nobody unlinks, which is left to the tracker of ``multiprocessing``."""
    KEPT.append(memory := SharedMemory(create=True, size=16))
    return memory.name


# -- what is raised that is no Exception: row 100 -------------------------------------------------------------------

RAISED: dict[str, BaseException] = {
    "KeyboardInterrupt": KeyboardInterrupt("asked"),
    "SystemExit": SystemExit("asked"),
    "GeneratorExit": GeneratorExit("asked"),
    "CancelledError": asyncio.CancelledError("asked"),
}


def interrupts_main() -> None:
    """As libraries do that limit times: in a process of its own this can only be the node's doing."""
    _thread.interrupt_main()
    time.sleep(60)


def raises(what: str) -> Any:
    """``what``: number, name of the exception, where it is raised, folder."""
    number, name, where, folder = what.split()
    note(folder, "executed", number)

    async def waits() -> None:
        await asyncio.sleep(0)
        raise RAISED[name]

    def gives() -> Iterator[str]:
        yield "given"
        raise RAISED[name]

    if name == "fine":
        return number
    if where == "coroutine":
        return waits()
    if where == "generator":
        return NextAll(gives())
    if where == "main":
        interrupts_main()
    raise RAISED[name]


def fan_out(all_of_it: list[str]) -> NextAll[str]:
    return NextAll(all_of_it)


def told(ctx: Any, what: str) -> str:
    return f"{type(ctx.item.error).__name__} {ctx.item.error}"


class Untold(Exception):
    def __reduce__(self) -> Any:
        raise KeyboardInterrupt


def raises_what_cannot_be_told(_: object) -> None:
    raise Untold


def pressed(where: tuple[str, str]) -> Any:
    """Somebody presses Ctrl-C in its first execution."""
    folder, how = where
    token = Path(folder, how)
    if token.exists():
        return "second"
    token.touch()

    async def waits() -> None:
        await asyncio.sleep(0)
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(60)

    if how == "waits":
        return waits()
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("another") from None


RaisesWhatCannotBeTold = alone("RaisesWhatCannotBeTold", raises_what_cannot_be_told)
Pressed = alone("Pressed", pressed)
Raises = Workflow.build(
    "Raises",
    nodes={"fan_out": node(fan_out), "raises": node(raises), "told": node(told)},
    start="fan_out",
    edges={"fan_out": ["raises"], "raises": [], "told": []},
    on_failure={"raises": ["told"]},
)
Shares = alone("Shares", shares)
Keeps = alone("Keeps", keeps)
KeepsAndHangs = alone("KeepsAndHangs", keeps_and_hangs)
Commands = alone("Commands", commands)
Signals = alone("Signals", signals)
Leaves = alone("Leaves", leaves_a_program)
LeavesAndDies = alone("LeavesAndDies", leaves_a_program_and_dies)
HandsOn = alone("HandsOn", hands_on)
Closes = alone("Closes", closes)
